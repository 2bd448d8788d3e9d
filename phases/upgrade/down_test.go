package upgrade

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/manifests"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/flags"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/phases/together"
)

// The invariants are in down.go; of these hold here, besides those of carry_test.go:
//   - No etcd of the older minor runs before all nodes hold the commit record, and before the
//     downgrade is enabled.
//   - Where the run went back, no downgrade is left enabled.

const (
	olderEtcd  = "3.5.35"
	olderImage = "registry.k8s.io/etcd:" + olderEtcd + "-0"
)

// downText is etcd's manifest for the older etcd: two words are others.
func downText(node string) string {
	return strings.NewReplacer(oldImage, olderImage, "--feature-gates=InitialCorruptCheck=true",
		"--experimental-initial-corrupt-check=true", "--watch-progress", "--experimental-watch-progress").
		Replace(gatedText(node))
}

// gatedText is etcd's manifest with the names of 3.6.
func gatedText(node string) string {
	return strings.NewReplacer("--experimental-initial-corrupt-check=true",
		"--feature-gates=InitialCorruptCheck=true", "--experimental-watch", "--watch").Replace(etcdText(node))
}

// downgrader is a node of the run.
type downgrader struct{ upgrader }

func (w downgrader) machine(t *testing.T) *sim.Machine {
	t.Helper()
	m := w.upgrader.machine(t)
	m.Write(etcdFile, gatedText(w.Name))
	m.ToPull = []string{olderImage}
	m.Settle()
	return m
}

func (w downgrader) outcome() (string, error) {
	v, err := w.outcomeOf(gatedText(w.Name), downText(w.Name))
	if err == nil && v == "old" && w.Machine.Members.Downgrade != "" {
		return "", errors.New("the node is old, and the downgrade is still enabled")
	}
	return v, err
}

// aloneDown is a run on one node, which has been told of the others what a run of all would tell.
type aloneDown struct {
	downgrader
	name string
}

// Title names the case.
func (a aloneDown) Title() string { return a.name }

func (a aloneDown) Machine(t *testing.T) *sim.Machine {
	t.Helper()
	a.Node = &crashtest.Node{Name: "cp1"}
	return a.machine(t)
}

func downCases() []crashtest.Case {
	return crashtest.Cases([]aloneDown{
		{downgrader{upgrader{nodes: three, leader: "cp1"}}, "one of three"},
		{downgrader{upgrader{nodes: three[:1], leader: "cp1"}}, "the only one"},
	}, func(a aloneDown, w *crashtest.Node, _ *sim.Machine) crashtest.Subject {
		a.Node = w
		return crashtest.Subject{Run: a.run, Outcome: a.outcome}
	})
}

