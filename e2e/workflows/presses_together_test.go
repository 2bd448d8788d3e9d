package workflows

import (
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

// Ctrl-C is typed on the first of three nodes, while one of them is held at a phase.
func TestCtrlCPressedDuringARestoreOfSeveralNodesIsHeededOnAll(t *testing.T) {
	c := startTogether(t)
	b := c.nodes[0].backup()
	var before []state
	i := &interruptible{person: person{node: c.nodes[0]},
		args: []string{"restore", b.file, "--nodes", "cp1,cp2,cp3"}}
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
	i.start = func(args []string, halts ...*halt) *terminal.Terminal {
		return i.halting(func() *terminal.Terminal {
			return c.atTerminal(i.person, "etcdpod "+strings.Join(args, " "))
		}, halts...)
	}
	i.ended = func() {
		for _, n := range c.nodes {
			n.eventually("nobody works on the run", func() bool { return n.run("prune", "--dry-run").Code != 5 })
			must(t, n.AwaitCommands(n.ctx))
		}
	}
	i.settle = func(turn int, verb string, code int, texts ...string) {
		c.typed(c.nodes[turn%len(c.nodes)].Node, "etcdpod "+verb, code, texts...)
	}
	turn := 0
	for phase, at := range []struct{ phase, on string }{
		{"stage-data", "cp2"}, {"fence", "cp1"}, {"exchange-data", "cp3"}, {"release-etcd", "cp1"},
		{"await-etcd", "cp2"}, {"release-apiserver", "cp1"}, {"verify-restored", "cp3"},
	} {
		i.columns, i.held = []uint16{80, 40}[phase%2], at.on == i.Node
		for _, how := range sampled(phase) {
			i.press(at.phase, c.Node(at.on).Root, how, turn)
			turn++
		}
	}
}
