package op

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// members3 are three members, each with what it says of itself; one that is not there is silent.
type members3 struct {
	Etcd
	node.Kubelet
	node.Runtime
	says  map[string]Answer
	look  func(looked int)
	looks int
	now   time.Time
	minor string
	list  []Member
}

func (m *members3) Serving(ctx context.Context, a Access, _ int64) (Answer, error) {
	return m.Started(ctx, a)
}

func (m *members3) Members(_ context.Context, a Access) ([]Member, error) {
	if _, there := m.says[a.Endpoints[0]]; !there {
		return nil, errDeaf
	}
	return m.list, nil
}

func (m *members3) Start(context.Context) error                          { return nil }
func (m *members3) Containers(context.Context) ([]node.Container, error) { return nil, nil }
func (m *members3) Now() time.Time                                       { return m.now }

func (m *members3) Sleep(ctx context.Context, d time.Duration) error {
	m.now = m.now.Add(d)
	return ctx.Err()
}

func (m *members3) Started(_ context.Context, a Access) (Answer, error) {
	if a.Endpoints[0] == "https://cp1" {
		if m.looks++; m.look != nil {
			m.look(m.looks)
		}
	}
	if said, there := m.says[a.Endpoints[0]]; there {
		return said, nil
	}
	return Answer{}, errDeaf
}

func (m *members3) ClusterVersion(context.Context, Access) (string, error) {
	if m.minor == "" {
		return "", errDeaf
	}
	return m.minor, nil
}

func three() *members3 {
	m := &members3{says: map[string]Answer{}, now: time.Unix(1, 0), minor: "3.5.0"}
	for i := range 3 {
		m.says[fmt.Sprintf("https://cp%d", i+1)] = Answer{ClusterID: 7, Leader: 1, Version: "3.5.35", Applied: 10,
			Committed: 10}
	}
	m.runs("https://cp1", "3.6.16")
	return m
}

func (m *members3) change(at string, do func(*Answer)) {
	said := m.says[at]
	do(&said)
	m.says[at] = said
}

func (m *members3) runs(at, version string) { m.change(at, func(a *Answer) { a.Version = version }) }

func (m *members3) target() *Target {
	return &Target{Etcd: m, Host: &node.Host{Kubelet: m, Runtime: m, Clock: m}}
}

func awaits() *AwaitVersion {
	at := func(url string) Other {
		return Other{Node: url[len("https://"):], Access: Access{Endpoints: []string{url}}}
	}
	return &AwaitVersion{Access: Access{Endpoints: []string{"https://cp1"}}, Version: "3.6.16", ClusterID: 7,
		Others: []Other{at("https://cp2"), at("https://cp3")}, Steady: 5 * time.Second, Limit: time.Minute}
}

// The next member is stopped only when all say that they can do without it.
func TestTheNextMembersTurnComesWhenTheClusterIsWhole(t *testing.T) {
	at := func(url string, do func(*Answer)) func(*members3) { return func(m *members3) { m.change(url, do) } }
	for name, c := range map[string]struct {
		plant func(*members3)
		says  string
	}{
		"all is well":         {func(*members3) {}, ""},
		"the old one still":   {func(m *members3) { m.runs("https://cp1", "3.5.35") }, "etcd 3.5.35 runs there"},
		"another member away": {func(m *members3) { delete(m.says, "https://cp3") }, "https://cp3 does not answer"},
		"no leader":           {at("https://cp2", func(a *Answer) { a.Leader = 0 }), "knows no leader"},
		"one that is behind":  {at("https://cp2", func(a *Answer) { a.Applied = 3 }), "is 7 entries behind"},
		"it is itself behind": {at("https://cp1", func(a *Answer) { a.Applied = 9 }), "is 1 entries behind"},
		"another cluster":     {at("https://cp1", func(a *Answer) { a.ClusterID = 8 }), "of another cluster"},
	} {
		m := three()
		c.plant(m)
		began := m.now
		err := awaits().Do(t.Context(), m.target())
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, and not %q", name, err, c.says)
		}
		if took := m.now.Sub(began); err == nil && took < 5*time.Second {
			t.Errorf("%s: it was enough after %s", name, took)
		}
	}
}

