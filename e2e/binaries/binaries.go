// Package binaries builds the real programs that the tests run etcdpod against: etcd and its tools,
// and the parts of a Kubernetes control plane. They come from the Go module proxy, at the versions
// pinned here, and nothing else is downloaded.
//
// Each version is built in a module of its own below the cache, so that its dependencies never
// meet those of etcdpod:
//
//	.cache/build/etcd-3.7.3/go.mod
//	.cache/build/etcd-3.7.3/bin/etcd
//
// What is there is used again. The cache is <module root>/.cache; ETCDPOD_CACHE
// names another directory.
package binaries

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The versions that the tests build. Every one of them is complete on the module proxy; not
// every patch level is.
const (
	Etcd35 = "3.5.35"
	Etcd36 = "3.6.16"
	Etcd37 = "3.7.3"

	KubernetesVersion = "1.37.2"

	// Debian's containerd is the nodes' own; this one they can have instead.
	Containerd2 = "2.4.2"
)

// KubeadmVersions returns the pinned versions of kubeadm that etcdpod's renderings are held
// against, oldest first; the last is [KubernetesVersion].
func KubeadmVersions() []string { return []string{"1.34.4", "1.35.4", "1.36.3", KubernetesVersion} }

// EtcdVersions returns the pinned etcd versions, oldest first.
func EtcdVersions() []string { return []string{Etcd35, Etcd36, Etcd37} }

// KubernetesPrograms returns the programs of Kubernetes that [Kubernetes] builds. A kubeadm control
// plane needs them all.
func KubernetesPrograms() []string {
	return []string{"kubelet", "kubeadm", "kube-apiserver", "kube-controller-manager", "kube-scheduler"}
}

// Etcd returns the path of the etcd server of a version such as "3.7.3", after
// building it if need be.
func Etcd(ctx context.Context, version string) (string, error) {
	return etcdProgram(ctx, version, "etcd", "server")
}

// Etcdctl returns the path of etcdctl, as [Etcd] does.
func Etcdctl(ctx context.Context, version string) (string, error) {
	return etcdProgram(ctx, version, "etcdctl", "etcdctl")
}

// Etcdutl returns the path of etcdutl, as [Etcd] does.
func Etcdutl(ctx context.Context, version string) (string, error) {
	return etcdProgram(ctx, version, "etcdutl", "etcdutl")
}

func etcdProgram(ctx context.Context, version, program, module string) (string, error) {
	r := etcdRecipe(version)
	r.Program, r.Package = program, "go.etcd.io/etcd/"+module+"/v3"
	return build(ctx, r)
}

// etcdRecipe is what all programs of a version of etcd have in common.
func etcdRecipe(version string) recipe {
	return recipe{
		Name: "etcd-" + version,
		Require: func(ctx context.Context, dir string) error {
			get := []string{"get"}
			for _, m := range []string{"server", "etcdctl", "etcdutl"} {
				get = append(get, fmt.Sprintf("go.etcd.io/etcd/%s/v3@v%s", m, version))
			}
			return run(ctx, dir, "go", get...)
		},
	}
}

// OnEtcd returns the path of a program on the package main of the etcd server of a version, without
// its entry point: source is what takes its place. Nothing but a copy sees what that package does
// not export.
func OnEtcd(ctx context.Context, version, program string, source []byte) (string, error) {
	if !slices.Contains(EtcdVersions(), version) {
		return "", fmt.Errorf("cannot build %s: etcd %s is not one of %s",
			program, version, strings.Join(EtcdVersions(), ", "))
	}
	r := etcdRecipe(version)
	r.Program = fmt.Sprintf("%s-%.4x", program, sha256.Sum256(source))
	r.Package, r.Source, r.Copied = "./"+r.Program, source, "go.etcd.io/etcd/server/v3/etcdmain"
	return build(ctx, r)
}

// EtcdSource returns the directory with the sources of a package of the etcd server of a version,
// as [Etcd] does.
func EtcdSource(ctx context.Context, version, pkg string) (string, error) {
	if _, err := Etcd(ctx, version); err != nil {
		return "", err
	}
	cache, err := Cache()
	if err != nil {
		return "", err
	}
	return packageDir(ctx, filepath.Join(cache, "build", etcdRecipe(version).Name), "go.etcd.io/etcd/server/v3/"+pkg)
}

