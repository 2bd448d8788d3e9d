package oracle

import (
	"bytes"
	"context"
	_ "embed"
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

	"github.com/etcdpod/etcdpod/e2e/binaries"
)

// skipped are the phases of `kubeadm init` that make nothing of etcd's.
var skipped = []string{
	"preflight", "certs/ca", "certs/apiserver", "certs/apiserver-kubelet-client",
	"certs/front-proxy-ca", "certs/front-proxy-client", "certs/sa", "kubeconfig",
	"control-plane/controller-manager", "control-plane/scheduler",
	"kubelet-start", "wait-control-plane", "upload-config", "upload-certs", "mark-control-plane",
	"bootstrap-token", "kubelet-finalize", "addon", "show-join-command",
}

// script runs a program on a host of its own: with that name, one interface with a default
// route, no way out, and a root where there is nothing but the case. It ends with 99 where it
// does not come as far.
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

//go:embed testdata/member/main.go
var member []byte

// Kubeadm is the real one of a version.
type Kubeadm struct {
	Version string
	kubeadm string
	member  string // testdata/member
}

// Build builds kubeadm.
func Build(ctx context.Context, version string) (Kubeadm, error) {
	k := Kubeadm{Version: version}
	var err error
	if k.kubeadm, err = binaries.Kubeadm(ctx, version); err != nil {
		return k, err
	}
	k.member, err = binaries.OnKubeadm(ctx, version, "member", member)
	return k, err
}

// command is what makes the files of a case below a root.
func (k Kubeadm) command(c Case, root string) []string {
	if c.Members != "" || c.V1 {
		return append([]string{k.member, root}, strings.Fields(c.Members)...)
	}
	command := []string{k.kubeadm, "init", "--rootfs", root, "--skip-phases", strings.Join(skipped, ",")}
	if c.Config != nil {
		command = append(command, "--config", "/"+configFile)
	}
	return append(command, c.FlagsFor(k.Version)...)
}

// Run lets kubeadm make what it makes of the case. Needs root. said is what it printed.
func (k Kubeadm) Run(ctx context.Context, c Case) (o Outcome, said string, err error) {
	said, err = k.run(ctx, c, k.command, func(root string) (err error) {
		if o.Manifest, err = readOptional(root, "etc/kubernetes/manifests/etcd.yaml"); err != nil {
			return err
		}
		if o.APIServer, err = etcdFlags(root); err != nil {
			return err
		}
		o.Certificates, err = certificates(root)
		return err
	})
	if errors.Is(err, errRefused) {
		return Outcome{Refused: true}, said, nil
	}
	return o, said, err
}

// Requests describes the requests that `kubeadm certs generate-csr` makes of the case, for etcd's
// certificates. Needs root.
func (k Kubeadm) Requests(ctx context.Context, c Case) (made string, err error) {
	command := func(_ Case, root string) []string {
		command := []string{k.kubeadm, "certs", "generate-csr", "--rootfs", root}
		if c.Config != nil {
			command = append(command, "--config", "/"+configFile)
		}
		return command
	}
	said, err := k.run(ctx, c, command, func(root string) error {
		dir, files, err := ofEtcd(root, ".csr", ".key")
		if err == nil {
			made, err = Requests(dir, files)
		}
		return err
	})
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, said)
	}
	return made, nil
}

var errRefused = errors.New("kubeadm refuses")

// run runs a command of kubeadm below a root where there is nothing but the case, and looks at
// what it has made there.
func (k Kubeadm) run(
	ctx context.Context, c Case, command func(Case, string) []string, look func(root string) error,
) (said string, err error) {
	root, err := os.MkdirTemp("", "oracle-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(root)) }()
	if err := c.write(root, k.Version); err != nil {
		return "", err
	}
	args := []string{"--mount", "--uts", "--net", "--pid", "--fork",
		"--propagation", "private", "sh", "-c", script, "sh", Hostname, DefaultAddress, root}
	cmd := exec.CommandContext(ctx, "unshare", append(args, command(c, root)...)...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && slices.Contains([]int{1, 3}, exit.ExitCode()): // 3: by validation
		return string(out), errRefused
	case err != nil:
		return string(out), fmt.Errorf("cannot run kubeadm %s: %w\n%s", k.Version, err, out)
	}
	return string(out), look(root)
}

// write lays the case out below a root.
func (c Case) write(root, version string) error {
	files := maps.Clone(c.Host)
	if c.Config != nil {
		files[configFile] = c.For(version)
	}
	if c.Cluster != nil {
		files[clusterFile] = c.ClusterFor(version)
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

// certificates describes those of etcd; "" where there are none.
func certificates(root string) (string, error) {
	dir, files, err := ofEtcd(root, ".crt", ".key")
	if err != nil || len(files) == 0 {
		return "", err
	}
	return Certificates(dir, files)
}

// ofEtcd finds the files with these endings that are of etcd's certificates, wherever the
// configuration has them.
func ofEtcd(root string, endings ...string) (dir string, files map[string]File, err error) {
	files = map[string]File{}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !slices.Contains(endings, filepath.Ext(path)) {
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
	return strings.TrimPrefix(dir, root), files, err
}
