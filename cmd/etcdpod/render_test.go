package main

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/backup"
	"github.com/etcdpod/etcdpod/phases/certs"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/members"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/phases/prune"
	"github.com/etcdpod/etcdpod/phases/status"
)

var now = time.Date(2026, 8, 2, 3, 0, 0, 0, time.UTC)

func day(days int) time.Time { return now.AddDate(0, 0, days) }

// watchedEtcd is what an etcd did within a good second.
func watchedEtcd() *status.Pace {
	return &status.Pace{Seconds: 1.2, Fsync: status.Latency{Count: 41, P99: 0.0039, Most: 0.008},
		Commit: status.Latency{Count: 7, P99: 0.0079, Most: 0.008}, SlowApplies: 1,
		Peers: []status.PeerPace{
			{ID: "a", Name: "cp2", ConnectSeconds: 0.0004, RoundTrip: status.Latency{Count: 2, Most: 0.0016}},
			{ID: "b", Name: "cp3", ConnectSeconds: 0.03, RoundTripSinceStart: status.Latency{Count: 90, P99: 0.0312}}},
		SinceStart: status.SinceStart{Time: day(-3), Fsync: status.Latency{Count: 90000, P99: 0.007},
			Commit: status.Latency{Count: 30000, P99: 0.0152}, LeaderChanges: 2}}
}

