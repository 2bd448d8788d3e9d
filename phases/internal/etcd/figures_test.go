package etcd

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// recorded are metrics of a real etcd, of which the lines that are read here were kept, and a few
// others: before some writes and after them.
func recorded(t *testing.T, version, name string, at time.Time) Figures {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "figures", version+"-"+name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	var member uint64
	for line := range strings.Lines(string(text)) {
		if name, labels, _, ok := sampleIn(line); ok && name == serverID {
			if _, err := fmt.Sscanf(label(labels, "server_id"), "%x", &member); err != nil {
				t.Fatal(err)
			}
		}
	}
	f, err := figuresIn(string(text), member)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := figuresIn(string(text), member+1); err == nil {
		t.Error("another member's are taken for its own")
	}
	f.At = at
	return f
}

func TestTwoLooksTellWhatHappenedInBetween(t *testing.T) {
	now := time.Now()
	for version, want := range map[string]struct {
		fsyncs, commits, applied, slow, failed, changes, trips int64
		p99                                                    float64 // of fsyncs, by hand
	}{
		"3.5.35": {fsyncs: 63, commits: 57, applied: 61, slow: 3, failed: 1, changes: 1, trips: 16,
			p99: 1.024 + 1.024*(62.37-62)/1},
		"3.7.3": {fsyncs: 60, commits: 57, applied: 60, slow: 1, trips: 8, p99: 0.128 + 0.128*(59.4-57)/3},
	} {
		before, after := recorded(t, version, "before", now), recorded(t, version, "after", now.Add(5*time.Second))
		d, ok := after.Since(before)
		if !ok || d.Fsync.Count != want.fsyncs || d.Commit.Count != want.commits || d.Applied != want.applied ||
			d.SlowApplies != want.slow || d.FailedProposals != want.failed || d.LeaderChanges != want.changes {
			t.Errorf("%s: %v, %+v", version, ok, d)
		}
		trips := int64(0)
		for _, s := range d.RoundTrips {
			trips += s.Count
		}
		if len(d.RoundTrips) != 2 || trips != want.trips {
			t.Errorf("%s: %d round trips to %d members", version, trips, len(d.RoundTrips))
		}
		if got := d.Fsync.Quantile(0.99); math.Abs(got-want.p99) > 1e-9 {
			t.Errorf("%s: the 99th percentile is %v", version, got)
		}
		// What was before does not count, whichever it is.
		if d.Fsync.Quantile(0.5) == after.Fsync.Quantile(0.5) {
			t.Errorf("%s: the median is that since the start", version)
		}
		if _, ok := before.Since(after); ok {
			t.Errorf("%s: time goes backwards", version)
		}
		again := after
		again.Started = again.Started.Add(time.Second)
		if _, ok := again.Since(before); ok {
			t.Errorf("%s: the figures of two processes were compared", version)
		}
		if after.Started.Year() < 2020 || before.CompactRevision > 0 || before.Compactions != 0 {
			t.Errorf("%s: %+v", version, after)
		}
	}
}

func TestQuantilesAreThoseOfPrometheus(t *testing.T) {
	s := Spread{Bounds: []float64{0.001, 0.002, 0.004, 0.008}, Counts: []int64{10, 10, 30, 39}, Count: 40, Seconds: 1}
	for q, want := range map[float64]float64{
		0.25: 0.001,                   // the last of the first bucket
		0.5:  0.002 + 0.002*10.0/20.0, // ten of the twenty between 2 and 4 ms
		0.9:  0.004 + 0.004*6.0/9.0,
		0.99: 0.008, // above the last bound nothing is known
		1:    0.008,
	} {
		if got := s.Quantile(q); math.Abs(got-want) > 1e-12 {
			t.Errorf("the share %v took %v, and not %v", q, got, want)
		}
	}
	if (Spread{}).Quantile(0.99) != 0 {
		t.Error("nothing took some time")
	}
	for seconds, want := range map[float64]int64{0.001: 30, 0.0015: 30, 0.003: 10, 0.008: 1, 9: 0} {
		if got := s.Above(seconds); got != want {
			t.Errorf("%d took longer than %v", got, seconds)
		}
	}
	d := s.since(Spread{Bounds: s.Bounds, Counts: []int64{10, 10, 10, 10}, Count: 10})
	if d.Count != 30 || d.Quantile(0.5) != 0.002+0.002*15.0/20.0 {
		t.Errorf("%+v", d)
	}
	if other := s.since(Spread{Bounds: []float64{1}, Counts: []int64{1}, Count: 1}); other.Count != 0 {
		t.Errorf("of other bounds: %+v", other)
	}
}

