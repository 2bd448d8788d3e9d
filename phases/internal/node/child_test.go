package node

import (
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// A child that died before it had a session of its own was ended by what was typed at the terminal:
// one that gets no session, and ends itself so, stands for it. One that has a session is not
// started again, however it ends.
func TestWhatEndsBeforeItHasItsOwnSessionIsStartedAgain(t *testing.T) {
	for _, test := range []struct {
		sessions []bool // of the first, the second …: whether it gets its own
		script   string
		want     int // how many are started
	}{
		{[]bool{true}, "kill -INT $$", 1},
		{[]bool{false, true}, "kill -INT $$", 2},
		{[]bool{false, false, true}, "echo came", 3},
		{[]bool{false, false, false}, "kill -INT $$", 3},
	} {
		begun := 0
		var out *strings.Builder
		cmd, err := start(func() (*exec.Cmd, error) {
			cmd := exec.Command("sh", "-c", test.script)
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: test.sessions[begun]}
			out = &strings.Builder{}
			cmd.Stdout = out
			begun++
			return cmd, nil
		})
		if err != nil || begun != test.want {
			t.Fatalf("%+v: %d are started, %v", test, begun, err)
		}
		if err := cmd.Wait(); (err == nil) != (out.String() == "came\n") {
			t.Errorf("%+v: the last one is not the one that is returned: %v, %q", test, err, out)
		}
	}
}
