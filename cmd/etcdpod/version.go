package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"
)

// version is set by the linker when make builds a release; otherwise the module's version counts.
var version string

// build describes what this binary was built from.
type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Modified bool   `json:"modified,omitempty"` // built from a tree that differs from the commit
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func thisBuild() build {
	b := build{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if b.Version == "" {
		b.Version = info.Main.Version
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

func (s *session) versionCommand() *cli.Command {
	return &cli.Command{
		Name: "version", Usage: "say which etcdpod this is",
		Description: `Version, commit, Go release and platform of this binary.`,
		UsageText:   `etcdpod version`,
		Action: func(c *cli.Context) error {
			b := thisBuild()
			return s.result(c, b, func(w io.Writer) {
				fmt.Fprintf(w, "etcdpod %s, %s, %s\n", b.Version, b.Go, b.Platform)
			})
		},
	}
}
