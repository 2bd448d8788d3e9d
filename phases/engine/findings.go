package engine

import "github.com/etcdpod/etcdpod/phases/internal/finding"

// Finding is one thing that is wrong, as programs read it.
type Finding = finding.Finding

// Findings is the table of all kinds of findings, in the order of the page that is made from it.
func Findings() []finding.Group { return finding.Groups() }
