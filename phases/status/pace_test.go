package status

import (
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/observe"
)

const msec = time.Millisecond

// spread is a histogram with etcd's bounds: so many took so long.
func spread(took map[time.Duration]int64) (s observe.Spread) {
	for bound := 0.001; bound < 10; bound *= 2 {
		s.Bounds, s.Counts = append(s.Bounds, bound), append(s.Counts, 0)
	}
	for d, n := range took {
		s.Count, s.Seconds = s.Count+n, s.Seconds+d.Seconds()*float64(n)
		for i, bound := range s.Bounds {
			if d.Seconds() <= bound {
				s.Counts[i] += n
			}
		}
	}
	return s
}

// watched is a healthy cluster of three whose etcd was watched for so long.
func watched(t *testing.T, took time.Duration) seen {
	t.Helper()
	s := sized(t, 3)
	s.window = &window{took: took, trips: map[uint64]time.Duration{8: msec / 2, 9: msec}}
	s.window.Fsync, s.window.Commit = spread(map[time.Duration]int64{3 * msec: 38, 30 * msec: 2}),
		spread(map[time.Duration]int64{7 * msec: 12})
	s.window.Applied = 40
	end := &s.window.end
	end.Member, end.At = 7, s.facts.Now
	end.Started, end.LeaderChanges = s.facts.Now.Add(-time.Hour), 2
	end.Fsync = spread(map[time.Duration]int64{3 * msec: 90000, 900 * msec: 10})
	end.Commit = spread(map[time.Duration]int64{7 * msec: 30000, 900 * msec: 10})
	return s
}

// etcdFlag has etcd started with a flag.
func etcdFlag(t *testing.T, s *seen, name, value string) {
	t.Helper()
	pod := s.facts.Etcd
	changed, err := pod.File.Manifest.SetFlag(pod.Container, name, value)
	if err != nil {
		t.Fatal(err)
	}
	pod.File.Manifest = changed
}

