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
	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/phases/together"
)

// Three members follow as one run, which is stopped at every step. What must hold, always:
//   - In the end all is old on all nodes, or all is new, as on one node; see
//     readdress_crash_test.go.
//   - A cluster that has a quorum keeps it: no two members are away at once, forward and back.
//   - Members that had no quorum have one when they are told of a new URL, and when they are told
//     of the old one again.
//   - The list names a new URL only of a member whose manifest has it, too.
//   - No API server is touched before all nodes hold the commit record.

// fellow is a node of the run; of the down ones the old address is gone, and so was the quorum.
type fellow struct {
	*crashtest.Node
	down  []string
	moves []string // the nodes of the run
}

// then is where a node is afterwards.
func (w fellow) then(node string) string {
	if slices.Contains(w.moves, node) && !w.stays(node) {
		return isAt(node)
	}
	return wasAt(node)
}

// stays says whether the others find each other through a node that is there: it follows in another
// run.
func (w fellow) stays(node string) bool { return len(w.down) > 0 && !slices.Contains(w.down, node) }

var fellows = []string{"cp1", "cp2", "cp3"}

func addressOf(node, first string) string { return "10.0.0." + first + strings.TrimPrefix(node, "cp") }

func wasAt(node string) string { return addressOf(node, "1") }
func isAt(node string) string  { return addressOf(node, "2") }

// deadToo is a member on none of the nodes, which counts and never answers.
const deadToo = "https://10.0.0.99:2380"

func peerURLs(at func(string) string, dead bool) (all []string) {
	for _, name := range fellows {
		all = append(all, "https://"+at(name)+":2380")
	}
	if dead {
		all = append(all, deadToo)
	}
	return all
}

// manifests are a node's, before or after. Before, its --initial-cluster knows only itself.
func (w fellow) manifests(after bool) map[string]string {
	at, whole := wasAt, w.Name+"=https://"+wasAt(w.Name)+":2380"
	if after {
		at = w.then
	}
	if after && !w.stays(w.Name) {
		whole = w.Name + "=https://" + isAt(w.Name) + ":2380"
		for _, name := range fellows {
			switch {
			case name == w.Name:
			case w.stays(name): // it is named as it is to be
				whole += "," + name + "=https://" + isAt(name) + ":2380"
			default:
				whole += "," + name + "=https://" + w.then(name) + ":2380"
			}
		}
		if len(w.down) > 0 {
			whole += ",cp4=" + deadToo
		}
	}
	all := addressedManifests(at(w.Name))
	all["etcd"] = strings.Replace(all["etcd"], "cp1=https://"+at(w.Name)+":2380", whole, 1)
	if w.Name == "cp2" { // its API server uses all of them
		var urls []string
		for _, name := range fellows {
			urls = append(urls, "https://"+at(name)+":2379")
		}
		all["kube-apiserver"] = strings.Replace(all["kube-apiserver"], "https://127.0.0.1:2379",
			strings.Join(urls, ","), 1)
	}
	return all
}

func (w fellow) isDown() bool { return slices.Contains(w.down, w.Name) }

func (w fellow) machine(t *testing.T) *sim.Machine {
	t.Helper()
	m := mover{members: 1}.Machine(t)
	for name, text := range w.manifests(false) {
		m.Write(path.Join(crashtest.TestManifestDir, name+".yaml"), text)
	}
	m.Members = &sim.Members{URL: "https://" + wasAt(w.Name) + ":2380", Name: w.Name, Next: 4,
		Hosts: []string{wasAt(w.Name), isAt(w.Name)}, Without: len(w.down) > 0}
	for i, url := range peerURLs(wasAt, len(w.down) > 0) {
		m.Members.All = append(m.Members.All,
			op.Member{ID: op.ID(i + 1), Name: fmt.Sprintf("cp%d", i+1), PeerURLs: []string{url}})
	}
	if m.Members.Without {
		m.Members.Dead = deadToo
	}
	if w.isDown() {
		m.Homeless = "listen-peer-urls=https://" + wasAt(w.Name)
	}
	m.PowerOn(map[string][]string{"etcd": {crashtest.TestPKI + "etcd/server", crashtest.TestPKI + "etcd/peer"}})
	m.Revive()
	m.Settle()
	return m
}

func (w fellow) looker() followLooker { return followLooker{seen: w.seen, rendered: w.rendered} }

