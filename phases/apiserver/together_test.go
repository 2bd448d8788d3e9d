package apiserver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/phases/together"
)

// The change on three nodes is struck by two faults, by somebody else, and by interrupts: either
// all API servers run from the new manifest, or all run from the old one.

// list are the members of the cluster of the three nodes; the second one has two names.
func list() []etcd.Member {
	var all []etcd.Member
	for i, url := range observe.SplitList(newServers) {
		all = append(all, etcd.Member{ID: uint64(i + 1), Name: fmt.Sprintf("cp%d", i+1), ClientURLs: []string{url}})
	}
	return all
}

// looker observes a simulated node. change is what the node differs in; nil: nothing.
func (w *wiringWorld) looker(change func(*Facts)) looker {
	return looker{
		seen: func(ctx context.Context, n *observe.Node, run string) (*Facts, error) {
			f, err := w.observe(ctx, n, run)
			if err != nil {
				return nil, err
			}
			a := f.APIServer
			a.Before, a.After, a.Cluster, a.Known = EtcdFlagsOf(a.File, a.Container), EtcdFlags{}, sim.ClusterID,
				oldServers
			if change != nil {
				change(f)
			}
			return f, nil
		},
		members: func(context.Context, *observe.Node, *Facts) ([]etcd.Member, error) { return list(), nil },
		tried: func(_ context.Context, _ *observe.Node, f *Facts, wish EtcdFlags, to wanted) {
			a := f.APIServer
			wish.Servers = to.Servers
			if a.After = a.Before.With(wish); unchanged(a) {
				return
			}
			for _, url := range to.Servers {
				if len(a.Answers) < len(to.Servers) { // otherwise a test has said what answers
					a.Answers = append(a.Answers, Answer{URL: url, ClusterID: sim.ClusterID, MemberID: to.At[url],
						want: to.At[url]})
				}
			}
		},
	}
}

// onThree is the change on three nodes; change is what a node differs in, by its name.
func onThree(change map[string]func(*Facts)) crashtest.Together {
	return onThreeOf(wirings()[0], change)
}

func onThreeOf(shape wiring, change map[string]func(*Facts)) crashtest.Together {
	at := shape.on
	return crashtest.Together{
		Name: "apiserver", Nodes: []string{"cp1", "cp2", "cp3"},
		Machine: func(t *testing.T, _ string) *sim.Machine { return shape.Machine(t) },
		Joint:   func(w *crashtest.Node) together.Joint { return at(w).looker(change[w.Name]).joint() },
		Run: func(w *crashtest.Node, nodes []journal.Peer) error {
			return SetTogether(setAllMembers(nodes)).CarryOut(w.Context(), w.Process,
				func(engine.TogetherPlan) error { return nil })
		},
		Outcome: func(w *crashtest.Node) (string, error) { return at(w).settled() },
	}
}

func setAllMembers(nodes []journal.Peer) TogetherOptions {
	return TogetherOptions{Set: Options{AllMembers: true}, Nodes: nodes}
}

func TestAChangeOfThreeAPIServersIsSettledAfterAnyTwoFaults(t *testing.T) {
	crashtest.SettledAfterTwoFaults(t, onThree(nil))
}

func TestWhateverSomebodyElseDoesAtAnyStepOfAChangeOfThreeAPIServersItIsSettled(t *testing.T) {
	crashtest.MeddledTogether(t, onThree(nil))
}

func TestAChangeOfThreeAPIServersInterruptedAnywhereGoesBackOnAll(t *testing.T) {
	crashtest.InterruptedTogether(t, onThree(nil))
}

// turnsOf runs the change under kubelets that are late, and returns the order in which the API
// servers were away. Two of them never are.
func turnsOf(t *testing.T, sick string) (away []string, c *crashtest.Cluster, err error) {
	w := onThreeOf(wirings()[1], nil)
	w.Check = func(c *crashtest.Cluster) {
		var now []string
		for _, name := range c.Names {
			m := c.Nodes[name].Machine
			runs := m.RunsFrom("kube-apiserver")
			if runs != string(m.Peek(apiserverY)) || m.SickText != "" && strings.Contains(runs, m.SickText) {
				now = append(now, name)
			}
		}
		switch {
		case len(now) > 1:
			c.Violate("the API servers of %q are away at once", now)
		case len(now) == 1 && (len(away) == 0 || away[len(away)-1] != now[0]):
			away = append(away, now[0])
		}
	}
	c = w.Fresh(t)
	if sick != "" {
		c.Nodes[sick].Machine.SickText = "10.0.0.12"
	}
	err = c.Run("cp1")
	return away, c, err
}

func TestTheAPIServersOfSeveralNodesChangeOneAtATime(t *testing.T) {
	away, c, err := turnsOf(t, "")
	if v, wrong := c.Verdict(); err != nil || wrong != nil || v != "new" ||
		!slices.Equal(away, []string{"cp1", "cp2", "cp3"}) {
		t.Errorf("it ended %s, one after the other: %q, %v, %v", v, away, err, wrong)
	}
}

