package pki

import (
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// copyOf lets a test damage the files.
func (w world) copyOf() Files { return maps.Clone(w.files) }

// said returns the kinds and messages of a Plan's refusal.
func said(err error) (kinds []Kind, text string) {
	if err == nil {
		return nil, ""
	}
	list := []error{err}
	if all, ok := err.(interface{ Unwrap() []error }); ok {
		list = all.Unwrap()
	}
	for _, e := range list {
		var p *Problem
		if errors.As(e, &p) {
			kinds = append(kinds, p.Kind)
			text += p.What + "\n" + p.Fix + "\n"
		} else {
			text += e.Error() + "\n"
		}
	}
	return kinds, text
}

func TestWhatIsThereIsKeptOrRefused(t *testing.T) {
	w, other := newWorld(t, cp1), newWorld(t, cp1)
	elsewhere := newWorld(t, Config{NodeName: "cp1", AdvertiseAddress: "10.0.0.12", Algorithm: ECDSAP256})
	// The server's key and names, but for clients only.
	client := func(w world, s Spec) []byte {
		s.Usages = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		p, err := w.issuer.Issue(s, w.authority(t))
		if err != nil {
			t.Fatal(err)
		}
		w.files[s.KeyFile()] = p.Key
		return p.Cert
	}
	for _, tt := range []struct {
		name  string
		spoil func(Files)
		at    time.Duration
		kinds []Kind
		text  []string // in the messages
	}{
		{name: "all is well", spoil: func(Files) {}},
		{name: "nothing is there", spoil: func(f Files) { clear(f) }},
		{name: "the CA's key is elsewhere", spoil: func(f Files) { delete(f, "etcd/ca.key") }},
		{"a certificate without its key", func(f Files) { delete(f, "etcd/server.key") },
			0, []Kind{Missing}, []string{"etcd/server.key is missing, but etcd/server.crt exists"}},
		{"a key without its certificate", func(f Files) { delete(f, "etcd/server.crt") },
			0, []Kind{Missing}, []string{"etcd/server.crt is missing, but etcd/server.key exists"}},
		{"another's key", func(f Files) { f["etcd/server.key"] = f["etcd/peer.key"] },
			0, []Kind{WrongKey}, []string{"etcd/server.key is not the key for etcd/server.crt"}},
		{"a certificate that cannot be read", func(f Files) { f["etcd/peer.crt"] = []byte("hello") },
			0, []Kind{Unreadable}, []string{"cannot read the certificate etcd/peer.crt"}},
		{"an empty certificate", func(f Files) { f["etcd/peer.crt"] = []byte{} },
			0, []Kind{Unreadable}, []string{"cannot read the certificate etcd/peer.crt"}},
		{"a key that cannot be read", func(f Files) { f["etcd/peer.key"] = f["etcd/peer.crt"] },
			0, []Kind{Unreadable}, []string{"cannot read the key etcd/peer.key"}},
		{"another CA signed it", func(f Files) {
			f["etcd/peer.crt"], f["etcd/peer.key"] = other.files["etcd/peer.crt"], other.files["etcd/peer.key"]
		}, 0, []Kind{WrongCA}, []string{"etcd/peer.crt is not signed by the CA in etcd/ca.crt"}},
		{"another CA's certificate", func(f Files) {
			f["etcd/ca.crt"] = other.files["etcd/ca.crt"]
		}, 0, []Kind{WrongKey, WrongCA, WrongCA, WrongCA, WrongCA},
			[]string{"etcd/ca.key is not the key for etcd/ca.crt"}},
		{"a CA that is none", func(f Files) {
			f["etcd/ca.crt"], f["etcd/ca.key"] = f["etcd/peer.crt"], f["etcd/peer.key"]
		}, 0, []Kind{WrongCA, WrongCA, WrongCA, WrongCA}, []string{"etcd/ca.crt is not a CA"}},
		{"a CA that cannot be read is told of once", func(f Files) { f["etcd/ca.crt"] = []byte{} },
			0, []Kind{Unreadable}, []string{"cannot read the certificate etcd/ca.crt"}},
		{"a CA's key alone", func(f Files) { delete(f, "etcd/ca.crt") }, 0, []Kind{Missing, WrongCA, WrongCA, WrongCA,
			WrongCA}, []string{"etcd/ca.crt is missing, but etcd/ca.key exists", "other control planes have the same"}},
		{"no CA, but what it signed", func(f Files) {
			delete(f, "etcd/ca.crt")
			delete(f, "etcd/ca.key")
		}, 0, []Kind{WrongCA, WrongCA, WrongCA, WrongCA},
			[]string{"etcd/server.crt exists, but its CA etcd/ca.crt is missing"}},
		{"an address that it is not for", func(f Files) {
			f["etcd/server.crt"], f["etcd/server.key"], f["etcd/ca.crt"], f["etcd/ca.key"] =
				elsewhere.files["etcd/server.crt"], elsewhere.files["etcd/server.key"],
				elsewhere.files["etcd/ca.crt"], elsewhere.files["etcd/ca.key"]
		},
			0, []Kind{WrongNames, WrongCA, WrongCA, WrongCA},
			[]string{"etcd/server.crt does not cover 10.0.0.11: it covers cp1, localhost, 10.0.0.12, 127.0.0.1, ::1"}},
		{"one for clients only", func(f Files) {
			c := world{w.issuer, f}
			f["etcd/server.crt"] = client(c, spec(t, "etcd-server"))
		}, 0, []Kind{WrongUsage}, []string{"etcd/server.crt cannot be used for servers"}},
		{"a clock that is behind", func(Files) {}, -time.Hour, []Kind{
			NotYetValid, NotYetValid, NotYetValid, NotYetValid, NotYetValid,
		}, []string{"etcd/ca.crt is not valid before 2026-03-01T11:55:00Z; this node's clock says 2026-03-01T11:00:00Z",
			"check this node's clock"}},
		{"a year later", func(Files) {}, DefaultValidity + time.Second, []Kind{Expired, Expired, Expired, Expired},
			[]string{"etcd/server.crt expired on 2027-03-01T12:00:00Z", "certs renew"}},
		{"ten years later", func(f Files) {
			maps.DeleteFunc(f, func(name string, _ []byte) bool { return !strings.HasPrefix(name, "etcd/ca.") })
		}, DefaultCAValidity + time.Second, []Kind{Expired}, []string{"etcd/ca.crt expired on", NewCA}},
		{"an external CA, and one is missing", func(f Files) {
			delete(f, "etcd/ca.key")
			delete(f, "etcd/peer.crt")
			delete(f, "etcd/peer.key")
		}, 0, []Kind{Missing}, []string{
			"etcd/peer.crt is missing, and cannot be created: the CA's key etcd/ca.key is missing, too",
			"generate-csr",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			have := w.copyOf()
			tt.spoil(have)
			before := maps.Clone(have)
			p, err := cp1.Plan(EtcdSpecs(), have, noon.Add(tt.at))
			kinds, text := said(err)
			if !slices.Equal(kinds, tt.kinds) {
				t.Errorf("got %v, %v", kinds, err)
			}
			for _, words := range tt.text {
				if !strings.Contains(text, words) {
					t.Errorf("%q is not said in:\n%s", words, text)
				}
			}
			if err == nil && len(p.Keep)+len(p.Issue) != 5 || err == nil && (len(p.Issue) > 0) != (len(have) == 0) {
				t.Errorf("got %+v", p)
			}
			if !maps.EqualFunc(have, before, slices.Equal) {
				t.Error("what was there has changed")
			}
		})
	}
}

func TestACAIsMadeOnlyWhereItIsAskedFor(t *testing.T) {
	_, err := cp1.Plan(EtcdSpecs()[1:], Files{}, noon)
	kinds, text := said(err)
	if !slices.Equal(kinds, []Kind{Missing, Missing, Missing, Missing}) ||
		!strings.Contains(text, "copy etcd/ca.crt and etcd/ca.key from another control plane") {
		t.Errorf("got %v", err)
	}
	w := newWorld(t, cp1)
	p, err := cp1.Plan(EtcdSpecs()[1:],
		Files{"etcd/ca.crt": w.files["etcd/ca.crt"], "etcd/ca.key": w.files["etcd/ca.key"]}, noon)
	if err != nil || len(p.Issue) != 4 || len(p.Keep) != 0 {
		t.Errorf("got %+v, %v", p, err)
	}
	_, err = cp1.Plan(EtcdSpecs()[1:],
		Files{"etcd/ca.crt": w.files["etcd/ca.crt"], "etcd/ca.key": w.files["etcd/peer.key"]}, noon)
	if kinds, _ := said(err); !slices.Equal(kinds, []Kind{WrongKey}) {
		t.Errorf("with another's key: %v", err)
	}
	_, err = Config{AdvertiseAddress: "cp1"}.Plan(EtcdSpecs(), Files{}, noon)
	if _, text := said(err); strings.Count(text, "the node's name is empty") != 2 {
		t.Errorf("without a name: %v", err)
	}
}

func TestIntermediatesAndBundlesAreFollowed(t *testing.T) {
	w, newer := newWorld(t, cp1), newWorld(t, cp1)
	have := w.copyOf()
	// While the CA is being replaced, both are trusted.
	have["etcd/ca.crt"] = slices.Concat(newer.files["etcd/ca.crt"], w.files["etcd/ca.crt"])
	have["etcd/ca.key"] = newer.files["etcd/ca.key"]
	if p, err := cp1.Plan(EtcdSpecs(), have, noon); err != nil || len(p.Keep) != 5 {
		t.Errorf("a bundle: %v", err)
	}

	middle := Issuer{Config: cp1, Now: noon}
	s := spec(t, "etcd-ca")
	s.CommonName = "issuing"
	template, err := middle.template(s)
	if err != nil {
		t.Fatal(err)
	}
	template.IsCA, template.KeyUsage = true, template.KeyUsage|x509.KeyUsageCertSign
	key, err := NewKey(ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	root := w.authority(t)
	pair, err := middle.sign(template, root.Cert, key, root.key)
	if err != nil {
		t.Fatal(err)
	}
	peer, err := middle.Issue(spec(t, "etcd-peer"), Authority{Cert: parsed(t, pair.Cert), key: key})
	if err != nil {
		t.Fatal(err)
	}
	have = w.copyOf()
	have["etcd/peer.key"] = peer.Key
	have["etcd/peer.crt"] = slices.Concat(peer.Cert, pair.Cert)
	if _, err := cp1.Plan(EtcdSpecs(), have, noon); err != nil {
		t.Errorf("an intermediate: %v", err)
	}
	have["etcd/peer.crt"] = peer.Cert
	if kinds, _ := said(second(cp1.Plan(EtcdSpecs(), have, noon))); !slices.Equal(kinds, []Kind{WrongCA}) {
		t.Errorf("without the intermediate: %v", kinds)
	}
}

// While a CA is exchanged its file holds two, in either order; the key is that of one of them.
func TestOfSeveralCAsTheOneWithTheKeySigns(t *testing.T) {
	older, newer := newWorld(t, cp1), newWorld(t, cp1)
	cert := func(w world) []byte { return w.files["etcd/ca.crt"] }
	for name, bundle := range map[string][]byte{
		"first": slices.Concat(cert(newer), cert(older)), "second": slices.Concat(cert(older), cert(newer)),
	} {
		key := newer.files["etcd/ca.key"]
		if problems := CheckCA("ca.crt", bundle, "ca.key", key, noon); len(problems) > 0 {
			t.Errorf("%s: %v", name, problems[0])
		}
		ca, err := ParseAuthority("ca.crt", bundle, "ca.key", key)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !ca.Cert.Equal(parsed(t, cert(newer))) || !SameLeaf(Judged(bundle, key, noon), cert(newer)) {
			t.Errorf("%s: it is the other one's certificate", name)
		}
		signed, err := Issuer{Config: cp1, Now: noon}.Issue(spec(t, "etcd-server"), ca)
		if err != nil {
			t.Fatal(err)
		}
		l := Leaf{CertFile: "server.crt", CAFile: "ca.crt", Cert: signed.Cert, CA: cert(newer)}
		if problems := l.Check(noon); len(problems) > 0 {
			t.Errorf("%s: %v", name, problems[0])
		}
	}
	strange := newWorld(t, cp1).files["etcd/ca.key"]
	problems := CheckCA("ca.crt", slices.Concat(cert(older), cert(newer)), "ca.key", strange, noon)
	if len(problems) != 1 || problems[0].Kind != WrongKey {
		t.Errorf("the key of neither: %v", problems)
	}
}

func TestACertificateOfAnExpiredCAIsStillTold(t *testing.T) {
	w := newWorld(t, Config{NodeName: "cp1", AdvertiseAddress: "10.0.0.11",
		Algorithm: ECDSAP256, Validity: 96 * time.Hour, CAValidity: 48 * time.Hour})
	kinds, _ := said(second(cp1.Plan(EtcdSpecs(), w.files, noon.Add(72*time.Hour))))
	if !slices.Equal(kinds, []Kind{Expired}) {
		t.Errorf("got %v", kinds)
	}
}

func TestRenewingKeepsWhomItSpeaksOfAndAddsNames(t *testing.T) {
	w := newWorld(t, Config{NodeName: "old-name", AdvertiseAddress: "10.0.0.9",
		Algorithm: ECDSAP256, ServerCertSANs: []string{"lb.example.org", "10.0.0.100"}})
	s := spec(t, "etcd-server")
	old := w.cert(t, "etcd/server")
	i := Issuer{Config: cp1, Now: noon.Add(300 * 24 * time.Hour)}
	p, err := i.Renew(s, old, w.authority(t))
	if err != nil {
		t.Fatal(err)
	}
	c := parsed(t, p.Cert)
	want := "cp1 lb.example.org localhost old-name 10.0.0.9 127.0.0.1 ::1 10.0.0.100 10.0.0.11"
	if got := strings.Join(Names{DNS: c.DNSNames, IPs: c.IPAddresses}.Strings(), " "); got != want ||
		c.Subject.CommonName != "old-name" {
		t.Errorf("%s is for %s, want %s", c.Subject, got, want)
	}
	if !c.NotAfter.Equal(i.Now.Add(DefaultValidity)) || old.SerialNumber.Cmp(c.SerialNumber) == 0 ||
		slices.Equal(old.RawSubjectPublicKeyInfo, c.RawSubjectPublicKeyInfo) {
		t.Errorf("it is not new: %v, %v", c.NotAfter, c.SerialNumber)
	}
	same, err := Issuer{Config: w.issuer.Config, Now: noon}.Renew(s, old, w.authority(t))
	if err != nil || !slices.Equal(fields(parsed(t, same.Cert)), fields(old)) {
		t.Errorf("with the same configuration it differs: %v", err)
	}
	organised := *old
	organised.Subject.Organization = []string{"system:masters"} // kubeadm wrote that until 1.28
	p, err = i.Renew(s, &organised, w.authority(t))
	if err != nil || !slices.Equal(parsed(t, p.Cert).Subject.Organization, []string{"system:masters"}) {
		t.Errorf("the organisation is lost: %v", err)
	}
}

// For any configuration, Plan keeps what was made, which covers each requested name once.
func TestWhatIsMadeIsWhatIsAskedFor(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 4))
		pick := func(n int) (names []string) {
			for range r.IntN(n) {
				switch r.IntN(4) {
				case 0:
					names = append(names, fmt.Sprintf("10.%d.0.%d", r.IntN(3), r.IntN(5)))
				case 1:
					names = append(names, fmt.Sprintf("fd00::%x", r.IntN(5)))
				case 2:
					names = append(names, fmt.Sprintf("n%d.example", r.IntN(5)))
				default:
					names = append(names, fmt.Sprintf("*.w%d.example", r.IntN(3)))
				}
			}
			return names
		}
		c := Config{
			NodeName: fmt.Sprintf("n%d", r.IntN(3)), AdvertiseAddress: []string{"10.0.0.1",
				"fd00::1", "127.0.0.1"}[r.IntN(3)], ServerCertSANs: pick(8), PeerCertSANs: pick(8),
			Algorithm: []Algorithm{ECDSAP256, ECDSAP384}[r.IntN(2)],
			Validity:  time.Duration(1+r.IntN(1000)) * time.Hour,
		}
		w := newWorld(t, c)
		at := noon.Add(time.Duration(r.Int64N(int64(c.Validity))))
		if p, err := c.Plan(EtcdSpecs(), w.files, at); err != nil || len(p.Keep) != 5 {
			t.Fatalf("seed %d: %+v: %v", seed, c, err)
		}
		if kinds, _ := said(second(c.Plan(EtcdSpecs(), w.files, noon.Add(c.Validity+time.Second)))); !slices.Equal(
			kinds, []Kind{Expired, Expired, Expired, Expired}) {
			t.Errorf("seed %d: after its end: %v", seed, kinds)
		}
		for base, want := range map[string][]string{"etcd/server": c.ServerCertSANs, "etcd/peer": c.PeerCertSANs} {
			crt := w.cert(t, base)
			for _, name := range append(want, c.NodeName, c.AdvertiseAddress, "localhost", "127.0.0.1", "::1") {
				if err := crt.VerifyHostname(name); err != nil {
					t.Errorf("seed %d: %v", seed, err)
				}
			}
			all := Names{DNS: crt.DNSNames, IPs: crt.IPAddresses}.Strings()
			if slices.Sort(all); len(slices.Compact(slices.Clone(all))) != len(all) {
				t.Errorf("seed %d: %q", seed, all)
			}
		}
	}
}
