package node

import (
	"os"
	"strings"
	"testing"
)

// systemd has loaded all this when the kubelet was started, and reads it again at its next start.
func TestAUnitThatSystemdWouldNotStartIsRecognized(t *testing.T) {
	const (
		usr    = "/usr/lib/systemd/system/kubelet.service"
		etc    = "/etc/systemd/system/kubelet.service"
		binary = "/usr/bin/kubelet"
		env    = "/etc/kubelet.env"
	)
	for name, c := range map[string]struct {
		files map[string]string
		masks string // a drop-in that leads to nothing
		says  string // empty: nothing is in the way
		cure  string
	}{
		"kubeadm's": {files: map[string]string{usr: debianUnit, usr + ".d/10-kubeadm.conf": kubeadmUnit, binary: ""}},
		"none":      {},
		"an environment file is gone": {files: map[string]string{binary: "",
			etc: "[Service]\nEnvironmentFile=" + env + "\nExecStart=/usr/bin/kubelet $ARGS\n"},
			says: "the EnvironmentFile " + env + " of its unit does not exist", cure: "put it back"},
		"it is there": {files: map[string]string{binary: "", env: "ARGS=--v=2\n",
			etc: "[Service]\nEnvironmentFile=" + env + "\nExecStart=/usr/bin/kubelet $ARGS\n"}},
		"it may be gone": {files: map[string]string{binary: "",
			etc: "[Service]\nEnvironmentFile=-" + env + "\nExecStart=/usr/bin/kubelet $ARGS\n"}},
		"which it is, cannot be told": {files: map[string]string{binary: "",
			etc: "[Service]\nEnvironmentFile=/etc/%p.env\nEnvironmentFile=/etc/k/*.env\nExecStart=/usr/bin/kubelet\n"}},
		"a drop-in takes it back": {files: map[string]string{binary: "",
			etc + ".d/1.conf": "[Service]\nEnvironmentFile=\n",
			usr:               "[Service]\nEnvironmentFile=" + env + "\nExecStart=/usr/bin/kubelet\n"}},
		"a drop-in that is masked": {files: map[string]string{binary: "", usr: debianUnit,
			usr + ".d/1.conf": "[Service]\nEnvironmentFile=" + env + "\n"}, masks: etc + ".d/1.conf"},
		"the binary is gone": {files: map[string]string{usr: debianUnit},
			says: "the program /usr/bin/kubelet, which its unit starts, does not exist", cure: "install it again"},
		"the binary is gone, and may fail": {files: map[string]string{
			etc: "[Service]\nExecStart=-/usr/bin/kubelet\n"}, says: "the program /usr/bin/kubelet"},
		"what comes before it is gone": {files: map[string]string{binary: "",
			etc: "[Service]\nExecStartPre=+/opt/prepare --all\nExecStart=/usr/bin/kubelet\n"},
			says: "the program /opt/prepare, which its unit starts, does not exist"},
		"that may fail": {files: map[string]string{binary: "",
			etc: "[Service]\nExecStartPre=-/opt/prepare --all\nExecStart=/usr/bin/kubelet\n"}},
		"a binary that is looked for": {files: map[string]string{etc: "[Service]\nExecStart=kubelet\n"}},
		"only a drop-in is where units are looked for": {files: map[string]string{
			etc + ".d/1.conf": "[Service]\nExecStart=/usr/bin/kubelet\n"}},
		"a root of its own": {files: map[string]string{
			etc: "[Service]\nRootDirectory=/srv/k\nExecStart=/usr/bin/kubelet\n"}},
		"a drop-in that adds a command": {files: map[string]string{binary: "", usr: debianUnit,
			etc + ".d/1.conf": "[Service]\nExecStart=/usr/bin/kubelet --v=4\n"},
			says: "more than one ExecStart=", cure: "an empty ExecStart="},
		"of one kind there may be several": {files: map[string]string{binary: "", usr: debianUnit,
			etc + ".d/1.conf": "[Service]\nType=oneshot\nExecStart=/usr/bin/kubelet --v=4\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := files(t, c.files)
			if c.masks != "" {
				if err := os.MkdirAll(f.Real(etc+".d"), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.Symlink("/dev/null", f.Real(c.masks)); err != nil {
					t.Fatal(err)
				}
			}
			got, err := readKubeletConfig(f, t.TempDir())
			if err != nil || (got.UnitFails == "") != (c.says == "") || !strings.Contains(got.UnitFails, c.says) ||
				!strings.Contains(got.UnitCure, c.cure) {
				t.Errorf("%q, cure %q, %v", got.UnitFails, got.UnitCure, err)
			}
		})
	}
}

func TestAMaskedKubeletIsRecognized(t *testing.T) {
	for dir, want := range map[string]bool{"/etc/systemd/system": true, "/run/systemd/system": true,
		"/usr/lib/systemd/system": false} {
		f := files(t, map[string]string{"/lib/systemd/system/kubelet.service": debianUnit, dir + "/other.service": "",
			"/usr/bin/kubelet": ""})
		unit := dir + "/kubelet.service"
		if err := os.Symlink("/dev/null", f.Real(unit)); err != nil {
			t.Fatal(err)
		}
		got, err := readKubeletConfig(f, t.TempDir())
		if err != nil || (got.UnitFails == "its unit is masked, by "+unit) != want {
			t.Errorf("%s: masked by %q, %v", unit, got.UnitFails, err)
		}
	}
}
