package certs

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/bind"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/pki"
)

// onDisk writes files below a root of its own.
func onDisk(t *testing.T, files map[string][]byte) node.FS {
	t.Helper()
	fs := node.OS(t.TempDir())
	for name, data := range files {
		if err := os.MkdirAll(filepath.Dir(fs.Real(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(fs.Real(name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return fs
}

// The files of another control plane were copied to this node: what is renewed is for this node,
// and for nobody else.
func TestACertificateOfAnotherMachineIsRenewedForThisNode(t *testing.T) {
	now := time.Now()
	theirs := pki.Issuer{Config: pki.Config{NodeName: "cp9", AdvertiseAddress: "10.0.0.19",
		ServerCertSANs: []string{"etcd.example"}, Algorithm: pki.ECDSAP256}, Now: now}
	ours := theirs
	ours.Config.NodeName, ours.Config.AdvertiseAddress = "cp1", "10.0.0.11"
	ca, err := theirs.NewCA(mustSpec(t, "etcd-ca"))
	if err != nil {
		t.Fatal(err)
	}
	authority, err := pki.ParseAuthority("ca.crt", ca.Cert, "ca.key", ca.Key)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		issuer  pki.Issuer
		node    string // etcd's name
		foreign bool
		want    []string
	}{
		"another machine's": {theirs, "cp1", true, []string{"cp1", "localhost", "10.0.0.11", "127.0.0.1", "::1"}},
		"this node's": {ours, "cp1", false,
			[]string{"cp1", "etcd.example", "localhost", "10.0.0.11", "127.0.0.1", "::1"}},
		"this node's, which has another name now": {ours, "cp-one", false,
			[]string{"cp1", "etcd.example", "localhost", "10.0.0.11", "127.0.0.1", "::1"}},
	} {
		old, err := tt.issuer.Issue(mustSpec(t, "etcd-server"), authority)
		if err != nil {
			t.Fatal(err)
		}
		fs := onDisk(t, map[string][]byte{"/pki/ca.crt": ca.Cert, "/pki/ca.key": ca.Key, "/pki/server.crt": old.Cert})
		use := certUse{name: "etcd-server", program: "etcd", port: "client",
			leaf: pki.Leaf{CertFile: "/pki/server.crt", CAFile: "/pki/ca.crt", Cert: old.Cert}}
		f := &Facts{Facts: &observe.Facts{Node: tt.node, Now: now,
			Etcd: &observe.EtcdPod{PeerURLs: []string{"https://10.0.0.11:2380"}}}, Renewal: &RenewalFacts{}}
		i := f.issuance(use)
		if i.Foreign != tt.foreign {
			t.Errorf("%s: foreign is %v", name, i.Foreign)
		}
		made, _, err := bind.NewCertificates(fs, node.WallClock()).Issue(t.Context(), i)
		if err != nil {
			t.Fatal(err)
		}
		c, err := pki.Inspect("made", made, now)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(c.SANs, tt.want) || c.Subject != "cp1" {
			t.Errorf("%s: it is %s, for %q, and not for %q", name, c.Subject, c.SANs, tt.want)
		}
	}
}

func TestARenewalWaitsOnlyWhereEtcdWasHeard(t *testing.T) {
	all := []ServedReport{{Name: "etcd-server", Address: "127.0.0.1:2379", Error: "no answer"},
		{Name: "etcd-server", Address: "10.0.0.11:2379"},
		{Name: "etcd-peer", Address: "10.0.0.11:2380", Error: "no answer"}}
	// Of what was heard nowhere, everything is waited for: it may have been down.
	if got := deaf(all); !slices.Equal(got, []string{"127.0.0.1:2379"}) {
		t.Errorf("got %q", got)
	}
	f := renewalFacts(t)
	f.Renewal.Deaf = []string{"127.0.0.1:2379"}
	plan, err := Renew(RenewOptions{}).Planned(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	var waits []string
	for _, p := range plan.Phases {
		for _, step := range p.Ops() {
			if w, ok := step.(*op.AwaitServed); ok {
				waits = append(waits, w.Address)
			}
		}
	}
	if !slices.Equal(waits, []string{"10.0.0.11:2380"}) {
		t.Errorf("it waits at %q", waits)
	}
}

func TestKubeconfigsAreAmongTheCertificates(t *testing.T) {
	now := time.Now()
	i := pki.Issuer{Config: pki.Config{NodeName: "cp1", AdvertiseAddress: "10.0.0.11", Algorithm: pki.ECDSAP256},
		Now: now.Add(-2 * pki.DefaultValidity)}
	ca, err := i.NewCA(mustSpec(t, "etcd-ca"))
	if err != nil {
		t.Fatal(err)
	}
	authority, err := pki.ParseAuthority("ca.crt", ca.Cert, "ca.key", ca.Key)
	if err != nil {
		t.Fatal(err)
	}
	ended, err := i.Issue(mustSpec(t, "etcd-healthcheck-client"), authority)
	if err != nil {
		t.Fatal(err)
	}
	i.Now = now
	good, err := i.Issue(mustSpec(t, "etcd-healthcheck-client"), authority)
	if err != nil {
		t.Fatal(err)
	}
	config := func(user string) []byte {
		return []byte(`{apiVersion: v1, kind: Config, current-context: x, contexts: [{name: x, context: {cluster: c, ` +
			`user: u}}], clusters: [{name: c, cluster: {server: "https://x:6443"}}], users: [{name: u, user: {` +
			user + `}}]}`)
	}
	held := func(p pki.Pair) []byte {
		return config(fmt.Sprintf("client-certificate-data: %s, client-key-data: %s",
			base64.StdEncoding.EncodeToString(p.Cert), base64.StdEncoding.EncodeToString(p.Key)))
	}
	const pem = "/var/lib/kubelet/pki/kubelet-client-current.pem"
	n := &observe.Node{View: node.View{Clock: node.WallClock(), FS: onDisk(t, map[string][]byte{
		"/etc/kubernetes/pki/ca.crt": ca.Cert, "/etc/kubernetes/pki/ca.key": ca.Key,
		"/etc/kubernetes/admin.conf": held(good), "/etc/kubernetes/scheduler.conf": held(ended),
		"/etc/kubernetes/controller-manager.conf": []byte("nonsense: ["),
		"/etc/kubernetes/kubelet.conf":            config("client-certificate: " + pem + ", client-key: " + pem),
		pem:                                       append(slices.Clone(ended.Cert), ended.Key...),
	})}}
	want := map[string]string{"admin.conf": "", "scheduler.conf": "it expired on",
		"controller-manager.conf": "cannot read", "kubelet.conf": "it expired on"}
	var u certUses
	seen := 0
	for _, c := range kubeconfigCerts(n, &u, "/etc/kubernetes/pki/ca.crt") {
		said := strings.Join(c.Problems, "; ")
		if seen++; (want[c.Name] == "") != (said == "") || !strings.Contains(said, want[c.Name]) || c.fix == "" {
			t.Errorf("%s: %q, hint %q", c.Name, said, c.fix)
		}
		// Restarting it is no cure where it could not start again.
		if c.Name == "kubelet.conf" && !strings.HasPrefix(c.fix, "do not restart the kubelet yet") {
			t.Errorf("hint %q", c.fix)
		}
	}
	for _, s := range KubeconfigStatuses(n, now) {
		name := filepath.Base(s.Path)
		if (want[name] == "") != (s.Problem == "") || !strings.Contains(s.Problem, want[name]) {
			t.Errorf("status says of %s: %q", name, s.Problem)
		}
		seen++
	}
	if seen != 8 {
		t.Errorf("%d were seen, and not twice 4", seen)
	}
}

// Stopped, a kubelet would not start again whose certificate lacks its key, or has another's.
func TestAKubeletThatLacksItsKeyIsNotToBeRestarted(t *testing.T) {
	now := time.Now()
	i := pki.Issuer{Config: pki.Config{NodeName: "cp1", AdvertiseAddress: "10.0.0.11", Algorithm: pki.ECDSAP256},
		Now: now}
	ca, err := i.NewCA(mustSpec(t, "etcd-ca"))
	if err != nil {
		t.Fatal(err)
	}
	authority, err := pki.ParseAuthority("ca.crt", ca.Cert, "ca.key", ca.Key)
	if err != nil {
		t.Fatal(err)
	}
	var pairs [2]pki.Pair
	for k := range pairs {
		if pairs[k], err = i.Issue(mustSpec(t, "etcd-healthcheck-client"), authority); err != nil {
			t.Fatal(err)
		}
	}
	const current = "/var/lib/kubelet/pki/kubelet-client-current.pem"
	for name, c := range map[string]struct {
		key     []byte
		restart bool
	}{"its key": {pairs[0].Key, true}, "no key": {nil, false}, "another's": {pairs[1].Key, false}} {
		n := &observe.Node{View: node.View{Clock: node.WallClock(), FS: onDisk(t, map[string][]byte{
			"/etc/kubernetes/kubelet.conf": []byte(`{apiVersion: v1, kind: Config, current-context: x, contexts: [{` +
				`name: x, context: {cluster: c, user: u}}], clusters: [{name: c, cluster: {server: "https://x"}}], ` +
				`users: [{name: u, user: {client-certificate: ` + current + `, client-key: ` + current + `}}]}`),
			current: append(slices.Clone(pairs[0].Cert), c.key...),
		})}}
		var u certUses
		all := kubeconfigCerts(n, &u, "")
		if len(all) != 1 || strings.HasPrefix(all[0].fix, "restart the kubelet") != c.restart ||
			(len(all[0].Problems) == 0) != c.restart {
			t.Errorf("%s: %+v", name, all)
		}
	}
}
