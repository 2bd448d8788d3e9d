package oracle

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/e2e/binaries"
	"github.com/etcdpod/etcdpod/pki"
)

func allCases(t *testing.T) []Case {
	t.Helper()
	cases, err := Cases(binaries.KubeadmVersions())
	if err != nil {
		t.Fatal(err)
	}
	return cases
}

func TestEveryCaseHasAGoldenOfEachVersionAndNoOther(t *testing.T) {
	taken := map[string]int{}
	for _, c := range allCases(t) {
		if len(c.Golden) != len(c.Versions) {
			t.Errorf("%s: there are goldens of %v, want of %v: run `make goldens`",
				c.File(), sortedKeys(c.Golden), c.Versions)
		}
		for v, o := range c.Golden {
			if !slices.Contains(binaries.KubeadmVersions(), v) {
				t.Errorf("%s: kubeadm %s is none that is built", c.File(), v)
			}
			if !o.Refused && o.APIServer == "" {
				t.Errorf("%s: there is nothing in the golden of kubeadm %s", c.File(), v)
			}
			if !o.Refused && o.Manifest != "" && o.Certificates != "" {
				taken[v]++
			}
		}
	}
	for _, v := range binaries.KubeadmVersions() {
		if taken[v] < 40 {
			t.Errorf("kubeadm %s renders %d configurations, want 40", v, taken[v])
		}
	}
}

func TestACaseIsWrittenAsItWasRead(t *testing.T) {
	for _, c := range allCases(t) {
		text, err := testdata.ReadFile("testdata/" + c.Name + ".txtar")
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(c.Format(), text) {
			t.Errorf("%s is not as `make goldens` writes it", c.File())
		}
	}
}

func TestTextsOfVersionsAreKeptAsOne(t *testing.T) {
	versions := []string{"1.34.4", "1.35.4", "1.36.3"}
	for _, texts := range [][]string{
		{"", "", ""},
		{"a\nb\nc\n", "a\nb\nc\n", "a\nb\nc\n"},
		{"a\nold\nc\n", "a\nold\nc\n", "a\nnew\nc\n"},
		{"", "a\n", ""},
		{"a\nb\n", "b\na\n", "a\nb\na\n"},
		{"4|\n|\n\n", "|\n", "    |a\n"},
	} {
		one := ofAll(texts, versions)
		for i, want := range texts {
			if got := ofOne(one, i, versions); got != want {
				t.Errorf("of %q %s is %q, by way of\n%s", texts, versions[i], got, one)
			}
		}
	}
	if got, want := ofAll([]string{"a\nold\nc\n", "a\nold\nc\n", "a\nnew\nc\n"}, versions),
		"   |a\n45 |old\n6  |new\n   |c\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestACertificateIsOfItsKeyAndOfItsCA(t *testing.T) {
	made := func() map[string]File {
		issuer := pki.Issuer{
			Now: time.Now(), Config: pki.Config{NodeName: "cp1",
				AdvertiseAddress: "10.0.0.11", Algorithm: pki.ECDSAP256},
		}
		files, err := issue(issuer)
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	for want, spoil := range map[string]func(files, others map[string]File){
		"": func(_, _ map[string]File) {},
		"it is not of its key": func(files, others map[string]File) {
			files["etcd/peer.key"] = others["etcd/peer.key"]
		},
		"x509: ": func(files, others map[string]File) {
			files["etcd/ca.crt"], files["etcd/ca.key"] = others["etcd/ca.crt"], others["etcd/ca.key"]
		},
		"is no key of a": func(files, _ map[string]File) { delete(files, "etcd/server.crt") },
		"is not one certificate": func(files, others map[string]File) {
			files["etcd/peer.crt"] = File{Data: append(files["etcd/peer.crt"].Data, '\n')}
		},
		"its key cannot be read: ": func(files, _ map[string]File) { delete(files, "etcd/server.key") },
	} {
		files := made()
		spoil(files, made())
		_, err := Certificates("/pki", files)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestADepartureIsOfACaseAndHasAReason(t *testing.T) {
	seen := map[string]bool{}
	for _, d := range Departures() {
		known := slices.ContainsFunc(allCases(t), func(c Case) bool {
			return c.Name == d.Case && !slices.ContainsFunc(d.Versions, func(v string) bool {
				return !slices.Contains(c.Versions, v)
			})
		})
		if !known || d.What == 0 || d.Why == "" || seen[d.Case] {
			t.Errorf("%+v: there is no such case, or it is there twice, or nothing is said of it", d)
		}
		seen[d.Case] = true
	}
}
