package members

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/phases/together"
)

// remove is stopped at every step: either the cluster has the member, its etcd runs, and the API
// servers have the flags that they had, or it has left, it is stopped where it ran, with its data
// in place, and no API server names it. It never leaves before all nodes hold the commit record.

// leaver is one shape of a removal: the members are cp1 to cp3, and cp3 goes.
type leaver struct {
	name  string
	node  string // where the run is
	names string // what the API server there uses
	after string
	two   bool // cp2 has left before
}

func leavers() []leaver {
	return []leaver{
		{"a member on a node that is gone", "cp1", "https://127.0.0.1:2379,https://cp3:2379", "https://127.0.0.1:2379",
			false},
		{"this node's own member", "cp3", "https://127.0.0.1:2379", "https://cp1:2379,https://cp2:2379", false},
		{"this node's own member, of two", "cp3", "https://127.0.0.1:2379", "https://cp1:2379", true},
	}
}

// Title names the case.
func (l leaver) Title() string { return l.name }

// leaverOn is the shape of one of three nodes of a run.
func leaverOn(node string) leaver {
	all := leavers()
	if i := slices.IndexFunc(all, func(l leaver) bool { return l.node == node }); i >= 0 {
		return all[i]
	}
	return leaver{node: node, names: "https://cp3:2379", after: "https://cp1:2379,https://cp2:2379"}
}

func apiServerWith(servers string) string {
	return crashtest.PodManifest("kube-apiserver", "    - --etcd-servers="+servers+"\n", "")
}

const apiServerManifest = crashtest.TestManifestDir + "/kube-apiserver.yaml"

// Machine is a node before the removal.
func (l leaver) Machine(t *testing.T) *sim.Machine {
	t.Helper()
	m := crashtest.Shape{Prepare: func(d *sim.Disk) {
		if err := d.Remove(apiServerManifest); err != nil {
			t.Fatal(err)
		}
		if err := d.Create(apiServerManifest, []byte(apiServerWith(l.names)), node.Attr{Mode: 0o600}); err != nil {
			t.Fatal(err)
		}
	}}.Machine(t)
	m.Members = &sim.Members{URL: "https://" + l.node + ":2380", Name: l.node, Next: 3}
	for i, name := range []string{"cp1", "cp2", "cp3"} {
		if name == "cp2" && l.two {
			continue
		}
		m.Members.All = append(m.Members.All,
			op.Member{ID: op.ID(i + 1), Name: name, PeerURLs: []string{"https://" + name + ":2380"}})
	}
	return m
}

// removing is a node of a run that removes a member.
type removing struct {
	*crashtest.Node
	from leaver
}

func (w removing) looker() removeLooker {
	return removeLooker{
		facts: func(_ context.Context, _ *observe.Node, run string) (*RemoveFacts, error) {
			seen, err := w.Observe(run)
			if err != nil {
				return nil, err
			}
			id := uint64(strings.TrimPrefix(w.from.node, "cp")[0] - '0')
			seen.Live = &observe.Live{ClusterID: sim.ClusterID, MemberID: id, Members: w.Machine.Members.All}
			seen.Etcd.ClientURLs = []string{"https://" + w.from.node + ":2379"}
			seen.KubeletActive = true
			seen.Containers, _ = w.Machine.Host().Runtime.Containers(context.Background())
			return &RemoveFacts{Facts: seen, Through: seen.Etcd.Access}, nil
		},
		cluster: func(context.Context, *observe.Node, op.Access, []string) (*ClusterFacts, error) {
			c := &ClusterFacts{ID: sim.ClusterID}
			for _, m := range w.Machine.Members.All {
				c.Members = append(c.Members, MemberFacts{Member: m, Version: "3.6.5", Applied: 100,
					ClientURLs: []string{"https://" + m.Name + ":2379"}})
			}
			return c, nil
		},
	}
}

func (w removing) remove(nodes []journal.Peer) error {
	return together.Plans(w.looker().planAll, RemoveOptions{Member: "cp3", Nodes: nodes, NoSpare: true}).
		CarryOut(w.Context(), w.Process, func(engine.TogetherPlan) error { return nil })
}

func (w removing) gone() bool {
	return !slices.ContainsFunc(w.Machine.Members.All, func(m op.Member) bool { return m.Name == "cp3" })
}

// outcome says whether the node is wholly old or wholly new; if neither, what is wrong.
func (w removing) outcome() (string, error) {
	return w.OldOrNew(func(look string) error {
		now, err := w.Machine.ReadFile(apiServerManifest)
		if err != nil || string(now) != apiServerWith(w.from.after) {
			return fmt.Errorf("the API server's manifest is\n%s\n%v", now, err)
		}
		if err := crashtest.Shows(look, "kubelet true\n", "runs kube-apiserver "); err != nil || w.from.node != "cp3" {
			return err
		}
		// Somebody else may put the manifest back afterwards.
		manifest := path.Join(crashtest.TestManifestDir, "etcd.yaml")
		if w.Process.Look.Exists(manifest) && !w.Machine.Meddled || strings.Contains(look, "runs etcd") {
			return fmt.Errorf("the removed member is not stopped:\n%s", look)
		}
		if db := w.Machine.Peek("/var/lib/etcd/member/snap/db"); string(db) != "old" {
			return fmt.Errorf("the data of the removed member is %q", db)
		}
		return nil
	})
}

