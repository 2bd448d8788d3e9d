package node

import (
	"bytes"
	"context"
	"errors"
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
// process, and returns what it writes. The program has in at its standard input, and files from
// descriptor 3 on. It is in its own session, so an interrupt typed at the terminal does not reach
// it; it ends with the context, and with this process, however that ends.
func Again(ctx context.Context, args []string, files []*os.File, in []byte) ([]byte, error) {
	var out bytes.Buffer
	said := &head{}
	goruntime.LockOSThread() // the kernel watches the thread that started it
	defer goruntime.UnlockOSThread()
	cmd, err := start(func() (*exec.Cmd, error) {
		cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = bytes.NewReader(in), &out, said, files
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
		cmd.WaitDelay = time.Second
		return cmd, nil
	})
	if err == nil {
		err = cmd.Wait()
	}
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		return nil, &CrashedError{How: failed.String(), Said: said.first()}
	}
	return out.Bytes(), err
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
