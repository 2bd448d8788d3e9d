package workflows

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/e2e/binaries"
	"github.com/etcdpod/etcdpod/e2e/sandbox"
	"github.com/etcdpod/etcdpod/e2e/terminal"
)

// interruptible is a command whose run is interrupted on a node that is made for it.
type interruptible struct {
	person
	args     []string // without --yes
	before   func()   // notes how the node is
	old, new func()   // hold the node to what it was, and to what the command makes of it
	again    func()   // makes the node one on which the command has something to do again
	// What is left open before the commit point is rolled back: done once, it cannot be done again,
	// or another node has gone back by itself.
	back bool

	held  bool // it is this node that waits, and not one of the others
	start func(args []string, halts ...*halt) *terminal.Terminal
	ended func() // waits until nobody works on the run any more
	// settle types resume or rollback.
	settle func(turn int, verb string, code int, texts ...string)
}

// alone is a command on one node.
func alone(n *node, args ...string) *interruptible {
	c := &interruptible{person: person{node: n}, args: args}
	c.held, c.start = true, c.haltsAt
	c.ended = func() { must(n.t, n.AwaitCommands(n.ctx)) }
	c.settle = func(_ int, verb string, code int, texts ...string) { n.want(code, []string{verb}, texts...) }
	return c
}

// presses are how often Ctrl-C is pressed, and where: at a phase, or, from the second on, where the
// way back from there begins.
type presses struct {
	times  int
	onBack bool
}

func (p presses) String() string {
	where := map[bool]string{false: "there", true: "once there, and the rest on the way back"}[p.onBack]
	return fmt.Sprintf("Ctrl-C %d times, %s", p.times, where)
}

// allPresses are five; at a phase past the commit point there is no way back.
var allPresses = []presses{{1, false}, {2, false}, {3, false}, {2, true}, {3, true}}

func TestCtrlCPressedAtEachPhaseEndsAsTheScreenSays(t *testing.T) {
	for name, make := range map[string]func(*testing.T) *interruptible{
		"restore":       interruptedRestore,
		"certs renew":   interruptedRenew,
		"apiserver set": interruptedSet,
		"init":          interruptedInit,
		"join":          interruptedJoin,
		"readdress":     interruptedReaddress,
	} {
		t.Run(name, func(t *testing.T) {
			c := make(t)
			turn := 0
			for i, phase := range c.phases() {
				c.columns = []uint16{80, 40}[i%2]
				for _, how := range oneOf(i, allPresses) {
					c.press(phase, c.Root, how, turn)
					turn++
				}
			}
		})
	}
}

// phases are those that do something.
func (c *interruptible) phases() (names []string) {
	c.t.Helper()
	var plan struct {
		Phases []struct {
			Name       string
			Operations []string
		}
	}
	c.lastLine(c.done(append(c.args, "--dry-run", "-o", "json")...), &plan)
	for _, phase := range plan.Phases {
		if len(phase.Operations) > 0 {
			names = append(names, phase.Name)
		}
	}
	if len(names) < 2 {
		c.t.Fatalf("%q has the phases %q", c.args, names)
	}
	return names
}

// press interrupts the command where the node with that root is at a phase, or at [begun]. It holds
// its screen to what it promises, and the node to what the screen says. turn decides how a run that
// is left open is ended.
func (c *interruptible) press(phase, root string, how presses, turn int) {
	c.t.Helper()
	c.before()
	there := haltAt(func(m mark) bool {
		return m.root == root && (m.kind == "start" && m.phase == phase && m.first || m.kind == phase)
	})
	back := haltAt(func(m mark) bool { return m.root == root && m.kind == "undo" })
	tty := c.start(append(c.args, "--yes"), there, back)
	at := c.await(there, tty)
	code := 1
	if at.committed || how.times == 3 {
		code = 3
	}
	for i := range how.times {
		if i == 1 && how.onBack && !at.committed {
			there.release()
			c.await(back, tty)
		}
		c.types(tty, terminal.Interrupt)
		if i < 2 {
			c.answered(tty, i+1)
		}
	}
	if how.times < 3 {
		there.release()
		back.release()
	}
	got, err := tty.End(c.ctx)
	must(c.t, err)
	there.release()
	back.release()
	c.ended()
	if got != code {
		c.t.Errorf("it ended with %d, not %d", got, code)
	}
	run := c.lastRun()
	c.wantScreen(tty, run, how, at.committed)
	switch {
	case code == 1:
		c.old()
	case run.Aborted && turn%2 == 0 && !c.back: // it goes on going back
		c.settle(turn, "resume", 1, "everything is as before")
		c.old()
	case at.committed || turn%2 == 0 && !c.back:
		c.settle(turn, "resume", 0)
		c.new()
		if c.again != nil {
			c.again()
		}
	default:
		c.settle(turn, "rollback", 0)
		c.old()
	}
	if c.t.Failed() {
		c.t.Fatalf("this was %q, at %s: %v. The run was %+v, and its screen\n%s", c.args, phase, how, run, tty.Screen())
	}
}

// answered waits until the screen answers a press; what it says there is looked at in the end.
func (c *interruptible) answered(tty *terminal.Terminal, press int) {
	c.t.Helper()
	c.sees(tty, 1, []string{"Interrupted", "Interrupted again"}[press-1])
}

