package backup

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

func backupFacts(t *testing.T) *Facts {
	f := &Facts{Facts: crashtest.SeenFacts(t, "20260101T000000Z-backup-0000")}
	f.Backup, f.Access = &Place{Dir: "/backups", Free: 1 << 30, Need: 100 << 20}, f.Etcd.Access
	return f
}

func TestABackupIsRefusedBeforeAnythingIsWritten(t *testing.T) {
	var refused *engine.RefusedError
	var unreachable *engine.UnreachableError
	cases := []struct {
		name    string
		options Options
		change  func(*Facts)
		kind    any
		says    string
		hint    string
	}{
		{"no manifest runs etcd", Options{}, func(f *Facts) { f.Etcd, f.Live = nil, nil },
			&refused, "no manifest in", "--from-data-dir"},
		{"no manifest runs etcd, and none answers", Options{}, func(f *Facts) {
			f.Etcd, f.Live, f.LiveError = nil, nil, errors.New("connection refused")
		}, &unreachable, "none answers: connection refused", "--endpoints"},
		{"etcd's manifest cannot be relied on", Options{}, func(f *Facts) {
			f.Etcd, f.Live, f.EtcdError = nil, nil, engine.Refuse("put it back", "etcd.conf.yml does not exist")
		}, &refused, "etcd.conf.yml does not exist", "put it back; or, if etcd runs, say with --endpoints"},
		{"the manifests cannot be read, and nobody says where etcd is", Options{}, func(f *Facts) {
			f.Etcd, f.Live, f.ManifestsError = nil, nil, errors.New("cannot read the static-pod directory")
		}, nil, "cannot read the static-pod directory", "say with --endpoints"},
		{"etcd does not answer", Options{}, func(f *Facts) {
			f.Live, f.LiveError = nil, errors.New("connection refused")
		}, &unreachable, "connection refused", "--from-data-dir /var/lib/etcd"},
		{"etcd does not answer, and has no data", Options{}, func(f *Facts) {
			f.Live, f.LiveError, f.NoData = nil, errors.New("connection refused"), true
		}, &unreachable, "connection refused", "/var/lib/etcd holds no data, either: `etcdpod status` says"},
		{"etcd does not answer, and has a log only", Options{}, func(f *Facts) {
			f.Live, f.LiveError, f.LogAlone = nil, errors.New("connection refused"), true
		}, &unreachable, "connection refused", "/var/lib/etcd holds etcd's log, and no db: `etcdpod status` says"},
		{"etcd runs, and does not answer", Options{}, func(f *Facts) {
			f.Live, f.LiveError, f.DataInUse = nil, errors.New("bad certificate"), true
		}, &unreachable, "bad certificate", "an etcd is using /var/lib/etcd, so its files cannot be read"},
		{"the file is there", Options{File: "x"}, func(f *Facts) { f.Backup.Taken = "/backups/x" },
			&refused, "/backups/x already exists", "another FILE"},
		{"the file's directory is not there", Options{File: "x"},
			func(f *Facts) { f.Backup.Missing = []string{"/backups"} }, &refused,
			"does not exist", "create the directory"},
		{"the place is not a directory", Options{}, func(f *Facts) { f.Backup.DirOdd = "/backups is not a directory" },
			&refused, "not a directory", ""},
		{"it would lie with the data", Options{}, func(f *Facts) { f.Backup.Within = lostWithData },
			&refused, "lost along with the data", ""},
		{"others could replace it", Options{}, func(f *Facts) { f.Backup.Exposed = "/backups is writable by everyone" },
			&refused, "where others could replace it: /backups is writable by everyone", "--shared-dir"},
		{"the kubelet would run it", Options{}, func(f *Facts) { f.Backup.Within = theKubeletRuns },
			&refused, "kubelet runs every file", ""},
		{"etcd's own disk would be too full", Options{}, func(f *Facts) {
			f.Backup.Free, f.Backup.BesideEtcd = 300<<20, true
		}, &refused, "300.0 MiB free, 372.0 MiB needed", ""},
		{"the disk is too full", Options{}, func(f *Facts) { f.Backup.Free = 100 << 20 },
			&refused, "100.0 MiB free, 116.0 MiB needed", "--keep"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := backupFacts(t)
			c.change(f)
			_, err := Workflow(c.options).Planned(t.Context(), f)
			if err == nil || c.kind != nil && !errors.As(err, c.kind) || !strings.Contains(err.Error(), c.says) ||
				!strings.Contains(engine.Hint(err), c.hint) {
				t.Errorf("%T %v; hint %q", err, err, engine.Hint(err))
			}
		})
	}
}

