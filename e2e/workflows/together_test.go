package workflows

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/e2e/binaries"
	"github.com/etcdpod/etcdpod/e2e/sandbox"
	"github.com/etcdpod/etcdpod/e2e/schema"
)

// cluster is three control planes in the hands of one test.
type cluster struct {
	*sandbox.ControlPlanes
	t     *testing.T
	ctx   context.Context
	nodes []*node
}

// startTogether makes three control planes of one cluster that serves some objects.
func startTogether(t *testing.T) *cluster {
	t.Helper()
	return startTogetherOn(t, binaries.Etcd36)
}

// startTogetherOn is startTogether for a version of etcd.
func startTogetherOn(t *testing.T, version string) *cluster {
	t.Helper()
	return startNodes(t, sandbox.Options{EtcdBinary: etcdBinary(t, version)}, "cp1", "cp2", "cp3")
}

// startNodes is startTogether for nodes of these names.
func startNodes(t *testing.T, o sandbox.Options, names ...string) *cluster {
	t.Helper()
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	all, err := sandbox.NewControlPlanes(ctx, o, names...)
	must(t, err)
	t.Cleanup(func() { must(t, all.Destroy()) })
	c := &cluster{ControlPlanes: all, t: t, ctx: ctx}
	for _, s := range all.Nodes {
		c.nodes = append(c.nodes, &node{Sandbox: s, t: t, ctx: ctx})
	}
	must(t, c.nodes[0].Load(ctx, 60, 300))
	return c
}

// typed runs a command line on a node and holds it to an exit code and to what it must say.
func (c *cluster) typed(on, line string, code int, texts ...string) string {
	c.t.Helper()
	cmd := c.Command(c.ctx, on, line)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		c.t.Fatal(err)
	}
	r := sandbox.Result{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
	wantResult(c.t, r, code, []string{on, line}, texts...)
	must(c.t, schema.Check(strings.Fields(line), r.Stdout, r.Stderr, r.Code))
	return r.Stdout
}

func (c *cluster) states() (all []state) {
	c.t.Helper()
	must(c.t, c.WaitReady(c.ctx))
	for _, n := range c.nodes {
		all = append(all, n.state())
	}
	return all
}

// wantNew holds all nodes to the backup, as members of one cluster.
func (c *cluster) wantNew(b backup, before []state) {
	c.t.Helper()
	first, _ := c.nodes[0].header()
	for i, n := range c.nodes {
		n.wantNew(b, before[i])
		if cluster, _ := n.header(); cluster != first {
			c.t.Errorf("%s is in the cluster %x, and cp1 in %x", n.Node, cluster, first)
		}
	}
	c.wantRuns("completed")
}

func (c *cluster) wantOld(before []state) {
	c.t.Helper()
	c.wantAsBefore(before)
	c.wantRuns("rolled back")
}

func (c *cluster) wantAsBefore(before []state) {
	c.t.Helper()
	for i, n := range c.nodes {
		n.wantOld(before[i])
	}
}

// wantRuns: the last run is the same on all nodes, and in that state.
func (c *cluster) wantRuns(state string) {
	c.t.Helper()
	first := c.nodes[0].lastRun()
	for _, n := range c.nodes {
		if run := n.lastRun(); run.ID != first.ID || run.State != state {
			c.t.Errorf("%s has the run %s, %s; cp1 has %s, and it should be %s",
				n.Node, run.ID, run.State, first.ID, state)
		}
	}
}

// killCoordinator ends `restore` on cp1 with SIGKILL when a node has begun an operation of the
// phase. Its agents are left alone.
func (c *cluster) killCoordinator(phase, on string, b backup, flags ...string) {
	c.t.Helper()
	must(c.t, c.KillWhen(c.ctx, "cp1", "etcdpod restore --yes --nodes cp1,cp2,cp3 -o json "+
		strings.Join(append(flags, b.file), " "), func(p sandbox.Progress) bool {
		return p.Phase == phase && p.Node == on && p.State == "started"
	}))
}

