package engine

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// RunSummary is one run as `runs` lists it. The JSON names are stable.
type RunSummary struct {
	ID        string    `json:"id"`
	Workflow  string    `json:"workflow"`
	Command   []string  `json:"command"`
	Node      string    `json:"node"`
	State     string    `json:"state" values:"running,open,completed,rolled back,damaged,unchanged"`
	Began     time.Time `json:"began"`
	Last      time.Time `json:"last"` // of the last record
	Committed bool      `json:"committed"`
	Aborted   bool      `json:"aborted"`
	Reason    string    `json:"reason,omitempty"`    // why it was rolled back
	Phase     string    `json:"phase,omitempty"`     // where an open run stopped
	Operation string    `json:"operation,omitempty"` // the operation it stopped at
	// That operation may be skipped with `resume --skip-phases`.
	Skippable bool `json:"skippable,omitempty"`
	// All phases that would have to be skipped with it to close the run: what cannot be waited for
	// now may not be looked at later either.
	SkipPhases []string `json:"skipPhases,omitempty"`
	Path       string   `json:"path"` // its folder
	// For a run on several nodes; the first one is the coordinator, which is to be asked first.
	Nodes []string `json:"nodes,omitempty"`
	Error string   `json:"error,omitempty"` // why its journal cannot be read
	// Of the finding that it is while it is open, under way or cannot be read.
	Code finding.Code `json:"code,omitempty"`
	// How long the API server of this node was away, as far as the run has seen it come back.
	APIAwaySeconds float64 `json:"apiAwaySeconds,omitempty"`

	state *journal.State // as read from the journal; nil when that cannot be read
}

func summarize(s *journal.State) RunSummary {
	sum := RunSummary{
		ID: s.Run.ID, Workflow: s.Run.Workflow, Command: s.Run.Command, Node: s.Run.Node,
		Began: s.Began, Last: s.Last, Committed: s.Forward(),
		Aborted: s.Aborted != "", Reason: s.Aborted, Path: journal.RunDir(s.Run.ID), state: s,
		APIAwaySeconds: away(s).Seconds(),
	}.is(string(s.Outcome()))
	if c := s.Run.Cluster; c != nil {
		sum.Nodes = append(sum.Nodes, c.Coordinator)
		for _, p := range c.Nodes {
			if p.Name != c.Coordinator {
				sum.Nodes = append(sum.Nodes, p.Name)
			}
		}
	}
	if s.Ended {
		return sum
	}
	// If the run was cut off between the last operation and the end record, only closing it is
	// left.
	if len(s.Steps) > 0 {
		sum.Phase, sum.Operation = s.Steps[len(s.Steps)-1].Phase, "close the run"
	}
	if i := s.Current(); i >= 0 {
		sum.Phase, sum.Operation = s.Steps[i].Phase, s.Steps[i].Kind
		if o, err := op.Decode(s.Steps[i].Kind, s.Steps[i].Op); err == nil {
			sum.Operation = o.String()
			_, can := o.(op.Skippable)
			if sum.Skippable = can && s.Forward(); sum.Skippable {
				sum.SkipPhases = skippable(s.Steps[i:])
			}
		}
	}
	return sum
}

// skippable are the phases of steps that have operations which may be skipped, in order.
func skippable(steps []journal.StepState) (phases []string) {
	for _, s := range steps {
		if s.Progress != journal.Done && !slices.Contains(phases, s.Phase) && op.Can[op.Skippable](s.Kind) {
			phases = append(phases, s.Phase)
		}
	}
	return phases
}

// Runs lists this node's runs, oldest first. An open run that an etcdpod is working on is running.
func (n *Node) Runs(ctx context.Context) ([]RunSummary, error) {
	runs, err := RunsOf(n.Host.FS)
	for i := range runs {
		runs[i] = runs[i].Observed(ctx, n.Host.FS, n.Host.Clock)
	}
	return runs, err
}

