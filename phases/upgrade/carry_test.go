package upgrade

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/phases/together"
)

// One node's part is stopped at every step. The invariants are in carry.go; of these hold here:
//   - etcd runs from the old manifest, with the old image and flags, or from the new one.
//   - It has its data, and the cluster keeps its quorum.
//   - No pod is started whose image is not on the node.
//   - kubeadm's tag is the old one, or, past the commit point, the new one.

const (
	oldEtcd, newEtcd = "3.6.16", "3.7.3"
	oldImage         = "registry.k8s.io/etcd:" + oldEtcd + "-0"
	newImage         = "registry.k8s.io/etcd:" + newEtcd + "-0"
	etcdFile         = crashtest.TestManifestDir + "/etcd.yaml"
)

var three = []string{"cp1", "cp2", "cp3"}

func hostOf(node string) string { return "10.0.0.1" + strings.TrimPrefix(node, "cp") }

// etcdText is etcd's manifest on a node, with a comment that somebody wrote.
func etcdText(node string) string {
	const at = "    - --data-dir=/var/lib/etcd\n"
	text := strings.Replace(crashtest.EtcdManifest(""), at, at+fmt.Sprintf(
		"    - --advertise-client-urls=https://%[1]s:2379\n"+
			"    - --initial-advertise-peer-urls=https://%[1]s:2380\n"+
			"    # ours\n    - --experimental-initial-corrupt-check=true # of kubeadm\n"+
			"    - --experimental-watch-progress-notify-interval=5s\n", hostOf(node)), 1)
	return strings.Replace(text, "etcd:3.6.5-0", "etcd:"+oldEtcd+"-0", 1)
}

// newText is the same for the new etcd: three words are others.
func newText(node string) string {
	return strings.NewReplacer(oldImage, newImage,
		"--experimental-initial-corrupt-check=true", "--feature-gates=InitialCorruptCheck=true",
		"--experimental-watch", "--watch").Replace(etcdText(node))
}

// upgrader is a node of the run.
type upgrader struct {
	*crashtest.Node
	nodes  []string // of the run
	patch  bool     // the minor stays
	leader string
	deaf   bool // no API server answers the kubelet: it ends no pod that it has started
}

func (w upgrader) to() string {
	if w.patch {
		return "3.6.17"
	}
	return newEtcd
}

func (w upgrader) machine(t *testing.T) *sim.Machine {
	t.Helper()
	m := crashtest.Shape{}.Machine(t)
	m.Write(etcdFile, etcdText(w.Name))
	m.Write(path.Join(crashtest.TestManifestDir, "kube-apiserver.yaml"),
		crashtest.PodManifest("kube-apiserver", "    - --etcd-servers=https://127.0.0.1:2379\n", ""))
	m.Members = &sim.Members{URL: "https://" + hostOf(w.Name) + ":2380", Name: w.Name, Next: 3,
		Hosts: []string{hostOf(w.Name)}}
	for i, name := range w.nodes {
		m.Members.All = append(m.Members.All, op.Member{ID: op.ID(i + 1), Name: name,
			PeerURLs: []string{"https://" + hostOf(name) + ":2380"}})
	}
	m.ToPull, m.ImageTag = []string{newImage, strings.Replace(newImage, newEtcd, "3.6.17", 1)}, oldEtcd+"-0"
	m.Revive() // the kubelet starts what was written
	m.Deaf = w.deaf
	m.Settle()
	return m
}

func (w upgrader) cluster(context.Context, *observe.Node) (cluster, error) {
	c := cluster{quorum: true, through: "https://127.0.0.1:2379"}
	for i, name := range w.nodes {
		m := listed{id: uint64(i + 1), name: name, node: name, role: "voter", started: true, answers: true,
			version: oldEtcd, storage: "3.6.0", clients: []string{"https://" + hostOf(name) + ":2379"}}
		if name == w.leader {
			m.role = "leader"
		}
		c.members = append(c.members, m)
	}
	return c, nil
}

