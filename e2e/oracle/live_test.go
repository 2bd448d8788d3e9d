//go:build e2e

package oracle

import (
	"slices"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/e2e/binaries"
	"github.com/etcdpod/etcdpod/pki"
)

// The goldens are not taken on trust: of the newest version they are what kubeadm
// makes, here and now.
func TestTheGoldensAreWhatKubeadmMakes(t *testing.T) {
	const version = binaries.KubernetesVersion
	kubeadm, err := Build(t.Context(), version)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range allCases(t) {
		want, there := c.Golden[version]
		if !there { // it is for others only
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			got, said, err := kubeadm.Run(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			if got != want {
				t.Errorf("refused: %v, in the golden: %v\n%s\nkubeadm said:\n%s", got.Refused, want.Refused,
					Diff(want.Manifest+want.APIServer+want.Certificates,
						got.Manifest+got.APIServer+got.Certificates), said)
			}
		})
	}
}

// Of a configuration kubeadm's requests for an external CA are what etcdpod's are, but for the one
// thing that departures.go declares.
func TestRequestsAreThoseThatKubeadmMakes(t *testing.T) {
	const version = binaries.KubernetesVersion
	kubeadm, err := Build(t.Context(), version)
	if err != nil {
		t.Fatal(err)
	}
	// Of those that matter to certificates, and that are told by the configuration
	// alone, without flags.
	names := []string{
		"address-mapped", "address-zeros", "algorithm-ecdsa-p256",
		"algorithm-ecdsa-p384", "algorithm-rsa-3072", "certificates-dir", "certificates-dir-odd", "dual-stack",
		"external", "flow", "ipv6", "node-name", "node-name-long", "plain", "sans", "validity", "whole", "yaml-1.1",
	}
	compared := 0
	for _, c := range allCases(t) {
		if !slices.Contains(names, c.Name) {
			continue
		}
		compared++
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			want, err := kubeadm.Requests(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			dir, config, err := c.PKI(version)
			if c.Name == "external" && err == nil && dir == "" { // the other departure
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := Ask(dir, pki.Issuer{Config: config, Now: time.Now()})
			if err != nil {
				t.Fatal(err)
			}
			if _, kubeadms := RequestsDepart(want); kubeadms > 0 {
				t.Error("kubeadm asks for the extended key usage: departures.go says that it does not")
			}
			rest, took := RequestsDepart(got)
			if rest != want || took != len(pki.EtcdSpecs())-1 {
				t.Errorf("%d of etcdpod's ask for the extended key usage; besides, they differ from kubeadm's in\n%s",
					took, Diff(want, rest))
			}
		})
	}
	if compared != len(names) {
		t.Errorf("%d configurations were compared, and not %d", compared, len(names))
	}
}
