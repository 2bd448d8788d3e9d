// Package leash holds a program that reports its steps, line by line, at its next line, so that a
// test can interrupt it while it waits, and need not be faster than the program.
package leash

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// Run starts the command with a leash on one of its streams, &cmd.Stdout or &cmd.Stderr, passes
// each line written there to at, and returns how the command ended. While at handles a line, the
// program runs up to its next line and waits there.
//
// So when at is called, what comes before the next line may or may not have happened, and what
// comes after it cannot have. etcdpod writes an event when it begins and finishes something, and
// journals in between:
//   - a phase begins, or an operation is finished: the program waits before the next
//     operation, which is not in the journal yet; the commit record may be, where it is due;
//   - an operation is started: at most it is over and journaled as finished; no event says so yet,
//     and nothing follows;
//   - the last operation is finished: the run is closed, or is about to be.
func Run(cmd *exec.Cmd, stream *io.Writer, at func(line string)) error {
	l, write, err := hold()
	if err != nil {
		return fmt.Errorf("cannot hold %s: %w", cmd.Path, err)
	}
	defer l.close()
	*stream = write
	err = cmd.Start()
	_ = write.Close()
	if err != nil {
		return err
	}
	waited := false
	defer func() { // at may end the goroutine, as a failing test does
		if !waited {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}()
	for {
		text, err := l.next()
		for line := range strings.Lines(text) {
			at(strings.TrimSuffix(line, "\n"))
		}
		if errors.Is(err, io.EOF) { // the other end is closed
			waited = true
			return cmd.Wait()
		}
		if err != nil {
			return fmt.Errorf("cannot read what %s says: %w", cmd.Path, err)
		}
	}
}

// leash is a pipe with room for one write: a page, and in packet mode, in which no two writes share
// one. tee(2) copies its content and leaves it there.
type leash struct {
	in            int    // what the program wrote
	shown, show   int    // the ends of the pipe that it is copied to
	full          bool   // in holds the last returned line
	buffer, begun []byte // begun: a line whose end has not been written yet
}

func hold() (*leash, *os.File, error) {
	var held, copied [2]int
	if err := unix.Pipe2(held[:], unix.O_CLOEXEC|unix.O_DIRECT); err != nil {
		return nil, nil, err
	}
	l := &leash{in: held[0], shown: -1, show: -1, buffer: make([]byte, 1<<16)}
	write := os.NewFile(uintptr(held[1]), "leash")
	err := unix.Pipe2(copied[:], unix.O_CLOEXEC)
	if err == nil {
		l.shown, l.show = copied[0], copied[1]
		err = onePage(l.in)
	}
	if err != nil {
		l.close()
		return nil, nil, errors.Join(err, write.Close())
	}
	return l, write, nil
}

func onePage(pipe int) error {
	size, err := unix.FcntlInt(uintptr(pipe), unix.F_SETPIPE_SZ, os.Getpagesize())
	if err == nil && size != os.Getpagesize() {
		err = fmt.Errorf("a pipe of %d bytes holds more than one write", size)
	}
	return err
}

// next frees the last returned line, and returns the next write, up to the end of a line. That
// stays in the pipe and fills it. io.EOF comes with the last write, or alone.
func (l *leash) next() (string, error) {
	for {
		if l.full {
			l.full = false
			if _, err := retry(func() (int, error) { return unix.Read(l.in, l.buffer) }); err != nil {
				return "", err
			}
		}
		n, err := retry(func() (int, error) {
			n, err := unix.Tee(l.in, l.show, len(l.buffer), 0)
			return int(n), err
		})
		if err != nil {
			return "", err
		}
		if n == 0 {
			rest := string(l.begun)
			l.begun = nil
			return rest, io.EOF
		}
		l.full = true
		if n, err = retry(func() (int, error) { return unix.Read(l.shown, l.buffer) }); err != nil {
			return "", err
		}
		l.begun = append(l.begun, l.buffer[:n]...)
		if bytes.HasSuffix(l.begun, []byte("\n")) {
			whole := string(l.begun)
			l.begun = nil
			return whole, nil
		}
	}
}

func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

func (l *leash) close() {
	for _, fd := range []int{l.in, l.shown, l.show} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}
