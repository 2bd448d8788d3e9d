package certs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/pki"
)

// Making requests is stopped at every step, as crashtest does it: either all keys and requests
// exist, each request with its own key, or none does; and no key is left behind.

// asking is one shape of a request.
type asking struct {
	name  string
	dir   string
	names []string // of the certificates
	there string   // an existing directory
}

func askings() []asking {
	all := []string{"etcd-server", "etcd-peer", "etcd-healthcheck-client", "apiserver-etcd-client"}
	return []asking{
		{"into a new directory", "/root/csr", all, "/root"},
		{"beside a CA, as kubeadm does", path.Clean(crashtest.TestPKI), all, crashtest.TestPKI + "etcd"},
		{"one of them", "/root/csr", all[1:2], "/root/csr"},
	}
}

type requestWorld struct {
	*crashtest.Node
	asking asking
}

func newRequestWorld(t *testing.T, a asking) *requestWorld {
	t.Helper()
	return a.on(crashtest.Alone(t, a.Machine(t)))
}

func (a asking) on(w *crashtest.Node) *requestWorld {
	r := &requestWorld{w, a}
	w.Machine.Before = r.noRequestWithoutKey
	return r
}

func requestCases() []crashtest.Case {
	return crashtest.Cases(askings(), func(a asking, w *crashtest.Node, _ *sim.Machine) crashtest.Subject {
		r := a.on(w)
		return crashtest.Subject{Run: r.request, Outcome: r.settled}
	})
}

// Title names the case.
func (a asking) Title() string { return a.name }

// Machine is a node without a kubelet.
func (a asking) Machine(t *testing.T) *sim.Machine {
	t.Helper()
	d := sim.NewDisk()
	if err := errors.Join(node.MkdirAll(d, "/var/lib", node.Attr{Mode: 0o755}), node.MkdirAll(d,
		a.there, node.Attr{Mode: 0o755}), node.MkdirAll(d, crashtest.TestPKI+"etcd", node.Attr{Mode: 0o755}),
		d.Create(crashtest.TestPKI+"etcd/ca.crt", []byte("cert theirs"), node.Attr{Mode: 0o644})); err != nil {
		t.Fatal(err)
	}
	m := sim.NewMachine(d, crashtest.TestManifestDir, "/var/lib/etcd", func() bool { return false })
	m.WithoutKubelet()
	return m
}

// noRequestWithoutKey checks at every step that the key of each request exists: otherwise the
// signed certificate would be useless.
func (w *requestWorld) noRequestWithoutKey(call string) {
	for _, at := range w.bases() {
		if w.Machine.Peek(at+".csr") != nil && w.Machine.Peek(at+".key") == nil {
			w.Machine.Violations = append(w.Machine.Violations,
				fmt.Sprintf("%s.csr is there before its key, at: %s", at, call))
		}
	}
}

func (w *requestWorld) bases() (all []string) {
	for _, name := range w.asking.names {
		spec, err := pki.EtcdSpec(name)
		if err != nil {
			w.T.Fatal(err)
		}
		all = append(all, path.Join(w.asking.dir, spec.Base))
	}
	return all
}

// observe is the real one, except for the configuration.
func (w *requestWorld) observe(_ context.Context, _ *observe.Node, id string) (*Facts, error) {
	config := pki.Config{NodeName: "cp1", AdvertiseAddress: "10.0.0.11"}
	f := &Facts{Facts: &observe.Facts{Run: id, Node: "cp1", Notes: map[string]string{}},
		Request: &RequestFacts{Dirs: 0o700, Configured: &configured{}}}
	for i, name := range w.asking.names {
		spec, err := pki.EtcdSpec(name)
		if err != nil {
			return nil, err
		}
		f.Request.Wanted = append(f.Request.Wanted, NewIssuance(id, config, path.Clean(crashtest.TestPKI), nil, spec))
		f.Request.Missing = w.Process.Look.Missing(f.Request.Missing, path.Dir(w.bases()[i]))
	}
	return f, nil
}

