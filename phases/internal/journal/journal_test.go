package journal_test

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
)

func begin(t *testing.T, d *sim.Disk, id string) *journal.Journal {
	t.Helper()
	if err := journal.Prepare(d, id); err != nil {
		t.Fatal(err)
	}
	steps := []journal.Step{{Phase: "a", Kind: "x", Op: []byte("{}")}, {Phase: "b", Kind: "y", Op: []byte("{}")}}
	j, err := journal.Create(d, node.WallClock(), journal.RunDir(id), journal.Run{ID: id, Plan: steps, CommitAt: 1})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func disk(t *testing.T) *sim.Disk {
	t.Helper()
	d := sim.NewDisk()
	if err := node.MkdirAll(d, "/var/lib", node.Mine(0o755)); err != nil {
		t.Fatal(err)
	}
	return d
}

func write(t *testing.T, j *journal.Journal, records ...journal.Record) {
	t.Helper()
	for _, r := range records {
		if err := j.Append(r); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAJournalTellsHowFarARunGot(t *testing.T) {
	d := disk(t)
	j := begin(t, d, "run")
	write(t, j, journal.Record{Kind: journal.Start, Step: 0, Op: []byte(`{"seen":1}`)},
		journal.Record{Kind: journal.Finish, Step: 0},
		journal.Record{Kind: journal.Commit}, journal.Record{Kind: journal.Start, Step: 1})
	s, err := journal.Read(d, journal.RunDir("run"))
	if err != nil {
		t.Fatal(err)
	}
	if s.Steps[0].Progress != journal.Done || s.Steps[1].Progress != journal.Doing ||
		!s.Committed || s.Ended || s.Current() != 1 {
		t.Errorf("it tells %+v", s)
	}
	if string(s.Steps[0].Op) != `{"seen":1}` {
		t.Errorf("what the first operation recorded is %s", s.Steps[0].Op)
	}
}

func TestEveryCutOfTheLastLineIsAsIfItHadNeverBeenWritten(t *testing.T) {
	d := disk(t)
	j := begin(t, d, "run")
	name := journal.RunDir("run") + "/journal"
	before, _ := d.ReadFile(name)
	write(t, j, journal.Record{Kind: journal.Start, Step: 0})
	whole, _ := d.ReadFile(name)
	for size := len(before); size < len(whole); size++ {
		// Always the same line: a line written later can be shorter, since times drop trailing
		// zeros.
		if err := errors.Join(d.Truncate(name, int64(len(before))),
			d.Append(name, whole[len(before):size])); err != nil {
			t.Fatal(err)
		}
		j, s, err := journal.Open(d, node.WallClock(), journal.RunDir("run"))
		if err != nil {
			t.Fatalf("cut to %d of %d bytes: %v", size, len(whole), err)
		}
		if s.Steps[0].Progress != journal.Pending {
			t.Fatalf("cut to %d of %d bytes: the torn record counts", size, len(whole))
		}
		write(t, j, journal.Record{Kind: journal.Start, Step: 0})
		if s, err := journal.Read(d, journal.RunDir("run")); err != nil || s.Steps[0].Progress != journal.Doing {
			t.Fatalf("cut to %d of %d bytes: what was written afterwards cannot be read: %v", size, len(whole), err)
		}
	}
}

func TestDamageInTheMiddleIsSaid(t *testing.T) {
	d := disk(t)
	j := begin(t, d, "run")
	write(t, j, journal.Record{Kind: journal.Start, Step: 0}, journal.Record{Kind: journal.Finish, Step: 0})
	name := journal.RunDir("run") + "/journal"
	data, _ := d.ReadFile(name)
	damaged := strings.Replace(string(data), `"kind":"start"`, `"kind":"stort"`, 1)
	if err := errors.Join(d.Truncate(name, 0), d.Append(name, []byte(damaged))); err != nil {
		t.Fatal(err)
	}
	if _, err := journal.Read(d, journal.RunDir("run")); !errors.Is(err, journal.ErrDamaged) {
		t.Errorf("it says %v", err)
	}
	runs, err := journal.List(d)
	if err != nil || len(runs) != 1 || runs[0].Err == nil {
		t.Errorf("the list has %v, %v", runs, err)
	}
}

func TestARunThatNeverBeganIsNoRun(t *testing.T) {
	d := disk(t)
	if err := journal.Prepare(d, "run"); err != nil {
		t.Fatal(err)
	}
	if runs, err := journal.List(d); err != nil || len(runs) != 0 {
		t.Errorf("the list has %v, %v", runs, err)
	}
	if _, err := journal.Read(d, journal.RunDir("run")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reading it says %v", err)
	}
}

func TestAnAppendThatFailsLeavesNoHalfRecordBeforeTheNext(t *testing.T) {
	d := disk(t)
	j := begin(t, d, "run")
	step := d.Step
	d.Step = func(call string) error {
		if strings.HasPrefix(call, "append the rest") {
			return fmt.Errorf("no space")
		}
		return nil
	}
	if err := j.Append(journal.Record{Kind: journal.Start, Step: 0}); err == nil {
		t.Fatal("the append succeeded")
	}
	d.Step = step
	write(t, j, journal.Record{Kind: journal.Abort, Error: "no space"})
	s, err := journal.Read(d, journal.RunDir("run"))
	if err != nil || s.Aborted != "no space" || s.Steps[0].Progress != journal.Pending {
		t.Errorf("it reads %+v, %v", s, err)
	}
}

func TestTheLockHasOneHolderAndTellsWho(t *testing.T) {
	d := disk(t)
	unlock, err := journal.Lock(t.Context(), d, node.WallClock(),
		journal.Holder{PID: 42, Command: []string{"etcdpod", "restore"}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = journal.Lock(t.Context(), d, node.WallClock(), journal.Holder{PID: 43})
	var busy *journal.BusyError
	if !errors.As(err, &busy) || busy.Holder.PID != 42 || !strings.Contains(err.Error(), "42") {
		t.Errorf("the second one is told %v", err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	if _, err := journal.Lock(t.Context(), d, node.WallClock(), journal.Holder{PID: 43}); err != nil {
		t.Errorf("after the first one went: %v", err)
	}
}

// What a journal says is carried out as root: one that others may have written is none.
func TestAJournalThatOthersMayHaveWrittenIsNotBelieved(t *testing.T) {
	for name, attr := range map[string]node.Attr{
		"it belongs to somebody else": {Mode: 0o600, UID: 12345},
		"everybody may write to it":   {Mode: 0o602},
	} {
		d := disk(t)
		begin(t, d, "run")
		file := journal.RunDir("run") + "/" + journal.Name
		data, _ := d.ReadFile(file)
		if err := errors.Join(d.Remove(file), d.Create(file, data, attr)); err != nil {
			t.Fatal(err)
		}
		runs, err := journal.List(d)
		if err != nil || len(runs) != 1 || runs[0].Err == nil || runs[0].State != nil ||
			!strings.Contains(runs[0].Err.Error(), "others may have written it") {
			t.Errorf("%s: the list has %v, %v", name, runs, err)
		}
	}
}
