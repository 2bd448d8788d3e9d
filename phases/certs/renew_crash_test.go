package certs

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/manifests"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/pki"
)

// Renewing is stopped at every step, as crashtest does it: all pairs are old, or all are new, none
// is mixed, and no running program holds what is no longer in its file. The simulated programs read
// their files once, when they start, and do not start with a key that belongs to another
// certificate.

// renewal is one shape of a renewal: which certificates, and what does not serve beforehand.
type renewal struct {
	name    string
	bases   []string // below testPKI
	down    bool     // etcd does not serve, for other reasons
	signed  bool     // by another CA's keeper
	prepare func(*sim.Disk)
}

func renewals() []renewal {
	all := []string{"etcd/server", "etcd/peer", "etcd/healthcheck-client", "apiserver-etcd-client"}
	return []renewal{
		{name: "all", bases: all},
		{name: "etcd's alone", bases: all[:2]},
		{name: "the API server's alone", bases: all[3:]},
		{name: "one that nothing reads", bases: all[2:3]},
		{name: "etcd has no quorum", bases: all, down: true},
		{name: "signed elsewhere", bases: all[:2], signed: true},
	}
}

type certsWorld struct {
	*crashtest.Node
	renewal renewal
}

func newCertsWorld(t *testing.T, r renewal) *certsWorld {
	t.Helper()
	return &certsWorld{crashtest.Alone(t, r.Machine(t)), r}
}

func renewalCases() []crashtest.Case {
	return crashtest.Cases(renewals(), func(r renewal, w *crashtest.Node, _ *sim.Machine) crashtest.Subject {
		c := &certsWorld{w, r}
		return crashtest.Subject{Run: c.renew, Outcome: c.settled}
	})
}

// Title names the case.
func (r renewal) Title() string { return r.name }

// Machine is a node with certificates that programs have read.
func (r renewal) Machine(t *testing.T) *sim.Machine {
	t.Helper()
	d := sim.NewDisk()
	write := func(name, data string, mode node.Attr) {
		if err := errors.Join(node.MkdirAll(d, path.Dir(name), node.Attr{Mode: 0o755}),
			d.Create(name, []byte(data), mode)); err != nil {
			t.Fatal(err)
		}
	}
	write(crashtest.TestManifestDir+"/etcd.yaml", crashtest.EtcdManifest(""), node.Attr{Mode: 0o600})
	write(crashtest.TestManifestDir+"/kube-apiserver.yaml", crashtest.PodManifest("kube-apiserver", "", ""),
		node.Attr{Mode: 0o600})
	write("/var/lib/etcd/member/snap/db", "old", node.Attr{Mode: 0o600})
	write("/var/lib/etcd/member/wal/0.wal", "old", node.Attr{Mode: 0o600})
	for i, base := range []string{"etcd/server", "etcd/peer", "etcd/healthcheck-client", "apiserver-etcd-client"} {
		write(crashtest.TestPKI+base+".crt", fmt.Sprintf("cert %d", i), node.Attr{Mode: 0o644})
		write(crashtest.TestPKI+base+".key", fmt.Sprintf("key %d", i), node.Attr{Mode: 0o600, UID: 7})
	}
	if r.signed {
		for _, base := range r.bases {
			write("/csr/"+base+".crt", "cert new "+base, node.Attr{Mode: 0o600})
			write("/csr/"+base+".key", "key new "+base, node.Attr{Mode: 0o600})
		}
	}
	if r.prepare != nil {
		r.prepare(d)
	}
	m := sim.NewMachine(d, crashtest.TestManifestDir, "/var/lib/etcd", func() bool { return false })
	m.PowerOn(map[string][]string{"etcd": {crashtest.TestPKI + "etcd/server", crashtest.TestPKI + "etcd/peer"},
		"kube-apiserver": {crashtest.TestPKI + "apiserver-etcd-client"}})
	return m
}

func (w *certsWorld) observe(_ context.Context, _ *observe.Node, id string) (*Facts, error) {
	f := &Facts{
		Facts: &observe.Facts{Run: id, Node: "cp1", ManifestDir: crashtest.TestManifestDir, KubeletActive: true,
			API: op.APIAccess{Kubeconfig: "/etc/kubernetes/admin.conf"}, Notes: map[string]string{}},
	}
	for _, name := range []string{"etcd", "kube-apiserver"} {
		data, err := w.Machine.ReadFile(crashtest.TestManifestDir + "/" + name + ".yaml")
		if err != nil {
			return nil, err
		}
		m, err := manifests.Parse(data)
		if err != nil {
			return nil, err
		}
		f.Manifests = append(f.Manifests, observe.ManifestFile{Path: crashtest.TestManifestDir + "/" + name + ".yaml",
			Data: data, Manifest: m})
	}
	f.Etcd = &observe.EtcdPod{File: f.Manifests[0], Container: "etcd", Name: "cp1",
		PeerURLs: []string{"https://10.0.0.11:2380"}, Access: op.Access{Endpoints: []string{"https://127.0.0.1:2379"}}}
	f.Renewal = &RenewalFacts{Problems: map[string][]*pki.Problem{},
		Signed: map[string]signedPair{}, Serving: !w.renewal.down, Ready: !w.renewal.down}
	for _, base := range w.renewal.bases {
		use := certUse{
			name: strings.ReplaceAll(base, "/", "-"), leaf: pki.Leaf{CertFile: crashtest.TestPKI + base + ".crt",
				KeyFile: crashtest.TestPKI + base + ".key", CAFile: crashtest.TestPKI + "etcd/ca.crt"},
		}
		switch base {
		case "etcd/server":
			use.program, use.port, use.addresses = "etcd", "client", []string{"127.0.0.1:2379"}
		case "etcd/peer":
			use.program, use.port, use.addresses = "etcd", "peer", []string{"10.0.0.11:2380"}
		case "apiserver-etcd-client":
			use.program = "kube-apiserver"
		}
		f.Renewal.Uses = append(f.Renewal.Uses, use)
		if w.renewal.signed {
			at := "/csr/" + base
			f.Renewal.Signed[use.name] = signedPair{base: at,
				sums: [2]string{sim.Sum(w.Machine.Peek(at + ".crt")), sim.Sum(w.Machine.Peek(at + ".key"))}}
		}
	}
	return f, nil
}

