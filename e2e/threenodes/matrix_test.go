//go:build e2e

package threenodes

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/e2e/leash"
	"github.com/etcdpod/etcdpod/e2e/rig"
)

// point is where a restore is cut off: when the n-th operation of a phase, counted from
// 0, begins on a node.
type point struct {
	node      string
	phase     string
	operation int
}

func (p point) String() string { return fmt.Sprintf("%s %d on %s", p.phase, p.operation, p.node) }

// cut is one of the ways to interrupt a restore.
type cut string

const (
	killCoordinator cut = "the coordinator is killed"
	// The node's at which the point is; the second node's where that is the coordinator.
	killAgent cut = "an agent is killed"
	reboot    cut = "the node loses power"
)

// way is one of the two ways to end an open run.
type way string

const (
	resume   way = "resume"
	rollback way = "rollback"
)

// trial is one restore that is cut off.
type trial struct {
	point
	cut cut
	way way
}

func (t trial) String() string { return fmt.Sprintf("%s, %s, then %s", t.point, t.cut, t.way) }

// sample is what is tried unless ETCDPOD_MATRIX=full asks for every operation: each cut with each
// way, on both sides of the commit point.
func sample() []trial {
	return []trial{
		{point{"cp2", "stage-data", 0}, killCoordinator, rollback},
		{point{"cp1", "fence", 2}, killCoordinator, rollback},
		{point{"cp3", "fence", 6}, reboot, resume},
		{point{"cp2", "fence", 3}, killAgent, resume},
		{point{"cp2", "exchange-data", 0}, killCoordinator, resume},
		{point{"cp1", "exchange-data", 0}, reboot, rollback},
		{point{"cp2", "release-etcd", 1}, killCoordinator, rollback},
		{point{"cp3", "release-etcd", 0}, killAgent, rollback},
		{point{"cp1", "compare-members", 0}, reboot, resume},
		{point{"cp3", "release-apiserver", 0}, killCoordinator, resume},
		{point{"cp3", "await-apiserver", 0}, killCoordinator, rollback},
		{point{"cp2", "await-apiserver", 0}, reboot, resume},
	}
}

// full tries every operation of every node, with both ways. The cut goes round with the node, so
// that each operation meets all three.
func full(points []point, nodes []*rig.Node) (all []trial) {
	cuts := []cut{killCoordinator, killAgent, reboot}
	for _, p := range points {
		at := slices.IndexFunc(nodes, func(n *rig.Node) bool { return n.Name == p.node })
		for _, w := range []way{resume, rollback} {
			all = append(all, trial{p, cuts[(at+p.operation)%len(cuts)], w})
		}
	}
	return all
}

// mostFailures is how many trials may fail until the rest would only tell the same again.
const mostFailures = 5

// A trial that fails takes the cluster with it: the next one gets a new one.
func TestMatrixARestoreThatIsCutOffIsFinishedOrTakenBack(t *testing.T) {
	k := take(t)
	s, manifests := k.scene(), k.manifests()
	trials := sample()
	inFull := os.Getenv("ETCDPOD_MATRIX") == "full"
	if inFull {
		trials = full(k.points(s), k.nodes)
	}
	var all []outcome
	var failed []string
	for _, trial := range trials {
		ran := false
		o := outcome{trial: trial}
		o.passed = t.Run(trial.String(), func(t *testing.T) {
			ran = true
			k := k.with(t)
			k.tellOnFailure()
			k.try(s, manifests, &o)
		})
		if ran {
			all = append(all, o)
		}
		if o.passed {
			continue
		}
		if failed = append(failed, trial.String()); len(failed) == mostFailures {
			break
		}
		k = anew(t)
		s, manifests = k.scene(), k.manifests()
	}
	if len(failed) > 0 {
		t.Errorf("%d of %d trials failed:\n%s", len(failed), len(all), strings.Join(failed, "\n"))
	}
	if inFull && len(all) == len(trials) { // and no pattern left any out
		k.Must(writeReport(all))
	}
}

// try cuts a restore off, ends it, and insists on one whole world.
func (k *cluster) try(s scene, manifests map[string]string, o *outcome) {
	k.Helper()
	w := k.before(s)
	code := k.cutOff(s, o.trial)
	cutOff := time.Since(w.since)
	o.by, o.in = k.end(o.trial, s, code)
	ended := time.Since(w.since)
	k.be(o.in, w)
	k.allClosed()
	k.sameManifests(manifests)
	o.took = time.Since(w.since)
	k.Logf("its coordinator was gone after %.1f s, it was ended after %.1f s and seen to be %s after %.1f s",
		cutOff.Seconds(), ended.Seconds(), o.in, o.took.Seconds())
}

