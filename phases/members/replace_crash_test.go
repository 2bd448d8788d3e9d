package members

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/phases/together"
	"github.com/etcdpod/etcdpod/pki"
)

// replace is stopped at every step. What must hold, always:
//   - Either nothing has changed: the cluster has the dead member, each API server the flags that
//     it had, the new machine neither certificates nor an etcd. Or the dead member has left, and
//     the new one votes and serves, and no API server names the old one.
//   - The old member never leaves before all nodes hold the commit record, nor if the new machine
//     is lost by then.
//   - The new one is no member, not even a learner, while the old one is one.
//   - No API server names the new member before that votes.
//   - Ended without the new machine, the cluster has no learner, and the old member has left.

// replacing is a node of a run that replaces cp3, which is dead, by cp4.
type replacing struct {
	*crashtest.Node
	names string // what the API server uses; empty: it is the new machine
	first string // what it uses once the old member has left
	alone bool   // the run is on this node alone: what the other nodes do is done
}

const (
	deadPeer   = "https://cp3:2380"
	newcomer   = "cp4"
	newPeer    = "https://cp4:2380"
	newClient  = "https://cp4:2379"
	lasting    = "https://cp1:2379,https://cp2:2379"
	newcomersE = "    - --advertise-client-urls=" + newClient + "\n    - --data-dir=/var/lib/etcd\n" +
		"    - --initial-advertise-peer-urls=" + newPeer +
		"\n    - --initial-cluster=cp1=https://cp1:2380,cp2=https://cp2:2380,cp4=" + newPeer +
		"\n    - --initial-cluster-state=existing\n    - --name=cp4\n"
)

func replacingOn(w *crashtest.Node) replacing {
	switch w.Name {
	case "cp1":
		return replacing{Node: w, names: "https://127.0.0.1:2379,https://cp3:2379", first: "https://127.0.0.1:2379"}
	case newcomer:
		return replacing{Node: w}
	}
	return replacing{Node: w, names: "https://cp3:2379", first: lasting}
}

// Machine is a node before the old member is replaced.
func (w replacing) machine(t *testing.T, node string) *sim.Machine {
	t.Helper()
	var m *sim.Machine
	if w.names == "" {
		m = beginning{keep: []string{"etcd-ca"}}.Machine(t)
	} else {
		m = leaver{node: node, names: w.names}.Machine(t)
	}
	m.Members = &sim.Members{URL: "https://" + node + ":2380", Name: node, Next: 3, Dead: deadPeer}
	for i, name := range []string{"cp1", "cp2", "cp3"} {
		m.Members.All = append(m.Members.All,
			op.Member{ID: op.ID(i + 1), Name: name, PeerURLs: []string{"https://" + name + ":2380"}})
	}
	switch {
	case w.alone && w.names == "": // the others remove the old one
		m.Members.All = m.Members.All[:2]
	case w.alone: // the newcomer joins
		m.Members.All = append(m.Members.All, op.Member{ID: 4, Name: newcomer, PeerURLs: []string{newPeer}})
	}
	m.Revive()
	m.Settle()
	return m
}

func (w replacing) looker() replaceLooker {
	stays := removing{w.Node, leaver{node: w.Name}}.looker()
	stays.cluster = func(context.Context, *observe.Node, op.Access, []string) (*ClusterFacts, error) {
		return w.cluster(), nil
	}
	return replaceLooker{stays, w.newcomer}
}

func (w replacing) cluster() *ClusterFacts {
	c := &ClusterFacts{ID: sim.ClusterID}
	for _, m := range w.Machine.Members.All {
		one := MemberFacts{Member: m, Version: "3.6.5", Applied: 100, SizeBytes: 1 << 20,
			ClientURLs: []string{"https://" + m.Name + ":2379"}}
		if m.Name == "cp3" {
			one.Error, one.Applied = errors.New("connection refused"), 0
		}
		c.Members = append(c.Members, one)
	}
	return c
}

