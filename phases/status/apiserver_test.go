package status

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// answers is an API server that gives these answers to whether it is ready, the last one for ever.
type answers struct {
	all   []error
	asked int
}

func (a *answers) Ready(context.Context, op.APIAccess) error {
	a.asked++
	return a.all[min(a.asked, len(a.all))-1]
}

// still is a clock on which time passes only by waiting.
type still struct{ now time.Time }

func (s *still) Now() time.Time { return s.now }

func (s *still) Sleep(_ context.Context, d time.Duration) error { s.now = s.now.Add(d); return nil }

func TestStatusSaysThatAnAPIServerDoesNotServe(t *testing.T) {
	const reads = `E1129 08:57:52.063323   13408 run.go:72] "command failed" err="context deadline exceeded"` + "\n"
	const told = "I1129 08:57:52.063323   13408 genericapiserver.go:1] \"[graceful-termination] shutdown event\"\n"
	failed := errors.New("the API server answered 500 Internal Server Error to GET /readyz: etcd failed")
	later := func(ago time.Duration) func(*seen, *node.Container) {
		return func(s *seen, c *node.Container) { c.CreatedAt = s.facts.Now.Add(-ago) }
	}
	restarted := func(ago time.Duration) func(*seen, *node.Container) {
		return func(s *seen, c *node.Container) { later(ago)(s, c); c.Attempt = 3 }
	}
	with := func(change, and func(*seen, *node.Container)) func(*seen, *node.Container) {
		return func(s *seen, c *node.Container) { change(s, c); and(s, c) }
	}
	etcdYoung := func(s *seen, _ *node.Container) { s.facts.Containers[0].CreatedAt = s.facts.Now.Add(-time.Minute) }
	for name, c := range map[string]struct {
		answers []error
		change  func(*seen, *node.Container)
		log     string       // of the container before
		code    finding.Code // empty: nothing is said
		says    string
	}{
		"it serves":                     {[]error{nil}, later(time.Hour), "", "", ""},
		"it answers nobody, and serves": {[]error{&op.DeniedError{Status: 401}}, later(time.Hour), "", "", ""},
		"it did not for a moment":       {[]error{failed, failed, nil}, later(time.Hour), "", "", ""},
		"it does not": {[]error{failed}, later(time.Hour), "", finding.APIServerNotReady,
			"runs, but does not serve: the API server answered 500 Internal Server Error to GET /readyz: etcd failed"},
		"it has just started":                {[]error{failed}, later(time.Minute), "", "", ""},
		"it has just started again, told to": {[]error{failed}, restarted(time.Minute), told, "", ""},
		"it has just started again, after an error": {[]error{failed}, restarted(time.Minute), reads,
			finding.ContainerRestarts,
			"keeps exiting: its container has been started 4 times: it cannot reach something"},
		"it serves, and has ended before": {[]error{nil}, restarted(time.Minute), reads, "", ""},
		"after a boot, etcd has just started, too": {[]error{failed}, with(restarted(time.Minute), etcdYoung), reads,
			"", ""},
		"it has run for long since it ended": {[]error{failed}, restarted(time.Hour), reads,
			finding.APIServerNotReady, "etcd failed"},
		"it has ended, which says it": {[]error{failed}, func(_ *seen, c *node.Container) { c.State = "exited" }, "",
			"", ""},
		"an open run has stopped something": {[]error{failed}, with(later(time.Hour),
			func(s *seen, _ *node.Container) { s.open.ID = "r1" }), "", "", ""},
		"etcd is down, so that nothing can be served": {[]error{failed}, with(later(time.Hour),
			func(s *seen, _ *node.Container) { s.facts.Live = nil }), "", "", ""},
		"what runs is not known": {[]error{failed}, func(s *seen, _ *node.Container) {
			s.facts.Containers, s.facts.RuntimeError = nil, errors.New("no socket")
		}, "", finding.APIServerNotReady, "kube-apiserver.yaml does not serve"},
	} {
		t.Run(name, func(t *testing.T) {
			s := healthy(t)
			api := &answers{all: c.answers}
			for i := range s.facts.Containers {
				s.facts.Containers[i].CreatedAt = s.facts.Now.Add(-24 * time.Hour)
			}
			own := &s.facts.Containers[1]
			own.ID, own.PodUID = "a", "u"
			s.facts.API = op.APIAccess{} // it is asked nothing that needs a kubeconfig
			c.change(&s, own)
			before := *own
			before.Attempt--
			n := &observe.Node{API: api}
			n.Clock = &still{s.facts.Now}
			s.lookAtAPIServer(t.Context(), n)
			s.endings(t, nil, map[*node.Container]string{&before: c.log})
			st := s.status()
			for _, code := range []finding.Code{finding.APIServerNotReady, finding.ContainerRestarts} {
				got := said(st, code)
				if (code == c.code) != (got != "") || code == c.code && !strings.Contains(got, c.says) {
					t.Errorf("%s: %q", code, got)
				}
			}
			if c.answers[0] == nil && len(st.Warnings) > 0 {
				t.Errorf("all is well, and it warns: %q", st.Warnings)
			}
			if api.asked > 5 {
				t.Errorf("it asked %d times", api.asked)
			}
		})
	}
}
