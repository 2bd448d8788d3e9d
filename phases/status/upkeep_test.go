package status

import (
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/backup"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
)

// grows has a file of that size now, and a backup of the same cluster that had another size before.
func grows(s *seen, now, then int64, ago time.Duration) {
	s.facts.Live.SizeBytes, s.facts.Live.InUseBytes, s.facts.Live.ClusterID = now, now, 9
	s.backups = append(s.backups, backup.Entry{Whole: true, Sidecar: backup.Sidecar{Path: "/b/then.db",
		TakenAt: s.facts.Now.Add(-ago), SizeBytes: then, ClusterID: "9"}})
}

func TestStatusWarnsOfWhatWillNotGoOnForLong(t *testing.T) {
	const day, mib = 24 * time.Hour, int64(1 << 20)
	for _, c := range []struct {
		name   string
		change func(*seen)
		code   finding.Code // empty: nothing is found
		says   string
	}{
		{"a version that loses data", func(s *seen) { s.facts.Live.Version = "3.5.5" }, finding.EtcdVersionUnsafe,
			"etcd 3.5.5 can lose or corrupt data when it is killed under load, which is mended in 3.5.6: upgrade to " +
				"the newest 3.5"},
		{"an old one that does", func(s *seen) { s.facts.Live.Version = "3.4.21" }, finding.EtcdVersionUnsafe,
			"3.4.22"},
		{"a version whose removed members come back", func(s *seen) { s.facts.Live.Version = "3.5.25" },
			finding.EtcdForgetsRemovals, "3.5.26"},
		{"a version without", func(s *seen) { s.facts.Live.Version = "3.5.26" }, "", ""},
		{"one of which nothing is known", func(s *seen) { s.facts.Live.Version = "3.9.0-alpha.0" }, "", ""},
		{"a downgrade that was forgotten", func(s *seen) { s.facts.Live.Downgrade = "3.5.0" }, finding.EtcdDowngrade,
			"finish it with `etcdpod downgrade --to 3.5.35`, and --nodes where there are several, or cancel it " +
				"with `etcdpod downgrade cancel`"},
		{"a member that cannot keep up", func(s *seen) { s.facts.Live.Committed, s.facts.Live.Applied = 9000, 3999 },
			finding.MemberBehind, "the last 5001 entries"},
		{"a member that applies what came just now", func(s *seen) {
			s.facts.Live.Committed, s.facts.Live.Applied = 9000, 8990
		}, "", ""},
		{"a file that will be full in a week", func(s *seen) { grows(s, 1400*mib, 700*mib, 8*day) }, finding.EtcdGrows,
			"from 700.0 MiB to 1.4 GiB in 8 days: at that pace it reaches the quota of 2.0 GiB in about 7 days"},
		{"one that grows slowly", func(s *seen) { grows(s, 1400*mib, 1399*mib, 8*day) }, "", ""},
		{"one that grew by a page", func(s *seen) { grows(s, 1200*mib+4096, 1200*mib+32, day) }, "", ""},
		{"one that shrank", func(s *seen) { grows(s, 1400*mib, 1500*mib, 8*day) }, "", ""},
		{"one that is small yet", func(s *seen) { grows(s, 600*mib, 1*mib, 2*day) }, "", ""},
		{"one whose growth nobody has seen for a day", func(s *seen) { grows(s, 1400*mib, 700*mib, 20*time.Hour) },
			"", ""},
		{"a backup of another cluster tells nothing", func(s *seen) {
			grows(s, 1400*mib, 700*mib, 8*day)
			s.facts.Live.ClusterID = 8
		}, "", ""},
		{"an etcd without a quota", func(s *seen) {
			grows(s, 1400*mib, 700*mib, 8*day)
			s.facts.Live.QuotaBytes, s.quota = 0, 0
		}, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := healthy(t)
			c.change(&s)
			st := s.status()
			if c.code == "" && len(st.Findings) > 0 {
				t.Fatalf("it warns of %q", st.Warnings)
			}
			if c.code != "" && (len(st.Findings) != 1 || st.Findings[0].Code != c.code ||
				!strings.Contains(st.Warnings[0], c.says)) {
				t.Errorf("it says %v", st.Findings)
			}
		})
	}
}

func TestClocksThatDifferAreNamed(t *testing.T) {
	at := func(node string, ahead, doubt time.Duration) NodeStatus {
		n := well(node)
		n.clock = clock{ahead: ahead, doubt: doubt, read: true}
		return n
	}
	for name, c := range map[string]struct {
		nodes []NodeStatus
		says  string
	}{
		"all alike": {[]NodeStatus{at("cp1", 0, 0), at("cp2", 900*time.Millisecond, 0)}, ""},
		"one is behind": {[]NodeStatus{at("cp1", 0, 0), at("cp2", -90*time.Second, time.Second), at("cp3", 0, 0)},
			"the clock of cp1 is 1m30s ahead of that of cp2"},
		"one is ahead, as far as anybody can tell": {
			[]NodeStatus{at("cp1", 0, 0), at("cp2", 4*time.Second, 5*time.Second)}, ""},
		"one could not be read": {[]NodeStatus{at("cp1", time.Hour, 0), well("cp2")}, ""},
	} {
		s := NodesStatus{Nodes: c.nodes}
		s.judge()
		if c.says == "" && len(s.Warnings) > 0 || c.says != "" &&
			(len(s.Findings) != 1 || s.Findings[0].Code != finding.ClocksDiffer ||
				!strings.Contains(s.Warnings[0], c.says)) {
			t.Errorf("%s: it says %q", name, s.Warnings)
		}
	}
}
