package members

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/bind"
	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// roster is what the members of a cluster say, each asked at the same time: through this node's, or
// through any other one that answers.
type roster struct {
	node    *observe.Node
	files   []observe.ManifestFile
	pod     *observe.EtcdPod // nil: no usable manifest runs etcd here
	access  op.Access        // with which the others are asked, but for its URLs
	through string           // the URL at which the members were listed

	cluster uint64
	members []etcd.Member // by name
	answers []answer      // of each member
	quorum  bool          // the list is a quorum's; otherwise it is that of one member
	own     int           // this node's member; -1: none is
}

// answer is what one member says about itself. Err says why it does not.
type answer struct {
	etcd.Status
	way   op.Access     // at which it answered
	knows []etcd.Member // its list, if a quorum stands behind it
}

// What is asked of one member: that which is down must not be waited for.
const (
	askMember  = 15 * time.Second
	callMember = 5 * time.Second
)

// gather asks the members. It changes nothing.
func gather(ctx context.Context, n *observe.Node) (*roster, error) {
	r := &roster{node: n, own: -1}
	var err error
	if r.files, err = n.Manifests(ctx, n.Config.StaticPodPath); err != nil {
		return nil, err
	}
	var unusable error
	if r.pod, unusable = n.EtcdPod(r.files); unusable != nil {
		r.pod = nil
	}
	if err := r.find(ctx); err != nil {
		return nil, cmp.Or(n.CheckControlPlane(ctx), unusable, err)
	}
	r.askAll(ctx)
	if known := r.known(); known != nil {
		r.quorum = true
		if !slices.Equal(ids(known), ids(r.members)) { // who was asked first has an old list
			r.members = known
			r.askAll(ctx)
		}
		r.members = known
	}
	return r, ctx.Err()
}

// known is the list of members of a quorum; nil where there is none.
func (r *roster) known() []etcd.Member {
	for _, i := range r.ownFirst() {
		if list := r.answers[i].knows; list != nil && r.answers[i].Err == nil {
			return byName(list)
		}
	}
	return nil
}

// ownFirst are the members that answer, this node's first.
func (r *roster) ownFirst() (all []int) {
	for i := range r.answers {
		switch {
		case r.answers[i].Err != nil:
		case i == r.own:
			all = slices.Insert(all, 0, i)
		default:
			all = append(all, i)
		}
	}
	return all
}

