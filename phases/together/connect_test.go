package together

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// What ssh, sudo and shells say, word for word, and what it takes to cure it. A node that gives a
// sign of life is never proposed as lost.
func TestWhySSHFailsIsToldWithItsCure(t *testing.T) {
	ended := func(code int, said string) error { return &node.EndedError{Code: code, Said: said} }
	for name, c := range map[string]struct {
		cause error
		cure  string
		alive bool
	}{
		"not installed, bash": {ended(127, "bash: line 1: etcdpod: command not found"), "--remote-command", true},
		"not installed, dash": {ended(127, "sh: 1: etcdpod: not found"),
			"scp \"$(command -v etcdpod)\" 10.0.0.12:", true},
		"not installed, sudo": {ended(1, "sudo: etcdpod: command not found"), "--remote-command", true},
		"no key": {ended(255, "root@cp2: Permission denied (publickey,password)"), "`ssh -n 10.0.0.12 true`",
			true},
		"a key that is not there": {ended(255, "Warning: Identity file /k not accessible: No such file or directory.; "+
			"root@cp2: Permission denied (publickey)"), "`ssh -n 10.0.0.12 true`", true},
		"a host never met": {ended(255, "Host key verification failed"), "run `ssh -n 10.0.0.12 true` once", true},
		"a host made anew": {ended(255, "Host key for cp2 has changed and you have requested strict checking; "+
			"Host key verification failed"), "ssh-keygen -R 10.0.0.12", true},
		"sudo asks": {ended(1, "sudo: a password is required"), "sudoers", true},
		"not root": {ended(2, "etcdpod: agent must be run as root; hint: run it with sudo"),
			"sudo -n etcdpod", true},
		"sudo does not allow it": {ended(1, "Sorry, user ops is not allowed to execute "+
			"'/usr/local/bin/etcdpod agent' as root on cp2."), "sudoers", true},
		"not in sudoers": {ended(1, "ops is not in the sudoers file."), "sudoers", true},
		"not executable": {ended(126, "bash: line 1: /usr/local/bin/etcdpod: Permission denied"),
			"check its mode", true},
		"another architecture, bash": {ended(126, "bash: line 1: /usr/local/bin/etcdpod: cannot execute binary file: "+
			"Exec format error"), "uname -m", true},
		"another architecture, sudo": {ended(1, "sudo: unable to execute /usr/local/bin/etcdpod: Exec format error"),
			"uname -m", true},
		"an old etcdpod":        {ended(2, "etcdpod: unknown command \"agent\""), "an etcdpod without `agent`", true},
		"another failure there": {ended(1, "oops"), "`ssh cp2 etcdpod agent` exited with 1", true},
		"nothing said there":    {ended(0, ""), "`ssh cp2 etcdpod agent` exited with 0", true},
		"ssh itself failed":     {ended(255, "kex_exchange_identification: oops"), "start cp2", false},
		"ssh was killed":        {ended(-1, ""), "start cp2", false},
		"no name": {ended(255, "ssh: Could not resolve hostname cp2: Name or service not known"),
			"cp2=ADDRESS", false},
		"no sshd":     {ended(255, "ssh: connect to host cp2 port 22: Connection refused"), "start sshd on cp2", true},
		"down":        {ended(255, "ssh: connect to host cp2 port 22: No route to host"), "start cp2", false},
		"silent":      {&silentError{For: 21 * time.Second}, "start cp2", false},
		"a profile":   {&strangerError{"Welcome!"}, "only etcdpod may", true},
		"no ssh here": {fmt.Errorf("cannot run ssh: %w", fs.ErrNotExist), "install an ssh client", true},
	} {
		t.Run(name, func(t *testing.T) {
			e := &UnreachedError{At: journal.Peer{Name: "cp2", Host: "10.0.0.12"}, Typed: "ssh cp2 etcdpod agent",
				Cause: c.cause}
			cure, alive := e.cure()
			if !strings.Contains(cure, c.cure) || alive != c.alive {
				t.Errorf("%v: %s, alive: %v", e, cure, alive)
			}
		})
	}
	timedOut := &UnreachedError{At: journal.Peer{Name: "cp2", Host: "cp2"}, Typed: "timeout 20 ssh cp2 etcdpod agent",
		Cause: ended(124, "")}
	if cure, alive := timedOut.cure(); alive || !strings.Contains(cure, "exited with 124") {
		t.Errorf("what another program than ssh ends with is no sign of life: %s, alive: %v", cure, alive)
	}
}