// Observed tells an open run that a live process is working on from one that was cut off.
func (r RunSummary) Observed(ctx context.Context, fsys node.Reader, clock node.Clock) RunSummary {
	if r.State == string(journal.StillOpen) && journal.Held(ctx, fsys, clock) {
		r = r.is(Running)
	}
	return r
}

// is sets the state of a run, and with it its code.
func (r RunSummary) is(state string) RunSummary {
	r.State, r.Code = state, CodeOf(state)
	return r
}

// CodeOf is the code of the finding that a run in that state is; empty for one that has ended.
func CodeOf(state string) finding.Code {
	switch state {
	case string(journal.StillOpen):
		return finding.RunOpen
	case Running:
		return finding.RunUnderWay
	case damaged:
		return finding.RunUnreadable
	}
	return ""
}

const (
	// Running is the state of a run that an etcdpod is working on.
	Running = "running"
	damaged = "damaged" // its journal cannot be read
)

// RunsOf lists the runs found in a node's files, oldest first. It does not check whether an etcdpod
// is working on one: see [Node.Runs].
func RunsOf(fsys node.Reader) ([]RunSummary, error) {
	listed, err := journal.List(fsys)
	if err != nil {
		return nil, RefuseKind(err)
	}
	runs := make([]RunSummary, 0, len(listed))
	for _, l := range listed {
		runs = append(runs, summaryOf(l))
	}
	return runs, nil
}

// RunOf is the run of that id, of which no other's journal is read; without an ID: it never began.
func RunOf(fsys node.Reader, id string) RunSummary {
	state, err := journal.Read(fsys, journal.RunDir(id))
	if errors.Is(err, fs.ErrNotExist) {
		return RunSummary{}
	}
	return summaryOf(journal.Listed{ID: id, State: state, Err: err})
}

func summaryOf(l journal.Listed) RunSummary {
	if l.Err != nil {
		return RunSummary{ID: l.ID, Error: l.Err.Error(), Path: journal.RunDir(l.ID)}.is(damaged)
	}
	return summarize(l.State)
}

// Worked says whether etcdpod has kept anything on this node: the folder of a run, or backups.
func Worked(fsys node.Reader) bool {
	for _, dir := range []string{journal.RunsDir, journal.BackupsDir} {
		// What cannot be read is not absent.
		if _, err := fsys.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
			return true
		}
	}
	return false
}

// OpenRun returns the run that must be resumed or rolled back first; the zero value when there is
// none. A run whose journal cannot be read counts: nobody knows what it did. Every command asks, so
// ended runs, whose journals are kept, are not summed up for it.
func OpenRun(fsys node.Reader) (RunSummary, error) {
	listed, err := journal.List(fsys)
	if err != nil {
		return RunSummary{}, RefuseKind(err)
	}
	for _, l := range listed {
		if l.Err != nil || !l.State.Ended {
			return summaryOf(l), nil
		}
	}
	return RunSummary{}, nil
}

// RefuseOpen refuses while a run is open.
func RefuseOpen(fsys node.Reader) error {
	open, err := OpenRun(fsys)
	if err != nil {
		return err
	}
	if open.State == damaged {
		return refuseDamaged(open)
	}
	if open.ID != "" {
		return &OpenRunError{Run: open}
	}
	return nil
}

// refuseDamaged refuses because of a run whose journal cannot be read: only the person who typed it
// can know what it did.
func refuseDamaged(r RunSummary) error {
	return Refuse(fmt.Sprintf("if you know that the run has ended, move %s elsewhere", r.Path),
		"the journal of run %s cannot be read, so the run may be open: %s", r.ID, r.Error)
}