// newcomer observes the new machine.
func (w replacing) newcomer(_ context.Context, _ *observe.Node, q newcomerQuestion) (*Facts, error) {
	f := &Facts{Facts: &observe.Facts{Run: q.Run, Now: time.Unix(1_800_000_000, 0), Node: newcomer,
		ManifestDir: crashtest.TestManifestDir, KubeletActive: true, Notes: map[string]string{}}}
	f.Init = &InitFacts{
		CertificatesDir: path.Clean(crashtest.TestPKI), HealthCheck: time.Minute,
		PKI: pki.Config{NodeName: newcomer, AdvertiseAddress: "10.0.0.14"},
		Rendered: []byte(strings.Replace(crashtest.EtcdManifest(""), "    - --data-dir=/var/lib/etcd\n", newcomersE,
			1)),
		DataDir: "/var/lib/etcd", Whole: true,
	}
	w.init().observeCerts(f)
	f.Join = &JoinFacts{Endpoints: q.Endpoints, Source: "the members that stay", Cluster: w.cluster(),
		Through: op.Access{Endpoints: q.Endpoints}}
	f.Join.without(q.Options.joiner().gone)
	return f, observeManifest(w.Process.Look, f)
}

func (w replacing) init() *initWorld {
	return &initWorld{w.Node, beginning{keep: []string{"etcd-ca"}}}
}

func (w replacing) replace(nodes []journal.Peer) error {
	return together.Plans(w.looker().planAll, ReplaceOptions{Member: "cp3",
		With: journal.Peer{Name: newcomer, Host: newcomer}, Nodes: nodes[:2]}).
		CarryOut(w.Context(), w.Process, func(engine.TogetherPlan) error { return nil })
}

// outcome says whether the node is wholly old or wholly new; if neither, what is wrong.
func (w replacing) outcome() (string, error) {
	if w.names == "" {
		return w.OldOrNew(func(look string) error {
			if strings.Contains(look, ".etcdpod") {
				return fmt.Errorf("something was left behind:\n%s", look)
			}
			return errors.Join(w.init().certsAreThere(), crashtest.Shows(look, "/var/lib/etcd {-rwx------ 0 0 } ",
				crashtest.TestManifestDir+"/etcd.yaml {-rw------- 0 0 } ", "kubelet true\n", "runs etcd new\n"))
		})
	}
	return w.OldOrNew(func(look string) error {
		now, err := w.Machine.ReadFile(apiServerManifest)
		text := string(now)
		if err != nil || text != apiServerWith(w.first) && text != apiServerWith(w.first+","+newClient) {
			return fmt.Errorf("the API server's manifest is\n%s\n%v", now, err)
		}
		for _, m := range w.Machine.Members.All {
			if m.IsLearner || m.ID == 3 {
				return fmt.Errorf("the cluster has %+v", m)
			}
		}
		return crashtest.Shows(look, "kubelet true\n", "runs etcd old\n", "runs kube-apiserver ")
	})
}

// replaceCases are runs on one node alone.
func replaceCases() []crashtest.Case {
	stays := replacing{names: "https://127.0.0.1:2379,https://cp3:2379", first: "https://127.0.0.1:2379", alone: true}
	return []crashtest.Case{
		{Name: "the new machine", Machine: func(t *testing.T) *sim.Machine {
			return replacing{alone: true}.machine(t, newcomer)
		}, On: func(w *crashtest.Node, _ *sim.Machine) crashtest.Subject {
			r := replacing{Node: w, alone: true}
			r.Machine.CommittedBy(func() bool { return true })
			return crashtest.Subject{Run: r.aloneRun, Outcome: func() (string, error) {
				v, err := r.outcome()
				all := r.Machine.Members.All
				if votes := len(all) == 3 && !all[2].IsLearner; err == nil && (v == "new") != votes {
					err = fmt.Errorf("the node is %s, and the cluster's members are %+v", v, all)
				}
				return v, err
			}}
		}},
		{Name: "a node that stays", Machine: func(t *testing.T) *sim.Machine { return stays.machine(t, "cp1") },
			On: func(w *crashtest.Node, _ *sim.Machine) crashtest.Subject {
				r := stays
				r.Node = w
				return crashtest.Subject{Run: r.aloneRun, Outcome: r.outcome}
			}},
	}
}

