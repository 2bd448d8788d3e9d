package apiserver

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// Options are the options of `apiserver set`.
type Options struct {
	Wish           EtcdFlags
	AllMembers     bool          // the servers are the cluster's current members
	AnotherCluster bool          // the servers may belong to another cluster than the current one
	StopTimeout    time.Duration // for the old container to stop by itself; 0: 3 s
	WaitTimeout    time.Duration // for the new one to be ready; 0: 2 minutes
}

// Set is the workflow that changes which etcds this node's API server uses, and with which files.
// If the API server does not get ready with them, the run goes back by itself.
func Set(o Options) workflow {
	return workflow{Name: "apiserver", Options: o.checkWish, Observe: o.observe, Stakes: stakes,
		Phases: []phase{
			o.preflight(),
			o.set(),
			o.awaitAPIServer(), // the commit point is at its end
		}}
}

// stakes: nothing is lost but, with another cluster's etcd, the sight of all objects.
func stakes(f *Facts) engine.Stakes {
	a := f.APIServer
	if a.File.Path == "" || unchanged(a) {
		return engine.Stakes{}
	}
	back, s := "etcdpod apiserver set --etcd-servers "+strings.Join(a.Before.Servers, ","), engine.Stakes{}
	after := a.After.Named()
	for i, file := range a.Before.Named() {
		if *file.File != *after[i].File && *file.File != "" {
			back += fmt.Sprintf(" --%s %s", file.Name, *file.File)
		}
	}
	if a.Cluster != 0 && len(a.Answers) > 0 && a.Answers[0].ClusterID != a.Cluster {
		back += " --another-cluster"
		s.Lost = []string{"everything in the cluster now in use goes out of sight: the other etcd has other objects"}
	}
	s.Back = []string{"`" + back + "`; the old manifest is also kept, until `etcdpod prune`"}
	return s
}

type (
	phase = engine.Phase[*Facts]
	// workflow changes which etcds this node's API server uses.
	workflow = engine.Workflow[*observe.Node, *Facts]
)

// Facts are what changing the API server's etcds depends on.
type Facts struct {
	*observe.Facts
	APIServer *SetFacts
}

// SetFacts are what is known about this node's API server, and about the etcds that it is to use.
type SetFacts struct {
	File         observe.ManifestFile // without a path when no manifest runs an API server
	Container    string
	Second       string // another manifest that runs an API server
	Before       EtcdFlags
	After        EtcdFlags
	Wrong        []string         // what is wrong with the files
	Answers      []Answer         // of the wanted servers, in their order
	Cluster      uint64           // in use now; 0: unknown
	Known        string           // what says so
	Learners     []observe.Member // members that cannot serve; with AllMembers only
	MembersError error            // why the members could not be listed
}

func (o Options) preflight() phase {
	return phase{Name: "preflight", Short: "check everything first", Found: o.found, Findings: o.warned,
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			err := engine.Passes(f, checkAPIServer, checkManifests,
				o.checkMembers, o.checkChange, checkEtcdFiles, o.checkAnswers)
			if errors.Is(err, errUnchanged) {
				err = nil
			}
			return nil, err
		}}
}

func (o Options) found(f *Facts) []string {
	a := f.APIServer
	if unchanged(a) {
		return []string{fmt.Sprintf("%s already has these flags", a.File.Path)}
	}
	var found []string
	for _, s := range a.Answers {
		found = append(found, fmt.Sprintf("%s is %s, %s, etcd %s, in cluster %x",
			s.URL, s.Name, s.roleOfOne(), s.Version, s.ClusterID))
	}
	return found
}

// warned says what a person should know before the change.
func (o Options) warned(f *Facts) (warned []finding.Finding) {
	a := f.APIServer
	if unchanged(a) {
		return nil
	}
	if len(a.After.Servers) > 0 && strings.HasPrefix(a.After.Servers[0], "http://") {
		warned = append(warned, finding.New(finding.EtcdPlainHTTP, a.After.Servers[0], "over plain HTTP, anyone who "+
			"can reach etcd or the network in between can read and change everything"))
	}
	if a.Cluster != 0 && len(a.Answers) > 0 && a.Answers[0].ClusterID != a.Cluster {
		warned = append(warned, finding.New(finding.AnotherCluster, a.Answers[0].URL, "the API server switches to "+
			"another cluster: so far it has used %x, according to %s", a.Cluster, a.Known))
	}
	warned = append(warned, f.StartDoubts(a.File)...)
	return append(warned, finding.New(finding.KubeadmSetting, a.File.Path, "`kubeadm upgrade` restores kubeadm's own "+
		"setting: to keep this one, also put it into apiServer.extraArgs of kubeadm's ClusterConfiguration"))
}

// set replaces the manifest. What must happen if the run goes back is planned before it.
func (o Options) set() phase {
	return phase{Name: "set", Short: "change the API server's manifest; the old one is kept",
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			return rewire(f.Facts, f.APIServer.After, o.waiting(f.Facts, true))
		}}
}

