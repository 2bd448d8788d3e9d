package phases

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// The engine's invariants. The crash tests (crash_test.go) hold it to them:
//   - An operation is journaled as started, with the identities that it recorded, before anything of its effect happens.
//   - It is journaled as finished only when its effect is durable. So after a crash one operation at the most is in doubt.
//   - The commit record is durable before the first operation behind the commit point starts. Nothing is undone after it.
//   - The abort record is durable before the first operation is undone. Nothing is done after it.
//   - Operations are undone in reverse, and only those that were started.
//   - A run is closed only when it is wholly done or wholly undone.

// run is a run in the hands of this process, which holds the node's lock.
type run struct {
	node    *engineNode
	journal *journal.Journal
	state   *journal.State
	ops     []op.Op
	target  *op.Target
	emit    func(Event)
	faults  mistakes
	skip    []string // phases whose skippable operations are left out
	held    []int    // operations that were carried out in this process
}

// mistakes are deliberate ones, for the tests that show that the crash tests would catch them. They are never made outside tests.
type mistakes struct {
	JournalAfterAct bool
	UndoForward     bool
	RecordLate      bool
	AbortLate       bool // that the run goes back is recorded when it has gone
	ReleaseEarly    bool // what is behind the commit point is done before it
}

func (r *run) event(i int, state EventState) Event {
	e := Event{Time: r.target.Host.Clock.Now().UTC(), Run: r.state.Run.ID, Node: r.state.Run.Node, State: state, Together: r.state.Run.Cluster != nil}
	if i >= 0 && i < len(r.ops) {
		e.Phase, e.Operation = r.state.Steps[i].Phase, r.ops[i].String()
	}
	return e
}

// forward carries out what is left of the plan. An error before the commit point takes everything back; one behind it leaves the run open.
func (r *run) forward(ctx context.Context) error {
	for i := range r.ops {
		if i == r.state.Run.CommitAt {
			if err := r.commit(); err != nil {
				return r.stopped(ctx, err)
			}
		}
		err := ctx.Err() // an operation that is quick may not look
		if err == nil || r.state.Forward() {
			err = r.step(ctx, i)
		}
		if err != nil {
			return r.stopped(ctx, err)
		}
	}
	if err := r.commit(); err != nil {
		return r.stopped(ctx, err)
	}
	return r.end()
}