func byName(members []etcd.Member) []etcd.Member {
	return slices.SortedFunc(slices.Values(members), func(a, b etcd.Member) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
}

func ids(members []etcd.Member) (all []uint64) {
	for _, m := range members {
		all = append(all, m.ID)
	}
	return all
}

// askNames is for who waits at a prompt.
const askNames = time.Second

// Names are the names of the members as far as this node knows them: its etcd is asked, and if that
// does not answer at once, its manifest. That of a first member names nobody else.
func Names(ctx context.Context, n *observe.Node) (names []string) {
	files, err := n.Manifests(ctx, n.Config.StaticPodPath)
	if err != nil {
		return nil
	}
	r := &roster{node: n, files: files, own: -1}
	if r.pod, err = n.EtcdPod(files); err == nil && r.pod != nil {
		names = observe.NamesIn(r.pod.Setting("", "initial-cluster"))
		if !slices.Contains(names, r.pod.Name) {
			names = append(names, r.pod.Name)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, askNames)
	defer cancel()
	for _, way := range r.local(ctx) {
		if r.listAt(ctx, way) == nil {
			return started(r.members)
		}
	}
	return names
}

// started are the names of the members that have one: a member gets it when it starts.
func started(members []etcd.Member) (names []string) {
	for _, m := range members {
		if m.Name != "" {
			names = append(names, m.Name)
		}
	}
	return names
}

// find gets a list of the members from the first that answers.
func (r *roster) find(ctx context.Context) error {
	var first error
	for _, ways := range []func(context.Context) []op.Access{r.local, r.configured, r.annotated, r.kept} {
		for _, way := range ways(ctx) {
			err := r.listAt(ctx, way)
			if err == nil || ctx.Err() != nil {
				return err
			}
			first = cmp.Or(first, err)
		}
	}
	if first == nil {
		return engine.Refuse("give a client URL of a member with --endpoints",
			"cannot list the members: nothing on this node shows where one answers")
	}
	return &engine.UnreachableError{What: "cannot list the members", Cause: first, Suggestion: "`etcdpod status` " +
		"shows why this node's etcd does not answer; give a client URL of a member that does with --endpoints"}
}

// local is how this node's etcd is reached, or what a person said instead.
func (r *roster) local(context.Context) []op.Access {
	if r.pod != nil {
		return []op.Access{r.pod.Access}
	}
	if way, ok := r.node.AsClient(r.files); ok {
		return []op.Access{way}
	}
	return nil
}

// given says whether a person said where etcd answers: nowhere else is it looked for.
func (r *roster) given() bool { return len(r.node.Access.Endpoints) > 0 }

// at is how this node's certificates reach members elsewhere.
func (r *roster) at(urls ...string) []op.Access {
	urls = slices.DeleteFunc(slices.Clone(urls), observe.OnlyHere)
	if r.given() || len(urls) == 0 {
		return nil
	}
	return []op.Access{r.accessAt(urls...)}
}

func (r *roster) accessAt(urls ...string) op.Access {
	if r.pod != nil && slices.ContainsFunc(slices.Concat(r.pod.Access.Endpoints, r.pod.Access.Others), observe.Secure) {
		return r.pod.Access.At(urls...)
	}
	return r.node.ClientAt(r.files, urls...)
}

// configured are the members that the manifests on this node name: the API server's, or etcd's, by
// kubeadm's convention that all members serve clients at the same port.
func (r *roster) configured(context.Context) []op.Access {
	var urls []string
	if m, c, ok := observe.Program(r.files, "kube-apiserver"); ok {
		urls = observe.EtcdServers(m, c)
	}
	if r.pod != nil && len(r.pod.ClientURLs) > 0 {
		if client, err := url.Parse(r.pod.ClientURLs[0]); err == nil {
			for _, peer := range observe.PeersIn(r.pod.Setting("", "initial-cluster")) {
				urls = append(urls, client.Scheme+"://"+net.JoinHostPort(observe.HostOf(peer), client.Port()))
			}
		}
	}
	return r.at(urls...)
}

// annotated are the members that an API server names, if one answers.
func (r *roster) annotated(ctx context.Context) []op.Access {
	if r.given() {
		return nil
	}
	urls, err := r.node.AnnotatedURLs(ctx, r.node.AnyAPIServer())
	if err != nil {
		return nil
	}
	return r.at(urls...)
}

// kept are the members that the data of this node's stopped etcd names.
func (r *roster) kept(ctx context.Context) []op.Access {
	if r.pod == nil || r.given() {
		return nil
	}
	return r.at(r.node.KeptClientURLs(ctx, r.pod)...)
}

// listAt lists the members through one way: at the first of its URLs, in their order, at which one
// answers. A learner does not list them.
func (r *roster) listAt(ctx context.Context, way op.Access) error {
	ways := []op.Access{way}
	if len(way.Endpoints) > 1 {
		ways = nil
		for _, at := range way.Endpoints {
			ways = append(ways, way.At(at))
		}
	}
	lists, at, errs := make([][]etcd.Member, len(ways)), make([]string, len(ways)), make([]error, len(ways))
	engine.Concurrently(len(ways), func(i int) {
		errs[i] = r.with(ctx, ways[i], func(ctx context.Context, c *etcd.Client) (err error) {
			at[i] = c.Endpoint()
			lists[i], err = c.OwnMembers(ctx)
			return err
		})
	})
	i := slices.Index(errs, nil)
	if i < 0 {
		return errs[0]
	}
	r.access, r.through, r.members = way, at[i], byName(lists[i])
	return nil
}

// with does something with a client, for a limited time.
func (r *roster) with(ctx context.Context, way op.Access, do func(context.Context, *etcd.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, askMember)
	defer cancel()
	access, err := r.node.Dialer().Access(way)
	if err != nil {
		return err
	}
	access.DialTimeout, access.CallTimeout = dialMember, callMember
	c, err := etcd.Dial(ctx, access)
	if err != nil {
		return err
	}
	defer c.Close()
	return do(ctx, c)
}

// askAll asks all members at once.
func (r *roster) askAll(ctx context.Context) {
	if r.pod != nil {
		r.own = observe.OwnAmong(bind.MembersOf(r.members), 0, r.pod.Name, r.pod.PeerURLs)
	}
	r.answers = make([]answer, len(r.members))
	engine.Concurrently(len(r.members), func(i int) { r.answers[i] = r.ask(ctx, r.members[i], i == r.own) })
	r.cluster = r.told(func(s etcd.Status) uint64 { return s.ClusterID })
	for i := range r.answers {
		if a := &r.answers[i]; a.Err == nil && a.ClusterID != r.cluster {
			a.Err = fmt.Errorf("an etcd of another cluster, %x, answers at %s", a.ClusterID, a.Endpoint)
		}
	}
}

// told is what most of the answering members say.
func (r *roster) told(what func(etcd.Status) uint64) (most uint64) {
	says := map[uint64]int{}
	for _, i := range r.ownFirst() {
		is := what(r.answers[i].Status)
		if says[is]++; says[is] > says[most] {
			most = is
		}
	}
	return most
}

// wayTo is how a member is reached: at its client URLs, but for those that lead every host to
// itself.
func (r *roster) wayTo(m etcd.Member, own bool) (op.Access, error) {
	if own && !r.given() {
		return r.pod.Access, nil
	}
	if len(m.ClientURLs) == 0 {
		return op.Access{}, errors.New("it has never started")
	}
	var urls []string
	for _, at := range m.ClientURLs { // one client speaks TLS or does not
		if !observe.OnlyHere(at) && (len(urls) == 0 || observe.Secure(at) == observe.Secure(urls[0])) {
			urls = append(urls, at)
		}
	}
	if len(urls) == 0 && r.given() && slices.Contains(m.ClientURLs, r.through) {
		urls = []string{r.through}
	}
	if len(urls) == 0 {
		return op.Access{}, fmt.Errorf("it advertises only %s, where every host reaches itself",
			strings.Join(m.ClientURLs, ", "))
	}
	return r.accessAt(urls...), nil
}

func (r *roster) ask(ctx context.Context, m etcd.Member, own bool) (a answer) {
	if a.way, a.Err = r.wayTo(m, own); a.Err != nil {
		return a
	}
	way := a.way
	err := r.with(ctx, way, func(ctx context.Context, c *etcd.Client) error {
		all := c.Status(ctx)
		a.Status = all[max(0, slices.IndexFunc(all, func(s etcd.Status) bool { return s.Err == nil }))]
		switch {
		case a.Err != nil:
			return a.Err
		case a.MemberID != m.ID:
			return fmt.Errorf("another member, %x, answers at %s", a.MemberID, a.Endpoint)
		case !a.Learner:
			a.knows, _ = c.Members(ctx) // an error: it has no quorum
		}
		return nil
	})
	if a.way = way; len(way.Endpoints) > 1 {
		a.way = way.At(a.Endpoint)
	}
	a.Err = err
	return a
}

// leader is the index of the member that leads; -1: no member that answers knows one.
func (r *roster) leader() int {
	var id, term uint64
	for _, i := range r.ownFirst() {
		if s := r.answers[i].Status; s.Leader != 0 && s.RaftTerm > term {
			id, term = s.Leader, s.RaftTerm
		}
	}
	return slices.IndexFunc(r.members, func(m etcd.Member) bool { return id != 0 && m.ID == id })
}

// behind is how many entries of raft's log a member that answers has yet to apply, of those that
// any member knows to be committed.
func (r *roster) behind(i int) int64 {
	var most uint64
	for _, j := range r.ownFirst() {
		most = max(most, r.answers[j].RaftIndex)
	}
	if applied := r.answers[i].RaftApplied; applied < most {
		return int64(most - applied)
	}
	return 0
}