func (w *requestWorld) request() error {
	flow := Request(RequestOptions{Dir: w.asking.dir, Kubeadm: &observe.KubeadmOptions{}})
	flow.Observe = w.observe
	return w.Do(flow.On(w.Process.Look))
}

// settled says whether all is old or all is new; if neither, what is wrong.
func (w *requestWorld) settled() (string, error) { return w.OldOrNew(w.isNew) }

func (w *requestWorld) isNew(look string) error {
	if strings.Contains(look, ".etcdpod") {
		return fmt.Errorf("something was left beside the requests:\n%s", look)
	}
	for _, at := range w.bases() {
		csr, key := string(w.Machine.Peek(at+".csr")), string(w.Machine.Peek(at+".key"))
		if !strings.HasPrefix(csr, "cert new") || csr[len("cert "):] != key[len("key "):] {
			return fmt.Errorf("%s is %q with %q", at, csr, key)
		}
		for _, ending := range []string{".csr", ".key"} {
			if st, err := w.Machine.Lstat(at + ending); err != nil || st.Mode.Perm() != 0o600 {
				return fmt.Errorf("%s%s has the mode %v: %w", at, ending, st.Mode, err)
			}
		}
	}
	return nil
}

func TestRequestsAreAllThereOrNoneWhateverHappens(t *testing.T) {
	crashtest.Everything(t, requestCases())
}

// A request whose key somebody else has replaced meanwhile stays as it is: the other key may need
// it.
func TestAKeyThatSomebodyElsePutsThereStaysTheirs(t *testing.T) {
	w := newRequestWorld(t, askings()[0])
	theirs := "/root/csr/apiserver-etcd-client.key"
	w.Machine.Before = func(call string) {
		if strings.HasPrefix(call, "create /root/csr/.apiserver-etcd-client.key") {
			w.Machine.Before = nil
			if err := w.Machine.Create(theirs, []byte("key theirs"), node.Attr{Mode: 0o600}); err != nil {
				t.Error(err)
			}
		}
	}
	var back *engine.RolledBackError
	if err := w.request(); !errors.As(err, &back) {
		t.Fatalf("got %v", err)
	}
	if got := string(w.Machine.Peek(theirs)); got != "key theirs" {
		t.Errorf("theirs is %q", got)
	}
	for _, at := range w.bases() {
		if at+".key" != theirs && w.Machine.Peek(at+".key") != nil || w.Machine.Peek(at+".csr") != nil {
			t.Errorf("%s is left behind", at)
		}
	}
}

