package certs

import (
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/manifests"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/observe"
)

func TestAnEtcdThatWouldThrowOutTheOthersIsNotStartedAnew(t *testing.T) {
	m, err := manifests.Parse([]byte(strings.Replace(crashtest.EtcdManifest(""), "    - --data-dir",
		"    - --force-new-cluster=true\n    - --data-dir", 1)))
	if err != nil {
		t.Fatal(err)
	}
	two := &observe.Live{Members: []observe.Member{{ID: 1}, {ID: 2}}}
	for name, c := range map[string]struct {
		live    *observe.Live
		program string
		refused bool
	}{
		"beside another":              {two, "etcd", true},
		"nobody knows beside whom":    {nil, "etcd", true},
		"alone":                       {&observe.Live{Members: two.Members[:1]}, "etcd", false},
		"the API server alone starts": {two, "kube-apiserver", false},
	} {
		f := &Facts{Facts: crashtest.SeenFacts(t, "r1"), Renewal: &RenewalFacts{Uses: []certUse{{program: c.program}}}}
		f.Live, f.Etcd.File.Manifest = c.live, m
		if err := (RenewOptions{}).checkForced(f); (err != nil) != c.refused {
			t.Errorf("%s: %v", name, err)
		}
	}
}
