package members

import (
	"context"
	"errors"
	"fmt"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/pki"
)

// join is stopped at every step, as an init is in init_crash_test.go: either the node votes, with
// all that it needs, or everything is as before, in the cluster too. After every step the cluster
// has its quorum, and the node is in it at most once.

// halfJoined is one shape of a node before it joins.
type halfJoined struct {
	name     string
	member   *op.Member // at the node's peer URL
	keep     []string   // existing certificates
	manifest bool       // etcd's manifest exists, and the kubelet has started it
}

const (
	ownPeer   = "https://10.0.0.11:2380"
	otherPeer = "https://10.0.0.10:2380"
)

func halfJoins() []halfJoined {
	all := []string{"etcd-ca", "etcd-server", "etcd-peer", "etcd-healthcheck-client", "apiserver-etcd-client"}
	return []halfJoined{
		{name: "a new node", keep: all[:1]},
		{name: "an earlier try has added the learner", keep: all[:3],
			member: &op.Member{ID: 7, PeerURLs: []string{ownPeer}, IsLearner: true}},
		{name: "a learner had started, and its data is gone",
			keep: all[:1], member: &op.Member{ID: 7, Name: "cp1", PeerURLs: []string{ownPeer}, IsLearner: true}},
		{name: "kubeadm was killed when the learner had started", keep: all,
			member: &op.Member{ID: 7, Name: "cp1", PeerURLs: []string{ownPeer}, IsLearner: true}, manifest: true},
	}
}

type joinWorld struct {
	*initWorld
	from    halfJoined
	members []op.Member // before the join
}

const joiningManifest = "    - --data-dir=/var/lib/etcd\n    - --initial-advertise-peer-urls=" +
	ownPeer + "\n    - --initial-cluster=cp0=" + otherPeer +
	",cp1=" + ownPeer + "\n    - --initial-cluster-state=existing\n    - --name=cp1\n"

func renderedJoining() []byte {
	return []byte(strings.Replace(crashtest.EtcdManifest(""), "    - --data-dir=/var/lib/etcd\n", joiningManifest, 1))
}

func newJoinWorld(t *testing.T, h halfJoined) *joinWorld {
	t.Helper()
	machine := h.Machine(t)
	return h.on(crashtest.Alone(t, machine), machine)
}

func (h halfJoined) on(w *crashtest.Node, before *sim.Machine) *joinWorld {
	return &joinWorld{beginning{keep: h.keep}.on(w), h, slices.Clone(before.Members.All)}
}

func joinCases() []crashtest.Case {
	return crashtest.Cases(halfJoins(), func(h halfJoined, w *crashtest.Node, before *sim.Machine) crashtest.Subject {
		j := h.on(w, before)
		// With a manifest, its etcd ran before the run.
		return crashtest.Subject{Run: j.join, Outcome: j.settled, Votes: h.manifest}
	})
}

// Title names the case.
func (h halfJoined) Title() string { return h.name }

