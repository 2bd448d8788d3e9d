package op

import (
	"context"
	"fmt"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// StartLimit is how long the kubelet lets a program start before it kills it.
type StartLimit struct {
	Limit    time.Duration `json:"limit"`
	Probe    string        `json:"probe"`    // startupProbe, livenessProbe
	Manifest string        `json:"manifest"` // where it is set
}

// The exit codes of what SIGKILL ended, and SIGTERM.
const (
	exitKilled     = 128 + 9
	exitTerminated = 128 + 15
)

// killed says who killed a container since the watch began, if it was killed; nil otherwise. l may
// be nil: then nothing is known of a probe.
func (w crashWatch) killed(ctx context.Context, t *Target, l *StartLimit) error {
	all, err := t.Host.Runtime.Containers(ctx)
	if err != nil {
		return nil // the wait has failed for another reason
	}
	var last node.Container
	for _, c := range all {
		if c.Namespace == systemNamespace && c.Name == w.container && c.State == stateExited && c.ID != w.before.ID &&
			!c.CreatedAt.Before(w.before.CreatedAt) && !c.CreatedAt.Before(last.CreatedAt) {
			last = c
		}
	}
	if last.ID == "" {
		return nil
	}
	exit, ok, err := t.Host.Runtime.Exit(ctx, last.ID)
	if err != nil || !ok {
		return nil
	}
	ran := exit.Ran.Round(time.Second)
	switch {
	case exit.Reason == "OOMKilled":
		return fmt.Errorf("the kernel killed it after %s because it ran out of memory: raise resources.limits.memory "+
			"in its manifest, or give the machine more memory", ran)
	case exit.Code != exitKilled && exit.Code != exitTerminated || l == nil || exit.Ran < l.Limit*9/10:
		return nil
	}
	return fmt.Errorf("the kubelet killed it (%d) after %s, because it did not serve within the %s that %s in %s "+
		"allows: raise %s.failureThreshold there", exit.Code, ran, l.Limit, l.Probe, l.Manifest, l.Probe)
}

// explain adds to the error of a wait who killed the container meanwhile, or else why it ended.
func (w crashWatch) explain(ctx context.Context, t *Target, l *StartLimit, err error) error {
	if err == nil {
		return nil
	}
	if killed := w.killed(context.WithoutCancel(ctx), t, l); killed != nil {
		return fmt.Errorf("%w; %w", err, killed)
	}
	return explain(ctx, t, w.container, err)
}