// kill is when the coordinator is killed, and what somebody types afterwards.
type kill struct {
	phase, on string // the node that has begun an operation of the phase
	settle    string // the node on which somebody types
	verb      string
}

// killAndSettle changes what etcd holds, kills the restore of a backup, and settles it. finished
// holds the nodes to what a restore ends in.
func (c *cluster) killAndSettle(m kill, b backup, finished func(backup, []state), flags ...string) {
	c.t.Helper()
	c.nodes[1].change()
	before := c.states()
	c.killCoordinator(m.phase, m.on, b, flags...)
	for _, n := range c.nodes {
		n.eventually("the agent has noticed", func() bool {
			return n.run("runs").Code == 0 && n.run("prune", "--yes").Code == 3
		})
	}
	c.typed(m.settle, "etcdpod status", 6, "a run is open")
	c.typed(m.settle, "etcdpod "+m.verb, 0)
	if m.verb == "resume" {
		finished(b, before)
	} else {
		c.wantOld(before)
	}
	if c.t.Failed() {
		c.t.Fatalf("this was after a kill in %s on %s, and `etcdpod %s` on %s", m.phase, m.on, m.verb, m.settle)
	}
}

func TestThreeControlPlanesAreRestoredAsOne(t *testing.T) {
	c := startTogether(t)
	b := c.nodes[0].backup()
	c.nodes[1].change()
	before := c.states()
	c.typed("cp1", "etcdpod restore --dry-run --nodes cp1,cp2,cp3 "+b.file, 0, "=== cp3", "Nothing was changed")
	c.typed("cp1", "etcdpod restore --yes --nodes cp1,cp2 "+b.file, 5, "cp3", "--lost")
	c.typed("cp1", "etcdpod restore --yes --nodes cp2,cp3 "+b.file, 2, "cp1")
	c.typed("cp1", "etcdpod restore --yes --nodes cp1,cp2,cp3 "+b.file, 0, "Restored on 3 nodes")
	c.wantNew(b, before)

	// The third begins a cluster of its own: it is not restored with the others.
	third := c.nodes[2]
	stopEtcd(third)
	must(t, os.RemoveAll(third.DataPath()+"/member"))
	file := third.Path(sandbox.ManifestDir + "/etcd.yaml")
	text, err := os.ReadFile(file)
	must(t, err)
	lines := strings.Split(string(text), "\n")
	for i, line := range lines {
		if flag, _, ok := strings.Cut(line, "--initial-cluster="); ok {
			lines[i] = flag + "--initial-cluster=cp3=" + third.PeerURL()
		}
	}
	alone := strings.Replace(strings.Join(lines, "\n"), "cluster-state=existing", "cluster-state=new", 1)
	must(t, os.WriteFile(file, []byte(alone), 0o600))
	must(t, third.StartKubelet(third.ctx))
	must(t, third.WaitEtcd(third.ctx))
	c.typed("cp1", "etcdpod restore --yes --nodes cp1,cp2,cp3 "+b.file, 5, "the nodes are not all members of one "+
		"cluster: cp1, cp2 of")
}

// The coordinator is killed in each part of the transaction: what is left is settled from it or
// from another node, forward or back.
func TestACoordinatorThatIsKilledLeavesATransactionThatAnyNodeSettles(t *testing.T) {
	c := startTogether(t)
	b := c.nodes[0].backup()
	for _, m := range []kill{
		{"stage-data", "cp2", "cp1", "resume"},
		{"fence", "cp3", "cp2", "rollback"},
		{"exchange-data", "cp1", "cp3", "rollback"},
		{"exchange-data", "cp2", "cp3", "resume"},
		{"release-etcd", "cp2", "cp2", "resume"},
		{"release-apiserver", "cp1", "cp3", "resume"},
	} {
		c.killAndSettle(m, b, c.wantNew)
	}
}