func (w replacing) aloneRun() error {
	o := replacer{
		ReplaceOptions: ReplaceOptions{Member: "cp3", With: journal.Peer{Name: newcomer}},
		Removal: Removal{Cluster: journal.Cluster{Nodes: []journal.Peer{{Name: w.Name}}}, Name: "cp3",
			Gone: op.Member{ID: 3, Name: "cp3", PeerURLs: []string{deadPeer}},
			URLs: []string{"https://cp3:2379"}, Stay: strings.Split(lasting, ",")},
		Newcomer: Newcomer{Node: newcomer, Name: newcomer, PeerURLs: []string{newPeer},
			ClientURLs: []string{newClient}},
		Before: []op.ID{1, 2, 3},
	}
	flow := o.workflow()
	flow.Observe = func(ctx context.Context, n *observe.Node, run string) (*ReplaceFacts, error) {
		return w.looker().alone(ctx, n, run, w.names == "", o)
	}
	return w.Do(flow.On(w.Process.Look))
}

// alone observes a node whose run is on it alone.
func (l replaceLooker) alone(
	ctx context.Context, n *observe.Node, run string, joins bool, o replacer,
) (*ReplaceFacts, error) {
	if joins {
		f, err := l.newcomer(ctx, n, newcomerQuestion{Run: run, Options: o, Endpoints: o.Stay})
		if err != nil {
			return nil, err
		}
		return &ReplaceFacts{Facts: f.Facts, Joins: f}, nil
	}
	f, err := l.facts(ctx, n, run)
	if err != nil {
		return nil, err
	}
	return &ReplaceFacts{Facts: f.Facts, Stays: f}, nil
}

func TestAReplacementEndsWhollyOldOrWhollyNewWhateverHappens(t *testing.T) {
	crashtest.Everything(t, replaceCases())
}

func replaceOnThree() crashtest.Together {
	return crashtest.Together{
		Name: "replace", Nodes: []string{"cp1", "cp2", newcomer},
		Machine: func(t *testing.T, node string) *sim.Machine {
			t.Helper()
			return replacingOn(&crashtest.Node{Name: node}).machine(t, node)
		},
		Joint:   func(w *crashtest.Node) together.Joint { return replacingOn(w).looker().joint() },
		Run:     func(w *crashtest.Node, nodes []journal.Peer) error { return replacingOn(w).replace(nodes) },
		Outcome: func(w *crashtest.Node) (string, error) { return replacingOn(w).outcome() },
		// Without the new machine nothing is removed that has not been removed yet.
		Futile: func(c *crashtest.Cluster) bool { return slices.Contains(c.Gone, newcomer) },
		Check:  checkReplacement,
	}
}

// checkReplacement checks, after every step, what no two nodes may be in between.
func checkReplacement(c *crashtest.Cluster) {
	for _, name := range c.Alive() {
		m := c.Nodes[name].Machine
		old := slices.ContainsFunc(m.Members.All, func(one op.Member) bool { return one.ID == 3 })
		in := slices.IndexFunc(m.Members.All,
			func(one op.Member) bool { return slices.Contains(one.PeerURLs, newPeer) })
		for _, other := range c.Alive() {
			if !old && !c.Holds(other, journal.Commit) {
				c.Violate("the old member has left, and %s does not hold the commit record", other)
			}
		}
		if old && in >= 0 {
			c.Violate("the new member is in before the old one has left")
		}
		named := strings.Contains(string(m.Peek(apiServerManifest)), newClient)
		if named && (in < 0 || m.Members.All[in].IsLearner) {
			c.Violate("the API server of %s names the new member, which does not vote", name)
		}
	}
}

func TestAReplacementIsSettledAfterAnyTwoFaults(t *testing.T) {
	crashtest.SettledAfterTwoFaults(t, replaceOnThree())
}

func TestWhateverSomebodyElseDoesAtAnyStepOfAReplacementItIsSettled(t *testing.T) {
	crashtest.MeddledTogether(t, replaceOnThree())
}

func TestAReplacementInterruptedAnywhereGoesBackOnAll(t *testing.T) {
	crashtest.InterruptedTogether(t, replaceOnThree())
}

func TestMistakesInAReplacementAreCaught(t *testing.T) {
	crashtest.CatchesMistakes(t, replaceOnThree())
}