// meeting is a node that meets cp2, which the test plays.
func meeting(emit func(engine.Event), far func(io.ReadWriteCloser)) *Node {
	n := NewNode(engine.Parts{Host: &node.Host{Clock: node.WallClock()}, Emit: emit}, observe.Node{})
	n.Connect = func(*journal.Cluster, journal.Peer) (io.ReadWriteCloser, error) {
		here, there := net.Pipe()
		go far(there)
		return here, nil
	}
	return n
}

var byHand = &journal.Cluster{SSHCommand: "ssh -l ops", RemoteCommand: "sudo -n etcdpod"}

func TestWhoIsWaitedForIsSaidBeforeTheAnswer(t *testing.T) {
	said := make(chan engine.Event, 9)
	n := meeting(func(e engine.Event) { said <- e }, func(conn io.ReadWriteCloser) {
		in := bufio.NewReader(conn)
		_, _ = in.ReadString('\n')
		e := <-said // answers only then
		_ = json.NewEncoder(conn).Encode(message{Answer: json.RawMessage(`{"Node":"cp2"}`)})
		said <- e
		_, _ = io.Copy(io.Discard, in)
	})
	p, err := n.Meet(t.Context(), "", byHand, journal.Peer{Name: "cp2", Host: "h2"}, nil, true)
	if err != nil {
		t.Fatal(err)
	}
	if e := <-said; e.Node != "cp2" || !e.Together ||
		e.Message != "waiting up to 21s for `ssh -l ops h2 sudo -n etcdpod agent`" {
		t.Errorf("it says %+v", e)
	}
	_ = p.Link.Close()
}

// A host that drops packets: nothing ever comes.
func TestANodeThatNeverAnswersIsGivenUpWithAWord(t *testing.T) {
	here, there := net.Pipe()
	go func() { _, _ = io.Copy(io.Discard, there) }()
	l := NewRemoteLink("cp2", here, func(engine.Event) {}, time.Millisecond)
	err := unreached(byHand, journal.Peer{Name: "cp2", Host: "h2"}, l.Ask(t.Context(), AskHello, nil, nil, nil))
	var why *UnreachedError
	if !errors.As(err, &why) ||
		err.Error() != "cp2 cannot be reached: `ssh -l ops h2 sudo -n etcdpod agent`: nothing was heard for 7ms" {
		t.Errorf("it says %v", err)
	}
}

// What keeps a run open comes with what cures it; a node that gives a sign of life is not lost.
func TestARunThatStaysOpenSaysTheCureFirst(t *testing.T) {
	reason := func(name, said string) error {
		return &UnreachedError{At: journal.Peer{Name: name, Host: name}, Typed: "ssh",
			Cause: &node.EndedError{Code: 255, Said: said}}
	}
	for name, c := range map[string]struct {
		why        map[string]error
		begins     string
		says       string
		proposesIt string // as lost; empty: nobody
	}{
		"keys are missing": {map[string]error{"cp2": reason("cp2", "Permission denied (publickey)"),
			"cp3": reason("cp3", "Permission denied (publickey)")}, "`ssh -n cp2 true` must work",
			"; the same for cp3; then run the command again", ""},
		"one is down": {map[string]error{"cp2": reason("cp2", "Host key verification failed"),
			"cp3": reason("cp3", "No route to host")}, "the host key of cp2 is not",
			"; start cp3, or fix", "cp3"},
		"one is busy": {map[string]error{"cp2": &journal.BusyError{}, "cp3": reason("cp3", "No route to host")},
			"wait until it has ended", "; start cp3, or fix the connection", "cp3"},
	} {
		t.Run(name, func(t *testing.T) {
			w := &Transaction{Node: meeting(nil, nil), Run: "r1"}
			for _, name := range []string{"cp2", "cp3"} {
				w.muted(name, c.why[name])
			}
			hint := w.advice()
			_, lost, proposed := strings.Cut(hint, "--lost ")
			if !strings.HasPrefix(hint, c.begins) || !strings.Contains(hint, c.says) ||
				proposed != (c.proposesIt != "") || lost != c.proposesIt {
				t.Errorf("it says %q", hint)
			}
		})
	}
}

