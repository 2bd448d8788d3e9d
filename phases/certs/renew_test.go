package certs

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/manifests"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/pki"
)

// renewalFacts are the facts of a node where everything can be renewed, with real certificates.
func renewalFacts(t *testing.T) *Facts {
	t.Helper()
	w := newCertsWorld(t, renewals()[0])
	f, err := w.observe(context.Background(), nil, "r1")
	if err != nil {
		t.Fatal(err)
	}
	i := pki.Issuer{Config: pki.Config{NodeName: "cp1", AdvertiseAddress: "10.0.0.11", Algorithm: pki.ECDSAP256},
		Now: time.Unix(1_700_000_000, 0)}
	f.Now = i.Now
	ca, err := pki.EtcdSpec("etcd-ca")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := i.NewCA(ca)
	if err != nil {
		t.Fatal(err)
	}
	for j := range f.Renewal.Uses {
		// Any readable pair will do.
		f.Renewal.Uses[j].leaf.Cert, f.Renewal.Uses[j].leaf.Key = pair.Cert, pair.Key
	}
	f.Live = &observe.Live{MemberID: 1, Members: []observe.Member{{ID: 1, Name: "cp1"}}}
	return f
}

func three(silent ...string) func(*Facts) {
	return func(f *Facts) {
		f.Live.Members = []observe.Member{{ID: 1, Name: "cp1"},
			{ID: 2, Name: "cp2"}, {ID: 3, Name: "cp3"}, {ID: 4, Name: "learner", IsLearner: true}}
		for _, name := range silent {
			f.Renewal.Silent = append(f.Renewal.Silent, observe.Member{Name: name})
		}
	}
}

func TestARenewalIsRefusedBeforeAnythingIsTouched(t *testing.T) {
	for _, tt := range []struct {
		name      string
		spoil     func(*Facts)
		why, hint string // empty: it is not refused
	}{
		{"all is well", func(*Facts) {}, "", ""},
		{"all three members serve", three(), "", ""},
		{"etcd is down: there is no quorum to lose", func(f *Facts) { f.Live = nil }, "", ""},
		{"both of two members serve, and no order would spare them a moment", func(f *Facts) {
			f.Live.Members = []observe.Member{{ID: 1, Name: "cp1"}, {ID: 2, Name: "cp2"}}
		}, "", ""},
		{"one of three is silent", three("cp3"),
			"the cluster would lose quorum while this etcd restarts: 1 of 3 members do not answer: cp3",
			"one node after the other"},
		{"one is silent, but etcd is not restarted",
			func(f *Facts) { three("cp3")(f); f.Renewal.Uses = f.Renewal.Uses[2:] }, "", ""},
		{"nothing to renew", func(f *Facts) { f.Renewal.Uses = nil },
			"names an etcd certificate that could be renewed", "certs check"},
		{"the kubelet is stopped", func(f *Facts) { f.KubeletActive = false },
			"the kubelet is not running", "start the kubelet"},
		{"the kubelet is stopped, and nothing is restarted",
			func(f *Facts) { f.KubeletActive = false; f.Renewal.Uses = f.Renewal.Uses[2:3] }, "", ""},
		{"the runtime cannot be asked", func(f *Facts) { f.RuntimeError = errors.New("no socket") },
			"no socket", "--cri-socket"},
		{"etcd's image is gone", func(f *Facts) {
			f.Obstacles = []observe.Obstacle{
				{Manifests: []string{f.Etcd.File.Path}, What: "etcd's image is gone", Fix: "pull"}}
		}, "could start again after being stopped: etcd's image is gone", "pull"},
		{"the image of a pod that goes on is gone", func(f *Facts) {
			f.Obstacles = []observe.Obstacle{{Manifests: []string{"/m/scheduler.yaml"}, What: "x"}}
		}, "", ""},
		{"a key that everybody may read", func(f *Facts) {
			f.Renewal.Exposed = []string{crashtest.TestPKI + "etcd/server.key"}
		}, "everyone on this machine can read the key /etc/kubernetes/pki/etcd/server.key",
			"chmod 0600 /etc/kubernetes/pki/etcd/server.key"},
		{"an external CA", func(f *Facts) { f.Renewal.External = []string{crashtest.TestPKI + "etcd/ca.crt"} },
			"the CA's key /etc/kubernetes/pki/etcd/ca.key is missing", "certs generate-csr"},
		{"a CA that has expired", func(f *Facts) {
			f.Renewal.Problems[crashtest.TestPKI+"etcd/ca.crt"] = []*pki.Problem{
				{Kind: pki.Expired, What: "it expired", Fix: pki.NewCA},
			}
		}, "etcd-server cannot be renewed: it expired", pki.NewCA},
		{"a key is missing", func(f *Facts) { f.Renewal.Uses[1].leaf.Key = nil },
			"etcd-peer cannot be renewed", "init phase certs"},
		{"what is there is no certificate", func(f *Facts) { f.Renewal.Uses[1].leaf.Cert = []byte("x") },
			"etcd-peer cannot be renewed: cannot read certificate", "move it and its key away"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := renewalFacts(t)
			tt.spoil(f)
			_, err := RenewOptions{}.preflight().Plan(context.Background(), f)
			crashtest.Refused(t, err, tt.why, tt.hint)
		})
	}
}