func (a aloneDown) run() error {
	p := Part{To: olderEtcd, From: "3.6", Image: olderImage, Down: true, Enables: true, Backup: true,
		Tag: olderEtcd + "-0", Turn: 1, Of: 1}
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

func TestOneNodesDowngradeIsDoneWhollyOrNotAtAllWhateverHappens(t *testing.T) {
	crashtest.Everything(t, downCases())
}

func downgradeOnThree() crashtest.Together {
	of := func(w *crashtest.Node) downgrader {
		return downgrader{upgrader{Node: w, nodes: three, leader: "cp2"}}
	}
	return crashtest.Together{
		Name: "downgrade", Nodes: three,
		Machine: func(t *testing.T, name string) *sim.Machine {
			t.Helper()
			return of(&crashtest.Node{Name: name}).machine(t)
		},
		Joint: func(w *crashtest.Node) together.Joint { return of(w).looker().downJoint() },
		Run: func(w *crashtest.Node, nodes []journal.Peer) error {
			l := of(w).looker()
			// A backup's name has the time in it: states that differ by nothing else are one.
			l.backup = func(context.Context, *observe.Node, string) (*op.TakeBackup, []finding.Finding, error) {
				return nil, nil, nil
			}
			o := TogetherOptions{Options: Options{To: olderEtcd, Nodes: nodes, Down: true}}
			return together.Plans(l.planAll, o).
				CarryOut(w.Context(), w.Process, func(engine.TogetherPlan) error { return nil })
		},
		Outcome: func(w *crashtest.Node) (string, error) { return of(w).outcome() },
		Check:   checkLowered,
		// All members have to answer.
		Futile: func(c *crashtest.Cluster) bool { return len(c.Gone) > 0 },
	}
}

// checkLowered checks, after every step, that no older etcd starts with data of the newer one.
func checkLowered(c *crashtest.Cluster) {
	for _, name := range c.Names {
		m := c.Nodes[name].Machine
		if !strings.Contains(m.RunsFrom("etcd"), olderImage) {
			continue
		}
		if m.Members.Downgrade != "3.5.0" {
			c.Violate("%s runs the older etcd, and no downgrade was enabled", name)
		}
		for _, other := range c.Alive() {
			if !c.Holds(other, journal.Commit) {
				c.Violate("%s runs the older etcd, and %s does not hold the commit record", name, other)
			}
		}
	}
}

func TestThreeMembersThatAreTakenDownAreSettledAfterAnyTwoFaults(t *testing.T) {
	crashtest.SettledAfterTwoFaults(t, downgradeOnThree())
}

func TestMistakesDuringADowngradeAreCaught(t *testing.T) {
	crashtest.CatchesMistakes(t, downgradeOnThree())
}

func TestWhateverSomebodyElseDoesDuringADowngradeItIsSettled(t *testing.T) {
	crashtest.MeddledTogether(t, downgradeOnThree())
}

func TestADowngradeThatIsInterruptedGoesBackOnAll(t *testing.T) {
	crashtest.InterruptedTogether(t, downgradeOnThree())
}

// An exploration that could not fail would prove nothing: were the members replaced without etcd's
// protocol, or nobody took the downgrade back, it would be found.
func TestADowngradeWithoutTheProtocolIsCaught(t *testing.T) {
	for says, spoil := range map[string]func(*Part){
		"no downgrade was enabled": func(p *Part) { p.Down = false },
		"is still enabled":         func(p *Part) { p.Adopted = true },
	} {
		w := downgradeOnThree()
		right := w.Joint
		w.Joint = func(n *crashtest.Node) together.Joint {
			joint := right(n)
			answers := joint.Answers
			joint.Answers = func(p *together.Participant) map[string]together.Reply {
				all := answers(p)
				plan := all[askPart]
				all[askPart] = together.Given(func(ctx context.Context, q partQuestion) (any, error) {
					spoil(&q.Part)
					with, err := json.Marshal(q)
					if err != nil {
						return nil, err
					}
					return plan(ctx, with, nil)
				})
				return all
			}
			if says == "no downgrade was enabled" {
				joint.Phases = together.JointPhases(Part{}.carrying().Phases)
			}
			return joint
		}
		c := w.Fresh(t)
		if says == "is still enabled" {
			c.Nodes["cp3"].Machine.Homeless = olderImage // past the commit point, so it stays open
			c.Nodes["cp1"].Machine.Full = false
		}
		interruptedAt(c, "await-storage-version")
		_ = c.Run("cp1")
		if says == "is still enabled" {
			_ = c.Obey(crashtest.Order{Back: true, At: "cp1"})
		}
		if _, err := c.Verdict(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("it is not found that %s: %v", says, err)
		}
	}
}

// interruptedAt ends the coordinator when a phase begins.
func interruptedAt(c *crashtest.Cluster, phase string) {
	c.Heard = func(e engine.Event) {
		if e.Phase == phase && e.State == engine.Started {
			c.Nodes["cp1"].Machine.Kill()
		}
	}
}

// What somebody takes back past the commit point, before a member is replaced, is said, and enabled
// again only once a person has typed resume.
func TestADowngradeThatSomebodyTakesBackIsSaid(t *testing.T) {
	w := downgradeOnThree()
	taken := false
	check := w.Check
	w.Check = func(c *crashtest.Cluster) {
		check(c)
		if !taken && c.Holds("cp3", journal.Commit) {
			taken = c.Nodes["cp1"].Machine.CancelDowngrade() != ""
		}
	}
	c := w.Fresh(t)
	err := c.Run("cp1")
	if err == nil || !strings.Contains(err.Error(), "somebody has cancelled the downgrade to 3.5") ||
		!strings.Contains(err.Error(), "`etcdpod resume` enables the downgrade again") || !taken {
		t.Errorf("it ended with %v", err)
	}
	for _, name := range three {
		if strings.Contains(c.Nodes[name].Machine.RunsFrom("etcd"), olderImage) {
			t.Errorf("%s was replaced", name)
		}
	}
	if err := c.Obey(crashtest.Order{At: "cp2"}); err != nil {
		t.Error(err)
	}
	if v, err := c.Verdict(); v != "new" || err != nil {
		t.Errorf("it ended %s: %v", v, err)
	}
}

func downOf(runs, to string, plant func(*looked)) (Plan, *looked) {
	l := reachable(runs)
	l.down = true
	for i := range l.seen {
		l.seen[i].Given = []flags.Given{{Name: "feature-gates", Value: "InitialCorruptCheck=true",
			From: flags.Argument}}
	}
	if plant != nil {
		plant(l)
	}
	v, _ := parse(to)
	return l.plan(v), l
}

// What stands in the way of a downgrade is refused, with all reasons, and the next step.
func TestWhatStandsInTheWayOfADowngradeIsRefused(t *testing.T) {
	gate := func(value string, from flags.Origin) func(*looked) {
		return func(l *looked) {
			for i := range l.seen {
				l.seen[i].Given = []flags.Given{{Name: "feature-gates", Value: value, From: from}}
			}
		}
	}
	member := func(do func(*listed)) func(*looked) { return func(l *looked) { do(&l.members[1]) } }
	for name, c := range map[string]struct {
		runs, to   string
		plant      func(*looked)
		says, next string // of what is refused; says empty: it is not
	}{
		"3.7 to 3.6":           {"3.7.3", "3.6.16", nil, "", ""},
		"3.6 to 3.5":           {"3.6.16", "3.5.35", nil, "", ""},
		"two minors":           {"3.7.3", "3.5.35", nil, "one minor at a time, and from 3.7 to 3.5", "--to 3.6.16"},
		"below 3.5":            {"3.6.16", "3.4.42", nil, "one minor at a time", "--to 3.5.35"},
		"from 3.5":             {"3.5.35", "3.4.42", nil, "goes down from 3.6 on, and 3.5.35 runs", "etcdpod backups"},
		"up":                   {"3.6.16", "3.7.3", nil, "that is an upgrade", "etcdpod upgrade --to 3.7.3"},
		"the same minor":       {"3.6.16", "3.6.11", nil, "is of the minor that runs", "by hand"},
		"one that loses data":  {"3.6.16", "3.5.4", nil, "can lose or corrupt data", "--to 3.5.35"},
		"one without a way up": {"3.6.16", "3.5.20", nil, "", ""},
		"half an upgrade": {"3.7.3", "3.6.16", member(func(m *listed) { m.version, m.storage = "3.6.16", "3.6.0" }),
			"an upgrade has not ended", "etcdpod upgrade --to 3.7.3"},
		"one that has only just risen": {"3.7.3", "3.6.16", member(func(m *listed) { m.storage = "3.6.0" }),
			"the data of cp2 are still those of 3.6", "wait until"},
		"enabled before": {"3.7.3", "3.6.16", func(l *looked) {
			l.downgrade = "3.6.0"
			l.members[0].storage = "3.6.0"
		}, "", ""},
		"enabled before, half done": {"3.7.3", "3.6.16", func(l *looked) {
			l.downgrade = "3.6.0"
			l.members[0].version = "3.6.16"
		}, "", ""},
		"another one enabled": {"3.7.3", "3.6.16", func(l *looked) { l.downgrade = "3.5.0" },
			"a downgrade to 3.5.0 was enabled", "etcdpod downgrade cancel"},
		"an alarm": {"3.7.3", "3.6.16", func(l *looked) { l.alarms = []etcd.Alarm{{MemberID: 2, Name: etcd.NoSpace}} },
			"the alarm NOSPACE of cp2 is raised", "etcdpod defrag"},
		"a learner": {"3.7.3", "3.6.16", member(func(m *listed) { m.role = "learner" }), "cp2 is a learner",
			"etcdpod join"},
		"a silent one": {"3.7.3", "3.6.16", member(func(m *listed) { m.answers, m.why = false, "refused" }),
			"cp2 does not answer", "etcdpod status"},
		"one behind": {"3.7.3", "3.6.16", member(func(m *listed) { m.behind = 9 }), "cp2 is 9 entries behind", "wait"},
		"a gate that is none": {"3.6.16", "3.5.35", gate("AllBeta=true", flags.Argument),
			"etcd 3.5 does not know --feature-gates=AllBeta=true", "remove it from"},
		"a variable": {"3.6.16", "3.5.35", gate("InitialCorruptCheck=true", flags.Variable), "which goes without it",
			"give it as a flag"},
		"one unseen": {"3.7.3", "3.6.16", func(l *looked) { l.seen = l.seen[1:] }, "nobody has looked at the data",
			"etcdpod downgrade --to 3.6.16 --nodes cp1,cp2,cp3"},
		"two reasons": {"3.7.3", "3.6.16", func(l *looked) {
			l.members[1].behind = 9
			l.alarms = []etcd.Alarm{{MemberID: 2, Name: etcd.NoSpace}}
		}, "NOSPACE of cp2 is raised; and because cp2 is 9 entries behind", "etcdpod defrag"},
	} {
		p, _ := downOf(c.runs, c.to, c.plant)
		err := refused(p, nil, true)
		if (err == nil) != (c.says == "") || err != nil && (!strings.Contains(err.Error(), c.says) ||
			!strings.Contains(engine.Hint(err), c.next)) {
			t.Errorf("%s: %v (%s)", name, err, engine.Hint(err))
		}
	}
}

// Etcd has the last word, and is not asked about what is enabled already.
func TestEtcdItselfIsAskedWhetherTheDowngradeIsValid(t *testing.T) {
	asked := 0
	l := looker{valid: func(_ context.Context, _ *observe.Node, target string) error {
		asked++
		return errors.New("etcdserver: invalid downgrade target version " + target)
	}}
	o := TogetherOptions{Options: Options{To: "3.6.16", Down: true}}
	err := l.validated(t.Context(), nil, o, Plan{Verdict: Well}, false)
	var is *engine.RefusedError
	if !errors.As(err, &is) || !strings.Contains(err.Error(), "invalid downgrade target version 3.6.0") || asked != 1 {
		t.Errorf("%v", err)
	}
	if err := l.validated(t.Context(), nil, o, Plan{Verdict: Well}, true); err != nil || asked != 1 {
		t.Errorf("it is enabled already: %v", err)
	}
}

func TestTheLastTurnsNodeEnablesTheDowngrade(t *testing.T) {
	for _, before := range []bool{false, true} {
		p, l := downOf("3.7.3", "3.6.16", func(l *looked) {
			if before {
				l.downgrade = "3.6.0"
			}
		})
		parts, err := l.parts(p, TogetherOptions{Options: Options{To: "3.6.16", Down: true}}, "cp1")
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range parts {
			if p.Enables != (i == 2) || p.Adopted != before || p.Last || p.Turn != i+1 || p.node != three[i] ||
				p.From != "3.7" {
				t.Errorf("enabled before %v: %+v", before, p)
			}
		}
	}
}

// On the way down each gate becomes a flag, and up again it all comes back byte for byte.
func TestAManifestThatWentDownComesUpAgainByteForByte(t *testing.T) {
	for _, given := range []string{
		"    - --feature-gates=InitialCorruptCheck=true\n    - --watch-progress-notify-interval=5s\n",
		"    - --feature-gates=InitialCorruptCheck=true # ours\n    - --name=x\n",
		"    - --name=x\n    - --feature-gates=CompactHashCheck=true,InitialCorruptCheck=false\n    - --v=1\n",
	} {
		text := strings.ReplaceAll(crashtest.PodManifest("etcd", given, ""), "    - --v=1\n", "")
		for _, way := range [][]string{{"3.7", "3.6", "3.5", "3.6", "3.7"}} {
			now := text
			for i := range way[1:] {
				m, err := manifests.Parse([]byte(now))
				if err != nil {
					t.Fatal(err)
				}
				pod := &observe.EtcdPod{Container: "etcd",
					File: observe.ManifestFile{Path: "/m/etcd.yaml", Manifest: m}}
				edited, _, err := rewritten(pod, "registry.k8s.io/etcd:3.6.5-0", way[i], way[i+1])
				if err != nil {
					t.Fatalf("%s to %s: %v", way[i], way[i+1], err)
				}
				now = string(edited.Bytes())
				if way[i+1] == "3.5" && (strings.Contains(now, "feature-gates") || slices.Contains(
					strings.Fields(now), "--watch-progress-notify-interval=5s")) {
					t.Errorf("with 3.5 it is\n%s", now)
				}
			}
			if now != text {
				t.Errorf("it is\n%s\nand was\n%s", now, text)
			}
		}
	}
}
