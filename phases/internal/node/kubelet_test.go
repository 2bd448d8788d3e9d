package node_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// scripts makes programs in a directory that comes first in the PATH, and returns that directory.
func scripts(t *testing.T, bodies map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, body := range bodies {
		ok(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\ncd "+dir+"\n"+body+"\n"), 0o755))
	}
	t.Setenv("PATH", dir+":/usr/bin:/bin")
	return dir
}

// forever is the body of a script that must be killed: waiting for it hangs.
const forever = "exec sleep 100000"

// systemd is a systemctl that keeps the unit's state in a file and its calls in another.
const systemd = `echo "$@" >> calls
case $1 in
is-active) cat state; test "$(cat state)" = active && exit 0; exit 3 ;;
stop) echo inactive > state ;;
start) echo active > state ;;
esac`

func TestTheKubeletIsStoppedAndStartedThroughSystemctl(t *testing.T) {
	dir := scripts(t, map[string]string{"systemctl": systemd})
	k := node.Service(node.Run, node.Commands{})
	for _, c := range []struct {
		state   string
		running bool
	}{
		{"active", true}, {"activating", true}, {"deactivating", true},
		{"reloading", true}, {"inactive", false}, {"failed", false}, {"unknown", false},
	} {
		ok(t, os.WriteFile(filepath.Join(dir, "state"), []byte(c.state+"\n"), 0o600))
		if running, err := k.Running(t.Context()); err != nil || running != c.running {
			t.Errorf("%s: running is %v, %v", c.state, running, err)
		}
	}
	ok(t, k.Start(t.Context()))
	ok(t, os.Remove(filepath.Join(dir, "calls")))
	ok(t, k.Stop(t.Context()))
	ok(t, k.Stop(t.Context()))
	calls, err := os.ReadFile(filepath.Join(dir, "calls"))
	ok(t, err)
	if got, want := string(calls),
		"is-active kubelet\nstop kubelet\nis-active kubelet\nis-active kubelet\n"; got != want {
		t.Errorf("calls are %q, want %q", got, want)
	}
}

func TestTheKubeletThroughCommandsThatFlagsName(t *testing.T) {
	dir := scripts(t, map[string]string{
		"status": `test -e running`, "stop": `rm -f running; echo "$#:$1" > stopped`, "start": `touch running`,
	})
	k := node.Service(node.Run, node.Commands{Stop: dir + "/stop 'two words; $HOME'", Start: "start", Status: "status"})
	ok(t, k.Start(t.Context()))
	if running, err := k.Running(t.Context()); err != nil || !running {
		t.Fatalf("running is %v, %v", running, err)
	}
	ok(t, k.Stop(t.Context()))
	if running, err := k.Running(t.Context()); err != nil || running {
		t.Fatalf("running is %v, %v", running, err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "stopped")); err != nil || string(got) != "1:two words; $HOME\n" {
		t.Errorf("a shell read the command: %q, %v", got, err)
	}
}

func TestWhatTheKubeletsCommandsCanDoWrong(t *testing.T) {
	for _, c := range []struct {
		name    string
		scripts map[string]string
		cmds    node.Commands
		do      func(node.Kubelet, context.Context) error
		want    string
		hint    string
	}{
		{"it goes on running", map[string]string{"status": "exit 0", "stop": "exit 0"},
			node.Commands{Stop: "stop", Status: "status"},
			node.Kubelet.Stop, "cannot stop the kubelet: still running after 300ms", ""},
		{"the stop command hangs", map[string]string{"status": "exit 0", "stop": forever},
			node.Commands{Stop: "stop", Status: "status"}, node.Kubelet.Stop,
			"cannot stop the kubelet: still running after 300ms", ""},
		{"the start command hangs", map[string]string{"start": forever}, node.Commands{Start: "start"},
			node.Kubelet.Start, "cannot start the kubelet: its command is still running after 300ms", ""},
		{"the stop command fails", map[string]string{"status": "exit 0",
			"stop": "echo one; echo it is stuck >&2; echo; exit 7"}, node.Commands{Stop: "stop it", Status: "status"},
			node.Kubelet.Stop, "cannot stop the kubelet: stop it: exit status 7: it is stuck", ""},
		{"the status is an error of its own", map[string]string{"status": "echo confused; exit 5"},
			node.Commands{Status: "status"},
			running, "cannot determine whether the kubelet runs: status: exit status 5: confused", ""},
		{"systemd does not know it", map[string]string{"systemctl": "echo inactive; exit 4"}, node.Commands{},
			running, "cannot determine whether the kubelet runs: systemd knows no unit " +
				"kubelet", "--kubelet-status-command"},
		{"there is no bus", map[string]string{"systemctl": "echo 'Failed to connect to bus'; exit 1"}, node.Commands{},
			running, "cannot determine whether the kubelet runs: systemctl is-active kubelet: exit " +
				"status 1: Failed to connect to bus", ""},
		{"a quote is open", nil, node.Commands{Start: "start 'it"},
			node.Kubelet.Start,
			`cannot start the kubelet: cannot read the command "start 'it": an unclosed quote`, ""},
		{"a command of blanks", nil, node.Commands{Start: "  "},
			node.Kubelet.Start, `cannot start the kubelet: the command "  " is empty`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			scripts(t, c.scripts)
			// A command that answers gets all the time that it takes.
			if strings.HasSuffix(c.want, "after 300ms") {
				c.cmds.Wait = 300 * time.Millisecond
			}
			checkError(t, c.do(node.Service(node.Run, c.cmds), t.Context()), c.want, c.hint)
		})
	}
}

