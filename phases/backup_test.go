package phases

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

func backupFacts(t *testing.T) *factsOfBackup {
	f := &factsOfBackup{Facts: seenFacts(t, "20260101T000000Z-backup-0000")}
	f.Backup = &BackupPlace{Dir: "/backups", Free: 1 << 30, Need: 100 << 20}
	return f
}

func TestABackupIsRefusedBeforeAnythingIsWritten(t *testing.T) {
	var refused *RefusedError
	var unreachable *UnreachableError
	cases := []struct {
		name    string
		options BackupOptions
		change  func(*factsOfBackup)
		kind    any
		says    string
		hint    string
	}{
		{"no manifest runs etcd", BackupOptions{}, func(f *factsOfBackup) { f.Etcd = nil }, &refused, "no manifest in", "--from-data-dir"},
		{"etcd does not answer", BackupOptions{}, func(f *factsOfBackup) { f.Live, f.LiveError = nil, errors.New("connection refused") }, &unreachable, "connection refused", "--from-data-dir /var/lib/etcd"},
		{"the file is there", BackupOptions{File: "x"}, func(f *factsOfBackup) { f.Backup.Taken = "/backups/x" }, &refused, "/backups/x is there already", "another FILE"},
		{"the file's directory is not there", BackupOptions{File: "x"}, func(f *factsOfBackup) { f.Backup.Missing = []string{"/backups"} }, &refused, "is not there", "make the directory"},
		{"the place is no directory", BackupOptions{}, func(f *factsOfBackup) { f.Backup.DirOdd = "/backups is no directory" }, &refused, "no directory", ""},
		{"the kubelet would run it", BackupOptions{}, func(f *factsOfBackup) { f.Backup.Dir = testManifestDir }, &refused, "kubelet runs every file", ""},
		{"it would lie with the data", BackupOptions{}, func(f *factsOfBackup) { f.Backup.Dir = "/var/lib/etcd/backups" }, &refused, "lost with the data", ""},
		{"the disk is too full", BackupOptions{}, func(f *factsOfBackup) { f.Backup.Free = 100 << 20 }, &refused, "100 MiB free, 116 MiB needed", "--keep"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := backupFacts(t)
			c.change(f)
			_, err := Backup(c.options).planned(t.Context(), f)
			if !errors.As(err, c.kind) || !strings.Contains(err.Error(), c.says) || !strings.Contains(Hint(err), c.hint) {
				t.Errorf("%T %v; hint %q", err, err, Hint(err))
			}
		})
	}
}

func TestABackupIsPlannedFromWhereItIsAskedToComeFrom(t *testing.T) {
	kinds := func(plan Plan) (all []string) {
		for _, p := range plan.Phases {
			for _, o := range p.Ops() {
				all = append(all, op.Kind(o))
			}
		}
		return all
	}
	cases := []struct {
		name    string
		options BackupOptions
		change  func(*factsOfBackup)
		want    []string
	}{
		{"a running etcd", BackupOptions{}, func(*factsOfBackup) {}, []string{"open-backup", "save-snapshot", "prove-backup", "keep-backup"}},
		{"a member without a quorum", BackupOptions{}, func(f *factsOfBackup) { f.LiveError = errors.New("no leader") }, []string{"open-backup", "save-snapshot", "prove-backup", "keep-backup"}},
		{"a data directory, and no etcd at all", BackupOptions{FromDataDir: "/old"}, func(f *factsOfBackup) { f.Etcd, f.Live = nil, nil }, []string{"open-backup", "snapshot-data-directory", "prove-backup", "keep-backup"}},
		{"a directory that is not there", BackupOptions{}, func(f *factsOfBackup) { f.Backup.Missing = []string{"/a", "/a/b"} }, []string{"make-directory", "make-directory", "open-backup", "save-snapshot", "prove-backup", "keep-backup"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := backupFacts(t)
			c.change(f)
			plan, err := Backup(c.options).planned(t.Context(), f)
			if err != nil || !slices.Equal(kinds(plan), c.want) {
				t.Errorf("%v %v", kinds(plan), err)
			}
		})
	}
}

