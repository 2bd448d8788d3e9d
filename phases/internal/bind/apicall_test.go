package bind

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// authority is a CA of the test's.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	a.pem, _ = a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "kubernetes"}, IsCA: true,
		KeyUsage: x509.KeyUsageCertSign}, time.Now().Add(time.Hour))
	return a
}

func (a *authority) sign(template *x509.Certificate, until time.Time) (certPEM, keyPEM []byte) {
	a.t.Helper()
	must := func(err error) {
		if err != nil {
			a.t.Fatal(err)
		}
	}
	template.SerialNumber, template.BasicConstraintsValid = big.NewInt(time.Now().UnixNano()), true
	template.NotBefore, template.NotAfter = time.Now().Add(-48*time.Hour), until
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	parent, by := a.cert, a.key
	if parent == nil {
		parent, by = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	must(err)
	if a.cert == nil {
		a.key = key
		a.cert, err = x509.ParseCertificate(der)
		must(err)
	}
	raw, err := x509.MarshalECPrivateKey(key)
	must(err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw})
}

// apiServer stands in for one: it knows its clients by their certificates, as kube-apiserver does,
// and answers what a test has it answer.
type apiServer struct {
	t    *testing.T
	ca   *authority
	root string
	fs   node.FS
	at   string // https://127.0.0.1:port
	// Who may do what: 0 is everything.
	anonymous, admins int
	ready             string // what /readyz says when it is not ready
}

const shownBinding = "kubeadm:cluster-admins"

func newAPIServer(t *testing.T) *apiServer {
	t.Helper()
	s := &apiServer{t: t, ca: newAuthority(t), root: t.TempDir()}
	s.fs = node.OS(s.root)
	cert, key := s.ca.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "kube-apiserver"},
		DNSNames: []string{"kubernetes"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}},
		time.Now().Add(time.Hour))
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewUnstartedServer(http.HandlerFunc(s.answer))
	web.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert}
	web.StartTLS()
	t.Cleanup(web.Close)
	s.at = web.URL
	return s
}

func (s *apiServer) answer(w http.ResponseWriter, r *http.Request) {
	code := s.anonymous
	if shown := r.TLS.PeerCertificates; len(shown) > 0 {
		pool := x509.NewCertPool()
		pool.AddCert(s.ca.cert)
		_, err := shown[0].Verify(x509.VerifyOptions{Roots: pool,
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		switch {
		case err != nil:
			code = http.StatusUnauthorized
		case slices.Contains(shown[0].Subject.Organization, shownBinding):
			code = s.admins
		default:
			code = 0
		}
	}
	switch {
	case code != 0:
		w.WriteHeader(code)
		fmt.Fprintf(w, `{"kind":"Status","message":"no: %d","code":%d}`, code, code)
	case r.URL.Path == "/readyz" && s.ready != "":
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprint(w, s.ready)
	default:
		fmt.Fprint(w, `{"metadata":{"resourceVersion":"42"}}`)
	}
}

// kubeconfig writes one for a group, which names a load balancer that is not there.
func (s *apiServer) kubeconfig(name, group string, until time.Time) string {
	s.t.Helper()
	cert, key := s.ca.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "kubernetes-admin",
		Organization: []string{group}}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, until)
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1", proxy-url: "http://127.0.0.1:1",
  certificate-authority-data: %s}}]
