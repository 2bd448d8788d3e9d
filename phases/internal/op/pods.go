package op

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// How a static pod is ended, started anew, or seen to take the place of another one.

// RestartPod has the kubelet start a static pod's container anew, so that nothing of what
// it read once is left.
type RestartPod struct {
	Pod   Pod           `json:"pod"`
	Grace time.Duration `json:"grace"` // for the program to end by itself
	Limit time.Duration `json:"limit"` // for the new container to run
	// Back has it restarted when the run goes back, after what it read is as before; and
	// not on the way forward.
	Back bool `json:"back,omitempty"`

	Before string `json:"before"` // the id of the container that ran; empty: none did
}

func (r *RestartPod) String() string {
	if r.Back {
		return fmt.Sprintf("(on the way back: restart %s, if it was restarted)", r.Pod.Name)
	}
	return "restart " + r.Pod.Name
}

// Record notes what runs.
func (r *RestartPod) Record(ctx context.Context, t *Target) error {
	now, err := r.running(ctx, t)
	r.Before = now.ID
	return err
}

func (r *RestartPod) Do(ctx context.Context, t *Target) error {
	if r.Back {
		return nil
	}
	return r.restart(ctx, t)
}

// Undo restarts what does not hold the files of before. One that was never restarted does.
func (r *RestartPod) Undo(ctx context.Context, t *Target) error {
	if !r.Back {
		return nil
	}
	now, err := r.running(ctx, t)
	if err != nil || now.ID == r.Before && now.ID != "" {
		return err
	}
	again := *r
	again.Before = now.ID
	return again.restart(ctx, t)
}

func (r *RestartPod) Done(ctx context.Context, t *Target) (bool, error) {
	now, err := r.running(ctx, t)
	return !r.Back && now.ID != "" && now.ID != r.Before, err
}

// running is the pod's container that runs; the zero value when none does.
func (r *RestartPod) running(ctx context.Context, t *Target) (node.Container, error) {
	all, err := t.Host.Runtime.Containers(ctx)
	if err != nil {
		return node.Container{}, fmt.Errorf("cannot ask what runs: %w", err)
	}
	for _, c := range all {
		if c.State == stateRunning && r.Pod.Owns(c) {
			return c, nil
		}
	}
	return node.Container{}, nil
}

// backOffAfter is how long the kubelet may take to start a container anew. Where it waits longer,
// the pod has failed before: a kubelet that is restarted has forgotten that.
const backOffAfter = 2 * time.Second

func (r *RestartPod) restart(ctx context.Context, t *Target) error {
	if err := startKubelet(ctx, t); err != nil {
		return err
	}
	now, err := r.running(ctx, t)
	if err != nil {
		return err
	}
	if now.ID != "" && now.ID == r.Before {
		if err := t.Host.Runtime.StopContainer(ctx, now.ID, r.Grace); err != nil {
			return fmt.Errorf("cannot stop %s: %w", r.Pod.Name, err)
		}
	}
	late, kicked := t.Host.Clock.Now().Add(backOffAfter), false
	return poll(ctx, t, fmt.Sprintf("%s is not started anew", r.Pod.Name),
		r.Limit, 50*time.Millisecond, func(ctx context.Context) error {
			now, err := r.running(ctx, t)
			switch {
			case err != nil:
				return err
			case now.ID != "" && now.ID != r.Before:
				return nil
			}
			if !kicked && t.Host.Clock.Now().After(late) {
				kicked = true
				if err := errors.Join(stopKubelet(ctx, t), startKubelet(ctx, t)); err != nil {
					return &finalError{err}
				}
			}
			return errors.New("no container of it runs")
		})
}

// endPod stops the kubelet, so that nothing is started again, and ends the pod's containers.
func endPod(ctx context.Context, t *Target, pod Pod, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := stopKubelet(ctx, t); err != nil {
		return err
	}
	return Fence{Timeout: limit}.stopContainers(ctx, t, []Pod{pod})
}

// AwaitReplaced waits until the kubelet runs the API server from a manifest that was replaced, and
// it is ready. Another manifest makes another pod, and the kubelet starts it when the one of the
// same name has ended: until then it is the old one that says that it is ready.
type AwaitReplaced struct {
	Pod Pod `json:"pod"`
	// The UID of the pod that the old manifest makes; empty: it is not known.
	Before string `json:"before"`
	// Without a kubeconfig nobody can ask whether it is ready, and it only has to run.
	API APIAccess `json:"api"`
	// For the container that is replaced to end by itself.
	Grace time.Duration `json:"grace"`
	Limit time.Duration `json:"limit"`
	// Back has it waited for when the run has put the old manifest back, and
	// not on the way forward.
	Back bool `json:"back,omitempty"`

	WasReady bool `json:"wasReady,omitempty"` // with Back: there is something to wait for
}

func (a *AwaitReplaced) String() string {
	if a.Back {
		return fmt.Sprintf("(on the way back: wait until the old API server is ready again, %s at most)", a.Limit)
	}
	return fmt.Sprintf("wait until the kubelet has started the API server from it, and it is ready, %s at most",
		a.Limit)
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
	return a.await(ctx, t, "the API server is not ready with the new manifest", func(c node.Container) bool {
		return c.PodUID != a.Before
	})
}

// Undo does not keep the run open: the old manifest is in place by now, and an API server that does
// not get ready with it has another reason.
func (a *AwaitReplaced) Undo(ctx context.Context, t *Target) error {
	if !a.WasReady {
		return nil
	}
	err := a.await(ctx, t, "the API server is not ready with the old manifest", func(c node.Container) bool {
		return c.PodUID == a.Before || a.Before == ""
	})
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
	// Containers of the other pod that were told to end.
	told map[string]bool
	// Containers of the wanted pod that are at an end; true: since the watch began.
	ended map[string]bool
}

// look returns the wanted pod's container that runs, when none of the other's does any more. The
// kubelet gives a pod half a minute to end by itself, in which nothing answers on this node:
// whoever waits for it says how long that is worth.
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
