package op

import (
	"context"
	"fmt"
	"strings"
)

// StopKubelet is the first step of the fence.
type StopKubelet struct {
	WasRunning bool `json:"wasRunning"`
}

func (k *StopKubelet) String() string { return "stop the kubelet" }

// Record notes whether to start it again on the way back.
func (k *StopKubelet) Record(ctx context.Context, t *Target) (err error) {
	k.WasRunning, err = t.Host.Kubelet.Running(ctx)
	return err
}

func (k *StopKubelet) Do(ctx context.Context, t *Target) error { return stopKubelet(ctx, t) }

func (k *StopKubelet) Undo(ctx context.Context, t *Target) error {
	if !k.WasRunning {
		return nil
	}
	return startKubelet(ctx, t)
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
	return fmt.Sprintf("stop the containers of %s; prove that nothing uses %s",
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

func (k *KeepKubelet) String() string { return "(on the way back: start the kubelet again)" }

func (k *KeepKubelet) Do(context.Context, *Target) error           { return nil }
func (k *KeepKubelet) Undo(ctx context.Context, t *Target) error   { return startKubelet(ctx, t) }
func (k *KeepKubelet) Done(context.Context, *Target) (bool, error) { return true, nil }