users: [{name: u, user: {client-certificate-data: %s, client-key-data: %s}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
`, base64.StdEncoding.EncodeToString(s.ca.pem), base64.StdEncoding.EncodeToString(cert),
		base64.StdEncoding.EncodeToString(key))
	file := "/etc/kubernetes/" + name
	if err := os.MkdirAll(filepath.Join(s.root, "etc/kubernetes"), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.root, file), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return file
}

// access is how a node reaches it: at loopback, under a name of its certificate.
func (s *apiServer) access(kubeconfigs ...string) op.APIAccess {
	return op.APIAccess{Kubeconfig: kubeconfigs[0], Kubeconfigs: kubeconfigs[1:], Server: s.at, Name: "kubernetes"}
}

func TestTheFirstKubeconfigThatTheAPIServerAcceptsIsUsed(t *testing.T) {
	s := newAPIServer(t)
	s.admins = http.StatusForbidden
	later, past := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	expired := s.kubeconfig("super-admin.conf", "system:masters", past)
	noRights := s.kubeconfig("admin.conf", shownBinding, later)
	good := s.kubeconfig("good.conf", "system:masters", later)
	api := NewAPIServer(s.fs)
	for _, tt := range []struct {
		name   string
		files  []string
		status int // of the refusal
		hint   string
	}{
		{"one that works", []string{good}, 0, ""},
		{"an expired one, then one that works", []string{expired, good}, 0, ""},
		{"one without rights, one that is not there, one that works", []string{noRights, "/none", good}, 0, ""},
		{"expired", []string{expired}, 401, "kubeadm certs renew super-admin.conf"},
		{"without rights", []string{noRights, "/none"}, 403, "kubeadm init phase kubeconfig super-admin"},
	} {
		revision, err := api.Revision(t.Context(), s.access(tt.files...))
		var denied *op.DeniedError
		switch {
		case tt.status == 0 && (err != nil || revision != 42):
			t.Errorf("%s: %d, %v", tt.name, revision, err)
		case tt.status != 0 && (!errors.As(err, &denied) || denied.Status != tt.status ||
			!strings.Contains(denied.Hint(), tt.hint) || !strings.Contains(err.Error(), tt.files[0])):
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestReadinessNeedsNoRights(t *testing.T) {
	s := newAPIServer(t)
	s.admins = http.StatusForbidden
	expired := s.kubeconfig("admin.conf", "system:masters", time.Now().Add(-time.Hour))
	noRights := s.kubeconfig("other.conf", shownBinding, time.Now().Add(time.Hour))
	api := NewAPIServer(s.fs)
	for _, files := range [][]string{{expired}, {noRights}, {expired, noRights}, {"/none"}} {
		s.anonymous, s.ready = 0, ""
		if err := api.Ready(t.Context(), s.access(files...)); err != nil {
			t.Errorf("%v: %v", files, err)
		}
		s.ready = "[+]ping ok\n[-]etcd failed: reason withheld\nreadyz check failed\n"
		var denied *op.DeniedError
		if err := api.Ready(t.Context(), s.access(files...)); err == nil || errors.As(err, &denied) {
			t.Errorf("%v, not ready: %v", files, err)
		}
		s.anonymous = http.StatusUnauthorized
		if err := api.Ready(t.Context(), s.access(files...)); !errors.As(err, &denied) {
			t.Errorf("%v, and strangers are refused: %v", files, err)
		}
	}
}

func TestTheCheckThatFailedIsNamedAndNotThoseBeforeIt(t *testing.T) {
	s := newAPIServer(t)
	s.ready = strings.Repeat("[+]poststarthook/start-something ok\n", 40) +
		"[-]etcd failed: reason withheld\n[-]poststarthook/rbac/bootstrap-roles failed: reason withheld\n" +
		"readyz check failed\n"
	good := s.kubeconfig("admin.conf", "system:masters", time.Now().Add(time.Hour))
	err := NewAPIServer(s.fs).Ready(t.Context(), s.access(good))
	const says = "/readyz: etcd failed, poststarthook/rbac/bootstrap-roles failed"
	if err == nil || !strings.HasSuffix(err.Error(), says) {
		t.Error(err)
	}
}

// refusing is an address where nothing listens.
func refusing(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "https://" + l.Addr().String()
}

func TestAnAPIServerIsAskedWhereverItCanBeReached(t *testing.T) {
	s := newAPIServer(t)
	api := NewAPIServer(s.fs)
	good := s.kubeconfig("admin.conf", "system:masters", time.Now().Add(time.Hour))
	a := s.access(good)
	a.Server, a.Servers = refusing(t), []string{s.at}
	if _, err := api.Revision(t.Context(), a); err != nil {
		t.Errorf("the second address: %v", err)
	}
	a.Server, a.Servers = s.at, []string{refusing(t)}
	if _, err := api.Revision(t.Context(), a); err != nil {
		t.Errorf("the first address: %v", err)
	}
	a.Name = "" // its certificate is not for 127.0.0.1
	if _, err := api.Revision(t.Context(), a); err == nil || !strings.Contains(err.Error(), "127.0.0.1") ||
		!wrongName(err) {
		t.Errorf("without a name: %v", err)
	}
}