func TestWithoutSystemctlTheHintNamesTheFlags(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	err := node.Service(node.Run, node.Commands{}).Stop(t.Context())
	checkError(t, err, "cannot stop the kubelet: systemctl is not on the PATH",
		"--kubelet-stop-command, --kubelet-start-command")
}

func TestTheCallersDeadlineIsNotTheKubeletsFault(t *testing.T) {
	scripts(t, map[string]string{"status": "exit 0", "stop": forever})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	is(t, node.Service(node.Run, node.Commands{Stop: "stop", Status: "status"}).Stop(ctx), context.DeadlineExceeded)
}

func TestADaemonThatKeepsItsOutputNeitherHoldsUpNorDies(t *testing.T) {
	dir := scripts(t, map[string]string{"start": `(until test -e go; do sleep 0.02; done
echo still there; echo alive > alive; exec sleep 0.1) & echo started`})
	// It cannot have ended.
	ok(t, node.Service(node.Run, node.Commands{Start: "start"}).Start(t.Context()))
	ok(t, os.WriteFile(filepath.Join(dir, "go"), nil, 0o600))
	eventually(t, "the daemon has outlived its output", func() bool { return exists(filepath.Join(dir, "alive")) })
}

func TestTheEndOfTheContextKillsChildrenToo(t *testing.T) {
	dir := scripts(t, map[string]string{"start": `sh -c 'echo $$ > pid.new; mv pid.new pid; ` + forever + `' & wait`})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- node.Run(ctx, []string{"start"}) }()
	eventually(t, "there is a child", func() bool { return exists(filepath.Join(dir, "pid")) })
	cancel()
	is(t, <-ended, context.Canceled)
	pid, err := os.ReadFile(filepath.Join(dir, "pid"))
	ok(t, err)
	eventually(t, "the child has ended", func() bool {
		line, err := os.ReadFile(filepath.Join("/proc", strings.TrimSpace(string(pid)), "cmdline"))
		return err != nil || len(line) == 0 // gone, or a zombie
	})
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// eventually waits until something holds. Its limit only ends a hang.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Minute); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestSplitWordsAsAShell(t *testing.T) {
	for _, c := range []struct {
		line string
		want []string
		err  string
	}{
		{"", nil, ""},
		{" \t\n", nil, ""},
		{"a b\tc\n", []string{"a", "b", "c"}, ""},
		{`a 'b c' "d e"`, []string{"a", "b c", "d e"}, ""},
		{`a''b"c"d`, []string{"abcd"}, ""},
		{`'' ""`, []string{"", ""}, ""},
		{`a\ b \'`, []string{"a b", "'"}, ""},
		{`"a\"b\c"`, []string{`a"b\c`}, ""},
		{`'a\'`, []string{`a\`}, ""},
		{"a\\\nb", []string{"ab"}, ""},
		{`$HOME * #x`, []string{"$HOME", "*", "#x"}, ""},
		{`"a`, nil, "an unclosed quote"},
		{`a\`, nil, "it ends with a backslash"},
	} {
		got, err := node.SplitWords(c.line)
		if (err == nil) != (c.err == "") || (err != nil && err.Error() != c.err) || !reflect.DeepEqual(got, c.want) {
			t.Errorf("SplitWords(%q) = %q, %v, want %q, %q", c.line, got, err, c.want, c.err)
		}
	}
}

func FuzzSplitWords(f *testing.F) {
	f.Add(`a 'b c' "d\"e" f\ g`)
	f.Fuzz(func(t *testing.T, line string) {
		words, err := node.SplitWords(line)
		if err != nil {
			return
		}
		quoted := make([]string, len(words))
		for i, word := range words {
			quoted[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
		again, err := node.SplitWords(strings.Join(quoted, " "))
		if err != nil || strings.Join(again, "\x00") != strings.Join(words, "\x00") {
			t.Errorf("%q gives %q, then %q, %v", line, words, again, err)
		}
	})
}

func running(k node.Kubelet, ctx context.Context) error {
	_, err := k.Running(ctx)
	return err
}

// checkError compares an error with its text, and checks what its hint must mention.
func checkError(t *testing.T, err error, want, hint string) {
	t.Helper()
	if err == nil || err.Error() != want {
		t.Errorf("error is %v, want %s", err, want)
	}
	var hinted interface{ Hint() string }
	if has := errors.As(err, &hinted); has != (hint != "") || (has && !strings.Contains(hinted.Hint(), hint)) {
		t.Errorf("the hint of %v is not one of %q", err, hint)
	}
}