func TestStatusWarnsOfAnEtcdThatIsTooSlow(t *testing.T) {
	fsyncs := func(took map[time.Duration]int64) func(*seen) {
		return func(s *seen) { s.window.Fsync = spread(took) }
	}
	commits := func(took map[time.Duration]int64) func(*seen) {
		return func(s *seen) { s.window.Commit = spread(took) }
	}
	for name, c := range map[string]struct {
		took   time.Duration
		change func(*seen)
		code   finding.Code // empty: nothing is found
		says   string
	}{
		"all is well": {5 * time.Second, func(*seen) {}, "", ""},
		"most fsyncs are slow": {5 * time.Second, fsyncs(map[time.Duration]int64{900 * msec: 5, 3 * msec: 1}),
			finding.EtcdDiskSlow, "within 5.0 s, 5 of 6 fsyncs of its log took longer than 0.5 s (etcd's " +
				"documentation asks for 10 ms)"},
		"the same, seen for a second": {time.Second, fsyncs(map[time.Duration]int64{900 * msec: 5}), "", ""},
		"a few are, on a machine that is busy just now": {5 * time.Second,
			fsyncs(map[time.Duration]int64{900 * msec: 4, 3 * msec: 20}), "", ""},
		"a few are, and always were": {5 * time.Second, func(s *seen) {
			s.window.Fsync = spread(map[time.Duration]int64{900 * msec: 4, 3 * msec: 20})
			s.window.end.Fsync = spread(map[time.Duration]int64{900 * msec: 50, 3 * msec: 2000})
		}, finding.EtcdDiskSlow, "4 of 24 fsyncs"},
		"they always were, as far as so few tell": {5 * time.Second, func(s *seen) {
			s.window.Fsync = spread(map[time.Duration]int64{900 * msec: 4, 3 * msec: 20})
			s.window.end.Fsync = spread(map[time.Duration]int64{900 * msec: 50, 3 * msec: 200})
		}, "", ""},
		"they were slow once, and are not now": {5 * time.Second, func(s *seen) {
			s.window.end.Fsync = spread(map[time.Duration]int64{900 * msec: 5000, 3 * msec: 2000})
		}, "", ""},
		"the only two are":    {5 * time.Second, fsyncs(map[time.Duration]int64{900 * msec: 2}), "", ""},
		"nothing was written": {5 * time.Second, fsyncs(nil), "", ""},
		"commits are slow": {5 * time.Second, commits(map[time.Duration]int64{300 * msec: 8, 3 * msec: 3}),
			finding.EtcdDiskSlow, "8 of 11 commits of its database took longer than 0.25 s"},
		"a third of them is": {5 * time.Second, commits(map[time.Duration]int64{300 * msec: 8, 3 * msec: 16}), "", ""},
		"a member far away": {time.Second, func(s *seen) { s.window.trips[9] = 210 * msec }, finding.MemberFar,
			"a connection to member cp3 takes 0.21 s, which is once there and back"},
		"one as far away as etcd is set for": {time.Second, func(s *seen) {
			etcdFlag(t, s, "heartbeat-interval", "150")
			s.window.trips[9] = 210 * msec
		}, "", ""},
		"one whose way could not be measured": {time.Second, func(s *seen) { delete(s.window.trips, 9) }, "", ""},
		"late heartbeats, to each of two members": {5 * time.Second, func(s *seen) { s.window.LateHeartbeats = 20 },
			finding.EtcdStarved, "within 5.0 s, the leader sent no heartbeat for 0.2 s or longer 10 times"},
		"a few, on a machine that is busy just now": {5 * time.Second,
			func(s *seen) { s.window.LateHeartbeats = 19 }, "", ""},
		"a few, where etcd sends them more slowly": {5 * time.Second, func(s *seen) {
			etcdFlag(t, s, "heartbeat-interval", "500")
			s.window.LateHeartbeats = 4
		}, finding.EtcdStarved, "the leader sent no heartbeat for 1 s or longer 2 times"},
		"the leader changes": {5 * time.Second, func(s *seen) { s.window.LeaderChanges = 2 }, finding.EtcdStarved,
			"the leader changed 2 times"},
		"it changed once": {5 * time.Second, func(s *seen) { s.window.LeaderChanges = 1 }, "", ""},
		"writes fail": {5 * time.Second, func(s *seen) { s.window.FailedProposals = 5 }, finding.EtcdStarved,
			"5 writes failed"},
		"writes wait": {5 * time.Second, func(s *seen) { s.window.Pending = 100 }, finding.EtcdStarved,
			"100 writes or more were waiting"},
		"some applies are slow": {5 * time.Second, func(s *seen) {
			s.window.SlowApplies, s.window.Applied = 14, 20
		}, "", ""},
		"most applies are slow": {5 * time.Second, func(s *seen) { s.window.SlowApplies = 25 }, finding.EtcdStarved,
			"25 requests took longer than 100 ms to apply, and 40 entries of the log were applied"},
		"expensive lists among many writes": {5 * time.Second, func(s *seen) {
			s.window.SlowApplies, s.window.Applied = 25, 4000
		}, "", ""},
		"all of it, seen for a second": {time.Second, func(s *seen) {
			s.window.SlowApplies, s.window.Pending, s.window.LateHeartbeats, s.window.LeaderChanges = 40, 100, 9, 2
		}, "", ""},
		"as much of it in a minute as is too much in five seconds": {time.Minute, func(s *seen) {
			s.window.SlowApplies, s.window.LateHeartbeats, s.window.FailedProposals = 25, 20, 5
			s.window.Fsync = spread(map[time.Duration]int64{900 * msec: 5})
		}, "", ""},
		"a cluster whose nodes were all restarted": {time.Second, func(s *seen) {
			s.window.end.LeaderChanges, s.window.end.Started = 17, s.facts.Now.Add(-50*time.Minute)
		}, "", ""},
		"a leader that does not last": {time.Second, func(s *seen) { s.window.end.LeaderChanges = 17 },
			finding.LeaderChanges, "the leader has changed 17 times since etcd was started, "},
		"one that changed now and then for a month": {time.Second, func(s *seen) {
			s.window.end.LeaderChanges, s.window.end.Started = 16, s.facts.Now.AddDate(0, -1, 0)
		}, "", ""},
		"a cluster that was set up just now": {time.Second, func(s *seen) {
			s.window.end.LeaderChanges, s.window.end.Started = 4, s.facts.Now.Add(-time.Minute)
		}, "", ""},
		"an etcd that was not watched": {0, func(s *seen) { s.window = nil }, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := watched(t, c.took)
			c.change(&s)
			st := s.status()
			if c.code == "" {
				if len(st.Findings) > 0 || st.Next != NothingToDo {
					t.Errorf("it warns of %q, and next is %q", st.Warnings, st.Next)
				}
				return
			}
			if len(st.Findings) != 1 || st.Findings[0].Code != c.code || !strings.Contains(st.Warnings[0], c.says) {
				t.Errorf("it says %v", st.Findings)
			}
			if st.Next == NothingToDo {
				t.Error("there is nothing to do")
			}
		})
	}
}

