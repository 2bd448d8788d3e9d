package prune

import (
	"time"
)

// Plan is what `prune` would delete.
type Plan struct {
	Items []Item `json:"items"`
	Kept  []Item `json:"kept"` // with the reason why
	Bytes int64  `json:"bytes"`

	elsewhere string
}

// Elsewhere says that this is no control plane, where there can be nothing; empty: it is one.
func (p Plan) Elsewhere() string { return p.elsewhere }

// Item is one directory or file left by earlier runs.
type Item struct {
	Path   string    `json:"path"`
	Run    string    `json:"run,omitempty"`
	Bytes  int64     `json:"bytes"`
	Time   time.Time `json:"time"`
	Reason string    `json:"reason,omitempty"`
}
