package templates_test

import (
	"testing"

	"github.com/etcdpod/etcdpod/e2e/binaries"
	"github.com/etcdpod/etcdpod/e2e/oracle"
)

// For each of the oracle's configurations etcd.yaml is kubeadm's byte for byte, the API server's
// flags for etcd are kubeadm's, and what kubeadm refuses is refused. Exceptions are declared in
// oracle.Departures, and must really differ.
func TestEtcdpodRendersWhatKubeadmRenders(t *testing.T) {
	cases, err := oracle.Cases(binaries.KubeadmVersions())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		for _, version := range c.Versions {
			want, there := c.Golden[version]
			if !there {
				t.Errorf("%s: there is no golden of kubeadm %s: run `make goldens`", c.Name, version)
				continue
			}
			got, err := c.Render(version)
			if differs, declared := got.Differs(want), c.Departure(version)&^oracle.Certs; differs != declared {
				t.Errorf("%s, kubeadm %s: what differs is %v, what is declared %v: %v\n%s", c.File(), version,
					differs, declared, err, oracle.Diff(want.Manifest+want.APIServer, got.Manifest+got.APIServer))
			}
		}
	}
}
