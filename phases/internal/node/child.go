package node

import (
	"os/exec"

	"golang.org/x/sys/unix"
)

// start starts a program in a session of its own, so that what is typed at the terminal reaches
// neither it nor what it starts: all programs are started here. Until it has its session it still
// belongs to the terminal. If a Ctrl-C ends it in that moment, before it is the program at all, it
// is made and started again.
func start(program func() (*exec.Cmd, error)) (*exec.Cmd, error) {
	for again := 0; ; again++ {
		cmd, err := program()
		if err != nil {
			return nil, err
		}
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		// By now it has become the program, or it is dead; and what is dead keeps its session until
		// it is waited for.
		pid := cmd.Process.Pid
		if session, err := unix.Getsid(pid); err != nil || session == pid || again == 2 {
			return cmd, nil
		}
		_ = cmd.Wait()
	}
}
