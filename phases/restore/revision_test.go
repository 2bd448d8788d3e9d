package restore

import (
	"encoding/json"
	"math"
	"path"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/backup"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// described puts a sidecar on the simulated node, as the user whose attributes they are.
func described(t *testing.T, w *crashtest.Node, file string, attr node.Attr, s backup.Sidecar) {
	t.Helper()
	data, err := json.Marshal(s)
	if err == nil {
		err = node.MkdirAll(w.Machine.Disk, path.Dir(file), node.Mine(0o700))
	}
	if err == nil {
		err = w.Machine.Disk.Create(op.SidecarOf(file), data, attr)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// told is a sidecar that tells of a revision, with the fingerprint of a CA if given.
func told(revision int64, cluster string, ca ...string) backup.Sidecar {
	s := backup.Sidecar{SHA256: "5a", Revision: revision, ClusterID: cluster}
	if len(ca) > 0 {
		s.Fingerprints = map[string]string{"/ca": ca[0]}
	}
	return s
}

// Whoever can write one number into a directory must not decide which revisions a cluster has.
func TestOnlyAPlausibleRevisionCounts(t *testing.T) {
	another := node.Mine(0o600)
	another.UID++
	writable := node.Mine(0o666)
	const ours = 0xabc
	for name, c := range map[string]struct {
		attr   node.Attr
		dir    string
		s      backup.Sidecar
		change func(*Facts)
		want   int64
		says   string
	}{
		"of this cluster":    {s: told(700, "abc"), want: 700},
		"in the usual place": {dir: journal.BackupsDir, s: told(700, "abc"), want: 700},
		"everything that etcd holds now: the backup is from another cluster, or from before a " +
			"restore": {s: told(700, "1", "A"), want: 700},
		"of another cluster":     {s: told(700, "1", "B"), want: 100},
		"written by another":     {attr: another, s: told(700, "abc"), want: 100, says: "others may have written"},
		"others may write to it": {attr: writable, s: told(700, "abc"), want: 100, says: "others may have written"},
		"near the end of int64":  {s: told(math.MaxInt64-10, "abc"), want: 100, says: "9223372036854775797"},
		"the end of int64": {s: told(math.MaxInt64, "abc"), want: 100, says: "which no cluster ever reaches: " +
			"it is ignored"},
		"beyond what can be": {s: told(mostRevision+1, "abc"), want: 100, says: "which no cluster ever reaches: " +
			"it is ignored"},
		"negative": {s: told(-5, "abc"), want: 100},
		"etcd itself near the end": {s: told(7, "abc"), change: func(f *Facts) {
			f.Live.Revision = math.MaxInt64 - 3
		}, want: 7, says: "etcd claims"},
		"nothing to compare with": {s: told(700, "1"), change: func(f *Facts) {
			f.Live, f.Fingerprints = nil, nil
		}, want: 700},
		"stopped data of another cluster": {s: told(700, "1"), change: func(f *Facts) {
			f.Live, f.Stopped = nil, &observe.Stopped{ClusterID: ours, Revision: 90}
		}, want: 90},
	} {
		t.Run(name, func(t *testing.T) {
			machine := crashtest.Shape{}.Machine(t)
			w := crashtest.Alone(t, machine)
			if c.attr == (node.Attr{}) {
				c.attr = node.Mine(0o600)
			}
			if c.dir == "" {
				c.dir = "/mnt/shared"
			}
			described(t, w, c.dir+"/planted.db", c.attr, c.s)
			f := &Facts{Facts: crashtest.SeenFacts(t, "run"), Snapshot: &SnapshotFacts{Path: "/mnt/shared/mine.db"}}
			f.Live.ClusterID, f.Fingerprints = ours, map[string]string{"/ca": "A"}
			if c.change != nil {
				c.change(f)
			}
			o := restorer{Options: Options{File: "mine.db"}}
			k, err := o.knownRevision(w.Process.Look, f)
			if said := strings.Join(k.odd, "\n"); err != nil || k.revision != c.want ||
				!strings.Contains(said, c.says) || (c.says == "") != (said == "") {
				t.Errorf("revision %d, said %q, %v", k.revision, said, err)
			}
			f.KnownRevision = k.revision
			f.Etcd.PeerURLs = []string{"https://cp1:2380"}
			if s := o.staging(f); s.MinRevision < minBump || s.MinRevision > mostRevision+minBump {
				t.Errorf("it is to be restored above %d", s.MinRevision)
			}
		})
	}
}

func TestABumpThatEndsWhereNoneShouldIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		snapshot, live, bump int64
		says, hint           string
	}{
		"none given":          {50, 100, 0, "", ""},
		"above what is live":  {50, 100, 51, "", ""},
		"what is live":        {50, 100, 50, "etcd shows revision 100", "leave out --bump-revision, or use 1000000050"},
		"etcd does not serve": {50, 0, 1, "", ""},
		"brings etcd close to the highest revision, at which it " +
			"crashes": {50, 100, math.MaxInt64 - 60, "brings etcd close to the highest revision, at which " +
			"it crashes", "at most"},
		"the snapshot is":        {math.MaxInt64 - 5, 100, 0, "etcd cannot count much further", "older"},
		"the snapshot, and bump": {math.MaxInt64 - 5, 100, math.MaxInt64, "etcd cannot count much further", "older"},
		"etcd is at the end":     {50, math.MaxInt64 - 1, 1_000_000, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := &Facts{Facts: crashtest.SeenFacts(t, "run"), Snapshot: &SnapshotFacts{}}
			f.Snapshot.Proof.Revision, f.Live.Revision = c.snapshot, c.live
			err := restorer{Options: Options{Bump: c.bump}}.checkBump(f)
			if (err == nil) != (c.says == "") {
				t.Fatal(err)
			}
			if err != nil && (!strings.Contains(err.Error(), c.says) || !strings.Contains(engine.Hint(err), c.hint)) {
				t.Errorf("%v; hint %q", err, engine.Hint(err))
			}
		})
	}
}

