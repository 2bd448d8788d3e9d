package node

import (
	"os"
	"testing"
)

func TestAMaskedKubeletIsRecognized(t *testing.T) {
	for dir, want := range map[string]bool{"/etc/systemd/system": true, "/run/systemd/system": true,
		"/usr/lib/systemd/system": false} {
		f := files(t, map[string]string{"/lib/systemd/system/kubelet.service": debianUnit, dir + "/other.service": ""})
		unit := dir + "/kubelet.service"
		if err := os.Symlink("/dev/null", f.Real(unit)); err != nil {
			t.Fatal(err)
		}
		got, err := readKubeletConfig(f, t.TempDir())
		if err != nil || (got.Masked == unit) != want {
			t.Errorf("%s: masked by %q, %v", unit, got.Masked, err)
		}
	}
}
