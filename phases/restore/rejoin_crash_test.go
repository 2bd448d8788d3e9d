package restore

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
)

// One node's part of `restore --rejoin` is stopped at every step, as a restore is in crash_test.go:
// either its old data is moved aside and it joins, or everything is as before.

// rejoining is a node whose data is restored elsewhere.
type rejoining struct{ scenario }

func rejoins() []rejoining {
	return []rejoining{{scenario{name: "one file system"}},
		{scenario{name: "no data", Shape: crashtest.Shape{NoData: true}}}}
}

// Machine is a node that is one member of two, of which the other is already restored.
func (r rejoining) Machine(t *testing.T) *sim.Machine {
	t.Helper()
	m := r.scenario.Machine(t)
	other := op.Member{ID: 1, Name: "cp0", PeerURLs: []string{"https://cp0:2380"}}
	m.Members = &sim.Members{URL: "https://cp1:2380", Name: "cp1", Next: 2, All: []op.Member{other}}
	return m
}

func rejoinCases() []crashtest.Case {
	return crashtest.Cases(rejoins(), func(s rejoining, w *crashtest.Node, _ *sim.Machine) crashtest.Subject {
		r := onNode(w, s.scenario)
		return crashtest.Subject{Run: r.rejoin, Outcome: r.joined}
	})
}

func (w *restoreWorld) rejoin() error {
	o := restorer{Options: Options{StopTimeout: time.Minute}, Shared: &Shared{
		Members: []SharedMember{{"cp0", []string{"https://cp0:2380"}}},
		Rejoin:  append(slices.Clone(w.lost), SharedMember{"cp1", []string{"https://cp1:2380"}}),
		Through: []string{"https://cp0:2379"},
	}}
	flow := workflow{Name: "restore", Observe: w.facts,
		Phases: []phase{o.fence(), o.exchangeData(), o.compareMembers(), o.rejoin()}}
	return w.Do(flow.On(w.Process.Look))
}

// joined says whether the node is wholly old, or a member that has joined; if neither, what is
// wrong.
func (w *restoreWorld) joined() (string, error) { return w.OldOrNew(w.hasJoined) }

func (w *restoreWorld) hasJoined(look string) error {
	etcd, err := w.Machine.ReadFile(crashtest.TestManifestDir + "/etcd.yaml")
	if err != nil {
		return err
	}
	if all := w.Machine.Members.All; len(all) != 2 || all[1].IsLearner {
		return fmt.Errorf("the members are %+v", all)
	}
	return errors.Join(crashtest.Shows(look, allRun()...), crashtest.Shows(string(etcd),
		"--initial-cluster=cp0=https://cp0:2380,cp1=https://cp1:2380", "--initial-cluster-state=existing"))
}

func TestARejoinEndsWhollyOldOrWhollyNewWhateverHappens(t *testing.T) {
	crashtest.Everything(t, rejoinCases())
}

func TestARejoinThatAnEarlierVersionLeftOpenIsSettled(t *testing.T) {
	crashtest.LeftOpen(t, "rejoin", rejoinCases())
}

// A node that was to join before this one was destroyed behind the commit point, before or after it
// had become a learner: the members that there are count, and not those that were planned.
func TestANodeThatIsLostBehindTheCommitPointDoesNotKeepTheNextFromJoining(t *testing.T) {
	lost := op.Member{ID: 9, Name: "", PeerURLs: []string{"https://cp9:2380"}, IsLearner: true}
	for name, learner := range map[string]bool{"before it was added": false, "as a learner": true} {
		t.Run(name, func(t *testing.T) {
			s := rejoins()[0]
			machine := s.Machine(t)
			if learner {
				machine.Members.All = append(machine.Members.All, lost)
			}
			w := onNode(crashtest.Alone(t, machine), s.scenario)
			w.lost = []SharedMember{{"cp9", lost.PeerURLs}}
			if err := w.rejoin(); !crashtest.IsOpen(err) && learner {
				t.Fatalf("without a word about cp9 it ended with %v", err)
			}
			if learner {
				err := w.Process.WithOpen(t.Context(), func(r *engine.Run) error {
					r.Target.Lost = []string{"cp9"}
					return r.Finish(t.Context())
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			if outcome, err := w.joined(); outcome != "new" {
				t.Errorf("it ended %q: %v", outcome, err)
			}
		})
	}
}
