package members

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/phases/together"
)

// The old member serves, on cp3, and leaves last. What must hold, always:
//   - Either nothing has changed, on any node and in the cluster: also if the new machine is lost.
//     Or the old member has left and is stopped, with its data in place, and the new one votes.
//   - The old member leaves only when all nodes hold the commit record, and when the new one votes.
//   - Until then its etcd is stopped for nothing but that.
//   - No API server names the new member before that votes. One that does, on a node that was cut
//     off before the others went back, has others to use until that node goes back, too.

// handing is a node of a run in which cp4 takes over from cp3; cp2 is not in the run.
type handing struct{ replacing }

func handingOn(w *crashtest.Node) handing {
	switch w.Name {
	case "cp3":
		return handing{replacing{Node: w, names: "https://127.0.0.1:2379",
			first: "https://cp1:2379,https://cp2:2379"}}
	case newcomer:
		return handing{replacing{Node: w}}
	}
	return handing{replacing{Node: w, names: "https://127.0.0.1:2379,https://cp3:2379",
		first: "https://127.0.0.1:2379"}}
}

func (w handing) looker() replaceLooker {
	stays := removing{w.Node, leaver{node: w.Name}}.looker()
	return replaceLooker{stays, func(ctx context.Context, n *observe.Node, q newcomerQuestion) (*Facts, error) {
		f, err := w.newcomer(ctx, n, q)
		if err != nil {
			return nil, err
		}
		for i := range f.Join.Cluster.Members {
			f.Join.Cluster.Members[i].Error = nil
		}
		f.Init.Rendered = []byte(strings.Replace(string(f.Init.Rendered), ",cp4=", ",cp3="+deadPeer+",cp4=", 1))
		return f, observeManifest(w.Process.Look, f)
	}}
}

func (w handing) run(nodes []journal.Peer) error {
	handover := func(ctx context.Context, n *together.Node) (*together.Transaction, engine.TogetherPlan, error) {
		return w.looker().planAs(ctx, n, ReplaceOptions{Member: "cp3",
			With: journal.Peer{Name: newcomer, Host: newcomer}, Nodes: nodes[:2]}, "handover")
	}
	return together.Planner(handover).CarryOut(w.Context(), w.Process, func(engine.TogetherPlan) error { return nil })
}

func (w handing) outcome() (string, error) {
	v, err := w.replacing.outcome()
	if w.Name != "cp3" || err == nil && v == "old" {
		return v, errors.Join(err, w.members(v))
	}
	return w.OldOrNew(func(look string) error {
		now, err := w.Machine.ReadFile(apiServerManifest)
		if err != nil || string(now) != apiServerWith(w.first+","+newClient) {
			return fmt.Errorf("the API server's manifest is\n%s\n%v", now, err)
		}
		manifest := path.Join(crashtest.TestManifestDir, "etcd.yaml")
		if w.Process.Look.Exists(manifest) && !w.Machine.Meddled || strings.Contains(look, "runs etcd") {
			return fmt.Errorf("the old member is not stopped:\n%s", look)
		}
		return crashtest.Shows(look, "kubelet true\n", "runs kube-apiserver ")
	})
}

// members holds the cluster to what a run has ended in.
func (w handing) members(v string) error {
	var names []string
	for _, m := range w.Machine.Members.All {
		if names = append(names, m.ID.String()); m.IsLearner {
			names = append(names, "learner")
		}
	}
	want := map[string]string{"old": "1 2 3", "new": "1 2 4"}[v]
	has := strings.Join(names, " ")
	if w.alone && w.names != "" && v == "old" && has == "1 2 3 4" {
		return nil // the new one came in beforehand; it leaves if the run has got to that
	}
	if want != "" && has != want {
		return fmt.Errorf("it is %s, and the cluster has the members %v", v, names)
	}
	return nil
}

