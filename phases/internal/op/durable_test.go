package op_test

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/internal/sealed"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
)

// A killed attempt leaves changes that are visible but not yet synced. An operation that finds
// such changes and reports them done must sync them first: a power loss must never undo what the
// journal says is done.

// cutting is an operation that can be cut off anywhere, and the world it starts in.
type cutting struct {
	name    string
	files   map[string]string
	prepare func(*sim.Disk)
	make    func() op.Op
	// Names with this prefix are its input: whoever made them removes them when the run goes back.
	takes string
}

const manifestDir, runDir = "/etc/kubernetes/manifests", "/var/lib/etcdpod/run"

// packed is a sealed backup of some text, without encryption.
func packed(text string) string {
	var b strings.Builder
	if _, err := sealed.Write(&b, strings.NewReader(text), sealed.Options{}); err != nil {
		panic(err)
	}
	return b.String()
}

func cuttings() []cutting {
	manifest := manifestDir + "/etcd.yaml"
	own := node.Attr{Mode: 0o600}
	fence := op.Fence{ManifestDir: manifestDir, Parking: runDir,
		DataDirs: []string{"/var/lib/etcd"}, Timeout: time.Minute}
	noExchange := func(d *sim.Disk) { d.NoExchange = true }
	twoMounts := func(d *sim.Disk) { d.Mounts = []string{"/etc"} }
	data := map[string]string{"/var/lib/etcd/member/db": "old", runDir + "/data/member/db": "new"}
	exchange := func() op.Op {
		return &op.Exchange{
			Fence: fence, Live: "/var/lib/etcd/member", Staged: runDir + "/data/member", Park: runDir + "/data/park",
		}
	}
	takeOut := func() op.Op {
		return &op.TakeOutManifest{From: manifest, To: runDir + "/etcd.yaml", SHA256: sim.Sum([]byte("etcd's"))}
	}
	replace := func() op.Op {
		return &op.ReplaceManifest{
			Path: manifest, Data: []byte("new"), Old: sim.Sum([]byte("etcd's")), Kept: runDir + "/etcd.yaml",
		}
	}
	replaceCertificate := func() op.Op {
		return &op.ReplaceCertificate{
			Cert: "/pki/server.crt", Key: "/pki/server.key", From: runDir + "/server", Kept: runDir + "/old/server",
		}
	}
	there := map[string]string{manifest: "etcd's"}
	beside := map[string]string{manifestDir + "/.etcd.yaml.etcdpod-kept": "etcd's"}
	pair := func(base, who string) map[string]string {
		return map[string]string{base + ".crt": "cert " + who, base + ".key": "key " + who}
	}
	both := pair("/pki/server", "old")
	for name, text := range pair(runDir+"/server", "new") {
		both[name] = text
	}
	return []cutting{
		{name: "make-directory", make: func() op.Op { return &op.MakeDirectory{Path: "/var/lib/new", Attr: own} }},
		{name: "put-back-manifest", make: func() op.Op {
			return &op.PutBackManifest{Fence: fence, File: op.File{Path: manifest, Data: []byte("etcd's"), Attr: own}}
		}},
		{name: "put-back-manifest, the original waiting beside it", files: beside, make: func() op.Op {
			return &op.PutBackManifest{Fence: fence, File: op.File{Path: manifest, Data: []byte("etcd's"), Attr: own}}
		}},
		{name: "write-manifest", make: func() op.Op {
			return &op.WriteManifest{File: op.File{Path: manifest, Data: []byte("etcd's"), Attr: own}}
		}},
		{name: "replace-manifest", files: there, make: replace},
		{name: "replace-manifest, across two mounts", files: there, prepare: twoMounts, make: replace},
		{name: "replace-manifest, by renames", files: there, prepare: noExchange, make: replace},
		{name: "take-out-manifest", files: there, make: takeOut},
		{name: "take-out-manifest, across two mounts", files: there, prepare: twoMounts, make: takeOut},
		{name: "exchange", files: data, make: exchange},
		{name: "exchange, by renames", files: data, prepare: noExchange, make: exchange},
		{name: "exchange-contents", files: map[string]string{
			"/wal/0.wal": "old", "/wal/1.wal": "old 1", "/wal/lost+found/x": "", "/wal/.etcdpod-run/wal/0.wal": "new",
		}, make: func() op.Op {
			return &op.ExchangeContents{Fence: fence, Live: "/wal",
				Staged: "/wal/.etcdpod-run/wal", Park: "/wal/.etcdpod-run/park"}
		}},
		{name: "exchange-both", files: map[string]string{
			"/var/lib/etcd/member/db": "old", runDir + "/data/member/db": "new",
			"/wal/0.wal": "old", runDir + "/wal/0.wal": "new",
		}, make: func() op.Op {
			return &op.ExchangeBoth{Data: *exchange().(*op.Exchange),
				Log: &op.Exchange{Live: "/wal", Staged: runDir + "/wal", Park: runDir + "/wal.park"}}
		}},
		{name: "move-aside", files: data, make: func() op.Op {
			return &op.MoveAside{Fence: fence, From: "/var/lib/etcd/member", To: runDir + "/data/aside"}
		}},
		{name: "stage-data", make: func() op.Op {
			return &op.StageData{Dir: runDir + "/data", Receipt: runDir + "/staged.json", Attr: node.Attr{Mode: 0o700}}
		}},
		{name: "unseal-snapshot", files: map[string]string{"/backup/s.db.zst": packed("snapshot")}, make: func() op.Op {
			return &op.UnsealSnapshot{File: "/backup/s.db.zst", Snapshot: runDir + "/snapshot.db",
				SHA256: sim.Sum([]byte("snapshot")), SizeBytes: 8}
		}},
		{name: "prove-snapshot", make: func() op.Op { return &op.ProveSnapshot{Proof: runDir + "/proof.json"} }},
		{name: "claim-data-directory", make: func() op.Op {
			return &op.ClaimData{Dir: "/var/lib/etcd-new", Attr: own}
		}},
		{name: "claim-data-directory, with a receipt", takes: runDir + "/claimed.json", make: func() op.Op {
			return &op.ClaimData{Dir: "/var/lib/etcd-new", Attr: own, Receipt: runDir + "/claimed.json"}
		}},
		{name: "give-up-reserve", files: map[string]string{
			manifest: "etcd's", manifestDir + "/.etcd.yaml.etcdpod-kept": "etcd's",
		}, make: func() op.Op { return &op.GiveUpReserve{Manifest: manifest, Kept: runDir + "/etcd.yaml"} }},
		{name: "issue-certificate", make: func() op.Op { return &op.IssueCertificate{To: runDir + "/server"} }},
		{name: "request-certificate", make: func() op.Op { return &op.RequestCertificate{To: runDir + "/server"} }},
		{name: "adopt-certificate", files: pair("/root/server", "signed"), make: func() op.Op {
			return &op.AdoptCertificate{From: "/root/server", To: runDir + "/server", Sums: [2]string{
				sim.Sum([]byte("cert signed")), sim.Sum([]byte("key signed")),
			}}
		}},
		{name: "replace-certificate", files: both, takes: runDir + "/server.", make: replaceCertificate},
		{name: "replace-certificate, by renames", files: both, takes: runDir + "/server.", prepare: noExchange,
			make: replaceCertificate},
		{name: "put-certificate", files: pair(runDir+"/server", "new"), takes: runDir + "/server.", make: func() op.Op {
			return &op.PutCertificate{From: runDir + "/server", To: "/pki/server", Attr: [2]node.Attr{own, own}}
		}},
	}
}

