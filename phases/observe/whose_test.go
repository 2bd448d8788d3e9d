package observe

import (
	"testing"

	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
)

// A person may give the URL of any etcd: what it holds is not this node's for that.
func TestAnotherEtcdIsNotTakenForThisNodes(t *testing.T) {
	const stacked = "data-dir=/var/lib/etcd listen-client-urls=https://127.0.0.1:2379 " +
		"advertise-client-urls=https://10.0.0.1:2379 initial-advertise-peer-urls=https://10.0.0.1:2380"
	for name, c := range map[string]struct {
		etcd, given, peer string
		want              bool
	}{
		"nothing was given":               {stacked, "", "https://10.0.0.1:2390", true},
		"its own listener":                {stacked, "https://127.0.0.1:2379", "https://10.0.0.7:2380", true},
		"what it advertises":              {stacked, "https://10.0.0.1:2379", "https://10.0.0.7:2380", true},
		"its own under another name":      {stacked, "https://cp1:2379", "https://10.0.0.1:2380", true},
		"the one with this node's events": {stacked, "https://127.0.0.1:2381", "https://10.0.0.1:2382", false},
		"one of another cluster":          {stacked, "https://10.1.0.1:2379", "https://10.1.0.1:2380", false},
		"one that the API server uses":    {"", "https://etcd1:2379", "https://10.2.0.1:2380", true},
		"one that it does not use":        {"", "https://etcd7:2379", "https://10.2.0.7:2380", false},
	} {
		n, files := newNode(t, nil, c.etcd, "etcd-servers=https://etcd1:2379,https://etcd2:2379")
		f := &Facts{Manifests: files, Live: &Live{Members: []Member{{ID: 7, Name: "a", PeerURLs: []string{c.peer}},
			{ID: 8, Name: "b", PeerURLs: []string{"https://10.9.9.9:2380"}}}}}
		var err error
		if f.Etcd, err = n.EtcdPod(files); err != nil || (f.Etcd == nil) != (c.etcd == "") {
			t.Fatalf("%s: %+v, %v", name, f.Etcd, err)
		}
		if c.given != "" {
			n.Access.Endpoints = []string{c.given}
		}
		if got := n.OwnAnswers(f); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// The CA that stands in the data tells whether it is of this node's cluster.
func TestTheCAInTheDataTellsWhoseItIs(t *testing.T) {
	_, files := newNode(t, nil, "data-dir=/var/lib/etcd", "client-ca-file=/pki/ca.crt")
	prints := map[string]string{"/host/pki/ca.crt": "A,B", "/host/pki/sa.pub": "S"}
	for name, c := range map[string]struct {
		files     []ManifestFile
		prints    map[string]string
		published []string
		has, told bool
	}{
		"this node's":             {files, prints, []string{"X", "B"}, true, true},
		"another one":             {files, prints, []string{"X"}, false, true},
		"none in the data":        {files, prints, nil, false, false},
		"the file cannot be read": {files, map[string]string{"/host/pki/sa.pub": "S"}, []string{"X"}, false, false},
		"no API server names one": {nil, prints, []string{"X"}, false, false},
	} {
		f := &Facts{Manifests: c.files, Fingerprints: c.prints}
		if has, told := f.HasCA(c.published); has != c.has || told != c.told {
			t.Errorf("%s: %v, %v", name, has, told)
		}
	}
	if got := PublishedCAs(&snapfile.Report{}); got != nil {
		t.Errorf("of nothing: %v", got)
	}
}