func TestWhatCannotBeAskedForIsRefused(t *testing.T) {
	wanted := []op.Issuance{{Name: "etcd-peer"}}
	for _, tt := range []struct {
		name      string
		facts     Facts
		why, hint string
	}{
		{"etcd runs elsewhere", Facts{Request: &RequestFacts{Wanted: wanted, Configured: &configured{External: true}}},
			"the configuration names an external etcd: its certificates are created where it runs", ""},
		{"a name that is none", Facts{
			Request: &RequestFacts{
				Wanted: wanted, Configured: &configured{
					Error: pki.Config{NodeName: "cp1", AdvertiseAddress: "10.0.0.11",
						PeerCertSANs: []string{"Capital"}}.CanMake(mustSpec(t, "etcd-peer")),
				},
			},
		}, `peerCertSANs: "Capital"`, ""},
		{"all are there", Facts{Request: &RequestFacts{Configured: &configured{Dir: "/pki"}}},
			"all etcd certificates already exist in /pki", "or all"},
		{"a key is there", Facts{
			Request: &RequestFacts{Configured: &configured{}, Wanted: wanted, Taken: []string{"/csr/etcd/peer.key"}},
		}, "/csr/etcd/peer.key already exists: a key is never overwritten", "move away"},
		{"nothing is in use", Facts{Facts: &observe.Facts{ManifestDir: "/manifests"}, Renewal: &RenewalFacts{},
			Request: &RequestFacts{}}, "no manifest in /manifests names an etcd certificate", "--config FILE"},
		{"the one in use is gone", Facts{
			Facts: &observe.Facts{}, Renewal: &RenewalFacts{
				Uses: []certUse{{name: "etcd-peer", leaf: pki.Leaf{CertFile: "/pki/etcd/peer.crt"}}},
			}, Request: &RequestFacts{Wanted: wanted},
		}, "/pki/etcd/peer.crt, which holds its names, does not exist", "--config FILE"},
		{"the one in use is spoilt", Facts{
			Facts: &observe.Facts{}, Renewal: &RenewalFacts{
				Uses: []certUse{
					{name: "etcd-peer", leaf: pki.Leaf{CertFile: "/pki/etcd/peer.crt", Cert: []byte("hello")}},
				},
			}, Request: &RequestFacts{Wanted: wanted},
		}, "etcd-peer cannot be requested", "--config FILE"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := RequestOptions{}
			if tt.facts.Request.Configured != nil {
				o.Kubeadm = &observe.KubeadmOptions{}
			}
			_, err := o.preflight().Plan(t.Context(), &tt.facts)
			var refused *engine.RefusedError
			if !errors.As(err, &refused) || !strings.Contains(refused.Reason, tt.why) ||
				!strings.Contains(refused.Hint, tt.hint) {
				t.Errorf("got %v, with the hint %q", err, engine.Hint(err))
			}
		})
	}
}

func mustSpec(t *testing.T, name string) pki.Spec {
	t.Helper()
	spec, err := pki.EtcdSpec(name)
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

// TestAnInterruptTakesRequestsBack: making keys is quick, and does not check for an interrupt.
func TestAnInterruptTakesRequestsBack(t *testing.T) {
	w := newRequestWorld(t, askings()[0])
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w.Process.Emit = func(e engine.Event) {
		if e.State == engine.Finished {
			cancel()
		}
	}
	flow := Request(RequestOptions{Dir: w.asking.dir, Kubeadm: &observe.KubeadmOptions{}})
	flow.Observe = w.observe
	var back *engine.RolledBackError
	if err := w.Process.Do(ctx, flow.On(w.Process.Look),
		func(engine.Plan) error { return nil }); !errors.As(err, &back) {
		t.Errorf("it says %v", err)
	}
	if outcome, err := w.settled(); outcome != "old" || err != nil {
		t.Errorf("it is %s, %v", outcome, err)
	}
}

func TestARequestThatAnEarlierVersionLeftOpenIsSettled(t *testing.T) {
	crashtest.LeftOpen(t, "request", requestCases())
}

func TestKeysAreNotMadeWhereOthersCouldReplaceThem(t *testing.T) {
	root := t.TempDir()
	for dir, mode := range map[string]os.FileMode{"/own": 0o700, "/open": 0o777, "/sticky": 0o777 | os.ModeSticky} {
		if err := errors.Join(os.Mkdir(root+dir, 0o700), os.Chmod(root+dir, mode)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Mkdir(root+"/sticky/own", 0o700), os.Symlink("/open", root+"/link")); err != nil {
		t.Fatal(err)
	}
	n := &observe.Node{View: (&node.Host{FS: node.OS(root)}).View()}
	n.Config.StaticPodPath = "/own/m"
	for dir, refused := range map[string]bool{"/own/m/x": true, "/own": false, "/own/new/etcd": false, "/open": true,
		"/open/new": true, "/link": true, "/sticky": true, "/sticky/new": true, "/sticky/own": false} {
		r := &RequestFacts{}
		if err := r.judge(n, dir); err != nil {
			t.Fatal(err)
		}
		if err := checkPlace(&Facts{Request: r}); (err != nil) != refused {
			t.Errorf("%s: %v", dir, err)
		}
	}
}
