package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// Observed is all that the engine needs from a workflow's facts; the rest is between the workflow's
// observer and its phases.
type Observed interface {
	// NodeName is what the journal calls this node.
	NodeName() string
	// RunNotes are for people who read the journal, and for hints; nil when there are none.
	RunNotes() map[string]string
}

// Phase is one chapter of a workflow. Plan reads the facts and returns the operations that achieve
// the phase's purpose, or refuses.
type Phase[F Observed] struct {
	Name  string // as in `--skip-phases`
	Short string // one line, for help and for the plan
	Plan  func(context.Context, F) ([]op.Op, error)

	// Found puts into words what planning found out, so that the operator can decide whether to go
	// on; nil when there is nothing to say.
	Found func(F) []string
	// Findings are what planning found out that somebody should do something about; nil when there
	// is none. In words they follow Found.
	Findings func(F) []Finding

	Commit   bool // the commit point: once it is done the run is forward-only
	Optional bool // `--skip-phases` may leave it out
	InTurn   bool // on several nodes: one node after the other, not all at once
}

// Workflow is an ordered list of phases. N is the type that its facts are observed with; F is the
// type of its facts, which no other workflow's phases see.
type Workflow[N any, F Observed] struct {
	Name   string
	Phases []Phase[F]
	// Unjournaled marks a workflow that changes nothing on the node: it takes no lock, writes no
	// journal, and runs even while another run is open.
	Unjournaled bool
	// Stakes says what a person agrees to with a yes; nil when nothing is given up. How long the
	// API server will be away is filled in.
	Stakes func(F) Stakes

	// Options refuses, by themselves, options that make no sense; nil when there are none.
	Options func() error

	// Observe gathers the facts for the run with that id.
	Observe func(ctx context.Context, n N, run string) (F, error)
}

// String is its name.
func (w Workflow[N, F]) String() string { return w.Name }

// Checked refuses what was asked for if it makes no sense on any node: before it is asked whether
// somebody may do it.
func (w Workflow[N, F]) Checked() error {
	if w.Options == nil {
		return nil
	}
	return w.Options()
}

// Optional are the names of the phases that may be left out.
func (w Workflow[N, F]) Optional() (names []string) {
	for _, p := range w.Phases {
		if p.Optional {
			names = append(names, p.Name)
		}
	}
	return names
}

// Without returns the workflow without the named phases. It refuses an unknown name, and a phase
// that is not optional.
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
			return w, &UsageError{Reason: fmt.Sprintf("phase %s of %s cannot be skipped", p.Name, w.Name),
				Hint: w.optionalHint()}
		}
		delete(skip, p.Name)
	}
	for name := range skip {
		return w, &UsageError{Reason: fmt.Sprintf("%s has no phase %q", w.Name, name), Hint: w.optionalHint()}
	}
	return kept, nil
}

func (w Workflow[N, F]) optionalHint() string {
	return "these can be skipped: " + strings.Join(w.Optional(), ", ")
}

// Work is a workflow together with what it looks at: all that the engine needs.
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
	if err := w.Checked(); err != nil {
		return Plan{}, err
	}
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
	Stakes   Stakes         `json:"stakes,omitzero"`

	node  string            // as the facts name it
	notes map[string]string // for people who read the journal, and for hints

	cluster *journal.Cluster // nil for a plan for this node alone
}

// Empty says that there is nothing to do.
func (p Plan) Empty() bool {
	return !slices.ContainsFunc(p.Phases, func(p PlannedPhase) bool { return len(p.ops) > 0 })
}

// Together turns the plan into this node's part of a run on several nodes.
func (p Plan) Together(c *journal.Cluster) Plan {
	p.cluster = c
	return p
}

// OnSeveral says whether the plan is this node's part of a run on several nodes.
func (p Plan) OnSeveral() bool { return p.cluster != nil }

// PlannedPhase is one phase with its operations in words.
type PlannedPhase struct {
	Name       string    `json:"name"`
	Short      string    `json:"short"`
	Found      []string  `json:"found,omitempty"`    // what planning the phase found out
	Findings   []Finding `json:"findings,omitempty"` // those of it that are warnings, for programs
	Operations []string  `json:"operations"`
	Commit     bool      `json:"commit,omitempty"` // the commit point follows it

	ops []op.Op
}

// Planned asks each phase for its operations.
func (w Workflow[N, F]) Planned(ctx context.Context, f F) (Plan, error) {
	plan := Plan{Workflow: w.Name, node: f.NodeName(), notes: f.RunNotes()}
	if w.Stakes != nil {
		plan.Stakes = w.Stakes(f)
	}
	for _, p := range w.Phases {
		ops, err := p.Plan(ctx, f)
		if err != nil {
			return plan, err
		}
		planned := PlannedPhase{Name: p.Name, Short: p.Short, Commit: p.Commit, Operations: []string{}, ops: ops}
		if p.Found != nil {
			planned.Found = p.Found(f)
		}
		if p.Findings != nil {
			planned.Findings = finding.On(f.NodeName(), p.Findings(f))
			planned.Found = append(planned.Found, finding.Texts(planned.Findings)...)
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
