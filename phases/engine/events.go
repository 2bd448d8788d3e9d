package engine

import (
	"time"
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

	Together bool `json:"together,omitempty"` // the run spans several nodes
}
