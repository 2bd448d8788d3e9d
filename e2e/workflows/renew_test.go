package workflows

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdpod/etcdpod/e2e/sandbox"
	"github.com/etcdpod/etcdpod/e2e/writer"
)

// renewed are the certificates of etcd and of its clients.
func renewed() []string {
	return []string{"etcd/server", "etcd/peer", "etcd/healthcheck-client", "apiserver-etcd-client"}
}

// pairs are the files of these certificates, by host path.
func (n *node) pairs() map[string]string {
	n.t.Helper()
	all := map[string]string{}
	for _, base := range renewed() {
		for _, file := range []string{pkiDir + base + ".crt", pkiDir + base + ".key"} {
			data, err := os.ReadFile(n.Path(file))
			must(n.t, err)
			all[file] = string(data)
		}
	}
	return all
}

// wantPairs holds the node to all pairs as before, or to all others, and to programs
// that really show them.
func (n *node) wantPairs(before map[string]string, others bool) {
	n.t.Helper()
	n.ready()
	for file, now := range n.pairs() {
		if (now != before[file]) != others {
			n.t.Errorf("%s: is it another one? %v", file, now != before[file])
		}
		st, err := os.Stat(n.Path(file))
		must(n.t, err)
		if mode := map[bool]fs.FileMode{true: 0o600, false: 0o644}[strings.HasSuffix(file, ".key")]; st.Mode() != mode {
			n.t.Errorf("%s has the mode %v", file, st.Mode())
		}
	}
	n.certs(0)
	n.wantAllRunning()
	left, err := filepath.Glob(n.Path(pkiDir) + "/*/.*")
	must(n.t, err)
	if more, err := filepath.Glob(n.Path(pkiDir) + "/.*"); err != nil || len(append(left, more...)) > 0 {
		n.t.Errorf("left behind: %v, %v", append(left, more...), err)
	}
}

// attempts are how often the containers were started.
func (n *node) attempts() string {
	n.t.Helper()
	var all []string
	for _, name := range []string{"etcd", "kube-apiserver", "kube-scheduler"} {
		c, _, err := n.Container(n.ctx, name)
		must(n.t, err)
		all = append(all, fmt.Sprint(c.Attempt))
	}
	return strings.Join(all, " ")
}

// parse reads a certificate of the PKI.
func (n *node) parse(base string) *x509.Certificate {
	n.t.Helper()
	data, err := os.ReadFile(n.Path(pkiDir + base + ".crt"))
	must(n.t, err)
	block, _ := pem.Decode(data)
	c, err := x509.ParseCertificate(block.Bytes)
	must(n.t, err)
	return c
}

// configure has kubeadm's ClusterConfiguration ask for another name.
func (n *node) configure(san string) {
	n.t.Helper()
	n.etcd(func(c *clientv3.Client) error {
		const key = "/registry/configmaps/kube-system/kubeadm-config"
		got, err := c.Get(n.ctx, key)
		if err != nil {
			return err
		}
		old := string(got.Kvs[0].Value)
		value := strings.Replace(old, `dataDir: /var/lib/etcd\n`,
			`dataDir: /var/lib/etcd\n    serverCertSANs: [`+san+`]\n`, 1)
		if value == old {
			return fmt.Errorf("no dataDir in %s", old)
		}
		_, err = c.Put(n.ctx, key, value)
		return err
	})
}

func TestRenewGivesCertificatesANewLife(t *testing.T) {
	n := start(t, sandbox.Options{})
	for _, base := range renewed() {
		n.swap(base, "etcd/ca", in(10*24*time.Hour))
		must(t, os.Chmod(n.Path(pkiDir+base+".crt"), 0o644))
	}
	n.configure("lb.example.org")
	before, keys, peer := n.pairs(), n.keys(), n.parse("etcd/peer")
	n.want(6, []string{"certs", "check"}, "it expires in 9 days")
	n.untouched(func() {
		n.want(0, []string{"certs", "renew", "--dry-run"}, "issue a new etcd-server with a new key",
			"restart etcd", "restart kube-apiserver", "etcd-peer expires on", "Nothing was changed")
		n.want(2, []string{"certs", "renew"}, "--yes")
	})

	out := n.want(0, []string{"certs", "renew", "--yes", "-o", "json", "--verbose"}, "completed")
	n.wantPairs(before, true)
	if got := n.attempts(); got != "1 1 0" {
		t.Errorf("etcd, the API server and the scheduler were started again %s times", got)
	}
	if diff := sandbox.Diff(keys, n.keys()); len(diff) > 0 {
		t.Errorf("keys have changed: %v", diff)
	}
	for _, base := range renewed() {
		if c := n.parse(base); time.Until(c.NotAfter) < 364*24*time.Hour {
			t.Errorf("%s ends on %v", base, c.NotAfter)
		}
	}
	if names := n.parse("etcd/server").DNSNames; !slices.Contains(names, "lb.example.org") {
		t.Errorf("the server's certificate is for %q", names)
	}
	if now := n.parse("etcd/peer"); !slices.Equal(now.DNSNames, peer.DNSNames) ||
		now.Subject.String() != peer.Subject.String() || len(now.IPAddresses) != len(peer.IPAddresses) {
		t.Errorf("the peer's certificate is %v for %q", now.Subject, now.DNSNames)
	}
	n.noKeyIn(out.Stdout + out.Stderr)
	n.oldAreKept(before)
}

