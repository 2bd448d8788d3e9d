package upgrade

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/flags"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
)

const (
	etcdYAML = crashtest.TestManifestDir + "/etcd.yaml"
	mounts   = "    volumeMounts:\n    - mountPath: /var/lib/etcd\n      name: data\n    - mountPath: /pki\n      " +
		"name: pki\n" +
		"  volumes:\n  - hostPath:\n      path: /var/lib/etcd\n    name: data\n  - hostPath:\n      path: /pki\n    " +
		"name: pki\n"
)

// lookAtNode looks at a simulated node whose etcd, which does not answer, is started with some
// flags.
func lookAtNode(t *testing.T, prepare func(*sim.Machine), more ...string) Seen {
	t.Helper()
	machine := crashtest.Shape{}.Machine(t)
	var command strings.Builder
	for _, flag := range append([]string{"data-dir=/var/lib/etcd"}, more...) {
		command.WriteString("    - --" + flag + "\n")
	}
	write(t, machine, etcdYAML, crashtest.PodManifest("etcd", command.String(), mounts))
	if prepare != nil {
		prepare(machine)
	}
	s, err := Look(t.Context(), crashtest.Alone(t, machine).Process.Look, Question{Versions: []string{"3.6.16"}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func write(t *testing.T, machine *sim.Machine, file, text string) {
	t.Helper()
	_ = machine.Remove(file)
	if err := machine.Create(file, []byte(text), node.Attr{Mode: 0o600}); err != nil {
		t.Fatal(err)
	}
}

// certificate ends so many days after now.
func certificate(t *testing.T, now time.Time, days int) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "cp1"},
		NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(0, 0, days)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestWhatKeepsANodeFromStartingEtcdAgainIsFound(t *testing.T) {
	ends := func(days int) func(*sim.Machine) {
		return func(m *sim.Machine) {
			_ = m.Mkdir("/pki", node.Attr{Mode: 0o755})
			write(t, m, "/pki/server.crt", certificate(t, m.Host().Clock.Now(), days))
		}
	}
	for _, test := range []struct {
		name    string
		prepare func(*sim.Machine)
		flags   []string
		weight  Weight
		code    finding.Code
		says    string
	}{
		{"the kubelet does not run", func(m *sim.Machine) {
			if err := m.Host().Kubelet.Stop(context.Background()); err != nil {
				t.Fatal(err)
			}
		}, nil, Blocks, finding.KubeletStopped, "it must start the new etcd"},
		{"a flag that drops all other members", nil, []string{"force-new-cluster=true"}, Blocks,
			finding.EtcdForceNewCluster, "--force-new-cluster"},
		{"a certificate that has ended", ends(-2),
			[]string{"cert-file=/pki/server.crt"},
			Blocks, finding.CertificateExpired, "certificate /pki/server.crt: it expired"},
		{"one that ends soon", ends(12), []string{"cert-file=/pki/server.crt"},
			Notes, finding.CertificateExpiring, "it expires in"},
		{"one that is missing", nil, []string{"peer-cert-file=/pki/peer.crt"}, Blocks, finding.CertificateMissing,
			"it is missing"},
		{"no etcd", func(m *sim.Machine) { _ = m.Remove(etcdYAML) }, nil, Blocks, finding.EtcdManifestMissing,
			"no manifest in"},
		{"an etcd whose data would be lost", nil, []string{"data-dir=/elsewhere"}, Blocks, finding.EtcdManifestUnusable,
			"is not on a host path"},
		{"a file twice", func(m *sim.Machine) {
			write(t, m, etcdYAML+".bak", crashtest.PodManifest("etcd", "    - --data-dir=/var/lib/etcd\n", mounts))
		}, nil, Blocks, finding.ManifestDoubled, "the kubelet runs only one of them"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := lookAtNode(t, test.prepare, test.flags...)
			i := slices.IndexFunc(s.Found, func(f Finding) bool { return f.Code == test.code })
			if i < 0 {
				t.Fatalf("%s is not found: %+v", test.code, s.Found)
			}
			f := s.Found[i]
			if f.Weight != test.weight || f.Next == "" || f.Node != s.Node || !strings.Contains(f.Text, test.says) {
				t.Errorf("%+v", f)
			}
		})
	}
}

func TestANodeTellsWhatItsEtcdIsGiven(t *testing.T) {
	s := lookAtNode(t, nil, "experimental-initial-corrupt-check=true", "snapshot-count=10000")
	want := []flags.Given{{Name: "data-dir", Value: "/var/lib/etcd", From: flags.Argument},
		{Name: "experimental-initial-corrupt-check", Value: "true", From: flags.Argument},
		{Name: "snapshot-count", Value: "10000", From: flags.Argument}}
	if !s.Etcd || s.File != etcdYAML || !slices.Equal(s.Given, want) {
		t.Errorf("%+v", s)
	}
	if len(s.Images) != 1 || s.Images[0].Name != "registry.k8s.io/etcd:3.6.16-0" || s.MemberID != 0 || s.Stored != nil {
		t.Errorf("%+v", s)
	}
	for _, f := range s.Found {
		if f.Weight != Notes {
			t.Errorf("a node with nothing wrong has %+v", f)
		}
	}
}