func (w fellow) seen(_ context.Context, _ *observe.Node, o ReaddressOptions, run string) (*ReaddressFacts, error) {
	seen, err := w.Observe(run)
	if err != nil {
		return nil, err
	}
	seen.KubeletActive = true
	seen.Containers, _ = w.Machine.Host().Runtime.Containers(context.Background())
	addressed(seen.Etcd)
	f := &ReaddressFacts{Facts: seen, Ready: len(w.down) == 0}
	has := machine{has: func(a string) bool { return a == isAt(w.Name) || !w.isDown() && a == wasAt(w.Name) },
		choose: func() string { return isAt(w.Name) }}
	if err := o.decide(f, has); err != nil {
		return nil, err
	}
	all := w.Machine.Members.All
	if w.isDown() {
		f.ClusterError = errors.New("connection refused")
		f.Data = &observe.Stopped{ClusterID: sim.ClusterID, MemberID: uint64(w.member()), Members: all}
		return f, w.rendered(context.Background(), nil, f)
	}
	f.r = &roster{own: int(w.member()) - 1, cluster: sim.ClusterID, quorum: len(w.down) == 0}
	for i, m := range all {
		a := answer{}
		if i >= len(fellows) || slices.Contains(w.down, fellows[i]) {
			a.Err = errors.New("connection refused")
		}
		f.r.members = append(f.r.members, etcd.Member{ID: uint64(m.ID), Name: m.Name, PeerURLs: m.PeerURLs})
		f.r.answers = append(f.r.answers, a)
	}
	if f.r.quorum {
		seen.Live = &observe.Live{ClusterID: sim.ClusterID, MemberID: uint64(w.member()), Members: all}
	}
	if err := f.take(f.r); err != nil {
		return nil, err
	}
	return f, w.rendered(context.Background(), nil, f)
}

func (w fellow) member() op.ID { return op.ID(slices.Index(fellows, w.Name) + 1) }

// rendered is what the real one does, with the certificates of the simulated node.
func (w fellow) rendered(_ context.Context, _ *observe.Node, f *ReaddressFacts) error {
	if err := f.render(); err != nil {
		return err
	}
	after := *f.Etcd
	f.Certs = nil
	if f.EtcdChange != "" {
		after.File = f.After.File
		addressed(&after)
		for _, name := range []string{"server", "peer"} {
			base := crashtest.TestPKI + "etcd/" + name
			f.Certs = append(f.Certs, addressCert{name: "etcd-" + name, cert: base + ".crt", key: base + ".key",
				ca: crashtest.TestPKI + "etcd/ca.crt", issue: true})
		}
	}
	f.After, f.Starts = &after, f.Facts
	f.tell()
	if f.r != nil && f.r.answers == nil {
		f.Cluster = 0 // the simulated etcd's is made from its data
	}
	return nil
}

func (w fellow) outcome() (string, error) {
	v, err := w.OldOrNew(func(look string) error {
		for name, want := range w.manifests(true) {
			if now, err := w.Machine.ReadFile(path.Join(crashtest.TestManifestDir, name+".yaml")); err != nil ||
				string(now) != want {
				return fmt.Errorf("the manifest is\n%s\nand not\n%s\n%v; not as before are\n%s", now, want, err,
					strings.Join(slices.DeleteFunc(strings.Split(look, "\n"), func(line string) bool {
						return strings.Contains(w.First, line)
					}), "\n"))
			}
		}
		for _, name := range []string{"server", "peer"} {
			cert, key := string(w.Machine.Peek(crashtest.TestPKI+"etcd/"+name+".crt")),
				string(w.Machine.Peek(crashtest.TestPKI+"etcd/"+name+".key"))
			if !strings.HasPrefix(cert, "cert new") || cert[len("cert "):] != key[len("key "):] {
				return fmt.Errorf("%s is %q with %q", name, cert, key)
			}
		}
		return crashtest.Shows(look, "kubelet true\n", "runs etcd old\n", "runs kube-apiserver ")
	})
	if w.stays(w.Name) && v == "old" { // nothing on it changes, but it knows how the run has ended
		holds := func(kind journal.Kind) bool {
			return w.Machine.Holding(journal.Home, ` {"kind":"`+string(kind)+`"`) != ""
		}
		if holds(journal.Commit) && !holds(journal.Abort) {
			v = "new"
		}
		return v, nil
	}
	own := w.Machine.Members.All[w.member()-1]
	at := map[string]string{"old": wasAt(w.Name), "new": isAt(w.Name)}[v]
	switch stale := w.Machine.Stale(); {
	case err != nil:
		return "", err
	case len(stale) > 0:
		return "", errors.New(strings.Join(stale, "\n"))
	case own.PeerURLs[0] != "https://"+at+":2380":
		return "", fmt.Errorf("the node is %s, and the members are %v", v, w.Machine.Members.All)
	}
	return v, nil
}

