package crashtest

import (
	"bytes"
	"compress/gzip"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
)

// This version settles what earlier versions left open: each run in testdata/openruns was cut off
// in the version that its folder is named after, and is resumed and rolled back here. README.md
// there says how a version adds its own.

// StoredRuns is one file: the runs that one workflow left open in one scenario.
type StoredRuns struct {
	Workflow string   `json:"workflow"`
	Scenario string   `json:"scenario"`
	Nodes    []string `json:"nodes"`
	// Pieces of saved machines: most occur in many machines.
	Pieces   []string    `json:"pieces"`
	Machines [][]int     `json:"machines"` // each machine's pieces, in pairs: first, count
	Before   []int       `json:"before"`   // each node's machine before the run
	Runs     []storedRun `json:"runs"`
}

type storedRun struct {
	Stopped string `json:"stopped"` // the call at which it was cut off, and which was not made
	Nodes   []int  `json:"nodes"`   // each node's machine then
}

func (r StoredRuns) machine(t *testing.T, i int) *sim.Machine {
	t.Helper()
	var saved strings.Builder
	for pair := range slices.Chunk(r.Machines[i], 2) {
		for _, piece := range r.Pieces[pair[0] : pair[0]+pair[1]] {
			saved.WriteString(piece)
		}
	}
	m, err := sim.LoadMachine([]byte(saved.String()))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (r StoredRuns) All(t *testing.T, nodes []int) (machines []*sim.Machine) {
	t.Helper()
	for _, i := range nodes {
		machines = append(machines, r.machine(t, i))
	}
	return machines
}

// openRuns are the runs that earlier versions left open.
//
//go:embed testdata/openruns
var openRuns embed.FS

func readStoredRuns(t *testing.T, file string) (r StoredRuns) {
	t.Helper()
	packed, err := openRuns.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	in, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(in)
	if err = errors.Join(err, json.Unmarshal(data, &r)); err != nil {
		t.Fatal(err)
	}
	return r
}

// openState sums up the journal of the only run on a machine; nil when there is none.
func openState(t *testing.T, m *sim.Machine) *journal.State {
	t.Helper()
	runs, err := journal.List(m.Disk)
	switch {
	case err != nil || len(runs) > 1:
		t.Fatalf("%d runs: %v", len(runs), err)
	case len(runs) == 0:
		return nil
	case runs[0].Err != nil:
		t.Fatal(runs[0].Err)
	}
	return runs[0].State
}

func storedFiles(t *testing.T) []string {
	t.Helper()
	files, err := fs.Glob(openRuns, "testdata/openruns/*/*/*.json.gz")
	if err != nil || len(files) == 0 {
		t.Fatalf("no runs are stored: %v", err)
	}
	return files
}

// LeftOpen resumes and rolls back a workflow's runs that earlier versions left open, and shows that
// saving and loading a node does not change it. With ETCDPOD_STORE_RUNS it stores the runs that
// this version leaves open instead; see [Store].
func LeftOpen(t *testing.T, workflow string, cases []Case) {
	if version := Storing(); version != "" {
		storeRuns(t, version, workflow, cases)
		return
	}
	t.Run("a saved node ends as the original", func(t *testing.T) {
		t.Parallel()
		savedEndsAsTheOriginal(t, cases[len(cases)/2])
	})
	EachStored(t, workflow, func(t *testing.T, r StoredRuns, count map[string]int) {
		i := slices.IndexFunc(cases, func(c Case) bool { return c.Name == r.Scenario })
		if i < 0 {
			t.Fatalf("%s has no scenario %q any more", workflow, r.Scenario)
		}
		cases[i].settleStored(t, r, count)
	})
}

// EachStored calls do for each stored file of a workflow, and requires runs that end both ways.
func EachStored(t *testing.T, workflow string, do func(*testing.T, StoredRuns, map[string]int)) {
	found := false
	for _, file := range storedFiles(t) {
		r := readStoredRuns(t, file)
		if r.Workflow != workflow {
			continue
		}
		found = true
		t.Run(versionOf(file)+", "+r.Scenario, func(t *testing.T) {
			t.Parallel()
			count := map[string]int{}
			do(t, r, count)
			t.Logf("%d runs: %d ended old and %d new", len(r.Runs), count["old"], count["new"])
			if count["old"] == 0 || count["new"] == 0 {
				t.Error("the stored runs prove nothing: all ended alike")
			}
		})
	}
	if !found {
		t.Fatalf("no runs of %q are stored", workflow)
	}
}

// versionOf is the version that stored a file.
func versionOf(file string) string { return path.Base(path.Dir(path.Dir(file))) }

func (c Case) settleStored(t *testing.T, r StoredRuns, count map[string]int) {
	before := r.machine(t, r.Before[0])
	for n, run := range r.Runs {
		now := r.machine(t, run.Nodes[0])
		state := openState(t, now)
		if state == nil || state.Ended {
			t.Fatalf("run %d, stopped at %q, is not open", n, run.Stopped)
		}
		for _, command := range []string{"resume", "rollback"} {
			got, err := c.loaded(t, before, now.Clone()).end(command, state)
			if err != nil {
				t.Errorf("run %d, stopped at %q, %s: %v", n, run.Stopped, command, err)
			}
			count[got]++
		}
	}
}

// unseen says whether a run that went back had stopped the kubelet, and whether it had not noted
// what served before: the first versions did not.
func unseen(s *journal.State) (stopped, unknown bool) {
	for _, step := range s.Steps {
		if step.Kind == "stop-kubelet" && step.Progress == journal.Reverted {
			stopped, unknown = true, !bytes.Contains(step.Op, []byte(`"before"`))
		}
	}
	return stopped, unknown
}

// settler is a node with an open run.
type settler struct {
	*Node
	Subject
}

// loaded makes a node of a machine on which something has happened; before is how the machine was
// at first.
func (c Case) loaded(t *testing.T, before, now *sim.Machine) settler {
	w := Over(t, "cp1", now, before)
	return settler{w, c.On(w, before)}
}

// end settles a run, and checks that it ended as its records say it must.
func (s settler) end(command string, state *journal.State) (string, error) {
	said := false
	s.Process.Emit = func(e engine.Event) { said = said || e.Message == engine.Unseen }
	err := s.Settle(command)
	var (
		refused *engine.RefusedError
		back    *engine.RolledBackError
	)
	want := "new"
	switch {
	case state.Aborted != "" && command == "resume":
		if want = "old"; !errors.As(err, &back) {
			return "", fmt.Errorf("it had turned back, and ends with %w", err)
		}
	case command == "rollback" && state.Forward():
		if !errors.As(err, &refused) {
			return "", fmt.Errorf("it is past its commit point, and ends with %w", err)
		}
		if err := s.Settle("resume"); err != nil {
			return "", fmt.Errorf("resume past the commit point: %w", err)
		}
	case err != nil:
		return "", err
	case command == "rollback":
		want = "old"
	}
	got, err := s.Outcome()
	if runs, listed := journal.List(s.Machine.Disk); listed != nil || len(runs) != 1 || !runs[0].State.Ended {
		return got, errors.Join(err, listed, errors.New("the run is not closed"))
	} else if stopped, unknown := unseen(runs[0].State); stopped && said != unknown {
		return got, fmt.Errorf("that it was not seen whether all serves again was said: %v", said)
	}
	if err != nil || got != want && !(s.Votes && got == "new") {
		return got, fmt.Errorf("it ended %q, and not %q: %w", got, want, err)
	}
	return got, nil
}