// oldAreKept: in the run's folder, for root alone; and until prune.
func (n *node) oldAreKept(before map[string]string) {
	n.t.Helper()
	run := n.Path(n.lastRun().Path)
	for _, base := range renewed() {
		for _, ending := range []string{".crt", ".key"} {
			kept := filepath.Join(run, "old", strings.ReplaceAll(base, "/", "-")+ending)
			data, err := os.ReadFile(kept)
			must(n.t, err)
			st, err := os.Stat(kept)
			must(n.t, err)
			if string(data) != before[pkiDir+base+ending] || st.Mode() != 0o600 {
				n.t.Errorf("%s is kept otherwise, with the mode %v", kept, st.Mode())
			}
		}
	}
	if staged, err := filepath.Glob(run + "/new/*"); err != nil || len(staged) > 0 {
		n.t.Errorf("keys in use lie about: %v, %v", staged, err)
	}
	n.done("prune", "--yes") // keeps what the newest one replaced
	_, err := os.Stat(run + "/old")
	must(n.t, err)
	n.done("certs", "renew", "etcd-healthcheck-client", "--yes")
	n.done("prune", "--yes")
	if _, err := os.Stat(run + "/old"); !os.IsNotExist(err) {
		n.t.Errorf("prune leaves old keys: %v", err)
	}
}

// noKeyIn: neither in what was written nor in any journal.
func (n *node) noKeyIn(written string) {
	n.t.Helper()
	if strings.Contains(written, "PRIVATE KEY") {
		n.t.Error("a key is shown")
	}
	must(n.t, filepath.WalkDir(n.Path("/var/lib/etcdpod"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.Contains(filepath.Base(path), "journal") {
			return err
		}
		data, err := os.ReadFile(path)
		if strings.Contains(string(data), "PRIVATE KEY") {
			n.t.Errorf("a key is in %s", path)
		}
		return err
	}))
}

func TestRenewTakesCertificatesThatHaveExpired(t *testing.T) {
	n := start(t, sandbox.Options{})
	for _, base := range renewed() {
		n.swap(base, "etcd/ca", in(-time.Hour))
		must(t, os.Chmod(n.Path(pkiDir+base+".crt"), 0o644))
	}
	must(t, n.Kill(n.ctx, "etcd"))
	before := n.pairs()
	n.want(0, []string{"certs", "renew", "--yes"}, "Renewed")
	n.wantPairs(before, true)
}

func TestRenewOfOneRestartsOnlyWhatUsesIt(t *testing.T) {
	n := start(t, sandbox.Options{})
	before := n.pairs()
	n.done("certs", "renew", "etcd-healthcheck-client", "--yes")
	if got := n.attempts(); got != "0 0 0" {
		t.Errorf("started again: %s", got)
	}
	n.done("certs", "renew", "--yes", "apiserver-etcd-client")
	n.ready()
	if got := n.attempts(); got != "0 1 0" {
		t.Errorf("started again: %s", got)
	}
	for file, now := range n.pairs() {
		if changed := now != before[file]; changed != strings.Contains(file, "-client.") {
			t.Errorf("%s has changed: %v", file, changed)
		}
	}
	n.certs(0)
}

