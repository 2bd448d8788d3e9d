package phases

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
)

// One node's part of `restore --rejoin` is stopped at every step, as a restore is in crash_test.go: its old data goes aside, and then it joins; or all is as before.

func rejoins() []scenario {
	return []scenario{{name: "one file system"}, {name: "no data", noData: true}}
}

func newRejoinWorld(t *testing.T, s scenario) *world {
	t.Helper()
	w := newWorld(t, s)
	other := op.Member{ID: 1, Name: "cp0", PeerURLs: []string{"https://cp0:2380"}}
	w.machine.Members = &sim.Members{URL: "https://cp1:2380", Name: "cp1", Next: 2, All: []op.Member{other}}
	return w
}

func (w *world) rejoin() error {
	o := restorer{RestoreOptions: RestoreOptions{StopTimeout: time.Minute}, Shared: &Shared{
		Members: []SharedMember{{"cp0", []string{"https://cp0:2380"}}}, Rejoin: []SharedMember{{"cp1", []string{"https://cp1:2380"}}}, Through: []string{"https://cp0:2379"},
	}}
	flow := restoreWorkflow{Name: "restore", Observe: w.facts, Phases: []restorePhase{o.fence(), o.exchangeData(), o.compareMembers(), o.rejoin()}}
	return w.node.Do(context.Background(), flow, func(Plan) error { return nil })
}

// joined says whether the node is wholly old, or a member that has joined, and what is wrong otherwise.
func (w *world) joined() (string, error) {
	look := w.machine.Look("/var/lib/etcdpod")
	if v := w.machine.Violations; len(v) > 0 {
		return "", errors.New(strings.Join(v, "\n"))
	}
	if look == w.first {
		return "old", nil
	}
	for _, want := range []string{"kubelet true\n", "runs etcd new\n", "runs kube-apiserver \n", "runs kube-controller-manager \n", "runs kube-scheduler \n"} {
		if !strings.Contains(look, want) {
			return "", fmt.Errorf("neither old nor new: no %q in\n%s", want, look)
		}
	}
	etcd, err := w.machine.ReadFile(testManifestDir + "/etcd.yaml")
	if err != nil {
		return "", err
	}
	for _, want := range []string{"--initial-cluster=cp0=https://cp0:2380,cp1=https://cp1:2380", "--initial-cluster-state=existing"} {
		if !strings.Contains(string(etcd), want) {
			return "", fmt.Errorf("etcd's manifest has no %s:\n%s", want, etcd)
		}
	}
	if all := w.machine.Members.All; len(all) != 2 || all[1].IsLearner {
		return "", fmt.Errorf("the members are %+v", all)
	}
	return "new", nil
}

func TestARejoinStoppedAnywhereEndsWhollyOldOrWhollyNew(t *testing.T) {
	for _, s := range rejoins() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			count := map[string]int{}
			for _, how := range crashes() {
				for _, recovery := range []string{"resume", "rollback"} {
					rejoinMatrix(t, s, stop{how: how, recovery: recovery}, count)
				}
			}
			t.Logf("%d ended old and %d new", count["old"], count["new"])
			if count["old"] == 0 || count["new"] == 0 {
				t.Error("the matrix proves nothing: all cases ended alike")
			}
		})
	}
}

func rejoinMatrix(t *testing.T, s scenario, c stop, count map[string]int) {
	whole := newRejoinWorld(t, s)
	if err := whole.rejoin(); err != nil {
		t.Fatalf("the rejoin that nothing stops: %v", err)
	}
	for i, call := range whole.machine.Calls {
		c.at = i + 1
		for _, c.again = range c.how.times(c.at, call, 97) {
			got, err := newRejoinWorld(t, s).playRejoin(c)
			if err != nil {
				t.Fatalf("%s (%s): %v", c, call, err)
			}
			count[got]++
		}
	}
}

func (w *world) playRejoin(c stop) (string, error) {
	w.machine.CrashAt = c.at
	if err := w.rejoin(); !w.machine.Crashed() {
		return "", fmt.Errorf("it was not stopped: %w", err)
	}
	c.how.after(w, c.at)
	committed, began := w.committed(), w.began()
	if err := w.settleTwice(c); err != nil {
		return "", err
	}
	got, err := w.joined()
	want := map[bool]string{true: "new", false: "old"}[committed || c.recovery == "resume" && began]
	if err != nil || got != want {
		return "", fmt.Errorf("it ended %s, and not %s: %v", got, want, err)
	}
	return got, w.lasts(got, w.joined)
}

// settleTwice is settleAgain, and then `resume`: past the commit point only `resume` is of use.
func (w *world) settleTwice(c stop) error {
	var refused *RefusedError
	if err := w.settleAgain(c); err != nil && !errors.As(err, &refused) {
		return err
	}
	if err := w.settle("resume"); err != nil && !errors.As(err, &refused) {
		return err
	}
	return nil
}
