//go:build e2e

package oracle

import (
	"testing"

	"github.com/etcdpod/etcdpod/e2e/binaries"
)

// The goldens are not taken on trust: of the newest version they are what kubeadm makes, here and now.
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
					Diff(want.Manifest+want.APIServer+want.Certificates, got.Manifest+got.APIServer+got.Certificates), said)
			}
		})
	}
}
