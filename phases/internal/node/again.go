package node

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	goruntime "runtime"
	"strings"
	"syscall"
	"time"
)

// CrashedError is a process that [Again] started and that did not end well.
type CrashedError struct {
	How  string // "exit status 2", "signal: killed"
	Said string // the first paragraph on its standard error: of a crash, what precedes the trace
}

func (e *CrashedError) Error() string { return e.Said + " (" + e.How + ")" }

// Again runs this very program once more, whatever has its name by now, to do what may end a
// process, and returns what it writes. The program reads what in writes, if it is not nil, and has
// files from descriptor 3 on. It is in its own session, so an interrupt typed at the terminal does
// not reach it; it ends with the context, and with this process, however that ends.
func Again(ctx context.Context, args []string, files []*os.File, in func(io.Writer) error) ([]byte, error) {
	var out bytes.Buffer
	said := &head{}
	goruntime.LockOSThread() // the kernel watches the thread that started it
	defer goruntime.UnlockOSThread()
	var stdin io.WriteCloser
	cmd, err := start(func() (_ *exec.Cmd, err error) {
		cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
		cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = &out, said, files
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
		cmd.WaitDelay = time.Second
		stdin, err = cmd.StdinPipe()
		return cmd, err
	})
	if err == nil {
		go feed(stdin, in)
		err = cmd.Wait()
	}
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		return nil, &CrashedError{How: failed.String(), Said: said.first()}
	}
	return out.Bytes(), err
}

// feed ends with the program: then nobody reads any more. A program that lacks something says so.
func feed(stdin io.WriteCloser, in func(io.Writer) error) {
	if in != nil {
		_ = in(stdin)
	}
	_ = stdin.Close()
}

// head keeps the beginning of what is written to it.
type head struct{ data []byte }

func (h *head) Write(b []byte) (int, error) {
	const most = 4096
	h.data = append(h.data, b[:min(len(b), most-len(h.data))]...)
	return len(b), nil
}

// first returns the first paragraph on one line.
func (h *head) first() string {
	text, _, _ := strings.Cut(strings.TrimSpace(string(h.data)), "\n\n")
	return strings.ReplaceAll(text, "\n", "; ")
}