func TestWhoRenewsOneOfTwoMembersIsToldThatTheClusterStandsStill(t *testing.T) {
	f := renewalFacts(t)
	told := func() bool {
		return slices.ContainsFunc(RenewOptions{}.warned(f), func(w finding.Finding) bool {
			return w.Code == finding.EtcdNoWrites && strings.Contains(w.Text, "it takes no writes")
		})
	}
	if told() {
		t.Error("told of one member alone")
	}
	if f.Live.Members = append(f.Live.Members, observe.Member{ID: 2, Name: "cp2"}); !told() {
		t.Error("not told of two")
	}
}

func TestWhatAnExternalCASignedNeedsNoKeyOfIt(t *testing.T) {
	f := renewalFacts(t)
	f.Renewal.External = []string{crashtest.TestPKI + "etcd/ca.crt"}
	o := RenewOptions{From: "/csr"}
	if _, err := o.preflight().Plan(context.Background(), f); err != nil {
		t.Error(err)
	}
	f.Renewal.Signed["etcd-peer"] = signedPair{problems: []*pki.Problem{{What: "it is another CA's"}}}
	if _, err := o.preflight().Plan(context.Background(), f); err == nil ||
		!strings.Contains(err.Error(), "etcd-peer cannot be used: it is another CA's") {
		t.Errorf("got %v", err)
	}
	f.Renewal.Uses = nil
	if _, err := o.preflight().Plan(context.Background(), f); err == nil ||
		!strings.Contains(err.Error(), "/csr holds no etcd certificate") {
		t.Errorf("got %v", err)
	}
}

