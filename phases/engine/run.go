package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// The engine's invariants, which the crash tests (phases/internal/crashtest) check:
//   - An operation is journaled as started, with the identities that it recorded, before any of its
//     effect happens.
//   - It is journaled as finished only once its effect is durable. So after a crash at most one
//     operation is in doubt.
//   - The commit record is durable before the first operation past the commit point starts. Nothing
//     is undone after it.
//   - The abort record is durable before the first operation is undone. Nothing is done after it.
//   - Operations are undone in reverse, and only those that were started.
//   - A run is closed only when it is wholly done or wholly undone.

// Run is a run that this process carries out while it holds the node's lock.
type Run struct {
	node    *Node
	journal *journal.Journal
	State   *journal.State
	Ops     []op.Op
	Target  *op.Target
	Emit    func(Event)
	faults  Mistakes
	Skip    []string          // phases whose skippable operations are left out
	held    []int             // operations carried out by this process
	notes   []string          // what the operation under way reported, for the journal
	found   []finding.Finding // those of the notes that are warnings
}

// Mistakes are planted by the tests that show that the crash tests would catch them. Nothing else
// sets them.
type Mistakes struct {
	JournalAfterAct bool
	UndoForward     bool
	RecordLate      bool
	AbortLate       bool // the abort record is written only after everything is undone
	ReleaseEarly    bool // operations past the commit point run before it
	PromisesUnasked bool // nobody asks whether going back gives up what clients have written
	DataUnlooked    bool // nobody looks whether what was put in place is still there
}

// Event is an event about the operation at index i of the run; with i = -1, about the run itself.
func (r *Run) Event(i int, state EventState) Event {
	e := Event{Time: r.Target.Host.Clock.Now().UTC(), Run: r.State.Run.ID,
		Node: r.State.Run.Node, State: state, Together: r.State.Run.Cluster != nil}
	if i >= 0 && i < len(r.Ops) {
		e.Phase, e.Operation = r.State.Steps[i].Phase, r.Ops[i].String()
	}
	return e
}

// forward carries out the rest of the plan. An error before the commit point rolls the run back;
// one past it leaves the run open.
func (r *Run) forward(ctx context.Context) error {
	for i := range r.Ops {
		if i == r.State.Run.CommitAt {
			if err := r.holdAndCommit(ctx); err != nil {
				return r.stopped(ctx, err)
			}
		}
		err := ctx.Err() // a quick operation may not check ctx
		if err == nil || r.State.Forward() {
			err = r.step(ctx, i)
		}
		if err != nil {
			return r.stopped(ctx, err)
		}
	}
	if err := r.holdAndCommit(ctx); err != nil {
		return r.stopped(ctx, err)
	}
	if err := Guarded(func() error { return r.Lasts(ctx) }); err != nil {
		return r.stopped(ctx, err)
	}
	return r.End()
}

// holdAndCommit proves the fence once more: the last wait may have taken a while.
func (r *Run) holdAndCommit(ctx context.Context) error {
	if err := Guarded(func() error { return r.Hold(ctx) }); err != nil {
		return err
	}
	return r.Commit()
}

