package op

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// ReplaceManifest puts another manifest in the place of one that is there. The kubelet ends the pod of the old one and starts that of the new one. The old one is kept
// in the run's folder.
type ReplaceManifest struct {
	Path   string `json:"path"`
	Data   []byte `json:"data"`
	Change string `json:"change"` // in words
	Old    string `json:"old"`    // SHA-256 of the one that was planned with, hex
	Kept   string `json:"kept"`   // where it is kept
}

func (m *ReplaceManifest) String() string {
	return fmt.Sprintf("set %s in %s, and keep the old file as %s", m.Change, m.Path, m.Kept)
}

// Do keeps a copy before anything else; from then on the old one is found in place or there.
func (m *ReplaceManifest) Do(_ context.Context, t *Target) error {
	there, err := t.Host.FS.ReadFile(m.Path)
	if err != nil {
		return fmt.Errorf("cannot replace %s: %w", m.Path, err)
	}
	switch sumOfData(there) {
	case sumOfData(m.Data): // by an earlier try
		return settleWritten(t, m.Path)
	case m.Old:
	default:
		return fmt.Errorf("cannot replace %s: somebody has changed it since the run was planned; type the command again", m.Path)
	}
	if err := node.WriteAtomic(t.Host.FS, m.Kept, there, node.Mine(0o600)); err != nil {
		return err
	}
	return node.WriteAtomic(t.Host.FS, m.Path, m.Data, node.Attr{}) // with the owner, mode and label of the old one
}

// Undo finds the old one in place still, or kept. What somebody else has put there is left alone, and the run stays open: only a person can say which one is right.
func (m *ReplaceManifest) Undo(_ context.Context, t *Target) error {
	now, err := sumOf(t, m.Path)
	if err != nil {
		return fmt.Errorf("cannot put back %s: %w; what was there is kept as %s", m.Path, err, m.Kept)
	}
	switch {
	case now == m.Old:
		if err := settleWritten(t, m.Path); err != nil {
			return err
		}
	case !exists(t, m.Kept): // nothing was replaced
		t.report("%s is left as it is: somebody else has written it", m.Path)
		return nil
	case now == sumOfData(m.Data):
		if err := m.putBack(t); err != nil {
			return err
		}
	default:
		return fmt.Errorf("cannot put back %s: somebody else has changed it since the run began; what was there before is kept as %s: copy it there", m.Path, m.Kept)
	}
	return errors.Join(node.DropTemp(t.Host.FS, m.Kept), remove(t, m.Kept))
}

func (m *ReplaceManifest) putBack(t *Target) error {
	kept, err := t.Host.FS.ReadFile(m.Kept)
	if err != nil {
		return fmt.Errorf("cannot put back %s: %w", m.Path, err)
	}
	if sumOfData(kept) != m.Old {
		return fmt.Errorf("cannot put back %s: %s is not what was there when the run began", m.Path, m.Kept)
	}
	return node.WriteAtomic(t.Host.FS, m.Path, kept, node.Attr{})
}

func (m *ReplaceManifest) Done(_ context.Context, t *Target) (bool, error) {
	now, err := sumOf(t, m.Path)
	if err != nil || now != sumOfData(m.Data) || !exists(t, m.Kept) {
		return false, err
	}
	return true, settleWritten(t, m.Path)
}

// AwaitReplaced waits until the kubelet runs the API server from a manifest that was replaced, and it is ready. Another manifest makes another pod, and the kubelet
// starts it when the one of the same name has ended: until then it is the old one that says that it is ready.
type AwaitReplaced struct {
	Pod    Pod           `json:"pod"`
	Before string        `json:"before"` // the UID of the pod that the old manifest makes; empty: it is not known
	API    APIAccess     `json:"api"`    // without a kubeconfig nobody can ask whether it is ready, and it only has to run
	Grace  time.Duration `json:"grace"`  // for the container that is replaced to end by itself
	Limit  time.Duration `json:"limit"`
	// Back has it waited for when the run has put the old manifest back, and not on the way forward.
	Back bool `json:"back,omitempty"`

	WasReady bool `json:"wasReady,omitempty"` // with Back: there is something to wait for
}

func (a *AwaitReplaced) String() string {
	if a.Back {
		return fmt.Sprintf("(on the way back: wait until the old API server is ready again, %s at most)", a.Limit)
	}
	return fmt.Sprintf("wait until the kubelet has started the API server from it, and it is ready, %s at most", a.Limit)
}

