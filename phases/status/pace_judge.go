package status

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// What is worth a warning. A disk that is good needs a fiftieth of that (etcd's documentation: 10
// ms and 25 ms), and a machine may be busy for a moment: so these are the limits of etcd's own
// alerts, and it must go on for five seconds.
const (
	slowFsync  = 500 * time.Millisecond
	slowCommit = 250 * time.Millisecond
	slowTrip   = 150 * time.Millisecond // by etcd's default of 100 ms between heartbeats

	// Within five seconds:
	someSlow    = 3  // fsyncs or commits
	manyFsyncs  = 5  // slow ones; more than twice as many do not fit into these seconds
	manyCommits = 8  // slow ones
	manySlow    = 15 // applies
	manyFailed  = 5  // proposals
	manyChanges = 2  // of the leader

	manyPending = 100  // proposals, at the beginning and at the end
	manyTaken   = 1000 // fsyncs or commits since etcd was started

	// For which part of the time the leader says nothing: one late heartbeat is nothing, since the
	// others wait for ten before they choose another leader.
	mostSilent = 0.4

	// etcd's own alerts take four changes of the leader in a quarter of an hour for too many. It
	// has seen some when a cluster was set up, or its nodes were restarted: so not within an hour.
	upLong         = time.Hour
	betweenChanges = 15 * time.Minute / 4
)

// slowDisk is what takes etcd's disk too long.
type slowDisk struct {
	took            observe.Spread
	slow            int64 // so many
	limit           time.Duration
	what, dir, good string
}

// slow finds a disk with which etcd cannot keep its leader: where most of what it did while it was
// watched took too long, or some of it did and that is nothing new. A machine that is busy just now
// holds up a few.
func (s seen) slow() (all []slowDisk) {
	w := s.window
	for _, d := range []struct {
		slowDisk
		sinceStart observe.Spread
		many       int64
	}{
		{slowDisk{took: w.Fsync, limit: slowFsync, what: "fsyncs of its log", dir: s.logDir(), good: "10 ms"},
			w.end.Fsync, manyFsyncs},
		{slowDisk{took: w.Commit, limit: slowCommit, what: "commits of its database", dir: s.facts.Etcd.DataDir,
			good: "25 ms"}, w.end.Commit, manyCommits},
	} {
		d.slow = d.took.Above(d.limit.Seconds())
		lasts := d.sinceStart.Count >= manyTaken && d.sinceStart.Quantile(0.99) > d.limit.Seconds()
		if d.slow >= w.atLeast(d.many) && 2*d.slow >= d.took.Count || lasts && d.slow >= w.atLeast(someSlow) {
			all = append(all, d.slowDisk)
		}
	}
	return all
}

func (s seen) judgeDisk() (w found) {
	if !s.window.watched() {
		return nil
	}
	for _, d := range s.slow() {
		w = append(w, finding.New(finding.EtcdDiskSlow, d.dir, "etcd's disk is slow: within %s, %d of %d %s took "+
			"longer than %s (etcd's documentation asks for %s): members lose their leader, and writes fail. See what "+
			"else uses the disk of %s: `iostat -x 1`; or give etcd a disk of its own",
			seconds(s.window.took), d.slow, d.took.Count, d.what, limit(d.limit), d.good, d.dir))
	}
	return w
}

func (s seen) logDir() string {
	if dir := s.facts.Etcd.WALDir; dir != "" {
		return dir
	}
	return s.facts.Etcd.DataDir
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

func limit(d time.Duration) string { return fmt.Sprintf("%g s", d.Seconds()) }

// betweenHeartbeats is --heartbeat-interval.
func (s seen) betweenHeartbeats() time.Duration {
	if ms, err := strconv.Atoi(s.facts.Etcd.Setting("", "heartbeat-interval")); err == nil && ms > 0 {
		return time.Duration(ms) * time.Millisecond
	}
	return 100 * time.Millisecond
}

// judgeTrips warns of members that are further away than what etcd is set for.
func (s seen) judgeTrips() (w found) {
	if s.window == nil {
		return nil
	}
	most := max(slowTrip, 3*s.betweenHeartbeats()/2)
	for _, m := range s.answering() {
		took := s.window.trips[uint64(m.ID)]
		if took <= most {
			continue
		}
		w = append(w, finding.New(finding.MemberFar, m.Name, "a connection to member %s takes %s, which is once there "+
			"and back: every write waits for a majority, and by its defaults etcd changes its leader after a second "+
			"without a heartbeat. Check the network between the nodes (`ping`); if they are that far apart, set "+
			"--heartbeat-interval to that time, and --election-timeout to ten times as much, on all members",
			m.Name, limit(took.Round(time.Millisecond))))
	}
	return w
}

// silences is how often the leader sent no heartbeat for two intervals, in which each of the others
// was to get one.
func (s seen) silences() int64 {
	return s.window.LateHeartbeats / max(1, int64(len(s.facts.Live.Members)-1))
}

// strains are the signs that etcd does not get done in time what it must.
func (s seen) strains() (signs []string) {
	w := s.window
	say := func(is bool, format string, args ...any) {
		if is {
			signs = append(signs, fmt.Sprintf(format, args...))
		}
	}
	silent := time.Duration(s.silences()) * 2 * s.betweenHeartbeats()
	say(silent.Seconds() >= mostSilent*w.took.Seconds(), "the leader sent no heartbeat for %s or longer %d times",
		limit(2*s.betweenHeartbeats()), s.silences())
	say(w.LeaderChanges >= w.atLeast(manyChanges), "the leader changed %d times", w.LeaderChanges)
	say(w.FailedProposals >= w.atLeast(manyFailed), "%d writes failed", w.FailedProposals)
	say(w.SlowApplies >= w.atLeast(manySlow) && 2*w.SlowApplies >= w.Applied, "%d requests took longer than 100 ms to "+
		"apply, and %d entries of the log were applied", w.SlowApplies, w.Applied)
	say(w.Pending >= manyPending, "%d writes or more were waiting all the time", w.Pending)
	return signs
}

// judgeStarved warns where etcd does not get done in time what it must.
func (s seen) judgeStarved() found {
	if !s.window.watched() {
		return nil
	}
	signs := s.strains()
	if len(signs) == 0 {
		return nil
	}
	return one(finding.EtcdStarved, s.facts.Etcd.Name, "etcd cannot keep up: within %s, %s. Its processors or its "+
		"disk are too slow, or something else uses them: `top`, `iostat -x 1`", seconds(s.window.took),
		strings.Join(signs, ", and "))
}

// judgeChanges warns of a cluster that changes its leader again and again.
func (s seen) judgeChanges() found {
	w := s.window
	if w == nil || w.end.Started.IsZero() || w.end.LeaderChanges == 0 {
		return nil
	}
	up := w.end.At.Sub(w.end.Started)
	if up < upLong || up/time.Duration(w.end.LeaderChanges) >= betweenChanges {
		return nil
	}
	return one(finding.LeaderChanges, s.facts.Etcd.Name, "the leader has changed %d times since etcd was started, %s: "+
		"each time, writes wait for a second or more. `etcdpod status --watch` shows the disk and the time between "+
		"the members", w.end.LeaderChanges, engine.Age(up))
}
