package sandbox_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/e2e/binaries"
	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

// limit only ends a hang: on a slow machine a test may take its time.
const limit = 20 * time.Minute

// TestMain runs more tests at once than there are processors: they mostly wait.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// etcdBinary may take minutes, if this machine never built that version.
func etcdBinary(t *testing.T, version string) string {
	t.Helper()
	path, err := binaries.Etcd(context.Background(), version)
	must(t, err)
	return path
}

func start(t *testing.T, o sandbox.Options) (*sandbox.Sandbox, context.Context) {
	t.Helper()
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	if o.EtcdBinary == "" {
		o.EtcdBinary = etcdBinary(t, binaries.Etcd36)
	}
	s, err := sandbox.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Destroy(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(s.Root); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", s.Root, err)
		}
	})
	if err := s.Start(ctx); err != nil {
		t.Fatal(err)
	}
	return s, ctx
}

// container returns the newest container of that name, which must exist.
func container(t *testing.T, ctx context.Context, s *sandbox.Sandbox, name string) sandbox.Container {
	t.Helper()
	c, found, err := s.Container(ctx, name)
	if err != nil || !found {
		t.Fatalf("container %s: found %v, error %v", name, found, err)
	}
	return c
}

// eventually waits until the condition holds.
func eventually(t *testing.T, ctx context.Context, what string, holds func() bool) {
	t.Helper()
	for !holds() {
		select {
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// always checks for a second that the condition holds: five times the kubelet's interval.
func always(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if !holds() {
			t.Fatalf("not always: %s", what)
		}
	}
}

func running(t *testing.T, ctx context.Context, s *sandbox.Sandbox, name string) func() bool {
	return func() bool {
		c, found, err := s.Container(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		return found && c.State == "running"
	}
}

func not(condition func() bool) func() bool { return func() bool { return !condition() } }

// ended says whether a process is gone, or a zombie that only waits for its new parent: a zombie
// has no command line.
func ended(pid int) bool {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err != nil || len(line) == 0
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestAKilledEtcdComesBackWithTheNextAttemptInTheSameSandbox(t *testing.T) {
	const never = 24 * time.Hour // longer than the test may take
	s, ctx := start(t, sandbox.Options{Backoff: never, MaxBackoff: never})
	first := container(t, ctx, s, "etcd")
	must(t, s.Kill(ctx, "etcd"))
	eventually(t, ctx, "etcd runs again", func() bool {
		c := container(t, ctx, s, "etcd")
		return c.State == "running" && c.Attempt == first.Attempt+1
	})
	second := container(t, ctx, s, "etcd")
	if second.SandboxID != first.SandboxID || second.PodUID != first.PodUID || second.PID == first.PID {
		t.Errorf("first %+v\nsecond %+v", first, second)
	}
	must(t, s.Kill(ctx, "etcd"))
	eventually(t, ctx, "etcd has ended", not(running(t, ctx, s, "etcd")))
	always(t, "the second restart waits for the back-off", not(running(t, ctx, s, "etcd")))
	if code := container(t, ctx, s, "etcd").ExitCode; code != 137 {
		t.Errorf("exit code %d after SIGKILL", code)
	}
	// A new kubelet does not remember the back-off.
	must(t, s.StopKubelet(ctx))
	must(t, s.StartKubelet(ctx))
	eventually(t, ctx, "etcd runs again", running(t, ctx, s, "etcd"))
	must(t, s.WaitReady(ctx))
}

func TestAPodIsStoppedWhenItsManifestGoesAndIsTheSamePodWhenItIsBack(t *testing.T) {
	s, ctx := start(t, sandbox.Options{})
	first := container(t, ctx, s, "kube-scheduler")
	manifest, aside := s.Path(sandbox.ManifestDir+"/kube-scheduler.yaml"), s.Path("/tmp/kube-scheduler.yaml")
	must(t, os.Rename(manifest, aside))
	eventually(t, ctx, "the scheduler is gone", func() bool {
		_, found, err := s.Container(ctx, "kube-scheduler")
		must(t, err)
		return !found
	})
	must(t, os.Rename(aside, manifest))
	eventually(t, ctx, "the scheduler runs again", running(t, ctx, s, "kube-scheduler"))
	if again := container(t, ctx, s, "kube-scheduler"); again.PodUID != first.PodUID {
		t.Errorf("the pod's UID was %s and is %s", first.PodUID, again.PodUID)
	}
	// More than a changed comment makes it another pod.
	text, err := os.ReadFile(manifest)
	must(t, err)
	must(t, os.WriteFile(manifest, append([]byte("# a comment\n"), text...), 0o600))
	always(t, "a comment changes nothing", func() bool {
		return container(t, ctx, s, "kube-scheduler").PodUID == first.PodUID
	})
	must(t, os.WriteFile(manifest,
		[]byte(strings.Replace(string(text), "--leader-elect=true", "--leader-elect=true\n    - --v=2", 1)), 0o600))
	eventually(t, ctx, "the changed scheduler runs", func() bool {
		c, found, err := s.Container(ctx, "kube-scheduler")
		must(t, err)
		return found && c.State == "running" && c.PodUID != first.PodUID
	})
}

func TestNothingIsStartedWhileTheKubeletIsStopped(t *testing.T) {
	s, ctx := start(t, sandbox.Options{})
	before := container(t, ctx, s, "etcd")
	must(t, s.StopKubelet(ctx))
	if c := container(t, ctx, s, "etcd"); c != before {
		t.Fatalf("stopping the kubelet changed etcd's container from %+v to %+v", before, c)
	}
	must(t, s.Kill(ctx, "etcd"))
	eventually(t, ctx, "etcd has ended", not(running(t, ctx, s, "etcd")))
	always(t, "etcd stays down", not(running(t, ctx, s, "etcd")))
	must(t, s.StartKubelet(ctx))
	must(t, s.StartKubelet(ctx)) // nothing happens
	must(t, s.WaitReady(ctx))
	if c := container(t, ctx, s, "etcd"); c.Attempt != before.Attempt+1 {
		t.Errorf("attempt %d follows %d", c.Attempt, before.Attempt)
	}
}

func TestTheKubeletRunsEveryFileButHiddenOnes(t *testing.T) {
	s, ctx := start(t, sandbox.Options{})
	dir := s.Path(sandbox.ManifestDir)
	text, err := os.ReadFile(dir + "/kube-scheduler.yaml")
	must(t, err)
	named := func(name string) []byte {
		return []byte(strings.ReplaceAll(string(text), "name: kube-scheduler", "name: "+name))
	}
	must(t, os.WriteFile(dir+"/.hidden.yaml", named("hidden"), 0o600))
	must(t, os.WriteFile(dir+"/other.yaml.bak", named("other"), 0o600))
	must(t, os.WriteFile(dir+"/kube-scheduler.yaml.bak", text, 0o600))
	must(t, os.WriteFile(dir+"/notes.txt", []byte("not a pod"), 0o600))
	eventually(t, ctx, "the other runs", running(t, ctx, s, "other"))
	first := container(t, ctx, s, "kube-scheduler")
	always(t, "the hidden one is left, and the second of one name waits", func() bool {
		_, hidden, err := s.Container(ctx, "hidden")
		must(t, err)
		return !hidden && container(t, ctx, s, "kube-scheduler").PodUID == first.PodUID
	})
	must(t, os.Remove(dir+"/kube-scheduler.yaml"))
	eventually(t, ctx, "the backup of a removed manifest runs", func() bool {
		c, found, err := s.Container(ctx, "kube-scheduler")
		must(t, err)
		return found && c.State == "running" && c.PodUID != first.PodUID
	})
}

func TestContainersOutliveTheRuntime(t *testing.T) {
	s, ctx := start(t, sandbox.Options{})
	before := container(t, ctx, s, "etcd")
	must(t, s.StopRuntime())
	if _, err := s.Containers(ctx); err == nil {
		t.Fatal("the runtime still answers")
	}
	must(t, s.WaitReady(ctx))
	must(t, s.StartRuntime(ctx))
	if c := container(t, ctx, s, "etcd"); c != before {
		t.Fatalf("a restart of the runtime changed etcd's container from %+v to %+v", before, c)
	}
	must(t, s.Kill(ctx, "etcd"))
	eventually(t, ctx, "etcd runs again", func() bool {
		c := container(t, ctx, s, "etcd")
		return c.State == "running" && c.Attempt == before.Attempt+1
	})
}

func TestAfterARebootEverythingIsNewButTheData(t *testing.T) {
	s, ctx := start(t, sandbox.Options{})
	must(t, s.Load(ctx, 40, 100))
	keys, err := s.AllKeys(ctx)
	must(t, err)
	before := container(t, ctx, s, "etcd")
	must(t, s.Reboot(ctx))
	must(t, s.WaitReady(ctx))
	after := container(t, ctx, s, "etcd")
	if after.PID == before.PID || after.SandboxID == before.SandboxID ||
		after.Attempt != before.Attempt+1 || after.PodUID != before.PodUID {
		t.Errorf("before %+v\nafter %+v", before, after)
	}
	now, err := s.AllKeys(ctx)
	must(t, err)
	if diff := sandbox.Diff(keys, now); len(diff) > 0 {
		t.Errorf("the data changed: %v", diff)
	}
}

func TestAContainerWaitsForItsImage(t *testing.T) {
	s, ctx := start(t, sandbox.Options{})
	manifest := s.Path(sandbox.ManifestDir + "/etcd.yaml")
	text, err := os.ReadFile(manifest)
	must(t, err)
	must(t, os.WriteFile(manifest, []byte(strings.Replace(string(text), binaries.Etcd36+"-0", "9.9.9-0", 1)), 0o600))
	eventually(t, ctx, "the old etcd is gone", not(running(t, ctx, s, "etcd")))
	always(t, "no etcd without an image", not(running(t, ctx, s, "etcd")))
	must(t, s.SetImages(map[string]string{"registry.k8s.io/etcd:9.9.9-0": etcdBinary(t, binaries.Etcd36)}))
	must(t, s.WaitEtcd(ctx))
}