func TestABackupIsPlannedFromWhereItIsAskedToComeFrom(t *testing.T) {
	kinds := func(plan engine.Plan) (all []string) {
		for _, p := range plan.Phases {
			for _, o := range p.Ops() {
				all = append(all, op.Kind(o))
			}
		}
		return all
	}
	cases := []struct {
		name    string
		options Options
		change  func(*Facts)
		want    []string
	}{
		{"a running etcd", Options{}, func(*Facts) {},
			[]string{"open-backup", "save-snapshot", "prove-backup", "keep-backup"}},
		{"a member without a quorum", Options{}, func(f *Facts) { f.LiveError = errors.New("no leader") },
			[]string{"open-backup", "save-snapshot", "prove-backup", "keep-backup"}},
		{"an etcd that answers, without a manifest", Options{}, func(f *Facts) { f.Etcd = nil },
			[]string{"open-backup", "save-snapshot", "prove-backup", "keep-backup"}},
		{"a data directory, and no etcd at all", Options{FromDataDir: "/old"}, func(f *Facts) {
			f.Etcd, f.Live = nil, nil
		}, []string{"open-backup", "snapshot-data-directory", "prove-backup", "keep-backup"}},
		{"a directory that is not there", Options{}, func(f *Facts) {
			f.Backup.Missing = []string{"/a", "/a/b"}
		}, []string{"make-directory", "make-directory", "open-backup", "save-snapshot", "prove-backup", "keep-backup"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := backupFacts(t)
			c.change(f)
			plan, err := Workflow(c.options).Planned(t.Context(), f)
			if err != nil || !slices.Equal(kinds(plan), c.want) {
				t.Errorf("%v %v", kinds(plan), err)
			}
		})
	}
}