func TestIfOneAPIServerDoesNotGetReadyAllGoBackOneAtATime(t *testing.T) {
	away, c, err := turnsOf(t, "cp2")
	if !crashtest.IsRolledBack(err) || !strings.Contains(err.Error(), "the API server is not ready with the new "+
		"manifest: not within 2m0s") {
		t.Errorf("it ended with %v", err)
	}
	// cp3 is never touched; cp1 was ready, and goes back once cp2 is ready again.
	if v, wrong := c.Verdict(); wrong != nil || v != "old" || !slices.Equal(away, []string{"cp1", "cp2", "cp1"}) {
		t.Errorf("it ended %s, one after the other: %q, %v", v, away, wrong)
	}
}

// An API server that was ready, and is not any more when the last one is: nothing is committed.
func TestAnAPIServerThatIsReadyForItsTurnOnlyTakesAllBack(t *testing.T) {
	w := onThree(nil)
	var c *crashtest.Cluster
	w.Joint = func(n *crashtest.Node) together.Joint {
		joint := onThree(nil).Joint(n)
		joint.After[setPhase] = func(ctx context.Context, t *together.Transaction) error {
			c.Nodes["cp1"].Machine.SickText = "10.0.0.12"
			return allReady(ctx, t)
		}
		return joint
	}
	c = w.Fresh(t)
	if err := c.Run("cp1"); !crashtest.IsRolledBack(err) || !strings.Contains(err.Error(), "cp1: the API server is "+
		"not ready with the new manifest: not within 1m0s") {
		t.Errorf("it ended with %v", err)
	}
	if v, wrong := c.Verdict(); wrong != nil || v != "old" {
		t.Errorf("it ended %s: %v", v, wrong)
	}
}

// Whatever is refused on one node is refused before anything is touched on any.
func TestAChangeOfThreeAPIServersIsRefusedAsAWhole(t *testing.T) {
	for _, tt := range []struct {
		name      string
		spoil     func(*Facts)
		why, hint string
	}{
		{"no API server on one", func(f *Facts) { f.Manifests, f.APIServer = nil, &SetFacts{} },
			"no manifest in /etc/kubernetes/manifests runs an API server", "leave it out of --nodes"},
		{"one uses another cluster", func(f *Facts) { f.APIServer.Cluster = 0xbad },
			"the API server of cp1 uses cluster", "a command of their own"},
		{"one cannot reach a member", func(f *Facts) {
			f.APIServer.Answers = []Answer{{URL: "https://10.0.0.11:2379", ClusterID: sim.ClusterID, MemberID: 1},
				{URL: "https://10.0.0.12:2379", Error: errors.New("no route to https://10.0.0.12:2379")}}
		}, "no route to https://10.0.0.12:2379", "--etcd-servers https://10.0.0.11:2379"},
		{"files are missing on one", func(f *Facts) { f.APIServer.Wrong = []string{"--etcd-cafile=/x: /x is missing"} },
			"could not read its files: --etcd-cafile=/x: /x is missing", "as the API server's container sees them"},
		{"the kubelet of one is stopped", func(f *Facts) { f.KubeletActive = false }, "the kubelet is not running",
			"start the kubelet"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := onThree(map[string]func(*Facts){"cp2": tt.spoil}).Fresh(t)
			err := c.Run("cp1")
			crashtest.Refused(t, err, tt.why, tt.hint)
			wantUntouched(t, c)
		})
	}
}

func TestMembersThatCannotServeAreRefusedForAllNodes(t *testing.T) {
	for why, spoil := range map[string]func(*etcd.Member){
		"member cp2 is a learner":    func(m *etcd.Member) { m.IsLearner = true },
		"has never been started":     func(m *etcd.Member) { m.Name, m.ClientURLs = "", nil },
		"https and some http":        func(m *etcd.Member) { m.ClientURLs = []string{"http://10.0.0.12:2379"} },
		"the members cannot be list": nil,
	} {
		t.Run(why, func(t *testing.T) {
			w := onThree(nil)
			w.Joint = func(n *crashtest.Node) together.Joint {
				l := wirings()[0].on(n).looker(nil)
				l.members = func(context.Context, *observe.Node, *Facts) ([]etcd.Member, error) {
					all := list()
					if spoil == nil {
						return nil, errors.New("no leader")
					}
					spoil(&all[1])
					return all, nil
				}
				return l.joint()
			}
			c := w.Fresh(t)
			crashtest.Refused(t, c.Run("cp1"), why, "")
			wantUntouched(t, c)
		})
	}
}

func wantUntouched(t *testing.T, c *crashtest.Cluster) {
	t.Helper()
	if v, err := c.Verdict(); v != "old" || err != nil {
		t.Errorf("it is %s: %v", v, err)
	}
	for _, name := range c.Names {
		if c.Nodes[name].Began() {
			t.Errorf("%s has a run", name)
		}
	}
}

