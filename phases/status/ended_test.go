package status

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/manifests"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// exits is a container runtime that knows how containers ended, by their ids.
type exits struct {
	node.Runtime
	all map[string]node.Exit
}

func (e exits) Exit(_ context.Context, id string) (node.Exit, bool, error) {
	exit, ok := e.all[id]
	return exit, ok, nil
}

func (e exits) LogFile(context.Context, string) (string, error) { return "", nil }

// endings has status look at how containers ended, with logs by container.
func (s *seen) endings(t *testing.T, all map[string]node.Exit, logs map[*node.Container]string) {
	t.Helper()
	n := &observe.Node{}
	n.FS, n.Runtime = node.OS(t.TempDir()), exits{all: all}
	for c, text := range logs {
		file := n.FS.Real(op.LogOf(t.Context(), n.Runtime, *c))
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755),
			os.WriteFile(file, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	s.ended = s.lookAtEndings(t.Context(), n)
}

// said is what a status says with a code; empty when nothing.
func said(st Status, code finding.Code) string {
	for _, f := range st.Findings {
		if f.Code == code {
			return f.Text
		}
	}
	return ""
}

const oom = "the kernel killed it after 3s because it ran out of memory"

func TestStatusSaysWhoKilledAContainer(t *testing.T) {
	killed := node.Exit{Code: 137, Reason: "OOMKilled", Ran: 3 * time.Second}
	for name, c := range map[string]struct {
		change func(etcd *node.Container, s *seen)
		exit   node.Exit
		code   finding.Code // empty: nothing is said of the container
		says   string
		next   string
	}{
		"it has ended": {func(etcd *node.Container, _ *seen) { etcd.State, etcd.ID = "exited", "b" }, killed,
			finding.ContainerStopped, oom, "raise resources.limits.memory"},
		"somebody stopped it": {func(etcd *node.Container, _ *seen) { etcd.State, etcd.ID = "exited", "b" },
			node.Exit{Code: 137, Reason: "Error", Ran: time.Hour},
			finding.ContainerStopped, "it was killed (137) after 1h0m0s", "read etcd's log"},
		"it runs again": {func(*node.Container, *seen) {}, killed, finding.ContainerRestarts, oom,
			"raise resources.limits.memory"},
		"it runs again, and the kubelet killed it while it loaded": {func(*node.Container, *seen) {},
			node.Exit{Code: 2, Ran: 31 * time.Second}, finding.ContainerRestarts, "the kubelet killed it (2) after 31s",
			"raise startupProbe.failureThreshold in"},
		"it has run for long since": {func(etcd *node.Container, s *seen) {
			etcd.CreatedAt = s.facts.Now.Add(-time.Hour)
		}, killed, "", "", ""},
		"somebody stopped it, and it runs again": {func(*node.Container, *seen) {},
			node.Exit{Code: 137, Reason: "Error", Ran: time.Hour}, "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := healthy(t)
			s.facts.Live, s.facts.LiveError = nil, errors.New("connection refused")
			s.probed(t)
			etcd := &s.facts.Containers[0]
			etcd.ID, etcd.Attempt, etcd.PodUID, etcd.CreatedAt = "c", 3, "u", s.facts.Now.Add(-time.Minute)
			old := *etcd
			old.ID, old.Attempt, old.State, old.CreatedAt = "b", 2, "exited", etcd.CreatedAt.Add(-time.Minute)
			c.change(etcd, &s)
			s.facts.Containers = append(s.facts.Containers, old)
			s.endings(t, map[string]node.Exit{"b": c.exit}, nil)
			st := s.status()
			for _, code := range []finding.Code{finding.ContainerStopped, finding.ContainerRestarts} {
				if got := said(st, code); (code == c.code) != (got != "") || code == c.code &&
					!strings.Contains(got, c.says) {
					t.Errorf("%s: %q", code, got)
				}
			}
			if !strings.Contains(st.Next, c.next) {
				t.Errorf("next: %q", st.Next)
			}
		})
	}
}

// Of what somebody stopped, and what loads its data now, it is not said that it keeps exiting.
func TestStatusDoesNotBlameWhatWasStopped(t *testing.T) {
	const etcd = `{"level":"info","msg":"ready to serve client requests"}` + "\n" +
		`{"level":"info","msg":"received signal; shutting down","signal":"terminated"}` + "\n" +
		`{"level":"error","msg":"setting up serving from embedded etcd failed.","error":"mux: server closed"}` + "\n"
	const api = "E1129 08:57:53.0 1 controller.go:95] \"Unhandled Error\"\n"
	for name, c := range map[string]struct {
		program string
		exit    *node.Exit // nil: the runtime has forgotten it
		log     string
		age     time.Duration
		says    string
	}{
		"an etcd that served": {"etcd", &node.Exit{Ran: 50 * time.Second}, etcd, time.Minute, ""},
		"an API server":       {"kube-apiserver", &node.Exit{Ran: time.Hour}, api, 5 * time.Minute, ""},
		"which was killed":    {"kube-apiserver", &node.Exit{Code: 137, Ran: time.Hour}, api, 5 * time.Minute, ""},
		"which is forgotten":  {"kube-apiserver", nil, api, time.Minute, ""},
		"which has had time":  {"kube-apiserver", nil, api, 5 * time.Minute, "Unhandled Error"},
	} {
		t.Run(name, func(t *testing.T) {
			s := healthy(t)
			s.probed(t)
			if c.program == "etcd" {
				s.facts.Live, s.facts.LiveError = nil, errors.New("connection refused")
			} else {
				s.unready = errors.New("connection refused")
			}
			i := slices.IndexFunc(s.facts.Containers, func(one node.Container) bool { return one.Name == c.program })
			now := &s.facts.Containers[i]
			now.ID, now.Attempt, now.PodUID, now.CreatedAt = "c", 3, "u", s.facts.Now.Add(-c.age)
			old := *now
			old.ID, old.Attempt, old.State, old.CreatedAt = "", 2, "exited", now.CreatedAt.Add(-time.Hour)
			exits := map[string]node.Exit{}
			if c.exit != nil {
				old.ID, exits["b"] = "b", *c.exit
			}
			s.facts.Containers = append(s.facts.Containers, old)
			s.endings(t, exits, map[*node.Container]string{&old: c.log})
			got := said(s.status(), finding.ContainerRestarts)
			if (got != "") != (c.says != "") || !strings.Contains(got, c.says) {
				t.Errorf("it says %q", got)
			}
		})
	}
}

// probed gives etcd a start-up probe of 30 s.
func (s *seen) probed(t *testing.T) {
	t.Helper()
	for i, m := range s.facts.Manifests {
		if m.Path != s.facts.Etcd.File.Path {
			continue
		}
		text := strings.Replace(string(m.Data), "    name: etcd\n", "    name: etcd\n"+
			"    startupProbe: {periodSeconds: 10, failureThreshold: 3}\n", 1)
		read, err := manifests.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		s.facts.Manifests[i].Manifest = read
	}
}
