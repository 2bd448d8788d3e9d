package apiserver

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// Changing the API server's etcd is stopped at every step, as crashtest does it: the manifest is
// the old one or the new one byte for byte, the API server runs from it, and the old one is in
// place or kept.

const (
	oldServers = "https://127.0.0.1:2379"
	newServers = "https://10.0.0.11:2379,https://10.0.0.12:2379"
	apiserverY = crashtest.TestManifestDir + "/kube-apiserver.yaml"
)

// wiring is one shape of the change.
type wiring struct {
	name string
	late time.Duration // how late the kubelet notices a changed file
	wire bool          // as the phase wire-apiserver
	off  bool          // no kubelet runs
}

func wirings() []wiring {
	return []wiring{
		{name: "apiserver set"},
		{name: "apiserver set, and a late kubelet", late: 5 * time.Second},
		{name: "wire-apiserver", wire: true},
		{name: "wire-apiserver, and no kubelet", wire: true, off: true},
	}
}

type wiringWorld struct {
	*crashtest.Node
	wiring   wiring
	old, new string // the manifests
}

func newWiringWorld(t *testing.T, shape wiring) *wiringWorld {
	t.Helper()
	machine := shape.Machine(t)
	return shape.on(crashtest.Alone(t, machine))
}

func (shape wiring) on(w *crashtest.Node) *wiringWorld {
	old := oldManifest()
	return &wiringWorld{Node: w, wiring: shape, old: old, new: strings.Replace(old, oldServers, newServers, 1)}
}

func wiringCases() []crashtest.Case {
	return crashtest.Cases(wirings(), func(s wiring, w *crashtest.Node, _ *sim.Machine) crashtest.Subject {
		c := s.on(w)
		return crashtest.Subject{Run: c.set, Outcome: c.settled}
	})
}

// Title names the case.
func (shape wiring) Title() string { return shape.name }

func oldManifest() string {
	return "# ours\r\n" + strings.ReplaceAll(crashtest.PodManifest("kube-apiserver",
		"    - --etcd-servers="+oldServers+" # local\n    - --v=2\n", ""), "\n", "\r\n")
}

// Machine is a node on which the API server uses the etcd beside it.
func (shape wiring) Machine(t *testing.T) *sim.Machine {
	t.Helper()
	d := sim.NewDisk()
	for name, data := range map[string]string{
		"/etcd.yaml": crashtest.EtcdManifest(""), "/kube-apiserver.yaml": oldManifest(),
	} {
		if err := errors.Join(node.MkdirAll(d, crashtest.TestManifestDir, node.Attr{Mode: 0o755}),
			d.Create(crashtest.TestManifestDir+name, []byte(data), node.Attr{Mode: 0o600, UID: 7})); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"snap/db", "wal/0.wal"} {
		file := "/var/lib/etcd/member/" + name
		if err := errors.Join(node.MkdirAll(d, path.Dir(file), node.Attr{Mode: 0o755}),
			d.Create(file, []byte("old"), node.Attr{Mode: 0o600})); err != nil {
			t.Fatal(err)
		}
	}
	m := sim.NewMachine(d, crashtest.TestManifestDir, "/var/lib/etcd", func() bool { return false })
	m.Late = shape.late
	if shape.off {
		m.WithoutKubelet()
		m.PowerLoss(sim.DropUnsynced, nil)
	}
	return m
}

func (w *wiringWorld) observe(ctx context.Context, n *observe.Node, id string) (*Facts, error) {
	seen, err := w.Observe(id)
	if err != nil {
		return nil, err
	}
	f := &Facts{Facts: seen}
	f.KubeletActive = !w.wiring.off
	if f.Containers, err = w.Process.Host.Runtime.Containers(ctx); err != nil {
		return nil, err
	}
	m, container, _ := observe.Program(f.Manifests, "kube-apiserver")
	f.APIServer = &SetFacts{File: m, Container: container, After: EtcdFlags{Servers: observe.SplitList(newServers)}}
	return f, nil
}

func (w *wiringWorld) flow() workflow {
	o := Options{}
	if w.wiring.wire {
		wire := Wire(func(f *Facts) *observe.Facts { return f.Facts },
			func(f *Facts) EtcdFlags { return f.APIServer.After }, time.Minute)
		return workflow{Name: "init", Observe: w.observe, Phases: []phase{wire}}
	}
	return workflow{Name: "apiserver", Observe: w.observe, Phases: []phase{o.set(), o.awaitAPIServer()}}
}

