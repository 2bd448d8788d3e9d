package rig

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/etcdpod/etcdpod/e2e/binaries"
)

const registry = "registry.k8s.io/"

// The image names of kubeadm 1.37.2 (constants.PauseVersion, DefaultEtcdVersion), and the one
// that an upgrade may use.
const (
	pauseImage  = registry + "pause:3.10.2"
	kubeadmEtcd = "3.7.0-0"
	// An image tag of etcd that every node has, other than kubeadm's own.
	UpgradedEtcd  = binaries.Etcd37 + "-0"
	etcdTagSuffix = "-0"
)

// image is one static binary and its image names.
type image struct {
	Program string // its name, in /usr/local/bin of the image
	Binary  string
	Names   []string
}

// archives returns docker archives of all images that the nodes need. They are kept in the
// cluster's directory.
func (c *Cluster) archives(ctx context.Context) ([]string, error) {
	images := []image{{Program: "pause", Binary: filepath.Join(c.bin(), "nodeinit"), Names: []string{pauseImage}}}
	for _, program := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
		binary, err := binaries.Kubernetes(ctx, program)
		if err != nil {
			return nil, err
		}
		images = append(images, image{program, binary,
			[]string{registry + program + ":v" + binaries.KubernetesVersion}})
	}
	newest, err := binaries.Etcd(ctx, binaries.Etcd37)
	if err != nil {
		return nil, err
	}
	images = append(images, image{
		"etcd", newest, []string{registry + "etcd:" + kubeadmEtcd, registry + "etcd:" + UpgradedEtcd},
	})
	if v := c.EtcdVersion; v != "" && v != binaries.Etcd37 {
		older, err := binaries.Etcd(ctx, v)
		if err != nil {
			return nil, err
		}
		images = append(images, image{"etcd", older, []string{registry + "etcd:" + v + etcdTagSuffix}})
	}
	var files []string
	for i, m := range images {
		file := filepath.Join(c.Dir, fmt.Sprintf("image-%d-%s.tar", i, m.Program))
		if err := m.archive(file); err != nil {
			return nil, fmt.Errorf("cannot make an image of %s: %w", m.Binary, err)
		}
		files = append(files, file)
	}
	return files, nil
}

// archive writes a docker archive of one layer (the format of docker save).
func (m image) archive(path string) error {
	binary, err := os.ReadFile(m.Binary)
	if err != nil {
		return err
	}
	layer, err := m.layer(binary)
	if err != nil {
		return err
	}
	diff := sha256.Sum256(layer)
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"Env": []string{"PATH=/usr/local/bin"},
			"Entrypoint": []string{"/usr/local/bin/" + m.Program}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(diff[:])}},
	})
	if err != nil {
		return err
	}
	id := sha256.Sum256(config)
	name := hex.EncodeToString(id[:]) + ".json"
	manifest, err := json.Marshal([]map[string]any{
		{"Config": name, "RepoTags": m.Names, "Layers": []string{"layer.tar"}},
	})
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := tar.NewWriter(f)
	for _, part := range []struct {
		name string
		data []byte
	}{{name, config}, {"layer.tar", layer}, {"manifest.json", manifest}} {
		if err := writeFile(w, part.name, 0o644, part.data); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return f.Close()
}

func (m image) layer(binary []byte) ([]byte, error) {
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for _, dir := range []tar.Header{
		{Name: "tmp/", Mode: 0o1777}, {Name: "usr/", Mode: 0o755},
		{Name: "usr/local/", Mode: 0o755}, {Name: "usr/local/bin/", Mode: 0o755},
	} {
		dir.Typeflag, dir.ModTime = tar.TypeDir, time.Unix(0, 0)
		if err := w.WriteHeader(&dir); err != nil {
			return nil, err
		}
	}
	if err := writeFile(w, "usr/local/bin/"+m.Program, 0o755, binary); err != nil {
		return nil, err
	}
	err := w.Close()
	return layer.Bytes(), err
}

func writeFile(w *tar.Writer, name string, mode int64, data []byte) error {
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: mode,
		Size: int64(len(data)), ModTime: time.Unix(0, 0)}); err != nil {
		return err
	}
	_, err := io.Copy(w, bytes.NewReader(data))
	return err
}

// install switches on a new machine, with everything that kubeadm needs there.
func (n *Node) install(ctx context.Context, images []string) error {
	if err := n.boot(ctx, "containerd", "ssh"); err != nil {
		return err
	}
	return n.importImages(ctx, images)
}

func (n *Node) importImages(ctx context.Context, archives []string) error {
	for _, file := range archives {
		if _, err := n.Exec(ctx, "ctr", "--namespace", "k8s.io", "images", "import", file); err != nil {
			return fmt.Errorf("cannot import %s: %w", file, err)
		}
	}
	return nil
}

func removeAll(files []string) {
	for _, file := range files {
		os.Remove(file)
	}
}