func TestAnAgentTakesTheCommandOfTheNodeThatCoordinates(t *testing.T) {
	n := NewNode(engine.Parts{Host: &node.Host{}, Command: []string{"etcdpod", "agent"}}, observe.Node{})
	n.OwnName = func() (string, error) { return "cp2", nil }
	part := &Participant{Node: n.telling(func(engine.Event) {})}
	typed := []string{"etcdpod", "restore", "x"}
	if _, err := part.hello(t.Context(), HelloQuestion{Protocol: Protocol, Command: typed, Reading: true}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(part.Node.Command, " "); got != "etcdpod restore x" || n.Command[1] != "agent" {
		t.Errorf("it calls it %q", got)
	}
}

func TestAnAgentLeavesNoLockOnAMachineThatIsNoControlPlane(t *testing.T) {
	disk := node.OS(t.TempDir())
	n := NewNode(engine.Parts{Host: &node.Host{FS: disk, Clock: node.WallClock()}}, observe.Node{})
	n.Elsewhere = n.Look.CheckControlPlane
	part := &Participant{Node: n.telling(func(engine.Event) {})}
	if _, err := part.hello(t.Context(), HelloQuestion{Protocol: Protocol}); err == nil ||
		!strings.Contains(err.Error(), "this is not a control-plane node") {
		t.Errorf("it says %v", err)
	}
	if names, err := disk.ReadDir("/"); err != nil || len(names) > 0 {
		t.Errorf("it left %q, %v", names, err)
	}
	// A machine that was installed anew while a run was open has no record of it, and says so.
	part.Node.OwnName = func() (string, error) { return "cp2", nil }
	part.Node.Joints = []Joint{{Name: "restore"}}
	hello := HelloQuestion{Protocol: Protocol, Workflow: "restore", Run: "r1"}
	if answer, err := part.hello(t.Context(), hello); err != nil || answer.Node != "cp2" {
		t.Errorf("a run that is taken up: %+v, %v", answer, err)
	}
	if state, err := part.Load("r1"); err != nil || state.Begun {
		t.Errorf("it knows of the run: %+v, %v", state, err)
	}
	if names, err := disk.ReadDir("/"); err != nil || len(names) > 0 || part.leave() != nil {
		t.Errorf("it left %q, %v", names, err)
	}
}

// The others hold the commit record, so a node without any record may have ended the run: if its
// disk is another one by now, only --lost can say so.
func TestANodeThatLostItsRecordCanBeDeclaredLost(t *testing.T) {
	w := &Transaction{Node: meeting(nil, nil), Run: "r1"}
	w.Node.Host.FS = node.OS(t.TempDir())
	states := map[string]partState{"cp1": {Begun: true, Committed: true}, "cp2": {}}
	_, _, err := w.verdict(states, nil, false, nil)
	if hint := engine.Hint(err); !strings.Contains(err.Error(), "cp2 has no record of the run any more") ||
		strings.Contains(err.Error(), "%!") || !strings.Contains(hint, "`etcdpod runs` says on cp2") ||
		!strings.HasSuffix(hint, "--lost cp2") {
		t.Errorf("%v; hint: %s", err, hint)
	}
}

func TestEachEventOfOneOfSeveralNamesItsNode(t *testing.T) {
	var heard []engine.Event
	n := NewNode(engine.Parts{Host: &node.Host{}, Emit: func(e engine.Event) { heard = append(heard, e) }},
		observe.Node{})
	n.OwnName = func() (string, error) { return "cp1", nil }
	several := n.OneOfSeveral()
	several.Emit(engine.Event{Phase: "fence"})
	several.Look.Emit(engine.Event{Node: "host", Phase: "verify-snapshot"})
	several.Emit(engine.Event{Node: "cp2", Together: true})
	for i, want := range []string{"cp1", "cp1", "cp2"} {
		if heard[i].Node != want || !heard[i].Together {
			t.Errorf("%+v is not of %s", heard[i], want)
		}
	}
}