// etcd's data may be unreadable. Its clients have seen what an earlier run, a backup or another
// node has seen.
func TestABumpIsHeldAgainstEverythingThatIsKnown(t *testing.T) {
	for name, c := range map[string]struct {
		known, shared, bump int64
		says                string
	}{
		"below a backup":        {known: 3000, bump: 2949, says: "the backup shows revision 3000"},
		"what a backup shows":   {known: 3000, bump: 2950, says: "the backup shows revision 3000"},
		"above a backup":        {known: 3000, bump: 2951},
		"below another node":    {known: 3000, shared: 4000, bump: 3000, says: "another node shows revision 4000"},
		"above another node":    {known: 3000, shared: 4000, bump: 3951},
		"nobody knows anything": {bump: 1},
	} {
		t.Run(name, func(t *testing.T) {
			f := &Facts{Facts: crashtest.SeenFacts(t, "run"), Snapshot: &SnapshotFacts{}, KnownRevision: c.known,
				KnownFrom: "the backup"}
			f.Live = nil
			f.Snapshot.Proof.Revision = 50
			o := restorer{Options: Options{Bump: c.bump}}
			if c.shared > 0 {
				o.Shared = &Shared{KnownRevision: c.shared}
			}
			err := o.checkBump(f)
			if (err != nil) != (c.says != "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Fatal(err)
			}
			if err != nil && !strings.Contains(engine.Hint(err), "leave out --bump-revision, or use 100000") {
				t.Errorf("the hint is %q", engine.Hint(err))
			}
		})
	}
}

func TestAnAgentsRevisionIsHeldToTheSame(t *testing.T) {
	v, c := threeSeen()
	s := v.surveys["cp2"]
	s.KnownRevision = math.MaxInt64 - 10
	v.surveys["cp2"] = s
	if _, err := v.joint(c); err == nil || !strings.Contains(err.Error(), "cp2 claims revision 9223372036854775797") {
		t.Errorf("%v", err)
	}
}
