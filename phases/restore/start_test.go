package restore

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/manifests"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/observe"
)

const etcdImage = "registry.k8s.io/etcd:3.6.5-0"

// flagged puts flags and lines into etcd's manifest.
func flagged(t *testing.T, f *Facts, flag, lines string) {
	t.Helper()
	text := string(f.Etcd.File.Data)
	if flag != "" {
		text = strings.Replace(text, "    - --data-dir", "    - --"+flag+"\n    - --data-dir", 1)
	}
	text = strings.Replace(text, "    name: etcd\n", "    name: etcd\n"+lines, 1)
	m, err := manifests.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	f.Etcd.File.Manifest, f.Etcd.File.Data = m, []byte(text)
}

func TestDataThatFillsTheQuotaIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		flag  string
		size  int64
		error string
		found string
	}{
		"above the quota": {"quota-backend-bytes=67108864", 118 << 20,
			"118.0 MiB, but etcd's quota is 64.0 MiB", ""},
		"above the default quota": {"", 2200 << 20, "etcd's quota is 2.0 GiB", ""},
		"near the quota":          {"quota-backend-bytes=67108864", 55 << 20, "", "85% of etcd's quota of 64.0 MiB"},
		"far below it":            {"quota-backend-bytes=67108864", 10 << 20, "", ""},
		"no quota":                {"quota-backend-bytes=-1", 9000 << 20, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := plannedFacts(t)
			flagged(t, f, c.flag, "")
			f.Snapshot.Proof.SizeBytes, f.Data.Free, f.Data.RunFree = c.size, 1<<40, 1<<40
			plan, err := Workflow(Options{}).Planned(context.Background(), f)
			var refused *engine.RefusedError
			if c.error != "" {
				if !errors.As(err, &refused) || !strings.Contains(err.Error(), c.error) ||
					!strings.Contains(refused.Hint, "--quota-backend-bytes=") {
					t.Fatalf("got %v, hint %q", err, engine.Hint(err))
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if said := strings.Join(plan.Phases[0].Found, "\n"); strings.Contains(said, "quota") != (c.found != "") ||
				!strings.Contains(said, c.found) {
				t.Errorf("it says %s", said)
			}
		})
	}
}

func TestAPersonHearsOfWhatMayGoWrong(t *testing.T) {
	f := plannedFacts(t)
	flagged(t, f, "", "    startupProbe: {periodSeconds: 2, failureThreshold: 3}\n")
	f.Snapshot.Proof.SizeBytes, f.Data.Free, f.Data.RunFree = 1<<30, 1<<40, 1<<40
	is := f.Etcd // the simulated runtime has told the version of its image
	f.Live, f.Etcd = nil, &observe.EtcdPod{File: is.File, Container: is.Container, Name: is.Name,
		Image: "private/etcd:production", DataDir: is.DataDir, DataPath: is.DataPath, Access: is.Access}
	f.Doubts = []observe.Obstacle{{What: "whether all images are here is not known"}}
	plan, err := Workflow(Options{}).Planned(context.Background(), f)
	if err != nil {
		t.Fatal(err)
	}
	said := strings.Join(plan.Phases[0].Found, "\n")
	for _, want := range []string{
		"kills etcd if it does not serve within 6s (startupProbe in", "raise startupProbe.failureThreshold",
		"the version of etcd in private/etcd:production is unknown: neither its name nor the container runtime shows " +
			"it, and no etcd runs here that does. The data is from etcd", "whether all images are here is not known",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q:\n%s", want, said)
		}
	}
}

func TestNothingIsStoppedThatCouldNotStartAgain(t *testing.T) {
	for _, image := range []string{etcdImage, "registry.k8s.io/kube-scheduler:3.6.5-0"} {
		w := newWorld(t, scenario{})
		w.Machine.NoImages = []string{image}
		err := w.restore()
		var refused *engine.RefusedError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), image) {
			t.Fatalf("%s is gone, and the restore ended with %v", image, err)
		}
		if look, err := w.Ended(); err != nil || look != w.First {
			t.Errorf("it is not as before: %v\n%s", err, look)
		}
	}
}

