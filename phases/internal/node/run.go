package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Runner runs one program to its end. A program that ran and failed returns an *ExitError; a
// missing one, an error that wraps exec.ErrNotFound or fs.ErrNotExist.
type Runner func(ctx context.Context, argv []string) error

// ErrNoProgram says that no program of a name is on the PATH.
var ErrNoProgram = exec.ErrNotFound

// ExitError is a program that ran and failed.
type ExitError struct {
	Command string
	Code    int    // exit code; -1 if a signal ended it
	Last    string // the last line that it wrote
	Reason  string // "exit status 1", "signal: killed"
}

func (e *ExitError) Error() string {
	if e.Last == "" {
		return fmt.Sprintf("%s: %s", e.Command, e.Reason)
	}
	return fmt.Sprintf("%s: %s: %s", e.Command, e.Reason, e.Last)
}

// Run is the Runner of this machine. The program gets its own session: an interrupt typed at the
// terminal reaches neither it nor a kubelet that it started. When the context ends, the program and
// its children are killed.
func Run(ctx context.Context, argv []string) error {
	output, err := newOutput()
	if err != nil {
		return fmt.Errorf("cannot run %s: %w", argv[0], err)
	}
	defer func() {
		// A daemon that still writes here must not fill the memory.
		_, _ = unix.FcntlInt(output.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_GROW)
		_ = output.Close()
	}()
	cmd, err := start(func() (*exec.Cmd, error) {
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		cmd.Stdout, cmd.Stderr = output, output
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
		cmd.WaitDelay = time.Second
		return cmd, nil
	})
	if err == nil {
		err = cmd.Wait()
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", argv[0], ctx.Err())
	}
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		return &ExitError{Command: strings.Join(argv, " "), Code: failed.ExitCode(),
			Last: lastLine(output), Reason: failed.String()}
	}
	return err
}

// newOutput returns memory to write to. A pipe would not do: a daemon left behind by the program
// keeps its end open, so waiting would never end, or closing our end would kill it with SIGPIPE.
func newOutput() (*os.File, error) {
	fd, err := unix.MemfdCreate("output", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "output"), nil
}

// lastLine returns the last line that is not blank, from the last 4 KiB.
func lastLine(output *os.File) string {
	const most = 4096
	size, err := output.Seek(0, io.SeekEnd)
	if err != nil {
		return ""
	}
	text := make([]byte, min(size, most))
	n, err := output.ReadAt(text, size-int64(len(text)))
	if err != nil && !errors.Is(err, io.EOF) {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(text[:n])), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
