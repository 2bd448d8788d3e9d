// Package workflows drives the built etcdpod through whole workflows on the sandbox, with real
// etcd, and proves what a person is promised: exit codes, messages, and that the node is wholly old
// or wholly new, whatever happens on the way.
package workflows

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/etcdpod/etcdpod/e2e/binaries"
	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

// sandboxes is how many run at once: each is a handful of processes, and most of their
// time is spent waiting.
const sandboxes = "8"

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// run builds etcdpod as it is now, and what the sandboxes need. ETCDPOD names one
// that is built already.
func run(m *testing.M) (int, error) {
	if err := flag.Set("test.parallel", sandboxes); err != nil {
		return 0, err
	}
	for _, version := range binaries.EtcdVersions() {
		if _, err := binaries.Etcd(context.Background(), version); err != nil {
			return 0, err
		}
	}
	standin, err := sandbox.BuildStandIn()
	if err != nil {
		return 0, err
	}
	if err := os.Setenv("STANDIN", standin); err != nil {
		return 0, err
	}
	if os.Getenv("ETCDPOD") != "" {
		return m.Run(), nil
	}
	dir, err := os.MkdirTemp("", "etcdpod")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "etcdpod")
	build := exec.Command("go", "build", "-o", binary, "github.com/etcdpod/etcdpod/cmd/etcdpod")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("cannot build etcdpod: %w\n%s", err, out)
	}
	if err := os.Setenv("ETCDPOD", binary); err != nil {
		return 0, err
	}
	return m.Run(), nil
}