// TestResultsReadWell compares the output for people with files, so that a changed table shows
// up whole in the diff.
func TestResultsReadWell(t *testing.T) {
	sidecar := backup.Sidecar{Path: "/var/lib/etcdpod/backups/etcd-cp1-20260801T020000Z-r81234.db",
		SHA256: "ab", Revision: 81234, Keys: 5120, SizeBytes: 40 << 20, EtcdVersion: "3.6.5", TakenAt: day(-1)}
	open := engine.RunSummary{ID: "20260801T020000Z-restore-ab12", State: "open", Began: day(-1),
		Command: []string{"etcdpod", "restore", "cp1.db"}, Phase: "fence", Operation: "stop the kubelet"}
	healthy := status.Status{
		Node: "cp1", Kubelet: "running", Runtime: "ok",
		Manifests: []status.ManifestStatus{
			{Path: "/etc/kubernetes/manifests/etcd.yaml", Pod: "etcd", Image: "registry.k8s.io/etcd:3.6.5-0",
				Containers: []status.ContainerStatus{{Name: "etcd", State: "running", Attempt: 1, Since: day(-3)}}},
		},
		Member: &status.MemberStatus{
			Endpoint: "https://127.0.0.1:2379", ID: "8e9e05c52164694d",
			Name: "cp1", Version: "3.6.5", StorageVersion: "3.6.0",
			Leader: true, Revision: 81240, SizeBytes: 40 << 20, InUseBytes: 22 << 20, QuotaBytes: 2 << 30,
			Compared: &status.Compared{Members: 2, HashRevision: 81200, NotCompared: []string{"cp3: no answer"}},
		},
		Quorum: &status.Quorum{Text: "3 of 3 members serve; one may be lost"}, Pace: watchedEtcd(),
		Members: []observe.Member{{Name: "cp1"}, {PeerURLs: []string{"https://10.0.0.2:2380"}, IsLearner: true}},
		Certificates: []certs.Status{
			{Path: "/etc/kubernetes/pki/etcd/server.crt", CN: "cp1", NotAfter: day(12), DaysLeft: 12},
			{Path: "/etc/kubernetes/pki/etcd/peer.crt", Problem: "it is no certificate"},
		},
		NewestBackup: &backup.Entry{Sidecar: sidecar, Whole: true}, Next: "nothing to do",
	}
	down := status.Status{
		Node: "cp1", Kubelet: "stopped", Runtime: "cannot reach unix:///run/containerd/containerd.sock",
		Problem: "no answer from https://127.0.0.1:2379", OpenRun: &open,
		Manifests: []status.ManifestStatus{{Path: "/etc/kubernetes/manifests/etcd.yaml", Problem: "line 3: not a pod"},
			{Path: "/etc/kubernetes/manifests/kube-apiserver.yaml"}},
		Alarms: []string{"NOSPACE"}, Warnings: []string{"the run is open", "etcd does not answer"},
		Next: "run `etcdpod resume`",
	}
	plan := engine.Plan{Workflow: "restore", Phases: []engine.PlannedPhase{
		{Name: "preflight", Short: "check everything first", Found: []string{"cp1 is the only member"}},
		{Name: "compare-members", Short: "compare what etcd serves", Operations: []string{"compare"}, Commit: true},
		{Name: "release-apiserver", Short: "start the API server",
			Operations: []string{"put kube-apiserver.yaml back"}},
	}}
	item := prune.Item{Path: "/var/lib/etcdpod/runs/20260701T020000Z-restore-cd34",
		Run: "20260701T020000Z-restore-cd34", Bytes: 3 << 30, Time: day(-32)}
	kept := item
	kept.Reason = "belongs to the newest finished run of its kind"
	for name, write := range map[string]func(io.Writer){
		"status":      func(w io.Writer) { writeStatus(w, healthy, now) },
		"status-down": func(w io.Writer) { writeStatus(w, down, now) },
		"backups": func(w io.Writer) {
			writeBackups(w, backup.Listing{Dirs: []string{backup.DefaultDir, "/b"}, Entries: []backup.Entry{
				{Sidecar: sidecar, Whole: true}, {Sidecar: backup.Sidecar{Path: "/b/found.db",
					SizeBytes: 900, TakenAt: day(-400)}, Note: "no sidecar"},
			}}, now)
		},
		"backups-none": func(w io.Writer) {
			writeBackups(w, backup.Listing{Dirs: []string{"/b", backup.DefaultDir}}, now)
		},
		"runs": func(w io.Writer) {
			writeRuns(w, []engine.RunSummary{
				{ID: "20260701T020000Z-restore-cd34", State: "completed", Began: day(-32),
					Command: []string{"etcdpod", "restore"}}, open, {ID: "x", State: "damaged", Error: "no such file"},
			}, now)
		},
		"run":        func(w io.Writer) { writeRun(w, shownRun(), now, 0) },
		"run-wide":   func(w io.Writer) { writeRun(w, shownRun(), now, 100) },
		"run-narrow": func(w io.Writer) { writeRun(w, shownRun(), now, 40) },
		"members":    func(w io.Writer) { writeMembers(w, listed()) },
		"members-80": func(w io.Writer) { writeNarrow(w, 80) },
		"members-40": func(w io.Writer) { writeNarrow(w, 40) },
		"plan":       func(w io.Writer) { writePlan(w, plan) },
		"prune": func(w io.Writer) {
			writePrune(w,
				prune.Plan{Items: []prune.Item{item}, Kept: []prune.Item{kept}, Bytes: item.Bytes}, now)
		},
		"verdict": func(w io.Writer) {
			writeVerdict(w, backup.Verdict{
				Path: "/b/cp1.db", OK: true, SHA256: "ab", SizeBytes: 40 << 20,
				Revision: 81234, Keys: 5120, StorageVersion: "3.6.0", Members: []observe.Member{{Name: "cp1"}},
				Resources: map[string]int64{"secrets": 7, "pods": 120}, Seconds: 1.25,
			})
		},
		"verdict-quick": func(w io.Writer) {
			writeVerdict(w, backup.Verdict{Path: "/b/cp1.db",
				OK: true, Quick: true, SHA256: "ab", SizeBytes: 40 << 20, Seconds: 0.25})
		},
		"verdict-bad": func(w io.Writer) {
			writeVerdict(w, backup.Verdict{Path: "/b/cp1.db",
				Check: "structure", Offset: 8192, Reason: "page 2 is of no known kind"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			write(&b)
			golden(t, filepath.Join("testdata", "text-"+name+".golden"), b.String())
		})
	}
}

// writeNarrow writes the members at a terminal of that width.
func writeNarrow(w io.Writer, width int) {
	p := &page{width: width}
	writeMembers(p, listed())
	_, _ = w.Write(p.Bytes())
}

// listed are four members, of which one does not answer and one has never started.
func listed() members.Listing {
	entry := func(id, name, host string, applied, behind int64, servers ...members.APIServer) members.Entry {
		return members.Entry{ID: id, Name: name, Role: "voter", Started: true, Answers: true, Version: "3.6.16",
			PeerURLs: []string{"https://" + host + ":2380"}, ClientURLs: []string{"https://" + host + ":2379"},
			SizeBytes: 40 << 20, AppliedIndex: applied, Behind: &behind, Node: name, APIServers: servers}
	}
	yes, no := true, false
	cp1 := entry("8e9e05c52164694d", "cp1", "10.0.0.11", 81240, 0, members.APIServer{Node: "cp1", Alive: &yes},
		members.APIServer{Node: "cp3", Alive: &no})
	cp1.Role, cp1.Own, cp1.Alarms = "leader", true, []string{"NOSPACE"}
	cp2 := entry("91bc3c398fb3c146", "cp2", "10.0.0.12", 81237, 3, members.APIServer{Node: "cp2", Alive: &yes})
	cp3 := members.Entry{ID: "fd422379fda50e48", Name: "cp3", Role: "voter", Started: true, Node: "cp3",
		PeerURLs: []string{"https://10.0.0.13:2380"}, ClientURLs: []string{"https://10.0.0.13:2379"},
		Error: "cannot reach etcd at https://10.0.0.13:2379: no answer within 3s"}
	cp4 := members.Entry{ID: "1ed2f7917d25e08a", Role: "learner", PeerURLs: []string{"https://10.0.0.14:2380"}}
	return members.Listing{ClusterID: "5c50e62a33493a89", Through: "https://127.0.0.1:2379", Quorum: true,
		Leader: cp1.ID, Members: []members.Entry{cp4, cp1, cp2, cp3},
		OtherAPIServers: []members.APIServer{{Address: "10.0.0.19", Alive: &yes}},
		Warnings: []string{"learner 1ed2f7917d25e08a (https://10.0.0.14:2380) has never started",
			"cp3 does not answer: cannot reach etcd at https://10.0.0.13:2379: no answer within 3s; this node's etcd " +
				"has not been connected to it since 2026-08-01T02:00:00Z",
			"the alarm NOSPACE of cp1 is raised"}}
}

// shownRun is a run on several nodes that stands past its commit point.
func shownRun() engine.RunReport {
	at := func(seconds int) time.Time { return day(-1).Add(time.Duration(seconds) * time.Second) }
	return engine.RunReport{
		RunSummary: engine.RunSummary{ID: "20260801T030000Z-restore-ab12", Workflow: "restore", State: "open",
			Command: []string{"etcdpod", "restore", "--nodes", "cp1,cp2", "cp1.db"}, Node: "cp1", Began: at(0),
			Last: at(60), Committed: true, Phase: "await-apiserver", Operation: "wait for the API server",
			Path: "/var/lib/etcdpod/runs/20260801T030000Z-restore-ab12", Nodes: []string{"cp1", "cp2"}},
		Version: "v1.2.3", CommittedAt: at(40), Notes: map[string]string{"keptData": "/var/lib/etcdpod/old"},
		Operations: []engine.OperationReport{
			{Phase: "stage-data", Operation: "make new data in /var/lib/etcdpod/staged from /b/cp1.db", State: "done",
				Began: at(1), Ended: at(30), Notes: []string{"revisions go on at 1000081234"}},
			{Phase: "exchange-data", Operation: "exchange /var/lib/etcd/member", State: "done",
				Began: at(30), Ended: at(31)},
			{Phase: "await-apiserver", Operation: "wait for the API server", State: "started", Began: at(41),
				Errors: []string{"the API server is not ready: no answer"}},
			{Phase: "verify-restored", Operation: "read back", State: "pending"},
			{Phase: "verify-restored", Operation: "undo me", State: "undone", Began: at(42), Ended: at(43),
				UndoBegan: at(44), UndoEnded: at(46)},
		},
	}
}

func TestSizesAndTimesAreWrittenForPeople(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{engine.Size[int64](0), "0 B"},
		{engine.Size[int64](1023), "1023 B"},
		{engine.Size[int64](1024), "1.0 KiB"},
		{engine.Size[int64](3 << 30), "3.0 GiB"},
		{engine.Size[int64](5 << 50), "5120.0 TiB"},
		{short(-time.Second), "0s"},
		{short(1234 * time.Millisecond), "1.2s"},
		{short(61 * time.Second), "1m01s"},
		{short(90 * time.Minute), "1h30m"},
		{engine.Age(-time.Hour), "in the future"},
		{engine.Age(59 * time.Second), "just now"},
		{engine.Age(time.Hour), "1 h ago"},
		{engine.Age(72 * time.Hour), "3 days ago"},
		{when(time.Time{}, now), "not known"},
		{fit("/var/lib/etcdpod", 9), "/var…dpod"},
		{fit("short", 9), "short"},
		{fit("anything", 2), ""},
		{amount(3, 0), "3"},
		{amount(3, 7), "3 of 7"},
		{amount(1<<20, 0), "1.0 MiB"},
		{amount(1<<20, 4<<20), "25 % of 4.0 MiB"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
}

// full is an output that accepts nothing.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestWhatIsDoneIsNotCalledFailedBecauseNobodyCanBeTold(t *testing.T) {
	var stderr strings.Builder
	args := []string{"etcdpod", "prune", "--yes", "--root", t.TempDir()}
	code := run(t.Context(), args, strings.NewReader(""), full{}, &stderr, func(string) string { return "" })
	if code != exitDone || !strings.Contains(stderr.String(),
		"prune is done, but cannot write the result: no space left on device") {
		t.Errorf("ended with %d: %s", code, stderr.String())
	}
	if code := run(t.Context(), []string{"etcdpod", "version"},
		nil, full{}, io.Discard, func(string) string { return "" }); code != exitFailed {
		t.Errorf("what found something out that nobody can read ended with %d", code)
	}
}

func TestOnlyRootMayChangeARealNode(t *testing.T) {
	for _, command := range []string{"backup", "restore f", "resume", "rollback", "prune --yes",
		"members move-leader --yes", "members set-peer-url cp1 https://a:1 --yes", "defrag --yes",
		"downgrade cancel --yes"} {
		s := &session{stdout: io.Discard, stderr: io.Discard,
			env: func(string) string { return "" }, uid: 1000, args: append(strings.Fields(command), "--dry-run=false")}
		err := s.run(t.Context())
		var usage *engine.UsageError
		if !errors.As(err, &usage) || !strings.HasSuffix(usage.Reason, " must be run as root") {
			t.Errorf("%s: %v", command, err)
		}
	}
}