func followOnThree(down ...string) crashtest.Together { return followOn(fellows, down...) }

// followOn is a run on some of them; the others serve, and stay where they are.
func followOn(nodes []string, down ...string) crashtest.Together {
	of := func(w *crashtest.Node) fellow { return fellow{Node: w, down: down, moves: nodes} }
	return crashtest.Together{
		Name: "readdress", Nodes: nodes,
		Machine: func(t *testing.T, name string) *sim.Machine {
			t.Helper()
			return of(&crashtest.Node{Name: name}).machine(t)
		},
		Joint: func(w *crashtest.Node) together.Joint { return of(w).looker().joint() },
		Run: func(w *crashtest.Node, nodes []journal.Peer) error {
			o := FollowOptions{Nodes: nodes, Addresses: map[string]string{}}
			for _, name := range whose(nodes) {
				if !slices.Contains(down, name) {
					o.Addresses[name] = isAt(name)
				}
			}
			return ReaddressTogether(o).CarryOut(w.Context(), w.Process, func(engine.TogetherPlan) error { return nil })
		},
		Outcome: func(w *crashtest.Node) (string, error) { return of(w).outcome() },
		Check:   checkFollowers,
	}
}

func whose(nodes []journal.Peer) (names []string) {
	for _, n := range nodes {
		names = append(names, n.Name)
	}
	return names
}

// checkFollowers checks, after every step, what no node may be ahead with.
func checkFollowers(c *crashtest.Cluster) {
	for _, name := range c.Alive() {
		m := c.Nodes[name].Machine
		read := func(program string) string {
			return string(m.Peek(path.Join(crashtest.TestManifestDir, program+".yaml")))
		}
		if m.Members.URL == "https://"+isAt(name)+":2380" && !strings.Contains(read("etcd"), isAt(name)) {
			c.Violate("the members look for %s at its new URL, and its manifest does not have that", name)
		}
		if !strings.Contains(read("kube-apiserver"), isAt(name)) {
			continue
		}
		for _, other := range c.Alive() {
			if !c.Holds(other, journal.Commit) {
				c.Violate("the API server of %s has new addresses, and %s does not hold the commit record", name, other)
			}
		}
	}
}

// followAlone is a run on one node, which has been told of the others what a run of all would tell.
type followAlone struct {
	fellow
	name string
	to   Following
}

// Title names the case.
func (f followAlone) Title() string { return f.name }

func (f followAlone) Machine(t *testing.T) *sim.Machine {
	t.Helper()
	f.Node = &crashtest.Node{Name: "cp1"}
	return f.machine(t)
}

func followCases(t *testing.T) []crashtest.Case {
	t.Helper()
	var all []followAlone
	for name, down := range map[string][]string{
		"a member that serves": nil, "a member that is down": {"cp1", "cp3"},
	} {
		var surveys []FollowSurvey
		for _, node := range fellows {
			w := fellow{Node: &crashtest.Node{Name: node}, down: down, moves: fellows}
			m := w.machine(t)
			w.Node = crashtest.Over(t, node, m, m)
			o := ReaddressOptions{}
			if !w.isDown() {
				o.Address = isAt(node)
			}
			f, err := w.seen(t.Context(), nil, o, "run")
			if err != nil {
				t.Fatal(err)
			}
			surveys = append(surveys, f.survey(node))
		}
		to, err := following(surveys)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, followAlone{fellow{down: down, moves: fellows}, name, to})
	}
	return crashtest.Cases(all, func(f followAlone, w *crashtest.Node, _ *sim.Machine) crashtest.Subject {
		f.Node = w
		return crashtest.Subject{Run: f.run, Outcome: f.outcome}
	})
}

func (f followAlone) run() error {
	flow := follower{}.workflow()
	flow.Observe = func(ctx context.Context, n *observe.Node, run string) (*ReaddressFacts, error) {
		o := ReaddressOptions{}
		if !f.isDown() {
			o.Address = isAt(f.Name)
		}
		seen, err := f.seen(ctx, n, o, run)
		if err != nil {
			return nil, err
		}
		seen.follow(f.to, f.Name)
		return seen, f.rendered(ctx, n, seen)
	}
	return f.Do(flow.On(f.Process.Look))
}

func TestAMemberFollowsWithOthersWhollyOrNotAtAllWhateverHappens(t *testing.T) {
	crashtest.Everything(t, followCases(t))
}

func TestThreeMembersThatFollowAreSettledAfterAnyTwoFaults(t *testing.T) {
	crashtest.SettledAfterTwoFaults(t, followOnThree())
}

