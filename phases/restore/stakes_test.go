package restore

import (
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/backup"
	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

func TestWhatARestoreGivesUpIsSaid(t *testing.T) {
	now := time.Date(2026, 8, 4, 2, 0, 0, 0, time.UTC)
	taken := &backup.Sidecar{TakenAt: now.AddDate(0, 0, -3), ClusterID: "ab"}
	before := []op.Count{{Resource: "secrets", Objects: 7}, {Resource: "pods", Objects: 120},
		{Resource: "events", Objects: 5}, {Resource: "jobs.batch", Objects: 1}}
	changes := map[string]etcd.Changes{"secrets": {Now: 8, Made: 2, Changed: 1}, "pods": {Now: 120},
		"events": {Now: 900, Made: 900}, "peerserverleases": {Now: 3, Changed: 3}}
	live := &observe.Live{ClusterID: 0xab, Revision: 900}
	for name, tt := range map[string]struct {
		options  Options
		snapshot SnapshotFacts
		log      int64 // what the log of a data directory may add
		live     *observe.Live
		written  Written
		want     string
	}{
		"counted": {snapshot: SnapshotFacts{Sidecar: taken}, live: live, written: Written{Changes: changes},
			want: "everything written since the backup of 2026-08-01 02:00 UTC (3 days ago); objects: 2 created, 1 " +
				"changed, 2 deleted since, not counting events and leases (secrets 2 created, 1 changed, 1 deleted; " +
				"jobs.batch 1 deleted)"},
		"nothing was written": {snapshot: SnapshotFacts{Sidecar: taken}, live: live,
			written: Written{Changes: map[string]etcd.Changes{"secrets": {Now: 7}, "pods": {Now: 120},
				"jobs.batch": {Now: 1}}},
			want: "(3 days ago); no objects other than events and leases: etcd holds the same as the backup"},
		"of another cluster": {snapshot: SnapshotFacts{Sidecar: taken},
			live:    &observe.Live{ClusterID: 1, Revision: 900},
			written: Written{Changes: changes},
			want: "everything that etcd holds now: the backup is from another cluster, or from before a restore; " +
				"objects: " +
				"jobs.batch 0 now, 1 in the backup; secrets 8 now, 7 in the backup"},
		"of a later revision": {snapshot: SnapshotFacts{Sidecar: taken, Proof: op.Proof{Revision: 901}}, live: live,
			written: Written{Changes: changes}, want: "everything that etcd holds now: the backup is from another " +
				"cluster, or from before a restore"},
		"without a sidecar": {snapshot: SnapshotFacts{ModTime: now.Add(-time.Hour)}, live: live,
			written: Written{Changes: changes}, want: "it has no sidecar that says when it was taken; objects: 2 " +
				"created, 1 changed, 2 deleted since, not counting events and leases (secrets 2 created, 1 changed, " +
				"1 deleted; jobs.batch 1 deleted); provided that the backup is of this cluster, which no " +
				"sidecar confirms"},
		"without a sidecar, of a later revision": {snapshot: SnapshotFacts{Proof: op.Proof{Revision: 901}},
			live: live, written: Written{Changes: changes},
			want: "everything that etcd holds now: the backup is from another cluster, or from before a restore"},
		"the data of another cluster": {options: Options{FromDataDir: "/old"}, snapshot: SnapshotFacts{Cluster: 1},
			log: 1, live: live, written: Written{Changes: changes},
			want: "everything that etcd holds now: the backup is from another cluster, or from before a restore; " +
				"objects: pods 120 now; secrets 8 now"},
		"the data of this cluster": {options: Options{FromDataDir: "/old"}, snapshot: SnapshotFacts{Cluster: 0xab},
			log: 1, live: live, written: Written{Changes: changes},
			want: "since that data; objects: at most 2 created, 1 changed since, not counting events and leases " +
				"(secrets 2 created, 1 changed); how many were deleted since is not known"},
		"of which some was deleted": {options: Options{FromDataDir: "/old"}, snapshot: SnapshotFacts{Cluster: 0xab},
			log: 1, live: live, written: Written{Changes: map[string]etcd.Changes{"pods": {Now: 1}}},
			want: "since that data; objects: none created or changed since, not counting events and leases; how many " +
				"were deleted since is not known"},
		// Not every entry of a log writes.
		"whose log may lead too far": {options: Options{FromDataDir: "/old"}, snapshot: SnapshotFacts{Cluster: 0xab},
			log: 1000, live: live, written: Written{Changes: changes},
			want: "since that data; objects: at most 2 created"},
		"whose log adds nothing": {options: Options{FromDataDir: "/old"}, snapshot: SnapshotFacts{Cluster: 0xab},
			live: live, written: Written{Changes: changes},
			want: "since that data; objects: 2 created, 1 changed, 2 deleted"},
		"etcd is down": {snapshot: SnapshotFacts{Sidecar: taken}, written: notCounted(),
			want: "(3 days ago); etcd does not answer, so later writes could not be counted"},
		"no sidecar": {snapshot: SnapshotFacts{ModTime: now.Add(-time.Hour)}, written: notCounted(),
			want: "whose file was last modified 1 h ago; it has no sidecar that says when it was taken; etcd does " +
				"not answer"},
		"a data directory": {options: Options{FromDataDir: "/old"}, written: notCounted(),
			want: "everything written to etcd since that data; etcd does not"},
	} {
		t.Run(name, func(t *testing.T) {
			tt.snapshot.Resources = before
			if tt.options.FromDataDir != "" {
				tt.snapshot.beyond(&etcd.DataDir{RevisionAtMost: 800 + tt.log,
					Contents: &snapfile.Report{Revision: 800}})
			}
			got := restorer{Options: tt.options}.lost(&tt.snapshot, tt.live, tt.written, now)
			if text := strings.Join(got, "; "); !strings.Contains(text, tt.want) {
				t.Errorf("%s\nis not\n%s", text, tt.want)
			}
		})
	}
}

func TestManyKindsAreNotAllNamed(t *testing.T) {
	changes := map[string]etcd.Changes{}
	for i, kind := range []string{"a", "b", "c", "d", "e", "f", "g"} {
		changes[kind] = etcd.Changes{Now: int64(i), Made: int64(i)}
	}
	want := "objects: 21 created since, not counting events and leases (g 6 created; f 5 created; e 4 created; d 3 " +
		"created; c 2 created; other kinds: 1)"
	if got := changed(&SnapshotFacts{}, changes); got != want {
		t.Errorf("%s, and not %s", got, want)
	}
}