// Advance carries out the rest of one phase of a run on several nodes. An error leaves everything
// as it is: what happens next is decided for all nodes together.
func (r *Run) Advance(ctx context.Context, phase string) error {
	for i, s := range r.State.Steps {
		if s.Phase != phase {
			continue
		}
		switch {
		case i > 0 && r.State.Steps[i-1].Progress != journal.Done:
			return fmt.Errorf("cannot continue with %s: %s is not done yet", phase, r.State.Steps[i-1].Phase)
		case i >= r.State.Run.CommitAt && !r.State.Forward() && !r.faults.ReleaseEarly:
			return fmt.Errorf("cannot continue with %s: this node does not know that all nodes are past the commit "+
				"point",
				phase)
		case r.State.Aborted != "":
			return fmt.Errorf("cannot continue with %s: the run is being undone", phase)
		case ctx.Err() != nil && !r.State.Forward(): // a quick operation may not check ctx
			return ctx.Err()
		}
		if err := r.step(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// step carries out one operation of the plan, unless it is already done or is skipped.
func (r *Run) step(ctx context.Context, i int) error {
	if r.State.Steps[i].Progress == journal.Done {
		return nil
	}
	if _, can := r.Ops[i].(op.Skippable); can && slices.Contains(r.Skip, r.State.Steps[i].Phase) {
		skipped := r.Event(i, Noted)
		skipped.Message = "skipped as requested: " + r.Ops[i].String()
		r.notes, r.found = []string{skipped.Message}, nil
		if err := r.write(i, journal.Finish); err != nil {
			return err
		}
		r.Emit(skipped)
		return nil
	}
	if err := Guarded(func() error { return errors.Join(r.lasts(ctx, i), r.StillHolds(ctx, i)) }); err != nil {
		return err
	}
	r.announce(i)
	if err := Guarded(func() error { return r.do(ctx, i) }); err != nil {
		r.failed(i, Interrupted(ctx, err))
		return err
	}
	r.held = append(r.held, i)
	r.Emit(r.Event(i, Finished))
	return nil
}

// failed reports an error. Where no abort record will say why, the journal is told: the step stays
// what it is, started or being undone. Who cannot write that has another error to report.
func (r *Run) failed(i int, err error) {
	e := r.Event(i, Failed)
	if stopped := (*InterruptedError)(nil); errors.As(err, &stopped) {
		e.State = Stopped
	} else {
		e.Error = err.Error()
	}
	r.Emit(e)
	again := map[journal.Progress]journal.Kind{journal.Doing: journal.Start, journal.Undoing: journal.Undo}
	kind, begun := again[r.State.Steps[i].Progress]
	if begun && (r.State.Forward() || r.State.Aborted != "") {
		_ = r.journal.Append(journal.Record{Kind: kind, Step: i, Error: err.Error()})
	}
}

// announce reports an operation, and first its phase if it is the first of that.
func (r *Run) announce(i int) {
	if i == 0 || r.State.Steps[i-1].Phase != r.State.Steps[i].Phase {
		r.Emit(r.Event(i, PhaseStarted))
	}
	r.Emit(r.Event(i, Started))
}

func (r *Run) do(ctx context.Context, i int) error {
	o, step := r.Ops[i], &r.State.Steps[i]
	r.focus(i)
	if step.Progress == journal.Doing {
		done, err := o.Done(ctx, r.Target)
		if err != nil {
			return err
		}
		if done {
			return r.write(i, journal.Finish)
		}
	} else if err := r.start(ctx, i); err != nil {
		return err
	}
	if err := o.Do(ctx, r.Target); err != nil {
		return err
	}
	if r.faults.JournalAfterAct {
		if err := r.write(i, journal.Start); err != nil {
			return err
		}
	}
	return r.write(i, journal.Finish)
}

// start lets the operation record what it finds before it acts, and journals that.
func (r *Run) start(ctx context.Context, i int) error {
	if r.faults.RecordLate {
		if err := r.write(i, journal.Start); err != nil {
			return err
		}
	}
	if rec, ok := r.Ops[i].(op.Recorder); ok {
		if err := rec.Record(ctx, r.Target); err != nil {
			return err
		}
	}
	if r.faults.JournalAfterAct || r.faults.RecordLate {
		return nil
	}
	return r.write(i, journal.Start)
}

// focus attributes the target's progress and reports to one operation's events.
func (r *Run) focus(i int) {
	r.Target.Progress = func(done, total int64) {
		e := r.Event(i, Progressed)
		e.Done, e.Total = done, total
		r.Emit(e)
	}
	r.notes, r.found = nil, nil
	r.Target.Warn = func(f finding.Finding) {
		if r.notes = append(r.notes, f.Text); f.Code != "" {
			r.found = append(r.found, f)
		}
		e := r.Event(i, Noted)
		e.Message, e.Code, e.Severity, e.Subject = f.Text, f.Code, f.Severity, f.Subject
		r.Emit(e)
	}
	r.Target.Report = func(message string) { r.Target.Warn(finding.Finding{Text: message}) }
}

// write journals a step's progress, and updates the state to match.
func (r *Run) write(i int, kind journal.Kind) error {
	record := journal.Record{Kind: kind, Step: i}
	if kind == journal.Finish || kind == journal.Undone {
		record.Notes, record.Findings = r.notes, r.found
	}
	if kind == journal.Start {
		body, err := op.Encode(r.Ops[i])
		if err != nil {
			return err
		}
		record.Op = body
	}
	if err := r.journal.Append(record); err != nil {
		return err
	}
	r.State.Steps[i].Progress = map[journal.Kind]journal.Progress{
		journal.Start: journal.Doing, journal.Finish: journal.Done,
		journal.Undo: journal.Undoing, journal.Undone: journal.Reverted,
	}[kind]
	return nil
}

// Commit records that the run is past its commit point: from here it can only go forward. Calling
// it again does nothing; the same is true of Settle and End.
func (r *Run) Commit() error {
	if r.State.Committed {
		return nil
	}
	if err := r.journal.Append(journal.Record{Kind: journal.Commit}); err != nil {
		return err
	}
	r.State.Committed = true
	r.Emit(r.Event(-1, Committed))
	return nil
}

// Settle records that all nodes hold the commit record.
func (r *Run) Settle() error {
	if r.State.Settled {
		return nil
	}
	if err := r.journal.Append(journal.Record{Kind: journal.Settle}); err != nil {
		return err
	}
	r.State.Settled = true
	return nil
}

// End records that the run is over, so that it is no longer open.
func (r *Run) End() error { return r.EndLacking(nil) }

// EndLacking is End for a run that has gone back, and says what does not serve again; nil: nothing.
func (r *Run) EndLacking(lacks error) error {
	if r.State.Ended {
		return nil
	}
	e := r.Event(-1, Ended)
	if lacks != nil {
		e.Error = lacks.Error()
	}
	if err := r.journal.Append(journal.Record{Kind: journal.End, Error: e.Error}); err != nil {
		return r.open(err)
	}
	r.State.Ended = true
	r.Emit(e)
	return nil
}

// stopped handles an error on the way forward.
func (r *Run) stopped(ctx context.Context, cause error) error {
	cause = Interrupted(ctx, cause)
	if r.State.Forward() {
		return r.open(cause)
	}
	return r.backUnless(ctx, cause, cause)
}

// back undoes everything that was started, and closes the run. If that fails the run stays open,
// and can be rolled back again.
func (r *Run) back(ctx context.Context, cause error) error {
	e := r.Event(-1, GoingBack)
	e.Message = "this takes about " + Roughly(WayBack(r.Target.Host.FS, summarize(r.State)))
	r.Emit(e)
	if err := r.Revert(ctx, cause, nil); err != nil {
		return err
	}
	lacks := r.Returned(ctx)
	if err := r.EndLacking(lacks); err != nil {
		return err
	}
	return WentBack(summarize(r.State), cause, lacks)
}

// Unseen is said of a run that has gone back, and was begun by a version that did not note what
// served before it.
const Unseen = "files and data are as before; the etcdpod that began this run did not record what was serving, so " +
	"nothing was waited for: run `etcdpod status`"

// Returned sees whether what served before the run serves again, after everything is undone. The
// error is nil, or says what does not. It keeps no run open: nothing is left to undo.
func (r *Run) Returned(ctx context.Context) error {
	var lacks []error
	stopped, known := false, false
	for i, o := range r.Ops {
		if back, ok := o.(op.Returner); ok && r.State.Steps[i].Progress == journal.Reverted {
			r.focus(i)
			knows, err := back.Returned(ctx, r.Target)
			stopped, known, lacks = true, known || knows, append(lacks, err)
		}
	}
	if stopped && !known {
		r.Target.Report(Unseen)
	}
	return errors.Join(lacks...)
}

// abort records that the run is rolling back.
func (r *Run) abort(cause error) error {
	if r.State.Aborted != "" {
		return nil
	}
	if err := r.journal.Append(journal.Record{Kind: journal.Abort, Error: cause.Error()}); err != nil {
		return r.open(errors.Join(cause, err))
	}
	r.State.Aborted = cause.Error()
	return nil
}

// Revert undoes everything that was started, except the phases in stay, which stay done for now.
func (r *Run) Revert(ctx context.Context, cause error, stay []string) error {
	if !r.faults.AbortLate {
		if err := r.abort(cause); err != nil {
			return err
		}
	}
	order := make([]int, len(r.Ops))
	for i := range order {
		order[i] = i
	}
	if !r.faults.UndoForward {
		slices.Reverse(order)
	}
	for _, i := range order {
		if slices.Contains(stay, r.State.Steps[i].Phase) {
			continue
		}
		if err := Guarded(func() error { return r.undo(ctx, i) }); err != nil {
			r.failed(i, err)
			if lost := (*op.GivenUpError)(nil); errors.As(err, &lost) {
				return KeepsPromises(summarize(r.State), cause, lost)
			}
			return r.open(errors.Join(cause, fmt.Errorf("undoing failed: %w", err)))
		}
	}
	return r.abort(cause)
}

func (r *Run) undo(ctx context.Context, i int) error {
	switch r.State.Steps[i].Progress {
	case journal.Pending, journal.Reverted:
		return nil
	}
	r.focus(i)
	r.Emit(r.Event(i, Undoing))
	if err := r.write(i, journal.Undo); err != nil {
		return err
	}
	if err := r.Ops[i].Undo(ctx, r.Target); err != nil {
		return err
	}
	if err := r.write(i, journal.Undone); err != nil {
		return err
	}
	r.Emit(r.Event(i, Undone))
	return nil
}

func (r *Run) open(cause error) error {
	return &OpenRunError{Run: summarize(r.State), Cause: cause}
}

// Decode reads a run's operations from its journal.
func Decode(state *journal.State) ([]op.Op, error) {
	ops := make([]op.Op, len(state.Steps))
	for i, step := range state.Steps {
		o, err := op.Decode(step.Kind, step.Op)
		if err != nil {
			return nil, err
		}
		ops[i] = o
	}
	return ops, nil
}