// One that goes away again begins anew, and one on a node that is lost is not waited for.
func TestAClusterHasToStayWholeForAWhile(t *testing.T) {
	m := three()
	m.look = func(looked int) {
		m.change("https://cp3", func(a *Answer) { a.Leader = 1 })
		if looked == 20 { // after 4 s
			m.change("https://cp3", func(a *Answer) { a.Leader = 0 })
		}
	}
	began := m.now
	if err := awaits().Do(t.Context(), m.target()); err != nil || m.now.Sub(began) < 9*time.Second {
		t.Errorf("it was enough after %s: %v", m.now.Sub(began), err)
	}
	m = three()
	delete(m.says, "https://cp3")
	target := m.target()
	target.Lost = []string{"cp3"}
	if err := awaits().Do(t.Context(), target); err != nil {
		t.Error(err)
	}
}

// One that somebody has added counts for the quorum before it has ever started.
func TestNoMemberIsStoppedWhileOneHasNeverStarted(t *testing.T) {
	others := &AwaitOthers{Others: awaits().Others, ClusterID: 7, Limit: time.Minute, Started: true}
	m := three()
	m.list = []Member{{ID: 1, Name: "cp1"}, {ID: 2, Name: "cp2"}, {ID: 3, Name: "cp3"}}
	if err := others.Do(t.Context(), m.target()); err != nil {
		t.Error(err)
	}
	m.list = append(m.list, Member{ID: 4, PeerURLs: []string{"https://cp4:2380"}})
	err := others.Do(t.Context(), m.target())
	if err == nil || !strings.Contains(err.Error(), "somebody has added the member 4 (https://cp4:2380)") {
		t.Errorf("one has never started: %v", err)
	}
	delete(m.says, "https://cp2") // declared destroyed: the other one is asked
	lost := m.target()
	lost.Lost = []string{"cp2"}
	if err := others.Do(t.Context(), lost); err == nil || !strings.Contains(err.Error(), "never started") {
		t.Errorf("one has never started, and one is lost: %v", err)
	}
	others.Started = false
	if err := others.Do(t.Context(), lost); err != nil {
		t.Errorf("it is not asked for: %v", err)
	}
}

func TestTheVersionOfTheClusterIsSeenToRise(t *testing.T) {
	await := &AwaitClusterVersion{Access: Access{Endpoints: []string{"https://cp1"}}, Version: "3.6.0",
		Limit: time.Minute}
	m := three()
	err := await.Do(t.Context(), m.target())
	if err == nil || !strings.Contains(err.Error(), "it is 3.5.0: etcd raises it") {
		t.Errorf("it has not risen: %v", err)
	}
	m.minor = "3.6.0"
	m.change("https://cp1", func(a *Answer) { a.Storage = "3.5.0" })
	if err := await.Do(t.Context(), m.target()); err == nil || !strings.Contains(err.Error(), "still 3.5.0") {
		t.Errorf("the data are still old: %v", err)
	}
	m.look = func(looked int) {
		if looked > 5 {
			m.change("https://cp1", func(a *Answer) { a.Storage = "3.6.0" })
		}
	}
	m.looks = 0
	if err := await.Do(t.Context(), m.target()); err != nil {
		t.Error(err)
	}
	m.minor = "" // --listen-client-http-urls: the client URL does not tell it
	if err := await.Do(t.Context(), m.target()); err != nil {
		t.Errorf("the data have risen, so the cluster has: %v", err)
	}
	m.look = nil
	m.change("https://cp1", func(a *Answer) { a.Storage = "3.5.0" })
	if err := await.Do(t.Context(), m.target()); err == nil || !strings.Contains(err.Error(), "still 3.5.0") {
		t.Errorf("nobody tells the cluster's: %v", err)
	}
	var warned []string
	target := m.target()
	target.Lost, target.Warn = []string{"cp3"}, func(f finding.Finding) { warned = append(warned, f.Text) }
	m.minor = "3.5.0"
	err = await.Do(t.Context(), target)
	if err != nil || !strings.Contains(strings.Join(warned, ""), "remove the member on cp3") {
		t.Errorf("without a lost one it would never end: %v, %q", err, warned)
	}
}

// store is a runtime with a registry.
type store struct {
	node.Runtime
	has, registry []string
	vain          bool // what is pulled is not there afterwards
}

func (s *store) Image(_ context.Context, name string) (node.Image, error) {
	return node.Image{Present: strings.Contains(strings.Join(s.has, " "), name)}, nil
}

func (s *store) Pull(_ context.Context, name string, _ time.Duration, waiting func(time.Duration)) error {
	waiting(10 * time.Second)
	if !strings.Contains(strings.Join(s.registry, " "), name) {
		return errors.New("manifest unknown")
	}
	if !s.vain {
		s.has = append(s.has, name)
	}
	return nil
}

