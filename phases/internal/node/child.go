package node

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
)

// start starts a program in a session of its own, so that what is typed at the terminal reaches
// neither it nor what it starts: all programs are started here. Until it has its session it still
// belongs to the terminal. If a Ctrl-C ends it in that moment, before it is the program at all, it
// is made and started again.
func start(program func() (*exec.Cmd, error)) (*exec.Cmd, error) {
	const most = 100 // no person presses Ctrl-C as often within that moment
	for again := 0; ; again++ {
		cmd, err := program()
		if err != nil {
			return nil, err
		}
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		if !neverRan(cmd.Process.Pid) || again == most {
			return cmd, nil
		}
		_ = cmd.Wait()
	}
}

// neverRan says whether a child of which Start has returned died without ever being the program.
// That it has a session tells nothing: a signal that came before may end it with one. The kernel
// knows, until somebody has waited for it: PF_FORKNOEXEC in the flags of proc_pid_stat(5) is
// cleared before the program closes what Start waits for (fs/exec.c: begin_new_exec).
func neverRan(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	// pid (name) state ppid pgrp session tty tpgid flags …, and a name may hold anything.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 7 {
		return false
	}
	flags, err := strconv.ParseUint(string(fields[6]), 10, 32)
	const forkedWithoutExec = 0x40
	return err == nil && flags&forkedWithoutExec != 0
}
