package main

import (
	"fmt"
	"io"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/rehearse"
	"github.com/etcdpod/etcdpod/phases/status"
)

const prometheus = "prometheus"

func asPrometheus(c *cli.Context) bool { return c.Generic("output").(*choice).is == prometheus }

// forMonitoring refuses metrics of a command that has none.
func (l line) forMonitoring() error {
	if l.output == prometheus && l.typed["output"] && l.command.Name != "status" {
		return &engine.UsageError{Reason: "only status writes metrics: --output prometheus", Hint: "use --output json"}
	}
	return nil
}

// metrics writes what was seen, and what is wrong with it.
func (s *session) metrics(seen func(*metrics), wrong []engine.Finding) error {
	var m metrics
	seen(&m)
	m.found(wrong)
	return m.write(s.stdout)
}

// metrics collects gauges, in the order in which their names were first used.
type metrics struct {
	families []*dto.MetricFamily
	byName   map[string]*dto.MetricFamily
}

// labels are names and values of labels, in turn.
type labels []string

func (m *metrics) add(name, help string, value float64, with labels) {
	name = "etcdpod_" + name
	family, known := m.byName[name]
	if !known {
		gauge := dto.MetricType_GAUGE
		family = &dto.MetricFamily{Name: &name, Help: &help, Type: &gauge}
		if m.byName == nil {
			m.byName = map[string]*dto.MetricFamily{}
		}
		m.byName[name], m.families = family, append(m.families, family)
	}
	metric := &dto.Metric{Gauge: &dto.Gauge{Value: &value}}
	for i := 0; i < len(with); i += 2 {
		metric.Label = append(metric.Label, &dto.LabelPair{Name: &with[i], Value: &with[i+1]})
	}
	family.Metric = append(family.Metric, metric)
}

func (m *metrics) is(name, help string, true bool, with labels) {
	value := 0.0
	if true {
		value = 1
	}
	m.add(name, help, value, with)
}

func (m *metrics) at(name, help string, t time.Time, with labels) {
	if !t.IsZero() {
		m.add(name, help, float64(t.Unix()), with)
	}
}

// write writes the text format of Prometheus.
func (m *metrics) write(w io.Writer) error {
	for _, family := range m.families {
		if _, err := expfmt.MetricFamilyToText(w, family); err != nil {
			return fmt.Errorf("cannot write the result: %w", err)
		}
	}
	return nil
}

// of adds those of a node, as `status` sees it.
func (m *metrics) of(st status.Status, now time.Time) {
	node := labels{"node", st.Node}
	m.at("status_time_seconds", "When the node was looked at (Unix time).", now, node)
	m.is("run_open", "Whether a run was interrupted, or is under way.", st.OpenRun != nil, node)
	if !st.WithoutEtcd() { // its member was removed: what is not to run is not down
		m.is("etcd_up", "Whether the node's etcd answers and serves.",
			st.Member != nil && !st.Member.NoQuorum && st.Problem == "", node)
	}
	if e := st.Member; e != nil {
		m.ofMember(e, node)
		learners := 0
		for _, member := range st.Members {
			if member.IsLearner {
				learners++
			}
		}
		m.add("etcd_voters", "How many members vote.", float64(len(st.Members)-learners), node)
		m.add("etcd_learners", "How many members are learners.", float64(learners), node)
		m.add("etcd_alarms", "How many alarms are raised.", float64(len(st.Alarms)), node)
		if q := st.Quorum; q != nil {
			m.add("etcd_members_serving", "How many voting members serve, as this node sees them.", float64(q.Serve),
				node)
			m.add("etcd_members_may_be_lost", "How many more may be lost; below 0: so many are missing for a quorum.",
				float64(q.MayLose), node)
		}
		if c := e.Compared; c != nil {
			m.add("etcd_members_compared", "How many members were compared: whether they hold the same.",
				float64(c.Members), node)
		}
	}
	m.ofPace(st.Pace, node)
	for _, c := range st.Certificates {
		m.at("certificate_expiry_time_seconds", "When a certificate, or that of a kubeconfig, ends (Unix time).",
			c.NotAfter, append(labels{"path", c.Path}, node...))
	}
	if b := st.NewestBackup; b != nil {
		m.at("backup_time_seconds", "When the newest good backup of the node was taken (Unix time).", b.TakenAt, node)
		m.add("backup_size_bytes", "The size of that backup.", float64(b.SizeBytes), node)
	}
	if r := st.Rehearsal; r != nil {
		m.at("rehearsal_time_seconds", "When a restore was last rehearsed (Unix time).", r.At, node)
		m.is("rehearsal_ok", "Whether that backup was restored, and nothing was found.", r.Outcome == rehearse.OK, node)
		m.add("rehearsals", "How many rehearsals there were on the node.", float64(r.Times), node)
		m.at("rehearsal_backup_time_seconds", "When that backup was taken (Unix time).", r.TakenAt, node)
		if r.RestoreSeconds > 0 {
			m.add("rehearsal_restore_seconds", "How long a restore of it would take.", r.RestoreSeconds, node)
		}
	}
}

// ofNodes adds those of several nodes, and whether each could be queried.
func (m *metrics) ofNodes(seen status.NodesStatus, now time.Time) {
	for _, n := range seen.Nodes {
		m.is("node_up", "Whether the node could be queried.", n.Status != nil, labels{"node", n.Node})
	}
	for _, n := range seen.Nodes {
		if n.Status != nil {
			st := *n.Status
			st.Node = n.Node // as it was typed
			m.of(st, now)
		}
	}
}

func (m *metrics) ofMember(e *status.MemberStatus, node labels) {
	m.add("etcd_info", "Which etcd it is; always 1.", 1, append(labels{"member", e.Name, "member_id", e.ID,
		"cluster_id", e.ClusterID, "version", e.Version, "storage_version", e.StorageVersion}, node...))
	m.is("etcd_is_leader", "Whether the member leads.", e.Leader, node)
	m.is("etcd_is_learner", "Whether the member is a learner.", e.Learner, node)
	m.is("etcd_has_quorum", "Whether the member has a leader, and so a quorum.", !e.NoQuorum, node)
	m.is("etcd_downgrade_enabled", "Whether a downgrade was enabled and has not ended.", e.Downgrade != "", node)
	m.add("etcd_revision", "The newest revision.", float64(e.Revision), node)
	m.add("etcd_size_bytes", "The size of the database's file.", float64(e.SizeBytes), node)
	m.add("etcd_in_use_bytes", "How much of the file is in use.", float64(e.InUseBytes), node)
	if e.QuotaBytes > 0 {
		m.add("etcd_quota_bytes", "The size at which etcd refuses writes.", float64(e.QuotaBytes), node)
	}
}

// found are the findings of one node or several; each severity has its number, also if that is 0.
func (m *metrics) found(all []engine.Finding) {
	count := map[string]int{}
	for _, f := range all {
		count[string(f.Severity)]++
	}
	for _, severity := range []string{"critical", "warning", "info"} {
		m.add("findings", "How many findings there are.", float64(count[severity]), labels{"severity", severity})
	}
	written := map[[3]string]bool{}
	for _, f := range all {
		key := [3]string{string(f.Code), f.Node, f.Subject}
		if written[key] { // Prometheus takes none of a file in which one occurs twice
			continue
		}
		written[key] = true
		m.add("finding", "What is wrong, by its code; always 1.", 1, labels{"code", string(f.Code),
			"severity", string(f.Severity), "node", f.Node, "subject", f.Subject})
	}
}