func (w upgrader) seen(_ context.Context, _ *observe.Node, q Question, run string) (*Facts, error) {
	f, err := w.Observe(run)
	if err != nil {
		return nil, err
	}
	f.KubeletActive = true
	f.Containers, _ = w.Machine.Host().Runtime.Containers(context.Background())
	own := slices.Index(w.nodes, w.Name)
	f.Live = &observe.Live{MemberID: uint64(own + 1), Version: oldEtcd, Members: w.Machine.Members.All}
	f.Etcd.PeerURLs = observe.SplitList(f.Etcd.Setting("", "initial-advertise-peer-urls"))
	f.Etcd.Peer = op.Access{Endpoints: f.Etcd.PeerURLs}
	s := Seen{Node: w.Name, Etcd: true, File: etcdFile, MemberID: f.Live.MemberID, Image: f.Etcd.Image,
		Given: f.Etcd.Given(), Kubernetes: "1.37.2", ImageTag: &w.Machine.ImageTag}
	for _, v := range q.Versions {
		to, _ := parse(v)
		s.Images = append(s.Images, Image{Version: v, Name: imageFor(s.Image, to)})
	}
	return &Facts{Facts: f, Seen: s, Ready: !w.deaf}, nil
}

func (w upgrader) backup(_ context.Context, _ *observe.Node, run string) (*op.TakeBackup, []finding.Finding, error) {
	const dir = journal.Home + "/backups"
	return &op.TakeBackup{Missing: []string{dir}, Access: op.Access{Endpoints: []string{"https://127.0.0.1:2379"}},
		Open: op.OpenBackup{Workspace: op.Workspace{Dir: dir, Run: run}, At: dir, Records: journal.Home,
			Sidecar: op.Sidecar{Node: w.Name}}}, nil, nil
}

func (w upgrader) valid(context.Context, *observe.Node, string) error { return nil }

func (w upgrader) looker() looker { return looker{w.cluster, w.seen, w.backup, w.valid} }

func (w upgrader) outcome() (string, error) {
	want := newText(w.Name)
	if w.patch {
		want = strings.Replace(etcdText(w.Name), oldEtcd, w.to(), 1)
	}
	return w.outcomeOf(etcdText(w.Name), want)
}

// outcomeOf holds the node to one of two manifests.
func (w upgrader) outcomeOf(was, want string) (string, error) {
	v, err := w.OldOrNew(func(look string) error {
		now, err := w.Machine.ReadFile(etcdFile)
		if err != nil || string(now) != want {
			return fmt.Errorf("the manifest is\n%s\nand not\n%s\n%v", now, want, err)
		}
		rest := strings.Replace(w.First, fmt.Sprintf("%q", was), fmt.Sprintf("%q", want), 1)
		if rest != look {
			return fmt.Errorf("more has changed: it looks like\n%s\nand not\n%s", look, rest)
		}
		return nil
	})
	text := map[string]string{"old": was, "new": want}[v]
	switch {
	case err != nil:
		return "", err
	case w.Machine.RunsFrom("etcd") != text:
		return "", fmt.Errorf("the node is %s, and etcd runs from\n%s", v, w.Machine.RunsFrom("etcd"))
	case v == "old" && w.Machine.ImageTag != oldEtcd+"-0":
		return "", fmt.Errorf("the node is old, and kubeadm's tag is %s", w.Machine.ImageTag)
	}
	return v, nil
}

// alone is a run on one node, which has been told of the others what a run of all would tell.
type alone struct {
	upgrader
	name string
	last bool
}

// Title names the case.
func (a alone) Title() string { return a.name }

func (a alone) Machine(t *testing.T) *sim.Machine {
	t.Helper()
	a.Node = &crashtest.Node{Name: "cp1"}
	return a.machine(t)
}

func partCases() []crashtest.Case {
	all := []alone{
		{upgrader{nodes: three, leader: "cp3"}, "one of three, before others", false},
		{upgrader{nodes: three, leader: "cp1"}, "the last of three", true},
		{upgrader{nodes: three[:1], leader: "cp1"}, "the only one", true},
		{upgrader{nodes: three[:1], leader: "cp1", patch: true}, "the only one, of the same minor", false},
	}
	return casesOf(all...)
}