func TestWhatARenewalDoes(t *testing.T) {
	f := renewalFacts(t)
	f.Renewal.Uses[0].leaf.Names = pki.Names{DNS: []string{"cp1.example"}}
	f.Renewal.Config = observe.ClusterConfiguration{EncryptionAlgorithm: "ECDSA-P384",
		CertificateValidityPeriod: time.Hour, ServerCertSANs: []string{"lb"}}
	plan, err := Renew(RenewOptions{}).Planned(context.Background(), f)
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, p := range plan.Phases {
		for i, o := range p.Ops() {
			words = append(words, op.Kind(o))
			if issue, ok := o.(*op.IssueCertificate); ok && i == 1 {
				got := issue.Issuance
				if !slices.Equal(got.SANs, []string{"lb", "cp1.example"}) ||
					got.Algorithm != "ECDSA-P384" || got.Validity != time.Hour ||
					got.AdvertiseAddress != "10.0.0.11" || got.CAKey != crashtest.TestPKI+"etcd/ca.key" {
					t.Errorf("got %+v", got)
				}
			}
		}
	}
	want := "make-directory issue-certificate issue-certificate issue-certificate issue-certificate " +
		"make-directory restart-pod restart-pod replace-certificate replace-certificate " +
		"replace-certificate replace-certificate " +
		"restart-pod await-answer await-served await-served restart-pod await-apiserver"
	if got := strings.Join(words, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestKubeadmsConfigurationIsRead(t *testing.T) {
	c, err := observe.ParseClusterConfiguration("encryptionAlgorithm: RSA-4096\n" +
		"certificateValidityPeriod: 48h0m0s\netcd:\n" +
		"  local:\n    serverCertSANs: [a, b]\n    peerCertSANs: [c]\nnetworking: {}\n")
	if err != nil || c.EncryptionAlgorithm != "RSA-4096" || c.CertificateValidityPeriod != 48*time.Hour ||
		!slices.Equal(c.ServerCertSANs, []string{"a", "b"}) || !slices.Equal(c.PeerCertSANs, []string{"c"}) {
		t.Errorf("got %+v", c)
	}
	if c, err := observe.ParseClusterConfiguration("featureGates: {PublicKeysECDSA: true}\n" +
		"encryptionAlgorithm: RSA-2048"); c.EncryptionAlgorithm != "ECDSA-P256" || err != nil {
		t.Errorf("got %+v", c)
	}
	for _, text := range []string{"certificateValidityPeriod: soon", "a: ["} {
		if _, err := observe.ParseClusterConfiguration(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

func TestOnlyCertificatesOfEtcdAreChosen(t *testing.T) {
	uses := usesOf(t, "data-dir=/var/lib/etcd cert-file=/pki/etcd/server.crt trusted-ca-file=/pki/etcd/ca.crt",
		"etcd-certfile=/pki/client.crt tls-cert-file=/pki/apiserver.crt")
	n := newCertsWorld(t, renewals()[0]).Process.Look
	for _, tt := range []struct{ typed, want, why string }{
		{"etcd-server", "etcd-server", ""},
		{"apiserver-etcd-client etcd-server", "etcd-server apiserver-etcd-client", ""},
		{"", "", ""}, // none of the files exists
		{"etcd-peer", "", "nothing on this node uses etcd-peer"},
		{"apiserver", "", `"apiserver" is not a certificate of etcd or its clients: these are`},
		{"etcd-ca", "", `"etcd-ca" is not a certificate of etcd or its clients: these are`},
		{"all etcd-server", "", `"all" is not a certificate`},
	} {
		chosen, err := chosen(n, strings.Fields(tt.typed), uses)
		var names []string
		for _, u := range chosen {
			names = append(names, u.name)
		}
		if got := strings.Join(names, " "); got != tt.want ||
			(err == nil) != (tt.why == "") || err != nil && !strings.Contains(err.Error(), tt.why) {
			t.Errorf("%q: %q, %v", tt.typed, got, err)
		}
	}
}

// etcd loads the same data again, and may have grown since its probe was last long enough.
func TestARenewalWarnsOfAProbeThatEndsAnEtcdOfThatSize(t *testing.T) {
	f := renewalFacts(t)
	text := strings.Replace(string(f.Etcd.File.Data), "    name: etcd\n", "    name: etcd\n"+
		"    startupProbe: {periodSeconds: 10, failureThreshold: 3}\n", 1)
	m, err := manifests.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	f.Etcd.File.Manifest = m
	for size, want := range map[int64]bool{100 << 20: false, 1 << 30: true} {
		f.Renewal.Size = size
		warns := func() bool {
			return slices.ContainsFunc(RenewOptions{}.warned(f), func(w finding.Finding) bool {
				return w.Code == finding.StartLimit && strings.Contains(w.Text, "30s (startupProbe in ")
			})
		}
		if got := warns(); got != want {
			t.Errorf("of %d bytes: %v", size, got)
		}
		f.Renewal.Uses = f.Renewal.Uses[2:]
		if warns() {
			t.Error("it warns of an etcd that is not restarted")
		}
		f = renewalFacts(t)
		f.Etcd.File.Manifest = m
	}
}
