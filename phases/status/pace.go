package status

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/etcdpod/etcdpod/phases/observe"
)

// Pace is what etcd did while it was watched just now. What it has done since it was started says
// little about now, and stands apart.
type Pace struct {
	Seconds float64 `json:"seconds"` // for how long it was watched
	Fsync   Latency `json:"fsync"`   // of its log
	Commit  Latency `json:"commit"`  // of its database

	SlowApplies      int64      `json:"slowApplies"`      // longer than 100 ms
	LateHeartbeats   int64      `json:"lateHeartbeats"`   // which the leader could not send in time
	FailedProposals  int64      `json:"failedProposals"`  // writes that came to nothing
	PendingProposals int64      `json:"pendingProposals"` // which waited all the time
	LeaderChanges    int64      `json:"leaderChanges"`
	Peers            []PeerPace `json:"peers"`
	SinceStart       SinceStart `json:"sinceStart"`
}

// Latency is how long something took, as etcd's histogram tells.
type Latency struct {
	Count int64 `json:"count"`
	// 99 of 100 took at most that long. It is an estimate, and one of a few only is none.
	P99  float64 `json:"p99Seconds"`
	Most float64 `json:"mostSeconds"` // none took longer
}

// PeerPace is another member, as this one sees it.
type PeerPace struct {
	ID   string `json:"id"` // hex
	Name string `json:"name"`
	// How long it took to open a connection to its peer port: once there and back.
	ConnectSeconds float64 `json:"connectSeconds,omitempty"`
	// What etcd itself measured, twice in 30 s, and since it was started.
	RoundTrip           Latency `json:"roundTrip"`
	RoundTripSinceStart Latency `json:"roundTripSinceStart"`
}

// SinceStart is what etcd has done since it was started.
type SinceStart struct {
	Time          time.Time `json:"time"` // when that was
	Fsync         Latency   `json:"fsync"`
	Commit        Latency   `json:"commit"`
	LeaderChanges int64     `json:"leaderChanges"`
}

// window is what etcd did between two looks at its figures.
type window struct {
	observe.Figures // what was added
	took            time.Duration
	end             observe.Figures // since etcd's start
	trips           map[uint64]time.Duration
}

const (
	// leastWatched is how long etcd is watched at least. What else status does takes about as long.
	leastWatched = time.Second
	// surelyWatched is for how long where that would be worth a warning if it lasted: within a
	// second a machine may well be busy, and a disk does not do much.
	surelyWatched = 5 * time.Second
	// lastWatched is how old figures may be that are compared with those of now.
	lastWatched = time.Minute
)

// watched says whether etcd was watched for long enough to say that something is wrong.
func (w *window) watched() bool { return w != nil && w.took >= surelyWatched-time.Second/2 }

// figures are those from which on etcd is watched: the last ones, or of now. It is nil where they
// cannot be had, or where etcd does not serve, which is worse than anything that they could tell.
func (s *seen) figures(ctx context.Context, n *observe.Node, last *observe.Figures) *observe.Figures {
	f := s.facts
	if f.Etcd == nil || f.Live == nil || f.LiveError != nil {
		return nil
	}
	if last != nil && last.Member == f.Live.MemberID && time.Since(last.At) < lastWatched {
		return last
	}
	now, err := n.Figures(ctx, f.Etcd, f.Live.MemberID)
	if err != nil {
		return nil
	}
	return &now
}

// watch compares etcd's figures with those from before, a second later at least.
func (s *seen) watch(ctx context.Context, n *observe.Node, first *observe.Figures) {
	if first == nil {
		return
	}
	f := s.facts
	trips := n.Trips(ctx, s.answering(), slowTrip/2)
	for _, least := range []time.Duration{leastWatched, surelyWatched} {
		if wait := least - time.Since(first.At); wait > 0 && n.Clock.Sleep(ctx, wait) != nil {
			return
		}
		now, err := n.Figures(ctx, f.Etcd, f.Live.MemberID)
		if err != nil {
			return
		}
		added, ok := now.Since(*first)
		if !ok {
			s.window, s.last = nil, &now // it was restarted: the next look can tell
			return
		}
		s.window = &window{Figures: added, took: now.At.Sub(first.At), end: now, trips: trips}
		if s.last = &now; s.window.watched() || !s.suspicious() {
			return
		}
	}
}

// answering are the other members that accept connections.
func (s seen) answering() []observe.Member {
	return slices.DeleteFunc(slices.Clone(s.facts.Live.Members), func(m observe.Member) bool {
		return uint64(m.ID) == s.facts.Live.MemberID || !observe.Started(m) ||
			slices.ContainsFunc(s.silent, func(o observe.Member) bool { return o.ID == m.ID })
	})
}

// suspicious says whether what was seen would be worth a warning if it lasted, so that it is worth
// looking longer.
func (s seen) suspicious() bool { return len(s.slow())+len(s.strains()) > 0 }

// atLeast is a limit for five seconds, as it is for as long as was watched.
func (w *window) atLeast(inFive int64) int64 {
	return max(1, int64(math.Round(float64(inFive)*w.took.Seconds()/surelyWatched.Seconds())))
}

// pace is what was watched, for programs; nil: nothing was.
func (s seen) pace() *Pace {
	w := s.window
	if w == nil {
		return nil
	}
	p := &Pace{Seconds: w.took.Seconds(), Fsync: latency(w.Fsync), Commit: latency(w.Commit),
		SlowApplies: w.SlowApplies, LateHeartbeats: w.LateHeartbeats, FailedProposals: w.FailedProposals,
		PendingProposals: w.Pending, LeaderChanges: w.LeaderChanges, Peers: []PeerPace{},
		SinceStart: SinceStart{Time: w.end.Started.UTC(), Fsync: latency(w.end.Fsync), Commit: latency(w.end.Commit),
			LeaderChanges: w.end.LeaderChanges}}
	for _, m := range s.facts.Live.Members {
		if uint64(m.ID) == s.facts.Live.MemberID || !observe.Started(m) {
			continue
		}
		id := uint64(m.ID)
		p.Peers = append(p.Peers, PeerPace{ID: m.ID.String(), Name: m.Name,
			ConnectSeconds: w.trips[id].Seconds(), RoundTrip: latency(w.RoundTrips[id]),
			RoundTripSinceStart: latency(w.end.RoundTrips[id])})
	}
	return p
}

func latency(s observe.Spread) Latency {
	return Latency{Count: s.Count, P99: s.Quantile(0.99), Most: s.Quantile(1)}
}