// The third one is on none of the run's nodes, and is in no way part of it.
func TestTwoOfThreeMembersThatFollowAreSettledAfterAnyTwoFaults(t *testing.T) {
	crashtest.SettledAfterTwoFaults(t, followOn([]string{"cp1", "cp2"}))
}

// Two of them are down, and no quorum: both are needed to tell the members of either, forward and
// back. The third one, through which they find each other, stays where it is.
func TestMembersWithoutAQuorumThatFollowAreSettledAfterAnyTwoFaults(t *testing.T) {
	crashtest.SettledAfterTwoFaults(t, followOnThree("cp2", "cp3"))
}

func TestMistakesWhileMembersFollowAreCaught(t *testing.T) {
	crashtest.CatchesMistakes(t, followOnThree("cp2", "cp3"))
}

func TestWhateverSomebodyElseDoesWhileThreeMembersFollowItIsSettled(t *testing.T) {
	crashtest.MeddledTogether(t, followOnThree())
}

func TestThreeMembersThatFollowAndAreInterruptedGoBackOnAll(t *testing.T) {
	crashtest.InterruptedTogether(t, followOnThree())
}

// followsOnce runs it undisturbed, and returns the order in which etcds were away.
func followsOnce(t *testing.T, sick string, down ...string) (away []string, c *crashtest.Cluster, err error) {
	w := followOnThree(down...)
	w.Check = func(c *crashtest.Cluster) {
		checkFollowers(c)
		var now []string
		for _, name := range c.Names {
			if !slices.Contains(down, name) && c.Nodes[name].Machine.RunsFrom("etcd") == "" {
				now = append(now, name)
			}
		}
		switch {
		case len(now) > 1:
			c.Violate("the etcds of %q are away at once", now)
		case len(now) == 1 && (len(away) == 0 || away[len(away)-1] != now[0]):
			away = append(away, now[0])
		}
	}
	c = w.Fresh(t)
	if sick != "" {
		c.Nodes[sick].Machine.Homeless = "listen-peer-urls=https://" + isAt(sick)
	}
	err = c.Run("cp1")
	return away, c, err
}

func TestSeveralMembersFollowOneAfterTheOther(t *testing.T) {
	away, c, err := followsOnce(t, "")
	if v, wrong := c.Verdict(); err != nil || wrong != nil || v != "new" || !slices.Equal(away, fellows) {
		t.Errorf("it ended %s, one after the other: %q, %v, %v", v, away, err, wrong)
	}
	if _, c, err = followsOnce(t, "", "cp2", "cp3"); err != nil {
		t.Error(err)
	}
	if v, wrong := c.Verdict(); v != "new" || wrong != nil {
		t.Errorf("without a quorum it ended %s: %v", v, wrong)
	}
}

// One that does not start at its new address takes all back; the next one is never touched.
func TestAMemberThatDoesNotStartTakesAllBackOneAfterTheOther(t *testing.T) {
	away, c, err := followsOnce(t, "cp2")
	if !crashtest.IsRolledBack(err) {
		t.Errorf("it ended with %v", err)
	}
	if v, wrong := c.Verdict(); wrong != nil || v != "old" || !slices.Equal(away, []string{"cp1", "cp2", "cp1"}) {
		t.Errorf("it ended %s, one after the other: %q, %v", v, away, wrong)
	}
}

// Who had no quorum, and has none when going back, since a machine has died, must not wait for one
// for ever. Who had one does.
func TestTheWayBackWithoutAQuorumEnds(t *testing.T) {
	for _, without := range []bool{true, false} {
		m := mover{members: 3}.Machine(t)
		for i := 1; i < 3; i++ {
			m.Members.All[i].PeerURLs = []string{deadToo}
		}
		m.Members.Dead, m.Members.Without = deadToo, true
		var warned []string
		target := &op.Target{Host: m.Host(), Etcd: sim.Etcd{M: m},
			Warn: func(f finding.Finding) { warned = append(warned, f.Text) }}
		set := op.SetPeerURLs{Member: 1, Name: "cp1", Before: []string{"https://" + oldAddress + ":2380"},
			After: []string{"https://" + newAddress + ":2380"}, Ways: []op.Access{{}}, Limit: time.Minute,
			Without: without}
		err := set.Undo(t.Context(), target)
		said := strings.Contains(strings.Join(warned, ""), "may still list cp1 at")
		if ended := err == nil && said; ended != without {
			t.Errorf("without a quorum beforehand, %v: %v, %q", without, err, warned)
		}
	}
}