// Of real etcds that are written to, each version says all that is read.
func TestEveryVersionTellsItsFigures(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, "a").start(version).await()
			c := s.client()
			id := c.Status(t.Context())[0].MemberID
			look := func() Figures {
				var f Figures
				eventually(t, func() (err error) { // a busy machine is slow to answer
					f, err = FiguresOf(t.Context(), Access{Endpoints: []string{s.Endpoint}}, id)
					return err
				})
				return f
			}
			before := look()
			for i := range 30 {
				if err := putOnce(t.Context(), c.v3, fmt.Sprintf("/k%d", i), "v"); err != nil {
					t.Fatal(err)
				}
			}
			s.compact()
			after := look()
			d, ok := after.Since(before)
			if !ok || d.Fsync.Count < 30 || d.Commit.Count < 1 || d.Applied < 30 || d.Compactions != 1 ||
				d.CompactRevision < 30 || d.LeaderChanges != 0 && after.LeaderChanges == 0 {
				t.Errorf("%v: %+v", ok, d)
			}
			if p99 := d.Fsync.Quantile(0.99); p99 <= 0 || d.Fsync.Seconds <= 0 || p99 > d.Fsync.Quantile(1) {
				t.Errorf("p99 %v of %+v", p99, d.Fsync)
			}
			if age := time.Since(after.Started); age <= 0 || age > patience {
				t.Errorf("it was started %s ago", age)
			}
			if _, err := FiguresOf(t.Context(), Access{Endpoints: []string{s.Endpoint}}, id+1); err == nil {
				t.Error("another member answered")
			}
			s.kill()
			if _, err := FiguresOf(t.Context(), Access{Endpoints: []string{s.Endpoint}}, id); err == nil {
				t.Error("nobody answers, and there are figures")
			}
		})
	}
}

// A compaction leaves its hash in memory: asking for it costs nothing. One that is computed when it
// is asked for is of another compaction, and so not comparable with those.
func TestWhoHasCompactedSinceItsStartHasItsHashReady(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, "a").start(version).await()
			id := s.client().Status(t.Context())[0].MemberID
			look := func() (f Figures, h Hash) {
				eventually(t, func() (err error) {
					f, err = FiguresOf(t.Context(), Access{Endpoints: []string{s.Endpoint}}, id)
					return err
				})
				c := s.client()
				h, err := c.HashKV(t.Context(), c.Endpoint(), f.CompactRevision)
				if err != nil {
					t.Fatal(err)
				}
				return f, h
			}
			for _, prefix := range []string{"/a", "/b"} {
				s.put(prefix, 20, 10)
				s.compact()
			}
			ready, kept := look()
			if ready.Compactions != 2 || ready.CompactRevision != 41 || kept.CompactRevision != 21 ||
				kept.Revision != 41 {
				t.Errorf("before: %d compactions, to %d; %+v", ready.Compactions, ready.CompactRevision, kept)
			}
			s.stop()
			s.start(version).await()
			anew, computed := look()
			if anew.Compactions != 0 || anew.CompactRevision != 41 || computed.CompactRevision != 41 {
				t.Errorf("after a restart: %d compactions, to %d; %+v", anew.Compactions, anew.CompactRevision,
					computed)
			}
		})
	}
}

func TestAPeerThatSaysNothingHangs(t *testing.T) {
	t.Parallel()
	s := newServer(t, "a").start(versions[0], unflushed...).await()
	at := Access{Endpoints: []string{s.PeerURL}}
	if PeerHangs(t.Context(), at) {
		t.Error("one that serves hangs")
	}
	if took := Reached(t.Context(), s.PeerURL, time.Hour); took <= 0 {
		t.Errorf("it takes %s to reach it", took)
	}
	_ = s.cmd.Process.Signal(syscall.SIGSTOP)
	eventually(t, func() error { // on a busy machine a process stops a little later
		if !PeerHangs(t.Context(), at) {
			return errAgain
		}
		return nil
	})
	_ = s.cmd.Process.Signal(syscall.SIGCONT)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if PeerHangs(ended, at) {
		t.Error("who was told to stop says that it hangs")
	}
	s.kill()
	if PeerHangs(t.Context(), at) || Reached(t.Context(), s.PeerURL, 0) != 0 {
		t.Error("one that does not run hangs, or is reached")
	}
}
