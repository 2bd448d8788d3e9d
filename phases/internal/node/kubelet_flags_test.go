package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// files makes files in a root of their own.
func files(t *testing.T, all map[string]string) FS {
	t.Helper()
	f := OS(t.TempDir())
	for path, text := range all {
		if err := MkdirAll(f, filepath.Dir(path), Mine(0o755)); err != nil {
			t.Fatal(err)
		}
		if err := f.Create(path, []byte(text), Mine(0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// started makes what /proc shows of a process.
func started(t *testing.T, proc, pid, root, mounts, cwd string, argv ...string) {
	t.Helper()
	dir := filepath.Join(proc, pid)
	if err := os.MkdirAll(filepath.Join(dir, "ns"), 0o755); err != nil {
		t.Fatal(err)
	}
	if len(argv) > 0 {
		line := strings.Join(argv, "\x00") + "\x00"
		if err := os.WriteFile(filepath.Join(dir, "cmdline"), []byte(line), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"root": root, "cwd": cwd, "ns/mnt": "mnt:[" + mounts + "]"} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}

const (
	kubeletHead = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"
	debianUnit  = "[Unit]\nDescription=kubelet\n[Service]\nExecStart=/usr/bin/kubelet\nRestart=always\n"
	kubeadmUnit = "[Service]\nEnvironment=\"KUBELET_KUBECONFIG_ARGS=--kubeconfig=/etc/kubernetes/kubelet.conf\"\n" +
		"Environment=\"KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml\"\n" +
		"EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env\nEnvironmentFile=-/etc/default/kubelet\nExecStart=\n" +
		"ExecStart=/usr/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS " +
		"$KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS\n"
)

func TestTheKubeletsUnitSaysWhereItsConfigurationIs(t *testing.T) {
	const (
		usr = "/usr/lib/systemd/system/kubelet.service"
		etc = "/etc/systemd/system/kubelet.service"
	)
	for name, c := range map[string]struct {
		files map[string]string
		want  string // the static-pod directory
	}{
		"kubeadm's": {map[string]string{usr: debianUnit, usr + ".d/10-kubeadm.conf": kubeadmUnit,
			"/var/lib/kubelet/config.yaml": kubeletHead + "staticPodPath: /pods\n"}, "/pods"},
		"kubeadm's, with a flag of the operator's": {map[string]string{usr: debianUnit,
			usr + ".d/10-kubeadm.conf":     kubeadmUnit,
			"/etc/default/kubelet":         "# mine\nKUBELET_EXTRA_ARGS=\"--v=2 --pod-manifest-path=/extra\"\n",
			"/var/lib/kubelet/config.yaml": kubeletHead + "staticPodPath: /pods\n"}, "/extra"},
		// As the Kubernetes guide for external etcd has it: the configuration lies among the
		// drop-ins.
		"the guide's": {map[string]string{usr: debianUnit, usr + ".d/10-kubeadm.conf": kubeadmUnit,
			etc + ".d/20-etcd-service-manager.conf": "[Service]\nExecStart=\n# Replace the value of the socket.\n" +
				"ExecStart=/usr/bin/kubelet --config=/etc/systemd/system/kubelet.service.d/kubelet.conf\n" +
				"Restart=always\n",
			etc + ".d/kubelet.conf":        kubeletHead + "staticPodPath: /guide\n",
			"/var/lib/kubelet/config.yaml": kubeletHead + "staticPodPath: /pods\n"}, "/guide"},
		"in the unit itself, over lines": {map[string]string{
			etc:           "[Service]\nExecStart=-/opt/kubelet \\\n  --v=2 \\\n  --config=/opt/k.yaml\n",
			usr:           debianUnit,
			"/opt/k.yaml": kubeletHead + "staticPodPath: /opt/pods\n"}, "/opt/pods"},
		"a drop-in that hides another of its name": {map[string]string{usr: debianUnit,
			usr + ".d/10-x.conf": "[Service]\nExecStart=\nExecStart=/usr/bin/kubelet --pod-manifest-path=/old\n",
			etc + ".d/10-x.conf": "[Service]\nExecStart=\nExecStart=/usr/bin/kubelet --pod-manifest-path=/new\n"},
			"/new"},
		"an environment file of its own": {map[string]string{
			etc: "[Service]\nEnvironment=D=/nowhere\nEnvironmentFile=/etc/k.env\n" +
				"ExecStart=/usr/bin/kubelet --pod-manifest-path=${D}/pods $MORE\n",
			"/etc/k.env": "D='/srv/k'\nMORE=--v=1\n"}, "/srv/k/pods"},
		"a shell": {map[string]string{
			etc: "[Service]\nExecStart=/bin/sh -c 'exec /usr/bin/kubelet --pod-manifest-path=/shell >/dev/null'\n",
		}, "/shell"},
		"a directory of drop-ins": {map[string]string{
			etc:                             "[Service]\nExecStart=/usr/bin/kubelet --config-dir=/etc/kubelet.conf.d\n",
			"/etc/kubelet.conf.d/10/a.conf": kubeletHead + "staticPodPath: /ten\n",
			"/etc/kubelet.conf.d/20.conf":   kubeletHead + "staticPodPath: /twenty\n"}, "/twenty"},
		"a unit without environment files does not heed them": {map[string]string{
			etc:                                  "[Service]\nExecStart=/usr/bin/kubelet\n",
			"/var/lib/kubelet/kubeadm-flags.env": "KUBELET_KUBEADM_ARGS=--pod-manifest-path=/not-read\n"},
			"/etc/kubernetes/manifests"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := readKubeletConfig(files(t, c.files), t.TempDir())
			if err != nil || got.StaticPodPath != c.want {
				t.Errorf("%q, %v", got.StaticPodPath, err)
			}
		})
	}
}

func TestTheRunningKubeletSaysWhereItsConfigurationIs(t *testing.T) {
	f := files(t, map[string]string{
		"/etc/systemd/system/kubelet.service": "[Service]\nExecStart=/usr/bin/kubelet --pod-manifest-path=/unit\n",
		"/k/own.yaml":                         kubeletHead + "staticPodPath: pods\n",
	})
	other := t.TempDir()
	for name, c := range map[string]struct {
		processes func(proc string)
		want      string
	}{
		"none": {func(string) {}, "/unit"},
		"one": {func(proc string) {
			started(t, proc, "1", f.Real("/"), "1", "/", "/sbin/init")
			started(t, proc, "20", f.Real("/"), "1", "/k", "/usr/bin/kubelet", "--config", "own.yaml", "--v=2")
		}, "/k/pods"},
		"beside one of another root, and one of other mounts": {func(proc string) {
			started(t, proc, "20", f.Real("/"), "1", "/", "kubelet", "--pod-manifest-path=/ours")
			started(t, proc, "30", other, "1", "/", "kubelet", "--pod-manifest-path=/theirs")
			started(t, proc, "40", f.Real("/"), "2", "/", "kubelet", "--pod-manifest-path=/container")
		}, "/ours"},
		"only one, with mounts of its own": {func(proc string) {
			started(t, proc, "20", f.Real("/"), "2", "/", "kubelet", "--pod-manifest-path=/own-mounts")
		}, "/own-mounts"},
		"two that may be meant": {func(proc string) {
			started(t, proc, "20", f.Real("/"), "1", "/", "kubelet", "--pod-manifest-path=/a")
			started(t, proc, "30", f.Real("/"), "1", "/", "kubelet", "--pod-manifest-path=/b")
		}, "/unit"},
		"something else of a kubelet": {func(proc string) {
			started(t, proc, "20", f.Real("/"), "1", "/", "tail", "-f", "/var/log/kubelet")
		}, "/unit"},
	} {
		t.Run(name, func(t *testing.T) {
			proc := t.TempDir()
			started(t, proc, "self", f.Real("/"), "1", "/")
			c.processes(proc)
			got, err := readKubeletConfig(f, proc)
			if err != nil || got.StaticPodPath != c.want {
				t.Errorf("%q, %v", got.StaticPodPath, err)
			}
		})
	}
}

func TestWhatTheKubeletReachesTheAPIServerWith(t *testing.T) {
	f := files(t, map[string]string{"/etc/systemd/system/kubelet.service": "[Service]\nExecStart=/usr/bin/kubelet " +
		"--kubeconfig=/unit.conf --bootstrap-kubeconfig /unit-first.conf\n"})
	for name, c := range map[string]struct {
		argv            []string // of the kubelet that runs
		want, bootstrap string
	}{
		"as the unit has it":     {nil, "/unit.conf", "/unit-first.conf"},
		"as the running one has": {[]string{"kubelet", "--kubeconfig", "own.conf"}, "/k/own.conf", ""},
		"none":                   {[]string{"kubelet", "--v=2"}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			proc := t.TempDir()
			started(t, proc, "self", f.Real("/"), "1", "/")
			if c.argv != nil {
				started(t, proc, "20", f.Real("/"), "1", "/k", c.argv...)
			}
			got, err := readKubeletConfig(f, proc)
			if err != nil || got.Kubeconfig != c.want || got.Bootstrap != c.bootstrap {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}