// reachable refuses, before anything is written, to go on with a run when the kubelet or the
// runtime cannot be asked: the run would fail and be rolled back for good. A run that only touches
// files needs neither.
func (n *Node) reachable(ctx context.Context, open RunSummary) error {
	if open.State == damaged {
		return refuseDamaged(open)
	}
	needs := false
	for _, step := range open.state.Steps { // one that needs them is enough
		o, err := op.Decode(step.Kind, step.Op)
		if err != nil {
			return err
		}
		if needs = needsNode(o); needs {
			break
		}
	}
	if !needs {
		return nil
	}
	hint := fmt.Sprintf("the run was started with `%s`: give the same --kubelet-…-command and --cri-socket flags, "+
		"if it had any", strings.Join(open.Command, " "))
	if _, err := n.Host.Kubelet.Running(ctx); err != nil {
		return Refuse(hint, "cannot continue run %s: %v", open.ID, err)
	}
	if _, err := n.Host.Runtime.Containers(ctx); err != nil {
		return Refuse(hint, "cannot continue run %s: %v", open.ID, err)
	}
	return nil
}

func needsNode(o op.Op) bool {
	files, can := o.(op.FilesOnly)
	return !can || !files.FilesOnly()
}

// Begin journals a new run. The caller holds the lock.
func (n *Node) Begin(id string, plan Plan) (*Run, error) {
	begun := journal.Run{ID: id, Workflow: plan.Workflow, Command: n.Command,
		Node: plan.node, Version: n.Version, CommitAt: -1, Notes: plan.notes, Cluster: plan.cluster}
	for _, p := range plan.Phases {
		for _, o := range p.ops {
			body, err := op.Encode(o)
			if err != nil {
				return nil, err
			}
			begun.Plan = append(begun.Plan, journal.Step{Phase: p.Name, Kind: op.Kind(o), Op: body})
		}
		if p.Commit {
			begun.CommitAt = len(begun.Plan)
		}
	}
	if err := journal.Prepare(n.Host.FS, id); err != nil {
		return nil, err
	}
	if _, err := journal.Create(n.Host.FS, n.Host.Clock, journal.RunDir(id), begun); err != nil {
		return nil, err
	}
	n.carriesOut(id)
	return n.Load(id)
}

func (n *Node) carriesOut(id string) {
	if n.CarriesOut != nil {
		n.CarriesOut(id)
	}
}

// Load opens a run's journal to go on with the run.
func (n *Node) Load(id string) (*Run, error) {
	j, state, err := journal.Open(n.Host.FS, n.Host.Clock, journal.RunDir(id))
	if err != nil {
		return nil, err
	}
	ops, err := Decode(state)
	if err != nil {
		return nil, err
	}
	target := n.Target()
	target.GiveUp = n.Faults.PromisesUnasked
	return &Run{node: n, journal: j, State: state, Ops: ops, Target: target, Emit: n.Emit, faults: n.Faults}, nil
}

// NewID names a run: <UTC>-<workflow>-<4 hex digits>, so that names sort by time.
func (n *Node) NewID(workflow string) (string, error) {
	var b [2]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("cannot name the run: %w", err)
	}
	return fmt.Sprintf("%s-%s-%s", n.Host.Clock.Now().UTC().Format("20060102T150405Z"),
		workflow, hex.EncodeToString(b[:])), nil
}

// Lock takes the node's lock for this process, unless nothing may be changed.
func (n *Node) Lock(ctx context.Context) (func() error, error) {
	if n.Unready != nil {
		return nil, n.Unready
	}
	unlock, err := journal.Lock(ctx, n.Host.FS, n.Host.Clock,
		journal.Holder{PID: os.Getpid(), Command: n.Command, Since: n.Host.Clock.Now().UTC()})
	return unlock, RefuseKind(err)
}

// LockIdle takes the node's lock for what needs no journal, and refuses while a run is open.
func (n *Node) LockIdle(ctx context.Context) (func() error, error) {
	unlock, err := n.Lock(ctx)
	if err != nil {
		return nil, err
	}
	if err := RefuseOpen(n.Host.FS); err != nil {
		return nil, errors.Join(err, unlock())
	}
	return unlock, nil
}

// Finish carries out the rest of a run on this node alone: forward or, if it had begun to roll
// back, back. A run that is rolled back ends in a *RolledBackError.
func (r *Run) Finish(ctx context.Context) error {
	if r.State.Aborted != "" {
		cause := errors.New(r.State.Aborted)
		return r.backUnless(ctx, cause, cause)
	}
	return r.forward(ctx)
}

