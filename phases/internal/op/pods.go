package op

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// How to end or restart a static pod, or see it replace another one.

// RestartPod restarts a static pod's container, so that the program rereads its files.
type RestartPod struct {
	Pod   Pod           `json:"pod"`
	Grace time.Duration `json:"grace"` // for the program to exit by itself
	Limit time.Duration `json:"limit"` // for the new container to run
	// Back restarts it on the way back instead, once the files are as before.
	Back bool `json:"back,omitempty"`
	// Served is what must serve again if the run goes back; with Back only.
	Served *Before     `json:"served,omitempty"`
	Start  *StartLimit `json:"start,omitempty"` // as in Watched

	Before string `json:"before"` // the id of the container that ran; empty if none
}

func (r *RestartPod) String() string {
	if r.Back {
		return fmt.Sprintf("(when undoing: restart %s, if it was restarted)", r.Pod.Name)
	}
	return "restart " + r.Pod.Name
}

// Record notes what runs.
func (r *RestartPod) Record(ctx context.Context, t *Target) error {
	now, err := r.running(ctx, t)
	if r.Before = now.ID; err != nil {
		return err
	}
	return r.Served.record(ctx, t)
}

// Returned waits for what served before.
func (r *RestartPod) Returned(ctx context.Context, t *Target) (known bool, err error) {
	return r.Served != nil, r.Served.again(ctx, t)
}

func (r *RestartPod) Do(ctx context.Context, t *Target) error {
	if r.Back {
		return nil
	}
	return r.restart(ctx, t)
}

// Undo restarts a container that does not have the old files. One that was
// never restarted has them.
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

// running is the pod's running container; the zero value if none.
func (r *RestartPod) running(ctx context.Context, t *Target) (node.Container, error) {
	all, err := t.Host.Runtime.Containers(ctx)
	if err != nil {
		return node.Container{}, fmt.Errorf("cannot determine what runs: %w", err)
	}
	for _, c := range all {
		if c.State == stateRunning && r.Pod.Owns(c) {
			return c, nil
		}
	}
	return node.Container{}, nil
}

// backOffAfter is how long the kubelet may take to start a container. If it waits longer, the pod
// has failed before, which a restarted kubelet forgets.
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
	crashes, _ := WatchedIn(r.Pod, r.Start).watch(ctx, t, "") // only to say more if it fails
	late, kicked := t.Host.Clock.Now().Add(backOffAfter), false
	err = poll(ctx, t, fmt.Sprintf("%s is not restarted", r.Pod.Name),
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
			return errors.New("none of its containers runs")
		})
	return crashes.explain(ctx, t, err)
}

// endPod stops the kubelet, so that nothing restarts, and ends the pod's containers.
func endPod(ctx context.Context, t *Target, pod Pod, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := stopKubelet(ctx, t); err != nil {
		return err
	}
	return Fence{Timeout: limit}.stopContainers(ctx, t, []Pod{pod})
}

// AwaitReplaced waits until the kubelet runs the API server from the replaced manifest, and it is
// ready. The new manifest makes a new pod, which the kubelet starts only when the old one of that
// name has ended: until then the old one reports ready.
type AwaitReplaced struct {
	Pod Pod `json:"pod"`
	// The UID of the old manifest's pod; empty: unknown.
	Before string `json:"before"`
	// Without a kubeconfig readiness cannot be checked, and it only has to run.
	API APIAccess `json:"api"`
	// For the old container to exit by itself.
	Grace time.Duration `json:"grace"`
	Limit time.Duration `json:"limit"`
	Start *StartLimit   `json:"start,omitempty"` // as in Watched
	// Back waits after the run has put the old manifest back, and not on the way forward.
	Back bool `json:"back,omitempty"`

	WasReady bool `json:"wasReady,omitempty"` // with Back: there is something to wait for

	late error // why the old one was not ready in time, on the way back
}

func (a *AwaitReplaced) String() string {
	if a.Back {
		return fmt.Sprintf("(when undoing: wait until the old API server is ready again, %s at most)", a.Limit)
	}
	return fmt.Sprintf("wait until the kubelet has restarted the API server with it and it is ready, %s at most",
		a.Limit)
}

