package op

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// StopKubelet is the first step of the fence.
type StopKubelet struct {
	WasRunning bool `json:"wasRunning"`
	// Before is what must serve again if the run goes back.
	Before *Before `json:"before,omitempty"`
}

func (k *StopKubelet) String() string { return "stop the kubelet" }

// Record notes whether to start it again on the way back.
func (k *StopKubelet) Record(ctx context.Context, t *Target) (err error) {
	if k.WasRunning, err = t.Host.Kubelet.Running(ctx); err != nil {
		return err
	}
	return k.Before.record(ctx, t)
}

func (k *StopKubelet) Do(ctx context.Context, t *Target) error { return stopKubelet(ctx, t) }

// Undo also starts a kubelet that did not run, if containers did: nothing else can run them again.
func (k *StopKubelet) Undo(ctx context.Context, t *Target) error {
	if !k.WasRunning && !k.Before.ran() {
		return nil
	}
	return startKubelet(ctx, t)
}

// Returned stops a kubelet again that did not run before: the containers go on without it. What did
// not run before, and was started with the others, is ended.
func (k *StopKubelet) Returned(ctx context.Context, t *Target) (known bool, err error) {
	return k.Before != nil, k.returned(ctx, t)
}

func (k *StopKubelet) returned(ctx context.Context, t *Target) error {
	lends := !k.WasRunning && k.Before.ran()
	if lends { // an earlier attempt may have stopped it, or the node has rebooted
		if _, err := k.Before.missing(ctx, t, new(readiness)); err == nil {
			return k.alone(ctx, t)
		}
		if err := startKubelet(ctx, t); err != nil {
			return err
		}
	}
	if err := k.Before.again(ctx, t); err != nil || !lends {
		return err
	}
	return k.alone(ctx, t)
}

// alone leaves exactly what ran before, without a kubelet.
func (k *StopKubelet) alone(ctx context.Context, t *Target) error {
	if err := stopKubelet(ctx, t); err != nil {
		return err
	}
	var others []Pod
	for _, p := range k.Before.Pods {
		if !slices.ContainsFunc(k.Before.Ran, func(r Pod) bool {
			return r.Namespace == p.Namespace && r.Name == p.Name
		}) {
			others = append(others, p)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, k.Before.Limit)
	defer cancel()
	if err := (Fence{Timeout: k.Before.Limit}).stopContainers(ctx, t, others); err != nil {
		return err
	}
	t.report("the kubelet is stopped again, as before: what ran without it runs again")
	return nil
}

func (k *StopKubelet) Done(ctx context.Context, t *Target) (bool, error) {
	running, err := t.Host.Kubelet.Running(ctx)
	return !running, err
}

// StartKubelet lets the node run what is in its static-pod directory. Undoing it begins a fence.
type StartKubelet struct{}

func (k *StartKubelet) String() string { return "start the kubelet" }

func (k *StartKubelet) Do(ctx context.Context, t *Target) error   { return startKubelet(ctx, t) }
func (k *StartKubelet) Undo(ctx context.Context, t *Target) error { return stopKubelet(ctx, t) }
func (k *StartKubelet) Done(ctx context.Context, t *Target) (bool, error) {
	return t.Host.Kubelet.Running(ctx)
}

// startKubelet does not ask whether the kubelet runs: one that is stopping says yes.
func startKubelet(ctx context.Context, t *Target) error { return t.Host.Kubelet.Start(ctx) }

// StopContainers raises the fence for the first time, and proves it. It leaves nothing behind: each
// operation that needs the fence raises it again.
type StopContainers struct {
	Fence Fence `json:"fence"`
}

func (s *StopContainers) String() string {
	return fmt.Sprintf("stop the containers of %s; check that nothing uses %s",
		s.Fence.names(), strings.Join(s.Fence.DataDirs, ", "))
}

func (s *StopContainers) Do(ctx context.Context, t *Target) error {
	return s.Fence.behind(ctx, t, func() error { return nil })
}

// Guard: nothing of what is fenced may run.
func (s *StopContainers) Guard(ctx context.Context, t *Target) (bool, error) {
	return true, s.Do(ctx, t)
}

// Undo does nothing: the kubelet starts the containers of the manifests that are put back.
func (s *StopContainers) Undo(context.Context, *Target) error { return nil }

func (s *StopContainers) Done(context.Context, *Target) (bool, error) { return false, nil }

// KeepKubelet starts the kubelet again once the run has gone back, which has to stop it meanwhile.
type KeepKubelet struct{}

func (k *KeepKubelet) String() string { return "(when undoing: start the kubelet again)" }

func (k *KeepKubelet) Do(context.Context, *Target) error           { return nil }
func (k *KeepKubelet) Undo(ctx context.Context, t *Target) error   { return startKubelet(ctx, t) }
func (k *KeepKubelet) Done(context.Context, *Target) (bool, error) { return true, nil }
