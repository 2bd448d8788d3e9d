package apiserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/manifests"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/bind"
	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// Answer is what one etcd says about itself when dialled as the API server does.
type Answer struct {
	URL                 string
	Error               error // why it does not serve; the fields below may be set all the same
	ClusterID, MemberID uint64
	Name                string
	Version             string
	Leads, Learner      bool
	want                uint64 // the member that should answer there; 0: any
}

func (a Answer) role() string {
	switch {
	case a.Learner:
		return "learner"
	case a.Leads:
		return "leader"
	}
	return "voter"
}

// roleOfOne is the role with its article: there is one leader.
func (a Answer) roleOfOne() string {
	if a.Leads && !a.Learner {
		return "the leader"
	}
	return "a " + a.role()
}

// observe gathers the facts of `apiserver set`. It really dials every endpoint, with the files that
// are to be used there.
func (o Options) observe(ctx context.Context, n *observe.Node, id string) (*Facts, error) {
	f, err := seen(ctx, n, id)
	if err != nil || f.APIServer.File.Path == "" {
		return f, err
	}
	a, w := f.APIServer, wanted{Servers: o.Wish.Servers}
	if o.AllMembers {
		members, err := membersNow(ctx, n, f)
		if a.MembersError = err; err != nil {
			return f, nil
		}
		w = a.takeMembers(members)
	}
	tried(ctx, n, f, o.Wish, w)
	if len(a.Answers) > 0 {
		a.Cluster, a.Known = clusterInUse(ctx, n, f)
	}
	return f, nil
}

// seen is how this node's API server is now.
func seen(ctx context.Context, n *observe.Node, id string) (*Facts, error) {
	all, err := n.Observe(ctx, id)
	if err != nil {
		return nil, err
	}
	a := &SetFacts{}
	f := &Facts{Facts: all, APIServer: a}
	m, container, ok := observe.Program(f.Manifests, "kube-apiserver")
	if !ok {
		return f, nil
	}
	for _, other := range f.Manifests {
		if other.Path != m.Path && observe.IsAPIServer(other) {
			a.Second = other.Path
		}
	}
	a.File, a.Container, a.Before = m, container, EtcdFlagsOf(m, container)
	return f, nil
}

// wanted are the servers to be used, and which member should answer at each; none: any.
type wanted struct {
	Servers []string
	At      map[string]uint64
}

// tried dials what the API server is to use, if that is something else than now.
func tried(ctx context.Context, n *observe.Node, f *Facts, wish EtcdFlags, w wanted) {
	a := f.APIServer
	wish.Servers = w.Servers
	a.After = a.Before.With(wish)
	if unchanged(a) {
		return
	}
	if a.Wrong = WrongFiles(n, a.File, a.Container, a.After); len(a.Wrong) > 0 {
		return // errors from dialling with them would be less clear
	}
	a.Answers = Ask(ctx, n, a.File, a.Container, a.After)
	for i := range a.Answers {
		a.Answers[i].want = w.At[a.Answers[i].URL]
	}
}

// checkWish refuses options that make no sense by themselves.
func (o Options) checkWish() error {
	w := o.Wish
	switch {
	case o.AllMembers && len(w.Servers) > 0:
		return &engine.UsageError{
			Reason: "--all-members and --etcd-servers cannot be combined: both set the servers",
			Hint:   "use one of them",
		}
	case !o.AllMembers && len(w.Servers) == 0 && w.CAFile+w.CertFile+w.KeyFile == "":
		return &engine.UsageError{Reason: "nothing to set",
			Hint: "use --etcd-servers or --all-members, --etcd-cafile, --etcd-certfile or --etcd-keyfile"}
	}
	for _, f := range w.Named() {
		if *f.File != "" && !path.IsAbs(*f.File) {
			return &engine.UsageError{
				Reason: fmt.Sprintf("--%s needs an absolute path, as the API server's container sees it", f.Name),
			}
		}
	}
	return checkServers(w.Servers)
}

// unchanged says whether the manifest already has the wished flags.
func unchanged(a *SetFacts) bool {
	return a.MembersError == nil && len(a.Learners) == 0 && slices.Equal(a.Before.Servers, a.After.Servers) &&
		a.Before.CAFile == a.After.CAFile && a.Before.CertFile == a.After.CertFile &&
		a.Before.KeyFile == a.After.KeyFile
}

// takeMembers turns the members into a list of servers, sorted by name so that it is the same on
// every node. Putting the local one first would gain nothing: etcd's client rotates through all of
// them and prefers none. The nodes' manifests would only differ, and kubeadm's ClusterConfiguration
// can hold just one list.
func (a *SetFacts) takeMembers(members []etcd.Member) wanted {
	w := wanted{At: map[string]uint64{}}
	for _, m := range slices.SortedFunc(slices.Values(members), func(a, b etcd.Member) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	}) {
		url := observe.ClientURL(m)
		if m.IsLearner || url == "" {
			a.Learners = append(a.Learners, bind.MembersOf([]etcd.Member{m})...)
			continue
		}
		w.Servers, w.At[url] = append(w.Servers, url), m.ID
	}
	return w
}

