package engine

import (
	"sync"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
)

// EventState says what happened.
type EventState string

// The states of an event.
const (
	PhaseStarted EventState = "phase"
	Started      EventState = "started"
	Progressed   EventState = "progress"
	Finished     EventState = "finished"
	Failed       EventState = "failed"
	Stopped      EventState = "stopped" // the operation was cut short by an interrupt
	Committed    EventState = "committed"
	GoingBack    EventState = "going-back"
	Undoing      EventState = "undoing"
	Undone       EventState = "undone"
	Noted        EventState = "note"
	Ended        EventState = "ended"
)

// Event is one thing that happened in a run. The JSON names are stable.
type Event struct {
	Time      time.Time  `json:"time"`
	Run       string     `json:"run,omitempty"`
	Node      string     `json:"node,omitempty"`
	Phase     string     `json:"phase,omitempty"`
	Operation string     `json:"operation,omitempty"`
	State     EventState `json:"state"`
	Done      int64      `json:"done,omitempty"`  // bytes or steps
	Total     int64      `json:"total,omitempty"` // 0 when unknown
	Message   string     `json:"message,omitempty"`
	Error     string     `json:"error,omitempty"`

	// Of a note that is a warning, as of a finding.
	Code     finding.Code     `json:"code,omitempty"`
	Severity finding.Severity `json:"severity,omitempty"`
	Subject  string           `json:"subject,omitempty"`

	Together bool `json:"together,omitempty"` // the run spans several nodes
}

// progressEvery is how long after an event about a node's progress the next one follows.
const progressEvery = 500 * time.Millisecond

// Sparing passes events on, of those about progress at most two a second for each node: a reader
// has no use for more, and a log keeps them all.
func Sparing(emit func(Event)) func(Event) {
	var mu sync.Mutex
	told := map[string]time.Time{} // by node
	return func(e Event) {
		if e.State == Progressed && !due(&mu, told, e) {
			return
		}
		emit(e)
	}
}

// due notes the progress of a node if it is time to tell it. A clock that was set back counts as
// long ago.
func due(mu *sync.Mutex, told map[string]time.Time, e Event) bool {
	mu.Lock()
	defer mu.Unlock()
	last, before := told[e.Node]
	if since := e.Time.Sub(last); before && since >= 0 && since < progressEvery {
		return false
	}
	told[e.Node] = e.Time
	return true
}