func (w *certsWorld) renew() error {
	o := RenewOptions{}
	flow := workflow{Name: "renew", Observe: w.observe,
		Phases: []phase{o.issue(), o.replace(), o.restartEtcd(), o.restartAPIServer()}}
	return w.Do(flow.On(w.Process.Look))
}

// settled says whether all is old or all is new; if neither, what is wrong.
func (w *certsWorld) settled() (string, error) {
	outcome, err := w.OldOrNew(w.isNew)
	if stale := w.Machine.Stale(); len(stale) > 0 {
		return "", errors.Join(err, errors.New(strings.Join(stale, "\n")))
	}
	return outcome, err
}

func (w *certsWorld) isNew(look string) error {
	if strings.Contains(look, ".etcdpod") {
		return fmt.Errorf("something was left beside the certificates:\n%s", look)
	}
	if err := crashtest.Shows(look, "kubelet true\n", "runs etcd old\n", "runs kube-apiserver \n"); err != nil {
		return err
	}
	for _, base := range w.renewal.bases {
		cert, key := string(w.Machine.Peek(crashtest.TestPKI+base+".crt")),
			string(w.Machine.Peek(crashtest.TestPKI+base+".key"))
		if !strings.HasPrefix(cert, "cert new") || cert[len("cert "):] != key[len("key "):] {
			return fmt.Errorf("%s is %q with %q", base, cert, key)
		}
		st, err := w.Machine.Lstat(crashtest.TestPKI + base + ".key")
		if err != nil || st.Mode.Perm() != 0o600 || st.UID != 7 {
			return fmt.Errorf("the key of %s is %v of %d: %w", base, st.Mode, st.UID, err)
		}
		if err := w.kept(base); err != nil {
			return err
		}
	}
	return nil
}

// kept checks that the old pair is in the run's folder, and the new one no longer is.
func (w *certsWorld) kept(base string) error {
	runs, err := journal.List(w.Machine.Disk)
	if err != nil || len(runs) != 1 {
		return fmt.Errorf("%d runs: %w", len(runs), err)
	}
	name := strings.ReplaceAll(base, "/", "-")
	for ending, word := range map[string]string{".crt": "cert ", ".key": "key "} {
		if old := string(w.Machine.Peek(path.Join(journal.RunDir(runs[0].ID), "old", name+ending))); !strings.HasPrefix(
			old, word) || strings.Contains(old, "new") {
			return fmt.Errorf("the old %s%s is not kept: %q", base, ending, old)
		}
		if staged := w.Machine.Peek(path.Join(journal.RunDir(runs[0].ID), "new", name+ending)); staged != nil {
			return fmt.Errorf("%s%s is still in the run's folder", base, ending)
		}
	}
	return nil
}

func TestARenewalEndsWhollyOldOrWhollyNewWhateverHappens(t *testing.T) {
	crashtest.Everything(t, renewalCases())
}

func TestARenewalThatDoesNotServeGoesBack(t *testing.T) {
	w := newCertsWorld(t, renewals()[0])
	w.Process.Certificates = stubborn{w.Process.Certificates}
	var back *engine.RolledBackError
	if err := w.renew(); !errors.As(err, &back) ||
		!strings.Contains(err.Error(), "etcd does not present the new certificate at 127.0.0.1:2379") {
		t.Fatalf("got %v", err)
	}
	if got, err := w.settled(); got != "old" {
		t.Errorf("it ended %s: %v", got, err)
	}
}

// stubborn never shows what was renewed.
type stubborn struct{ op.Certificates }

func (stubborn) Serves(context.Context, string, op.Access, string) error {
	return errors.New("it presents another one")
}

func TestACertificateThatSomebodyElseReplacesStaysTheirs(t *testing.T) {
	r := renewals()[0]
	r.prepare = func(d *sim.Disk) {
		if err := d.Create("/theirs", []byte("key theirs"), node.Attr{Mode: 0o600}); err != nil {
			t.Fatal(err)
		}
	}
	w := newCertsWorld(t, r)
	theirs := crashtest.TestPKI + "etcd/healthcheck-client.key"
	w.Machine.Before = func(call string) {
		// The old certificate is being kept.
		if strings.Contains(call, "/old/.etcd-healthcheck-client.crt") {
			w.Machine.Before = nil
			if err := w.Machine.Replace("/theirs", theirs); err != nil {
				t.Error(err)
			}
		}
	}
	var open *engine.OpenRunError
	if err := w.renew(); !errors.As(err, &open) ||
		!strings.Contains(err.Error(), "cannot replace "+theirs+": someone has changed it") {
		t.Errorf("got %v", err)
	}
	if got := string(w.Machine.Peek(theirs)); got != "key theirs" {
		t.Errorf("theirs is %q", got)
	}
}

func TestARenewalThatAnEarlierVersionLeftOpenIsSettled(t *testing.T) {
	crashtest.LeftOpen(t, "renew", renewalCases())
}