func TestAnImageIsPulledUnlessItIsHere(t *testing.T) {
	for name, c := range map[string]struct {
		store
		says string
	}{
		"it is here":            {store{has: []string{"e:1"}}, ""},
		"it can be pulled":      {store{registry: []string{"e:1"}}, "still pulling e:1, for 10s now"},
		"nobody has it":         {store{}, "manifest unknown"},
		"it is not there after": {store{registry: []string{"e:1"}, vain: true}, "does not have it"},
	} {
		said := ""
		target := &Target{Host: &node.Host{Runtime: &c.store}, Report: func(text string) { said += text }}
		err := (&PullImage{Image: "e:1", Limit: time.Minute}).Do(t.Context(), target)
		var none *NoImageError
		if errors.As(err, &none) {
			said += err.Error()
		} else if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !strings.Contains(said, c.says) || c.says == "" && said != "" {
			t.Errorf("%s: it says %q, and not %q", name, said, c.says)
		}
		if none != nil && !strings.Contains(none.Hint(), "crictl pull e:1") {
			t.Errorf("%s: the hint is %q", name, none.Hint())
		}
	}
}

// config is kubeadm's ClusterConfiguration, of an API server that may be down.
type config struct {
	APIServer
	tag   string
	local bool
	down  error
}

func (c *config) ImageTag(context.Context, APIAccess) (string, bool, error) {
	return c.tag, c.local, c.down
}

func (c *config) SetImageTag(_ context.Context, _ APIAccess, tag string) error {
	c.tag = tag
	return c.down
}

// kubeadm's line never keeps a run open: what cannot be set is said.
func TestKubeadmsTagIsSetOrItIsSaidHow(t *testing.T) {
	for name, c := range map[string]struct {
		config
		tag, says string
	}{
		"it is another":       {config{tag: "3.5.35-0", local: true}, "3.6.16-0", ""},
		"none is set":         {config{local: true}, "3.6.16-0", ""},
		"etcd is not its":     {config{}, "", ""},
		"no API server":       {config{tag: "3.5.35-0", down: errDeaf}, "3.5.35-0", `imageTag to "3.6.16-0"`},
		"it may not be asked": {config{down: &DeniedError{Status: 403, Text: "no"}}, "", "kubectl -n kube-system"},
	} {
		said := ""
		target := &Target{Host: &node.Host{Clock: &members3{now: time.Unix(1, 0)}}, APIServer: &c.config,
			Warn: func(f finding.Finding) { said += f.Text }}
		set := &SetImageTag{Tag: "3.6.16-0", Limit: 5 * time.Second}
		if err := errors.Join(set.Record(t.Context(), target), set.Do(t.Context(), target)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if c.config.tag != c.tag || !strings.Contains(said, c.says) || c.says == "" && said != "" {
			t.Errorf("%s: it is %q, and it says %q", name, c.config.tag, said)
		}
	}
}

// A backup within a run is whole, or nothing is left of it.
func TestABackupWithinARunIsKeptOrLeavesNothing(t *testing.T) {
	for _, spoil := range []bool{false, true} {
		dir := filepath.Join(t.TempDir(), "backups")
		take := &TakeBackup{Missing: []string{dir}, Access: Access{Endpoints: []string{"https://cp1"}},
			Open: *openBackup(Workspace{Dir: dir, Run: "run"}, Sidecar{Node: "cp1"})}
		err := take.Do(t.Context(), diskTarget(fileEtcd{spoil: spoil}))
		names, readErr := os.ReadDir(dir)
		left := fmt.Sprint(names)
		kept := strings.Contains(left, ".db ") && strings.Contains(left, ".json")
		if readErr != nil || (err == nil) == spoil || kept == spoil || spoil && len(names) > 0 {
			t.Errorf("spoilt %v: %v; there are %s, %v", spoil, err, left, readErr)
		}
	}
}

func TestAManifestIsSeenToBeTheOneThatWasPlanned(t *testing.T) {
	file := filepath.Join(t.TempDir(), "etcd.yaml")
	see := &SeeManifest{Path: file, Old: sumOfData([]byte("old")), New: sumOfData([]byte("new"))}
	for text, says := range map[string]string{"old": "", "new": "", "edited": "someone has changed"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		err := see.Do(t.Context(), diskTarget(fileEtcd{}))
		if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
