package node_test

import (
	"debug/buildinfo"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/e2e/binaries"
	"github.com/etcdpod/etcdpod/phases/internal/node"
)

func TestABinaryTellsWhichEtcdItIs(t *testing.T) {
	for _, version := range binaries.EtcdVersions() {
		path, err := binaries.Etcd(t.Context(), version)
		ok(t, err)
		info, err := buildinfo.ReadFile(path)
		ok(t, err)
		if got := node.EtcdVersionOf(info); got != version {
			t.Errorf("of %s it says %q", version, got)
		}
		// As a release is built: in a work tree, the modules of which are one another's.
		for i, m := range info.Deps {
			if m.Path == "go.etcd.io/etcd/api/v3" {
				info.Deps[i] = &debug.Module{Path: m.Path, Version: m.Version, Replace: &debug.Module{Path: "../api"}}
			}
		}
		if info.Main.Version = "(devel)"; node.EtcdVersionOf(info) != version {
			t.Errorf("of %s, built in a work tree, it says %q", version, node.EtcdVersionOf(info))
		}
	}
	self, ok := debug.ReadBuildInfo()
	if !ok || node.EtcdVersionOf(self) != "" {
		t.Errorf("this program passes for etcd %s", node.EtcdVersionOf(self))
	}
}

// It is found by its flags, whether it has opened anything yet or not.
func TestARunningEtcdIsAskedThroughItsBinary(t *testing.T) {
	version := binaries.EtcdVersions()[0]
	path, err := binaries.Etcd(t.Context(), version)
	ok(t, err)
	dir := filepath.Join(t.TempDir(), "data")
	ok(t, os.Mkdir(dir, 0o700))
	cmd := exec.CommandContext(t.Context(), path, "--data-dir", dir, "--listen-client-urls", "http://127.0.0.1:0",
		"--advertise-client-urls", "http://127.0.0.1:0", "--listen-peer-urls", "http://127.0.0.1:0")
	ok(t, cmd.Start())
	over := make(chan error, 1)
	go func() { over <- cmd.Wait() }()
	for found := false; !found; {
		using, err := node.Proc(node.OS("/")).Using(t.Context(), dir)
		ok(t, err)
		if found = len(using) > 0; found && using[0].EtcdVersion != version {
			t.Errorf("%+v", using)
		}
		select {
		case err := <-over:
			t.Fatalf("etcd has ended: %v", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
	ok(t, cmd.Process.Kill())
	<-over
}