// A scheduler that was down before does not stand in the way of a restore.
func TestWhatIsDownAnywayDoesNotStandInTheWayOfARestore(t *testing.T) {
	const image = "registry.k8s.io/kube-scheduler:3.6.5-0"
	f := plannedFacts(t)
	for _, m := range f.Manifests {
		if strings.HasSuffix(m.Path, "kube-scheduler.yaml") {
			f.Obstacles = []observe.Obstacle{{Manifests: []string{m.Path}, What: "the image " + image + " is gone"}}
		}
	}
	plan, err := Workflow(Options{}).Planned(context.Background(), f)
	if err != nil {
		t.Fatal(err)
	}
	if said := strings.Join(plan.Phases[0].Found, "\n"); !strings.Contains(said, image) {
		t.Errorf("it says %s", said)
	}
}

// stoppedIn makes a restore fail for want of an etcd that serves, after a change of the node in the
// middle of it.
func stoppedIn(t *testing.T, change func(*restoreWorld)) (*restoreWorld, error) {
	t.Helper()
	w := newWorld(t, scenario{})
	w.Machine.SickEtcd = true
	once := false
	w.Machine.Before = func(call string) {
		if strings.HasPrefix(call, "exchange ") && !once {
			once = true
			change(w)
		}
	}
	return w, w.restore()
}

func TestARunThatWentBackToSomethingThatDoesNotServeSaysSo(t *testing.T) {
	for name, c := range map[string]struct {
		spoil      func(*restoreWorld)
		says, hint string
	}{
		"etcd's image": {func(w *restoreWorld) { w.Machine.NoImages = []string{etcdImage} },
			"containers of image " + etcdImage + " cannot start", "crictl pull " + etcdImage},
		"the scheduler's image": {func(w *restoreWorld) {
			w.Machine.NoImages = []string{"registry.k8s.io/kube-scheduler:3.6.5-0"}
		}, "kube-scheduler:3.6.5-0 cannot start", "crictl pull"},
		"the sandboxes' image": {func(w *restoreWorld) {
			w.Machine.NoImages, w.Machine.PauseImage = []string{"pause"}, "pause"
		}, "does not run", "/var/log/pods"},
		"the API server": {func(w *restoreWorld) { w.Machine.SickText = "kube-apiserver" },
			"the API server is not ready", "etcdpod status"},
	} {
		t.Run(name, func(t *testing.T) {
			w, err := stoppedIn(t, c.spoil)
			var lacks *engine.NotServingError
			if !errors.As(err, &lacks) || !strings.Contains(err.Error(), c.says) ||
				!strings.Contains(engine.Hint(err), c.hint) {
				t.Fatalf("the restore ended with %v, hint %q", err, engine.Hint(err))
			}
			if strings.Contains(err.Error(), "everything is as before") {
				t.Errorf("it says %v", err)
			}
			if open, err := engine.OpenRun(w.Machine.Disk); err != nil || open.ID != "" {
				t.Errorf("the run is open: %+v, %v", open, err) // nothing is left to undo
			}
			w.Machine.NoImages, w.Machine.SickText = nil, ""
			if outcome, err := w.verdict(); outcome != "old" {
				t.Errorf("with that put right it is %q: %v", outcome, err)
			}
		})
	}
}

// A kubelet that was stopped by hand, while what it had started served: the fence kills that, and
// nothing but a kubelet can start it again.
func TestWhatServedWithoutAKubeletServesAgainWithoutOne(t *testing.T) {
	for _, recovery := range []string{"", "resume", "rollback"} {
		for at := 1; at < 400; at++ {
			w := byHand(t)
			w.Machine.SickEtcd = true
			if recovery != "" {
				w.Machine.CrashAt = at
			}
			err := w.restore()
			if recovery == "" {
				if !crashtest.IsRolledBack(err) {
					t.Fatalf("it ended with %v", err)
				}
			} else if !w.Machine.Crashed() {
				break // it was over before that step
			}
			if recovery != "" {
				w.Machine.Revive()
				w.Restart()
				var refused *engine.RefusedError
				if err := w.Settle(recovery); err != nil && !errors.As(err, &refused) && !crashtest.IsRolledBack(err) {
					t.Fatalf("killed at step %d, %s ended with %v", at, recovery, err)
				}
			}
			if outcome, err := w.verdict(); outcome != "old" {
				t.Fatalf("killed at step %d, and after %s, it is %q: %v", at, recovery, outcome, err)
			}
			if recovery == "" {
				break
			}
			at += 6 // a part of the steps: the matrix has them all
		}
	}
}

