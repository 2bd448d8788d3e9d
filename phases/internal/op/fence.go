package op

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// Fence is the condition "nothing runs on the data, and nothing will start". It is no operation:
// every operation that needs it raises and proves it again, forward and back, because a reboot, a
// person or configuration management may have broken it since.
type Fence struct {
	// The kubelet's static-pod directory; empty: no manifest there is the run's any more.
	ManifestDir string   `json:"manifestDir"`
	Parking     string   `json:"parking"`  // where manifests that turn up meanwhile go
	Pods        []Pod    `json:"pods"`     // that must not run; none: nothing is known of a kubelet
	Mounts      []string `json:"mounts"`   // directories that no static pod may mount
	DataDirs    []string `json:"dataDirs"` // data and WAL directories that no process may use
	// bbolt files that stay locked while the fence is up; missing ones are skipped.
	Databases []string `json:"databases"`
	// For the kubelet, the containers and the processes to end.
	Timeout time.Duration `json:"timeout"`
}

// Pod names a static pod and its containers as the manifest does. The kubelet appends the
// node's name to the pod's.
type Pod struct {
	Namespace  string   `json:"namespace"`
	Name       string   `json:"name"`
	Containers []string `json:"containers"`
	// Names of other static pods that begin like this one's: etcd-events, beside etcd.
	Except []string `json:"except,omitempty"`
	// Those that this one's begins like, and the node's name: where that is events-1, etcd's pod is
	// etcd-events-1. Earlier versions did not say.
	Short []string `json:"short,omitempty"`
	Node  string   `json:"node,omitempty"`
}

// Owns says whether a container is one of the pod's.
func (p Pod) Owns(c node.Container) bool {
	if c.Namespace != p.Namespace || !strings.HasPrefix(c.Pod, p.Name+"-") || !slices.Contains(p.Containers, c.Name) {
		return false
	}
	whose, known := strings.CutSuffix(c.Pod, "-"+p.Node)
	switch {
	case p.Node != "" && known && whose == p.Name:
		return true
	case p.Node != "" && known && slices.Contains(p.Short, whose):
		return false
	}
	return !slices.ContainsFunc(p.Except, func(other string) bool { return strings.HasPrefix(c.Pod, other+"-") })
}

// names lists the pods, for people.
func (f Fence) names() string {
	var names []string
	for _, p := range f.Pods {
		names = append(names, p.Name)
	}
	return strings.Join(names, ", ")
}

// Raise makes the fence and proves it. It holds the locks of the databases until lower is called,
// so that no etcd can open them. Whoever starts something meanwhile has it ended again, until the
// time is up.
func (f Fence) Raise(ctx context.Context, t *Target) (lower func() error, err error) {
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	locked := 0
	err = f.until(ctx, t, func() error {
		if len(f.Pods) > 0 {
			if err := stopKubelet(ctx, t); err != nil {
				return &finalError{err}
			}
			if err := f.quiet(ctx, t, "", f.Pods); err != nil {
				return err
			}
		}
		if err := f.unused(ctx, t); err != nil {
			return err
		}
		var err error
		if lower, err = f.lock(t); err != nil && (locked >= lockTries || !errors.Is(err, node.ErrLocked)) {
			return &finalError{err}
		}
		locked++
		return err
	})
	return lower, err
}

// lockTries is how often a lock is tried that somebody holds although nothing is seen to run: an
// etcd may have been started just now.
const lockTries = 5

// until tries again and again until the time is up.
func (f Fence) until(ctx context.Context, t *Target, try func() error) error {
	for {
		err := try()
		var final *finalError
		switch {
		case err == nil:
			return nil
		case asFinal(err, &final):
			return final.error
		}
		asleep := t.Host.Clock.Sleep(ctx, 20*time.Millisecond)
		switch {
		case errors.Is(asleep, context.Canceled): // the time is not up
			return fmt.Errorf("cannot stop %s: %w", f.names(), asleep)
		case asleep != nil:
			return err
		}
	}
}

