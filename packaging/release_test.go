package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"debug/buildinfo"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// TestARelease looks at what `make dist` has made, or without it at what it makes first, and makes
// it anew somewhere else.
func TestARelease(t *testing.T) {
	made := source{root: "..", version: cmp.Or(os.Getenv("VERSION"), strings.Repeat("c", 12)),
		commit: cmp.Or(os.Getenv("COMMIT"), strings.Repeat("c", 40)),
		epoch:  cmp.Or(os.Getenv("EPOCH"), "1780000000")}
	dir := os.Getenv("ETCDPOD_DIST")
	if dir == "" {
		dir = filepath.Join(t.TempDir(), "dist")
		if err := run(t.Context(), append(made.flags(), "-out", dir)); err != nil {
			t.Fatal(err)
		}
	}
	v, err := parseVersion(made.version)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("has the checksums of all its files", func(t *testing.T) { hasSums(t, dir) })
	for _, arch := range architectures() {
		t.Run("has an archive for "+arch, func(t *testing.T) { hasArchive(t, dir, v, arch, made.commit) })
	}
	t.Run("has an image", func(t *testing.T) { hasImage(t, dir, v, made.commit) })
	t.Run("is the same bytes elsewhere", func(t *testing.T) { sameElsewhere(t, dir, made) })
}

// source is what a release is made of.
type source struct{ root, version, commit, epoch string }

func (s source) flags() []string {
	return []string{"-root", s.root, "-version", s.version, "-commit", s.commit, "-epoch", s.epoch}
}

