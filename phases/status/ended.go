package status

import (
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// lookAtLogs reads the logs of the containers that have ended; of one that runs again, that of the
// time before, if it is etcd's and etcd does not answer.
func (s seen) lookAtLogs(n *observe.Node) map[string]ended {
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
			look := *c
			_, etcd := m.Manifest.Runs("etcd")
			switch {
			case c.State != "running":
			case etcd && c.Attempt > 0 && s.facts.Live == nil:
				look.Attempt--
			default:
				continue
			}
			words := n.LastWords(look)
			if words.Said == "" {
				continue
			}
			e := ended{why: words.String()}
			if words.Last {
				e.do = words.Do
			}
			all[c.ID] = e
		}
	}
	return all
}

func (s seen) because(c *node.Container) string {
	if why := s.ended[c.ID].why; why != "" {
		return ": " + why
	}
	return ""
}

// etcdEnded is why etcd ended, if its log tells.
func (s seen) etcdEnded() ended {
	if c := s.container(s.facts.Etcd.File, s.facts.Etcd.Container); c != nil {
		return s.ended[c.ID]
	}
	return ended{}
}