// quiet ends the pods, of which nothing is left that would start them again.
func (f Fence) quiet(ctx context.Context, t *Target, but string, pods []Pod) error {
	if f.ManifestDir != "" {
		if err := f.clearManifests(t, but); err != nil {
			return &finalError{err}
		}
	}
	return f.stopped(ctx, t, pods)
}

// stopped ends containers, and returns an error as long as one has not ended. They are killed
// without grace: their data is about to be replaced, and a graceful end costs up to half a minute
// of outage. A runtime that does not answer may be restarting.
func (f Fence) stopped(ctx context.Context, t *Target, pods []Pod) error {
	live, err := f.stopOnce(ctx, t, pods)
	switch {
	case err != nil:
		return fmt.Errorf("cannot stop the containers: %w", err)
	case len(live) > 0:
		return fmt.Errorf("cannot stop container %s of pod %s: still %s after %s",
			live[0].Name, live[0].Pod, live[0].State, f.Timeout)
	}
	return nil
}

func stopKubelet(ctx context.Context, t *Target) error {
	running, err := t.Host.Kubelet.Running(ctx)
	if err != nil {
		return fmt.Errorf("cannot determine whether the kubelet runs: %w", err)
	}
	if !running {
		return nil
	}
	return t.Host.Kubelet.Stop(ctx)
}

// Only makes sure that of everything fenced, only the pod of one manifest runs. The kubelet may
// run: it does not start a manifest that is gone.
func (f Fence) Only(ctx context.Context, t *Target, manifest, pod string) error {
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	others := slices.DeleteFunc(slices.Clone(f.Pods), func(p Pod) bool { return p.Name == pod })
	return f.until(ctx, t, func() error { return f.quiet(ctx, t, manifest, others) })
}

// clearManifests moves what would run on this data, except one file, out of the static-pod
// directory: what someone put back, or what the undone release had placed.
func (f Fence) clearManifests(t *Target, but string) error {
	names, err := t.Host.FS.ReadDir(f.ManifestDir)
	if err != nil {
		return fmt.Errorf("cannot look for manifests: %w", err)
	}
	for _, name := range names {
		if strings.HasPrefix(name, ".") {
			continue // the kubelet ignores these
		}
		from := path.Join(f.ManifestDir, name)
		if regular, err := node.IsRegular(t.Host.FS, from); err != nil || !regular || from == but {
			if err != nil {
				return fmt.Errorf("cannot look at %s: %w", from, err)
			}
			continue // the kubelet ignores directories
		}
		data, err := t.Host.FS.ReadFile(from)
		if err != nil {
			return fmt.Errorf("cannot read %s: %w", from, err)
		}
		if !t.Involved(data, f.Mounts) {
			continue
		}
		if err := f.park(t, from, data); err != nil {
			return err
		}
	}
	return nil
}

// park moves one manifest out of the static-pod directory. It removes a duplicate of a parked one,
// and keeps anything else under a free name.
func (f Fence) park(t *Target, from string, data []byte) error {
	for n := 0; ; n++ {
		to := path.Join(f.Parking, path.Base(from))
		if n > 0 {
			to = fmt.Sprintf("%s.%d", to, n)
		}
		kept, err := t.Host.FS.ReadFile(to)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			t.warn(finding.ManifestChanged, from, "%s appeared while etcd must not run: moved to %s", from, to)
			return node.Move(t.Host.FS, from, to)
		case err != nil:
			return fmt.Errorf("cannot read %s: %w", to, err)
		case bytes.Equal(kept, data):
			t.warn(finding.ManifestChanged, from,
				"%s appeared while etcd must not run: removed, %s is identical", from, to)
			if err := syncDirs(t, to); err != nil { // a copy left by an interrupted attempt
				return err
			}
			return remove(t, from)
		}
	}
}

// stopContainers ends containers that nothing starts again.
func (f Fence) stopContainers(ctx context.Context, t *Target, pods []Pod) error {
	return f.until(ctx, t, func() error { return f.stopped(ctx, t, pods) })
}