func (w *wiringWorld) set() error {
	return w.Do(w.flow().On(w.Process.Look))
}

// settled says whether all is old or all is new; if neither, what is wrong. It gives a slow kubelet
// time to notice.
func (w *wiringWorld) settled() (string, error) {
	if err := w.Process.Host.Clock.Sleep(context.Background(), w.wiring.late); err != nil {
		return "", err
	}
	w.Machine.Look()
	if err := w.Process.Host.Clock.Sleep(context.Background(), w.wiring.late); err != nil {
		return "", err
	}
	look, err := w.Ended()
	if err != nil {
		return "", err
	}
	now := string(w.Machine.Peek(apiserverY))
	if runs := w.Machine.RunsFrom("kube-apiserver"); runs != now && !w.wiring.off {
		return "", fmt.Errorf("the API server runs from\n%s\nand in place is\n%s", runs, now)
	}
	kept, err := w.kept()
	if err != nil {
		return "", err
	}
	switch {
	case look == w.First && kept == "":
		return "old", nil
	case look == w.First:
		return "", errors.New("a copy is kept of what is in place")
	case look != strings.Replace(w.First, fmt.Sprintf("%q", w.old), fmt.Sprintf("%q", w.new), 1):
		return "", fmt.Errorf("neither old nor new:\n%s", look)
	case !strings.HasPrefix(kept, w.old): // somebody may have added to it before it was planned
		return "", fmt.Errorf("the old manifest is not kept: %q", kept)
	}
	return "new", nil
}

// kept is the old manifest in the run's folder; empty when there is none.
func (w *wiringWorld) kept() (string, error) {
	runs, err := journal.List(w.Machine.Disk)
	if err != nil || len(runs) == 0 {
		return "", err
	}
	dir := path.Join(journal.RunDir(runs[len(runs)-1].ID), "manifests")
	names, err := w.Machine.ReadDir(dir)
	switch {
	case err != nil: // it is gone with the rest
		return "", nil
	case slices.Equal(names, []string{"kube-apiserver.yaml"}):
		return string(w.Machine.Peek(path.Join(dir, names[0]))), nil
	}
	return "", fmt.Errorf("in %s are %q", dir, names)
}

func TestAChangeOfTheAPIServerEndsWhollyOldOrWhollyNewWhateverHappens(t *testing.T) {
	crashtest.Everything(t, wiringCases())
}

func TestAnAPIServerThatDoesNotGetReadyGoesBackByItself(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(*sim.Machine)
		why   string
		least time.Duration
		most  time.Duration
	}{
		{"it is never ready", func(m *sim.Machine) { m.SickText = "10.0.0.12" },
			"the API server is not ready with the new manifest: not within 2m0s", 2 * time.Minute, 3 * time.Minute},
		{"it ends again and again", func(m *sim.Machine) { m.CrashText = "10.0.0.12" },
			"the API server is not ready with the new manifest: its container ended 3 times", 0, 10 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWiringWorld(t, wirings()[0])
			tt.spoil(w.Machine)
			began := w.Process.Host.Clock.Now()
			var back *engine.RolledBackError
			if err := w.set(); !errors.As(err, &back) || !strings.Contains(err.Error(), tt.why) {
				t.Fatalf("got %v", err)
			}
			if err := w.Process.API.Ready(context.Background(), op.APIAccess{}); err != nil {
				t.Errorf("the old API server is not waited for: %v", err)
			}
			if took := w.Process.Host.Clock.Now().Sub(began); took < tt.least || took > tt.most {
				t.Errorf("it took %v", took)
			}
			if got, err := w.settled(); got != "old" {
				t.Errorf("it ended %s: %v", got, err)
			}
		})
	}
}

