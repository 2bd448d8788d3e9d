// Package phases holds etcdpod's workflows: ordered lists of phases, each of which reads the facts and returns the operations that it needs.
// workflows.go is the table of contents. The engine carries plans out, writes the journal ahead, and takes them back; phases
// themselves can change nothing. Nothing here prints: the engine emits events.
package phases

import (
	"context"
	"fmt"
	"slices"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// Phase is one chapter of a workflow. Plan reads the facts and returns the operations that bring about what the phase is for, or refuses.
type Phase struct {
	Name  string // as in `--skip-phases`
	Short string // one line, for help and for the plan
	Plan  func(context.Context, *Facts) ([]op.Op, error)

	// Found says in words what planning found out, for people who decide whether to go on; nil when there is nothing to say.
	Found func(*Facts) []string

	Commit   bool // when it is done the run is forward-only: the commit point
	Optional bool // `--skip-phases` may leave it out
	InTurn   bool // on several nodes: one node after the other, not all at once
}

// Workflow is an ordered list of phases.
type Workflow struct {
	Name   string
	Phases []Phase
	// Passing is a workflow that changes nothing of the node: it takes no lock, writes no journal, and runs whatever else is open.
	Passing bool

	observe func(context.Context, *Node, string) (*Facts, error) // gathers the facts for the run with that id
}

// Without returns the workflow without the named phases. A name that is unknown, or a phase that must not be left out, is refused.
func (w Workflow) Without(names []string) (Workflow, error) {
	skip := map[string]bool{}
	for _, name := range names {
		skip[name] = true
	}
	kept := Workflow{Name: w.Name, Passing: w.Passing, observe: w.observe}
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

// PlannedPhase is one phase with its operations in words.
type PlannedPhase struct {
	Name       string   `json:"name"`
	Short      string   `json:"short"`
	Found      []string `json:"found,omitempty"` // what planning it found out
	Operations []string `json:"operations"`
	Commit     bool     `json:"commit,omitempty"` // the commit point follows it

	ops []op.Op
}

// plan asks each phase for its operations.
func (w Workflow) plan(ctx context.Context, f *Facts) (Plan, error) {
	plan := Plan{Workflow: w.Name, node: f.Node, notes: f.notes}
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
