package engine

import (
	"context"
	"fmt"
	"slices"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// Observed is what the engine itself wants to know of a workflow's facts; all else is between the
// workflow's observer and its phases.
type Observed interface {
	// As the journal is to name this node.
	NodeName() string
	// For people who read the journal, and for hints; nil when there are none.
	RunNotes() map[string]string
}

// Phase is one chapter of a workflow. Plan reads the facts and returns the operations that bring
// about what the phase is for, or refuses.
type Phase[F Observed] struct {
	Name  string // as in `--skip-phases`
	Short string // one line, for help and for the plan
	Plan  func(context.Context, F) ([]op.Op, error)

	// Found says in words what planning found out, for people who decide whether to go on; nil when
	// there is nothing to say.
	Found func(F) []string

	Commit   bool // when it is done the run is forward-only: the commit point
	Optional bool // `--skip-phases` may leave it out
	InTurn   bool // on several nodes: one node after the other, not all at once
}

// Workflow is an ordered list of phases. N is what its facts are observed with, F the facts, which
// no other workflow's phases see.
type Workflow[N any, F Observed] struct {
	Name   string
	Phases []Phase[F]
	// Unjournaled is a workflow that changes nothing of the node: it takes no lock, writes no
	// journal, and runs whatever else is open.
	Unjournaled bool

	// Gathers the facts for the run with that id.
	Observe func(ctx context.Context, n N, run string) (F, error)
}

// String is its name.
func (w Workflow[N, F]) String() string { return w.Name }

// Without returns the workflow without the named phases. A name that is unknown, or a phase that
// must not be left out, is refused.
func (w Workflow[N, F]) Without(names []string) (Workflow[N, F], error) {
	skip := map[string]bool{}
	for _, name := range names {
		skip[name] = true
	}
	kept := w
	kept.Phases = nil
	for _, p := range w.Phases {
		switch {
		case !skip[p.Name]:
			kept.Phases = append(kept.Phases, p)
		case !p.Optional:
			return w, &UsageError{Reason: fmt.Sprintf("the phase %s of %s cannot be skipped", p.Name, w.Name)}
		}
		delete(skip, p.Name)
	}
	for name := range skip {
		return w, &UsageError{Reason: fmt.Sprintf("%s has no phase %q", w.Name, name)}
	}
	return kept, nil
}

// Work is a workflow that knows what to look at: all that the engine needs of one.
type Work interface {
	title() string
	unjournaled() bool
	plan(ctx context.Context, run string) (Plan, error)
}

// On returns the workflow for the node that n looks at.
func (w Workflow[N, F]) On(n N) Work { return work[N, F]{w, n} }

type work[N any, F Observed] struct {
	Workflow[N, F]
	on N
}

func (w work[N, F]) title() string { return w.Name }

func (w work[N, F]) unjournaled() bool { return w.Unjournaled }

func (w work[N, F]) plan(ctx context.Context, run string) (Plan, error) {
	facts, err := w.Observe(ctx, w.on, run)
	if err != nil {
		return Plan{}, err
	}
	return w.Planned(ctx, facts)
}

// Plan is a workflow planned on a node: the very operations that a run carries out.
type Plan struct {
	Workflow string         `json:"workflow"`
	Phases   []PlannedPhase `json:"phases"`

	node  string            // as the facts name it
	notes map[string]string // for people who read the journal, and for hints

	cluster *journal.Cluster // nil for a plan of this node alone
}

// Empty says that there is nothing to do.
func (p Plan) Empty() bool {
	return !slices.ContainsFunc(p.Phases, func(p PlannedPhase) bool { return len(p.ops) > 0 })
}

// Together makes it the plan of this node's part in a run on several.
func (p Plan) Together(c *journal.Cluster) Plan {
	p.cluster = c
	return p
}

// OnSeveral says whether it is this node's part in a run on several.
func (p Plan) OnSeveral() bool { return p.cluster != nil }

// PlannedPhase is one phase with its operations in words.
type PlannedPhase struct {
	Name       string   `json:"name"`
	Short      string   `json:"short"`
	Found      []string `json:"found,omitempty"` // what planning it found out
	Operations []string `json:"operations"`
	Commit     bool     `json:"commit,omitempty"` // the commit point follows it

	ops []op.Op
}

// Planned asks each phase for its operations.
func (w Workflow[N, F]) Planned(ctx context.Context, f F) (Plan, error) {
	plan := Plan{Workflow: w.Name, node: f.NodeName(), notes: f.RunNotes()}
	for _, p := range w.Phases {
		ops, err := p.Plan(ctx, f)
		if err != nil {
			return plan, err
		}
		planned := PlannedPhase{Name: p.Name, Short: p.Short, Commit: p.Commit, Operations: []string{}, ops: ops}
		if p.Found != nil {
			planned.Found = p.Found(f)
		}
		for _, o := range ops {
			planned.Operations = append(planned.Operations, o.String())
		}
		plan.Phases = append(plan.Phases, planned)
	}
	return plan, nil
}

// Passes returns the first refusal of a list of checks.
func Passes[F any](f F, checks ...func(F) error) error {
	for _, check := range checks {
		if err := check(f); err != nil {
			return err
		}
	}
	return nil
}

// Ops are the operations themselves.
func (p PlannedPhase) Ops() []op.Op { return p.ops }
