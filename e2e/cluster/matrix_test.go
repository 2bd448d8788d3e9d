//go:build e2e

package cluster

import (
	"os"
	"slices"
	"testing"
)

// killSample is where a restore is killed unless ETCDPOD_MATRIX=full asks for every
// operation of its plan.
func killSample() []point {
	return []point{
		{phase: "stage-data"},
		{phase: "fence", operation: 2}, // the first manifest goes
		{phase: "exchange-data"},
		{phase: "release-etcd"},
		{phase: "await-etcd"},
		{phase: "await-apiserver", committed: true},
	}
}

// powerLossSample is the same for a node that loses power.
func powerLossSample() []point {
	return []point{{phase: "exchange-data"}, {phase: "await-etcd"}}
}

func (k *control) matrix(file string, sample []point) []point {
	k.Helper()
	all := k.points(file)
	if os.Getenv("ETCDPOD_MATRIX") == "full" {
		return all
	}
	for _, p := range sample {
		if !slices.Contains(all, p) {
			k.Fatalf("the plan of a restore has no %s on that side of the commit point: %v", p, all)
		}
	}
	return sample
}

func TestMatrixARestoreThatIsKilledIsFinishedOrTakenBack(t *testing.T) {
	k := take(t)
	s := k.scene()
	manifests := k.manifests()
	for _, p := range k.matrix(s.backup, killSample()) {
		for _, way := range ways() {
			t.Run(p.String()+", then "+way.name, func(t *testing.T) {
				k := k.with(t)
				now := k.moveOn()
				r := k.cutOff(s.backup, p, func(kill func()) { kill() })
				k.want(3, "restore", "--yes", s.backup)
				way.take(k, r, s.then, now)
				k.sameManifests(manifests)
				k.oneEtcd()
			})
		}
	}
}

func TestMatrixARestoreCutOffByAPowerLossIsFinishedOrTakenBack(t *testing.T) {
	k := take(t)
	s := k.scene()
	manifests := k.manifests()
	for _, p := range k.matrix(s.backup, powerLossSample()) {
		for _, way := range ways() {
			t.Run(p.String()+", then "+way.name, func(t *testing.T) {
				k := k.with(t)
				now := k.moveOn()
				k.cutOff(s.backup, p, func(func()) { k.Must(k.node.KillEverything(k.Ctx)) })
				k.Must(k.node.Boot(k.Ctx))
				r := k.openRun()
				if r.ID == "" {
					k.Fatalf("no run is open after a power loss at %s", p)
				}
				k.Logf("it stopped in %s, at: %s", r.Phase, r.Operation)
				way.take(k, r, s.then, now)
				k.sameManifests(manifests)
				k.oneEtcd()
			})
		}
	}
}

// way is one of the two ways to end an open run.
type way struct {
	name string
	take func(k *control, open run, then, now world)
}

func ways() []way {
	return []way{{"resume", resume}, {"rollback", rollback}}
}

func resume(k *control, _ run, then, _ world) {
	k.Helper()
	k.want(0, "resume")
	k.be(then, "the world of the backup")
	k.ended("completed")
	k.shell("test -f " + k.lastRun().Path + "/data/member/snap/db") // what was replaced is kept
}

// rollback is refused behind the commit point; nothing but resume is left then.
func rollback(k *control, open run, then, now world) {
	k.Helper()
	if open.Committed {
		k.want(5, "rollback")
		resume(k, open, then, now)
		return
	}
	k.want(0, "rollback")
	if state := k.shell("systemctl is-active kubelet || true"); state != "active" {
		k.Errorf("after going back the kubelet is %s", state)
	}
	k.awaitReady()
	k.be(now, "the world of before the restore")
	k.ended("rolled back")
}

func (k *control) ended(state string) {
	k.Helper()
	if r := k.lastRun(); r.State != state {
		k.Errorf("the run ended as %s, not %s", r.State, state)
	}
}