func handoverOnThree() crashtest.Together {
	return crashtest.Together{
		Name: "handover", Nodes: []string{"cp1", "cp3", newcomer},
		Machine: handoverMachine,
		Joint:   func(w *crashtest.Node) together.Joint { return handingOn(w).looker().handoverJoint() },
		Run:     func(w *crashtest.Node, nodes []journal.Peer) error { return handingOn(w).run(nodes) },
		Outcome: func(w *crashtest.Node) (string, error) { return handingOn(w).outcome() },
		Futile:  func(c *crashtest.Cluster) bool { return slices.Contains(c.Gone, newcomer) },
		Check: func(c *crashtest.Cluster) {
			for _, name := range c.Alive() {
				m := c.Nodes[name].Machine
				old := slices.ContainsFunc(m.Members.All, func(one op.Member) bool { return one.ID == 3 })
				in := slices.IndexFunc(m.Members.All,
					func(one op.Member) bool { return slices.Contains(one.PeerURLs, newPeer) })
				votes := in >= 0 && !m.Members.All[in].IsLearner
				for _, other := range c.Alive() {
					if !old && !c.Holds(other, journal.Commit) {
						c.Violate("the old member has left, and %s does not hold the commit record", other)
					}
				}
				if !old && !votes {
					c.Violate("the old member has left, and the new one does not vote")
				}
				if strings.Contains(string(m.Peek(apiServerManifest)), newClient) && in >= 0 && !votes {
					c.Violate("the API server of %s names the new member, which does not vote", name)
				}
			}
		},
	}
}

// handoverCases are runs on one node alone: what the other nodes do before the old member leaves is
// done.
func handoverCases() (cases []crashtest.Case) {
	for name, title := range map[string]string{
		newcomer: "the new machine", "cp1": "a node that stays", "cp3": "the node of the old member",
	} {
		on := func(w *crashtest.Node) handing {
			w.Name = name
			h := handingOn(w)
			h.alone = true
			return h
		}
		cases = append(cases, crashtest.Case{Name: title, Machine: func(t *testing.T) *sim.Machine {
			m := handoverMachine(t, name)
			if name != newcomer {
				m.Members.All = append(m.Members.All, op.Member{ID: 4, Name: newcomer, PeerURLs: []string{newPeer}})
			}
			return m
		}, On: func(w *crashtest.Node, _ *sim.Machine) crashtest.Subject {
			h := on(w)
			return crashtest.Subject{Run: h.aloneRun, Outcome: h.outcome}
		}})
	}
	return cases
}

func (w handing) aloneRun() error {
	o := replacer{
		ReplaceOptions: ReplaceOptions{Member: "cp3", With: journal.Peer{Name: newcomer}},
		Removal: Removal{Cluster: journal.Cluster{Nodes: []journal.Peer{{Name: w.Name}}}, Name: "cp3", Node: "cp3",
			Gone: op.Member{ID: 3, Name: "cp3", PeerURLs: []string{deadPeer}},
			URLs: []string{"https://cp3:2379"}, Stay: strings.Split(lasting, ",")},
		Newcomer: Newcomer{Node: newcomer, Name: newcomer, PeerURLs: []string{newPeer},
			ClientURLs: []string{newClient}},
		Before: []op.ID{1, 2, 3}, Alive: true,
	}
	flow := o.workflow()
	flow.Observe = func(ctx context.Context, n *observe.Node, run string) (*ReplaceFacts, error) {
		return w.looker().alone(ctx, n, run, w.names == "", o)
	}
	return w.Do(flow.On(w.Process.Look))
}

func handoverMachine(t *testing.T, node string) *sim.Machine {
	t.Helper()
	m := handingOn(&crashtest.Node{Name: node}).machine(t, node)
	m.Members.Dead = ""
	return m
}

func TestAHandoverEndsWhollyOldOrWhollyNewOnEachNodeWhateverHappens(t *testing.T) {
	crashtest.Everything(t, handoverCases())
}

func TestAHandoverIsSettledAfterAnyTwoFaults(t *testing.T) {
	crashtest.SettledAfterTwoFaults(t, handoverOnThree())
}

func TestWhateverSomebodyElseDoesAtAnyStepOfAHandoverItIsSettled(t *testing.T) {
	crashtest.MeddledTogether(t, handoverOnThree())
}

func TestAHandoverInterruptedAnywhereGoesBackOnAll(t *testing.T) {
	crashtest.InterruptedTogether(t, handoverOnThree())
}
