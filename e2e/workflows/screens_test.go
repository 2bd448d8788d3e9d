package workflows

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/e2e/sandbox"
	"github.com/etcdpod/etcdpod/e2e/terminal"
)

// atBothWidths plays something at a wide and at a narrow terminal.
func atBothWidths(t *testing.T, play func(*testing.T, uint16)) {
	for _, columns := range []uint16{80, 40} {
		t.Run(fmt.Sprintf("%d columns", columns), func(t *testing.T) { play(t, columns) })
	}
}

// agreed types a command, says yes, and keeps the screen.
func (p person) agreed(screen string, args ...string) {
	p.t.Helper()
	tty := p.at(args...)
	p.sees(tty, 1, "(y or yes)")
	p.types(tty, "yes\n")
	p.ends(tty, 0, screen)
}

// left leaves a run open in a phase: Ctrl-C three times.
func (p person) left(phase string, args ...string) {
	p.t.Helper()
	there := haltAt(func(m mark) bool { return m.kind == "start" && m.phase == phase })
	tty := p.haltsAt(args, there)
	p.await(there, tty)
	for _, answer := range []string{"Interrupted", "Interrupted again", ""} {
		p.types(tty, terminal.Interrupt)
		p.sees(tty, 1, answer)
	}
	p.ends(tty, 3, "")
	there.release()
	must(p.t, p.AwaitCommands(p.ctx))
}

func TestScreensOfWhatChangesANode(t *testing.T) {
	atBothWidths(t, func(t *testing.T, columns uint16) {
		n := start(t, sandbox.Options{})
		p := person{n, columns}
		for _, base := range renewed() { // with the modes of kubeadm's
			must(t, os.Chmod(n.Path(pkiDir+base+".crt"), 0o644))
		}
		p.agreed("certs-renewed", "certs", "renew")
		p.agreed("apiserver-set", "apiserver", "set", "--etcd-servers", n.atAddress())

		b := n.backup()
		n.change()
		before := n.state()
		p.left("exchange-data", "restore", b.file, "--yes")
		p.ends(p.at("restore", b.file), 3, "open")
		p.ends(p.at("rollback"), 0, "rolled-back")
		n.wantOld(before)
		p.left("await-etcd", "restore", b.file, "--yes")
		p.ends(p.at("resume"), 0, "resumed")
		n.wantNew(b, before)
	})
}

func TestScreensOfWhatTheNewestCommandsDo(t *testing.T) {
	atBothWidths(t, func(t *testing.T, columns uint16) {
		n := start(t, sandbox.Options{})
		p := person{n, columns}
		before := n.manifests()
		args := []string{"readdress", "--address", "127.0.0.9"}
		tty := p.at(args...)
		p.sees(tty, 1, "(y or yes)")
		p.types(tty, "no\n")
		p.ends(tty, 1, "readdress-said-no")
		there := haltAt(func(m mark) bool { return m.kind == "start" && m.phase == "await-etcd" && m.first })
		tty = p.haltsAt(append(args, "--yes"), there)
		p.await(there, tty)
		p.types(tty, terminal.Interrupt)
		p.sees(tty, 1, "Interrupted")
		there.release()
		p.ends(tty, 1, "readdress-interrupted")
		n.wantManifests(before)
		p.agreed("readdressed", args...)
		p.agreed("defragmented", "defrag")
	})
}

// A terminal that is closed ends nothing: another one shows how the run goes on.
func TestARunOutlivesItsTerminal(t *testing.T) {
	atBothWidths(t, func(t *testing.T, columns uint16) {
		n := start(t, sandbox.Options{})
		p := person{n, columns}
		b := n.backup()
		n.change()
		before := n.state()
		there := haltAt(func(m mark) bool { return m.kind == "start" && m.phase == "fence" && m.first })
		tty := p.haltsAt([]string{"restore", b.file, "--yes"}, there)
		p.await(there, tty)
		must(t, tty.Hang())
		p.ends(p.at("restore", b.file), 5, "busy")
		follows := p.at("runs", "show", "--follow")
		p.sees(follows, 1, "✓ stage-data")
		there.release()
		if code, err := tty.End(p.ctx); err != nil || code != 0 {
			t.Errorf("a restore without its terminal ended with %d, %v", code, err)
		}
		p.ends(follows, 0, "")
		p.wantNew(b, before)
	})
}

func TestScreensOfARestoreOfSeveralNodes(t *testing.T) {
	c := startTogether(t)
	b := c.nodes[0].backup()
	for _, columns := range []uint16{80, 40} {
		p := person{c.nodes[0], columns}
		c.nodes[1].change()
		before := c.states()
		line := "etcdpod restore --nodes cp1,cp2,cp3 " + b.file
		tty := c.atTerminal(p, line)
		p.sees(tty, 1, "(y or yes)")
		p.types(tty, "no\n")
		p.ends(tty, 1, "together-said-no")
		c.wantAsBefore(before)

		tty = c.atTerminal(p, line)
		p.sees(tty, 1, "(y or yes)")
		p.types(tty, "y\n")
		p.ends(tty, 0, "")
		p.goldenInAnyOrder("together-restored", tty) // within a phase, nodes wait for nobody
		c.wantNew(b, before)
	}
}

func TestScreensOfWhatChangesMembers(t *testing.T) {
	c := startTogether(t)
	fresh := c.newMachine("cp4")
	for _, columns := range []uint16{80, 40} {
		p := person{c.nodes[0], columns}
		asked := func(screen, line, answer string, code int) {
			t.Helper()
			tty := c.atTerminal(p, line)
			p.sees(tty, 1, "(y or yes)")
			p.types(tty, answer+"\n")
			p.ends(tty, code, screen)
		}
		asked("move-leader", "etcdpod members move-leader cp2", "y", 0)
		asked("move-leader-back", "etcdpod members move-leader cp1", "yes", 0)
		asked("remove-said-no", "etcdpod remove cp3 --no-spare --nodes cp1,cp2,cp3", "no", 1)
		asked("replace-said-no", strings.Replace(replacing(fresh), "cp1,cp2", "cp1,cp2,cp3", 1), "no", 1)
	}
	must(t, c.nodes[2].Crash())
	p := person{c.nodes[0], 80}
	tty := c.atTerminal(p, "etcdpod remove cp3 --nodes cp1,cp2")
	p.sees(tty, 1, "(y or yes)")
	p.types(tty, "yes\n")
	p.sees(tty, 1, "Removed cp3 by run")
	// Its screen is not compared: the API server there may keep its lease, and is named then.
	p.ends(tty, 0, "")
}

func TestScreensOfAChangeOfAllAPIServers(t *testing.T) {
	atBothWidths(t, func(t *testing.T, columns uint16) {
		c := startTogether(t)
		p := person{c.nodes[0], columns}
		tty := c.atTerminal(p, setAll)
		p.sees(tty, 1, "(y or yes)")
		p.types(tty, "yes\n")
		p.ends(tty, 0, "")
		p.goldenInAnyOrder("together-apiserver-set", tty) // which member leads is chance
		c.wantServers(c.all())
	})
}
