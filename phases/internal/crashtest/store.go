package crashtest

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/internal/sim"
)

// Storing is the version whose runs are to be stored, in a folder of its own:
//
//	ETCDPOD_STORE_RUNS=v0.2 go test ./phases/... -run LeftOpen
//
// An existing file is never overwritten: only the older version can say what it left open.
func Storing() string { return os.Getenv("ETCDPOD_STORE_RUNS") }

func storeRuns(t *testing.T, version, workflow string, cases []Case) {
	known := map[string]bool{}
	for _, c := range cases {
		stops := some(c.alone(t), known)
		Store(t, version, StoredRuns{Workflow: workflow, Scenario: c.Name, Nodes: []string{"cp1"}}, stops)
	}
}

// StopPoint is an instant at which all processes of etcdpod are killed. The first one in a list is
// before the run, and has none open.
type StopPoint struct {
	Call     string
	progress []string // how far the run got, and how far each of its operations, by kind
	Machines [][]byte // one per node
}

// Saved is what the machines are now, written down.
func Saved(t *testing.T, machines ...*sim.Machine) (all [][]byte) {
	for _, m := range machines {
		data, err := m.Save()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, data)
	}
	return all
}

// progressOf is how far the open run got, and how far each of its operations; nil when none is
// open.
func progressOf(t *testing.T, m *sim.Machine) []string {
	state := openState(t, m)
	if state == nil || state.Ended {
		return nil
	}
	all := []string{fmt.Sprint(state.Committed, state.Settled, state.Aborted != "")}
	for _, step := range state.Steps {
		all = append(all, fmt.Sprint(step.Kind, " ", step.Progress))
	}
	return all
}

// instantsOf does something on a machine, and returns all instants on the way at which a run is
// open.
func instantsOf(t *testing.T, m *sim.Machine, do func() error) (stops []StopPoint, err error) {
	stop := watch(m, func(call string) {
		if progress := progressOf(t, m); progress != nil {
			stops = append(stops, StopPoint{call, progress, Saved(t, m)})
		}
	})
	err = do()
	stop()
	return stops, err
}

// alone carries out a run on one node, and also rolls it back from the last point at which it can
// be.
func (c Case) alone(t *testing.T) []StopPoint {
	w, sub := c.Fresh(t)
	m, begin := w.Machine, sub.Run
	first := StopPoint{Machines: Saved(t, m)}
	forward, err := instantsOf(t, m, begin)
	if err != nil {
		t.Fatalf("%s: %v", c.Name, err)
	}
	load := func(s StopPoint) *sim.Machine {
		m, err := sim.LoadMachine(s.Machines[0])
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	last := forward[0]
	for _, s := range forward {
		if !openState(t, load(s)).Forward() {
			last = s
		}
	}
	s := c.loaded(t, load(first), load(last))
	back, err := instantsOf(t, s.Machine, func() error { return s.Settle("rollback") })
	if err != nil {
		t.Fatalf("%s, rollback: %v", c.Name, err)
	}
	return slices.Concat([]StopPoint{first}, telling(forward), telling(back))
}

// telling keeps, of successive instants with the same records, the last one: all of an operation's
// effect is there, and half of the next record, which counts as not written. Where there are more,
// it also keeps the first one and one in between: none of the effect is there, or part of it.
func telling(stops []StopPoint) (few []StopPoint) {
	for from, to := 0, 0; from < len(stops); from = to {
		for to < len(stops) && slices.Equal(stops[to].progress, stops[from].progress) {
			to++
		}
		if to-from > 3 {
			few = append(few, stops[from])
		}
		if to-from > 5 {
			few = append(few, stops[(from+to)/2])
		}
		few = append(few, stops[to-1])
	}
	return few
}

// some keeps all instants of a workflow's first scenario. Of other scenarios, which resemble it, it
// keeps a few, and those with progress that no instant had before.
func some(stops []StopPoint, known map[string]bool) (few []StopPoint) {
	every := max(1, len(stops)/15)
	if len(known) == 0 {
		every = 1
	}
	for i, s := range stops {
		fresh := slices.ContainsFunc(s.progress, func(p string) bool { return !known[p] })
		if fresh || i%every == 0 {
			few = append(few, s)
		}
		for _, p := range s.progress {
			known[p] = true
		}
	}
	return few
}

// Store writes one file into the version's folder. It keeps only one of identical machines.
func Store(t *testing.T, version string, r StoredRuns, stops []StopPoint) {
	t.Helper()
	folder := filepath.Join("..", "internal", "crashtest", "testdata", "openruns", version)
	known, pieces := map[string]int{}, map[string]int{}
	keep := func(machines [][]byte) (nodes []int) {
		for _, m := range machines {
			i, there := known[string(m)]
			if !there {
				i = len(r.Machines)
				known[string(m)] = i
				r.Machines = append(r.Machines, r.cut(m, pieces))
			}
			nodes = append(nodes, i)
		}
		return nodes
	}
	r.Before = keep(stops[0].Machines)
	for _, s := range stops[1:] {
		r.Runs = append(r.Runs, storedRun{Stopped: s.Call, Nodes: keep(s.Machines)})
	}
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	out, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err == nil {
		_, err = out.Write(data)
		err = errors.Join(err, out.Close())
	}
	file := filepath.Join(folder, slug(r.Workflow), slug(r.Scenario)+".json.gz")
	if err == nil {
		err = errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), writeNew(file, packed.Bytes()))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %d runs, %d machines, %d of %d bytes", file, len(r.Runs), len(r.Machines), packed.Len(), len(data))
}

// cut adds a machine's pieces to those that are there, and returns which ones it consists of. A
// piece is a line of a file, such as a record of a journal, or a JSON object.
func (r *StoredRuns) cut(machine []byte, known map[string]int) (pairs []int) {
	marked := strings.NewReplacer(`\n`, "\\n\x00", `},`, "},\x00").Replace(string(machine))
	for piece := range strings.SplitSeq(marked, "\x00") {
		i, there := known[piece]
		if !there {
			i = len(r.Pieces)
			known[piece] = i
			r.Pieces = append(r.Pieces, piece)
		}
		if last := len(pairs) - 2; last >= 0 && pairs[last]+pairs[last+1] == i {
			pairs[last+1]++
		} else {
			pairs = append(pairs, i, 1)
		}
	}
	return pairs
}

// slug turns a scenario's name into a file name.
func slug(name string) string {
	letter := func(r rune) bool { return r >= 'a' && r <= 'z' || r >= '0' && r <= '9' }
	return strings.Join(strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return !letter(r) }), "-")
}

func writeNew(file string, data []byte) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}
