package phases

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
)

// What an earlier version left open is settled by this one: each run in testdata/openruns was cut off
// in the version that its folder is named after, and is resumed and rolled back here. README.md there
// says how a version adds its own.

// settler is one node with an open run: all that this test knows of the workflow that left it.
type settler struct {
	machine *sim.Machine
	settle  func(command string) error // by a new process: "resume" or "rollback"
	outcome func() (string, error)     // "old" or "new", or what is wrong
	votes   bool                       // it may be new when it has gone back: etcd takes no vote away
}

// workflowOf is one workflow whose runs are stored, in all of its scenarios.
type workflowOf struct {
	name      string
	scenarios []string
	// fresh makes a node on which nothing has happened yet, and how the run on it begins.
	fresh func(t *testing.T, scenario string) (*sim.Machine, func() error)
	// loaded makes a node with an open run from how the machine was before the run, and how it is now.
	loaded func(t *testing.T, scenario string, before, now *sim.Machine) settler
}

func storedWorkflows() []workflowOf {
	return []workflowOf{
		of("restore", scenarios(), func(s scenario) string { return s.name },
			func(t *testing.T, s scenario) (*sim.Machine, func() error) {
				w := newWorld(t, s)
				return w.machine, w.restore
			}, loadedRestore),
		of("rejoin", rejoins(), func(s scenario) string { return s.name },
			func(t *testing.T, s scenario) (*sim.Machine, func() error) {
				w := newRejoinWorld(t, s)
				return w.machine, w.rejoin
			}, loadedRejoin),
		of("init", beginnings(), func(b beginning) string { return b.name },
			func(t *testing.T, b beginning) (*sim.Machine, func() error) {
				w := newInitWorld(t, b)
				return w.machine, w.init
			}, loadedInit),
		of("join", halfJoins(), func(h halfJoined) string { return h.name },
			func(t *testing.T, h halfJoined) (*sim.Machine, func() error) {
				w := newJoinWorld(t, h)
				return w.machine, w.join
			}, loadedJoin),
		of("renew", renewals(), func(r renewal) string { return r.name },
			func(t *testing.T, r renewal) (*sim.Machine, func() error) {
				w := newCertsWorld(t, r)
				return w.machine, w.renew
			}, loadedRenewal),
		of("request", askings(), func(a asking) string { return a.name },
			func(t *testing.T, a asking) (*sim.Machine, func() error) {
				w := newRequestWorld(t, a)
				return w.machine, w.request
			}, loadedRequest),
		of("apiserver", wirings(), func(shape wiring) string { return shape.name },
			func(t *testing.T, shape wiring) (*sim.Machine, func() error) {
				w := newWiringWorld(t, shape)
				return w.machine, w.set
			}, loadedWiring),
	}
}

// of finds a workflow's scenarios by their names.
func of[S any](
	workflow string, all []S, name func(S) string,
	fresh func(*testing.T, S) (*sim.Machine, func() error),
	loaded func(t *testing.T, s S, before, now *sim.Machine) settler,
) workflowOf {
	w := workflowOf{name: workflow}
	for _, s := range all {
		w.scenarios = append(w.scenarios, name(s))
	}
	pick := func(t *testing.T, scenario string) S {
		t.Helper()
		i := slices.Index(w.scenarios, scenario)
		if i < 0 {
			t.Fatalf("%s has no scenario %q any more", workflow, scenario)
		}
		return all[i]
	}
	w.fresh = func(t *testing.T, scenario string) (*sim.Machine, func() error) { return fresh(t, pick(t, scenario)) }
	w.loaded = func(t *testing.T, scenario string, before, now *sim.Machine) settler {
		return loaded(t, pick(t, scenario), before, now)
	}
	return w
}

func loadedWorld(t *testing.T, before, now *sim.Machine) world {
	return world{t: t, name: "cp1", machine: now, first: before.Look(journal.Home)}
}

func loadedRestore(t *testing.T, s scenario, before, now *sim.Machine) settler {
	w := loadedWorld(t, before, now)
	w.scenario = s
	now.CommittedBy(w.committed)
	w.restart()
	return settler{machine: now, settle: w.settle, outcome: w.verdict}
}

func loadedRejoin(t *testing.T, s scenario, before, now *sim.Machine) settler {
	w := loadedWorld(t, before, now)
	w.scenario = s
	now.CommittedBy(w.committed)
	w.restart()
	return settler{machine: now, settle: w.settle, outcome: w.joined}
}