// points returns every operation of a restore on all nodes, as its dry run shows them.
func (k *cluster) points(s scene) (all []point) {
	k.Helper()
	var plan struct {
		Nodes []struct {
			Node   string
			Phases []struct {
				Name       string
				Operations []string
			}
		}
	}
	k.Must(json.Unmarshal([]byte(k.want(0, k.nodes[0], "restore",
		"--dry-run", "--output", "json", "--nodes", k.names(), s.backup).stdout), &plan))
	for _, n := range plan.Nodes {
		for _, phase := range n.Phases {
			for i := range phase.Operations {
				all = append(all, point{n.Node, phase.Name, i})
			}
		}
	}
	if len(all) < 3*18 {
		k.Fatalf("an odd plan: %+v", plan)
	}
	return all
}

// cutOff restores on all nodes up to the trial's point, where it is cut off, and returns the
// coordinator's exit code: -1 when it was killed. The coordinator is on a leash: it waits at the
// point until something is cut off.
func (k *cluster) cutOff(s scene, t trial, flags ...string) int {
	k.Helper()
	cmd := k.nodes[0].Command(k.Patiently(),
		append([]string{"etcdpod", "--output", "json"}, k.restore(s, flags...)...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	n, reached, after := 0, false, func() {}
	_ = leash.Run(cmd, &cmd.Stdout, func(line string) {
		e := parse(line)
		if e.State != "started" || e.Node != t.node || e.Phase != t.phase {
			return
		}
		if n == t.operation {
			reached = true
			after = k.strike(t, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
		}
		n++
	})
	after()
	if !reached {
		k.Fatalf("the restore never came to %s:\n%s", t.point, stderr.String())
	}
	k.Logf("the coordinator ended with %d: %s", cmd.ProcessState.ExitCode(), stderr.String())
	return cmd.ProcessState.ExitCode()
}

// strike cuts off, and returns what waits for the rest of it: for a node to be switched on again,
// say. That takes longer than a coordinator may be silent, which is let go on meanwhile.
func (k *cluster) strike(t trial, kill func()) (after func()) {
	k.Helper()
	after = func() {}
	node := k.nodes[slices.IndexFunc(k.nodes, func(n *rig.Node) bool { return n.Name == t.node })]
	switch t.cut {
	case killCoordinator:
		kill()
		after = func() { // it may have left a command behind, which would cross what is done next
			k.shell(k.nodes[0], "while pgrep -x systemctl >/dev/null; do sleep 0.05; done")
		}
	case killAgent:
		if node == k.nodes[0] {
			node = k.nodes[1]
		}
		if n, err := node.Kill(k.Patiently(), "^etcdpod agent"); err != nil || n == 0 {
			k.Fatalf("%d agents were killed: %v", n, err)
		}
	case reboot:
		k.Must(node.KillEverything(k.Patiently()))
		on, ctx := make(chan error, 1), k.Patiently()
		go func() { on <- node.Boot(ctx) }()
		after = func() { k.Must(<-on) }
	}
	return after
}

// end ends the run as the trial has it, from the node where it was cut off where that may
// be, and returns what did end it, and in which world the cluster must be by that. code
// is the coordinator's.
func (k *cluster) end(t trial, s scene, code int) (by string, in state) {
	k.Helper()
	nodes, runs := k.openRuns()
	switch {
	case len(runs) == 0 && code == 0: // whoever was killed had done all of its part
		return "itself", wholeNew
	case len(runs) == 0 && code == 1:
		return "itself", wholeOld
	case len(runs) == 0 || code == 0 || code == 1:
		k.Fatalf("the restore ended with %d, and is open on %d nodes", code, len(nodes))
	}
	from := nodes[0]
	for _, n := range nodes {
		if n.Name == t.node && t.phase != "stage-data" { // the snapshot is at the coordinator's
			from = n
		}
	}
	is := func(what func(run) bool) bool { return slices.ContainsFunc(runs, what) }
	goesBack, committed := is(func(r run) bool { return r.Aborted }), is(func(r run) bool { return r.Committed })
	k.Logf("it is open on %d nodes, in %s on %s; commit record on any: %t; going back on any: %t",
		len(nodes), runs[0].Phase, nodes[0].Name, committed, goesBack)
	k.want(3, from, k.restore(s)...)
	if t.way == rollback {
		r := k.etcdpod(from, "rollback")
		switch {
		case r.code == 0:
			return "rollback", wholeOld
		case r.code != 5 || !committed:
			k.Fatalf("rollback ended with %d: %s", r.code, r.stderr)
		}
		k.want(0, from, "resume")
		return "resume, rollback being refused", wholeNew
	}
	if goesBack { // by itself, and it is to finish that
		k.want(1, from, "resume")
		return "resume, of going back", wholeOld
	}
	k.want(0, from, "resume")
	return "resume", wholeNew
}
