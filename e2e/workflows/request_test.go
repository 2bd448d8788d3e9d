package workflows

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/e2e/binaries"
	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

// requestBelow reads a request, and holds it against the key beside it, which is for root alone.
func requestBelow(t *testing.T, dir, base string) *x509.CertificateRequest {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, base+".csr"))
	must(t, err)
	block, _ := pem.Decode(data)
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	must(t, err)
	must(t, csr.CheckSignature())
	key, err := os.ReadFile(filepath.Join(dir, base+".key"))
	must(t, err)
	st, err := os.Stat(filepath.Join(dir, base+".key"))
	must(t, err)
	block, _ = pem.Decode(key)
	var public any
	if ec, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
		public = &ec.PublicKey
	} else {
		private, err := x509.ParsePKCS1PrivateKey(block.Bytes)
		must(t, err)
		public = &private.PublicKey
	}
	wanted, err := x509.MarshalPKIXPublicKey(public)
	must(t, err)
	if !bytes.Equal(wanted, csr.RawSubjectPublicKeyInfo) || st.Mode() != 0o600 {
		t.Errorf("%s.key, with the mode %v, is not the key of %s.csr", base, st.Mode(), base)
	}
	return csr
}

// externalCA makes a CA whose certificate alone gets onto the node, whose
// /etc/kubernetes/pki is in dir.
func externalCA(t *testing.T, dir string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "the department's CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour * 3650),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	leaf, err := x509.ParseCertificate(der)
	must(t, err)
	must(t, os.MkdirAll(filepath.Join(dir, "etcd"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "etcd/ca.crt"),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// install copies what was signed, and the keys, as a person does.
func (n *node) install(bases ...string) {
	n.t.Helper()
	for _, base := range bases {
		for _, ending := range []string{".crt", ".key"} {
			must(n.t, shell(n.ctx, fmt.Sprintf("cp -p '%s' '%s'",
				n.Path("/root/csr/"+base+ending), n.Path(pkiDir+base+ending))))
		}
	}
}

func asked(*x509.Certificate) {}

func TestAnExternalCASignsForANodeThatHasNoCertificates(t *testing.T) {
	n := bare(t, binaries.Etcd36)
	ca, other := externalCA(t, n.Path(pkiDir)), externalCA(t, t.TempDir())
	config := func(args ...string) []string { return append(args, "--config", n.kubeadm()) }
	request := func(args ...string) []string {
		return append(config("certs", "generate-csr", "--csr-dir", "/root/csr"), args...)
	}
	n.untouched(func() {
		n.want(5, config("init", "--yes"), "etcd/server.crt is missing, and cannot be created: the CA's key",
			"etcdpod certs generate-csr --config FILE")
		n.want(5, []string{"certs", "generate-csr", "--csr-dir", "/root/csr"},
			"names an etcd certificate", "etcdpod certs generate-csr --config FILE")
		n.want(5, []string{"certs", "generate-csr", "--csr-dir", "/root/csr", "etcd-peer"},
			"nothing on this node uses etcd-peer", "etcdpod certs generate-csr --config FILE")
		n.want(2, config("certs", "generate-csr"), "certs generate-csr needs --csr-dir DIR")
		n.want(2, []string{"certs", "generate-csr", "--csr-dir", "/root/csr", "--config", n.kubeadm() + ".not"},
			"cannot read kubeadm's configuration")
		n.want(2, request("apiserver"), `"apiserver" is not a certificate of etcd or its clients: these are`)
		n.want(0, request("--dry-run"), "make a new key, and the request for etcd-server",
			"/root/csr/apiserver-etcd-client.csr", "Nothing was changed")
	})
	out := n.want(0, request("-o", "json"), "/root/csr/etcd/server.csr", "/root/csr/apiserver-etcd-client.csr")
	n.noKeyIn(out.Stdout + out.Stderr)
	n.wantRequests()
	n.untouched(func() { n.want(5, request(), "already exists: a key is never overwritten") })

	n.sign(ca, "etcd/server", asked)
	n.install("etcd/server")
	n.untouched(func() {
		n.want(5, config("init", "phase", "certs", "--yes"), "etcd/peer.crt is missing, and cannot be created: the "+
			"CA's key")
		for args, want := range map[string]int{"": 3, "etcd-server": 1, "all": 4} {
			typed := append(config("certs", "generate-csr", "--csr-dir", "/root/more"), strings.Fields(args)...)
			if args == "" {
				n.want(0, append(typed, "--dry-run"), "etcd/server.crt exists: it stays, and no new one is requested")
			}
			if asks := n.operations(typed...); strings.Count(strings.Join(asks, "\n"), "make a new key") != want {
				t.Errorf("with %q: %q", args, asks)
			}
		}
	})
	for _, base := range renewed()[1:] {
		n.sign(other, base, asked)
		n.install(base)
	}
	n.untouched(func() {
		n.want(5, config("init", "phase", "certs", "--yes"), "etcd/peer.crt is not signed by the CA in")
	})
	n.sign(ca, "etcd/peer", func(c *x509.Certificate) { c.ExtraExtensions = nil })
	n.install("etcd/peer")
	n.untouched(func() {
		n.want(5, config("init", "phase", "certs", "--yes"),
			"etcd/peer.crt cannot be used for servers", "etcd/peer.crt does not cover "+n.Node)
	})

	for _, base := range renewed() {
		n.sign(ca, base, asked)
		n.install(base)
	}
	signed := n.pairs()
	n.untouched(func() {
		n.want(0, config("init", "phase", "certs", "--yes"), "Nothing to do")
		n.want(5, request(), "all etcd certificates already exist in")
	})
	n.want(0, config("init", "--yes"), "Done by run")
	must(t, n.WaitEtcd(n.ctx))
	must(t, n.serves(n.ctx))
	if now := n.pairs(); !maps.Equal(now, signed) {
		t.Error("what was signed is not what is in use")
	}
	if _, err := os.Lstat(n.Path(pkiDir + "etcd/ca.key")); !os.IsNotExist(err) {
		t.Errorf("etcd/ca.key: %v", err)
	}
	n.want(0, config("init", "--yes"), "Nothing to do")
}

// wantRequests holds the requests to the configuration.
func (n *node) wantRequests() {
	n.t.Helper()
	member := fmt.Sprintf("CN=%s [%s localhost] [10.0.0.11 127.0.0.1 ::1 %s]", n.Node, n.Node, n.Address)
	for base, want := range map[string]string{
		"etcd/server":             member,
		"etcd/peer":               member,
		"etcd/healthcheck-client": "CN=kube-etcd-healthcheck-client [] []",
		"apiserver-etcd-client":   "CN=kube-apiserver-etcd-client [] []",
	} {
		csr := requestBelow(n.t, n.Path("/root/csr"), base)
		if got := fmt.Sprint(csr.Subject, " ", csr.DNSNames, " ", csr.IPAddresses); got != want {
			n.t.Errorf("%s asks for %s, want %s", base, got, want)
		}
		if key, is := csr.PublicKey.(*ecdsa.PublicKey); !is || key.Curve != elliptic.P256() {
			n.t.Errorf("%s is for a %T", base, csr.PublicKey)
		}
		usage := slices.ContainsFunc(csr.Extensions, func(e pkix.Extension) bool {
			return e.Id.String() == "2.5.29.37"
		})
		if !usage {
			n.t.Errorf("%s asks for no extended key usage", base)
		}
	}
}

func TestRequestsKilledAnywhereAreAllThereOrNone(t *testing.T) {
	for pass, command := range []string{"resume", "rollback"} {
		t.Run(command, func(t *testing.T) {
			n := bare(t, binaries.Etcd36)
			args := []string{"certs", "generate-csr", "--csr-dir", "/root/csr", "--config", n.kubeadm()}
			total := len(n.operations(args...))
			for at := range turns(total, pass, 2) {
				n.killAt(moment{at, "started", time.Duration(at%3) * time.Millisecond}, args...)
				n.want(3, args, n.open().ID, "etcdpod resume")
				n.done(command)
				n.wantEnding(command)
				if command == "resume" {
					n.wantRequests()
				} else if _, err := os.Lstat(n.Path("/root/csr")); !os.IsNotExist(err) {
					t.Errorf("/root/csr: %v", err)
				}
				if keys, err := filepath.Glob(n.Path("/var/lib/etcdpod/runs/*/new/*")); err != nil || len(keys) > 0 {
					t.Errorf("keys lie about: %v, %v", keys, err)
				}
				if t.Failed() {
					t.Fatalf("this was after a kill at operation %d of %d", at, total)
				}
				must(t, os.RemoveAll(n.Path("/root"))) // so that each run has the same operations
				n.done("prune", "--yes")
			}
		})
	}
}

// As kubeadm has it: keys and requests are below /etc/kubernetes/pki at once, and each
// certificate is put beside.
func TestRequestsAreMadeOnAnEmptyRoot(t *testing.T) {
	t.Parallel()
	n := create(t, sandbox.Options{NoAPIServer: true}) // to run etcdpod with
	root := t.TempDir()
	pki := filepath.Join(root, pkiDir)
	flags := []string{"--root", root, "--node-name", "cp7", "--apiserver-advertise-address", "10.0.0.17"}
	typed := func(code int, args []string, says ...string) {
		t.Helper()
		n.want(code, append(args, flags...), says...)
	}
	typed(0, []string{"certs", "generate-csr", "--csr-dir", "/etc/kubernetes/pki", "--dry-run"},
		"make the directory /etc/kubernetes/pki/etcd")
	if left, err := os.ReadDir(root); err != nil || len(left) > 0 {
		t.Errorf("--dry-run leaves %v, %v", left, err)
	}
	typed(0, []string{"certs", "generate-csr", "--csr-dir", "/etc/kubernetes/pki"}, "/etc/kubernetes/pki/etcd/peer.csr")
	if csr := requestBelow(t, pki, "etcd/peer"); csr.Subject.String() != "CN=cp7" ||
		!slices.Contains(csr.DNSNames, "cp7") || csr.IPAddresses[0].String() != "10.0.0.17" {
		t.Errorf("it asks for %v, %v, %v", csr.Subject, csr.DNSNames, csr.IPAddresses)
	}
	if st, err := os.Stat(filepath.Join(pki, "etcd")); err != nil || st.Mode().Perm() != 0o755 {
		t.Errorf("etcd is %v, %v", st, err)
	}
	ca := externalCA(t, pki)
	typed(5, []string{"init", "phase", "certs", "--yes"}, "etcd/server.crt is missing, but etcd/server.key exists")
	for _, base := range renewed() {
		signBelow(t, pki, ca, base, asked)
	}
	typed(0, []string{"init", "phase", "certs", "--yes"}, "Nothing to do")
}

func TestRequestsAreMadeForAnExternalCA(t *testing.T) {
	n := start(t, sandbox.Options{})
	must(t, os.Remove(n.Path(pkiDir+"etcd/ca.key")))
	n.want(2, []string{"certs", "generate-csr"}, "certs generate-csr needs --csr-dir DIR")
	n.untouched(func() {
		n.want(0, []string{"certs", "generate-csr", "--csr-dir", "/root/csr", "--dry-run"}, "/root/csr/etcd/server.csr")
	})
	before := n.pairs()
	n.want(0, []string{"certs", "generate-csr", "--csr-dir", "/root/csr"},
		"/root/csr/etcd/server.csr", "/root/csr/apiserver-etcd-client.csr")
	for _, base := range renewed() {
		csr := requestBelow(t, n.Path("/root/csr"), base)
		c := n.parse(base)
		if csr.Subject.String() != c.Subject.String() ||
			!slices.Equal(csr.DNSNames, slices.Sorted(slices.Values(c.DNSNames))) ||
			len(csr.IPAddresses) != len(c.IPAddresses) {
			t.Errorf("%s asks for %v, %v, %v", base, csr.Subject, csr.DNSNames, csr.IPAddresses)
		}
		st, err := os.Stat(n.Path("/root/csr/" + base + ".key"))
		if err != nil || st.Mode() != 0o600 {
			t.Errorf("the key of %s: %v, %v", base, st, err)
		}
	}
	n.wantPairs(before, false)
	n.untouched(func() {
		n.want(5, []string{"certs", "generate-csr", "--csr-dir", "/root/csr"},
			"already exists: a key is never overwritten")
		n.want(5, []string{"certs", "generate-csr", "--csr-dir", "/etc/kubernetes/pki"},
			"/etc/kubernetes/pki/etcd/server.key already exists")
	})
}

// sign has an external CA sign a request; change may spoil it.
func (n *node) sign(ca tls.Certificate, base string, change func(*x509.Certificate)) {
	n.t.Helper()
	signBelow(n.t, n.Path("/root/csr"), ca, base, change)
}

func signBelow(t *testing.T, dir string, ca tls.Certificate, base string, change func(*x509.Certificate)) {
	t.Helper()
	csr := requestBelow(t, dir, base)
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject: csr.Subject, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(200 * 24 * time.Hour)}
	template.ExtraExtensions = csr.Extensions // a CA that takes what is asked for
	change(template)
	der, err := x509.CreateCertificate(rand.Reader, template, ca.Leaf, csr.PublicKey, ca.PrivateKey)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, base+".crt"),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644))
}

