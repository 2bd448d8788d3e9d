package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"path"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Connect starts a program and returns its standard streams as one connection. Closing it ends the program's input, gives it a second to end, and kills it.
// The program is in a session of its own: an interrupt typed at the terminal does not reach it.
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

// Read tells, when the program has ended, what it said last: of ssh that is why it could not connect.
func (c *connection) Read(b []byte) (int, error) {
	n, err := c.out.Read(b)
	if errors.Is(err, io.EOF) {
		time.Sleep(50 * time.Millisecond) // what it said comes by another pipe
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
		_ = c.cmd.Wait() // how it ended tells nothing more
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

// Receive writes size bytes of a stream into a file, 0600. The file gets its name when it is whole, durable, and of that SHA-256 (hex).
func Receive(ctx context.Context, fsys FS, name string, from io.Reader, size int64, sum string, progress func(done, total int64)) error {
	temp := path.Join(path.Dir(name), "."+path.Base(name)+".part")
	if err := fsys.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := fsys.Create(temp, nil, Mine(0o600)); err != nil {
		return err
	}
	if err := receive(ctx, fsys, temp, from, size, sum, progress); err != nil {
		return errors.Join(err, fsys.Remove(temp))
	}
	return Move(fsys, temp, name)
}

// syncEvery bounds how long the last sync of a large file can take: whoever sends it takes a long silence for a connection that is cut. Bytes, a multiple of the buffer.
const syncEvery = 64 << 20

func receive(ctx context.Context, fsys FS, temp string, from io.Reader, size int64, sum string, progress func(done, total int64)) error {
	hash := sha256.New()
	buffer := make([]byte, 1<<20)
	for done := int64(0); done < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		part := buffer[:min(int64(len(buffer)), size-done)]
		n, err := io.ReadFull(from, part)
		if err != nil {
			return fmt.Errorf("it ended after %d of %d bytes: %w", done+int64(n), size, err)
		}
		_, _ = hash.Write(part) // never fails
		if err := fsys.Append(temp, part); err != nil {
			return err
		}
		done += int64(n)
		progress(done, size)
		if done%syncEvery == 0 {
			if err := fsys.Sync(temp); err != nil {
				return err
			}
		}
	}
	if got := fmt.Sprintf("%x", hash.Sum(nil)); got != sum {
		return fmt.Errorf("its SHA-256 is %s here, and %s where it came from", got, sum)
	}
	return fsys.Sync(temp)
}