func casesOf(all ...alone) []crashtest.Case {
	return crashtest.Cases(all, func(a alone, w *crashtest.Node, _ *sim.Machine) crashtest.Subject {
		a.Node = w
		return crashtest.Subject{Run: a.run, Outcome: a.outcome}
	})
}

func (a alone) run() error {
	p := Part{To: a.to(), From: "3.6", Image: strings.Replace(oldImage, oldEtcd, a.to(), 1), Last: a.last,
		Rises: !a.patch, Backup: true, Tag: a.to() + "-0", Turn: 1, Of: 1}
	for _, name := range a.nodes[1:] {
		p.Others = append(p.Others, op.Other{Node: name,
			Access: op.Access{Endpoints: []string{"https://" + hostOf(name) + ":2379"}}})
	}
	flow := p.carrying()
	flow.Observe = func(ctx context.Context, n *observe.Node, run string) (*Facts, error) {
		f, err := a.seen(ctx, n, Question{}, run)
		if err != nil {
			return nil, err
		}
		f.Part = p
		if err := f.render(); err != nil {
			return nil, err
		}
		f.Backup, _, err = a.backup(ctx, n, run)
		return f, err
	}
	return a.Do(flow.On(a.Process.Look))
}

func TestOneNodesPartIsDoneWhollyOrNotAtAllWhateverHappens(t *testing.T) {
	crashtest.Everything(t, partCases())
}

// A kubelet that no API server has answered ends nothing that it has started, also after a reboot
// in the middle.
func TestAKubeletThatNoAPIServerAnswersRunsTheNewEtcdWhateverHappens(t *testing.T) {
	cases := casesOf(alone{upgrader{nodes: three, leader: "cp3", deaf: true}, "one of three", false})
	crashtest.StoppedAnywhere(t, cases)
	crashtest.InterruptedAnywhere(t, cases)
	crashtest.FailedAnywhere(t, cases)
}

func upgradeOnThree(patch bool) crashtest.Together {
	of := func(w *crashtest.Node) upgrader { return upgrader{Node: w, nodes: three, leader: "cp2", patch: patch} }
	return crashtest.Together{
		Name: "upgrade", Nodes: three,
		Machine: func(t *testing.T, name string) *sim.Machine {
			t.Helper()
			return of(&crashtest.Node{Name: name}).machine(t)
		},
		Joint: func(w *crashtest.Node) together.Joint { return of(w).looker().joint() },
		Run: func(w *crashtest.Node, nodes []journal.Peer) error {
			u := of(w)
			l := u.looker()
			// A backup's name has the time in it: states that differ by nothing else are one.
			l.backup = func(context.Context, *observe.Node, string) (*op.TakeBackup, []finding.Finding, error) {
				return nil, nil, nil
			}
			o := TogetherOptions{Options: Options{To: u.to(), Nodes: nodes}}
			return together.Plans(l.planAll, o).
				CarryOut(w.Context(), w.Process, func(engine.TogetherPlan) error { return nil })
		},
		Outcome: func(w *crashtest.Node) (string, error) { return of(w).outcome() },
		Check: func(c *crashtest.Cluster) {
			if !patch {
				checkRisen(c)
			}
		},
	}
}

// checkRisen checks, after every step, that the version of the cluster has no reason to rise before
// nobody goes back any more.
func checkRisen(c *crashtest.Cluster) {
	for _, name := range c.Names {
		if !strings.Contains(c.Nodes[name].Machine.RunsFrom("etcd"), newImage) {
			return
		}
	}
	for _, name := range c.Alive() {
		if !c.Holds(name, journal.Commit) {
			c.Violate("all members run the new etcd, and %s does not hold the commit record", name)
		}
	}
}

func TestThreeMembersThatAreUpgradedAreSettledAfterAnyTwoFaults(t *testing.T) {
	crashtest.SettledAfterTwoFaults(t, upgradeOnThree(false))
}

func TestThreeMembersOfTheSameMinorAreSettledAfterAnyTwoFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("it differs in where the commit point is")
	}
	crashtest.SettledAfterTwoFaults(t, upgradeOnThree(true))
}

func TestMistakesDuringAnUpgradeAreCaught(t *testing.T) {
	crashtest.CatchesMistakes(t, upgradeOnThree(false))
}

