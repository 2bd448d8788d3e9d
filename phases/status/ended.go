package status

import (
	"context"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// lookAtEndings finds out why containers have ended; of one that runs again, why it did before, if
// what it runs does not serve.
func (s seen) lookAtEndings(ctx context.Context, n *observe.Node) map[string]ended {
	all := map[string]ended{}
	for _, m := range s.facts.Manifests {
		if m.Manifest == nil {
			continue
		}
		for _, name := range m.Manifest.Containers() {
			c := s.container(m, name)
			if c == nil {
				continue
			}
			look, again := *c, c.State == "running"
			if again && !(s.deaf(m) && s.restarted(c)) {
				continue
			}
			if again {
				look = s.before(look)
			}
			e := n.Ending(ctx, m, look)
			// Somebody may have stopped what runs again, and it may just not serve yet. That an
			// error was logged is no reason: a program that serves logs some.
			known := e.Fault && (e.Killed != "" || e.Last || !s.young(c))
			if e.String() != "" && (known || !again) {
				all[c.ID] = ended{why: e.String(), do: e.Fix}
			}
		}
	}
	return all
}

// deaf says whether what a manifest runs does not serve, without another reason than its own.
func (s seen) deaf(m observe.ManifestFile) bool {
	_, etcd := m.Manifest.Runs("etcd")
	return etcd && s.facts.Live == nil || observe.IsAPIServer(m) && s.unready != nil && !s.waitsForEtcd()
}

// restarted says whether a container runs after another one that has ended, and not for so long
// that the kubelet has forgotten that: it waits ever longer before it starts the next, up to five
// minutes, until one has run for ten.
func (s seen) restarted(c *node.Container) bool {
	const forgiven = 10 * time.Minute
	return c.Attempt > 0 && s.facts.Now.Sub(c.CreatedAt) < forgiven
}

// before is the container that ran before one of a restarted program.
func (s seen) before(c node.Container) node.Container {
	c.Attempt, c.ID = c.Attempt-1, "" // the runtime may have forgotten it, and its log be there
	for _, old := range s.facts.Containers {
		if old.PodUID == c.PodUID && old.Name == c.Name && old.Attempt == c.Attempt {
			c.ID = old.ID
		}
	}
	return c
}

func (s seen) because(c *node.Container) string {
	if why := s.ended[c.ID].why; why != "" {
		return ": " + why
	}
	return ""
}

// etcdEnded is why etcd ended, if anything tells.
func (s seen) etcdEnded() ended {
	if c := s.container(s.facts.Etcd.File, s.facts.Etcd.Container); c != nil {
		return s.ended[c.ID]
	}
	return ended{}
}
