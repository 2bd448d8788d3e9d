package status

import (
	"fmt"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// What is worth a warning. A disk that is good needs a fiftieth of that (etcd's documentation: 10
// ms and 25 ms), and a machine may be busy for a moment: so these are the limits of etcd's own
// alerts.
const (
	slowFsync  = 500 * time.Millisecond
	slowCommit = 250 * time.Millisecond
	slowTrip   = 150 * time.Millisecond

	someSlow    = 3    // fsyncs, commits or heartbeats, within a few seconds
	manyFsyncs  = 5    // slow ones; more than twice as many do not fit into these seconds
	manyCommits = 8    // slow ones
	manyTaken   = 1000 // fsyncs or commits since etcd was started
	manySlow    = 10   // applies
	manyPending = 100  // proposals, at the beginning and at the end
	manyFailed  = 5    // proposals
	manyChanges = 2    // of the leader, within a few seconds

	// etcd's own alerts take four changes of the leader in a quarter of an hour for too many. It
	// has seen some when a cluster was set up, or its nodes were restarted.
	changesSinceStart = 8
	betweenChanges    = 15 * time.Minute / 4
)

// judgeDisk warns of a disk with which etcd cannot keep its leader: where most of what it did while
// it was watched took too long, or some of it did and that is nothing new. A machine that is busy
// just now holds up a few.
func (s seen) judgeDisk() (w found) {
	if !s.window.watched() {
		return nil
	}
	for _, d := range []struct {
		took, sinceStart observe.Spread
		slow             time.Duration
		many             int64
		what, dir, good  string
	}{
		{s.window.Fsync, s.window.end.Fsync, slowFsync, manyFsyncs, "fsyncs of its log", s.logDir(), "10 ms"},
		{s.window.Commit, s.window.end.Commit, slowCommit, manyCommits, "commits of its database",
			s.facts.Etcd.DataDir, "25 ms"},
	} {
		slow := d.took.Above(d.slow.Seconds())
		lasts := d.sinceStart.Count >= manyTaken && d.sinceStart.Quantile(0.99) > d.slow.Seconds()
		if !(slow >= d.many && 2*slow >= d.took.Count || lasts && slow >= someSlow) {
			continue
		}
		w = append(w, finding.New(finding.EtcdDiskSlow, d.dir, "etcd's disk is slow: within %s, %d of %d %s took "+
			"longer than %s (etcd's documentation asks for %s): members lose their leader, and writes fail. See what "+
			"else uses the disk of %s: `iostat -x 1`; or give etcd a disk of its own",
			seconds(s.window.took), slow, d.took.Count, d.what, limit(d.slow), d.good, d.dir))
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

// judgeTrips warns of members that are far away.
func (s seen) judgeTrips() (w found) {
	if s.window == nil {
		return nil
	}
	for _, m := range s.answering() {
		took := s.window.trips[uint64(m.ID)]
		if took <= slowTrip {
			continue
		}
		w = append(w, finding.New(finding.MemberFar, m.Name, "a connection to member %s takes %s, which is once there "+
			"and back: every write waits for a majority, and by its defaults etcd changes its leader after a second "+
			"without one. Check the network between the nodes (`ping`); if they are that far apart, set "+
			"--heartbeat-interval to that time, and --election-timeout to ten times as much, on all members",
			m.Name, limit(took.Round(time.Millisecond))))
	}
	return w
}

// judgeStarved warns where etcd does not get done in time what it must.
func (s seen) judgeStarved() found {
	if !s.window.watched() {
		return nil
	}
	w, signs := s.window, []string{}
	say := func(is bool, format string, args ...any) {
		if is {
			signs = append(signs, fmt.Sprintf(format, args...))
		}
	}
	say(w.LateHeartbeats >= someSlow, "%d heartbeats were late", w.LateHeartbeats)
	say(w.LeaderChanges >= manyChanges, "the leader changed %d times", w.LeaderChanges)
	say(w.FailedProposals >= manyFailed, "%d writes failed", w.FailedProposals)
	say(w.SlowApplies >= manySlow && 2*w.SlowApplies >= w.Applied, "%d requests took longer than 100 ms to apply, "+
		"and %d entries of the log were applied", w.SlowApplies, w.Applied)
	say(w.Pending >= manyPending, "%d writes or more were waiting all the time", w.Pending)
	if len(signs) == 0 {
		return nil
	}
	return one(finding.EtcdStarved, s.facts.Etcd.Name, "etcd cannot keep up: within %s, %s. Its processors or its "+
		"disk are too slow, or something else uses them: `top`, `iostat -x 1`", seconds(w.took),
		strings.Join(signs, ", and "))
}

// judgeChanges warns of a cluster that changes its leader again and again.
func (s seen) judgeChanges() found {
	w := s.window
	if w == nil || w.end.Started.IsZero() || w.end.LeaderChanges < changesSinceStart {
		return nil
	}
	up := w.end.At.Sub(w.end.Started)
	if up/time.Duration(w.end.LeaderChanges) >= betweenChanges {
		return nil
	}
	return one(finding.LeaderChanges, s.facts.Etcd.Name, "the leader has changed %d times since etcd was started, %s: "+
		"each time, writes wait for a second or more. `etcdpod status --watch` shows the disk and the time between "+
		"the members", w.end.LeaderChanges, engine.Age(up))
}