// sameElsewhere makes the release from a copy of the source, with as much around it changed as can
// be; with ETCDPOD_COLD not even what Go compiled before is used.
func sameElsewhere(t *testing.T, dir string, s source) {
	elsewhere := t.TempDir()
	s.root = filepath.Join(elsewhere, "another name")
	copySource(t, s.root)
	packager := filepath.Join(elsewhere, "packaging")
	must(t, exec.Command("go", "build", "-o", packager, "."))
	again := filepath.Join(elsewhere, "again")
	cmd := exec.Command("sh", append([]string{"-c", `umask 077; exec "$@"`, "sh",
		packager, "-out", again}, s.flags()...)...)
	goEnv := strings.Split(strings.TrimSpace(string(must(t, exec.Command("go", "env", "GOCACHE", "GOMODCACHE")))), "\n")
	if os.Getenv("ETCDPOD_COLD") != "" {
		goEnv[0] = filepath.Join(elsewhere, "cache")
	}
	for _, name := range []string{"home", "tmp"} {
		if err := os.Mkdir(filepath.Join(elsewhere, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	cmd.Dir = elsewhere
	cmd.Env = append(os.Environ(), "GOCACHE="+goEnv[0], "GOMODCACHE="+goEnv[1], "HOME="+elsewhere+"/home",
		"TMPDIR="+elsewhere+"/tmp", "TZ=Pacific/Chatham", "LC_ALL=C", "COLUMNS=40", "NO_COLOR=1",
		"GOFLAGS=-tags=other", "GOAMD64=v2", "SOURCE_DATE_EPOCH=1", "USER=somebody")
	must(t, cmd)
	first, second := checksums(t, dir), checksums(t, again)
	for name := range first {
		if first[name] != second[name] {
			t.Errorf("%s differs when it is made elsewhere", name)
		}
	}
	if len(first) != len(second) || len(first) != 10 {
		t.Errorf("there are %d artefacts, and %d elsewhere", len(first), len(second))
	}
}

// copySource copies what git tracks, or would, as it is in the tree now.
func copySource(t *testing.T, to string) {
	t.Helper()
	list := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = ".."
	for _, name := range strings.Split(strings.TrimSuffix(string(must(t, list)), "\x00"), "\x00") {
		data, err := os.ReadFile(filepath.Join("..", name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.MkdirAll(filepath.Dir(filepath.Join(to, name)), 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(to, name), data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func must(t *testing.T, cmd *exec.Cmd) []byte {
	t.Helper()
	out, err := output(cmd)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func checksums(t *testing.T, dir string) map[string][sha256.Size]byte {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string][sha256.Size]byte{}
	for _, e := range entries {
		sums[e.Name()] = sha256.Sum256(read(t, dir, e.Name()))
	}
	return sums
}

func read(t *testing.T, path ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func hasSums(t *testing.T, dir string) {
	var want strings.Builder
	sums := checksums(t, dir)
	delete(sums, sumsName)
	names := []string{}
	for name := range sums {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(&want, "%x  %s\n", sums[name], name)
	}
	if got := string(read(t, dir, sumsName)); got != want.String() || len(names) != 9 {
		t.Errorf("%s holds\n%sand not\n%s", sumsName, got, want.String())
	}
}

func hasArchive(t *testing.T, dir string, v version, arch, commit string) {
	name := fmt.Sprintf("etcdpod_%s_linux_%s", v, arch)
	unzipped, err := gzip.NewReader(bytes.NewReader(read(t, dir, name+".tar.gz")))
	if err != nil {
		t.Fatal(err)
	}
	files := untar(t, unzipped)
	for _, one := range []string{"LICENSE", "README.md", "CHANGELOG.md", "man/etcdpod.8", "man/etcdpod-certs-renew.8",
		"completions/etcdpod.bash", "completions/_etcdpod", "completions/etcdpod.fish", "docs/runbooks/quorum-lost.md",
		"docs/schema/status.json", "docs/schema/error.json"} {
		if len(files[name+"/"+one]) == 0 {
			t.Errorf("the archive has no %s", one)
		}
	}
	binary := files[name+"/etcdpod"]
	isStatic(t, binary, arch)
	if !bytes.Contains(binary, []byte(v.described)) || !bytes.Contains(binary, []byte(commit)) {
		t.Errorf("the binary does not know its version %s and commit %s", v.described, commit)
	}
	if arch == runtime.GOARCH {
		namesImage(t, binary, v)
	}
	info, err := buildinfo.Read(bytes.NewReader(binary))
	if err != nil {
		t.Fatal(err)
	}
	var bill struct {
		Components []struct{ Name, Version string }
	}
	if err := json.Unmarshal(read(t, dir, name+".cdx.json"), &bill); err != nil {
		t.Fatal(err)
	}
	listed := map[string]string{}
	for _, c := range bill.Components {
		listed[c.Name] = c.Version
	}
	for _, m := range info.Deps {
		if listed[m.Path] != m.Version {
			t.Errorf("the bill of materials has %s %q, and the binary %s", m.Path, listed[m.Path], m.Version)
		}
		if !bytes.Contains(files[name+"/THIRD_PARTY_LICENSES"], []byte("\n"+m.Path+" "+m.Version+"\n")) {
			t.Errorf("the terms of %s are missing", m.Path)
		}
	}
	if len(info.Deps) < 20 {
		t.Errorf("the binary says that it is made of %d modules only", len(info.Deps))
	}
}

// namesImage insists that a CronJob has the image of the same release.
func namesImage(t *testing.T, binary []byte, v version) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "etcdpod")
	if err := os.WriteFile(program, binary, 0o700); err != nil {
		t.Fatal(err)
	}
	unit := must(t, exec.Command(program, "units", "cronjob", "defrag"))
	if want := fmt.Sprintf("image: %q\n", imageName+":"+v.tag()); !bytes.Contains(unit, []byte(want)) {
		t.Errorf("the CronJob has not %s:\n%s", want, unit)
	}
}

// isStatic insists on a program for Linux that needs nothing else.
func isStatic(t *testing.T, binary []byte, arch string) {
	t.Helper()
	f, err := elf.NewFile(bytes.NewReader(binary))
	if err != nil {
		t.Fatal(err)
	}
	if want := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[arch]; f.Machine != want {
		t.Errorf("the binary is for %s", f.Machine)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("the binary is not static: it has a %s", p.Type)
		}
	}
}

func untar(t *testing.T, from io.Reader) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for r := tar.NewReader(from); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err == nil {
			files[header.Name], err = io.ReadAll(r)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func hasImage(t *testing.T, dir string, v version, commit string) {
	unpacked := t.TempDir()
	for name, data := range untar(t, bytes.NewReader(read(t, dir, "etcdpod_"+v.String()+"_oci.tar"))) {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(unpacked, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(unpacked, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	outer, err := layout.ImageIndexFromPath(unpacked)
	if err != nil {
		t.Fatal(err)
	}
	names, err := outer.IndexManifest()
	if err != nil || len(names.Manifests) != 1 {
		t.Fatalf("the archive holds %v (%v)", names, err)
	}
	if got := names.Manifests[0].Annotations["io.containerd.image.name"]; got != "localhost/etcdpod:"+v.tag() {
		t.Errorf("the image is called %q", got)
	}
	index, err := outer.ImageIndex(names.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var platforms []string
	for _, m := range manifest.Manifests {
		platforms = append(platforms, m.Platform.String())
		one, err := index.Image(m.Digest)
		if err != nil {
			t.Fatal(err)
		}
		isImage(t, one, m.Platform.Architecture, v, commit)
	}
	if !slices.Equal(platforms, []string{"linux/amd64", "linux/arm64"}) {
		t.Errorf("the image is for %v", platforms)
	}
}

func isImage(t *testing.T, one v1.Image, arch string, v version, commit string) {
	t.Helper()
	config, err := one.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	labels := config.Config.Labels
	if config.Architecture != arch || !slices.Equal(config.Config.Entrypoint, []string{"/usr/bin/etcdpod"}) ||
		labels["org.opencontainers.image.version"] != v.String() ||
		labels["org.opencontainers.image.revision"] != commit {
		t.Errorf("the image for %s has the configuration %+v", arch, config)
	}
	layers, err := one.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("the image has %d layers (%v)", len(layers), err)
	}
	content, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	files := untar(t, content)
	isStatic(t, files["usr/bin/etcdpod"], arch)
	for _, name := range []string{"copyright", "THIRD_PARTY_LICENSES"} {
		if len(files["usr/share/doc/etcdpod/"+name]) == 0 {
			t.Errorf("the image for %s lacks %s", arch, name)
		}
	}
}