// Record notes whether the API server was ready.
func (a *AwaitReplaced) Record(ctx context.Context, t *Target) error {
	a.WasReady = a.Back && a.API.Kubeconfig != "" && t.APIServer.Ready(ctx, a.API) == nil
	return nil
}

func (a *AwaitReplaced) Do(ctx context.Context, t *Target) error {
	if a.Back {
		return nil
	}
	return a.await(ctx, t, "the API server is not ready with the new manifest", func(c node.Container) bool { return c.PodUID != a.Before })
}

// Undo does not keep the run open: the old manifest is in place by now, and an API server that does not get ready with it has another reason.
func (a *AwaitReplaced) Undo(ctx context.Context, t *Target) error {
	if !a.WasReady {
		return nil
	}
	err := a.await(ctx, t, "the API server is not ready with the old manifest", func(c node.Container) bool { return c.PodUID == a.Before || a.Before == "" })
	if err != nil {
		t.report("the old manifest is back, but %v", err)
	}
	return nil
}

// Condition as AwaitAPIServer is.
func (a *AwaitReplaced) Condition() {}

func (a *AwaitReplaced) Done(context.Context, *Target) (bool, error) { return false, nil }

// Skippable as AwaitAPIServer is.
func (a *AwaitReplaced) Skippable() {}

func (a *AwaitReplaced) await(ctx context.Context, t *Target, what string, wanted func(node.Container) bool) error {
	if err := startKubelet(ctx, t); err != nil {
		return err
	}
	w := &podWatch{what: what, pod: a.Pod, wanted: wanted, grace: a.Grace, told: map[string]bool{}}
	return poll(ctx, t, what, a.Limit, 100*time.Millisecond, func(ctx context.Context) error {
		runs, err := w.look(ctx, t)
		if err != nil || a.API.Kubeconfig == "" {
			return err
		}
		if err := t.APIServer.Ready(ctx, a.API); err != nil {
			return err
		}
		if again, err := w.look(ctx, t); err != nil || again.ID != runs.ID {
			return errors.Join(errors.New("it has just been started anew"), err)
		}
		return nil
	})
}

// podWatch sees a pod take the place of another one.
type podWatch struct {
	what   string // is waited for, in the words of an error
	pod    Pod
	wanted func(node.Container) bool
	grace  time.Duration
	told   map[string]bool // containers of the other pod that were told to end
	ended  map[string]bool // containers of the wanted pod that are at an end; true: since the watch began
}

// look returns the wanted pod's container that runs, when none of the other's does any more. The kubelet gives a pod half a minute to end by itself, in which nothing
// answers on this node: whoever waits for it says how long that is worth.
func (w *podWatch) look(ctx context.Context, t *Target) (node.Container, error) {
	all, err := t.Host.Runtime.Containers(ctx)
	if err != nil {
		return node.Container{}, err
	}
	var runs node.Container
	var others []node.Container
	for _, c := range all {
		switch {
		case !w.pod.Owns(c), c.State == stateExited && !w.wanted(c):
		case !w.wanted(c):
			others = append(others, c)
		case c.State == stateRunning:
			runs = c
		}
	}
	for _, c := range others {
		if !w.told[c.ID] && c.State == stateRunning {
			w.told[c.ID] = true
			if err := t.Host.Runtime.StopContainer(ctx, c.ID, w.grace); err != nil {
				return node.Container{}, err
			}
		}
	}
	switch loop := w.loop(all); {
	case loop != nil:
		return node.Container{}, &finalError{fmt.Errorf("%s: %w", w.what, loop)}
	case len(others) > 0:
		return node.Container{}, errors.New("the one that is replaced has not ended yet")
	case runs.ID == "":
		return node.Container{}, errors.New("no container of it runs")
	}
	return runs, nil
}

// loop notices a container that ends again and again: more waiting would not help.
func (w *podWatch) loop(all []node.Container) error {
	first := w.ended == nil
	if first {
		w.ended = map[string]bool{}
	}
	times := 0
	for _, c := range all {
		if _, known := w.ended[c.ID]; !known && c.State == stateExited && w.pod.Owns(c) && w.wanted(c) {
			w.ended[c.ID] = !first
		}
	}
	for _, since := range w.ended {
		if since {
			times++
		}
	}
	if times < crashesTolerated {
		return nil
	}
	return endsAgain(w.pod.Containers[0], times)
}