// Machine is a node on which the join begins.
func (h halfJoined) Machine(t *testing.T) *sim.Machine {
	t.Helper()
	m := beginning{keep: h.keep}.Machine(t)
	m.Members = &sim.Members{URL: ownPeer, Name: "cp1", Next: 7,
		All: []op.Member{{ID: 1, Name: "cp0", PeerURLs: []string{otherPeer}}}}
	if h.member != nil {
		m.Members.All = append(m.Members.All, *h.member)
	}
	if h.manifest {
		for _, err := range []error{
			node.MkdirAll(m.Disk, "/var/lib/etcd", node.Attr{Mode: 0o700}),
			node.MkdirAll(m.Disk, crashtest.TestManifestDir, node.Attr{Mode: 0o700}),
			m.Create(crashtest.TestManifestDir+"/.etcd", renderedJoining(), node.Attr{Mode: 0o600}),
			m.Rename(crashtest.TestManifestDir+"/.etcd", crashtest.TestManifestDir+"/etcd.yaml"),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	m.Revive()
	m.Settle()
	return m
}

func (w *joinWorld) observe(_ context.Context, _ *observe.Node, id string) (*Facts, error) {
	f := &Facts{
		Facts: &observe.Facts{Run: id, Now: time.Unix(1_800_000_000, 0),
			Node: "cp1", ManifestDir: crashtest.TestManifestDir, KubeletActive: true, Notes: map[string]string{}},
	}
	f.Init = &InitFacts{
		CertificatesDir: path.Clean(crashtest.TestPKI), PKI: pki.Config{NodeName: "cp1", AdvertiseAddress: "10.0.0.11"},
		HealthCheck: time.Minute,
		Rendered:    renderedJoining(), DataDir: "/var/lib/etcd", Whole: true,
	}
	w.observeCerts(f)
	f.Join = &JoinFacts{Endpoints: []string{"https://10.0.0.10:2379"}, Source: "--endpoints",
		Through: op.Access{Endpoints: []string{"https://10.0.0.10:2379"}}, Cluster: &ClusterFacts{ID: sim.ClusterID}}
	for _, m := range w.Machine.Members.All {
		f.Join.Cluster.Members = append(f.Join.Cluster.Members,
			MemberFacts{Member: m, Version: "3.6.5", SizeBytes: 1 << 20})
		if m.PeerURLs[0] == ownPeer {
			f.Join.Own = &f.Join.Cluster.Members[len(f.Join.Cluster.Members)-1]
		}
	}
	return f, observeManifest(w.Process.Look, f)
}

func (w *joinWorld) join() error {
	flow := Join(JoinOptions{})
	flow.Observe = w.observe
	return w.Do(flow.On(w.Process.Look))
}

// settled says whether the node is wholly old or wholly new; if neither, what is wrong.
func (w *joinWorld) settled() (string, error) {
	all := w.Machine.Members.All
	if !reflect.DeepEqual(all[0], w.members[0]) {
		return "", fmt.Errorf("the other member is %+v", all[0])
	}
	joined := len(all) == 2 && all[1].Name == "cp1" && !all[1].IsLearner &&
		slices.Equal(all[1].PeerURLs, []string{ownPeer})
	outcome, err := w.OldOrNew(func(look string) error {
		if !joined {
			return fmt.Errorf("neither old nor new: the members are %+v, and the node is\n%s", all, look)
		}
		return w.isNew(look)
	})
	switch {
	case outcome == "old" && joined: // kubeadm had done all on the node itself
		return "new", w.isNew(w.First)
	case outcome == "old":
		return "old", w.membersAreOld(all)
	}
	return outcome, err
}

func (w *joinWorld) isNew(look string) error {
	if strings.Contains(look, ".etcdpod") {
		return fmt.Errorf("something was left behind:\n%s", look)
	}
	return errors.Join(w.certsAreThere(), crashtest.Shows(look, "/var/lib/etcd {-rwx------ 0 0 } ",
		crashtest.TestManifestDir+"/etcd.yaml {-rw------- 0 0 } ", "kubelet true\n", "runs etcd new\n"))
}

// membersAreOld checks that this node's member is as before. It may be gone only if it was a
// learner without data, or if it had a vote on the way.
func (w *joinWorld) membersAreOld(all []op.Member) error {
	if reflect.DeepEqual(all, w.members) || w.from.member != nil && !w.from.manifest && len(all) == 1 {
		return nil
	}
	// The member has started meanwhile.
	if w.from.member != nil && len(all) == 2 && all[1].ID == w.from.member.ID && all[1].IsLearner {
		return nil
	}
	return fmt.Errorf("the members were %+v and are %+v", w.members, all)
}

func TestAJoinEndsWhollyOldOrWhollyNewWhateverHappens(t *testing.T) {
	crashtest.Everything(t, joinCases())
}

func TestALearnerThatNeverGetsGoingIsTakenOutAgain(t *testing.T) {
	for _, h := range halfJoins()[:3] {
		w := newJoinWorld(t, h)
		w.Machine.SickEtcd = true
		var back *engine.RolledBackError
		if err := w.join(); !errors.As(err, &back) ||
			!strings.Contains(err.Error(), "etcd does not start: not within 1m0s") {
			t.Fatalf("%s: got %v", h.name, err)
		}
		if got, err := w.settled(); got != "old" || err != nil {
			t.Errorf("%s: it ended %s: %v", h.name, got, err)
		}
		if !strings.Contains(w.Machine.Look(), "/member/snap/db") {
			t.Errorf("%s: what etcd had written is not kept", h.name)
		}
	}
}

// While the run is open somebody removes its learner and adds the node in another way: the run must
// not remove that member.
func TestAMemberThatSomebodyElseHasAddedMeanwhileStays(t *testing.T) {
	for _, theirs := range []op.Member{
		{ID: 99, PeerURLs: []string{ownPeer}, IsLearner: true},
		{ID: 99, Name: "cp1", PeerURLs: []string{ownPeer}},
	} {
		w := newJoinWorld(t, halfJoins()[0])
		w.Machine.Before = func(call string) {
			// The learner has been added by now.
			if strings.HasPrefix(call, "create "+crashtest.TestManifestDir) {
				w.Machine.Kill()
			}
		}
		_ = w.join()
		if !w.Machine.Crashed() || len(w.Machine.Members.All) != 2 {
			t.Fatalf("the members are %+v", w.Machine.Members.All)
		}
		w.Machine.Before = nil
		w.Machine.Revive()
		w.Machine.Members.All[1] = theirs
		if !theirs.IsLearner { // it runs, from their own manifest
			w.Machine.Members.All = append(w.Machine.Members.All,
				op.Member{ID: 2, Name: "cp2", PeerURLs: []string{"https://10.0.0.12:2380"}})
		}
		w.Restart()
		if err := w.Settle("rollback"); err != nil {
			t.Fatal(err)
		}
		if w.Machine.Members.All[1].ID != 99 {
			t.Errorf("somebody else's member was removed: %+v", w.Machine.Members.All)
		}
	}
}

// Somebody promotes the run's learner while the run is open. It must leave the cluster before its
// etcd is stopped: of two members, both are the quorum.
func TestALearnerThatHasGotItsVoteMeanwhileLeavesBeforeItsEtcdIsStopped(t *testing.T) {
	w := newJoinWorld(t, halfJoins()[0])
	w.Machine.Before = func(call string) {
		if w.Machine.EtcdServes() == "new" {
			w.Machine.Kill()
		}
	}
	_ = w.join()
	if !w.Machine.Crashed() {
		t.Fatal("it was not stopped")
	}
	w.Machine.Before = nil
	w.Machine.Revive()
	w.Machine.Members.All[1].IsLearner = false
	w.Restart()
	if err := w.Settle("rollback"); err != nil {
		t.Fatal(err)
	}
	if got, err := w.settled(); got != "old" || err != nil {
		t.Errorf("it ended %s: %v", got, err)
	}
}

// Between the plan and its first operation somebody has found the learner's data and promoted it: a
// member that votes is not stale.
func TestALearnerThatVotesByNowIsNotRemovedAsStale(t *testing.T) {
	w := newJoinWorld(t, halfJoins()[2])
	w.Machine.Members.All = append(w.Machine.Members.All,
		op.Member{ID: 2, Name: "cp2", PeerURLs: []string{"https://10.0.0.12:2380"}})
	w.Machine.Before = func(call string) {
		// The run makes the directory for new certificates.
		if strings.HasPrefix(call, "mkdir ") && strings.HasSuffix(call, "/new") {
			w.Machine.Members.All[1].IsLearner = false
		}
	}
	var back *engine.RolledBackError
	if err := w.join(); !errors.As(err, &back) ||
		!strings.Contains(err.Error(), "cannot remove the learner 7: it already votes") {
		t.Errorf("got %v", err)
	}
	if all := w.Machine.Members.All; len(all) != 3 || all[1].ID != 7 {
		t.Errorf("the members are %+v", all)
	}
}

func TestAJoinThatAnEarlierVersionLeftOpenIsSettled(t *testing.T) {
	crashtest.LeftOpen(t, "join", joinCases())
}