// What would be worth a warning if it lasted is looked at for longer, and nothing else is.
func TestOnlyWhatLooksWrongIsWatchedForLonger(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*window)
		want   bool
	}{
		"all is well":       {func(*window) {}, false},
		"the only fsync is": {func(w *window) { w.Fsync = spread(map[time.Duration]int64{900 * msec: 1}) }, true},
		"one fsync of many is": {func(w *window) {
			w.Fsync = spread(map[time.Duration]int64{900 * msec: 1, 3 * msec: 9})
		}, false},
		"two of three commits are": {func(w *window) {
			w.Commit = spread(map[time.Duration]int64{300 * msec: 2, 3 * msec: 1})
		}, true},
		"one commit is":         {func(w *window) { w.Commit = spread(map[time.Duration]int64{300 * msec: 1}) }, false},
		"one silence, to two":   {func(w *window) { w.LateHeartbeats = 2 }, false},
		"two silences, to two":  {func(w *window) { w.LateHeartbeats = 4 }, true},
		"another leader":        {func(w *window) { w.LeaderChanges = 1 }, true},
		"a write failed":        {func(w *window) { w.FailedProposals = 1 }, true},
		"two slow applies":      {func(w *window) { w.SlowApplies = 2 }, false},
		"most applies are slow": {func(w *window) { w.SlowApplies = 25 }, true},
		"writes that wait":      {func(w *window) { w.Pending = 150 }, true},
		"a slow fsync, once": {func(w *window) {
			w.end.Fsync = spread(map[time.Duration]int64{900 * msec: 9})
		}, false},
	} {
		s := watched(t, time.Second)
		c.change(s.window)
		if s.suspicious() != c.want {
			t.Errorf("%s: looks wrong: %v", name, !c.want)
		}
	}
}

// What was seen just now and what was since the start are never mixed up.
func TestTheFiguresOfNowAndThoseSinceTheStartStandApart(t *testing.T) {
	s := watched(t, 1200*msec)
	s.window.RoundTrips = map[uint64]observe.Spread{8: spread(map[time.Duration]int64{3 * msec: 1})}
	s.window.end.RoundTrips = map[uint64]observe.Spread{8: spread(map[time.Duration]int64{900 * msec: 50})}
	p := s.status().Pace
	if p == nil || p.Seconds != 1.2 || p.Fsync.Count != 40 || p.Fsync.P99 < 0.016 || p.Fsync.P99 > 0.032 ||
		p.Fsync.Most != 0.032 || p.SinceStart.Fsync.Count != 90010 || p.SinceStart.Fsync.P99 > 0.004 ||
		p.SinceStart.LeaderChanges != 2 || p.LeaderChanges != 0 {
		t.Errorf("%+v", p)
	}
	if len(p.Peers) != 2 || p.Peers[0].Name != "cp2" || p.Peers[0].ConnectSeconds != 0.0005 ||
		p.Peers[0].RoundTrip.Most != 0.004 || p.Peers[0].RoundTripSinceStart.P99 < 0.5 ||
		p.Peers[1].RoundTrip.Count != 0 {
		t.Errorf("%+v", p.Peers)
	}
}
