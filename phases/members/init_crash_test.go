package members

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/apiserver"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/phases/prune"
	"github.com/etcdpod/etcdpod/pki"
)

// init is stopped at every step, as crashtest does it: either etcd runs with all that it needs, or
// everything is as before; and no key is overwritten, left behind, or in a journal.

// beginning is one shape of a node without etcd.
type beginning struct {
	name    string
	phase   string // empty: all of them
	prepare func(d *sim.Disk, write func(name, data string))
	keep    []string            // existing certificates
	wish    apiserver.EtcdFlags // for the API server
}

func beginnings() []beginning {
	return []beginning{
		{name: "an empty node"},
		{name: "certs alone", phase: "certs"},
		{name: "render-etcd alone", phase: "render-etcd"},
		{name: "certs alone, with a CA that is there", phase: "certs", keep: []string{"etcd-ca"}},
		{name: "kubeadm has written the API server's manifest, and the data directory is there",
			keep: []string{"etcd-ca", "etcd-server", "etcd-peer"},
			prepare: func(d *sim.Disk, write func(name, data string)) {
				write(crashtest.TestManifestDir+"/kube-apiserver.yaml", crashtest.PodManifest("kube-apiserver", "", ""))
				_ = d.Mkdir("/var/lib/etcd", node.Attr{Mode: 0o700})
			}},
		{name: "the data directory holds an empty member, and what a file server keeps there",
			prepare: func(d *sim.Disk, _ func(name, data string)) {
				for _, dir := range []string{"", "/.snapshot", "/member", "/member/snap", "/member/wal"} {
					_ = d.Mkdir("/var/lib/etcd"+dir, node.Attr{Mode: 0o700})
				}
			}},
		{name: "the API server's manifest names this etcd in another way", keep: []string{
			"etcd-ca", "etcd-server", "etcd-peer", "etcd-healthcheck-client",
		}, wish: apiserver.EtcdFlags{Servers: []string{"https://127.0.0.1:2379"}},
			prepare: func(_ *sim.Disk, write func(name, data string)) {
				write(crashtest.TestManifestDir+"/kube-apiserver.yaml",
					crashtest.PodManifest("kube-apiserver", "    - --etcd-servers=https://localhost:2379\n", ""))
			}},
	}
}

type initWorld struct {
	*crashtest.Node
	begin beginning
}

func newInitWorld(t *testing.T, b beginning) *initWorld {
	t.Helper()
	return b.on(crashtest.Alone(t, b.Machine(t)))
}

func (b beginning) on(w *crashtest.Node) *initWorld {
	i := &initWorld{w, b}
	// No old etcd exists that could serve beside new data.
	w.Machine.CommittedBy(func() bool { return true })
	w.Machine.Before = i.noCertificateWithoutKey
	return i
}

func initCases() []crashtest.Case {
	return crashtest.Cases(beginnings(), func(b beginning, w *crashtest.Node, _ *sim.Machine) crashtest.Subject {
		i := b.on(w)
		return crashtest.Subject{Run: i.init, Outcome: i.settled}
	})
}

// Title names the case.
func (b beginning) Title() string { return b.name }

// Machine is a node on which nothing runs.
func (b beginning) Machine(t *testing.T) *sim.Machine {
	t.Helper()
	d := sim.NewDisk()
	write := func(name, data string) {
		if err := errors.Join(node.MkdirAll(d, path.Dir(name), node.Attr{Mode: 0o755}),
			d.Create(name, []byte(data), node.Attr{Mode: 0o600})); err != nil {
			t.Fatal(err)
		}
	}
	write("/var/lib/kubelet/config.yaml", "")
	if b.prepare != nil {
		b.prepare(d, write)
	}
	for _, name := range b.keep {
		spec, _ := pki.EtcdSpec(name)
		write(crashtest.TestPKI+spec.CertFile(), "cert theirs")
		write(crashtest.TestPKI+spec.KeyFile(), "key theirs")
	}
	m := sim.NewMachine(d, crashtest.TestManifestDir, "/var/lib/etcd", func() bool { return true })
	m.Begins("etcd.yaml")
	if b.phase == "render-etcd" {
		m.WithoutKubelet()
	}
	return m
}

// noCertificateWithoutKey checks at every step that a program which finds a certificate finds its
// key too.
func (w *initWorld) noCertificateWithoutKey(call string) {
	for _, pair := range etcdPairs {
		if w.Machine.Peek(pair[0]) != nil && w.Machine.Peek(pair[1]) == nil {
			w.Machine.Violations = append(w.Machine.Violations,
				fmt.Sprintf("%s is there before its key, at: %s", pair[0], call))
		}
	}
}

// etcdPairs are the files of the certificates and of their keys: they are looked at after every
// step.
var etcdPairs = func() (pairs [][2]string) {
	for _, spec := range pki.EtcdSpecs() {
		pairs = append(pairs, [2]string{crashtest.TestPKI + spec.CertFile(), crashtest.TestPKI + spec.KeyFile()})
	}
	return pairs
}()

