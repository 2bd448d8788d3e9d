package sandbox_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/e2e/binaries"
	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

// script stands in for etcdpod: it records its arguments and runs the kubelet's
// commands that it was given.
func script(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "etcdpod")
	text := `#!/bin/sh
echo "root $2, then $9 ${10}"
stop=$4 start=$6 status=$8
eval "$status" >&2 || exit 10
eval "$stop" && eval "$stop" || exit 11
eval "$status" >&2; [ $? = 3 ] || exit 12
eval "$start" && eval "$status" >&2 || exit 13
exit 5
`
	must(t, os.WriteFile(path, []byte(text), 0o755))
	return path
}

func TestEtcdpodGetsTheRootAndTheKubeletsCommands(t *testing.T) {
	s, ctx := start(t, sandbox.Options{Etcdpod: script(t),
		Dir: filepath.Join(os.TempDir(), fmt.Sprintf("ep it's %d", os.Getpid())), NoAPIServer: true})
	got, err := s.Etcdpod(ctx, "backup", "a b")
	must(t, err)
	if want := "root " + s.Root + ", then backup a b\n"; got.Code != 5 ||
		got.Stdout != want || got.Stderr != "active\ninactive\nactive\n" {
		t.Errorf("got %+v, want code 5 and %q", got, want)
	}
	if _, err := os.Stat(s.Path("/run/kubelet.pid")); err != nil {
		t.Errorf("the kubelet that was started last does not run: %v", err)
	}
}

func TestACrashEndsEtcdpodToo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "etcdpod")
	must(t, os.WriteFile(path, []byte("#!/bin/sh\nexec sleep 100000\n"), 0o755))
	s, ctx := start(t, sandbox.Options{Etcdpod: path, NoAPIServer: true})
	cmd, err := s.EtcdpodCommand(ctx, "restore")
	must(t, err)
	must(t, cmd.Start())
	must(t, s.Crash())
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("etcdpod ended with %v", err)
	}
	if _, err := os.Stat(s.Path("/run")); !os.IsNotExist(err) {
		t.Errorf("/run is still there: %v", err)
	}
}

func TestASandboxMayBeKeptAndIsNotMadeTwice(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	dir, err := os.MkdirTemp("", "ep")
	must(t, err)
	defer os.RemoveAll(dir)
	o := sandbox.Options{Dir: dir, EtcdBinary: etcdBinary(t, binaries.Etcd36), NoAPIServer: true, Keep: true}
	s, err := sandbox.New(o)
	must(t, err)
	must(t, s.Start(ctx))
	if _, err := sandbox.New(o); err == nil || !strings.Contains(err.Error(), "holds a sandbox already") {
		t.Errorf("a second one in the same place: %v", err)
	}
	must(t, s.Destroy())
	second, stop := context.WithTimeout(ctx, time.Second)
	defer stop()
	if s.WaitEtcd(second) == nil {
		t.Error("etcd still answers")
	}
	if entries, err := os.ReadDir(s.DataPath() + "/member"); err != nil || len(entries) != 2 {
		t.Errorf("kept of the data: %v, %v", entries, err)
	}
}

func TestDownTakesOnlySandboxesDown(t *testing.T) {
	s, ctx := start(t, sandbox.Options{NoAPIServer: true})
	standin, err := sandbox.BuildStandIn()
	must(t, err)
	other := t.TempDir()
	must(t, os.WriteFile(filepath.Join(other, "precious"), nil, 0o600))
	if out, err := exec.CommandContext(ctx, standin, "down", other).CombinedOutput(); err == nil ||
		!strings.Contains(string(out), "is not a sandbox") {
		t.Errorf("down of another directory: %v: %s", err, out)
	}
	if _, err := os.Stat(filepath.Join(other, "precious")); err != nil {
		t.Error(err)
	}
	etcd := container(t, ctx, s, "etcd")
	if out, err := exec.CommandContext(ctx, standin, "down", s.Root).CombinedOutput(); err != nil {
		t.Errorf("down: %v: %s", err, out)
	}
	eventually(t, ctx, "etcd is gone", func() bool { return ended(etcd.PID) })
}
