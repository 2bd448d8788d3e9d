package prune

import (
	"time"
)

// PrunePlan is what `prune` would delete.
type PrunePlan struct {
	Items []PruneItem `json:"items"`
	Kept  []PruneItem `json:"kept"` // with the reason why
	Bytes int64       `json:"bytes"`
}

// PruneItem is one directory or file that earlier runs left.
type PruneItem struct {
	Path   string    `json:"path"`
	Run    string    `json:"run,omitempty"`
	Bytes  int64     `json:"bytes"`
	Time   time.Time `json:"time"`
	Reason string    `json:"reason,omitempty"`
}