// alike makes nodes that have the flags already.
func alike(w crashtest.Together, names ...string) crashtest.Together {
	fresh := w.Machine
	w.Machine = func(t *testing.T, node string) *sim.Machine {
		m := fresh(t, node)
		if slices.Contains(names, node) {
			m.Write(apiserverY, strings.Replace(oldManifest(), oldServers, newServers, 1))
			m.Look() // the kubelet notices
		}
		return m
	}
	return w
}

// A node with nothing to do holds records only, and decides with them as the others do.
func TestARunWithANodeThatHasNothingToDoIsSettledAfterAnyTwoFaults(t *testing.T) {
	w := alike(onThree(nil), "cp2")
	changes := w.Outcome
	w.Outcome = func(n *crashtest.Node) (string, error) {
		v, err := changes(n)
		if n.Name != "cp2" || err != nil {
			return v, err
		}
		runs, err := journal.List(n.Machine.Disk)
		switch {
		case err != nil:
			return "", err
		case v != "old":
			return "", errors.New("it was changed")
		case len(runs) > 0 && runs[0].State.Committed && runs[0].State.Aborted == "":
			return "new", nil
		}
		return "old", nil
	}
	crashtest.SettledAfterTwoFaults(t, w)
}

func TestARunEndsOnANodeOnWhichNothingIsToBeDone(t *testing.T) {
	for _, sick := range []string{"", "cp3"} {
		w := alike(onThree(nil), "cp2")
		c := w.Fresh(t)
		want := map[string]string{"cp1": "new", "cp2": "old", "cp3": "new"}
		if sick != "" {
			c.Nodes[sick].Machine.SickText = "10.0.0.12"
			want["cp1"], want["cp3"] = "old", "old"
		}
		err := c.Run("cp1")
		if !c.Settled() || sick == "" && err != nil || sick != "" && !crashtest.IsRolledBack(err) {
			t.Errorf("it ended with %v, and is settled: %v", err, c.Settled())
		}
		for name, want := range want {
			if got, err := w.Outcome(c.Nodes[name]); got != want || err != nil {
				t.Errorf("%s is %s: %v", name, got, err)
			}
		}
	}
}

func TestTheWayBackOfNodesThatDifferIsSaidOfEach(t *testing.T) {
	plan := func(node, back string, seconds float64) engine.NodePlan {
		return engine.NodePlan{Node: node, Plan: engine.Plan{Stakes: engine.Stakes{Back: []string{back},
			Lost: []string{"the sight of all objects"}, AwaySeconds: seconds, Earlier: "run-" + node}}}
	}
	got := stakesOfAll([]engine.NodePlan{plan("cp1", "`set a`", 15), plan("cp2", "`set b`", 30)},
		[]journal.Peer{{Name: "cp1"}, {Name: "cp2"}})
	if !slices.Equal(got.Back, []string{"on cp1: `set a`", "on cp2: `set b`"}) || len(got.Lost) != 1 || !got.InTurn ||
		got.AwaySeconds != 30 || got.Earlier != "run-cp2" || !slices.Equal(got.AwayNodes, []string{"cp1", "cp2"}) {
		t.Errorf("got %+v", got)
	}
}

// A node that has the flags already is part of the run, and nothing is done there; if all have
// them, there is nothing to do.
func TestOnlyTheAPIServersThatSayOtherwiseAreChanged(t *testing.T) {
	for _, tt := range []struct {
		alike []string // nodes that have them, on which nothing is to be done
		back  string
	}{
		{nil, "`etcdpod apiserver set --nodes cp1,cp2,cp3=10.0.0.3 --etcd-servers " + oldServers + "`"},
		{[]string{"cp2"}, "--nodes cp1,cp3=10.0.0.3 --etcd-servers"},
		{[]string{"cp1", "cp2", "cp3"}, ""},
	} {
		w := alike(onThree(nil), tt.alike...)
		var plan engine.TogetherPlan
		w.Run = func(n *crashtest.Node, nodes []journal.Peer) (err error) {
			nodes[2].Host = "10.0.0.3"
			plan, err = SetTogether(setAllMembers(nodes)).Preview(n.Context(), n.Process)
			return err
		}
		c := w.Fresh(t)
		if err := c.Run("cp1"); err != nil {
			t.Fatal(err)
		}
		var empty []string
		for _, n := range plan.Nodes {
			if (engine.TogetherPlan{Nodes: []engine.NodePlan{n}}).Empty() {
				empty = append(empty, n.Node)
			}
		}
		if !slices.Equal(empty, tt.alike) || plan.Empty() != (len(tt.alike) == 3) ||
			!strings.Contains(strings.Join(plan.Stakes.Back, "\n"), tt.back) ||
			(len(plan.Stakes.Back) == 0) != plan.Empty() {
			t.Errorf("nothing is to do on %q, and back it says %q", empty, plan.Stakes.Back)
		}
		wantUntouched(t, c)
	}
}
