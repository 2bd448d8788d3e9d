package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb" // registers the format
	"github.com/goreleaser/nfpm/v2/files"
	_ "github.com/goreleaser/nfpm/v2/rpm" // registers the format
)

const (
	homepage = "https://github.com/etcdpod/etcdpod"
	summary  = "looks after the etcd under a kubeadm control plane"
	detail   = summary + `
It backs up, verifies, restores, bootstraps and renews the certificates of the
etcd that kubeadm runs as a static pod. Every change is either wholly done or
wholly undone.`
)

// pack makes a package of a format. It has no scripts, no configuration and no dependencies: what
// it installs is all that it does.
func (r *release) pack(dir, format string, b build) (err error) {
	info := r.info(format, b)
	packager, err := nfpm.Get(format)
	if err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dir, packager.ConventionalFileName(info)))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return packager.Package(info, f)
}

func (r *release) info(format string, b build) *nfpm.Info {
	return nfpm.WithDefaults(&nfpm.Info{
		Name: "etcdpod", Arch: b.arch, Platform: "linux",
		VersionSchema: "none", Version: r.version.number, Prerelease: r.version.pre, VersionMetadata: r.version.build,
		Release: "1", Section: "admin", Priority: "optional", Maintainer: "The etcdpod authors <" + homepage + ">",
		Description: detail, Homepage: homepage, License: "Apache-2.0", MTime: r.date, DisableGlobbing: true,
		Overridables: nfpm.Overridables{
			Contents: contents(format, b),
			RPM:      nfpm.RPM{BuildHost: "localhost", Summary: summary},
		},
	})
}

// ownDirectories are those that an rpm has to own so that they go with it. A directory may have
// many owners, and goes with the last of them when it is empty.
func ownDirectories() []string {
	return []string{docDir, docDir + "/docs", docDir + "/docs/runbooks", docDir + "/docs/schema",
		docDir + "/docs/alerts",
		"/usr/share/licenses", "/usr/share/licenses/etcdpod",
		"/usr/share/bash-completion", "/usr/share/bash-completion/completions",
		"/usr/share/fish", "/usr/share/fish/vendor_completions.d", "/usr/share/zsh", "/usr/share/zsh/site-functions"}
}

// contents returns the files where systems with packages of a format look for them.
func contents(format string, b build) files.Contents {
	var all files.Contents
	for _, one := range b.files {
		if one.system == "" {
			continue
		}
		c := &files.Content{Source: one.source, Destination: one.system,
			FileInfo: &files.ContentFileInfo{Mode: one.mode}}
		if format == "rpm" {
			c.Destination = strings.Replace(c.Destination, "/zsh/vendor-completions/", "/zsh/site-functions/", 1)
			if c.Destination == docDir+"/copyright" {
				c.Destination, c.Type = "/usr/share/licenses/etcdpod/LICENSE", files.TypeRPMLicence
			}
		}
		all = append(all, c)
	}
	if format == "rpm" {
		for _, dir := range ownDirectories() {
			all = append(all, &files.Content{Destination: dir, Type: files.TypeDir,
				FileInfo: &files.ContentFileInfo{Mode: 0o755}})
		}
	}
	return all
}
