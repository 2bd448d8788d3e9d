package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// imageName is the image's name before the tag. No machine pulls from localhost: it is what was
// imported there, or nothing.
const imageName = "localhost/etcdpod"

// image makes an archive of an image for all architectures, in the layout of the OCI.
func (r *release) image(dir string, builds []build) error {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, b := range builds {
		image, err := r.imageOf(b)
		if err != nil {
			return err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{
			Platform: &v1.Platform{OS: "linux", Architecture: b.arch},
		}})
	}
	index = mutate.Annotations(index, r.labels()).(v1.ImageIndex)
	work := filepath.Join(r.work, "image")
	path, err := layout.Write(work, empty.Index)
	if err != nil {
		return err
	}
	err = path.AppendIndex(index, layout.WithAnnotations(map[string]string{
		"io.containerd.image.name":          imageName + ":" + r.version.tag(),
		"org.opencontainers.image.ref.name": r.version.tag(),
	}))
	if err != nil {
		return err
	}
	return r.bundle(work, filepath.Join(dir, "etcdpod_"+r.version.String()+"_oci.tar"))
}

// labels are what registries and tools show of an image.
func (r *release) labels() map[string]string {
	of := func(name string) string { return "org.opencontainers.image." + name }
	return map[string]string{
		of("title"): "etcdpod", of("description"): summary, of("version"): r.version.String(),
		of("revision"): r.commit, of("created"): r.date.Format("2006-01-02T15:04:05Z"),
		of("licenses"): "Apache-2.0", of("url"): homepage, of("source"): homepage,
	}
}

// imageOf makes the image for one architecture: the binary, and its terms of use.
func (r *release) imageOf(b build) (v1.Image, error) {
	var content bytes.Buffer
	w := tar.NewWriter(&content)
	for _, one := range b.files {
		switch one.archive {
		case "etcdpod", "LICENSE", "THIRD_PARTY_LICENSES":
		default:
			continue
		}
		data, err := os.ReadFile(one.source)
		if err != nil {
			return nil, err
		}
		if err := writeTar(w, strings.TrimPrefix(one.system, "/"), one.mode, data, r.date); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content.Bytes())), nil
	}, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	if image, err = mutate.AppendLayers(image, layer); err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", b.arch, v1.Time{Time: r.date}
	config.History = []v1.History{{Created: v1.Time{Time: r.date}, CreatedBy: "make dist"}}
	config.Config = v1.Config{Entrypoint: []string{"/usr/bin/etcdpod"}, WorkingDir: "/",
		Env: []string{"PATH=/usr/bin"}, Labels: r.labels()}
	return mutate.ConfigFile(image, config)
}

// bundle writes the files below a directory as a tar, in the order of their names.
func (r *release) bundle(dir, to string) (err error) {
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := tar.NewWriter(f)
	err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return writeTar(w, name, 0o644, data, r.date)
	})
	return errors.Join(err, w.Close())
}
