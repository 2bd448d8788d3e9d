package oracle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// skipped are the phases of `kubeadm init` that make nothing of etcd's.
var skipped = []string{
	"preflight", "certs/ca", "certs/apiserver", "certs/apiserver-kubelet-client", "certs/front-proxy-ca", "certs/front-proxy-client", "certs/sa", "kubeconfig",
	"control-plane/controller-manager", "control-plane/scheduler", "kubelet-start", "wait-control-plane", "upload-config", "upload-certs", "mark-control-plane",
	"bootstrap-token", "kubelet-finalize", "addon", "show-join-command",
}

// notBegun is how the script says that it did not come as far as kubeadm.
const notBegun = 99

// script runs kubeadm on a host of its own: with that name, one interface with a default route, no way out, and a root where there is nothing but the configuration.
const script = `
(
	set -e
	hostname "$1"
	ip link set lo up
	ip link add e0 type veth peer name e1
	ip addr add "$2/24" dev e0
	ip link set e1 up
	ip link set e0 up
	ip route add default via 10.0.0.1
	mount -t proc proc "$3/proc"
) || exit 99
shift 3
exec "$@"
`

// Run lets the real kubeadm of a version, the program at a path, make what it makes of the case. Needs root. said is what it printed.
func (c Case) Run(ctx context.Context, kubeadm, version string) (o Outcome, said string, err error) {
	root, err := os.MkdirTemp("", "oracle-")
	if err != nil {
		return o, "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(root)) }()
	if err := c.write(root, version); err != nil {
		return o, "", err
	}
	args := []string{"--mount", "--uts", "--net", "--pid", "--fork", "--propagation", "private", "sh", "-c", script, "sh", Hostname, DefaultAddress, root,
		kubeadm, "init", "--rootfs", root, "--skip-phases", strings.Join(skipped, ",")}
	if c.Config != nil {
		args = append(args, "--config", "/"+configFile)
	}
	cmd := exec.CommandContext(ctx, "unshare", append(args, c.FlagsFor(version)...)...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && slices.Contains([]int{1, 3}, exit.ExitCode()): // 3: by validation
		return Outcome{Refused: true}, string(out), nil
	case err != nil:
		return o, string(out), fmt.Errorf("cannot run kubeadm %s: %w\n%s", version, err, out)
	}
	if o.Manifest, err = readOptional(root, "etc/kubernetes/manifests/etcd.yaml"); err != nil {
		return o, string(out), err
	}
	if o.APIServer, err = etcdFlags(root); err != nil {
		return o, string(out), err
	}
	o.Certificates, err = certificates(root)
	return o, string(out), err
}

// write lays the case out below a root.
func (c Case) write(root, version string) error {
	files := maps.Clone(c.Host)
	if c.Config != nil {
		files[configFile] = c.For(version)
	}
	for file, text := range c.Patches {
		files[filepath.Join(PatchesDir, file)] = text
	}
	if err := os.Mkdir(filepath.Join(root, "proc"), 0o755); err != nil {
		return err
	}
	for file, text := range files {
		path := filepath.Join(root, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func readOptional(root, file string) (string, error) {
	text, err := os.ReadFile(filepath.Join(root, file))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(text), err
}

// etcdFlags are those of the API server's manifest.
func etcdFlags(root string) (string, error) {
	text, err := os.ReadFile(filepath.Join(root, "etc/kubernetes/manifests/kube-apiserver.yaml"))
	if err != nil {
		return "", err
	}
	var pod struct {
		Spec struct{ Containers []struct{ Command []string } }
	}
	if err := yaml.Unmarshal(text, &pod); err != nil || len(pod.Spec.Containers) != 1 {
		return "", fmt.Errorf("cannot read the API server's manifest: %d containers, %w", len(pod.Spec.Containers), err)
	}
	var b bytes.Buffer
	for _, arg := range pod.Spec.Containers[0].Command {
		if strings.HasPrefix(arg, "--etcd-") {
			fmt.Fprintln(&b, arg)
		}
	}
	return b.String(), nil
}

// certificates finds those of etcd, wherever the configuration has them, and describes them; "" where there are none.
func certificates(root string) (string, error) {
	dir := ""
	files := map[string]File{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !slices.Contains([]string{".crt", ".key"}, filepath.Ext(path)) {
			return err
		}
		name, parent := filepath.Base(path), filepath.Dir(path)
		switch {
		case filepath.Base(parent) == "etcd":
			name, parent = "etcd/"+name, filepath.Dir(parent)
		case !strings.HasPrefix(name, "apiserver-etcd-client."):
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if dir != "" && dir != parent {
			return fmt.Errorf("there are certificates in %s and in %s", dir, parent)
		}
		dir, files[name] = parent, File{Data: data, Mode: info.Mode()}
		return nil
	})
	if err != nil || len(files) == 0 {
		return "", err
	}
	return Certificates(strings.TrimPrefix(dir, root), files)
}
