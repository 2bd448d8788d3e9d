package journal

import (
	"encoding/json"
	"fmt"
	"time"
)

// Progress is how far one operation got.
type Progress int

// What a journal can say about an operation. Doing and Undoing mean "in doubt": the effect may or
// may not be there.
const (
	Pending Progress = iota
	Doing
	Done
	Undoing
	Reverted
)

// State is what a journal's records add up to.
type State struct {
	Run       Run
	Began     time.Time
	Last      time.Time // of the last record
	Steps     []StepState
	Committed bool
	Settled   bool
	Aborted   string // why the run rolls back, or did; else empty
	Ended     bool
	Records   []Record // all of them, in order
}

// StepState is an operation and how far it got; Op is as last recorded, with its identities.
type StepState struct {
	Step
	Progress Progress
}

// Outcome is what became of a run.
type Outcome string

// The outcomes of a run.
const (
	StillOpen  Outcome = "open"
	Completed  Outcome = "completed"
	RolledBack Outcome = "rolled back"
)

// Outcome says what became of the run.
func (s *State) Outcome() Outcome {
	switch {
	case !s.Ended:
		return StillOpen
	case s.Aborted != "":
		return RolledBack
	default:
		return Completed
	}
}

// Forward says whether the run can only go forward: it is past its commit point and, on several
// nodes, this node knows that all of them are.
func (s *State) Forward() bool { return s.Committed && (s.Run.Cluster == nil || s.Settled) }

// Current returns the step at which a run cut off here stopped: the first one in doubt, else the
// next one to do; -1 when there is none.
func (s *State) Current() int {
	next := -1
	for i, step := range s.Steps {
		switch step.Progress {
		case Doing, Undoing:
			return i
		case Pending:
			if next < 0 {
				next = i
			}
		}
	}
	return next
}

func replay(records []Record) (*State, error) {
	if records[0].Kind != Begin || records[0].Run == nil {
		return nil, fmt.Errorf("%w: it does not start with a run", ErrDamaged)
	}
	s := &State{Run: *records[0].Run, Began: records[0].Time, Records: records}
	for _, step := range s.Run.Plan {
		s.Steps = append(s.Steps, StepState{Step: step})
	}
	for _, r := range records {
		s.Last = r.Time
		if err := s.apply(r); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *State) apply(r Record) error {
	switch r.Kind {
	case Begin:
	case Commit:
		s.Committed = true
	case Settle:
		s.Settled = true
	case Abort:
		s.Aborted = r.Error
	case End:
		s.Ended = true
	case Start:
		return s.set(r.Step, Doing, r.Op)
	case Finish:
		return s.set(r.Step, Done, nil)
	case Undo:
		return s.set(r.Step, Undoing, nil)
	case Undone:
		return s.set(r.Step, Reverted, nil)
	default:
		return fmt.Errorf("it holds a record of kind %q, which this etcdpod does not know: use the version that "+
			"wrote it", r.Kind)
	}
	return nil
}

func (s *State) set(i int, p Progress, op json.RawMessage) error {
	if i < 0 || i >= len(s.Steps) {
		return fmt.Errorf("%w: it mentions step %d of %d", ErrDamaged, i, len(s.Steps))
	}
	s.Steps[i].Progress = p
	if op != nil {
		s.Steps[i].Op = op
	}
	return nil
}
