package status

import (
	"errors"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/manifests"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/observe"
)

func TestStatusWarnsOfWhoCannotBeToldApartOrReached(t *testing.T) {
	file := func(name, text string) observe.ManifestFile {
		m, err := manifests.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return observe.ManifestFile{Path: "/m/" + name, Data: []byte(text), Manifest: m}
	}
	own := observe.Member{ID: 7, Name: "cp1", PeerURLs: []string{"https://cp1:2380"}}
	for _, c := range []struct {
		name   string
		change func(*seen)
		want   []string // the parts of one warning
	}{
		{"two of one name", func(s *seen) {
			s.facts.Live.Members = []observe.Member{own, {ID: 8, Name: "cp1", PeerURLs: []string{"https://b:2380"}}}
		}, []string{"2 members share one name: cp1 (7 at https://cp1:2380), cp1 (8 at https://b:2380)"}},
		{"one that never started", func(s *seen) {
			s.facts.Live.Members = []observe.Member{own, {ID: 0xabc, PeerURLs: []string{"https://b:2380"}}}
		}, []string{"member abc at https://b:2380 has never started: it counts for quorum",
			"etcdpod remove abc"}},
		{"a learner that never started", func(s *seen) {
			s.facts.Live.Members = []observe.Member{own, {ID: 8, PeerURLs: []string{"https://b:2380"}, IsLearner: true}}
		}, []string{"it is a learner"}},
		{"a peer URL that leads nowhere", func(s *seen) {
			s.facts.Live.Members[0].PeerURLs = []string{"http://localhost:2380"}
		}, []string{"cp1 is listed at http://localhost:2380",
			"`etcdpod members set-peer-url 7 https://cp1:2380` there"}},
		{"another etcd", func(s *seen) {
			text := strings.ReplaceAll(crashtest.PodManifest("etcd", "", ""),
				"name: etcd\n  namespace", "name: events\n  namespace")
			s.facts.Manifests = append(s.facts.Manifests, file("a.yaml", text))
			s.facts.RuntimeError = errors.New("not asked")
		}, []string{"/m/a.yaml runs another etcd, kube-system/events: etcdpod does not back it up"}},
		{"a copy", func(s *seen) {
			s.facts.Manifests = append(s.facts.Manifests, file("etcd.yaml.bak", crashtest.EtcdManifest("")))
		}, []string{"2 files claim the pod kube-system/etcd: /etc/kubernetes/manifests/etcd.yaml, /m/etcd.yaml.bak"}},
		{"etcd throws the others out", func(s *seen) {
			text := strings.Replace(crashtest.EtcdManifest(""), "    - --data-dir",
				"    - --force-new-cluster\n    - --data-dir", 1)
			s.facts.Etcd.File = file("etcd.yaml", text)
		}, []string{"/m/etcd.yaml starts etcd with --force-new-cluster"}},
		{"kubeadm knows another data directory", func(s *seen) { s.kubeadms = "/old" },
			[]string{"etcd's data is in /var/lib/etcd, but kubeadm's ClusterConfiguration says /old"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := healthy(t)
			c.change(&s)
			w := s.status().Warnings
			if s.facts.RuntimeError != nil && len(w) > 0 {
				w = w[1:] // that is not what this is about
			}
			if len(w) != 1 {
				t.Fatalf("%q", w)
			}
			for _, part := range c.want {
				if !strings.Contains(w[0], part) {
					t.Errorf("%q is not in %q", part, w[0])
				}
			}
		})
	}
}

func TestTheImageOfAPodIsThatOfItsProgram(t *testing.T) {
	s := healthy(t)
	m, err := manifests.Parse([]byte(strings.Replace(crashtest.EtcdManifest(""), "  containers:\n",
		"  containers:\n  - name: shipper\n    image: logs:1\n    command: [fluent-bit]\n", 1)))
	if err != nil {
		t.Fatal(err)
	}
	s.facts.Manifests[0].Manifest = m
	if got := s.status().Manifests[0].Image; got != "registry.k8s.io/etcd:3.6.5-0" {
		t.Errorf("the image is %s", got)
	}
}
