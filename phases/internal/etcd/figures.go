package etcd

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Figures are what a member has counted and measured since it was started, at one instant. Only two
// of them tell what it is like now: see [Figures.Since].
type Figures struct {
	Member  uint64
	At      time.Time // when they were read
	Started time.Time // the process; zero: it does not say
	// How long it took to have the log on disk, and the database.
	Fsync, Commit Spread
	// How long a probe took there and back, by the member at the other end; two are noted each 30
	// s.
	RoundTrips map[uint64]Spread

	SlowApplies, LateHeartbeats, LeaderChanges int64
	Applied, FailedProposals                   int64
	Pending                                    int64 // proposals, now
	// How often the database was compacted since the start, and to which revision.
	Compactions, CompactRevision int64
}

// Spread is a histogram: Counts[i] of all Count measurements took at most Bounds[i] seconds.
type Spread struct {
	Bounds  []float64 `json:",omitempty"` // ascending
	Counts  []int64   `json:",omitempty"`
	Count   int64
	Seconds float64 // all together
}

// figuresTimeout bounds one question for them: they are not worth waiting for.
const figuresTimeout = 2 * time.Second

// FiguresOf asks a member for them, where [VitalsOf] does.
func FiguresOf(ctx context.Context, a Access, member uint64, further ...string) (Figures, error) {
	a.CallTimeout = figuresTimeout
	return metricsOf(ctx, a, func(text string) (Figures, error) {
		f, err := figuresIn(text, member)
		f.At = time.Now()
		return f, err
	}, further)
}

// figuresIn reads the metrics of etcd (server/storage/wal/metrics.go and the others of that name).
func figuresIn(text string, member uint64) (Figures, error) {
	f := Figures{Member: member, RoundTrips: map[uint64]Spread{}}
	counts, spreads := f.counts(), map[string]*Spread{
		"etcd_disk_wal_fsync_duration_seconds_": &f.Fsync, "etcd_disk_backend_commit_duration_seconds_": &f.Commit}
	for line := range strings.Lines(text) {
		name, labels, value, ok := sampleIn(line)
		if !ok {
			continue
		}
		if to, known := counts[name]; known {
			*to = int64(value)
		}
		for prefix, to := range spreads {
			if part, is := strings.CutPrefix(name, prefix); is {
				to.take(part, labels, value)
			}
		}
		if part, is := strings.CutPrefix(name, "etcd_network_peer_round_trip_time_seconds_"); is {
			if id, err := strconv.ParseUint(label(labels, "To"), 16, 64); err == nil {
				s := f.RoundTrips[id]
				s.take(part, labels, value)
				f.RoundTrips[id] = s
			}
		}
		switch name {
		case serverID:
			if err := ofMember(labels, member); err != nil {
				return f, err
			}
		case "process_start_time_seconds":
			f.Started = time.Unix(0, int64(value*float64(time.Second)))
		}
	}
	if len(f.Fsync.Bounds) == 0 {
		return f, errors.New("does not say how fast etcd's disk is")
	}
	return f, nil
}

// counts are what is a single number each, by its name.
func (f *Figures) counts() map[string]*int64 {
	return map[string]*int64{
		"etcd_server_slow_apply_total":              &f.SlowApplies,
		"etcd_server_heartbeat_send_failures_total": &f.LateHeartbeats,
		"etcd_server_leader_changes_seen_total":     &f.LeaderChanges,
		"etcd_server_proposals_applied_total":       &f.Applied,
		"etcd_server_proposals_failed_total":        &f.FailedProposals,
		"etcd_server_proposals_pending":             &f.Pending,
		"etcd_debugging_mvcc_compact_revision":      &f.CompactRevision,

		"etcd_debugging_mvcc_db_compaction_total_duration_milliseconds_count": &f.Compactions,
	}
}

// take adds one line of a histogram.
func (s *Spread) take(part, labels string, value float64) {
	switch part {
	case "sum":
		s.Seconds = value
	case "count":
		s.Count = int64(value)
	case "bucket":
		if bound, err := strconv.ParseFloat(label(labels, "le"), 64); err == nil && label(labels, "le") != "+Inf" {
			s.Bounds, s.Counts = append(s.Bounds, bound), append(s.Counts, int64(value))
		}
	}
}

// Since is what was counted and measured after earlier figures were read; false where these are of
// another process, which began at 0, or not earlier.
func (f Figures) Since(before Figures) (Figures, bool) {
	if f.Member != before.Member || !f.Started.Equal(before.Started) || !f.At.After(before.At) ||
		f.Fsync.Count < before.Fsync.Count || f.Commit.Count < before.Commit.Count || f.Applied < before.Applied {
		return Figures{}, false
	}
	d := f
	d.Fsync, d.Commit = f.Fsync.since(before.Fsync), f.Commit.since(before.Commit)
	d.RoundTrips = map[uint64]Spread{}
	for id, s := range f.RoundTrips {
		d.RoundTrips[id] = s.since(before.RoundTrips[id])
	}
	d.SlowApplies -= before.SlowApplies
	d.LateHeartbeats -= before.LateHeartbeats
	d.LeaderChanges -= before.LeaderChanges
	d.Applied -= before.Applied
	d.FailedProposals -= before.FailedProposals
	d.Compactions -= before.Compactions
	d.Pending = min(f.Pending, before.Pending)
	return d, true
}

func (s Spread) since(before Spread) Spread {
	if before.Count == 0 {
		return s
	}
	if !slices.Equal(s.Bounds, before.Bounds) || before.Count > s.Count {
		return Spread{}
	}
	d := Spread{Bounds: s.Bounds, Count: s.Count - before.Count, Seconds: s.Seconds - before.Seconds}
	for i := range s.Counts {
		d.Counts = append(d.Counts, s.Counts[i]-before.Counts[i])
	}
	return d
}

// Quantile is how long the share q of all measurements took at most, in seconds, as Prometheus'
// histogram_quantile estimates it: measurements between two bounds are taken to be spread evenly.
// Above the last bound nothing more than that is known.
func (s Spread) Quantile(q float64) float64 {
	rank, below, from := q*float64(s.Count), int64(0), 0.0
	for i, upTo := range s.Bounds {
		if n := s.Counts[i] - below; n > 0 && float64(s.Counts[i]) >= rank {
			return from + (upTo-from)*max(0, rank-float64(below))/float64(n)
		}
		below, from = s.Counts[i], upTo
	}
	if s.Count == 0 {
		return 0
	}
	return from
}

// Above is how many measurements certainly took longer than that: they are above the next bound.
func (s Spread) Above(seconds float64) int64 {
	for i, bound := range s.Bounds {
		if bound >= seconds {
			return s.Count - s.Counts[i]
		}
	}
	return 0
}
