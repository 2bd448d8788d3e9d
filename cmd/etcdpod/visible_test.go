package main

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/backup"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/status"
)

// forged is text that would clear a terminal, colour it, add a line, and turn the writing round.
const forged = "cp1\x1b[2J\x1b[31m\r\n  ! all is well\u009b1m\u202e\x00\xff"

// raw says which byte or rune of an output would reach the terminal as what it is.
func raw(text string) string {
	for _, odd := range []string{"\x1b", "\r", "\u009b", "\u202e", "\x00", "\xff", "\n  ! all is well"} {
		if strings.Contains(text, odd) {
			return odd
		}
	}
	return ""
}

func TestWhatSomebodyElseWroteIsShownAsText(t *testing.T) {
	outputs := map[string]func(io.Writer){
		"an entry of backups": func(w io.Writer) {
			described := backup.Sidecar{Path: "/b/" + forged, EtcdVersion: forged}
			entries := []backup.Entry{{Sidecar: described, Note: forged}}
			visibleIn(entries)
			writeBackups(w, backup.Listing{Dirs: []string{"/b"}, Entries: entries}, time.Now())
		},
		"a verdict": func(w io.Writer) {
			v := backup.Verdict{Path: forged, Reason: forged}
			visibleIn(&v)
			writeVerdict(w, v)
		},
		"a resource in a verdict": func(w io.Writer) {
			v := backup.Verdict{OK: true, Resources: map[string]int64{forged: 7}}
			visibleIn(&v)
			writeVerdict(w, v)
		},
		"a plan of another node": func(w io.Writer) {
			plan := engine.TogetherPlan{Risk: forged, Notes: []string{forged}, Nodes: []engine.NodePlan{{Node: forged,
				Plan: engine.Plan{Phases: []engine.PlannedPhase{{Name: forged, Found: []string{forged},
					Operations: []string{forged}}}}}}}
			visibleIn(&plan)
			writeTogether(w, plan, true, 80)
		},
		"another node's status": func(w io.Writer) {
			st := status.NodesStatus{Nodes: []status.NodeStatus{{Node: forged}}, Warnings: []string{forged}}
			visibleIn(&st)
			writeNodes(w, st, 0)
		},
		"an event": func(w io.Writer) {
			visibleDisplay{newPlain(w, true)}.event(engine.Event{Together: true, Node: forged,
				State: engine.Failed, Operation: forged, Error: forged})
		},
		"an event on a terminal": func(w io.Writer) {
			d := visibleDisplay{newLive(w, true, false)}
			d.display.(*live).screen = nil
			for _, line := range taken(d, engine.Event{State: engine.Failed, Operation: forged, Error: forged}) {
				_, _ = io.WriteString(w, line+"\n")
			}
		},
		"JSON": func(w io.Writer) { _ = json.NewEncoder(visibleJSON{w}).Encode(failure{Error: forged}) },
	}
	for name, write := range outputs {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			write(&b)
			if odd := raw(b.String()); odd != "" || !strings.Contains(b.String(), "cp1") {
				t.Errorf("%q is in %q", odd, b.String())
			}
		})
	}
}

// taken are the lines that stay of an event, as the wrapped display gets it.
func taken(d visibleDisplay, e engine.Event) []string {
	var lines []string
	visibleDisplay{collecting{&lines, d.display.(*live)}}.event(e)
	return lines
}

type collecting struct {
	lines *[]string
	*live
}

func (c collecting) event(e engine.Event) { *c.lines = c.take(e) }

func TestTextThatIsPlainStaysAsItIs(t *testing.T) {
	for _, text := range []string{"", "cp1", "etcd-cp1-20260102T020405Z-r7.db", "Müller, 東京, ✓ …"} {
		if visible(text) != text {
			t.Errorf("%q becomes %q", text, visible(text))
		}
	}
	if got := visibleLines("a\nb\tc"); got != "a\nb\\tc" {
		t.Errorf("%q", got)
	}
}

func TestVisibleJSONHoldsTheSameText(t *testing.T) {
	var b bytes.Buffer
	text := "a\u009b\u202eb\x1b\n"
	if err := json.NewEncoder(visibleJSON{&b}).Encode(text); err != nil {
		t.Fatal(err)
	}
	var back string
	if err := json.Unmarshal(b.Bytes(), &back); err != nil || back != text {
		t.Errorf("%q, %v", back, err)
	}
}