// A kubelet that no API server has answered since it started ends no pod, and starts none in its
// place; whoever mends an API server that was down when the node booted has such a one.
func TestAKubeletThatReplacesNoPodIsRestarted(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(*sim.Machine)
		want  string
	}{
		{"forward", func(m *sim.Machine) { m.Deaf = true }, "new"},
		{"and back", func(m *sim.Machine) { m.Deaf, m.SickText = true, "10.0.0.12" }, "old"},
		{"one that does not notice that a file has changed", func(m *sim.Machine) { m.Late = time.Hour }, "new"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWiringWorld(t, wirings()[0])
			test.spoil(w.Machine)
			var notes []string
			w.Process.Emit = func(e engine.Event) { notes = append(notes, e.Message) }
			var back *engine.RolledBackError
			if err := w.set(); errors.As(err, &back) != (test.want == "old") || back == nil && err != nil {
				t.Errorf("got %v", err)
			}
			if got, err := w.settled(); got != test.want {
				t.Errorf("it ended %s: %v", got, err)
			}
			if all := strings.Join(notes, "\n"); !strings.Contains(all, "it is restarted, since one that no API") {
				t.Errorf("nothing is said of it: %s", all)
			}
			if err := w.Process.API.Ready(context.Background(), op.APIAccess{}); err != nil {
				t.Errorf("no API server is ready: %v", err)
			}
		})
	}
}

// A run must not stay open because the old API server does not get ready again: every other command
// would be refused.
func TestAnOldAPIServerThatStaysDownDoesNotKeepTheRunOpen(t *testing.T) {
	w := newWiringWorld(t, wirings()[0])
	w.Machine.Before = func(call string) {
		if strings.HasPrefix(call, "exchange "+apiserverY) {
			w.Machine.SickText = "kube-apiserver" // whatever the manifest says
		}
	}
	var notes []string
	w.Process.Emit = func(e engine.Event) { notes = append(notes, e.Message) }
	var back *engine.NotServingError
	if err := w.set(); !errors.As(err, &back) || !strings.Contains(engine.Hint(err), "/var/log/pods") ||
		!strings.Contains(err.Error(), "not as before: the API server is not ready with the old manifest") {
		t.Fatalf("got %v, hint %q", err, engine.Hint(err))
	}
	if all := strings.Join(notes, "\n"); !strings.Contains(all,
		"the old manifest is back, but the API server is not ready with the old manifest: not within 2m0s") {
		t.Errorf("nothing is said of it: %s", all)
	}
	if got, err := w.settled(); got != "old" {
		t.Errorf("it ended %s: %v", got, err)
	}
}

func TestAManifestThatSomebodyElseEditsStaysTheirs(t *testing.T) {
	const theirs = "# theirs\n"
	for _, tt := range []struct {
		name string
		when func(call string) bool
		why  string
		open bool
	}{
		{"before it is replaced", func(call string) bool {
			return strings.HasPrefix(call, "mkdir ") && strings.HasSuffix(call, "/manifests")
		}, "cannot replace " + apiserverY + ": someone has changed it since the run was planned", false},
		{"just before it is replaced", func(call string) bool { return strings.HasPrefix(call, "exchange ") },
			"cannot replace " + apiserverY + ": someone has changed it since the run was planned", false},
		{"after it was replaced", func(call string) bool {
			return strings.HasPrefix(call, "remove ") && strings.HasSuffix(call, ".etcdpod-swap")
		}, "cannot put back " + apiserverY +
			": someone has changed it since the run began; the previous file is kept as ", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWiringWorld(t, wirings()[0])
			w.Machine.SickText = "kube-apiserver"
			w.Machine.Before = func(call string) {
				if tt.when(call) {
					w.Machine.Before = nil
					data := append([]byte(theirs), w.Machine.Peek(apiserverY)...)
					if err := node.WriteAtomic(w.Machine.Disk, apiserverY, data, node.Attr{}); err != nil {
						t.Error(err)
					}
				}
			}
			err := w.set()
			var open *engine.OpenRunError
			if errors.As(err, &open) != tt.open || !strings.Contains(err.Error(), tt.why) {
				t.Fatalf("got %v", err)
			}
			if got := string(w.Machine.Peek(apiserverY)); !strings.HasPrefix(got, theirs) {
				t.Errorf("theirs is %q", got)
			}
			if !tt.open {
				return
			}
			// Follow the hint: copy the kept manifest there, and the run can be closed.
			kept, err := w.kept()
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(node.WriteAtomic(w.Machine.Disk, apiserverY, []byte(kept), node.Attr{}),
				w.Settle("rollback")); err != nil {
				t.Fatal(err)
			}
			if got, err := w.settled(); got != "old" {
				t.Errorf("it ended %s: %v", got, err)
			}
		})
	}
}

func TestAChangeOfTheAPIServerThatAnEarlierVersionLeftOpenIsSettled(t *testing.T) {
	crashtest.LeftOpen(t, "apiserver", wiringCases())
}