func TestWhateverSomebodyElseDoesDuringAnUpgradeItIsSettled(t *testing.T) {
	crashtest.MeddledTogether(t, upgradeOnThree(false))
}

func TestAnUpgradeThatIsInterruptedGoesBackOnAll(t *testing.T) {
	crashtest.InterruptedTogether(t, upgradeOnThree(false))
}

// upgradesOnce runs it undisturbed, but for what prepare does, and returns the order in which etcds
// were away.
func upgradesOnce(t *testing.T, patch bool, prepare func(*crashtest.Cluster)) (away []string, c *crashtest.Cluster,
	err error,
) {
	t.Helper()
	w := upgradeOnThree(patch)
	check := w.Check
	w.Check = func(c *crashtest.Cluster) {
		check(c)
		var now []string
		for _, name := range c.Names {
			if c.Nodes[name].Machine.RunsFrom("etcd") == "" {
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
	if prepare != nil {
		prepare(c)
	}
	return away, c, c.Run("cp1")
}

func TestMembersAreUpgradedOneAfterTheOtherTheLeaderLast(t *testing.T) {
	for _, patch := range []bool{false, true} {
		away, c, err := upgradesOnce(t, patch, nil)
		if v, wrong := c.Verdict(); err != nil || wrong != nil || v != "new" ||
			!slices.Equal(away, []string{"cp1", "cp3", "cp2"}) {
			t.Errorf("it ended %s, one after the other: %q, %v, %v", v, away, err, wrong)
		}
		if tag := c.Nodes["cp1"].Machine.ImageTag; tag == oldEtcd+"-0" {
			t.Errorf("kubeadm's tag is still %s", tag)
		}
	}
}

// An etcd that does not start takes all back, one after the other; the last one was never touched.
func TestAMemberThatDoesNotStartTakesAllBack(t *testing.T) {
	away, c, err := upgradesOnce(t, false, func(c *crashtest.Cluster) {
		c.Nodes["cp3"].Machine.Homeless = newImage
	})
	if !crashtest.IsRolledBack(err) || !slices.Equal(away, []string{"cp1", "cp3", "cp1"}) {
		t.Errorf("it ended with %v; away were %q", err, away)
	}
	if v, wrong := c.Verdict(); wrong != nil || v != "old" {
		t.Errorf("it ended %s: %v", v, wrong)
	}
}

// An image that one node cannot get takes all back before anything was stopped, and is told apart.
func TestAnImageThatANodeCannotGetIsRefused(t *testing.T) {
	away, c, err := upgradesOnce(t, false, func(c *crashtest.Cluster) {
		c.Nodes["cp3"].Machine.NoImages = []string{newImage}
	})
	var back *engine.RolledBackError
	if !errors.As(err, &back) || !engine.IsNoImage(err) || !strings.Contains(err.Error(), "cp3: manifest unknown") ||
		!strings.Contains(engine.Hint(err), "crictl pull "+newImage) {
		t.Errorf("it ended with %v (%s)", err, engine.Hint(err))
	}
	if v, wrong := c.Verdict(); wrong != nil || v != "old" || len(away) > 0 {
		t.Errorf("it ended %s, away were %q: %v", v, away, wrong)
	}
}

// A manifest that somebody edits past the commit point stays, and so does the etcd that runs from
// it: there is no way back from one that is stopped.
func TestNoEtcdIsStoppedForAManifestThatSomebodyHasChanged(t *testing.T) {
	const edit = "# mine\n"
	w := upgradeOnThree(false)
	check := w.Check
	edited, stopped := false, false
	w.Check = func(c *crashtest.Cluster) {
		check(c)
		m := c.Nodes["cp2"].Machine
		if !edited && c.Holds("cp2", journal.Commit) {
			m.Write(etcdFile, edit+etcdText("cp2"))
			edited = true
		}
		stopped = stopped || edited && m.RunsFrom("etcd") == ""
	}
	c := w.Fresh(t)
	err := c.Run("cp1")
	if err == nil || !strings.Contains(err.Error(), "someone has changed "+etcdFile) || !edited || stopped {
		t.Errorf("it ended with %v; etcd was stopped: %v", err, stopped)
	}
}
