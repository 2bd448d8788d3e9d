package main

import (
	"cmp"
	"fmt"
	"io"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases/observe"
)

// version and commit are set by the linker when make builds; otherwise what the build recorded
// counts. Not that alone: it is not there in a work tree of git's, nor in a tree without git.
var version, commit string

// build describes what this binary was built from.
type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Modified bool   `json:"modified,omitempty"` // built from a tree that differs from the commit
	Go       string `json:"go"`
	Platform string `json:"platform"`
	// The minors of etcd that it looks after, and those of Kubernetes whose etcd it sets up as
	// kubeadm does.
	Etcd       []string `json:"etcd"`
	Kubernetes []string `json:"kubernetes"`
}

func thisBuild() build {
	b := build{Version: version, Commit: commit, Modified: strings.HasSuffix(version, "-dirty"),
		Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Etcd: observe.EtcdMinors(), Kubernetes: observe.KubernetesMinors()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if b.Version == "" {
		b.Version = info.Main.Version
	}
	if b.Commit != "" {
		return b
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

var (
	aTag    = regexp.MustCompile(`^v(\d+\.\d+\.\d+(?:-(?:alpha|beta|rc)\.\d+)?)(?:-(\d+)-(g[0-9a-f]+))?(-dirty)?$`)
	aCommit = regexp.MustCompile(`^([0-9a-f]{7,40})(-dirty)?$`)
)

// image is what the image is called that `make dist` makes with this binary; empty: it makes none
// of such a version. The packager's tests hold it to that.
func (b build) image() string {
	number, more := "", []string(nil)
	if m := aTag.FindStringSubmatch(b.Version); m != nil {
		if number = m[1]; m[2] != "" {
			more = append(more, m[2], m[3])
		}
	} else if m := aCommit.FindStringSubmatch(b.Version); m != nil {
		number, more = "0.0.0", []string{"g" + m[1]}
	} else {
		return ""
	}
	if strings.HasSuffix(b.Version, "-dirty") {
		more = append(more, "dirty")
	}
	if len(more) > 0 {
		number += "-" + strings.Join(more, ".")
	}
	return "localhost/etcdpod:" + number
}

func init() {
	offer(sectionProgram, (*session).versionCommand)
}

func (s *session) versionCommand() *cli.Command {
	return &cli.Command{
		Name: "version", Usage: "print the version",
		Description: `Version, commit, Go release and platform of this binary; the releases of etcd that it looks ` +
			`after; and those of Kubernetes for which init and join set up etcd as kubeadm does.`,
		UsageText: `etcdpod version
etcdpod version -o json`,
		Action: func(c *cli.Context) error {
			b := thisBuild()
			return s.result(c, b, func(w io.Writer) {
				writeBuild(w, b)
			})
		},
	}
}

func writeBuild(w io.Writer, b build) {
	fmt.Fprintf(w, "etcdpod %s\n\n", b.Version)
	commit := cmp.Or(b.Commit, "not known")
	if b.Modified {
		commit += ", with later changes"
	}
	pairs(w, [][]string{{"commit", commit}, {"go", b.Go}, {"platform", b.Platform},
		{"etcd", strings.Join(b.Etcd, ", ")}, {"kubernetes", strings.Join(b.Kubernetes, ", ") + " (init and join)"}})
}
