package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/status"
)

// enoughForP99 is from how many on the slowest of a hundred is more than the slowest of all.
const enoughForP99 = 20

// paceRows say how etcd did while it was watched, and since it was started.
func paceRows(p *status.Pace, now time.Time) [][]string {
	if p == nil {
		return nil
	}
	since := fmt.Sprintf("since etcd's start, %s,", engine.Age(now.Sub(p.SinceStart.Time)))
	rows := [][]string{{"disk", fmt.Sprintf("%s; %s; in %.1f s; %s p99 %s and %s", tookText(p.Fsync, "fsync", "fsyncs"),
		tookText(p.Commit, "commit", "commits"), p.Seconds, since, ms(p.SinceStart.Fsync.P99),
		ms(p.SinceStart.Commit.P99))}}
	var trips []string
	for _, peer := range p.Peers {
		if peer.ConnectSeconds > 0 {
			trips = append(trips, fmt.Sprintf("%s in %s (%s)", peer.Name, ms(peer.ConnectSeconds), tripText(peer)))
		}
	}
	if len(trips) > 0 {
		rows = append(rows, []string{"there and back", strings.Join(trips, ", ")})
	}
	return append(rows, []string{"strain", strainText(p, since)})
}

// tookText says how long something took; of a few, only the longest tells anything.
func tookText(l status.Latency, one, many string) string {
	switch {
	case l.Count == 0:
		return "no " + many
	case l.Count < enoughForP99:
		return fmt.Sprintf("%s, at most %s", count(int(l.Count), one, many), ms(l.Most))
	}
	return fmt.Sprintf("%d %s, p99 %s", l.Count, many, ms(l.P99))
}

// tripText is what etcd itself has measured, which it does twice in 30 s.
func tripText(p status.PeerPace) string {
	if p.RoundTrip.Count > 0 {
		return fmt.Sprintf("by etcd just now: at most %s", ms(p.RoundTrip.Most))
	}
	if p.RoundTripSinceStart.Count == 0 {
		return "not yet measured by etcd"
	}
	return fmt.Sprintf("by etcd since its start: p99 %s", ms(p.RoundTripSinceStart.P99))
}

func strainText(p *status.Pace, since string) string {
	var signs []string
	for _, s := range []struct {
		n         int64
		one, many string
	}{
		{p.LateHeartbeats, "late heartbeat", "late heartbeats"}, {p.SlowApplies, "slow apply", "slow applies"},
		{p.FailedProposals, "failed write", "failed writes"}, {p.PendingProposals, "waiting write", "waiting writes"},
		{p.LeaderChanges, "change of the leader", "changes of the leader"},
	} {
		if s.n > 0 {
			signs = append(signs, count(int(s.n), s.one, s.many))
		}
	}
	text := "none"
	if len(signs) > 0 {
		text = strings.Join(signs, ", ")
	}
	return fmt.Sprintf("%s in %.1f s; %s %s", text, p.Seconds, since,
		count(int(p.SinceStart.LeaderChanges), "change of the leader", "changes of the leader"))
}

// ms is a short time, in seconds, for people.
func ms(seconds float64) string {
	switch {
	case seconds >= 1:
		return fmt.Sprintf("%.1f s", seconds)
	case seconds >= 0.01:
		return fmt.Sprintf("%.0f ms", 1000*seconds)
	}
	return fmt.Sprintf("%.1f ms", 1000*seconds)
}

// comparedText says with how many others a member was compared, and why not with the rest. What is
// so of all is said once.
func comparedText(c *status.Compared) string {
	var words []string
	if c.Members > 0 {
		words = append(words, fmt.Sprintf("%d members, as of revision %d", c.Members, c.HashRevision))
	}
	reasons := map[string]bool{}
	for _, why := range c.NotCompared {
		words = append(words, "not "+why)
		_, reason, _ := strings.Cut(why, ": ")
		reasons[reason] = true
	}
	if c.Members == 0 && len(reasons) == 1 {
		for reason := range reasons {
			return "none: " + reason
		}
	}
	return strings.Join(words, "; ")
}

// ofPace adds the metrics of what etcd did while it was watched.
func (m *metrics) ofPace(p *status.Pace, node labels) {
	if p == nil {
		return
	}
	with := func(more ...string) labels { return append(append(labels{}, more...), node...) }
	m.add("watched_seconds", "For how long etcd was watched for what follows.", p.Seconds, node)
	for _, l := range []struct {
		name, what string
		status.Latency
	}{{"fsync", "fsyncs of etcd's log", p.Fsync}, {"commit", "commits of etcd's database", p.Commit}} {
		m.add("etcd_"+l.name+"s", "How many "+l.what+" there were meanwhile.", float64(l.Count), node)
		if l.Count > 0 {
			m.add("etcd_"+l.name+"_longest_seconds", "None of the "+l.what+" took longer.", l.Most, node)
		}
		if l.Count >= enoughForP99 {
			m.add("etcd_"+l.name+"_p99_seconds", "99 of 100 "+l.what+" took at most that long.", l.P99, node)
		}
	}
	m.add("etcd_slow_applies", "How many requests took longer than 100 ms to apply meanwhile.", float64(p.SlowApplies),
		node)
	m.add("etcd_late_heartbeats", "How many heartbeats the leader sent late meanwhile.", float64(p.LateHeartbeats),
		node)
	m.add("etcd_failed_proposals", "How many writes failed meanwhile.", float64(p.FailedProposals), node)
	m.add("etcd_pending_proposals", "How many writes waited all the time.", float64(p.PendingProposals), node)
	m.add("etcd_leader_changes", "How often the leader has changed since etcd was started.",
		float64(p.SinceStart.LeaderChanges), node)
	for _, peer := range p.Peers {
		if peer.ConnectSeconds > 0 {
			m.add("etcd_peer_connect_seconds", "How long a connection to another member takes, once there and back.",
				peer.ConnectSeconds, with("member", peer.Name, "member_id", peer.ID))
		}
	}
}
