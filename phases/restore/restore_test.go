package restore

import (
	"context"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/backup"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

var update = flag.Bool("update", false, "write the golden files anew")

// plannedFacts are the facts of a healthy node, for a table's rows to change.
func plannedFacts(t *testing.T) *Facts {
	t.Helper()
	w := newWorld(t, scenario{})
	f, err := w.facts(t.Context(), nil, "20260101T000000Z-restore-0000")
	if err != nil {
		t.Fatal(err)
	}
	f.Facts = crashtest.SeenFacts(t, f.Run)
	f.Snapshot = &SnapshotFacts{
		Path: "/backup/snapshot.db", Proof: op.Proof{SHA256: "abc", SizeBytes: 1 << 20, Revision: 50, Keys: 7},
		StorageVersion: "3.6.0", Members: []observe.Member{{Name: "cp1"}},
	}
	f.KnownRevision = 100
	return f
}

func TestThePlanOfARestoreReadsLikeARunbook(t *testing.T) {
	plan, err := Workflow(Options{File: "/backup/snapshot.db", StopTimeout: 30 * time.Second}).
		Planned(context.Background(), plannedFacts(t))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, p := range plan.Phases {
		b.WriteString(p.Name + ": " + p.Short + "\n")
		for _, o := range p.Operations {
			b.WriteString("  - " + o + "\n")
		}
		if p.Commit {
			b.WriteString("== commit point ==\n")
		}
	}
	const golden = "testdata/restore.plan"
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("the plan is\n%s\nand not as in %s", b.String(), golden)
	}
}

func TestTheBumpEndsAboveEveryKnownRevision(t *testing.T) {
	for name, c := range map[string]struct {
		known, bump int64
		minRevision int64
		minBump     int64
	}{
		"found out": {known: 5_000_000_000, minRevision: 6_000_000_000, minBump: minBump},
		"as typed":  {known: 5_000_000_000, bump: 7, minBump: 7},
	} {
		t.Run(name, func(t *testing.T) {
			f := plannedFacts(t)
			f.KnownRevision = c.known
			s := restorer{Options: Options{Bump: c.bump}}.staging(f)
			if s.MinRevision != c.minRevision || s.MinBump != c.minBump {
				t.Errorf("staged above %d, by %d at least", s.MinRevision, s.MinBump)
			}
		})
	}
}