func (w *initWorld) observe(ctx context.Context, _ *observe.Node, id string) (*Facts, error) {
	f := &Facts{
		Facts: &observe.Facts{Run: id, Now: time.Unix(1_800_000_000, 0),
			Node: "cp1", ManifestDir: crashtest.TestManifestDir, KubeletActive: true, Notes: map[string]string{}},
	}
	f.Init = &InitFacts{
		CertificatesDir: path.Clean(crashtest.TestPKI), PKI: pki.Config{NodeName: "cp1", AdvertiseAddress: "10.0.0.11"},
		HealthCheck: time.Minute,
		Rendered:    []byte(crashtest.EtcdManifest("")), DataDir: "/var/lib/etcd",
		Whole: w.begin.phase == "", Access: op.Access{Endpoints: []string{"https://127.0.0.1:2379"}},
	}
	w.observeCerts(f)
	f.Init.Wish = w.begin.wish
	var running, listed error
	f.Containers, running = w.Machine.Host().Runtime.Containers(ctx)
	f.Manifests, listed = w.Process.Look.Manifests(ctx, crashtest.TestManifestDir)
	return f, errors.Join(running, listed, observeManifest(w.Process.Look, f))
}

// observeCerts parts the certificates into those that are there and those to be made.
func (w *initWorld) observeCerts(f *Facts) {
	for _, spec := range pki.EtcdSpecs() {
		if slices.Contains(w.begin.keep, spec.Name) {
			f.Init.Certs.Keep = append(f.Init.Certs.Keep, spec)
		} else {
			f.Init.Certs.Issue = append(f.Init.Certs.Issue, spec)
		}
		f.Init.MissingCertDirs = w.Process.Look.Missing(f.Init.MissingCertDirs,
			path.Dir(f.Init.certFile(spec.CertFile())))
	}
}

func (w *initWorld) init() error {
	flow := Init(InitOptions{})
	if w.begin.phase != "" {
		var err error
		if flow, err = InitPhase(InitOptions{}, w.begin.phase); err != nil {
			return err
		}
	} else {
		flow.Phases = slices.DeleteFunc(flow.Phases, func(p phase) bool { return p.Name == "preflight" })
	}
	flow.Observe = w.observe
	return w.Do(flow.On(w.Process.Look))
}

// settled says whether the node is wholly old or wholly new; if neither, what is wrong.
func (w *initWorld) settled() (string, error) { return w.OldOrNew(w.isNew) }

func (w *initWorld) isNew(look string) error {
	if strings.Contains(look, ".etcdpod") {
		return fmt.Errorf("something was left behind:\n%s", look)
	}
	if w.begin.phase != "render-etcd" {
		if err := w.certsAreThere(); err != nil {
			return err
		}
	}
	if w.begin.phase == "certs" {
		return nil
	}
	wants := []string{"/var/lib/etcd {-rwx------ 0 0 } ", crashtest.TestManifestDir + "/etcd.yaml {-rw------- 0 0 } "}
	if w.begin.phase == "" {
		wants = append(wants, "kubelet true\n", "runs etcd new\n")
	}
	for _, server := range w.begin.wish.Servers {
		wants = append(wants, "- --etcd-servers="+server, "runs kube-apiserver ")
	}
	return crashtest.Shows(look, wants...)
}

func (w *initWorld) certsAreThere() error {
	for _, spec := range pki.EtcdSpecs() {
		cert, key := string(w.Machine.Peek(crashtest.TestPKI+spec.CertFile())),
			string(w.Machine.Peek(crashtest.TestPKI+spec.KeyFile()))
		want := map[bool]string{true: "theirs", false: "new"}[slices.Contains(w.begin.keep, spec.Name)]
		if !strings.HasPrefix(cert, "cert "+want) || cert[len("cert "):] != key[len("key "):] {
			return fmt.Errorf("%s is %q with %q", spec.Name, cert, key)
		}
		for file, mode := range map[string]string{spec.CertFile(): "-rw-r--r--", spec.KeyFile(): "-rw-------"} {
			if st, err := w.Machine.Lstat(crashtest.TestPKI + file); want == "new" &&
				(err != nil || st.Mode.String() != mode) {
				return fmt.Errorf("%s has the mode %v: %w", file, st.Mode, err)
			}
		}
	}
	return nil
}

func TestAnInitEndsWhollyOldOrWhollyNewWhateverHappens(t *testing.T) {
	crashtest.Everything(t, initCases())
}

func TestAnEtcdThatNeverServesIsTakenBack(t *testing.T) {
	w := newInitWorld(t, beginnings()[0])
	w.Machine.SickEtcd = true
	var back *engine.RolledBackError
	if err := w.init(); !errors.As(err, &back) ||
		!strings.Contains(err.Error(), "etcd does not serve: not within 1m0s") {
		t.Fatalf("got %v", err)
	}
	if got, err := w.settled(); got != "old" {
		t.Errorf("it ended %s: %v", got, err)
	}
	if home := w.Machine.Look(); !strings.Contains(home, "/member/snap/db") {
		t.Error("what etcd had written is not kept")
	}
}

