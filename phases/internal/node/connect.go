package node

import (
	"bytes"
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
// program's input, gives it a second to exit, and kills it. The program has its own session, so an
// interrupt typed at the terminal does not reach it.
func Connect(argv []string) (io.ReadWriteCloser, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	said := &tail{}
	cmd.Stderr = said
	cmd.WaitDelay = time.Second
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("cannot run %s: %w", argv[0], err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("cannot run %s: %w", argv[0], err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot run %s: %w", argv[0], err)
	}
	return &connection{WriteCloser: in, out: out, cmd: cmd, said: said}, nil
}

type connection struct {
	io.WriteCloser
	out  io.Reader
	cmd  *exec.Cmd
	said *tail
}

// Read reports the program's last words when it has ended: for ssh, why it could not connect.
func (c *connection) Read(b []byte) (int, error) {
	n, err := c.out.Read(b)
	if errors.Is(err, io.EOF) {
		time.Sleep(50 * time.Millisecond) // the last words come through another pipe
		if last := c.said.last(); last != "" {
			err = fmt.Errorf("%s: %s", c.cmd.Args[0], last)
		}
	}
	return n, err
}

func (c *connection) Close() error {
	err := c.WriteCloser.Close()
	ended := make(chan struct{})
	go func() {
		_ = c.cmd.Wait() // its exit status adds nothing
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(time.Second):
		_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL)
		<-ended
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

func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.Split(string(bytes.TrimSpace(t.data)), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
