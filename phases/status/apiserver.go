package status

import (
	"context"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// startsWithin is how long an API server may take to be ready, and how long those that begin
// together may hinder each other, before that is worth a warning.
const startsWithin = 2 * time.Minute

// lookAtAPIServer asks the API server of this node, if one runs, or may run.
func (s *seen) lookAtAPIServer(ctx context.Context, n *observe.Node) {
	f := &s.facts
	if c := s.apiServer(); !observe.HasAPIServer(f) || f.RuntimeError == nil && (c == nil || c.State != "running") {
		return // what does not run is said
	}
	s.unready, s.denied = n.CheckAPIServer(ctx, f.API)
}

// apiServer is the container of this node's API server; nil when there is none.
func (s seen) apiServer() *node.Container {
	m, name, ok := observe.Program(s.facts.Manifests, "kube-apiserver")
	if !ok {
		return nil
	}
	return s.container(m, name)
}

// waitsForEtcd says whether an API server cannot be expected to serve: etcd does not, or has not
// done so for long.
func (s seen) waitsForEtcd() bool {
	if s.facts.Etcd == nil {
		return false
	}
	c := s.container(s.facts.Etcd.File, s.facts.Etcd.Container)
	return s.etcdDown() || s.noQuorum() || c != nil && s.young(c)
}

func (s seen) young(c *node.Container) bool { return s.facts.Now.Sub(c.CreatedAt) < startsWithin }

// judgeAPIServer warns of an API server that runs and does not serve, unless that is said already,
// or it has just been started.
func (s seen) judgeAPIServer() found {
	if s.unready == nil || s.stoppedByRun() || s.waitsForEtcd() {
		return nil
	}
	c, runs := s.apiServer(), ""
	if c != nil {
		if s.young(c) || s.ended[c.ID].why != "" {
			return nil
		}
		runs = " runs, but"
	}
	m, _, _ := observe.Program(s.facts.Manifests, "kube-apiserver")
	return one(finding.APIServerNotReady, m.Path, "the API server of %s%s does not serve: %v", m.Path, runs, s.unready)
}