// TakeBack rolls back a run on this node alone. Past the commit point it refuses.
func (r *Run) TakeBack(ctx context.Context) error {
	if r.State.Forward() {
		return r.node.RefusePastCommit(r.State)
	}
	err := r.backUnless(ctx, nil, errors.New("rolled back as requested"))
	var done *RolledBackError
	if errors.As(err, &done) {
		return nil
	}
	return err
}

// SkipPhases skips phases past the commit point, for `resume --skip-phases`; before it, a
// [*UsageError] says that nothing can be skipped.
func (r *Run) SkipPhases(names []string) error {
	if len(names) > 0 && !r.State.Forward() {
		return &UsageError{Reason: "phases can be skipped only past the commit point",
			Hint: "run `etcdpod rollback` to undo everything"}
	}
	for _, name := range names {
		// Of several nodes, another one may have the phase: the transaction knows them all.
		has := slices.ContainsFunc(r.State.Steps, func(s journal.StepState) bool { return s.Phase == name })
		if r.State.Run.Cluster == nil && !has {
			return &UsageError{Reason: fmt.Sprintf("run %s has no phase %q", r.State.Run.ID, name)}
		}
	}
	r.Skip = names
	return nil
}

// WithOpen calls f with the open run, under the node's lock.
func (n *Node) WithOpen(ctx context.Context, f func(*Run) error) (err error) {
	if err := n.OnControlPlane(ctx); err != nil {
		return err
	}
	unlock, err := n.Lock(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	open, err := OpenRun(n.Host.FS)
	if err != nil {
		return err
	}
	if open.ID == "" {
		if err := journal.KeepEnded(n.Host.FS); err != nil {
			return err
		}
		return ErrNoOpenRun()
	}
	if err := n.reachable(ctx, open); err != nil {
		return err
	}
	r, err := n.Load(open.ID)
	if err != nil {
		return err
	}
	n.carriesOut(open.ID)
	return f(r)
}

// RefusePastCommit refuses to roll back, and says how to reverse the run all the same if the
// workflow has another run that does it.
func (n *Node) RefusePastCommit(s *journal.State) error {
	why := n.TooLate[s.Run.Workflow].Why
	if why == "" {
		why = "what it has changed may be in use"
	}
	return Refuse("run `etcdpod resume` to finish it"+n.AfterwardsOf(s),
		"cannot roll back run %s: it is past its commit point, and %s", s.Run.ID, why)
}

// AfterwardsOf continues a hint, if the workflow knows how to reverse a run that has ended.
func (n *Node) AfterwardsOf(s *journal.State) string {
	if afterwards := n.TooLate[s.Run.Workflow].Afterwards; afterwards != nil {
		if advice := afterwards(s.Run); advice != "" {
			return "; afterwards, " + advice
		}
	}
	return ""
}

// Remaining lists the operations that are still to be done or, with back, undone.
func Remaining(state *journal.State, ops []op.Op, back bool) Plan {
	plan := Plan{Workflow: state.Run.Workflow}
	for k := range ops {
		i, verb := k, ""
		if back {
			i, verb = len(ops)-1-k, "undo: "
		}
		step := state.Steps[i]
		left := step.Progress == journal.Pending || step.Progress == journal.Doing
		if back {
			left = step.Progress != journal.Pending && step.Progress != journal.Reverted
		}
		if !left {
			continue
		}
		if last := len(plan.Phases) - 1; last < 0 || plan.Phases[last].Name != step.Phase {
			plan.Phases = append(plan.Phases, PlannedPhase{Name: step.Phase})
		}
		phase := &plan.Phases[len(plan.Phases)-1]
		phase.Operations = append(phase.Operations, verb+ops[i].String())
		phase.Commit = !back && i+1 == state.Run.CommitAt
	}
	return plan
}

// ErrNoOpenRun refuses a command that needs an open run.
func ErrNoOpenRun() error {
	return Refuse("`etcdpod runs` lists the runs on this node", "no run is open on this node")
}
