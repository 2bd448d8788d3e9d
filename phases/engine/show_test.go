package engine_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// faulty is a file system on which one directory cannot be made or removed.
type faulty struct {
	node.FS
	bad *string
}

var errFaulty = errors.New("the disk is faulty")

func (f faulty) Mkdir(path string, attr node.Attr) error {
	if path == *f.bad {
		return errFaulty
	}
	return f.FS.Mkdir(path, attr)
}

// twoDirs makes one directory before the commit point and one after it.
func twoDirs(n *crashtest.Node) engine.Work {
	makes := func(path string) func(context.Context, *observe.Facts) ([]op.Op, error) {
		return func(context.Context, *observe.Facts) ([]op.Op, error) {
			return []op.Op{&op.MakeDirectory{Path: path, Attr: node.Mine(0o700)}}, nil
		}
	}
	return engine.Workflow[*observe.Node, *observe.Facts]{
		Name: "dirs",
		Observe: func(_ context.Context, _ *observe.Node, run string) (*observe.Facts, error) {
			return n.Observe(run)
		},
		Phases: []engine.Phase[*observe.Facts]{{Name: "first", Short: "make one", Commit: true,
			Plan: makes("/backup/one")}, {Name: "second", Short: "make another", Plan: makes("/backup/two")}},
	}.On(n.Process.Look)
}