// awaitAPIServer ends with the commit point: the API server serves from the new endpoints.
func (o Options) awaitAPIServer() phase {
	return phase{Name: "await-apiserver",
		Short:  "wait until the API server is ready with it; if it does not become ready, the old manifest comes back",
		Commit: true,
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			wait := o.waiting(f.Facts, false)
			if ops, err := rewire(f.Facts, f.APIServer.After, wait); err != nil || len(ops) == 0 {
				return nil, err
			}
			return []op.Op{wait}, nil
		}}
}

func (o Options) waiting(f *observe.Facts, back bool) *op.AwaitReplaced {
	w := awaitReplaced(f, o.WaitTimeout, back)
	if w != nil && o.StopTimeout > 0 {
		w.Grace = o.StopTimeout
	}
	return w
}

// Wire is the last phase of a workflow that makes or joins a member. It makes this node's API
// server use etcd with the wished flags (templates.Config.APIServerEtcdFlags, by EtcdFlags.Set). It
// does nothing if no manifest runs an API server, since beside kubeadm that is kubeadm's to write,
// or if the manifest has the flags already. Where no kubelet runs, it waits for nothing.
func Wire[F engine.Observed](
	node func(F) *observe.Facts, wished func(F) EtcdFlags, limit time.Duration,
) engine.Phase[F] {
	return engine.Phase[F]{Name: "wire-apiserver",
		Short: "point this node's API server at etcd, if its manifest says otherwise", Optional: true,
		Found: func(all F) []string { return foundWiring(node(all), wished(all)) },
		Plan: func(_ context.Context, all F) ([]op.Op, error) {
			f, wish := node(all), wished(all)
			if !f.KubeletActive {
				return rewire(f, wish, nil)
			}
			ops, err := rewire(f, wish, awaitReplaced(f, limit, true))
			if len(ops) > 0 {
				if err := checkRewired(f); err != nil {
					return nil, err
				}
				ops = append(ops, awaitReplaced(f, limit, false))
			}
			return ops, err
		}}
}

// checkRewired refuses to stop an API server that could not start again. One that does not run yet
// may lack just what the run makes.
func checkRewired(f *observe.Facts) error {
	m, container, _ := observe.Program(f.Manifests, "kube-apiserver")
	pod := observe.PodOf(f.Manifests, m, container)
	if !slices.ContainsFunc(f.Containers, func(c node.Container) bool { return pod.Owns(c) && c.State == "running" }) {
		return nil
	}
	return f.CheckStarts(m)
}

func foundWiring(f *observe.Facts, wish EtcdFlags) []string {
	m, container, ok := observe.Program(f.Manifests, "kube-apiserver")
	if !ok {
		return []string{fmt.Sprintf("no manifest in %s runs an API server yet", f.ManifestDir)}
	}
	now := EtcdFlagsOf(m, container)
	if _, change, err := now.With(wish).write(m, container); err != nil || change != "" {
		return []string{"currently: --etcd-servers=" + strings.Join(now.Servers, ",")}
	}
	return []string{m.Path + " already names this etcd: left unchanged"}
}

// rewire plans the replacement of the API server's manifest; nothing if it stays the same. undoWait
// is what the run waits for when it goes back; nil: nothing.
func rewire(f *observe.Facts, wish EtcdFlags, undoWait *op.AwaitReplaced) ([]op.Op, error) {
	m, container, ok := observe.Program(f.Manifests, "kube-apiserver")
	if !ok {
		return nil, nil
	}
	edited, change, err := EtcdFlagsOf(m, container).With(wish).write(m, container)
	switch {
	case err != nil:
		return nil, refusedEdit(err)
	case change == "":
		return nil, nil
	}
	kept := path.Join(journal.RunDir(f.Run), "manifests")
	ops := []op.Op{&op.MakeDirectory{Path: kept, Attr: node.Mine(0o700)}}
	if undoWait != nil {
		ops = append(ops, undoWait)
	}
	return append(ops, &op.ReplaceManifest{
		Path: m.Path, Data: edited.Bytes(), Change: change, Old: fmt.Sprintf("%x", sha256.Sum256(m.Data)),
		Kept: path.Join(kept, path.Base(m.Path)),
	}), nil
}

// awaitReplaced waits for the API server's new pod; nil if no manifest runs one.
func awaitReplaced(f *observe.Facts, limit time.Duration, back bool) *op.AwaitReplaced {
	m, container, ok := observe.Program(f.Manifests, "kube-apiserver")
	if !ok {
		return nil
	}
	pod := observe.PodOf(f.Manifests, m, container)
	if limit == 0 {
		limit = 2 * time.Minute
	}
	// For the grace, see RenewOptions.grace.
	return &op.AwaitReplaced{Pod: pod, Before: podUID(f, pod),
		API: f.API, Grace: 3 * time.Second, Limit: limit, Back: back, Start: observe.StartLimit(m, container)}
}

// podUID is the pod's UID according to its running container or, without one, to its newest; empty
// if it has none.
func podUID(f *observe.Facts, pod op.Pod) string {
	var last node.Container
	for _, c := range f.Containers {
		if !pod.Owns(c) {
			continue
		}
		runs, ran := c.State == "running", last.State == "running"
		if last.ID == "" || runs && !ran || runs == ran && c.CreatedAt.After(last.CreatedAt) {
			last = c
		}
	}
	return last.PodUID
}