// advance carries out what is left of one phase of a run on several nodes. An error leaves everything as it is: what becomes of it is decided for all nodes together.
func (r *run) advance(ctx context.Context, phase string) error {
	for i, s := range r.state.Steps {
		if s.Phase != phase {
			continue
		}
		switch {
		case i > 0 && r.state.Steps[i-1].Progress != journal.Done:
			return fmt.Errorf("cannot go on to %s: %s is not done yet", phase, r.state.Steps[i-1].Phase)
		case i >= r.state.Run.CommitAt && !r.state.Forward() && !r.faults.ReleaseEarly:
			return fmt.Errorf("cannot go on to %s: this node does not know that all nodes are past the commit point", phase)
		case r.state.Aborted != "":
			return fmt.Errorf("cannot go on to %s: the run is going back", phase)
		}
		if err := r.step(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// step carries out one operation of the plan, unless it is done already or left out.
func (r *run) step(ctx context.Context, i int) error {
	if r.state.Steps[i].Progress == journal.Done {
		return nil
	}
	if _, can := r.ops[i].(op.Skippable); can && slices.Contains(r.skip, r.state.Steps[i].Phase) {
		if err := r.write(i, journal.Finish); err != nil {
			return err
		}
		skipped := r.event(i, Noted)
		skipped.Message = "left out as asked: " + r.ops[i].String()
		r.emit(skipped)
		return nil
	}
	if err := r.stillHolds(ctx, i); err != nil {
		return err
	}
	r.announce(i)
	if err := r.do(ctx, i); err != nil {
		r.failed(i, err)
		return err
	}
	r.held = append(r.held, i)
	r.emit(r.event(i, Finished))
	return nil
}

func (r *run) failed(i int, err error) {
	e := r.event(i, Failed)
	e.Error = err.Error()
	r.emit(e)
}

// announce tells of a phase when its first operation is reached.
func (r *run) announce(i int) {
	if i == 0 || r.state.Steps[i-1].Phase != r.state.Steps[i].Phase {
		r.emit(r.event(i, PhaseStarted))
	}
	r.emit(r.event(i, Started))
}

func (r *run) do(ctx context.Context, i int) error {
	o, step := r.ops[i], &r.state.Steps[i]
	r.focus(i)
	if step.Progress == journal.Doing {
		done, err := o.Done(ctx, r.target)
		if err != nil {
			return err
		}
		if done {
			return r.write(i, journal.Finish)
		}
	} else if err := r.start(ctx, i); err != nil {
		return err
	}
	if err := o.Do(ctx, r.target); err != nil {
		return err
	}
	if r.faults.JournalAfterAct {
		if err := r.write(i, journal.Start); err != nil {
			return err
		}
	}
	return r.write(i, journal.Finish)
}

// start lets the operation record how the world looks before it, and journals it.
func (r *run) start(ctx context.Context, i int) error {
	if r.faults.RecordLate {
		if err := r.write(i, journal.Start); err != nil {
			return err
		}
	}
	if rec, ok := r.ops[i].(op.Recorder); ok {
		if err := rec.Record(ctx, r.target); err != nil {
			return err
		}
	}
	if r.faults.JournalAfterAct || r.faults.RecordLate {
		return nil
	}
	return r.write(i, journal.Start)
}

// focus directs the target's progress and reports to one operation's events.
func (r *run) focus(i int) {
	r.target.Progress = func(done, total int64) {
		e := r.event(i, Progressed)
		e.Done, e.Total = done, total
		r.emit(e)
	}
	r.target.Report = func(message string) {
		e := r.event(i, Noted)
		e.Message = message
		r.emit(e)
	}
}

// write journals what became of one step, and remembers it.
func (r *run) write(i int, kind journal.Kind) error {
	record := journal.Record{Kind: kind, Step: i}
	if kind == journal.Start {
		body, err := op.Encode(r.ops[i])
		if err != nil {
			return err
		}
		record.Op = body
	}
	if err := r.journal.Append(record); err != nil {
		return err
	}
	r.state.Steps[i].Progress = map[journal.Kind]journal.Progress{
		journal.Start: journal.Doing, journal.Finish: journal.Done, journal.Undo: journal.Undoing, journal.Undone: journal.Reverted,
	}[kind]
	return nil
}

func (r *run) commit() error {
	if r.state.Committed {
		return nil
	}
	if err := r.journal.Append(journal.Record{Kind: journal.Commit}); err != nil {
		return err
	}
	r.state.Committed = true
	r.emit(r.event(-1, Committed))
	return nil
}

// settle records that all nodes hold the commit record.
func (r *run) settle() error {
	if r.state.Settled {
		return nil
	}
	if err := r.journal.Append(journal.Record{Kind: journal.Settle}); err != nil {
		return err
	}
	r.state.Settled = true
	return nil
}

func (r *run) end() error {
	if r.state.Ended {
		return nil
	}
	if err := r.journal.Append(journal.Record{Kind: journal.End}); err != nil {
		return r.open(err)
	}
	r.state.Ended = true
	r.emit(r.event(-1, Ended))
	return nil
}

// stopped deals with an error on the way forward.
func (r *run) stopped(ctx context.Context, cause error) error {
	if r.state.Forward() {
		return r.open(cause)
	}
	return r.back(context.WithoutCancel(ctx), cause)
}

// back undoes all that was started, and closes the run. It stays open when that fails, and can be tried again.
func (r *run) back(ctx context.Context, cause error) error {
	r.emit(r.event(-1, GoingBack))
	if err := r.revert(ctx, cause, nil); err != nil {
		return err
	}
	if err := r.end(); err != nil {
		return err
	}
	return &RolledBackError{Run: summarize(r.state), Cause: cause}
}

// abort records that the run goes back.
func (r *run) abort(cause error) error {
	if r.state.Aborted != "" {
		return nil
	}
	if err := r.journal.Append(journal.Record{Kind: journal.Abort, Error: cause.Error()}); err != nil {
		return r.open(errors.Join(cause, err))
	}
	r.state.Aborted = cause.Error()
	return nil
}

// revert undoes all that was started, but for the phases that are named: those are to stay done for now.
func (r *run) revert(ctx context.Context, cause error, stay []string) error {
	if !r.faults.AbortLate {
		if err := r.abort(cause); err != nil {
			return err
		}
	}
	order := make([]int, len(r.ops))
	for i := range order {
		order[i] = i
	}
	if !r.faults.UndoForward {
		slices.Reverse(order)
	}
	for _, i := range order {
		if slices.Contains(stay, r.state.Steps[i].Phase) {
			continue
		}
		if err := r.undo(ctx, i); err != nil {
			r.failed(i, err)
			return r.open(errors.Join(cause, fmt.Errorf("going back failed: %w", err)))
		}
	}
	return r.abort(cause)
}

func (r *run) undo(ctx context.Context, i int) error {
	switch r.state.Steps[i].Progress {
	case journal.Pending, journal.Reverted:
		return nil
	}
	r.focus(i)
	r.emit(r.event(i, Undoing))
	if err := r.write(i, journal.Undo); err != nil {
		return err
	}
	if err := r.ops[i].Undo(ctx, r.target); err != nil {
		return err
	}
	if err := r.write(i, journal.Undone); err != nil {
		return err
	}
	r.emit(r.event(i, Undone))
	return nil
}

func (r *run) open(cause error) error {
	return &OpenRunError{Run: summarize(r.state), Cause: cause}
}

// decode makes the operations of a run from its journal.
func decode(state *journal.State) ([]op.Op, error) {
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
