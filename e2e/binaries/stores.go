package binaries

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// The servers that take backups.
const (
	VersityGW      = "1.8.0"
	AzuriteVersion = "3.37.0"
)

// S3Server returns the path of versitygw, which speaks S3 over a directory, after building it if
// need be. Cold, it takes two to three minutes.
func S3Server(ctx context.Context) (string, error) {
	const module = "github.com/versity/versitygw"
	return build(ctx, recipe{
		Name:    "versitygw-" + VersityGW,
		Program: "versitygw",
		Package: module + "/cmd/versitygw",
		Require: func(ctx context.Context, dir string) error {
			return run(ctx, dir, "go", "get", module+"@v"+VersityGW)
		},
	})
}

// AzureServer returns the arguments that run the blob service of Azurite, after installing it from
// npm if need be, and node from Debian. It is the only server here that is not a Go module.
func AzureServer(ctx context.Context) ([]string, error) {
	node, err := nodeProgram(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot run azurite: %w", err)
	}
	cache, err := Cache()
	if err != nil {
		return nil, fmt.Errorf("cannot install azurite: %w", err)
	}
	dir := filepath.Join(cache, "build", "azurite-"+AzuriteVersion)
	program, mark := filepath.Join(dir, "node_modules/azurite/dist/src/blob/main.js"), filepath.Join(dir, "ready")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot install azurite: %w", err)
	}
	unlock, err := lock(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("cannot install azurite: %w", err)
	}
	defer unlock()
	if !there(mark) {
		// No package's own script runs: none is needed, and what they download could not be pinned.
		err := run(ctx, dir, "npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--omit=dev",
			"--prefix", dir, "azurite@"+AzuriteVersion)
		if err == nil {
			err = os.WriteFile(mark, nil, 0o644)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot install azurite: %w", err)
		}
	}
	return []string{node, program}, nil
}

// nodeProgram returns the path of node, after installing it with npm if need be.
func nodeProgram(ctx context.Context) (string, error) {
	node, err := exec.LookPath("node")
	if _, without := exec.LookPath("npm"); err == nil && without == nil {
		return node, nil
	}
	for _, args := range [][]string{{"update"}, {"install", "--yes", "--no-install-recommends", "nodejs", "npm"}} {
		if err := run(ctx, "/", "apt-get", args...); err != nil {
			return "", err
		}
	}
	return exec.LookPath("node")
}
