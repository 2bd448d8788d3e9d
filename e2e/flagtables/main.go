// Command flagtables makes phases/internal/flags/tables.json: the flags and feature gates of each
// release of etcd, and what became of those of the release before.
//
//	go run ./e2e/flagtables
//
// Names, defaults and accepted values are from the set of flags that etcd itself makes, at the
// versions of e2e/binaries. What was renamed, and what became a gate, is from two maps in the
// sources of etcd 3.6, the release that has both names.
package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/etcdpod/etcdpod/e2e/binaries"
)

// place is where the tables are, below the module's root.
const place = "phases/internal/flags/tables.json"

//go:embed testdata/print.go
var printer []byte

// release is the table of one minor.
type release struct {
	Minor   string            `json:"minor"`
	Version string            `json:"version"`
	Flags   []json.RawMessage `json:"flags"` // as printer prints them
	Gates   []gate            `json:"gates"`
}

// gate is a feature gate.
type gate struct {
	Name    string `json:"name"`
	Default bool   `json:"default"`
}

// tables are what is written.
type tables struct {
	Releases []release         `json:"releases"` // the oldest first
	Renamed  map[string]string `json:"renamed"`  // the old name and the new one
	Gated    map[string]string `json:"gated"`    // the flag and the gate
}

func main() {
	if err := write(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "flagtables:", err)
		os.Exit(1)
	}
}

func write(ctx context.Context) error {
	text, err := generate(ctx)
	if err != nil {
		return err
	}
	root, err := binaries.ModuleRoot()
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(root, place), text, 0o644)
}

// generate returns the tables as they are written.
func generate(ctx context.Context) ([]byte, error) {
	var all tables
	for _, version := range binaries.EtcdVersions() {
		r, err := releaseOf(ctx, version)
		if err != nil {
			return nil, fmt.Errorf("etcd %s: %w", version, err)
		}
		all.Releases = append(all.Releases, r)
	}
	var err error
	if all.Renamed, all.Gated, err = migrations(ctx, binaries.Etcd36); err != nil {
		return nil, fmt.Errorf("etcd %s: %w", binaries.Etcd36, err)
	}
	if err := all.prefixes(); err != nil {
		return nil, err
	}
	return all.text()
}

// releaseOf asks the code of one version.
func releaseOf(ctx context.Context, version string) (r release, err error) {
	r = release{Minor: version[:len("3.5")], Version: version}
	program, err := binaries.OnEtcd(ctx, version, "flags", printer)
	if err != nil {
		return r, err
	}
	out, err := exec.CommandContext(ctx, program).Output()
	if err != nil {
		return r, fmt.Errorf("cannot read its flags: %w", err)
	}
	var printed struct {
		Flags []json.RawMessage
		Gates []string
	}
	if err := json.Unmarshal(out, &printed); err != nil {
		return r, fmt.Errorf("cannot read its flags: %w", err)
	}
	r.Flags = printed.Flags
	r.Gates, err = gatesIn(printed.Gates)
	return r, err
}