// What starts the etcd of another machine is none of this node's business.
func TestWhatRunsAnEtcdIsAskedOnItsOwnMachineOnly(t *testing.T) {
	for at, want := range map[string]int{"https://127.0.0.1:2379": 1, "https://192.0.2.7:2379": 0,
		"https://etcd1:2379": 0} {
		f := backupFacts(t)
		f.Etcd, f.Access.Endpoints = nil, []string{at}
		plan, err := Workflow(Options{}).Planned(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		said := 0
		for _, wrong := range plan.Phases[0].Findings {
			if wrong.Code == finding.EtcdManifestMissing &&
				strings.Contains(wrong.Text, "what starts it is not known") {
				said++
			}
		}
		if said != want {
			t.Errorf("%s: %v", at, plan.Phases[0].Findings)
		}
	}
}

func TestABackupOnANodeWhoseMemberWasRemovedSaysSo(t *testing.T) {
	f := backupFacts(t)
	f.Etcd, f.Departed = nil, &observe.Departure{Run: "r9"}
	f.Access.Endpoints = []string{"https://127.0.0.1:2379"}
	plan, err := Workflow(Options{}).Planned(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	said := plan.Phases[0].Findings
	if !slices.ContainsFunc(said, func(w finding.Finding) bool {
		return w.Code == finding.EtcdDeparted && strings.Contains(w.Text, "by run r9")
	}) || slices.ContainsFunc(said, func(w finding.Finding) bool { return w.Code == finding.EtcdManifestMissing }) {
		t.Errorf("it says %v", said)
	}
	f.Live = nil
	_, err = Workflow(Options{}).Planned(t.Context(), f)
	if err == nil || !strings.Contains(err.Error(), "its member was removed from the cluster by run r9") {
		t.Errorf("where no etcd answers it says %v", err)
	}
}

func TestOptionsOfABackupThatMakeNoSenseAreWrongUsage(t *testing.T) {
	for name, o := range map[string]Options{
		"a file and a directory": {File: "x", Dir: "/x"},
		"keep with a file":       {File: "x", Keep: 1},
		"keep less than none":    {Dir: "/x", Keep: -1},
		"a relative directory":   {Dir: "x"},
		"a WAL without its data": {FromWALDir: "/wal"},
	} {
		t.Run(name, func(t *testing.T) {
			var usage *engine.UsageError
			if err := o.check(); !errors.As(err, &usage) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestKeepingCountsThisNodesBackupsOnly(t *testing.T) {
	base := Sidecar{Node: "cp1", ClusterID: "1", Fingerprints: map[string]string{"/ca": "A"}, EtcdVersion: "3.6.5",
		TakenAt: time.Unix(1_600_000_000, 0)}
	restored := base.TakenAt.Add(time.Hour)
	cases := []struct {
		name   string
		file   string // empty: the generated name
		change func(*Sidecar)
		stays  bool
	}{
		{"at a revision that etcd is below now", "", func(s *Sidecar) { s.Revision = simRevision + 1 }, true},
		{"of another cluster, which no run explains", "", func(s *Sidecar) {
			s.ClusterID, s.TakenAt = "2", restored.Add(time.Hour)
		}, true},
		{"of this node", "", func(*Sidecar) {}, false},
		{"of this node before a restore gave the cluster a new id", "", func(s *Sidecar) { s.ClusterID = "2" }, false},
		{"of this node before its CAs were rotated", "",
			func(s *Sidecar) { s.Fingerprints = map[string]string{"/ca": "B"} }, false},
		{"of a node of the same name in another cluster", "",
			func(s *Sidecar) { s.ClusterID, s.Fingerprints = "2", map[string]string{"/ca": "B"} }, true},
		{"of its own stopped data", "", func(s *Sidecar) { s.EtcdVersion = "" }, false},
		{"of data of another cluster, by an earlier version", "",
			func(s *Sidecar) { s.EtcdVersion, s.ClusterID = "", "2" }, true},
		{"of data of another cluster with the same id", "", func(s *Sidecar) {
			s.EtcdVersion, s.Source, s.Fingerprints = "", "/mnt/old", nil
		}, true},
		{"of a node whose name begins alike", "etcd-cp1-b-20200913T122640Z-r0.db",
			func(s *Sidecar) { s.Node = "cp1-b" }, true},
		{"under this node's name, by another's sidecar", "", func(s *Sidecar) { s.Node = "cp2" }, true},
		{"dated in the future", "", func(s *Sidecar) { s.TakenAt = s.TakenAt.AddDate(79, 0, 0) }, true},
		{"under a name that a person gave", "etcd-cp1-before-upgrade.db", func(*Sidecar) {}, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := newBackupWorld(t, backupCase{options: Options{Dir: "/other", Keep: 1}})
			s := base
			c.change(&s)
			name := c.file
			if name == "" {
				name = op.BackupName(base)
			}
			file := "/other/" + name
			putBackup(t, w.Machine.Disk, file, s)
			backup := w.workflow(w.options)
			f, err := backup.Observe(t.Context(), w.Process.Look, "20260101T000000Z-backup-0000")
			if err != nil {
				t.Fatal(err)
			}
			f.Fingerprints, f.Backup.Cluster, f.Backup.Since = base.Fingerprints, "1", restored
			plan, err := backup.Planned(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Process.Pass(t.Context(), f.Run, plan); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{file, op.SidecarOf(file)} {
				if _, err := w.Machine.Lstat(name); (err == nil) != c.stays {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
}

func TestBackupsAreListedNewestFirstAndWhatIsOddHasANote(t *testing.T) {
	w := newBackupWorld(t, backupCases()[0])
	d := w.Machine.Disk
	create := func(name, data string) {
		t.Helper()
		if err := d.Create(name, []byte(data), node.Attr{Mode: 0o600}); err != nil {
			t.Fatal(err)
		}
	}
	putBackup(t, d, "/backups/whole.db", Sidecar{SizeBytes: int64(len("data")), TakenAt: time.Unix(1_700_000_000, 0)})
	putBackup(t, d, "/backups/by-hand", Sidecar{SizeBytes: int64(len("data")), TakenAt: time.Unix(1_700_000_001, 0)})
	for file, attr := range map[string]node.Attr{
		"/backups/theirs.db":         {Mode: 0o600, UID: 12345},
		"/backups/described.db":      node.Mine(0o600),
		"/backups/theirs.db.json":    node.Mine(0o600),
		"/backups/described.db.json": node.Mine(0o602),
	} {
		data := `{"sizeBytes":4,"sha256":"3a6e"}`
		if strings.HasSuffix(file, ".db") {
			data = "data"
		}
		if err := d.Create(file, []byte(data), attr); err != nil {
			t.Fatal(err)
		}
	}
	create("/backups/gone.db.json", "{}")
	create("/backups/alone.db", "data")
	create("/backups/torn.db", "data")
	create("/backups/torn.db.json", "{")
	create("/backups/negative.db", "data")
	create("/backups/negative.db.json", `{"sizeBytes":4,"sha256":"3a6e","revision":-5}`)
	create("/backups/empty.db", "data")
	create("/backups/empty.db.json", "{}")
	create("/backups/.etcdpod-x.db", "data")
	create("/backups/readme.txt", "data")
	listing, err := List(t.Context(), w.Process.Look, "/backups")
	if err != nil {
		t.Fatal(err)
	}
	entries := listing.Entries
	notes := map[string]string{}
	for i, e := range entries {
		notes[strings.TrimPrefix(e.Path, "/backups/")] = e.Note
		if e.Whole != (e.Note == "" || e.Code == finding.BackupForeign) {
			t.Errorf("%s: whole %v, note %q", e.Path, e.Whole, e.Note)
		}
		if i > 0 && e.TakenAt.After(entries[i-1].TakenAt) {
			t.Errorf("%s comes too late", e.Path)
		}
	}
	for name, want := range map[string]string{
		"whole.db":                        "",
		"by-hand":                         "",
		"theirs.db":                       "others may have written it",
		"described.db":                    "others may have written it",
		"gone.db":                         "only its sidecar",
		"alone.db":                        "no sidecar",
		"torn.db":                         "cannot read the sidecar",
		"empty.db":                        "it does not say which snapshot it describes",
		"negative.db":                     "it has a negative number",
		"etcd-cp1-20200913T122640Z-r0.db": "but its sidecar says",
	} {
		if note, listed := notes[name]; !listed || !strings.Contains(note, want) || (want == "") != (note == "") {
			t.Errorf("%s: listed %v, %q", name, listed, note)
		}
	}
	if len(entries) != 12 { // with the three old ones, whose sidecars give no length
		t.Errorf("%d entries: %v", len(entries), notes)
	}
}

// Whatever else of a node cannot be read, an etcd that answers is backed up.
func TestABackupNeedsOnlyAnEtcdThatAnswers(t *testing.T) {
	for text, change := range map[string]func(*Facts){
		"may hold more":        func(f *Facts) { f.LiveError = errors.New("no leader") },
		"cannot read enc.yaml": func(f *Facts) { f.FingerprintsError = errors.New("cannot read enc.yaml") },
		"cannot read the static-pod directory": func(f *Facts) {
			f.Etcd, f.Manifests, f.ManifestsError = nil, nil, errors.New("cannot read the static-pod directory")
		},
	} {
		f := backupFacts(t)
		f.Live = &observe.Live{MemberID: 1}
		change(f)
		plan, err := Workflow(Options{Dir: "/backups"}).Planned(t.Context(), f)
		if err != nil || !strings.Contains(strings.Join(finding.Texts(plan.Phases[0].Findings), "\n"), text) {
			t.Errorf("%v: %+v", err, plan.Phases)
		}
	}
}

// What `backups`, `status` and completion find must be the same, and never "none" for want of a
// look.
func TestBackupsAreLookedForWhereTheyWereKept(t *testing.T) {
	w := newBackupWorld(t, backupCases()[0])
	d, look := w.Machine.Disk, w.Process.Look
	list := func(dir, in string, names ...string) error {
		t.Helper()
		l, err := List(t.Context(), look, dir)
		var paths []string
		for _, e := range l.Entries {
			paths = append(paths, e.Path)
		}
		if l.In() != in || !slices.Equal(paths, names) {
			t.Errorf("with --dir %q: in %s: %v, %v", dir, l.In(), paths, err)
		}
		return err
	}
	record := func(text string) {
		t.Helper()
		err := node.MkdirAll(d, journal.Home, node.Attr{Mode: 0o700})
		if err == nil {
			err = node.WriteAtomic(d, journal.Home+"/last-backup.json", []byte(text), node.Mine(0o600))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	failed := func(err error, text, hint string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), text) || !strings.Contains(engine.Hint(err), hint) {
			t.Errorf("want %q, %q: %v, %q", text, hint, err, engine.Hint(err))
		}
	}
	old, next := Sidecar{SizeBytes: 4, TakenAt: time.Unix(1_700_000_000, 0)}, time.Unix(1_700_000_001, 0)
	if err := list("", DefaultDir); err != nil {
		t.Errorf("nothing was ever kept: %v", err)
	}
	failed(list("/typo", "/typo"), "there is no directory /typo", "give the directory with the backups")

	const safe = "/mnt/safe"
	record(`{"dir":"` + safe + `"}`)
	failed(list("", safe+" or "+DefaultDir),
		"there is no directory "+safe+", where the last good backup was kept", DefaultDir)
	putBackup(t, d, safe+"/cron.db", Sidecar{SizeBytes: 4, TakenAt: next})
	if err := list("", safe+" or "+DefaultDir, safe+"/cron.db"); err != nil {
		t.Errorf("the default directory need not exist: %v", err)
	}
	putBackup(t, d, DefaultDir+"/by-hand.db", old)
	if err := list("", safe+" or "+DefaultDir, safe+"/cron.db", DefaultDir+"/by-hand.db"); err != nil {
		t.Error(err)
	}
	if err := list(DefaultDir, DefaultDir, DefaultDir+"/by-hand.db"); err != nil {
		t.Error(err)
	}
	failed(list(safe+"/cron.db", safe+"/cron.db"), safe+"/cron.db is not a directory",
		"give the directory that it is in: --dir "+safe)

	// One was kept elsewhere for once: those before it are not forgotten.
	record(`{"dir":"/mnt/stick","before":[{"dir":"` + safe + `"},{"dir":"/mnt/gone"},{"dir":"` + DefaultDir + `"}]}`)
	failed(list("", "/mnt/stick or "+safe+" or "+DefaultDir, safe+"/cron.db", DefaultDir+"/by-hand.db"),
		"there is no directory /mnt/stick, where the last good backup was kept", DefaultDir)
	record("{")
	failed(list("", DefaultDir, DefaultDir+"/by-hand.db"),
		"cannot determine where the last backup was kept", "--dir DIR")
	if err := list(safe, safe, safe+"/cron.db"); err != nil {
		t.Errorf("it was said where to look: %v", err)
	}
}

// Whoever believes in two copies, and deletes one, has none.
func TestBackupsBehindALinkAreListedOnce(t *testing.T) {
	root := t.TempDir()
	disk := node.OS(root)
	if err := errors.Join(os.MkdirAll(root+"/mnt/backups", 0o700), os.MkdirAll(root+journal.Home, 0o700),
		os.Symlink("/mnt/backups", root+DefaultDir),
		disk.Create("/mnt/backups/one.db", []byte("data"), node.Mine(0o600)),
		disk.Create(journal.Home+"/last-backup.json", []byte(`{"dir":"/mnt/backups"}`), node.Mine(0o600))); err != nil {
		t.Fatal(err)
	}
	n := &observe.Node{View: (&node.Host{FS: disk}).View()}
	l, err := List(t.Context(), n, "")
	if err != nil || len(l.Entries) != 1 || l.In() != DefaultDir {
		t.Errorf("in %s: %v, %v", l.In(), l.Entries, err)
	}
}

func TestTheDirectoryOfABackupIsJudgedByWhereItsLinksLead(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"/etc/kubernetes/manifests", "/var/lib/etcd/member", "/srv/open", "/srv/sticky"} {
		if err := errors.Join(os.MkdirAll(root+dir, 0o700), os.Chmod(root+dir, 0o700)); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"/srv/m": "/etc/kubernetes/manifests", "/srv/d": "/var/lib/etcd",
		"/srv/o": "open", "/srv/deep": "/var/lib/etcd/member"} {
		if err := os.Symlink(to, root+link); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Chmod(root+"/srv/open", 0o777),
		os.Chmod(root+"/srv/sticky", 0o777|os.ModeSticky)); err != nil {
		t.Fatal(err)
	}
	seen := crashtest.SeenFacts(t, "20260101T000000Z-backup-0000")
	n := &observe.Node{View: (&node.Host{FS: node.OS(root)}).View()}
	for dir, want := range map[string]string{
		"/srv/m": "the kubelet runs every file there", "/srv/m/new": "the kubelet runs every file there",
		"/srv/d": "lost along with the data", "/srv/d/new/one": "lost along with the data", "/srv/deep": "lost along " +
			"with the data",
		"/srv/open": "others could replace it", "/srv/o": "others could replace it",
		"/srv/o/new": "others could replace it",
		"/srv":       "", "/srv/new/one": "", "/srv/sticky": "",
	} {
		o := Options{Dir: dir}
		place, err := o.place(n, seen)
		if err != nil {
			t.Fatalf("%s: %v", dir, err)
		}
		f := &Facts{Facts: seen, Backup: place, Access: seen.Etcd.Access}
		place.Free = 1 << 40
		_, err = Workflow(o).Planned(t.Context(), f)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", dir, err)
		}
		if !place.BesideEtcd {
			t.Errorf("%s is not said to be on etcd's own file system", dir)
		}
		_, err = Workflow(Options{Dir: dir, SharedDir: true}).Planned(t.Context(), f)
		if (err == nil) != (want == "" || strings.Contains(want, "others")) {
			t.Errorf("%s, shared: %v", dir, err)
		}
	}
}
