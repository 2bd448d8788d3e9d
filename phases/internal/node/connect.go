package node

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Connect starts a program and returns its standard streams as one connection. Close ends the
// program's input, gives it two seconds to exit, and kills it. The program has its own session, so
// an interrupt typed at the terminal does not reach it. Once the program is over, Read returns an
// [*EndedError].
func Connect(argv []string) (io.ReadWriteCloser, error) {
	c := &connection{over: make(chan struct{})}
	var err error
	c.cmd, err = start(func() (*exec.Cmd, error) {
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		cmd.WaitDelay = time.Second
		c.said = &tail{}
		cmd.Stderr = c.said
		var err error
		if c.WriteCloser, err = cmd.StdinPipe(); err != nil {
			return nil, err
		}
		c.out, err = cmd.StdoutPipe()
		return cmd, err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot run %s: %w", argv[0], err)
	}
	return c, nil
}

// EndedError is the end of a program that was connected to.
type EndedError struct {
	Code int    // exit code; -1 if a signal ended it, or if it only closed its output
	Said string // the end of what it wrote to its standard error: for ssh, why it could not connect
}

func (e *EndedError) Error() string {
	switch {
	case e.Said != "":
		return e.Said
	case e.Code < 0:
		return "it ended"
	}
	return fmt.Sprintf("it ended with exit code %d", e.Code)
}

type connection struct {
	io.WriteCloser
	out  io.Reader
	cmd  *exec.Cmd
	said *tail
	wait sync.Once
	over chan struct{} // closed when the program has exited
}

func (c *connection) Read(b []byte) (int, error) {
	n, err := c.out.Read(b)
	if err == nil || n > 0 {
		return n, nil
	}
	ended := &EndedError{Code: -1}
	if errors.Is(err, io.EOF) && c.exits() {
		ended.Code = c.cmd.ProcessState.ExitCode()
	}
	ended.Said = c.said.last()
	return 0, ended
}

// exits gives the program time to exit, longer than WaitDelay, and says whether it did. Then all
// that it wrote to its standard error has arrived.
func (c *connection) exits() bool {
	c.wait.Do(func() {
		go func() {
			_ = c.cmd.Wait() // its exit status is in ProcessState
			close(c.over)
		}()
	})
	select {
	case <-c.over:
		return true
	case <-time.After(2 * time.Second):
		return false
	}
}

func (c *connection) Close() error {
	err := c.WriteCloser.Close()
	if !c.exits() {
		_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL)
		<-c.over
	}
	return err
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	data []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	const most = 4096
	t.data = append(t.data, b...)
	t.data = t.data[max(0, len(t.data)-most):]
	return len(b), nil
}

// last returns the last lines on one: of a host key that has changed, ssh tells where it is kept
// two lines before its last.
func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var lines []string
	for _, line := range strings.Split(string(t.data), "\n") {
		if line = strings.TrimRight(strings.TrimSpace(line), "."); line != "" {
			lines = append(lines, line)
		}
	}
	const most = 3
	return strings.Join(lines[max(0, len(lines)-most):], "; ")
}
