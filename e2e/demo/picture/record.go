package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// recording is an asciicast: what was shown, and when.
type recording struct {
	Version int    `json:"version"`
	Width   int    `json:"width"`
	Height  int    `json:"height"`
	Title   string `json:"title"`

	shown []shown
}

// shown is a piece of output.
type shown struct {
	at   float64 // seconds since the begin
	text string
}

// The terminal of a recording.
const (
	columns = 100
	rows    = 30
)

// record runs a program on a terminal of its own. A program that fails leaves no recording.
func record(file, title string, command []string) error {
	terminal, end, err := openTerminal()
	if err != nil {
		return fmt.Errorf("cannot open a terminal: %w", err)
	}
	defer terminal.Close()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = end, end, end
	cmd.Env = append(os.Environ(), "TERM=xterm-256color")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	begun := time.Now()
	err = cmd.Start()
	end.Close()
	if err != nil {
		return err
	}
	r := recording{Version: 2, Width: columns, Height: rows, Title: title}
	for b := make([]byte, 1<<16); err == nil; {
		var n int
		n, err = terminal.Read(b)
		if n > 0 {
			r.shown = append(r.shown, shown{time.Since(begun).Seconds(), string(b[:n])})
		}
	}
	// EIO is what the last one to leave causes.
	if !errors.Is(err, syscall.EIO) && !errors.Is(err, io.EOF) {
		return errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%s failed: %w", command[0], err)
	}
	data, err := r.cast()
	if err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o644)
}

// openTerminal opens a pseudo-terminal: what is read from the one end is written at the other.
func openTerminal() (terminal, end *os.File, err error) {
	if terminal, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return nil, nil, err
	}
	number, err := unix.IoctlGetInt(int(terminal.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(terminal.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		end, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(int(terminal.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns})
	}
	return terminal, end, err
}

// cast writes a recording, line by line.
func (r recording) cast() ([]byte, error) {
	var b bytes.Buffer
	lines := json.NewEncoder(&b)
	lines.SetEscapeHTML(false)
	err := lines.Encode(r)
	for _, s := range r.shown {
		err = errors.Join(err, lines.Encode([]any{json.Number(fmt.Sprintf("%.3f", s.at)), "o", s.text}))
	}
	return b.Bytes(), err
}

// read reads a recording.
func read(data []byte) (recording, error) {
	var r recording
	lines := json.NewDecoder(bytes.NewReader(data))
	if err := lines.Decode(&r); err != nil {
		return r, fmt.Errorf("cannot read its first line: %w", err)
	}
	if r.Version != 2 || r.Width < 1 || r.Height < 1 {
		return r, fmt.Errorf("it is no asciicast of version 2: version %d, %d by %d", r.Version, r.Width, r.Height)
	}
	for {
		var at float64
		var kind, text string
		err := lines.Decode(&[]any{&at, &kind, &text})
		if errors.Is(err, io.EOF) {
			return r, nil
		}
		if err != nil {
			return r, err
		}
		if kind == "o" {
			r.shown = append(r.shown, shown{at, text})
		}
	}
}
