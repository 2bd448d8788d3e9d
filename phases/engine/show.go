package engine

import (
	"context"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// RunReport is all that this node's journal says of one run. The JSON names are stable.
type RunReport struct {
	RunSummary
	Version     string            `json:"version"` // of the etcdpod that began it
	Seconds     float64           `json:"seconds"` // from its first record to its last
	CommittedAt time.Time         `json:"committedAt,omitzero"`
	AbortedAt   time.Time         `json:"abortedAt,omitzero"`
	Operations  []OperationReport `json:"operations"`
	Notes       map[string]string `json:"notes"` // what the run noted for later ones
}

// OperationReport is one operation of a run, and what became of it.
type OperationReport struct {
	Phase     string    `json:"phase"`
	Operation string    `json:"operation"`
	State     string    `json:"state" values:"pending,started,done,undoing,undone"`
	Began     time.Time `json:"began,omitzero"`
	Ended     time.Time `json:"ended,omitzero"`
	Seconds   float64   `json:"seconds"` // from began to ended
	// On the way back.
	UndoBegan time.Time `json:"undoBegan,omitzero"`
	UndoEnded time.Time `json:"undoEnded,omitzero"`
	Errors    []string  `json:"errors,omitempty"` // each time that it was tried and failed
	Notes     []string  `json:"notes,omitempty"`  // what it reported
	// Those of the notes that are warnings, for programs.
	Findings []Finding `json:"findings,omitempty"`
}

// Show reports the run with that name, which may be a part of it that no other run's name has;
// empty: the newest run.
func (n *Node) Show(ctx context.Context, name string) (RunReport, error) {
	runs, err := n.Runs(ctx)
	if err != nil {
		return RunReport{}, err
	}
	run, err := named(runs, name)
	if err != nil {
		return RunReport{}, err
	}
	return reportOf(run), nil
}

func named(runs []RunSummary, name string) (RunSummary, error) {
	if len(runs) == 0 {
		return RunSummary{}, Refuse("", "nothing was run on this node yet")
	}
	if name == "" {
		return runs[len(runs)-1], nil
	}
	var found []RunSummary
	var ids []string
	for _, r := range runs {
		if r.ID == name {
			return r, nil
		}
		if strings.Contains(r.ID, name) {
			found, ids = append(found, r), append(ids, r.ID)
		}
	}
	switch len(found) {
	case 0:
		return RunSummary{}, Refuse("`etcdpod runs` lists them", "there is no run %s on this node", name)
	case 1:
		return found[0], nil
	}
	return RunSummary{}, Refuse("give more of its ID",
		"%s matches %d runs: %s", name, len(ids), strings.Join(ids, ", "))
}

func reportOf(run RunSummary) RunReport {
	report := RunReport{RunSummary: run, Operations: []OperationReport{}, Notes: map[string]string{}}
	s := run.state
	if s == nil {
		return report
	}
	report.Version, report.Seconds = s.Run.Version, s.Last.Sub(s.Began).Seconds()
	for key, note := range s.Run.Notes {
		report.Notes[key] = note
	}
	for _, step := range s.Steps {
		o := OperationReport{Phase: step.Phase, Operation: step.Kind, State: progressText(step.Progress)}
		if decoded, err := op.Decode(step.Kind, step.Op); err == nil {
			o.Operation = decoded.String()
		}
		report.Operations = append(report.Operations, o)
	}
	for _, r := range s.Records {
		report.take(r)
	}
	return report
}

func progressText(p journal.Progress) string {
	return map[journal.Progress]string{journal.Pending: "pending", journal.Doing: "started",
		journal.Done: "done", journal.Undoing: "undoing", journal.Reverted: "undone"}[p]
}

// take adds what one record says. A journal that was read names no step that is not in its plan.
func (r *RunReport) take(record journal.Record) {
	switch record.Kind {
	case journal.Commit:
		r.CommittedAt = record.Time
	case journal.Abort:
		r.AbortedAt = record.Time
	case journal.Start, journal.Finish, journal.Undo, journal.Undone:
		o := &r.Operations[record.Step]
		o.Notes = append(o.Notes, record.Notes...)
		o.Findings = append(o.Findings, finding.On(r.Node, record.Findings)...)
		if record.Error != "" {
			o.Errors = append(o.Errors, record.Error)
			return
		}
		switch record.Kind {
		case journal.Start:
			o.Began = record.Time
		case journal.Finish:
			o.Ended = record.Time
			if o.Began.IsZero() { // it was left out
				o.Began = record.Time
			}
			o.Seconds = o.Ended.Sub(o.Began).Seconds()
		case journal.Undo:
			if o.UndoBegan.IsZero() { // going back may have been cut off, and taken up again
				o.UndoBegan = record.Time
			}
		case journal.Undone:
			o.UndoEnded = record.Time
		}
	}
}

// followPause is how long [Node.Follow] waits before it reads the journal again.
const followPause = 300 * time.Millisecond

// Follow is Show for a run that another process may be carrying out: what its journal says is
// emitted as events, from the beginning, until the run has ended or nobody works on it any more. An
// interrupt ends the watching, and nothing else.
func (n *Node) Follow(ctx context.Context, name string) (RunReport, error) {
	report, err := n.Show(ctx, name)
	for told := 0; err == nil && report.state != nil; {
		n.tell(report, told)
		told = len(report.state.Records)
		if report.State != Running || n.Host.Clock.Sleep(ctx, followPause) != nil {
			break
		}
		if report = n.again(ctx, report.ID); report.State == string(journal.StillOpen) {
			// It may have ended between the look at its journal and that at the lock.
			report = n.again(ctx, report.ID)
		}
	}
	return report, err
}

// again looks at a run once more, and at no other.
func (n *Node) again(ctx context.Context, id string) RunReport {
	return reportOf(RunOf(n.Host.FS, id).Observed(ctx, n.Host.FS, n.Host.Clock))
}

// tell emits what a run's records say, without those that were told.
func (n *Node) tell(report RunReport, told int) {
	phase := ""
	for i, record := range report.state.Records {
		e := Event{Time: record.Time, Run: report.ID, Node: report.Node, Together: len(report.Nodes) > 0}
		emit := func(state EventState) {
			if e.State = state; i >= told {
				n.Emit(e)
			}
		}
		switch record.Kind {
		case journal.Commit:
			emit(Committed)
			continue
		case journal.Abort:
			e.Message = record.Error
			emit(Noted)
			emit(GoingBack)
			continue
		case journal.End:
			e.Error = record.Error
			emit(Ended)
			continue
		case journal.Begin, journal.Settle:
			continue
		}
		o := report.Operations[record.Step]
		e.Phase, e.Operation = o.Phase, o.Operation
		if record.Kind == journal.Start && phase != o.Phase {
			phase = o.Phase
			emit(PhaseStarted)
		}
		if e.Error = record.Error; e.Error != "" {
			emit(Failed)
			continue
		}
		plain := e
		for _, note := range record.Notes {
			e = plain
			e.Message = note
			for _, f := range record.Findings {
				if f.Text == note {
					e.Code, e.Severity, e.Subject = f.Code, f.Severity, f.Subject
				}
			}
			emit(Noted)
		}
		e = plain
		emit(map[journal.Kind]EventState{journal.Start: Started, journal.Finish: Finished,
			journal.Undo: Undoing, journal.Undone: Undone}[record.Kind])
	}
}