func TestARestoreThatCannotEndWellIsRefused(t *testing.T) {
	three := []observe.Member{{Name: "cp1"}, {Name: "cp2"}, {Name: "cp3"}}
	for name, c := range map[string]struct {
		options Options
		change  func(*Facts)
		says    string
		hint    string
	}{
		"no etcd on this node": {change: func(f *Facts) { f.Etcd = nil }, says: "no manifest"},
		"a file that may run etcd": {change: func(f *Facts) {
			f.Manifests = append(f.Manifests, observe.ManifestFile{Path: "/x.yaml",
				Data: []byte("apiVersion: v1\nkind: Pod\nimage: etcd"), Error: errors.New("line 1: no pod")})
		}, says: "/x.yaml"},
		"static pods from elsewhere": {change: func(f *Facts) { f.StaticPodURL = "http://x" },
			says: "http://x"},
		"no kubeconfig beside an API server": {change: func(f *Facts) { f.API = op.APIAccess{} },
			says: "kubeconfig"},
		"no container runtime": {change: func(f *Facts) { f.RuntimeError = errors.New("cannot reach it") },
			says: "cannot reach it", hint: "--cri-socket"},
		"a kubelet that cannot be asked": {change: func(f *Facts) { f.KubeletError = errors.New("no systemctl") },
			says: "no systemctl", hint: "--kubelet-stop-command"},
		"member is a mount point": {change: func(f *Facts) { f.Data.MemberOdd = "member is a mount point" },
			says: "mount point", hint: "--data-dir"},
		"the WAL directory is a mount point": {change: func(f *Facts) { f.Data.WALOdd = "/wal is a mount point" },
			says: "/wal"},
		"a new data directory with data": {options: Options{DataDir: "/new"},
			change: func(f *Facts) { f.Data.MemberExists = true }, says: "/new already holds"},
		"a new data directory that cannot be one": {options: Options{DataDir: "/new"},
			change: func(f *Facts) { f.Data.DirOdd = "it is inside the current data directory" },
			says:   "/new cannot be the new data directory: it is inside the current", hint: "choose a separate " +
				"directory that only root can write to, all its parents included"},
		"the live members are three": {change: func(f *Facts) { f.Live.Members = three },
			says: "cp2, cp3"},
		"the stopped data names three": {change: func(f *Facts) {
			f.Live, f.Stopped = nil, &observe.Stopped{Members: three}
		}, says: "the data in"},
		"only the snapshot is left and has three": {change: func(f *Facts) { f.Live, f.Snapshot.Members = nil, three },
			says: "the snapshot has other members"},
		"an etcd that runs and does not answer": {change: func(f *Facts) {
			f.Live, f.LiveError, f.StoppedError = nil, errors.New("certificate has expired"),
				&engine.RefusedError{Reason: "in use"}
		}, says: "certificate has expired", hint: "stop the kubelet"},
		"data of a newer etcd": {change: func(f *Facts) { f.Snapshot.StorageVersion = "3.7.0" },
			says: "3.7"},
		"data of a newer etcd, while etcd is down": {change: func(f *Facts) {
			f.Live, f.Snapshot.StorageVersion = nil, "3.7.0"
		}, says: "3.7"},
		"other files than the backup's": {change: func(f *Facts) {
			f.Snapshot.Sidecar, f.Fingerprints = &backup.Sidecar{Fingerprints: map[string]string{"/pki/sa.pub": "1"}},
				map[string]string{"/pki/sa.pub": "2"}
		}, says: "/pki/sa.pub"},
		"a value that nobody can decrypt": {change: func(f *Facts) {
			f.Encryption.Missing = []string{"k8s:enc:aescbc:v1:key1:"}
		}, says: "key1"},
		"an API server elsewhere": {change: func(f *Facts) { f.Live.APIServers = []string{"10.0.0.1", "10.0.0.2"} },
			says: "10.0.0.2 (does not answer here)", hint: "--api-servers-stopped"},
		"an API server elsewhere that answers": {change: func(f *Facts) {
			f.Live.APIServers, f.Reached = []string{"10.0.0.2"}, []string{"10.0.0.2"}
		}, says: "10.0.0.2 (answers)", hint: "--api-servers-stopped"},
		"no revision is known": {change: func(f *Facts) { f.KnownRevision = 0 },
			says: "which revision etcd had reached", hint: "--bump-revision"},
		"not enough space": {change: func(f *Facts) { f.Data.Free = 1 << 20 },
			says: "not enough space", hint: "prune"},
	} {
		t.Run(name, func(t *testing.T) {
			f := plannedFacts(t)
			c.change(f)
			_, err := Workflow(c.options).Planned(context.Background(), f)
			var refused *engine.RefusedError
			if !errors.As(err, &refused) {
				t.Fatalf("it was not refused: %v", err)
			}
			if !strings.Contains(err.Error(), c.says) || !strings.Contains(refused.Hint, c.hint) {
				t.Errorf("it says %q, hint %q", err, refused.Hint)
			}
		})
	}
}

func TestWhatOverridesARefusalIsHeeded(t *testing.T) {
	for name, c := range map[string]struct {
		options Options
		change  func(*Facts)
	}{
		"API servers elsewhere are stopped": {Options{APIServersStopped: true}, func(f *Facts) {
			f.Live.APIServers = []string{"10.0.0.2"}
		}},
		"a bump is given": {Options{Bump: 60}, func(f *Facts) { f.KnownRevision = 0 }},
		"live members outrank the snapshot": {Options{}, func(f *Facts) {
			f.Snapshot.Members = []observe.Member{{Name: "cp1"}, {Name: "cp2"}}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			f := plannedFacts(t)
			c.change(f)
			if _, err := Workflow(c.options).Planned(context.Background(), f); err != nil {
				t.Errorf("it was refused: %v", err)
			}
		})
	}
}

func TestPhasesThatProtectCannotBeSkipped(t *testing.T) {
	for _, name := range []string{
		"preflight", "verify-snapshot", "fence", "exchange-data", "compare-members", "nonsense",
	} {
		if _, err := Workflow(Options{}).Without([]string{name}); err == nil {
			t.Errorf("%s can be skipped", name)
		}
	}
}
