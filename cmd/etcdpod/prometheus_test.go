package main

import (
	"bytes"
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/etcdpod/etcdpod/phases/backup"
	"github.com/etcdpod/etcdpod/phases/certs"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/phases/rehearse"
	"github.com/etcdpod/etcdpod/phases/status"
)

// seenValues are what a text for Prometheus says, read by Prometheus' own library: values by name
// and labels. It fails where that library takes none of it.
func seenValues(t *testing.T, m metrics) map[string]float64 {
	t.Helper()
	var b bytes.Buffer
	if err := m.write(&b); err != nil {
		t.Fatal(err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(&b)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for name, family := range families {
		for _, metric := range family.Metric {
			key := name
			for _, l := range metric.Label {
				key += " " + l.GetName() + "=" + l.GetValue()
			}
			if _, twice := all[key]; twice {
				t.Errorf("%s occurs twice", key)
			}
			all[key] = metric.GetGauge().GetValue()
		}
	}
	return all
}

// fullStatus has something of everything.
func fullStatus() status.Status {
	return status.Status{Node: "cp1", OpenRun: &engine.RunSummary{ID: "r1"}, Alarms: []string{"NOSPACE"},
		Member: &status.MemberStatus{ID: "8e", ClusterID: "cd", Name: "cp1", Version: "3.6.16", StorageVersion: "3.6.0",
			Leader: true, Revision: 81240, SizeBytes: 40 << 20, InUseBytes: 22 << 20, QuotaBytes: 2 << 30,
			Compared: &status.Compared{Members: 2}},
		Pace: watchedEtcd(), Quorum: &status.Quorum{Voters: 2, Serve: 2},
		Members:      []observe.Member{{Name: "cp1"}, {Name: "cp2"}, {IsLearner: true}},
		Certificates: []certs.Status{{Path: `/pki/a"b\c`, NotAfter: day(12)}, {Path: "/pki/gone", Problem: "no file"}},
		NewestBackup: &backup.Entry{Sidecar: backup.Sidecar{TakenAt: day(-1), SizeBytes: 9}},
		Rehearsal: &rehearse.Brief{At: day(-3), Outcome: rehearse.OK, TakenAt: day(-4), RestoreSeconds: 7.5,
			Times: 3}}
}

func TestMetricsSayWhatStatusSays(t *testing.T) {
	wrong := []engine.Finding{
		{Code: "etcd-alarm", Severity: "critical", Node: "cp1", Subject: "NOSPACE", Text: "x"},
		{Code: "etcd-alarm", Severity: "critical", Node: "cp1", Subject: "NOSPACE", Text: "said twice"},
		{Code: "clocks-differ", Severity: "warning", Subject: "cp1, cp2"},
	}
	var m metrics
	m.of(fullStatus(), now)
	m.found(wrong)
	got := seenValues(t, m)
	for key, want := range map[string]float64{
		"etcdpod_status_time_seconds node=cp1":                                       float64(now.Unix()),
		"etcdpod_run_open node=cp1":                                                  1,
		"etcdpod_etcd_up node=cp1":                                                   1,
		"etcdpod_etcd_has_quorum node=cp1":                                           1,
		"etcdpod_etcd_is_leader node=cp1":                                            1,
		"etcdpod_etcd_is_learner node=cp1":                                           0,
		"etcdpod_etcd_voters node=cp1":                                               2,
		"etcdpod_etcd_learners node=cp1":                                             1,
		"etcdpod_etcd_alarms node=cp1":                                               1,
		"etcdpod_etcd_members_serving node=cp1":                                      2,
		"etcdpod_etcd_members_may_be_lost node=cp1":                                  0,
		"etcdpod_etcd_members_compared node=cp1":                                     2,
		"etcdpod_watched_seconds node=cp1":                                           1.2,
		"etcdpod_etcd_fsyncs node=cp1":                                               41,
		"etcdpod_etcd_fsync_p99_seconds node=cp1":                                    0.0039,
		"etcdpod_etcd_commits node=cp1":                                              7,
		"etcdpod_etcd_commit_longest_seconds node=cp1":                               0.008,
		"etcdpod_etcd_slow_applies node=cp1":                                         1,
		"etcdpod_etcd_leader_changes node=cp1":                                       2,
		"etcdpod_etcd_peer_connect_seconds member=cp3 member_id=b node=cp1":          0.03,
		"etcdpod_etcd_size_bytes node=cp1":                                           40 << 20,
		"etcdpod_etcd_quota_bytes node=cp1":                                          2 << 30,
		`etcdpod_certificate_expiry_time_seconds path=/pki/a"b\c node=cp1`:           float64(day(12).Unix()),
		"etcdpod_backup_time_seconds node=cp1":                                       float64(day(-1).Unix()),
		"etcdpod_rehearsal_time_seconds node=cp1":                                    float64(day(-3).Unix()),
		"etcdpod_rehearsal_ok node=cp1":                                              1,
		"etcdpod_rehearsals node=cp1":                                                3,
		"etcdpod_rehearsal_backup_time_seconds node=cp1":                             float64(day(-4).Unix()),
		"etcdpod_rehearsal_restore_seconds node=cp1":                                 7.5,
		"etcdpod_findings severity=critical":                                         2,
		"etcdpod_findings severity=info":                                             0,
		"etcdpod_finding code=etcd-alarm severity=critical node=cp1 subject=NOSPACE": 1,
		"etcdpod_etcd_info member=cp1 member_id=8e cluster_id=cd version=3.6.16 storage_version=3.6.0 node=cp1": 1,
	} {
		if value, is := got[key]; !is || value != want {
			t.Errorf("%s is %v (there: %v), and not %v", key, value, is, want)
		}
	}
	if _, is := got["etcdpod_etcd_commit_p99_seconds node=cp1"]; is {
		t.Error("of seven commits it says how long 99 of 100 take")
	}
	if _, is := got["etcdpod_certificate_expiry_time_seconds path=/pki/gone node=cp1"]; is {
		t.Error("a certificate that is not there ends in 0001")
	}
}

func TestMetricsOfSeveralNodesNameThoseThatCannotBeAsked(t *testing.T) {
	seen := status.NodesStatus{Nodes: []status.NodeStatus{
		{Node: "cp1", Status: &status.Status{Node: "vm1", Problem: "no answer"}}, {Node: "cp2", Error: "no route"}}}
	var m metrics
	m.ofNodes(seen, now)
	got := seenValues(t, m)
	for key, want := range map[string]float64{"etcdpod_node_up node=cp1": 1, "etcdpod_node_up node=cp2": 0,
		"etcdpod_etcd_up node=cp1": 0} {
		if value, is := got[key]; !is || value != want {
			t.Errorf("%s is %v (there: %v)", key, value, is)
		}
	}
	if _, is := got["etcdpod_etcd_up node=cp2"]; is {
		t.Error("of a node that was not asked it says whether etcd is up")
	}
}

// What alerts and the dashboard are about is what is written, and the dashboard shows most of it.
func TestAlertsAndTheDashboardAreAboutMetricsThatThereAre(t *testing.T) {
	var m metrics
	st := fullStatus()
	st.Pace.Commit.Count = enoughForP99
	m.ofNodes(status.NodesStatus{Nodes: []status.NodeStatus{{Node: "cp1", Status: &st}}}, now)
	m.found([]engine.Finding{{Code: "etcd-alarm", Severity: "critical"}})
	shown := 0
	for _, file := range []string{"etcdpod.rules.yml", "etcdpod.dashboard.json"} {
		text, err := os.ReadFile("../../docs/alerts/" + file)
		if err != nil {
			t.Fatal(err)
		}
		names := regexp.MustCompile(`etcdpod_\w+`).FindAllString(string(text), -1)
		slices.Sort(names)
		names = slices.Compact(names)
		shown = len(names)
		for _, name := range names {
			if m.byName[name] == nil {
				t.Errorf("%s asks for %s, which nothing writes", file, name)
			}
		}
	}
	if shown < 25 || shown > len(m.byName) {
		t.Errorf("of %d metrics the dashboard shows %d", len(m.byName), shown)
	}
}

// Whoever watches etcd_up is not told of an etcd that is not meant to run.
func TestAnEtcdThatIsNotMeantToRunIsNotDown(t *testing.T) {
	for name, st := range map[string]status.Status{
		"": {Node: "cp1", Findings: []engine.Finding{{Code: "etcd-departed", Severity: "info"}}},
		"etcdpod_etcd_up node=cp1": {Node: "cp1", Findings: []engine.Finding{{Code: "etcd-manifest-missing",
			Severity: "critical"}}},
	} {
		var m metrics
		m.of(st, now)
		up, told := seenValues(t, m)["etcdpod_etcd_up node=cp1"]
		if told != (name != "") || up != 0 {
			t.Errorf("of %q, etcd_up is %v: %v", st.Findings, up, told)
		}
	}
}

func TestWhyNoMemberWasComparedIsSaidOnce(t *testing.T) {
	for want, c := range map[string]status.Compared{
		"none: nothing has compacted it yet": {NotCompared: []string{"cp1: nothing has compacted it yet",
			"cp2: nothing has compacted it yet"}},
		"not cp1: no answer; not cp2: x":          {NotCompared: []string{"cp1: no answer", "cp2: x"}},
		"2 members, as of revision 9; not cp3: x": {Members: 2, HashRevision: 9, NotCompared: []string{"cp3: x"}},
	} {
		if got := comparedText(&c); got != want {
			t.Errorf("it says %q, and not %q", got, want)
		}
	}
}
