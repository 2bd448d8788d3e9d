// Package jointexample is an example of a joint workflow: it sets the log verbosity of the
// scheduler and the controller manager, on all control-plane nodes or on none. It shows everything
// that another joint workflow needs:
//
//   - Its phases are those of a workflow on one node ([workflowFor]). Each ends on all nodes before
//     the next one begins on any; the commit point follows one of them.
//   - [Joint] is what the transaction needs to know: the phases, the checks between them, and what
//     else the coordinator may ask a node.
//   - [Set] is the command on the coordinator: it lets each node plan its part, and begins.
//
// The transaction does everything else, such as deciding the fate of a run that was cut off. The
// tests at the end run the same workflow in the crash matrix and in the exploration.
package jointexample

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"path"
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

// workflowFor sets --v to level.
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
	return n.ObserveFiles(context.Background(), run)
}

// preflight has no operations: it refuses what would fail later.
func preflight() phase {
	return phase{Name: "preflight", Short: "check everything first",
		Plan: func(_ context.Context, f *observe.Facts) ([]op.Op, error) {
			for _, program := range []string{scheduler, controllerManager} {
				if _, _, ok := observe.Program(f.Manifests, program); !ok {
					return nil, engine.Refuse("", "no manifest in %s runs %s", f.ManifestDir, program)
				}
			}
			return nil, nil
		}}
}

// set replaces the manifest of one program, one node at a time: the program keeps running on the
// other nodes.
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

// Joint is what the transaction needs to know about the workflow. The phases' names do not depend
// on the level.
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

// What the coordinator asks a node, in addition to the transaction's own questions.
const (
	askPlan  = "plan"
	askLevel = "level"
)

// planQuestion is the payload of askPlan.
type planQuestion struct {
	Run, Level string
	Cluster    journal.Cluster
}

// answers are a node's replies to the coordinator.
func answers(p *together.Participant) map[string]together.Reply {
	return map[string]together.Reply{
		askPlan: together.Given(func(ctx context.Context, q planQuestion) (any, error) { return plan(ctx, p, q) }),
		askLevel: together.Given(func(_ context.Context, program string) (any, error) {
			return levelOf(p.Node.Look, program)
		}),
	}
}

// plan plans this node's part: it refuses what would fail here, and proposes the plan that the run
// will carry out.
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
	files, err := n.Manifests(context.Background(), n.Config.StaticPodPath)
	if err != nil {
		return "", err
	}
	m, container, ok := observe.Program(files, program)
	if !ok {
		return "", fmt.Errorf("no manifest runs %s any more", program)
	}
	return cmp.Or(observe.FlagOf(m, container, "v"), "nothing"), nil
}

// compareLevels checks that all nodes have the same level. It ends a phase before the commit point,
// so an error rolls back all nodes.
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

// Set is the workflow on all nodes.
func Set(level string, nodes []journal.Peer) together.Planner {
	return func(ctx context.Context, n *together.Node) (*together.Transaction, engine.TogetherPlan, error) {
		return planAll(ctx, n, level, nodes)
	}
}

// planAll lets each node plan its part.
func planAll(
	ctx context.Context, n *together.Node, level string, nodes []journal.Peer,
) (*together.Transaction, engine.TogetherPlan, error) {
	t, err := n.Convene(ctx, name, journal.Cluster{Nodes: nodes})
	if err != nil {
		return t, engine.TogetherPlan{}, err
	}
	plans, err := together.PlanAll(ctx, t, askPlan, planQuestion{t.Run, level, t.Cluster})
	return t, engine.TogetherPlan{Nodes: plans}, err
}

// The tests begin here.

const newLevel = "4"

// onThreeNodes is all that the exploration needs to know.
func onThreeNodes() crashtest.Together {
	return crashtest.Together{
		Name: name, Nodes: []string{"cp1", "cp2", "cp3"},
		Machine: func(t *testing.T, _ string) *sim.Machine { return crashtest.Shape{}.Machine(t) },
		Joint:   func(*crashtest.Node) together.Joint { return Joint() },
		Run: func(w *crashtest.Node, nodes []journal.Peer) error {
			return Set(newLevel, nodes).CarryOut(w.Context(), w.Process, func(engine.TogetherPlan) error { return nil })
		},
		Outcome: outcome,
		Check:   checkControllerManagers,
	}
}

// onOneNode is the same workflow on one node, for the crash matrix.
func onOneNode() []crashtest.Case {
	return []crashtest.Case{{Name: "one node", Machine: crashtest.Shape{}.Machine,
		On: func(w *crashtest.Node, _ *sim.Machine) crashtest.Subject {
			return crashtest.Subject{
				Run:     func() error { return w.Do(workflowFor(newLevel).On(w.Process.Look)) },
				Outcome: func() (string, error) { return outcome(w) },
			}
		}}}
}

// outcome says whether a node is wholly old or wholly new, or else what is wrong.
func outcome(w *crashtest.Node) (string, error) {
	return w.OldOrNew(func(now string) error {
		for _, program := range []string{scheduler, controllerManager} {
			level, err := levelOf(w.Process.Look, program)
			if err != nil {
				return err
			}
			if level != newLevel || !runsAtNewLevel(w, program) {
				return fmt.Errorf("neither old nor new: --v of %s is %s in\n%s", program, level, now)
			}
		}
		if strings.Count(now, "\n") != strings.Count(w.First, "\n") {
			return fmt.Errorf("something was left behind, or taken away:\n%s", now)
		}
		return nil
	})
}

func runsAtNewLevel(w *crashtest.Node, program string) bool {
	return strings.Contains(w.Machine.RunsFrom(program), "--v="+newLevel)
}

// checkControllerManagers checks, after every step, that nothing past the commit point runs
// anywhere before all nodes hold the commit record.
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

func TestOnOneNodeItEndsWhollyOldOrWhollyNewWhateverHappens(t *testing.T) {
	crashtest.Everything(t, onOneNode())
}

func TestOnThreeNodesEveryStateThatTwoFaultsLeaveIsSettled(t *testing.T) {
	crashtest.SettledAfterTwoFaults(t, onThreeNodes())
}

func TestOnThreeNodesAnInterruptGoesBackOnAll(t *testing.T) {
	crashtest.InterruptedTogether(t, onThreeNodes())
}

func TestOnThreeNodesMistakesInTheProtocolAreCaught(t *testing.T) {
	crashtest.CatchesMistakes(t, onThreeNodes())
}

// Before the commit point, somebody puts the old manifest back on one node.
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
