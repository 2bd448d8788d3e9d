package leash_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/e2e/leash"
)

// counts writes numbers, and before each creates a file of that name.
const counts = `for i in 1 2 3 4 5 6 7 8 9; do : > "$0/$i"; echo "$i"; done`

func there(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func TestAProgramGetsNoFurtherThanItsNextLine(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", counts, dir)
	var seen []string
	if err := leash.Run(cmd, &cmd.Stdout, func(line string) {
		seen = append(seen, line)
		// It reaches the next line, and has made its file; there is no room for another line.
		for next := len(seen) + 1; next <= 9 && !there(filepath.Join(dir, fmt.Sprint(next))); {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(20 * time.Millisecond)
		if made, err := os.ReadDir(dir); err != nil || len(made) > len(seen)+1 {
			t.Errorf("at line %s there are %d files: %v", line, len(made), err)
		}
	}); err != nil {
		t.Error(err)
	}
	if got := strings.Join(seen, ""); got != "123456789" {
		t.Errorf("its lines are %q", seen)
	}
}

func TestAProgramThatIsKilledAtALineNeverWritesTheOneAfterTheNext(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", counts, dir)
	var seen []string
	err := leash.Run(cmd, &cmd.Stdout, func(line string) {
		seen = append(seen, line)
		if line == "4" {
			if err := cmd.Process.Kill(); err != nil {
				t.Error(err)
			}
		}
	})
	if err == nil || err.Error() != "signal: killed" || cmd.ProcessState.ExitCode() != -1 {
		t.Errorf("it ended with %v", err)
	}
	if !slices.Equal(seen[:4], []string{"1", "2", "3", "4"}) || len(seen) > 5 {
		t.Errorf("its lines are %q", seen)
	}
	if there(filepath.Join(dir, "6")) {
		t.Error("it went on")
	}
}

func TestLinesComeWholeHoweverTheyAreWritten(t *testing.T) {
	long := strings.Repeat("long ", 20_000)
	for _, c := range []struct{ script, want string }{
		{`printf one; printf 'two\n'; printf 'three\nfour\n\nfive'`, "onetwo|three|four||five"},
		{`printf '%s\n' "` + long + `" end`, long + "|end"},
		{`exit 0`, ""},
	} {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", c.script)
		var seen []string
		err := leash.Run(cmd, &cmd.Stdout, func(line string) { seen = append(seen, line) })
		if err != nil {
			t.Error(err)
		}
		if got := strings.Join(seen, "|"); got != c.want {
			t.Errorf("%.60q gives %.60q", c.script, got)
		}
	}
}

func TestEitherStreamIsHeldAndTheExitCodeIsTold(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "echo out; echo err >&2; exit 3")
	var seen []string
	err := leash.Run(cmd, &cmd.Stderr, func(line string) { seen = append(seen, line) })
	if err == nil || cmd.ProcessState.ExitCode() != 3 || !slices.Equal(seen, []string{"err"}) {
		t.Errorf("%v, %q", err, seen)
	}
	absent := exec.Command(filepath.Join(t.TempDir(), "absent"))
	if err := leash.Run(absent, &absent.Stdout, func(string) {}); err == nil {
		t.Error("what is not there was run")
	}
}

func TestATestThatGivesUpLeavesNoProcess(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "sh", "-c", counts, t.TempDir())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = leash.Run(cmd, &cmd.Stdout, func(string) { runtime.Goexit() })
	}()
	<-ended
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != -1 {
		t.Errorf("it is %v", cmd.ProcessState)
	}
}