// membersNow asks the cluster in use: at the given --endpoints; without those, at the local etcd,
// and then at the servers that the API server uses.
func membersNow(ctx context.Context, n *observe.Node, f *Facts) ([]etcd.Member, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	a := f.APIServer
	var ways []op.Access
	if f.Etcd != nil {
		ways = append(ways, f.Etcd.Access) // at --endpoints, where they were given
	}
	if given := n.Access.Endpoints; len(a.Before.Servers) > 0 && (len(given) == 0 || f.Etcd == nil) {
		way := a.Before.access(a.File, a.Container, a.Before.Servers[0])
		if way.Endpoints = a.Before.Servers; len(given) > 0 {
			way.Endpoints = given
		}
		ways = append(ways, n.Typed(way))
	}
	if given := n.Access.Endpoints; len(given) > 0 && len(ways) == 0 {
		ways = append(ways, n.Typed(op.Access{Endpoints: given}))
	}
	first := errors.New("no etcd endpoint is known")
	for i, way := range ways {
		var members []etcd.Member
		err := n.Dialer().With(ctx, way, func(c *etcd.Client) (err error) {
			members, err = c.Members(ctx)
			return err
		})
		if err == nil {
			return members, nil
		}
		if i == 0 {
			first = err
		}
	}
	return nil, first
}

// Ask dials all servers at once, as the API server would.
func Ask(ctx context.Context, n *observe.Node, m observe.ManifestFile, container string, e EtcdFlags) []Answer {
	answers := make([]Answer, len(e.Servers))
	engine.Concurrently(len(answers), func(i int) {
		answers[i] = askOne(ctx, n, e.access(m, container, e.Servers[i]))
		answers[i].URL = e.Servers[i]
	})
	return answers
}

func askOne(ctx context.Context, n *observe.Node, way op.Access) (a Answer) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	a.Error = n.Dialer().With(ctx, way, func(c *etcd.Client) error {
		s := c.Status(ctx)[0]
		if s.Err != nil {
			return s.Err
		}
		a.ClusterID, a.MemberID, a.Version, a.Learner, a.Leads = s.ClusterID,
			s.MemberID, s.Version, s.Learner, s.Leader == s.MemberID
		members, err := c.OwnMembers(ctx)
		for _, m := range members {
			if m.ID == a.MemberID {
				a.Name = m.Name
			}
		}
		if a.Learner || err != nil {
			return err
		}
		return c.Ready(ctx)
	})
	return a
}

// clusterInUse is the cluster that holds the API server's data now, according to the servers that
// it uses or, if these include the local etcd, to its data directory.
func clusterInUse(ctx context.Context, n *observe.Node, f *Facts) (id uint64, known string) {
	a := f.APIServer
	for _, s := range Ask(ctx, n, a.File, a.Container, a.Before) {
		if s.ClusterID != 0 {
			return s.ClusterID, s.URL
		}
	}
	if f.Etcd == nil || !f.Etcd.Serves(a.Before.Servers) {
		return 0, ""
	}
	if stopped, err := n.Stopped(ctx, f.Etcd); err == nil && stopped != nil {
		return stopped.ClusterID, "the data in " + f.Etcd.DataDir
	}
	return 0, ""
}

// WrongFiles says which of the files the API server could not read, and why. The API server sees
// only what its manifest mounts from the node.
func WrongFiles(n *observe.Node, m observe.ManifestFile, container string, e EtcdFlags) []string {
	var wrong []string
	for _, f := range e.Named() {
		if *f.File == "" {
			continue
		}
		if problem := fileSeen(n, m, container, *f.File); problem != "" {
			wrong = append(wrong, fmt.Sprintf("--%s=%s: %s", f.Name, *f.File, problem))
		}
	}
	if (e.CertFile == "") != (e.KeyFile == "") {
		wrong = append(wrong, "--etcd-certfile and --etcd-keyfile must be set together")
	}
	return wrong
}

// fileSeen says why an API server's container would not find a file; empty if it would.
func fileSeen(n *observe.Node, m observe.ManifestFile, container, file string) string {
	host := observe.HostFile(m, container, file)
	if host == "" {
		return fmt.Sprintf("no volume of %s mounts it from the node", m.Path)
	}
	if !n.Exists(host) {
		return host + " is missing"
	}
	resolved, err := n.FS.Resolve(host)
	if err != nil {
		return err.Error()
	}
	if _, err := n.FS.ReadFile(resolved); err != nil {
		return err.Error()
	}
	for _, h := range m.Manifest.HostPaths() {
		mounted := slices.ContainsFunc(h.Mounts, func(t manifests.Mount) bool { return t.Container == container })
		if dir, err := n.Resolve(h.Path); err == nil && mounted && observe.Within(resolved, dir) {
			return ""
		}
	}
	return fmt.Sprintf("%s leads to %s, which no volume of %s mounts", host, resolved, m.Path)
}
