package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// cost is what a command took.
type cost struct {
	Wall   time.Duration
	CPU    time.Duration // user and system
	Memory int64         // bytes: the highest sample of the process's private memory
}

// then adds what is done after another thing.
func (c cost) then(next cost) cost {
	return cost{c.Wall + next.Wall, c.CPU + next.CPU, max(c.Memory, next.Memory)}
}

// sampleEvery is short: memory that is held for less goes unseen.
const sampleEvery = 10 * time.Millisecond

// measure runs a command to its end. What was written before is on disk first, so that nobody pays
// for anybody else's writes.
func measure(ctx context.Context, cmd *exec.Cmd) (cost, []byte, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	syscall.Sync()
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return cost{}, nil, err
	}
	done := make(chan struct{})
	peak := make(chan int64)
	go func() { peak <- watchMemory(cmd.Process.Pid, done) }()
	err := cmd.Wait()
	c := cost{Wall: time.Since(start)}
	if cmd.ProcessState != nil {
		c.CPU = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	close(done)
	c.Memory = <-peak
	if err != nil {
		return c, stdout.Bytes(), fmt.Errorf("cannot measure %s: %w\n%s%s",
			strings.Join(cmd.Args, " "), err, stdout.Bytes(), stderr.Bytes())
	}
	return c, stdout.Bytes(), ctx.Err()
}

// watchMemory returns the highest RssAnon that it saw (proc_pid_status(5)): heap and stacks, and
// what else a process does not share with the page cache.
func watchMemory(pid int, done <-chan struct{}) (peak int64) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		peak = max(peak, privateMemory(pid))
		select {
		case <-done:
			return peak
		case <-tick.C:
		}
	}
}

func privateMemory(pid int) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0 // it has ended
	}
	_, rest, _ := bytes.Cut(status, []byte("RssAnon:"))
	var kilobytes int64
	if _, err := fmt.Sscan(string(rest[:min(len(rest), 40)]), &kilobytes); err != nil {
		return 0 // it is ending, and has no memory any more
	}
	return kilobytes << 10
}