func TestRenewRefusesWhatCannotEndWell(t *testing.T) {
	n := start(t, sandbox.Options{})
	for _, tt := range []struct {
		name  string
		spoil func()
		args  []string
		code  int
		says  []string
	}{
		{"is not a certificate of etcd or its clients: these are", nothingDone, []string{"apiserver"},
			2, []string{`"apiserver" is not a certificate of etcd or its clients: these are`, "kubeadm certs renew"}},
		{"all, and one", nothingDone, []string{"all", "etcd-peer"}, 2, []string{"all stands for every certificate"}},
		{"an external CA", func() { must(t, os.Remove(n.Path(pkiDir+"etcd/ca.key"))) },
			nil, 5, []string{"the CA's key /etc/kubernetes/pki/etcd/ca.key is missing", "certs generate-csr"}},
		{"a CA with another's key", func() { n.copyFile("ca.key", "etcd/ca.key") },
			nil, 5, []string{"etcd/ca.key is not the key for /etc/kubernetes/pki/etcd/ca.crt"}},
		{"a CA that cannot be read", func() {
			n.replace(pkiDir+"etcd/ca.crt", []byte("hello"))
		}, []string{"etcd-healthcheck-client"}, 5,
			[]string{"cannot read the certificate /etc/kubernetes/pki/etcd/ca.crt"}},
		{"a certificate that is not there", func() { must(t, os.Remove(n.Path(pkiDir+"etcd/peer.crt"))) },
			[]string{"etcd-peer"}, 5, []string{"etcd-peer cannot be renewed", "init phase certs"}},
		{"a key that everybody may read", func() { must(t, os.Chmod(n.Path(pkiDir+"etcd/server.key"), 0o644)) }, nil, 5,
			[]string{"everyone on this machine can read the key /etc/kubernetes/pki/etcd/server.key", "chmod 0600"}},
		{"a certificate that cannot be read", func() { n.replace(pkiDir+"etcd/peer.crt", []byte("hello")) },
			nil, 5, []string{"etcd-peer cannot be renewed: cannot read certificate"}},
	} {
		saved := n.savePKI()
		tt.spoil()
		n.untouched(func() { n.want(tt.code, append([]string{"certs", "renew", "--yes"}, tt.args...), tt.says...) })
		n.restorePKI(saved)
	}
	must(t, n.StopKubelet(n.ctx))
	n.untouched(func() { n.want(5, []string{"certs", "renew", "--yes"}, "the kubelet is not running") })
}

func nothingDone() {}

func TestRenewKilledAnywhereEndsWhollyOldOrWhollyNew(t *testing.T) {
	for pass, command := range []string{"resume", "rollback"} {
		t.Run(command, func(t *testing.T) {
			n := start(t, sandbox.Options{})
			for _, base := range renewed() { // with the modes of kubeadm's
				must(t, os.Chmod(n.Path(pkiDir+base+".crt"), 0o644))
			}
			total := len(n.operations("certs", "renew"))
			for at := range turns(total, pass, 2) {
				before := n.pairs()
				n.killAt(moment{at, "started", time.Duration(at%3) * time.Millisecond}, "certs", "renew", "--yes")
				run := n.open()
				n.want(3, []string{"certs", "renew", "--yes"}, run.ID, "etcdpod resume")
				n.done(command)
				n.wantEnding(command)
				n.wantPairs(before, command == "resume")
				if t.Failed() {
					t.Fatalf("this was after a kill at operation %d, in %s at: %s", at, run.Phase, run.Operation)
				}
				n.done("prune", "--yes")
			}
		})
	}
}

func TestThreeNodesAreRenewedWhileAClientWrites(t *testing.T) {
	c := startTogether(t)
	var clients []*clientv3.Client
	var endpoints []string
	for _, n := range c.nodes {
		client, err := n.EtcdClient()
		must(t, err)
		defer client.Close()
		clients = append(clients, client)
		endpoints = append(endpoints, client.Endpoints()...)
	}
	clients[0].SetEndpoints(endpoints...)
	w := writer.Begin(c.ctx, clients[0])
	defer w.End()
	written := func() {
		before := w.Count()
		c.nodes[0].eventually("something is written", func() bool { return w.Count() > before+5 })
	}
	written()
	began := time.Now()
	for _, name := range []string{"cp1", "cp2", "cp3"} {
		c.typed(name, "etcdpod certs renew --yes", 0, "Renewed")
	}
	took := time.Since(began)
	written()
	w.End()
	must(t, c.WaitReady(c.ctx))
	for _, n := range c.nodes {
		n.certs(0)
	}
	keys := c.nodes[2].keys()
	lost := w.Lost(func(key string) bool { _, there := keys[key]; return there })
	if len(lost) > 0 || w.Acknowledged == 0 {
		t.Errorf("of %d acknowledged writes these are lost: %v", w.Acknowledged, lost)
	}
	t.Logf("%d writes were acknowledged, none may be lost; the longest gap was %v; renewing took %v",
		w.Acknowledged, w.Gap, took)
}

func TestRenewIsRefusedWhereTheClusterWouldStandStill(t *testing.T) {
	c := startTogether(t)
	must(t, c.PowerOff("cp3"))
	c.nodes[0].eventually("two members are left, with a leader", func() bool {
		result := c.nodes[0].run("status", "-o", "json")
		return strings.Contains(result.Stdout, `"leader":true`) ||
			strings.Contains(c.nodes[1].run("status", "-o", "json").Stdout, `"leader":true`)
	})
	c.typed("cp1", "etcdpod certs renew --yes", 5, "the cluster would lose quorum while this etcd restarts: "+
		"1 of 3 members do not answer: cp3")
	c.typed("cp1", "etcdpod certs renew --yes etcd-healthcheck-client", 0, "Renewed")
}