// stopOnce kills the containers that have not exited, and returns them.
func (f Fence) stopOnce(ctx context.Context, t *Target, pods []Pod) ([]node.Container, error) {
	all, err := t.Host.Runtime.Containers(ctx)
	if err != nil {
		return nil, err
	}
	live := slices.DeleteFunc(all, func(c node.Container) bool {
		return c.State == stateExited || !slices.ContainsFunc(pods, func(p Pod) bool { return p.Owns(c) })
	})
	errs := make([]error, len(live))
	Concurrently(len(live), func(i int) { errs[i] = end(ctx, t, live[i], 0) })
	return live, errors.Join(errs...)
}

// end stops a container; one that was created but never started is removed instead.
func end(ctx context.Context, t *Target, c node.Container, grace time.Duration) error {
	if c.State == stateCreated {
		return t.Host.Runtime.RemoveContainer(ctx, c.ID)
	}
	return t.Host.Runtime.StopContainer(ctx, c.ID, grace)
}

const (
	systemNamespace = "kube-system" // where kubeadm's static pods live
	stateCreated    = "created"
	stateRunning    = "running"
	stateExited     = "exited"
)

// Concurrently does n things at once, and returns when all are done. If one panics, so does it: in
// a goroutine of its own, a panic would end the program where nobody can say how things stand.
func Concurrently(n int, do func(i int)) {
	panics := make([]any, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			defer func() { panics[i] = recover() }()
			do(i)
		})
	}
	wg.Wait()
	for _, p := range panics {
		if p != nil {
			panic(p)
		}
	}
}

// unused fails as long as a process, in any container or none, uses the data.
func (f Fence) unused(ctx context.Context, t *Target) error {
	for _, dir := range f.DataDirs {
		users, err := t.Host.Processes.Using(ctx, dir)
		if err != nil {
			return &finalError{fmt.Errorf("cannot determine whether a process uses %s: %w", dir, err)}
		}
		switch {
		case len(users) > 0 && f.ManifestDir == "":
			return fmt.Errorf("process %d (%s) still uses %s after %s: stop the kubelet if it runs, kill that "+
				"process, and run the command again", users[0].PID, users[0].Command, dir, f.Timeout)
		case len(users) > 0:
			return fmt.Errorf("cannot fence %s: process %d (%s) still uses it after %s; it was not started by the "+
				"kubelet from %s: kill it, then try again",
				dir, users[0].PID, users[0].Command, f.Timeout, f.ManifestDir)
		}
	}
	return nil
}

func (f Fence) lock(t *Target) (unlock func() error, err error) {
	var held []func() error
	unlock = func() error {
		var errs []error
		for _, u := range held {
			errs = append(errs, u())
		}
		return errors.Join(errs...)
	}
	for _, db := range f.Databases {
		u, err := t.Host.FS.Lock(db)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			if errors.Is(err, node.ErrLocked) {
				err = &heldError{db}
			}
			return nil, errors.Join(err, unlock())
		}
		held = append(held, u)
	}
	return unlock, nil
}

// heldError says that etcd holds a database.
type heldError struct{ db string }

func (e *heldError) Error() string { return fmt.Sprintf("cannot fence %s: etcd still holds it", e.db) }

func (e *heldError) Unwrap() error { return node.ErrLocked }

// behind runs do while the fence is up.
func (f Fence) behind(ctx context.Context, t *Target, do func() error) error {
	lower, err := f.Raise(ctx, t)
	if err != nil {
		return err
	}
	return errors.Join(do(), lower())
}

func (t *Target) report(format string, args ...any) {
	if t.Report != nil {
		t.Report(fmt.Sprintf(format, args...))
	}
}

// warn is report for what somebody must do something about.
func (t *Target) warn(code finding.Code, subject, format string, args ...any) {
	if t.Warn != nil {
		t.Warn(finding.New(code, subject, format, args...))
	}
}

func (t *Target) progress(done, total int64) {
	if t.Progress != nil {
		t.Progress(done, total)
	}
}
