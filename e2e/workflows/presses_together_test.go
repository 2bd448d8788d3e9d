package workflows

import (
	"slices"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/e2e/terminal"
)

// atTerminal starts a command line on a node of several, at a terminal.
func (c *cluster) atTerminal(p person, line string) *terminal.Terminal {
	c.t.Helper()
	cmd := c.Command(c.ctx, p.Node, "exec "+line)
	cmd.Env = append(cmd.Env, "NO_COLOR=1")
	return p.start(cmd)
}

// interruptible is a command line on the first node, for a run on the nodes.
func (c *cluster) interruptible(nodes []*node, args ...string) *interruptible {
	i := &interruptible{person: person{node: c.nodes[0]}, args: args}
	i.start = func(args []string, halts ...*halt) *terminal.Terminal {
		return i.halting(func() *terminal.Terminal {
			return c.atTerminal(i.person, "etcdpod "+strings.Join(args, " "))
		}, halts...)
	}
	i.ended = func() {
		for _, n := range nodes {
			n.eventually("nobody works on the run", func() bool { return n.run("prune", "--dry-run").Code != 5 })
			must(c.t, n.AwaitCommands(n.ctx))
		}
	}
	i.settle = func(turn int, verb string, code int, texts ...string) {
		c.typed(nodes[turn%len(nodes)].Node, "etcdpod "+verb, code, texts...)
	}
	return i
}

// at is where a run on several nodes is interrupted: where a node is at a phase, or at [begun].
type at struct{ phase, on string }

// begun is where a node has only just noted the run. On the first, that is before on any other, so
// that the run has begun there, and nothing has been heard of it.
const begun = "begin"

// pressAt types Ctrl-C on the first node, while one of the nodes is held at a phase. What cannot be
// done again is done at the last of the places, once.
func (c *cluster) pressAt(i *interruptible, places ...at) {
	turn := 0
	for phase, at := range places {
		i.columns, i.held = []uint16{80, 40}[phase%2], at.on == i.Node
		how := oneOf(phase, allPresses)
		if i.again == nil && phase == len(places)-1 {
			how = how[:1]
		}
		for _, how := range how {
			i.press(at.phase, c.Node(at.on).Root, how, turn)
			turn++
		}
	}
}

func TestCtrlCPressedDuringARestoreOfSeveralNodesIsHeededOnAll(t *testing.T) {
	c := startTogether(t)
	b := c.nodes[0].backup()
	var before []state
	i := c.interruptible(c.nodes, "restore", b.file, "--nodes", "cp1,cp2,cp3")
	i.before = func() {
		c.nodes[1].change()
		before = c.states()
	}
	i.old = func() { c.wantOld(before) }
	i.new = func() { c.wantNew(b, before) }
	i.again = func() {
		for _, n := range c.nodes {
			n.done("prune", "--yes")
		}
	}
	c.pressAt(i, at{"stage-data", "cp2"}, at{"fence", "cp1"}, at{"exchange-data", "cp3"}, at{"release-etcd", "cp1"},
		at{"await-etcd", "cp2"}, at{"release-apiserver", "cp1"}, at{"verify-restored", "cp3"})
}

// wantMembers holds nodes to be members that serve, of a cluster of these.
func (c *cluster) wantMembers(running []*node, names ...string) {
	c.t.Helper()
	for _, n := range running {
		must(c.t, n.WaitEtcd(c.ctx))
		n.wantNames(names...)
	}
}

// Before the commit point on each node of a removal, and last past it.
func TestCtrlCPressedDuringARemovalIsHeededOnAll(t *testing.T) {
	c := startTogether(t)
	i := c.interruptible(c.nodes, "remove", "cp3", "--no-spare", "--nodes", "cp1,cp2,cp3")
	i.before = func() { must(t, c.WaitReady(c.ctx)) }
	i.old = func() { c.wantMembers(c.nodes, "cp1", "cp2", "cp3") }
	i.new = func() {
		c.wantMembers(c.nodes[:2], "cp1", "cp2")
		if third := c.nodes[2]; third.runsEtcd() {
			t.Errorf("etcd runs on cp3: %q", third.running())
		}
		must(t, c.nodes[2].WaitAPIServer(c.ctx)) // it uses the others
	}
	i.back = true
	c.pressAt(i, at{"wire-apiservers", "cp3"}, at{"stop-member", "cp3"}, at{"stop-member", "cp3"},
		at{"wire-apiservers", "cp3"}, at{"remove-member", "cp1"})
}

func TestCtrlCPressedDuringAReplacementIsHeededOnAll(t *testing.T) {
	c := startTogether(t)
	fresh := c.newMachine("cp4")
	must(t, c.PowerOff("cp3"))
	all := []*node{c.nodes[0], c.nodes[1], fresh}
	i := c.interruptible(all, strings.Fields(strings.TrimPrefix(replacing(fresh), "etcdpod "))...)
	i.before = func() {}
	i.old = func() {
		c.wantMembers(c.nodes[:2], "cp1", "cp2", "cp3")
		fresh.untouchedMachine()
	}
	i.new = func() {
		c.wantMembers(all, "cp1", "cp2", "cp4")
	}
	i.back = true
	c.pressAt(i, at{"certs", "cp4"}, at{"certs", "cp4"}, at{"certs", "cp4"}, at{"certs", "cp4"},
		at{"remove-member", "cp1"})
}

// One API server after the other: the second is interrupted when the first has changed.
func TestCtrlCPressedDuringAChangeOfAllAPIServersIsHeededOnAll(t *testing.T) {
	c := startTogether(t)
	i := c.interruptible(c.nodes, strings.Fields(strings.TrimPrefix(setAll, "etcdpod "))...)
	i.before = func() { must(t, c.WaitReady(c.ctx)) }
	i.old = func() { c.wantServers("") }
	i.back = true
	// The commit point is at its end.
	c.pressAt(i, append(slices.Repeat([]at{{"set", "cp2"}}, len(allPresses)), at{begun, "cp2"})...)
}

// A member that serves leaves last: until then even a new member that votes is taken out again.
func TestCtrlCPressedDuringAHandoverIsHeededOnAll(t *testing.T) {
	c := startTogether(t)
	old, fresh := c.nodes, c.newMachine("cp4")
	line := strings.Replace(replacing(fresh), "cp1,cp2", "cp1,cp2,cp3", 1)
	i := c.interruptible(append(slices.Clone(old), fresh), strings.Fields(strings.TrimPrefix(line, "etcdpod "))...)
	i.before = func() {}
	i.old = func() {
		c.wantMembers(old, "cp1", "cp2", "cp3")
		fresh.untouchedMachine()
	}
	i.new = func() { c.wantMembers([]*node{old[0], old[1], fresh}, "cp1", "cp2", "cp4") }
	i.back = true
	c.pressAt(i, at{"add-learner", "cp4"}, at{"await-serving", "cp4"}, at{"await-etcd", "cp4"},
		at{"stop-member", "cp3"}, at{"remove-member", "cp1"})
}