func loadedInit(t *testing.T, b beginning, before, now *sim.Machine) settler {
	w := &initWorld{world: loadedWorld(t, before, now), begin: b}
	now.CommittedBy(func() bool { return true })
	now.Before = w.noCertificateWithoutKey
	w.restart()
	return settler{machine: now, settle: w.settle, outcome: w.settled}
}

func loadedJoin(t *testing.T, h halfJoined, before, now *sim.Machine) settler {
	w := &joinWorld{from: h, members: slices.Clone(before.Members.All)}
	w.world, w.begin = loadedWorld(t, before, now), beginning{keep: h.keep}
	now.CommittedBy(func() bool { return true })
	now.Before = w.noCertificateWithoutKey
	w.restart()
	return settler{machine: now, settle: w.settle, outcome: w.settled, votes: h.manifest}
}

func loadedRenewal(t *testing.T, r renewal, before, now *sim.Machine) settler {
	w := &certsWorld{world: loadedWorld(t, before, now), renewal: r}
	w.restart()
	return settler{machine: now, settle: w.settle, outcome: w.settled}
}

func loadedRequest(t *testing.T, a asking, before, now *sim.Machine) settler {
	w := &requestWorld{world: loadedWorld(t, before, now), asking: a}
	now.Before = w.noRequestWithoutKey
	w.restart()
	return settler{machine: now, settle: w.settle, outcome: w.settled}
}

func loadedWiring(t *testing.T, shape wiring, before, now *sim.Machine) settler {
	w := &wiringWorld{world: loadedWorld(t, before, now), wiring: shape, old: string(before.Peek(apiserverY))}
	w.new = strings.Replace(w.old, oldServers, newServers, 1)
	w.restart()
	return settler{machine: now, settle: w.settle, outcome: w.settled}
}

// loadedTogether are several nodes with a run of theirs that is open.
func loadedTogether(t *testing.T, names []string, before, now []*sim.Machine) *cluster {
	c := &cluster{names: names, worlds: map[string]*world{}, plans: map[string]account{}}
	for i, name := range names {
		w := loadedWorld(t, before[i], now[i])
		w.name, w.scenario = name, scenario{name: name}
		c.worlds[name] = &w
	}
	c.wire()
	return c
}

// together is the name of the workflow that is on several nodes.
const together = "restore on three nodes"

// From here on nothing is known of single workflows.

// storedRuns is one file: the runs that one workflow left open in one scenario.
type storedRuns struct {
	Workflow string      `json:"workflow"`
	Scenario string      `json:"scenario"`
	Nodes    []string    `json:"nodes"`
	Pieces   []string    `json:"pieces"`   // of what was saved of the machines: most are in many of them
	Machines [][]int     `json:"machines"` // of each the pieces, as pairs: the first, and how many
	Before   []int       `json:"before"`   // each node's machine before the run
	Runs     []storedRun `json:"runs"`
}

type storedRun struct {
	Stopped string `json:"stopped"` // the call that was not made any more
	Nodes   []int  `json:"nodes"`   // each node's machine then
}