// promised is what the answers to the presses say.
func promised(times int, committed bool) (texts []string) {
	texts = append(texts, "this takes about ")
	if committed {
		texts[0] = "Interrupted past the commit point: nothing is undone, and the run stays open. Finish it with " +
			"`etcdpod resume`."
	}
	if times > 1 {
		texts = append(texts, "A third Ctrl-C kills etcdpod now and leaves the node as it is (")
	}
	return texts
}

// asFailure is how an interrupt must not read.
var asFailure = regexp.MustCompile(`context canceled|✗|FAILED|signal: |goroutine|panic`)

// wantScreen holds what stays on the screen to what an interrupt must say, wherever it comes.
func (c *interruptible) wantScreen(tty *terminal.Terminal, run runSummary, how presses, committed bool) {
	c.t.Helper()
	screen := tty.Screen()
	if wrong := asFailure.FindString(screen); wrong != "" {
		c.t.Errorf("an interrupt reads like a failure: %q", wrong)
	}
	if lost := regexp.MustCompile(`(?m)^.*\^C.*$`).FindAllString(screen, -1); len(lost) > 0 {
		c.t.Errorf("^C stays in %q", lost)
	}
	says := []string{"etcdpod: interrupted; everything is as before"}
	switch {
	case run.State == "open":
		then := "rollback"
		if run.Committed {
			then = "resume"
		}
		says = []string{"etcdpod: interrupted", run.ID, "is open: it stopped in ", "`etcdpod " + then + "`"}
		if c.held { // else the node goes on while the screen is written
			says[2] += run.Phase + ", at: " + run.Operation
		}
		if how.times == 3 {
			says = append(says, "The node is left as it is: ")
		}
	case run.State != "rolled back":
		c.t.Errorf("the run is %q", run.State)
	}
	for _, text := range append(says, promised(how.times, committed)...) {
		must(c.t, tty.WaitFor(c.ctx, 1, text)) // it has ended: nothing is waited for
	}
	for line := range strings.Lines(screen) {
		if width := len([]rune(strings.TrimSuffix(line, "\n"))); width > int(c.columns) {
			c.t.Errorf("%d columns: %q", width, line)
		}
	}
}

func interruptedRestore(t *testing.T) *interruptible {
	n := start(t, sandbox.Options{})
	b := n.backup()
	var before state
	c := alone(n, "restore", b.file)
	c.before = func() {
		n.change()
		before = n.state()
	}
	c.old = func() { n.wantOld(before) }
	c.new = func() { n.wantNew(b, before) }
	c.again = func() { n.done("prune", "--yes") }
	return c
}

func interruptedRenew(t *testing.T) *interruptible {
	n := start(t, sandbox.Options{})
	for _, base := range renewed() { // with the modes of kubeadm's
		must(t, os.Chmod(n.Path(pkiDir+base+".crt"), 0o644))
	}
	var before map[string]string
	c := alone(n, "certs", "renew")
	c.before = func() { before = n.pairs() }
	c.old = func() { n.wantPairs(before, false) }
	c.new = func() { n.wantPairs(before, true) }
	c.again = func() { n.done("prune", "--yes") }
	return c
}

func interruptedSet(t *testing.T) *interruptible {
	n := start(t, sandbox.Options{})
	servers := []string{n.ClientURL(), n.atAddress()} // the same etcd at two addresses
	var before map[string]string
	c := alone(n, "apiserver", "set", "--etcd-servers", servers[1])
	c.before = func() { before = n.manifests() }
	c.old = func() {
		n.wantManifests(before)
		n.uses(servers[0])
		n.wantAllRunning()
	}
	c.new = func() {
		n.uses(servers[1])
		n.wantAllRunning()
	}
	c.again = func() {
		servers[0], servers[1] = servers[1], servers[0]
		c.args[3] = servers[1]
	}
	return c
}

func interruptedInit(t *testing.T) *interruptible {
	n := bare(t, binaries.Etcd36)
	c := alone(n, "init", "--config", n.kubeadm())
	c.before = func() {}
	c.old = n.wantNothing
	c.new = n.wantBegun
	c.again = func() {
		n.clear()
		n.done("prune", "--yes")
	}
	return c
}

func interruptedJoin(t *testing.T) *interruptible {
	j := founder(t, binaries.Etcd36).newcomer(1)
	c := alone(j.node, j.typed()...)
	c.before = func() {}
	c.old = func() { j.wantOutside(false) }
	c.new = j.wantJoined
	c.again = func() {
		j.remove(j.PeerURL())
		j.reset(false)
		j.done("prune", "--yes")
	}
	return c
}

func interruptedReaddress(t *testing.T) *interruptible {
	n := start(t, sandbox.Options{})
	next, turn := "", 100
	var before map[string]string
	c := alone(n, "readdress", "--address", "")
	holds := func(address string) {
		for name, text := range n.manifests() {
			want := strings.ReplaceAll(before[name], n.Address, address)
			if strings.ReplaceAll(text, `"`, "") != strings.ReplaceAll(want, `"`, "") {
				n.t.Errorf("%s is\n%s\nand not\n%s", name, text, want)
			}
		}
		n.Address = address
		n.wantAllRunning()
		n.want(0, []string{"members"}, n.PeerURL())
	}
	c.again = func() {
		next = fmt.Sprintf("127.0.0.%d", turn) // one that its certificates are not for yet
		c.args[2] = next
		turn++
	}
	c.again()
	c.before = func() { before = n.manifests() }
	c.old = func() { holds(n.Address) }
	c.new = func() { holds(next) }
	return c
}
