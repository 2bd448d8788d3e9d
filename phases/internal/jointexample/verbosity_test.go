// Package jointexample is the example of a workflow over several nodes: it sets how much the
// scheduler and the controller manager write into their logs, on all control-plane nodes or on
// none. Whoever writes another one finds here all that there is to write.
//
//   - Its phases are those of a workflow on one node ([workflowFor]). Each ends on all nodes before
//     the next one begins on any; the commit point follows one of them.
//   - [Joint] is what the transaction over the nodes needs to know: the phases, what is looked at
//     between two of them, and what the coordinator may ask a node besides.
//   - [Set] is the command on the coordinator: it lets each node plan its part, and begins.
//
// All else, such as who may decide what becomes of a run that was cut off, is the transaction's.
// The tests at the end hand the same to the crash matrix and to the exploration.
package jointexample

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/phases/together"
)

const (
	name              = "verbosity"
	scheduler         = "kube-scheduler"
	controllerManager = "kube-controller-manager"
)

type (
	phase    = engine.Phase[*observe.Facts]
	workflow = engine.Workflow[*observe.Node, *observe.Facts]
)

// workflowFor sets --v to that level.
func workflowFor(level string) workflow {
	first := set(scheduler, level)
	first.Commit = true // once it is done on all nodes, all end with the new level
	return workflow{Name: name, Observe: look, Phases: []phase{
		preflight(),
		first,
		set(controllerManager, level),
	}}
}

func look(_ context.Context, n *observe.Node, run string) (*observe.Facts, error) {
	return n.ObserveFiles(run)
}

// preflight has no operations: it refuses what would fail later.
func preflight() phase {
	return phase{Name: "preflight", Short: "refuse what cannot end well, before anything is touched",
		Plan: func(_ context.Context, f *observe.Facts) ([]op.Op, error) {
			for _, program := range []string{scheduler, controllerManager} {
				if _, _, ok := observe.Program(f.Manifests, program); !ok {
					return nil, engine.Refuse("", "no manifest in %s runs %s", f.ManifestDir, program)
				}
			}
			return nil, nil
		}}
}

// set replaces the manifest of one program, on one node after the other: the others' programs run
// meanwhile.
func set(program, level string) phase {
	return phase{Name: "set-" + program, Short: "set --v of " + program, InTurn: true,
		Plan: func(_ context.Context, f *observe.Facts) ([]op.Op, error) {
			m, container, _ := observe.Program(f.Manifests, program)
			edited, err := m.Manifest.SetFlag(container, "v", level)
			if err != nil {
				return nil, err
			}
			return []op.Op{&op.ReplaceManifest{
				Path: m.Path, Data: edited.Bytes(), Change: "--v=" + level,
				Old:  fmt.Sprintf("%x", sha256.Sum256(m.Data)),
				Kept: path.Join(journal.RunDir(f.Run), path.Base(m.Path)),
			}}, nil
		}}
}

// Joint is what the transaction needs to know of it. The phases' names do not depend on the level.
func Joint() together.Joint {
	return together.Joint{
		Name:   name,
		Phases: together.JointPhases(workflowFor("").Phases),
		After: map[string]func(context.Context, *together.Transaction) error{
			"set-" + scheduler: compareLevels,
		},
		Answers: answers,
	}
}

// What the coordinator asks a node, besides what the transaction itself asks.
const (
	askPlan  = "plan"
	askLevel = "level"
)

// planQuestion goes with askPlan.
type planQuestion struct {
	Run, Level string
	Cluster    journal.Cluster
}

// answers are a node's to the coordinator.
func answers(p *together.Participant) map[string]together.Reply {
	return map[string]together.Reply{
		askPlan: together.Given(func(ctx context.Context, q planQuestion) (any, error) { return plan(ctx, p, q) }),
		askLevel: together.Given(func(_ context.Context, program string) (any, error) {
			return levelOf(p.Node.Look, program)
		}),
	}
}

// plan is the node's own: it refuses here what cannot end well here, and what it proposes is what a
// run of it carries out.
func plan(ctx context.Context, p *together.Participant, q planQuestion) (engine.Plan, error) {
	if err := engine.RefuseOpen(p.Node.Host.FS); err != nil {
		return engine.Plan{}, err
	}
	facts, err := look(ctx, p.Node.Look, q.Run)
	if err != nil {
		return engine.Plan{}, err
	}
	plan, err := workflowFor(q.Level).Planned(ctx, facts)
	plan = plan.Together(&q.Cluster)
	p.Propose(q.Run, plan)
	return plan, err
}

func levelOf(n *observe.Node, program string) (string, error) {
	files, err := n.Manifests(n.Config.StaticPodPath)
	if err != nil {
		return "", err
	}
	m, container, ok := observe.Program(files, program)
	if !ok {
		return "", fmt.Errorf("no manifest runs %s any more", program)
	}
	return cmp.Or(observe.FlagOf(m, container, "v"), "nothing"), nil
}

// compareLevels looks at what came out on all nodes. It ends a phase before the commit point: an
// error takes all nodes back.
func compareLevels(ctx context.Context, t *together.Transaction) error {
	first := ""
	for i, p := range t.Peers {
		level, err := together.Query[string](ctx, p, askLevel, scheduler)
		if err != nil {
			return err
		}
		if i == 0 {
			first = level
		}
		if level != first {
			return fmt.Errorf("the scheduler's --v is %s on %s, and %s on %s", first, t.Peers[0].Name, level, p.Name)
		}
	}
	return nil
}

