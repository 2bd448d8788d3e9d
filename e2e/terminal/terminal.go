// Package terminal plays a person at a pseudo-terminal: it types, waits for what is shown, and
// tells what stays on the screen.
package terminal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// Terminal is a program at a terminal of its own.
type Terminal struct {
	person *os.File
	cmd    *exec.Cmd
	ended  chan error
	over   chan struct{} // closed at the end

	columns int

	mu    sync.Mutex
	shown strings.Builder
}

// Start runs the command at a terminal with so many columns. What it writes anywhere is shown.
func Start(cmd *exec.Cmd, columns uint16) (*Terminal, error) {
	person, tty, err := open(columns)
	if err != nil {
		return nil, fmt.Errorf("cannot open a terminal: %w", err)
	}
	defer func() { _ = tty.Close() }()
	cmd.Env = append(cmd.Env, "TERM=xterm")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setsid, cmd.SysProcAttr.Setctty = true, true
	if err := cmd.Start(); err != nil {
		_ = person.Close()
		return nil, fmt.Errorf("cannot start %s at a terminal: %w", cmd.Path, err)
	}
	t := &Terminal{person: person, cmd: cmd, ended: make(chan error, 1),
		over: make(chan struct{}), columns: int(columns)}
	gathered := make(chan struct{})
	go func() {
		defer close(gathered)
		_, _ = io.Copy(t, person) // EIO when the last program has closed it
	}()
	go func() {
		err := cmd.Wait()
		<-gathered
		// A read that found nothing answers EIO although the program wrote and closed meanwhile
		// (n_tty_read asks for the one, then for the other): what it wrote is there for the next.
		_, _ = io.Copy(t, person)
		t.ended <- err
		close(t.over)
	}()
	return t, nil
}

// open opens a terminal, at both its ends. Ctrl-C throws nothing away there: by default it takes
// with it what was written and not read yet, and on a busy machine that may be lines of the screen.
func open(columns uint16) (person, tty *os.File, err error) {
	person, tty, err = pty.Open()
	if err != nil {
		return nil, nil, err
	}
	modes, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err == nil {
		modes.Lflag |= unix.NOFLSH
		err = errors.Join(unix.IoctlSetTermios(int(tty.Fd()), unix.TCSETS, modes),
			pty.Setsize(tty, &pty.Winsize{Rows: 50, Cols: columns}))
	}
	if err != nil {
		_, _ = person.Close(), tty.Close()
		return nil, nil, err
	}
	return person, tty, nil
}

// Write gathers what is shown.
func (t *Terminal) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.shown.Write(p)
}

// Interrupt is what Ctrl-C types.
const Interrupt = "\x03"

// Type types text.
func (t *Terminal) Type(text string) error {
	_, err := io.WriteString(t.person, text)
	return err
}

// Hang closes the terminal under the program, as a lost connection does.
func (t *Terminal) Hang() error { return t.person.Close() }

// WaitFor returns when the text was shown so many times, however its lines were broken.
func (t *Terminal) WaitFor(ctx context.Context, times int, text string) error {
	wanted := joined(text)
	for {
		if strings.Count(joined(t.Text()), wanted) >= times {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%q was not shown %d times in\n%s", text, times, t.Screen())
		case err := <-t.ended:
			t.ended <- err
			if strings.Count(joined(t.Text()), wanted) >= times {
				return nil
			}
			return fmt.Errorf("the program ended (%v), and %q was not shown %d times in\n%s",
				err, text, times, t.Screen())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Ended is closed when the program has ended.
func (t *Terminal) Ended() <-chan struct{} { return t.over }

// End waits for the program's end, and returns its exit code; -1 if a signal ended it.
func (t *Terminal) End(ctx context.Context) (int, error) {
	select {
	case err := <-t.ended:
		t.ended <- err // for who waits for what it has shown
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			return 0, err
		}
		_ = t.person.Close()
		return t.cmd.ProcessState.ExitCode(), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("the program has not ended: %w; it shows\n%s", ctx.Err(), t.Screen())
	}
}

// Text is all that was written.
func (t *Terminal) Text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.shown.String()
}

func joined(text string) string {
	return strings.Join(strings.Fields(escapes.ReplaceAllString(text, "")), " ")
}

var escapes = regexp.MustCompile("\x1b\\[[0-9;]*[A-Za-z]")
