package status

import (
	"context"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// settleWithin is how long the kubelet may take to start what a run has put back: it does so within
// seconds, or has a reason not to, which `status` tells.
const settleWithin = 30 * time.Second

// AwaitStarted waits until everything in the static-pod directory runs, after a run that stopped
// some of it, and returns the names of what does not. What ends again and again is not waited for.
func AwaitStarted(ctx context.Context, n *observe.Node, run engine.RunSummary) []string {
	for end := n.Clock.Now().Add(settleWithin); ; {
		down, hopeless := notRunning(ctx, n, run.Began)
		if len(down) == 0 || hopeless || n.Clock.Now().After(end) {
			return down
		}
		n.Emit(engine.Event{Time: n.Clock.Now().UTC(), Node: run.Node, Phase: "settle",
			Operation: "wait until the kubelet has started " + down[0], State: engine.Progressed})
		if n.Clock.Sleep(ctx, 250*time.Millisecond) != nil {
			return down
		}
	}
}

// notRunning are the containers of this node's static pods that do not run. It is hopeless to wait
// where one has ended since the run began, or where the runtime cannot be asked.
func notRunning(ctx context.Context, n *observe.Node, since time.Time) (down []string, hopeless bool) {
	files, err := n.Manifests(ctx, n.Config.StaticPodPath)
	if err != nil {
		return nil, true
	}
	containers, err := n.Runtime.Containers(ctx)
	if err != nil {
		return nil, true
	}
	for _, m := range files {
		if m.Manifest == nil || m.CannotRun() {
			continue
		}
		for _, name := range m.Manifest.Containers() {
			c := observe.ContainerOf(containers, files, m, name)
			if c != nil && c.State == "running" {
				continue
			}
			down = append(down, name)
			hopeless = hopeless || c != nil && c.State == "exited" && c.CreatedAt.After(since)
		}
	}
	return down, hopeless
}