// What stopped a run that is left open is written nowhere else: the terminal may be closed.
func TestARunShowsWhatFailedAndWhatBecameOfIt(t *testing.T) {
	ctx := context.Background()
	machine := crashtest.Shape{}.Machine(t)
	n := crashtest.Alone(t, machine)
	bad := "/backup/two"
	n.Process.Host.FS = faulty{n.Process.Host.FS, &bad}
	var open *engine.OpenRunError
	if err := n.Do(twoDirs(n)); !errors.As(err, &open) {
		t.Fatalf("the run ended with %v", err)
	}
	r, err := n.Process.Show(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	one, two := r.Operations[0], r.Operations[1]
	if r.State != "open" || r.Code != finding.RunOpen || one.State != "done" ||
		one.Began.IsZero() || one.Ended.Before(one.Began) ||
		r.CommittedAt.Before(one.Ended) || one.Operation != "make the directory /backup/one" || one.Phase != "first" ||
		two.State != "started" || !two.Ended.IsZero() || len(two.Errors) != 1 ||
		!strings.Contains(two.Errors[0], errFaulty.Error()) {
		t.Errorf("it is shown as %+v", r)
	}
	bad = ""
	if err := n.Settle("resume"); err != nil {
		t.Fatal(err)
	}
	r, err = n.Process.Show(ctx, open.Run.ID)
	if err != nil {
		t.Fatal(err)
	}
	if two := r.Operations[1]; r.State != "completed" || r.Code != "" || two.State != "done" || two.Ended.IsZero() ||
		len(two.Errors) != 1 {
		t.Errorf("after resume it is shown as %+v", r)
	}
}

func TestARunThatWentBackShowsWhenAndWhy(t *testing.T) {
	machine := crashtest.Shape{}.Machine(t)
	n := crashtest.Alone(t, machine)
	bad := "/backup/one"
	n.Process.Host.FS = faulty{n.Process.Host.FS, &bad}
	if err := n.Do(twoDirs(n)); err == nil {
		t.Fatal("the run did not fail")
	}
	r, err := n.Process.Show(context.Background(), "dirs")
	if err != nil {
		t.Fatal(err)
	}
	one, two := r.Operations[0], r.Operations[1]
	if r.State != "rolled back" || !strings.Contains(r.Reason, errFaulty.Error()) || r.AbortedAt.IsZero() ||
		one.State != "undone" || one.UndoBegan.IsZero() || one.UndoEnded.IsZero() || two.State != "pending" {
		t.Errorf("it is shown as %+v", r)
	}
}

// planting is a file system on which somebody puts a file into a directory just before /backup/two
// cannot be made.
type planting struct {
	node.FS
	into string
}

func (p planting) Mkdir(path string, attr node.Attr) error {
	if path != "/backup/two" {
		return p.FS.Mkdir(path, attr)
	}
	return errors.Join(errFaulty, p.Create(p.into+"/theirs", nil, node.Mine(0o600)))
}

// A warning has its code in the events of the run, in what is shown of it, and in what a follower
// sees.
func TestAWarningOfARunKeepsItsCode(t *testing.T) {
	machine := crashtest.Shape{}.Machine(t)
	n := crashtest.Alone(t, machine)
	var events []engine.Event
	n.Process.Emit = func(e engine.Event) { events = append(events, e) }
	told := func() (warned []string) {
		for _, e := range events {
			if e.State == engine.Noted && e.Code != "" {
				warned = append(warned, string(e.Code)+" "+e.Subject+" "+e.Message)
			}
		}
		events = nil
		return warned
	}
	plan := func(_ context.Context, f *observe.Facts) ([]op.Op, error) {
		n.Process.Host.FS = planting{n.Process.Host.FS, "/backup/one"}
		return []op.Op{&op.MakeDirectory{Path: "/backup/one", Attr: node.Mine(0o700)},
			&op.MakeDirectory{Path: "/backup/two", Attr: node.Mine(0o700)}}, nil
	}
	err := n.Do(engine.Workflow[*observe.Node, *observe.Facts]{Name: "dirs",
		Observe: func(_ context.Context, _ *observe.Node, run string) (*observe.Facts, error) { return n.Observe(run) },
		Phases:  []engine.Phase[*observe.Facts]{{Name: "only", Commit: true, Plan: plan}},
	}.On(n.Process.Look))
	if err == nil {
		t.Fatal("the run did not fail")
	}
	want := []string{"left-in-place /backup/one /backup/one is left: it is not empty"}
	if got := told(); !slices.Equal(got, want) {
		t.Errorf("the run warns of %q, and ended with %v", got, err)
	}
	r, err := n.Process.Follow(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if got := told(); !slices.Equal(got, want) {
		t.Errorf("who follows it is warned of %q", got)
	}
	if all := r.Operations[0].Findings; len(all) != 1 || all[0].Code != "left-in-place" || all[0].Node != "cp1" ||
		!slices.Equal(r.Operations[0].Notes, []string{all[0].Text}) {
		t.Errorf("it is shown as %+v", r.Operations[0])
	}
}

func TestARunIsNamedByAsMuchAsNoOtherHas(t *testing.T) {
	d := sim.NewDisk()
	n := &engine.Node{Parts: engine.Parts{Host: &node.Host{FS: d, Clock: node.WallClock()}}}
	show := func(name, want, why string) {
		t.Helper()
		r, err := n.Show(context.Background(), name)
		if r.ID != want || (err != nil) != (why != "") || err != nil && !strings.Contains(err.Error(), why) {
			t.Errorf("%q shows %q, %v", name, r.ID, err)
		}
	}
	show("", "", "nothing was run on this node yet")
	const first, second = "20260801T020000Z-renew-ab12", "20260801T030000Z-renew-ab34"
	for _, id := range []string{first, second} {
		if err := journal.Prepare(d, id); err != nil {
			t.Fatal(err)
		}
		if _, err := journal.Create(d, n.Host.Clock, journal.RunDir(id), journal.Run{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	show("", second, "")
	show(first, first, "")
	show("ab12", first, "")
	show("20260801T03", second, "")
	show("renew", "", "renew matches 2 runs: "+first+", "+second)
	show("restore", "", "there is no run restore on this node")
}

// script is a clock that carries on with what another process does while this one waits.
type script struct {
	node.Clock
	next func()
}

func (s script) Sleep(ctx context.Context, d time.Duration) error {
	if d > 100*time.Millisecond { // shorter waits are for the lock
		s.next()
	}
	return ctx.Err()
}

func TestARunIsFollowedUntilItEnds(t *testing.T) {
	const id = "20260801T020000Z-dirs-ab12"
	body, err := op.Encode(&op.MakeDirectory{Path: "/backup/one", Attr: node.Mine(0o700)})
	if err != nil {
		t.Fatal(err)
	}
	step := journal.Record{Kind: journal.Start, Op: body}
	for _, tt := range []struct {
		name   string
		does   [][]journal.Record // one list after each look
		state  string
		events string
	}{
		{"to its end", [][]journal.Record{{step}, {}, {{Kind: journal.Finish, Notes: []string{"of note"}},
			{Kind: journal.Commit}}, {{Kind: journal.End}}}, "completed",
			"phase started note finished committed ended"},
		{"back", [][]journal.Record{{step, {Kind: journal.Abort, Error: "why"}},
			{{Kind: journal.Undo}, {Kind: journal.Undone}, {Kind: journal.End}}}, "rolled back",
			"phase started note going-back undoing undone ended"},
		{"to where it is left open", [][]journal.Record{{{Kind: journal.Commit}, step},
			{{Kind: journal.Start, Error: "why"}}}, "open", "committed phase started failed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := sim.NewDisk()
			if err := journal.Prepare(d, id); err != nil {
				t.Fatal(err)
			}
			unlock, err := journal.Lock(context.Background(), d, node.WallClock(), journal.Holder{PID: 1})
			if err != nil {
				t.Fatal(err)
			}
			j, err := journal.Create(d, node.WallClock(), journal.RunDir(id), journal.Run{ID: id,
				Plan: []journal.Step{{Phase: "make", Kind: op.Kind(&op.MakeDirectory{}), Op: body}}})
			if err != nil {
				t.Fatal(err)
			}
			var events []string
			does := tt.does
			n := &engine.Node{Parts: engine.Parts{Host: &node.Host{FS: d, Clock: script{node.WallClock(), func() {
				for _, r := range does[0] {
					if err := j.Append(r); err != nil {
						t.Fatal(err)
					}
				}
				if does = does[1:]; len(does) == 0 {
					_ = unlock()
				}
			}}}, Emit: func(e engine.Event) { events = append(events, string(e.State)) }}}
			r, err := n.Follow(context.Background(), "")
			if err != nil || r.State != tt.state || !slices.Equal(events, strings.Fields(tt.events)) {
				t.Errorf("%v: it is %s, by %q", err, r.State, events)
			}
		})
	}
}

// countedReads counts how often each file is read.
type countedReads struct {
	node.FS
	read map[string]int
}

func (c countedReads) ReadFile(name string) ([]byte, error) {
	c.read[name]++
	return c.FS.ReadFile(name)
}

// A node has the journals of all its runs, and a run may be followed for hours.
func TestWhoFollowsARunReadsTheOthersOnce(t *testing.T) {
	const other, id = "20260801T010000Z-dirs-0001", "20260801T020000Z-dirs-0002"
	d := countedReads{sim.NewDisk(), map[string]int{}}
	var j *journal.Journal
	for _, run := range []string{other, id} {
		err := journal.Prepare(d, run)
		if err == nil {
			j, err = journal.Create(d, node.WallClock(), journal.RunDir(run), journal.Run{ID: run})
		}
		if err == nil && run == other {
			err = j.Append(journal.Record{Kind: journal.End})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	unlock, err := journal.Lock(t.Context(), d, node.WallClock(), journal.Holder{PID: 1})
	if err != nil {
		t.Fatal(err)
	}
	looks := 0
	n := &engine.Node{Parts: engine.Parts{Host: &node.Host{FS: d, Clock: script{node.WallClock(), func() {
		if looks++; looks == 3 {
			_ = unlock()
		}
	}}}, Emit: func(engine.Event) {}}}
	if r, err := n.Follow(t.Context(), ""); err != nil || r.ID != id || looks != 3 {
		t.Errorf("%s, %v, after %d looks", r.ID, err, looks)
	}
	if reads := d.read[journal.RunDir(other)+"/journal"]; reads != 1 {
		t.Errorf("another run's journal was read %d times", reads)
	}
}

// Who stops looking stops nothing else, and is told what was seen.
func TestAnInterruptEndsTheFollowingAlone(t *testing.T) {
	const id = "20260801T020000Z-dirs-ab12"
	d := sim.NewDisk()
	if err := journal.Prepare(d, id); err != nil {
		t.Fatal(err)
	}
	unlock, err := journal.Lock(context.Background(), d, node.WallClock(), journal.Holder{PID: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := journal.Create(d, node.WallClock(), journal.RunDir(id), journal.Run{ID: id}); err != nil {
		t.Fatal(err)
	}
	ctx, interrupt := context.WithCancel(context.Background())
	n := &engine.Node{Parts: engine.Parts{Host: &node.Host{FS: d, Clock: script{node.WallClock(), interrupt}},
		Emit: func(engine.Event) {}}}
	if r, err := n.Follow(ctx, ""); err != nil || r.State != engine.Running {
		t.Errorf("it is %s, %v", r.State, err)
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
}