// begin makes the world, and records the operation.
func (c cutting) begin(t *testing.T, orderly bool) (*sim.Machine, *op.Target, op.Op) {
	t.Helper()
	d := sim.NewDisk()
	for _, dir := range []string{manifestDir, "/var/lib/etcd", runDir + "/old", "/pki"} {
		if err := node.MkdirAll(d, dir, node.Attr{Mode: 0o755}); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range c.files {
		if err := node.MkdirAll(d, path.Dir(name), node.Attr{Mode: 0o755}); err != nil {
			t.Fatal(err)
		}
		if err := d.Create(name, []byte(text), node.Attr{Mode: 0o600}); err != nil {
			t.Fatal(err)
		}
	}
	if c.prepare != nil {
		c.prepare(d)
	}
	m := sim.NewMachine(d, manifestDir, "/var/lib/none", func() bool { return false })
	m.WithoutKubelet()
	m.Disorderly = !orderly
	target := &op.Target{
		Host: m.Host(), Etcd: sim.Etcd{M: m}, Certificates: sim.Certificates{M: m},
		Involved: func([]byte, []string) bool { return false },
	}
	o := c.make()
	if r, ok := o.(op.Recorder); ok {
		if err := r.Record(t.Context(), target); err != nil {
			t.Fatal(err)
		}
	}
	return m, target, o
}

// files lists all files, except temporary ones that nobody reads, and names
// with the given prefixes.
func files(m *sim.Machine, but ...string) string {
	var b strings.Builder
	for line := range strings.Lines(m.Look()) {
		name, _, _ := strings.Cut(line, " ")
		left := slices.ContainsFunc(but, func(p string) bool { return p != "" && strings.HasPrefix(name, p) })
		if strings.HasPrefix(line, "/") && !strings.HasSuffix(name, ".etcdpod") && !left {
			b.WriteString(line)
		}
	}
	return b.String()
}

// lasts cuts the power. Nothing that was there may be lost, and nothing that
// was gone may come back.
func lasts(m *sim.Machine, but ...string) error {
	before := files(m, but...)
	m.PowerLoss(sim.DropUnsynced, nil)
	if after := files(m, but...); after != before {
		return fmt.Errorf("a power loss made of\n%s\nthis:\n%s", before, after)
	}
	return nil
}

// everywhere cuts the first attempt off at each step, and hands over what it left.
func (c cutting) everywhere(
	t *testing.T, try func(context.Context, op.Op, *op.Target) error, then func(*sim.Machine, *op.Target, op.Op) error,
) {
	for _, orderly := range []bool{true, false} {
		for at := 1; ; at++ {
			m, target, o := c.begin(t, orderly)
			m.CrashAt = at
			err := try(t.Context(), o, target)
			if !m.Crashed() {
				if err != nil {
					t.Fatalf("nothing cuts it off: %v", err)
				}
				break
			}
			call := m.Calls[len(m.Calls)-1]
			m.Revive()
			if err := then(m, target, o); err != nil {
				t.Errorf("cut off at step %d, %q; orderly: %v: %v", at, call, orderly, err)
			}
		}
	}
}

func forward(ctx context.Context, o op.Op, t *op.Target) error { return o.Do(ctx, t) }

func thereAndBack(ctx context.Context, o op.Op, t *op.Target) error {
	if err := o.Do(ctx, t); err != nil {
		return err
	}
	return o.Undo(ctx, t)
}

func TestWhatIsFoundDoneStaysDoneWhenThePowerIsLost(t *testing.T) {
	for _, c := range cuttings() {
		t.Run(c.name, func(t *testing.T) {
			found := 0
			c.everywhere(t, forward, func(m *sim.Machine, target *op.Target, o op.Op) error {
				done, err := o.Done(t.Context(), target)
				if err != nil || !done {
					return err
				}
				found++
				return lasts(m)
			})
			if found == 0 {
				t.Error("it was never found done")
			}
		})
	}
}

func TestWhatIsDoneInASecondTryStaysDoneWhenThePowerIsLost(t *testing.T) {
	for _, c := range cuttings() {
		t.Run(c.name, func(t *testing.T) {
			c.everywhere(t, forward, func(m *sim.Machine, target *op.Target, o op.Op) error {
				if err := o.Do(t.Context(), target); err != nil {
					return err
				}
				return lasts(m)
			})
		})
	}
}

func TestWhatIsUndoneStaysUndoneWhenThePowerIsLost(t *testing.T) {
	for _, c := range cuttings() {
		t.Run(c.name, func(t *testing.T) {
			c.everywhere(t, thereAndBack, func(m *sim.Machine, target *op.Target, o op.Op) error {
				if err := o.Undo(t.Context(), target); err != nil {
					return err
				}
				return lasts(m, c.takes)
			})
		})
	}
}