func TestOptionsOfABackupThatMakeNoSenseAreWrongUsage(t *testing.T) {
	for name, o := range map[string]BackupOptions{
		"a file and a directory": {File: "x", Dir: "/x"},
		"keep with a file":       {File: "x", Keep: 1},
		"keep less than none":    {Dir: "/x", Keep: -1},
		"a relative directory":   {Dir: "x"},
		"a WAL without its data": {FromWALDir: "/wal"},
	} {
		t.Run(name, func(t *testing.T) {
			var usage *UsageError
			if err := o.check(); !errors.As(err, &usage) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestKeepingCountsThisNodesBackupsOnly(t *testing.T) {
	base := Sidecar{Node: "cp1", ClusterID: "1", Fingerprints: map[string]string{"/ca": "A"}, TakenAt: time.Unix(1_600_000_000, 0)}
	cases := []struct {
		name   string
		file   string // empty: the name that it was given
		change func(*Sidecar)
		stays  bool
	}{
		{"of this node", "", func(*Sidecar) {}, false},
		{"of this node before a restore gave the cluster a new id", "", func(s *Sidecar) { s.ClusterID = "2" }, false},
		{"of this node before its CAs were rotated", "", func(s *Sidecar) { s.Fingerprints = map[string]string{"/ca": "B"} }, false},
		{"of a node of the same name in another cluster", "", func(s *Sidecar) { s.ClusterID, s.Fingerprints = "2", map[string]string{"/ca": "B"} }, true},
		{"of a node whose name begins alike", "etcd-cp1-b-20200913T122640Z-r0.db", func(s *Sidecar) { s.Node = "cp1-b" }, true},
		{"under this node's name, by another's sidecar", "", func(s *Sidecar) { s.Node = "cp2" }, true},
		{"under a name that a person gave", "etcd-cp1-before-upgrade.db", func(*Sidecar) {}, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := newBackupWorld(t, backupCase{options: BackupOptions{Dir: "/other", Keep: 1}})
			s := base
			c.change(&s)
			name := c.file
			if name == "" {
				name = op.BackupName(base)
			}
			file := "/other/" + name
			putBackup(t, w.machine.Disk, file, s)
			backup := w.workflow(w.options)
			f, err := backup.Observe(t.Context(), w.node.Look, "20260101T000000Z-backup-0000")
			if err != nil {
				t.Fatal(err)
			}
			f.Fingerprints, f.Backup.Cluster = base.Fingerprints, "1"
			plan, err := backup.planned(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			if err := w.node.pass(t.Context(), plan); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{file, op.SidecarOf(file)} {
				if _, err := w.machine.Lstat(name); (err == nil) != c.stays {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
}

func TestBackupsAreListedNewestFirstAndWhatIsOddHasANote(t *testing.T) {
	w := newBackupWorld(t, backupCases()[0])
	d := w.machine.Disk
	create := func(name, data string) {
		t.Helper()
		if err := d.Create(name, []byte(data), node.Attr{Mode: 0o600}); err != nil {
			t.Fatal(err)
		}
	}
	putBackup(t, d, "/backups/whole.db", Sidecar{SizeBytes: int64(len("data")), TakenAt: time.Unix(1_700_000_000, 0)})
	putBackup(t, d, "/backups/by-hand", Sidecar{SizeBytes: int64(len("data")), TakenAt: time.Unix(1_700_000_001, 0)})
	create("/backups/gone.db.json", "{}")
	create("/backups/alone.db", "data")
	create("/backups/torn.db", "data")
	create("/backups/torn.db.json", "{")
	create("/backups/.etcdpod-x.db", "data")
	create("/backups/readme.txt", "data")
	entries, err := w.node.Look.Backups(t.Context(), "/backups")
	if err != nil {
		t.Fatal(err)
	}
	notes := map[string]string{}
	for i, e := range entries {
		notes[strings.TrimPrefix(e.Path, "/backups/")] = e.Note
		if e.Whole != (e.Note == "") {
			t.Errorf("%s: whole %v, note %q", e.Path, e.Whole, e.Note)
		}
		if i > 0 && e.TakenAt.After(entries[i-1].TakenAt) {
			t.Errorf("%s comes too late", e.Path)
		}
	}
	for name, want := range map[string]string{"whole.db": "", "by-hand": "", "gone.db": "only its sidecar", "alone.db": "no sidecar", "torn.db": "cannot read the sidecar", "etcd-cp1-20200913T122640Z-r0.db": "and its sidecar says"} {
		if note, listed := notes[name]; !listed || !strings.Contains(note, want) || (want == "") != (note == "") {
			t.Errorf("%s: listed %v, %q", name, listed, note)
		}
	}
	if len(entries) != 8 { // with the three old ones, whose sidecars say no length
		t.Errorf("%d entries: %v", len(entries), notes)
	}
	if entries, err := w.node.Look.Backups(t.Context(), ""); err != nil || len(entries) != 0 {
		t.Errorf("the usual directory is not there: %v, %v", entries, err)
	}
	if _, err := w.node.Look.Backups(t.Context(), "/typo"); err == nil {
		t.Error("a directory that was named and is not there is no error")
	}
}