// Set carries it out on all nodes. confirm sees the plans, and its error ends the command before
// anything is touched.
func Set(
	ctx context.Context, n *together.Node, level string, nodes []journal.Peer, confirm func(engine.TogetherPlan) error,
) error {
	t, err := n.Convene(ctx, name, journal.Cluster{Nodes: nodes})
	if t != nil {
		defer t.Leave()
	}
	if err != nil {
		return err
	}
	plans := make([]engine.NodePlan, len(t.Peers))
	err = t.Each(ctx, func(ctx context.Context, p *together.Peer) error {
		plan, err := together.Query[engine.Plan](ctx, p, askPlan, planQuestion{t.Run, level, t.Cluster})
		plans[slices.Index(t.Peers, p)] = engine.NodePlan{Node: p.Name, Plan: plan}
		return err
	})
	if err != nil {
		return err
	}
	if err := confirm(engine.TogetherPlan{Nodes: plans}); err != nil {
		return err
	}
	return t.Begin(ctx)
}

// Here the tests begin.

const newLevel = "4"

// onThreeNodes is all that the exploration needs to know.
func onThreeNodes() crashtest.Together {
	return crashtest.Together{
		Name: name, Nodes: []string{"cp1", "cp2", "cp3"},
		Machine: func(t *testing.T, _ string) *sim.Machine { return crashtest.Shape{}.Machine(t) },
		Joint:   func(*crashtest.Node) together.Joint { return Joint() },
		Run: func(w *crashtest.Node, nodes []journal.Peer) error {
			return Set(context.Background(), w.Process, newLevel, nodes, func(engine.TogetherPlan) error { return nil })
		},
		Outcome: outcome,
		Check:   checkControllerManagers,
	}
}

// onOneNode is the same on a node alone, for the crash matrix.
func onOneNode() []crashtest.Case {
	return []crashtest.Case{{Name: "one node", Machine: crashtest.Shape{}.Machine,
		On: func(w *crashtest.Node, _ *sim.Machine) crashtest.Subject {
			return crashtest.Subject{
				Run:     func() error { return w.Do(workflowFor(newLevel).On(w.Process.Look)) },
				Outcome: func() (string, error) { return outcome(w) },
			}
		}}}
}

// outcome says whether a node is wholly old or wholly new, and what is wrong otherwise.
func outcome(w *crashtest.Node) (string, error) {
	now := w.Machine.Look(journal.Home)
	if v := w.Machine.Violations; len(v) > 0 {
		return "", errors.New(strings.Join(v, "\n"))
	}
	if now == w.First {
		return "old", nil
	}
	for _, program := range []string{scheduler, controllerManager} {
		level, err := levelOf(w.Process.Look, program)
		if err != nil {
			return "", err
		}
		if level != newLevel || !runsAtNewLevel(w, program) {
			return "", fmt.Errorf("neither old nor new: --v of %s is %s in\n%s", program, level, now)
		}
	}
	if strings.Count(now, "\n") != strings.Count(w.First, "\n") {
		return "", fmt.Errorf("something was left behind, or taken away:\n%s", now)
	}
	return "new", nil
}

func runsAtNewLevel(w *crashtest.Node, program string) bool {
	return strings.Contains(w.Machine.RunsFrom(program), "--v="+newLevel)
}

// checkControllerManagers is true after every step: what is behind the commit point runs nowhere
// before all nodes hold the commit record.
func checkControllerManagers(c *crashtest.Cluster) {
	for _, at := range c.Alive() {
		for _, other := range c.Alive() {
			if runsAtNewLevel(c.Nodes[at], controllerManager) && !c.Holds(other, journal.Commit) {
				c.Violate("the controller manager is a new one on %s, and %s does not hold the commit record",
					at, other)
			}
		}
	}
}

func TestOnOneNodeStoppedAnywhereItEndsWhollyOldOrWhollyNew(t *testing.T) {
	crashtest.StoppedAnywhere(t, onOneNode())
}

func TestOnOneNodeAFailureAtAnyStepTakesItBack(t *testing.T) {
	crashtest.FailedAnywhere(t, onOneNode())
}

func TestOnThreeNodesEveryStateThatTwoFaultsLeaveIsSettled(t *testing.T) {
	crashtest.SettledAfterTwoFaults(t, onThreeNodes())
}

func TestOnThreeNodesMistakesInTheProtocolAreCaught(t *testing.T) {
	crashtest.CatchesMistakes(t, onThreeNodes())
}

// Somebody puts the old manifest back on one node before the commit point.
func TestOnThreeNodesALevelThatDiffersTakesAllBack(t *testing.T) {
	var c *crashtest.Cluster
	w := onThreeNodes()
	w.Joint = func(*crashtest.Node) together.Joint {
		joint := Joint()
		joint.After["set-"+scheduler] = func(ctx context.Context, t *together.Transaction) error {
			err := putBack(c.Nodes["cp2"].Machine)
			return errors.Join(err, compareLevels(ctx, t))
		}
		return joint
	}
	c = w.Fresh(t)
	err := c.Run("cp1")
	if !crashtest.IsRolledBack(err) || !strings.Contains(err.Error(), "--v is 4 on cp1, and nothing on cp2") {
		t.Errorf("it ended with %v", err)
	}
	if v, err := c.Verdict(); v != "old" || err != nil || !c.Settled() {
		t.Errorf("it ended %s: %v", v, err)
	}
}

func putBack(m *sim.Machine) error {
	old := crashtest.PodManifest(scheduler, "", "")
	return node.WriteAtomic(m.Disk, path.Join(crashtest.TestManifestDir, scheduler+".yaml"), []byte(old), node.Attr{})
}