// puts lets somebody else write a file at the moment in which the run writes its own.
func (w *initWorld) puts(file string) {
	w.Machine.Before = func(call string) {
		if strings.HasPrefix(call, "create "+path.Dir(file)+"/."+path.Base(file)) {
			w.Machine.Before = nil
			if err := w.Machine.Replace("/theirs", file); err != nil {
				w.T.Error(err)
			}
		}
	}
}

func withTheirs(text string) beginning {
	return beginning{prepare: func(_ *sim.Disk, write func(string, string)) {
		write("/theirs", text)
		write(crashtest.TestManifestDir+"/.keep", "")
	}}
}

func TestWhatSomebodyElsePutsThereStaysTheirs(t *testing.T) {
	for file, left := range map[string]string{
		crashtest.TestPKI + "etcd/peer.key": "",
		// The key may belong to their certificate.
		crashtest.TestPKI + "etcd/peer.crt":             crashtest.TestPKI + "etcd/peer.key",
		crashtest.TestPKI + "apiserver-etcd-client.crt": crashtest.TestPKI + "apiserver-etcd-client.key",
	} {
		w := newInitWorld(t, withTheirs("key theirs"))
		w.puts(file)
		var back *engine.RolledBackError
		if err := w.init(); !errors.As(err, &back) {
			t.Errorf("%s: got %v", file, err)
		}
		if got := string(w.Machine.Peek(file)); got != "key theirs" {
			t.Errorf("%s is %q", file, got)
		}
		for _, spec := range pki.EtcdSpecs() {
			for _, name := range []string{crashtest.TestPKI + spec.CertFile(), crashtest.TestPKI + spec.KeyFile()} {
				if there := w.Machine.Peek(name) != nil; there != (name == file || name == left) {
					t.Errorf("%s: that %s is there is %v", file, name, there)
				}
			}
		}
	}
}

// Whoever puts a manifest there, or edits the run's, wants etcd to run with what the run would take
// away next.
func TestAnInitDoesNotGoBackUnderAManifestOfSomebodyElse(t *testing.T) {
	theirs := strings.Replace(crashtest.EtcdManifest(""), "- etcd\n", "- etcd\n    - --snapshot-count=5000\n", 1)
	file := crashtest.TestManifestDir + "/etcd.yaml"
	for name, edit := range map[string]func(*initWorld){
		"before it is written": func(w *initWorld) { w.puts(file) },
		"while it is waited for": func(w *initWorld) {
			w.Machine.SickEtcd = true
			w.Machine.Before = func(string) {
				if w.Machine.Peek(file) != nil {
					w.Machine.Before = nil
					if err := errors.Join(w.Machine.Remove(file), w.Machine.Replace("/theirs", file)); err != nil {
						t.Error(err)
					}
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newInitWorld(t, withTheirs(theirs))
			edit(w)
			var open *engine.OpenRunError
			if err := w.init(); !errors.As(err, &open) ||
				!strings.Contains(err.Error(), "move it out of the directory first") {
				t.Fatalf("got %v", err)
			}
			if got := string(w.Machine.Peek(file)); got != theirs {
				t.Errorf("the manifest is %q", got)
			}
			for _, spec := range pki.EtcdSpecs() {
				if w.Machine.Peek(crashtest.TestPKI+spec.KeyFile()) == nil {
					t.Errorf("%s was taken away", spec.KeyFile())
				}
			}
			w.Machine.SickEtcd, w.Machine.Before = false, nil
			if err := w.Machine.Replace(file, "/theirs"); err != nil {
				t.Fatal(err)
			}
			w.Restart()
			if err := w.Settle("rollback"); err != nil {
				t.Fatal(err)
			}
			if got, err := w.settled(); got != "old" {
				t.Errorf("it ended %s: %v", got, err)
			}
		})
	}
}

func TestWhatEtcdHasWrittenOnAMountIsKeptThere(t *testing.T) {
	w := newInitWorld(t, beginning{prepare: func(d *sim.Disk, _ func(string, string)) {
		if err := node.MkdirAll(d, "/var/lib/etcd", node.Attr{Mode: 0o700}); err != nil {
			t.Error(err)
		}
		d.Mounts = []string{"/var/lib/etcd"}
	}})
	w.Machine.SickEtcd = true
	var back *engine.RolledBackError
	if err := w.init(); !errors.As(err, &back) {
		t.Fatalf("got %v", err)
	}
	runs, err := journal.List(w.Machine.Disk)
	if err != nil || len(runs) != 1 {
		t.Fatalf("%d runs, %v", len(runs), err)
	}
	kept := "/var/lib/etcd/.etcdpod-" + runs[0].ID
	if w.Machine.Peek(kept+"/member/snap/db") == nil || w.Machine.Peek("/var/lib/etcd/member/snap/db") != nil {
		t.Errorf("it is not kept in %s:\n%s", kept, w.Machine.Look())
	}
	if dirs := prune.StageDirs(runs[0]); !slices.Equal(dirs, []string{kept}) {
		t.Errorf("prune would look for %q", dirs)
	}
}

func TestAnInitThatAnEarlierVersionLeftOpenIsSettled(t *testing.T) {
	crashtest.LeftOpen(t, "init", initCases())
}