func (r storedRuns) machine(t *testing.T, i int) *sim.Machine {
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

func (r storedRuns) all(t *testing.T, nodes []int) (machines []*sim.Machine) {
	t.Helper()
	for _, i := range nodes {
		machines = append(machines, r.machine(t, i))
	}
	return machines
}

func readStoredRuns(t *testing.T, file string) (r storedRuns) {
	t.Helper()
	packed, err := os.ReadFile(file)
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

// openState is what the journal of the one run on a machine adds up to; nil when it has none.
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
	files, err := filepath.Glob(filepath.Join("testdata", "openruns", "*", "*", "*.json.gz"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no runs are stored: %v", err)
	}
	return files
}

func TestARunThatAnEarlierVersionLeftOpenEndsWhollyOldOrWhollyNew(t *testing.T) {
	workflows := storedWorkflows()
	for _, file := range storedFiles(t) {
		r := readStoredRuns(t, file)
		version := filepath.Base(filepath.Dir(filepath.Dir(file)))
		t.Run(version+": "+r.Workflow+", "+r.Scenario, func(t *testing.T) {
			t.Parallel()
			count := map[string]int{}
			if i := slices.IndexFunc(workflows, func(w workflowOf) bool { return w.name == r.Workflow }); i >= 0 {
				settleStored(t, workflows[i], r, count)
			} else if r.Workflow == together {
				settleStoredTogether(t, r, count)
			} else {
				t.Fatalf("there is no workflow %q any more", r.Workflow)
			}
			t.Logf("%d runs: %d ended old and %d new", len(r.Runs), count["old"], count["new"])
			if count["old"] == 0 || count["new"] == 0 {
				t.Error("the stored runs prove nothing: all ended alike")
			}
		})
	}
}

func settleStored(t *testing.T, w workflowOf, r storedRuns, count map[string]int) {
	before := r.machine(t, r.Before[0])
	for n, run := range r.Runs {
		now := r.machine(t, run.Nodes[0])
		state := openState(t, now)
		if state == nil || state.Ended {
			t.Fatalf("run %d, stopped at %q, is not open", n, run.Stopped)
		}
		for _, command := range []string{"resume", "rollback"} {
			s := w.loaded(t, r.Scenario, before, now.Clone())
			got, err := s.end(command, state)
			if err != nil {
				t.Errorf("run %d, stopped at %q, %s: %v", n, run.Stopped, command, err)
			}
			count[got]++
		}
	}
}

// end settles a run and looks whether it has ended as its records say that it must.
func (s settler) end(command string, state *journal.State) (string, error) {
	err := s.settle(command)
	var (
		refused *RefusedError
		back    *RolledBackError
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
		if err := s.settle("resume"); err != nil {
			return "", fmt.Errorf("resume past the commit point: %w", err)
		}
	case err != nil:
		return "", err
	case command == "rollback":
		want = "old"
	}
	got, err := s.outcome()
	if runs, listed := journal.List(s.machine.Disk); listed != nil || len(runs) != 1 || !runs[0].State.Ended {
		return got, errors.Join(err, listed, errors.New("the run is not closed"))
	}
	if err != nil || got != want && !(s.votes && got == "new") {
		return got, fmt.Errorf("it ended %q, and not %q: %w", got, want, err)
	}
	return got, nil
}

// settleStoredTogether types the commands on one node after another, where the run has begun.
func settleStoredTogether(t *testing.T, r storedRuns, count map[string]int) {
	e := newExplorer()
	before := r.all(t, r.Before)
	for n, run := range r.Runs {
		for _, back := range []bool{false, true} {
			c := loadedTogether(t, r.Nodes, before, r.all(t, run.Nodes))
			var begun []string
			for _, name := range r.Nodes {
				if a := c.read(name); a.begun() && !a.end {
					begun = append(begun, name)
				}
			}
			if len(begun) == 0 {
				t.Fatalf("run %d, stopped at %q, is open on no node", n, run.Stopped)
			}
			story := fmt.Sprintf("run %d, stopped at %q", n, run.Stopped)
			e.settles(state{cluster: c, story: story}, order{back: back, at: begun[n%len(begun)]})
		}
	}
	if e.err != nil {
		t.Error(e.err)
	}
	for outcome, times := range e.ends {
		count[outcome] += times
	}
}

// neverOpen are the kinds that no journal holds: a backup changes nothing of the node and writes none.
func neverOpen() []string {
	return []string{"keep-backup", "open-backup", "prove-backup", "save-snapshot"}
}

// newSince are the kinds that no stored version had yet: they stand for several old ones, and are stored
// with the next version.
func newSince() []string { return []string{"await-answer"} }

// neverUndone are those of which all are behind the commit point.
func neverUndone() []string {
	return []string{"release-leases", "set-data-directory", "verify-restored"}
}

// A kind that is in no stored run could change its meaning, and nobody would notice. One that this
// version has given a new name is in none: then this version is to store its own, too.
func TestTheStoredRunsHoldEveryKindOfOperation(t *testing.T) {
	seen := map[string]map[journal.Progress]bool{}
	for _, file := range storedFiles(t) {
		r := readStoredRuns(t, file)
		for i := range r.Machines {
			state := openState(t, r.machine(t, i))
			if state == nil {
				continue
			}
			for _, step := range state.Steps {
				if seen[step.Kind] == nil {
					seen[step.Kind] = map[journal.Progress]bool{}
				}
				seen[step.Kind][step.Progress] = true
			}
		}
	}
	for _, kind := range op.Kinds() {
		if slices.Contains(newSince(), kind) {
			continue
		}
		want := []journal.Progress{journal.Pending, journal.Doing, journal.Done}
		if !slices.Contains(neverUndone(), kind) {
			want = append(want, journal.Undoing, journal.Reverted)
		}
		for _, progress := range want {
			if there := seen[kind][progress]; there == slices.Contains(neverOpen(), kind) {
				t.Errorf("that %s is stored with the progress %d is %v", kind, progress, there)
			}
		}
		if slices.Contains(neverUndone(), kind) && (seen[kind][journal.Undoing] || seen[kind][journal.Reverted]) {
			t.Errorf("%s is undone, and is listed as one that never is", kind)
		}
	}
}