// Kubernetes returns the path of one of the [KubernetesPrograms] at [KubernetesVersion], after
// building it if need be. Cold, all of them together take about 12 minutes of two cores.
func Kubernetes(ctx context.Context, program string) (string, error) {
	if !slices.Contains(KubernetesPrograms(), program) {
		return "", fmt.Errorf("cannot build %s: it is not one of %s", program, strings.Join(KubernetesPrograms(), ", "))
	}
	return kubernetesProgram(ctx, KubernetesVersion, program)
}

// Kubeadm returns the path of kubeadm at one of the [KubeadmVersions], as [Kubernetes] does. Each
// takes about two minutes, cold.
func Kubeadm(ctx context.Context, version string) (string, error) {
	if !slices.Contains(KubeadmVersions(), version) {
		return "", fmt.Errorf("cannot build kubeadm %s: it is not one of %s",
			version, strings.Join(KubeadmVersions(), ", "))
	}
	return kubernetesProgram(ctx, version, "kubeadm")
}

// OnKubeadm returns the path of a program of one file that is built on the packages of kubeadm at
// one of the [KubeadmVersions].
func OnKubeadm(ctx context.Context, version, program string, source []byte) (string, error) {
	if !slices.Contains(KubeadmVersions(), version) {
		return "", fmt.Errorf("cannot build %s: kubeadm %s is not one of %s",
			program, version, strings.Join(KubeadmVersions(), ", "))
	}
	// Another source is another program.
	program = fmt.Sprintf("%s-%.4x", program, sha256.Sum256(source))
	return build(ctx, recipe{
		Name:    "kubernetes-" + version,
		Program: program,
		Package: "./" + program,
		Source:  source,
		LDFlags: kubernetesLDFlags(version),
		Require: func(ctx context.Context, dir string) error { return requireKubernetes(ctx, dir, version) },
	})
}

func kubernetesProgram(ctx context.Context, version, program string) (string, error) {
	return build(ctx, recipe{
		Name:    "kubernetes-" + version,
		Program: program,
		Package: "k8s.io/kubernetes/cmd/" + program,
		LDFlags: kubernetesLDFlags(version),
		Require: func(ctx context.Context, dir string) error { return requireKubernetes(ctx, dir, version) },
	})
}

// ContainerdPrograms returns the programs of containerd that [Containerd] builds. A node that has
// this containerd needs them all.
func ContainerdPrograms() []string { return []string{"containerd", "containerd-shim-runc-v2", "ctr"} }

// Containerd returns the path of one of the [ContainerdPrograms] at [Containerd2], as [Kubernetes]
// does. Cold, all of them together take about a minute and a half of processor time.
func Containerd(ctx context.Context, program string) (string, error) {
	const module = "github.com/containerd/containerd/v2"
	return build(ctx, recipe{
		Name:    "containerd-" + Containerd2,
		Program: program,
		Package: module + "/cmd/" + program,
		LDFlags: "-X " + module + "/version.Version=v" + Containerd2,
		Require: func(ctx context.Context, dir string) error {
			return run(ctx, dir, "go", "get", module+"@v"+Containerd2)
		},
	})
}

// Cache returns the directory for what is built or kept between runs of the tests: ETCDPOD_CACHE,
// else .cache at the module root.
func Cache() (string, error) {
	if dir := os.Getenv("ETCDPOD_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	root, err := ModuleRoot()
	if err != nil {
		return "", err
	}
	return filepath.Join(root, ".cache"), nil
}

// ModuleRoot returns the directory of etcdpod's go.mod, looked for from the
// working directory upwards.
func ModuleRoot() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("cannot find etcdpod's module: %w", err)
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(mod), "module github.com/etcdpod/etcdpod\n") {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("cannot find etcdpod's module: no go.mod of it in %s or above", start)
		}
	}
}

// Dist returns the directory that holds what `make dist` has made: ETCDPOD_DIST, else dist at the
// module root.
func Dist() (string, error) {
	if dir := os.Getenv("ETCDPOD_DIST"); dir != "" {
		return filepath.Abs(dir)
	}
	root, err := ModuleRoot()
	if err != nil {
		return "", err
	}
	return filepath.Join(root, "dist"), nil
}
