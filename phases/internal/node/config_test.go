package node_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

const containerd = "unix:///run/containerd/containerd.sock"

func TestReadKubeletConfig(t *testing.T) {
	const (
		config   = "/var/lib/kubelet/config.yaml"
		instance = "/var/lib/kubelet/instance-config.yaml"
		kubeadm  = "/var/lib/kubelet/kubeadm-flags.env"
		head     = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"
	)
	for _, c := range []struct {
		name  string
		files map[string]string
		want  node.KubeletConfig
	}{
		{"nothing at all gives kubeadm's defaults", nil,
			node.KubeletConfig{StaticPodPath: "/etc/kubernetes/manifests", RuntimeEndpoint: containerd}},
		{"the configuration file", map[string]string{
			config: head +
				"staticPodPath: /pods\ncontainerRuntimeEndpoint: unix:///run/a.sock\nstaticPodURL: http://pods\n",
		},
			node.KubeletConfig{StaticPodPath: "/pods", RuntimeEndpoint: "unix:///run/a.sock",
				StaticPodURL: "http://pods"}},
		{"a field of a newer kubelet is passed over",
			map[string]string{config: head + "fromTheFuture: {a: 1}\nstaticPodPath: /pods\n"},
			node.KubeletConfig{StaticPodPath: "/pods", RuntimeEndpoint: containerd}},
		{"a relative path is taken from the file's directory",
			map[string]string{config: head + "staticPodPath: pods/here\n"},
			node.KubeletConfig{StaticPodPath: "/var/lib/kubelet/pods/here", RuntimeEndpoint: containerd}},
		{"an endpoint without a scheme is a socket",
			map[string]string{config: head + "containerRuntimeEndpoint: /run/a.sock\n"},
			node.KubeletConfig{StaticPodPath: "/etc/kubernetes/manifests", RuntimeEndpoint: "unix:///run/a.sock"}},
		{"the instance file wins over the configuration file", map[string]string{
			config:   head + "staticPodPath: /pods\ncontainerRuntimeEndpoint: unix:///run/a.sock\n",
			instance: head + "containerRuntimeEndpoint: unix:///run/b.sock\n"},
			node.KubeletConfig{StaticPodPath: "/pods", RuntimeEndpoint: "unix:///run/b.sock"}},
		{"kubeadm's flags win over files", map[string]string{
			config: head + "staticPodPath: /pods\ncontainerRuntimeEndpoint: unix:///run/a.sock\n",
			kubeadm: `KUBELET_KUBEADM_ARGS="--container-runtime-endpoint=unix:///run/c.sock ` +
				`--pod-manifest-path /flagged --hostname-override=CP4 --v=2"` + "\n"},
			node.KubeletConfig{StaticPodPath: "/flagged", RuntimeEndpoint: "unix:///run/c.sock", Hostname: "cp4"}},
		{"the operator's flags win over kubeadm's", map[string]string{
			kubeadm:                  "KUBELET_KUBEADM_ARGS=\"--manifest-url=http://a\"\n",
			"/etc/default/kubelet":   "# extra\nKUBELET_EXTRA_ARGS=--manifest-url=http://b\n",
			"/etc/sysconfig/kubelet": "KUBELET_EXTRA_ARGS='--pod-manifest-path=/c'\n"},
			node.KubeletConfig{StaticPodPath: "/c", StaticPodURL: "http://b", RuntimeEndpoint: containerd}},
		{"the last setting of a variable counts", map[string]string{
			kubeadm: "KUBELET_KUBEADM_ARGS=--pod-manifest-path=/a\nKUBELET_KUBEADM_ARGS=--pod-manifest-path=/b\n",
		},
			node.KubeletConfig{StaticPodPath: "/b", RuntimeEndpoint: containerd}},
		{"a configuration file elsewhere, with drop-ins", map[string]string{
			kubeadm:                "KUBELET_KUBEADM_ARGS=\"--config=/opt/k/main.yaml --config-dir=/opt/d\"\n",
			config:                 head + "staticPodPath: /not-read\n",
			"/opt/k/main.yaml":     head + "staticPodPath: pods\n",
			"/opt/d/20.conf":       head + "containerRuntimeEndpoint: unix:///run/20.sock\n",
			"/opt/d/10.conf":       head + "containerRuntimeEndpoint: unix:///run/10.sock\n",
			"/opt/d/30.conf.saved": head + "containerRuntimeEndpoint: unix:///run/30.sock\n"},
			node.KubeletConfig{StaticPodPath: "/opt/k/pods", RuntimeEndpoint: "unix:///run/20.sock"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := node.ReadKubeletConfig(tree(t, c.files))
			if err != nil || got != c.want {
				t.Errorf("got %+v, %v, want %+v", got, err, c.want)
			}
		})
	}
}

func TestABrokenKubeletConfigurationIsNamed(t *testing.T) {
	const path = "/var/lib/kubelet/config.yaml"
	for _, c := range []struct{ name, path, text, want string }{
		{"no YAML", path, "staticPodPath: [", "cannot read the kubelet's configuration " + path},
		{"a number for a path", path, "staticPodPath: {a: b}", "cannot read the kubelet's configuration " + path},
		{"another kind", path, "kind: Pod", "it is a Pod, not a KubeletConfiguration"},
		{"an open quote", "/var/lib/kubelet/kubeadm-flags.env",
			`KUBELET_KUBEADM_ARGS="--v=2`, "flags in /var/lib/kubelet/kubeadm-flags.env: an unclosed quote"},
		{"a relative flag", "/etc/default/kubelet", `KUBELET_EXTRA_ARGS=--pod-manifest-path=pods`,
			"--pod-manifest-path=pods is relative"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := node.ReadKubeletConfig(tree(t, map[string]string{c.path: c.text}))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want %q", err, c.want)
			}
		})
	}
}

func TestTheSocketThatIsThereIsFound(t *testing.T) {
	root := shortDir(t)
	ok(t, os.MkdirAll(filepath.Join(root, "run/crio"), 0o755))
	ok(t, os.MkdirAll(filepath.Join(root, "var"), 0o755))
	ok(t, os.Symlink("/run", filepath.Join(root, "var/run")))
	listener, err := net.Listen("unix", filepath.Join(root, "run/crio/crio.sock"))
	ok(t, err)
	defer listener.Close()
	got, err := node.ReadKubeletConfig(node.OS(root))
	if err != nil || got.RuntimeEndpoint != "unix:///var/run/crio/crio.sock" {
		t.Errorf("got %+v, %v", got, err)
	}
}

// tree makes files in a root of their own.
func tree(t *testing.T, files map[string]string) node.FS {
	t.Helper()
	f := node.OS(t.TempDir())
	for path, text := range files {
		ok(t, node.MkdirAll(f, filepath.Dir(path), node.Mine(0o755)))
		ok(t, f.Create(path, []byte(text), node.Mine(0o644)))
	}
	return f
}

// shortDir is a temporary directory whose path leaves room for a socket's name.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "n")
	ok(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
