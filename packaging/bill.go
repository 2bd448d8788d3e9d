package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
)

// billTool reads the modules of a binary.
const billTool = "github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0"

// bill makes the bill of materials of a binary: every module that is in it, with its checksum.
func (r *release) bill(ctx context.Context, dir string, b build) error {
	cmd := exec.CommandContext(ctx, "go", "run", "-trimpath", billTool, "bin", "-json", "-std",
		"-noserial", "-notimestamp", "-version", "v"+r.version.String(),
		"-output", filepath.Join(dir, fmt.Sprintf("etcdpod_%s_linux_%s.cdx.json", r.version, b.arch)), b.binary)
	cmd.Dir = r.root
	cmd.Env = environment() // the bill has the tool's own checksum
	_, err := output(cmd)
	return err
}