func TestWhatAnExternalCAHasSignedIsTaken(t *testing.T) {
	n := start(t, sandbox.Options{})
	ca, err := tls.LoadX509KeyPair(n.Path(pkiDir+"etcd/ca.crt"), n.Path(pkiDir+"etcd/ca.key"))
	must(t, err)
	other, err := tls.LoadX509KeyPair(n.Path(pkiDir+"ca.crt"), n.Path(pkiDir+"ca.key"))
	must(t, err)
	must(t, os.Remove(n.Path(pkiDir+"etcd/ca.key")))
	n.done("certs", "generate-csr", "--csr-dir", "/root/csr")
	from := func(args ...string) []string {
		return append([]string{"certs", "renew", "--yes", "--from", "/root/csr"}, args...)
	}
	n.untouched(func() {
		n.want(5, from(), "/root/csr holds no etcd certificate")
		n.want(5, from("etcd-peer"),
			"etcd-peer cannot be used: /root/csr/etcd/peer.crt is missing, but /root/csr/etcd/peer.key exists")
	})
	for name, tt := range map[string]struct {
		ca     tls.Certificate
		change func(*x509.Certificate)
		says   string
	}{
		"another CA": {other, asked,
			"/root/csr/etcd/peer.crt is not signed by the CA in /etc/kubernetes/pki/etcd/ca.crt"},
		"a CA that grants no usage": {ca, func(c *x509.Certificate) { c.ExtraExtensions = nil },
			"/root/csr/etcd/peer.crt cannot be used for servers"},
		"one that has expired": {ca, in(-time.Hour), "/root/csr/etcd/peer.crt expired on"},
	} {
		n.sign(tt.ca, "etcd/peer", tt.change)
		n.untouched(func() { n.want(5, from(), tt.says) })
		t.Log(name)
	}
	for _, base := range renewed() {
		n.sign(ca, base, asked)
	}
	before := n.pairs()
	n.want(0, from(), "Renewed")
	n.wantPairs(before, true)
	for _, base := range renewed() {
		signed, err := os.ReadFile(n.Path("/root/csr/" + base + ".crt"))
		must(t, err)
		if inUse := n.pairs()[pkiDir+base+".crt"]; inUse != string(signed) {
			t.Errorf("%s is not what was signed", base)
		}
	}
}