func removeCases() []crashtest.Case {
	return crashtest.Cases(leavers(), func(l leaver, w *crashtest.Node, _ *sim.Machine) crashtest.Subject {
		r := removing{w, l}
		return crashtest.Subject{Run: r.removeAlone, Outcome: func() (string, error) {
			v, err := r.outcome()
			if err == nil && (v == "new") != r.gone() {
				err = fmt.Errorf("the node is %s, and the cluster's members are %v", v, w.Machine.Members.All)
			}
			return v, err
		}}
	})
}

// removeAlone is a run on this node alone.
func (w removing) removeAlone() error {
	to := Removal{Cluster: journal.Cluster{Nodes: []journal.Peer{{Name: w.Name}}}, Name: "cp3",
		URLs: []string{"https://cp3:2379"}, Stay: []string{"https://cp1:2379", "https://cp2:2379"}}
	if w.from.two {
		to.Stay, to.Live = to.Stay[:1], true
	}
	for _, m := range w.Machine.Members.All {
		if m.Name == "cp3" {
			to.Gone = m
		}
	}
	if w.from.node == "cp3" {
		to.Node = w.Name
	}
	flow := remover{RemoveOptions{Member: "cp3"}, to}.workflow()
	flow.Observe = w.looker().facts
	return w.Do(flow.On(w.Process.Look))
}

func TestARemovalEndsWhollyOldOrWhollyNewWhateverHappens(t *testing.T) {
	crashtest.Everything(t, removeCases())
}

func removeOnThree() crashtest.Together { return removeOn(leaverOn, "cp1", "cp2", "cp3") }

// removeOnTwo is a cluster of two, of which one is to be left.
func removeOnTwo() crashtest.Together {
	return removeOn(func(node string) leaver {
		l := leaverOn(node)
		l.two = true
		if node == "cp3" {
			l.after = "https://cp1:2379"
		}
		return l
	}, "cp1", "cp3")
}

func removeOn(leaverOn func(node string) leaver, nodes ...string) crashtest.Together {
	at := func(w *crashtest.Node) removing { return removing{w, leaverOn(w.Name)} }
	return crashtest.Together{
		Name: "remove", Nodes: nodes,
		Machine: func(t *testing.T, node string) *sim.Machine { return leaverOn(node).Machine(t) },
		Joint:   func(w *crashtest.Node) together.Joint { return at(w).looker().joint() },
		Run:     func(w *crashtest.Node, nodes []journal.Peer) error { return at(w).remove(nodes) },
		Outcome: func(w *crashtest.Node) (string, error) { return at(w).outcome() },
		Check: func(c *crashtest.Cluster) {
			for _, name := range c.Alive() {
				for _, other := range c.Alive() {
					if at(c.Nodes[name]).gone() && !c.Holds(other, journal.Commit) {
						c.Violate("the member has left, and %s does not hold the commit record", other)
					}
				}
			}
		},
	}
}

func TestARemovalOnThreeNodesIsSettledAfterAnyTwoFaults(t *testing.T) {
	crashtest.SettledAfterTwoFaults(t, removeOnThree())
}

func TestWhateverSomebodyElseDoesAtAnyStepOfARemovalOnThreeNodesItIsSettled(t *testing.T) {
	crashtest.MeddledTogether(t, removeOnThree())
}

func TestARemovalOnThreeNodesInterruptedAnywhereGoesBackOnAll(t *testing.T) {
	crashtest.InterruptedTogether(t, removeOnThree())
}

func TestARemovalOfOneOfTwoIsSettledAfterAnyTwoFaults(t *testing.T) {
	crashtest.SettledAfterTwoFaults(t, removeOnTwo())
}

func TestWhateverSomebodyElseDoesAtAnyStepOfARemovalOfOneOfTwoItIsSettled(t *testing.T) {
	crashtest.MeddledTogether(t, removeOnTwo())
}

func TestARemovalOfOneOfTwoInterruptedAnywhereGoesBackOnBoth(t *testing.T) {
	crashtest.InterruptedTogether(t, removeOnTwo())
}

// An exploration in which the others always run finds no run that stops one too many.
func TestAStoppedMemberCountsOnTheOtherNodesToo(t *testing.T) {
	for _, tt := range []struct {
		work   crashtest.Together
		quorum bool
	}{{removeOnTwo(), false}, {removeOnThree(), true}} {
		c := tt.work.Fresh(t)
		c.Nodes["cp3"].Machine.StopKubelet()
		c.Nodes["cp3"].Machine.EndPods()
		_, err := sim.Etcd{M: c.Nodes["cp1"].Machine}.Members(t.Context(), op.Access{})
		if (err == nil) != tt.quorum {
			t.Errorf("of %d members one is stopped: %v", len(tt.work.Nodes), err)
		}
	}
}