func byHand(t *testing.T) *restoreWorld {
	t.Helper()
	machine := scenario{}.Machine(t)
	if err := machine.Host().Kubelet.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	machine.Steps = 0
	return onNode(crashtest.Alone(t, machine), scenario{})
}

// What did not run before is ended again, when the kubelet that was lent has started it.
func TestWhatDidNotRunBeforeDoesNotRunAfterwards(t *testing.T) {
	w := byHand(t)
	containers, err := w.Machine.Host().Runtime.Containers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range containers {
		if c.Name == "kube-apiserver" {
			if err := w.Machine.Host().Runtime.StopContainer(t.Context(), c.ID, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.First = w.Machine.Look("/var/lib/etcdpod")
	w.Machine.SickEtcd = true
	o := Workflow(Options{StopTimeout: time.Minute})
	o.Observe = func(ctx context.Context, n *observe.Node, id string) (*Facts, error) {
		f, err := w.facts(ctx, n, id)
		f.APIReady = false
		return f, err
	}
	if err := w.Do(o.On(w.Process.Look)); !crashtest.IsRolledBack(err) {
		t.Fatalf("it ended with %v", err)
	}
	if outcome, err := w.verdict(); outcome != "old" {
		t.Errorf("it is %q: %v", outcome, err)
	}
}

func TestAnEtcdThatTheKubeletKillsWhileItLoadsIsSaidToBe(t *testing.T) {
	for name, c := range map[string]struct {
		exit node.Exit
		says string
	}{
		"by its probe": {node.Exit{Code: 137, Reason: "Error", Ran: 40 * time.Second},
			"the kubelet killed it (137) after 40s, because it did not serve within the 30s that startupProbe in " +
				crashtest.TestManifestDir + "/etcd.yaml allows: " +
				"if it only needs longer, raise startupProbe.failureThreshold there"},
		"because it ran out of memory: raise resources.limits.memory in its manifest, or give the machine more " +
			"memory": {node.Exit{Code: 137, Reason: "OOMKilled", Ran: 3 * time.Second}, "because it ran out of " +
			"memory: raise resources.limits.memory in its manifest, or give the machine more memory"},
		"soon, by somebody": {node.Exit{Code: 137, Reason: "Error", Ran: time.Second}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			probe := strings.Replace(crashtest.EtcdManifest(""), "    name: etcd\n", "    name: etcd\n"+
				"    startupProbe: {periodSeconds: 10, failureThreshold: 3}\n", 1)
			w := newWorld(t, scenario{Shape: crashtest.Shape{}})
			const name = crashtest.TestManifestDir + "/etcd.yaml"
			if err := node.WriteAtomic(w.Machine.Disk, name, []byte(probe), node.Attr{Mode: 0o600}); err != nil {
				t.Fatal(err)
			}
			w.Machine.SickEtcd, w.Machine.Exit = true, c.exit
			w.Machine.KillNew = true
			err := w.restore()
			if err == nil || !strings.Contains(err.Error(), c.says) ||
				strings.Contains(err.Error(), "kubelet killed") != strings.Contains(c.says, "kubelet killed") {
				t.Errorf("it ended with %v", err)
			}
		})
	}
}

func TestOnSeveralNodesItIsSaidWhichDoesNotServe(t *testing.T) {
	c := newCluster(t, "cp1", "cp2", "cp3")
	for _, n := range c.Nodes {
		n.Machine.SickEtcd = true
	}
	c.Heard = func(e engine.Event) {
		if e.State == engine.GoingBack {
			c.Nodes["cp2"].Machine.NoImages = []string{etcdImage}
		}
	}
	err := c.Run("cp1")
	var lacks *engine.NotServingError
	if !errors.As(err, &lacks) || !strings.Contains(err.Error(), "on cp2, containers of image "+etcdImage) ||
		strings.Contains(err.Error(), "on cp1") || !strings.Contains(engine.Hint(err), "crictl pull") {
		t.Fatalf("the restore ended with %v, hint %q", err, engine.Hint(err))
	}
	for name, n := range c.Nodes {
		if open, err := engine.OpenRun(n.Machine.Disk); err != nil || open.ID != "" {
			t.Errorf("on %s the run is open: %+v, %v", name, open, err)
		}
	}
}
