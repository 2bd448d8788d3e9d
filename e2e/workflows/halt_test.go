package workflows

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/e2e/hold"
	"github.com/etcdpod/etcdpod/e2e/terminal"
)

// mark is where a run stands: the last record of its journal, which is written, and is not durable
// yet. What the record announces has not happened.
type mark struct {
	root      string // of the node whose journal it is
	kind      string // begin, start, finish, commit, abort, undo, undone, end
	phase     string // of the operation that the record is about
	first     bool   // that operation is the first of its phase
	committed bool   // the run is past its commit point
}

// marked reads a journal; false where there is none.
func marked(file string) (m mark, ok bool) {
	folder, name := filepath.Split(file)
	root, _, found := strings.Cut(folder, "/var/lib/etcdpod/runs/")
	data, err := os.ReadFile(file)
	if err != nil || !found || name != "journal" {
		return m, false
	}
	m.root = root
	var plan []struct{ Phase string }
	for line := range bytes.Lines(data) {
		var record struct {
			Kind string
			Step int
			Run  struct{ Plan []struct{ Phase string } }
		}
		_, body, _ := bytes.Cut(line, []byte(" "))
		if json.Unmarshal(body, &record) != nil {
			break
		}
		if record.Kind == "begin" {
			plan = record.Run.Plan
		}
		m.kind, m.phase, m.first = record.Kind, "", false
		m.committed = m.committed || record.Kind == "commit"
		switch record.Kind {
		case "start", "finish", "undo", "undone":
			m.phase = plan[record.Step].Phase
			m.first = record.Step == 0 || plan[record.Step-1].Phase != m.phase
		}
	}
	return m, m.kind != ""
}

// halt is a mark at which a program waits.
type halt struct {
	at      func(mark) bool
	found   mark
	reached chan struct{}
	goOn    chan struct{}
}

func haltAt(at func(mark) bool) *halt {
	return &halt{at: at, reached: make(chan struct{}), goOn: make(chan struct{})}
}

// haltsAt starts etcdpod at the terminal. It waits at each of the marks, one after the other; what
// it has started on other nodes does, too.
func (p person) haltsAt(args []string, halts ...*halt) *terminal.Terminal {
	p.t.Helper()
	return p.halting(func() *terminal.Terminal { return p.at(args...) }, halts...)
}

func (p person) halting(start func() *terminal.Terminal, halts ...*halt) *terminal.Terminal {
	p.t.Helper()
	var tty *terminal.Terminal
	next := make(chan []*halt, 1)
	next <- halts
	must(p.t, hold.Start(func() error {
		tty = start()
		return nil
	}, func(file string) {
		left := <-next
		m, ok := marked(file)
		if !ok || len(left) == 0 || !left[0].at(m) {
			next <- left
			return
		}
		h := left[0]
		next <- left[1:]
		h.found = m
		close(h.reached)
		<-h.goOn
	}))
	for _, h := range halts {
		p.t.Cleanup(h.release) // a program that waits for ever is in the way of what ends it
	}
	return tty
}

// await returns where the program waits.
func (p person) await(h *halt, tty *terminal.Terminal) mark {
	p.t.Helper()
	select {
	case <-h.reached:
		return h.found
	case <-tty.Ended():
		p.t.Fatalf("it has ended, and was to wait:\n%s", tty.Screen())
	case <-p.ctx.Done():
		p.t.Fatalf("it does not come where it was to wait:\n%s", tty.Screen())
	}
	return mark{}
}

// release lets the program go on; once more does nothing.
func (h *halt) release() {
	select {
	case <-h.goOn:
	default:
		close(h.goOn)
	}
}

func TestAJournalTellsWhereItsRunStands(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "var/lib/etcdpod/runs/one")
	must(t, os.MkdirAll(dir, 0o755))
	file := filepath.Join(dir, "journal")
	text := ""
	for _, tt := range []struct {
		line string
		want mark
	}{
		{`{"kind":"begin","run":{"plan":[{"phase":"a"},{"phase":"a"},{"phase":"b"}]}}`, mark{kind: "begin"}},
		{`{"kind":"start"}`, mark{kind: "start", phase: "a", first: true}},
		{`{"kind":"finish","step":1}`, mark{kind: "finish", phase: "a"}},
		{`{"kind":"commit"}`, mark{kind: "commit", committed: true}},
		{`{"kind":"start","step":2}`, mark{kind: "start", phase: "b", first: true, committed: true}},
	} {
		text += "00000000 " + tt.line + "\n"
		must(t, os.WriteFile(file, []byte(text+"\x00\x00"), 0o600))
		tt.want.root = strings.TrimSuffix(dir, "/var/lib/etcdpod/runs/one")
		if got, ok := marked(file); !ok || got != tt.want {
			t.Errorf("after %s: %+v, %v", tt.line, got, ok)
		}
	}
	if _, ok := marked(filepath.Join(dir, "other")); ok {
		t.Error("any file is a journal")
	}
}
