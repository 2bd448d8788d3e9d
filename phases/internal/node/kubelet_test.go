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

// scripts makes programs in a directory that is put first on the PATH, and returns that directory.
func scripts(t *testing.T, bodies map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, body := range bodies {
		ok(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\ncd "+dir+"\n"+body+"\n"), 0o755))
	}
	t.Setenv("PATH", dir+":/usr/bin:/bin")
	return dir
}

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
	}{{"active", true}, {"activating", true}, {"deactivating", true}, {"reloading", true}, {"inactive", false}, {"failed", false}, {"unknown", false}} {
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
	if got, want := string(calls), "is-active kubelet\nstop kubelet\nis-active kubelet\nis-active kubelet\n"; got != want {
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
		{"it goes on running", map[string]string{"status": "exit 0", "stop": "exit 0"}, node.Commands{Stop: "stop", Status: "status"},
			node.Kubelet.Stop, "cannot stop the kubelet: still running after 300ms", ""},
		{"the stop command hangs", map[string]string{"status": "exit 0", "stop": "sleep 100"}, node.Commands{Stop: "stop", Status: "status"},
			node.Kubelet.Stop, "cannot stop the kubelet: still running after 300ms", ""},
		{"the start command hangs", map[string]string{"start": "sleep 100"}, node.Commands{Start: "start"},
			node.Kubelet.Start, "cannot start the kubelet: its command has not ended after 300ms", ""},
		{"the stop command fails", map[string]string{"status": "exit 0", "stop": "echo one; echo it is stuck >&2; echo; exit 7"}, node.Commands{Stop: "stop it", Status: "status"},
			node.Kubelet.Stop, "cannot stop the kubelet: stop it: exit status 7: it is stuck", ""},
		{"the status is an error of its own", map[string]string{"status": "echo confused; exit 5"}, node.Commands{Status: "status"},
			running, "cannot tell whether the kubelet runs: status: exit status 5: confused", ""},
		{"systemd does not know it", map[string]string{"systemctl": "echo inactive; exit 4"}, node.Commands{},
			running, "cannot tell whether the kubelet runs: systemd knows no unit kubelet", "--kubelet-status-command"},
		{"there is no bus", map[string]string{"systemctl": "echo 'Failed to connect to bus'; exit 1"}, node.Commands{},
			running, "cannot tell whether the kubelet runs: systemctl is-active kubelet: exit status 1: Failed to connect to bus", ""},
		{"a quote is open", nil, node.Commands{Start: "start 'it"},
			node.Kubelet.Start, `cannot start the kubelet: cannot read the command "start 'it": a quote is not closed`, ""},
		{"a command of blanks", nil, node.Commands{Start: "  "}, node.Kubelet.Start, `cannot start the kubelet: the command "  " is empty`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			scripts(t, c.scripts)
			c.cmds.Wait = 300 * time.Millisecond
			begun := time.Now()
			checkError(t, c.do(node.Service(node.Run, c.cmds), t.Context()), c.want, c.hint)
			if took := time.Since(begun); took > 3*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

func TestWithoutSystemctlTheHintNamesTheFlags(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	err := node.Service(node.Run, node.Commands{}).Stop(t.Context())
	checkError(t, err, "cannot stop the kubelet: systemctl is not on the PATH", "--kubelet-stop-command, --kubelet-start-command")
}

func TestTheCallersDeadlineIsNotTheKubeletsFault(t *testing.T) {
	scripts(t, map[string]string{"status": "exit 0", "stop": "sleep 100"})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	is(t, node.Service(node.Run, node.Commands{Stop: "stop", Status: "status"}).Stop(ctx), context.DeadlineExceeded)
}

func TestADaemonThatKeepsItsOutputNeitherHoldsUpNorDies(t *testing.T) {
	dir := scripts(t, map[string]string{"start": `(sleep 0.3; echo still there; echo alive > alive; exec sleep 0.1) & echo started`})
	begun := time.Now()
	ok(t, node.Service(node.Run, node.Commands{Start: "start"}).Start(t.Context()))
	if took := time.Since(begun); took > 250*time.Millisecond {
		t.Errorf("starting took %s", took)
	}
	for range 50 {
		if _, err := os.Stat(filepath.Join(dir, "alive")); err == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Error("the daemon died of its output")
}

func TestTheEndOfTheContextKillsChildrenToo(t *testing.T) {
	dir := scripts(t, map[string]string{"start": `(sleep 0.6; touch survived) & wait`})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	is(t, node.Run(ctx, []string{"start"}), context.DeadlineExceeded)
	time.Sleep(900 * time.Millisecond)
	if _, err := os.Stat(filepath.Join(dir, "survived")); err == nil {
		t.Error("a child went on")
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
		{`"a`, nil, "a quote is not closed"},
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

// checkError holds an error to its text, and its hint to what it must mention.
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
