package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/etcdpod/etcdpod/phases/defrag"
	"github.com/etcdpod/etcdpod/phases/engine"
)

// terminal is a pseudo-terminal: what is written to person arrives as if typed, and the output of
// program is collected.
type terminal struct {
	person, program *os.File
	mu              sync.Mutex
	shown           strings.Builder
}

func newTerminal(t *testing.T, columns uint16) *terminal {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	number, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	program, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(int(program.Fd()), unix.TIOCSWINSZ,
		&unix.Winsize{Row: 24, Col: columns}); err != nil {
		t.Fatal(err)
	}
	tty := &terminal{person: person, program: program}
	t.Cleanup(func() { _ = program.Close(); _ = person.Close() })
	go tty.gather()
	return tty
}

func (tty *terminal) gather() {
	b := make([]byte, 4096)
	for {
		n, err := tty.person.Read(b)
		tty.mu.Lock()
		tty.shown.Write(b[:n])
		tty.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (tty *terminal) text() string {
	tty.mu.Lock()
	defer tty.mu.Unlock()
	return tty.shown.String()
}

// patience allows for a busy machine, and only ends a hang.
const patience = 5 * time.Minute

// waitFor returns when the terminal has shown text.
func (tty *terminal) waitFor(t *testing.T, text string) {
	t.Helper()
	tty.waitForTimes(t, 1, text)
}

// waitForTimes returns when the terminal has shown text that many times.
func (tty *terminal) waitForTimes(t *testing.T, times int, text string) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if strings.Count(tty.text(), text) >= times {
			return
		}
	}
	t.Fatalf("%q was not shown %d times in\n%s", text, times, tty.text())
}

// all returns everything written to the terminal so far.
func (tty *terminal) all(t *testing.T) string {
	t.Helper()
	const end = "-- the end --"
	fmt.Fprintln(tty.program, end)
	tty.waitFor(t, end)
	before, _, _ := strings.Cut(tty.text(), end)
	return before
}

func (tty *terminal) session() *session {
	return &session{stdin: tty.program, stdout: tty.program, stderr: tty.program, env: func(string) string {
		return ""
	}}
}

func TestOnATerminalNothingIsDoneWithoutAYes(t *testing.T) {
	for _, tt := range []struct {
		name, answer string
		want         error
	}{
		{"yes", "yes\n", nil},
		{"y", "Y\n", nil},
		{"no", "no\n", errSaidNo},
		{"nothing but Enter", "\n", errSaidNo},
		{"anything else", "yesterday\n", errSaidNo},
		{"the end of input", "\x04", errSaidNo},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tty := newTerminal(t, 80)
			s := tty.session()
			answered := make(chan error)
			go func() {
				answered <- s.ask(context.Background(), func(w io.Writer) { fmt.Fprintln(w, "the plan") })
			}()
			tty.waitFor(t, "the plan\r\n\r\nContinue? (y or yes) ")
			if _, err := io.WriteString(tty.person, tt.answer); err != nil {
				t.Fatal(err)
			}
			if got := <-answered; !errors.Is(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// Whatever is shown above a question is broken where the terminal ends, and between words.
func TestWhatStandsAboveAQuestionFitsTheTerminal(t *testing.T) {
	const note = "the new database needs room beside the old one, and those disks cannot be seen from here"
	report := &defrag.Report{Notes: []string{note}, Members: []defrag.Member{{Name: "cp1", Role: "leader",
		SizeBytes: 3 << 30, InUseBytes: 1 << 30, QuotaBytes: 8 << 30, State: "due"}}}
	plan := engine.Plan{Phases: []engine.PlannedPhase{{Name: "preflight", Short: "check everything first",
		Found: []string{note}, Operations: []string{"stop what runs, " + note}}}}
	for _, columns := range []uint16{80, 40} {
		tty := newTerminal(t, columns)
		s := tty.session()
		answered := make(chan error)
		go func() {
			answered <- s.ask(context.Background(), func(w io.Writer) {
				writeDefrag(w, report)
				writePlan(w, plan)
			})
		}()
		tty.waitFor(t, "Continue? (y or yes) ")
		if _, err := io.WriteString(tty.person, "no\n"); err != nil {
			t.Fatal(err)
		}
		<-answered
		for line := range strings.Lines(tty.all(t)) {
			if n := len([]rune(strings.TrimRight(line, "\r\n"))); n > int(columns) {
				t.Errorf("%d columns: %d letters: %q", columns, n, line)
			}
		}
	}
}

func TestAnInterruptEndsAQuestion(t *testing.T) {
	tty := newTerminal(t, 80)
	ctx, cancel := context.WithCancel(context.Background())
	answered := make(chan error)
	go func() { answered <- tty.session().ask(ctx, func(io.Writer) {}) }()
	tty.waitFor(t, "Continue?")
	cancel()
	if got := <-answered; !errors.Is(got, errNoAnswer) {
		t.Errorf("got %v", got)
	}
	if said := tty.all(t); !strings.HasSuffix(said, "\r\n") {
		t.Errorf("what comes next stands behind the question: %q", said)
	}
}
