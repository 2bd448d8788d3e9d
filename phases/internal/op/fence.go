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

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// Fence is the condition "nothing runs on the data, and nothing will start". It is no operation: it is made and proven anew by every operation
// that needs it, forward and back, because a reboot, a person or a configuration management may have broken it since.
type Fence struct {
	ManifestDir string        `json:"manifestDir"` // the kubelet's static-pod directory
	Parking     string        `json:"parking"`     // where manifests that turn up meanwhile are put
	Containers  []string      `json:"containers"`  // names of the containers that must not run
	DataDirs    []string      `json:"dataDirs"`    // data and WAL directories that no process may use
	Databases   []string      `json:"databases"`   // bbolt files whose lock is held while the fence is up; those that are not there are left out
	Timeout     time.Duration `json:"timeout"`     // for the kubelet, the containers and the processes to be gone
}

// Raise makes the fence and proves it. Until lower is called the locks of the databases are held, so that no etcd can open them.
func (f Fence) Raise(ctx context.Context, t *Target) (lower func() error, err error) {
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	if err := stopKubelet(ctx, t); err != nil {
		return nil, err
	}
	if err := f.clearManifests(t); err != nil {
		return nil, err
	}
	if err := f.stopContainers(ctx, t); err != nil {
		return nil, err
	}
	if err := f.proveUnused(ctx, t); err != nil {
		return nil, err
	}
	return f.lock(t)
}

func stopKubelet(ctx context.Context, t *Target) error {
	running, err := t.Host.Kubelet.Running(ctx)
	if err != nil {
		return fmt.Errorf("cannot tell whether the kubelet runs: %w", err)
	}
	if !running {
		return nil
	}
	return t.Host.Kubelet.Stop(ctx)
}

// clearManifests moves whatever the kubelet would run on this data out of its sight: a file that somebody put back, or that the undone release had put there.
func (f Fence) clearManifests(t *Target) error {
	names, err := t.Host.FS.ReadDir(f.ManifestDir)
	if err != nil {
		return fmt.Errorf("cannot look for manifests: %w", err)
	}
	for _, name := range names {
		if strings.HasPrefix(name, ".") {
			continue // the kubelet does not run these
		}
		from := path.Join(f.ManifestDir, name)
		data, err := t.Host.FS.ReadFile(from)
		if err != nil {
			return fmt.Errorf("cannot read %s: %w", from, err)
		}
		if !t.Involved(data, f.DataDirs) {
			continue
		}
		if err := f.park(t, from, data); err != nil {
			return err
		}
	}
	return nil
}

// park takes one manifest out of the static-pod directory. What is parked already is removed, anything else is kept under a free name.
func (f Fence) park(t *Target, from string, data []byte) error {
	for n := 0; ; n++ {
		to := path.Join(f.Parking, path.Base(from))
		if n > 0 {
			to = fmt.Sprintf("%s.%d", to, n)
		}
		kept, err := t.Host.FS.ReadFile(to)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			t.report("%s turned up while etcd must not run: moved to %s", from, to)
			return node.Move(t.Host.FS, from, to)
		case err != nil:
			return fmt.Errorf("cannot read %s: %w", to, err)
		case bytes.Equal(kept, data):
			return remove(t, from)
		}
	}
}

// stopContainers ends the containers at once, without grace: their data is being replaced, and a graceful end costs up to half a minute of outage.
func (f Fence) stopContainers(ctx context.Context, t *Target) error {
	for {
		all, err := t.Host.Runtime.Containers(ctx)
		if err != nil {
			return err
		}
		var live []node.Container
		for _, c := range all {
			if c.Namespace == systemNamespace && slices.Contains(f.Containers, c.Name) && c.State != stateExited {
				live = append(live, c)
			}
		}
		if len(live) == 0 {
			return nil
		}
		if err := inParallel(live, func(c node.Container) error { return end(ctx, t, c) }); err != nil {
			return fmt.Errorf("cannot stop the containers: %w", err)
		}
		if err := t.Host.Clock.Sleep(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("cannot stop the container %s of the pod %s: still %s after %s", live[0].Name, live[0].Pod, live[0].State, f.Timeout)
		}
	}
}

// end stops a container; one that was created and never started has nothing to stop, and goes.
func end(ctx context.Context, t *Target, c node.Container) error {
	if c.State == stateCreated {
		return t.Host.Runtime.RemoveContainer(ctx, c.ID)
	}
	return t.Host.Runtime.StopContainer(ctx, c.ID, 0)
}

const (
	systemNamespace = "kube-system" // where kubeadm's static pods live
	stateCreated    = "created"
	stateExited     = "exited"
)

func inParallel[T any](items []T, do func(T) error) error {
	errs := make([]error, len(items))
	var wg sync.WaitGroup
	for i, item := range items {
		wg.Go(func() { errs[i] = do(item) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// proveUnused waits until no process, in whatever container or none, uses the data.
func (f Fence) proveUnused(ctx context.Context, t *Target) error {
	for _, dir := range f.DataDirs {
		for {
			users, err := t.Host.Processes.Using(ctx, dir)
			if err != nil {
				return fmt.Errorf("cannot tell whether a process uses %s: %w", dir, err)
			}
			if len(users) == 0 {
				break
			}
			if err := t.Host.Clock.Sleep(ctx, 20*time.Millisecond); err != nil {
				return fmt.Errorf("cannot fence %s: process %d (%s) still uses it after %s; it was not started by the kubelet from %s: end it, then try again", dir, users[0].PID, users[0].Command, f.Timeout, f.ManifestDir)
			}
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
				err = fmt.Errorf("cannot fence %s: etcd still holds it", db)
			}
			return nil, errors.Join(err, unlock())
		}
		held = append(held, u)
	}
	return unlock, nil
}

// behind does something while the fence is up.
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

func (t *Target) progress(done, total int64) {
	if t.Progress != nil {
		t.Progress(done, total)
	}
}