// Record notes whether the API server was ready.
func (a *AwaitReplaced) Record(ctx context.Context, t *Target) error {
	if a.Back && a.API.Kubeconfig != "" {
		a.WasReady = Serves(t.APIServer.Ready(ctx, a.API))
	}
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

// Undo does not keep the run open: the old manifest is in place by now, so an API server that does
// not get ready has another problem.
func (a *AwaitReplaced) Undo(ctx context.Context, t *Target) error {
	if !a.WasReady {
		return nil
	}
	err := a.await(ctx, t, "the API server is not ready with the old manifest", func(c node.Container) bool {
		return c.PodUID == a.Before || a.Before == ""
	})
	if a.late = err; err != nil {
		t.warn(finding.APIServerNotReady, a.Pod.Name, "the old manifest is back, but %v", err)
	}
	return nil
}

// Returned sees whether the old API server is still ready: what was undone since may have mattered
// to it. Once it was late it is not waited for again.
func (a *AwaitReplaced) Returned(ctx context.Context, t *Target) (known bool, err error) {
	if !a.WasReady {
		return a.Back, nil
	}
	limit := a.Limit
	if a.late != nil {
		limit = 0
	}
	crashes, _ := WatchedIn(a.Pod, a.Start).watch(ctx, t, "") // only to say more if it fails
	err = poll(ctx, t, "the API server is not ready again", limit, 100*time.Millisecond,
		func(ctx context.Context) error {
			if err := t.APIServer.Ready(ctx, a.API); !Serves(err) {
				return err
			}
			return nil
		})
	if err == nil {
		return true, nil
	}
	if a.late != nil {
		err = a.late
	}
	fix := fmt.Sprintf("read its log below /var/log/pods/%s_%s-*", a.Pod.Namespace, a.Pod.Name)
	why, do := crashes.why(ctx, t, err)
	if why != "" {
		err = fmt.Errorf("%w; %s", err, why)
	}
	return true, &NotServingError{What: err.Error(), Fix: cmp.Or(do, fix) + "; `etcdpod status` has details"}
}

// Condition for the same reason as AwaitAPIServer.
func (a *AwaitReplaced) Condition() {}

func (a *AwaitReplaced) Done(context.Context, *Target) (bool, error) { return false, nil }

// Skippable for the same reason as AwaitAPIServer.
func (a *AwaitReplaced) Skippable() {}

func (a *AwaitReplaced) await(ctx context.Context, t *Target, what string, wanted func(node.Container) bool) error {
	if err := startKubelet(ctx, t); err != nil {
		return err
	}
	w := &podWatch{what: what, pod: a.Pod, start: a.Start, wanted: wanted, grace: a.Grace, told: map[string]bool{}}
	// Only to say more if it fails. Of the others, this ends some itself.
	owns := func(c node.Container) bool { return a.Pod.Owns(c) && wanted(c) }
	crashes, _ := crashWatch{start: a.Start, owns: owns}.begin(ctx, t)
	var ready readiness
	late, kicked := t.Host.Clock.Now().Add(deafAfter), false
	err := poll(ctx, t, what, a.Limit, 100*time.Millisecond, func(ctx context.Context) error {
		runs, err := w.look(ctx, t)
		if err != nil && !kicked && !w.seen && t.Host.Clock.Now().After(late) {
			kicked = true
			t.report("the kubelet has started nothing from the manifest in %v: it is restarted, since one that no API "+
				"server has answered since its start ends no pod, and starts none in its place", deafAfter)
			if err := errors.Join(stopKubelet(ctx, t), startKubelet(ctx, t)); err != nil {
				return &finalError{err}
			}
		}
		if err != nil || a.API.Kubeconfig == "" {
			return err
		}
		if err := ready.look(ctx, t, a.API); err != nil {
			return err
		}
		if again, err := w.look(ctx, t); err != nil || again.ID != runs.ID {
			return errors.Join(errors.New("it has just been restarted"), err)
		}
		return nil
	})
	return crashes.explain(ctx, t, err)
}

// deafAfter is how long the kubelet may take to start a pod from another manifest: to notice it, 20
// s if it only looks, and to end the old one. It does not end that one before it has been told, by
// an API server, which pods it is to run (pkg/kubelet/kubelet.go, deletePod): never, if the API
// server that it waits for is the one that is to be replaced.
const deafAfter = 25 * time.Second

// podWatch sees a pod take the place of another one.
type podWatch struct {
	what   string // being waited for, in the words of an error
	pod    Pod
	start  *StartLimit
	wanted func(node.Container) bool
	grace  time.Duration
	// Containers of the other pod that were told to stop.
	told map[string]bool
	// Containers of the wanted pod that have exited; true: since the watch began.
	ended map[string]bool
	seen  bool // a container of the wanted pod has run since the watch began
}

// look returns the wanted pod's running container once none of the other's runs. The kubelet
// gives a pod half a minute to exit, in which nothing answers on this node: the caller decides
// how long that is worth.
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
	loop := w.loop(ctx, t, all)
	w.seen = w.seen || runs.ID != "" || slices.Contains(slices.Collect(maps.Values(w.ended)), true)
	switch {
	case loop != nil:
		return node.Container{}, &finalError{fmt.Errorf("%s: %w", w.what, loop)}
	case len(others) > 0:
		return node.Container{}, errors.New("the old one has not exited yet")
	case runs.ID == "":
		return node.Container{}, errors.New("none of its containers runs")
	}
	return runs, nil
}

// loop notices a container that keeps crashing: waiting longer would not help.
func (w *podWatch) loop(ctx context.Context, t *Target, all []node.Container) error {
	first := w.ended == nil
	if first {
		w.ended = map[string]bool{}
	}
	times := 0
	var last node.Container
	for _, c := range all {
		if c.State != stateExited || !w.pod.Owns(c) || !w.wanted(c) {
			continue
		}
		if _, known := w.ended[c.ID]; !known {
			w.ended[c.ID] = !first
		}
		if !newer(last, c) {
			last = c
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
	return endsAgain(ctx, t, last, w.start, times)
}
