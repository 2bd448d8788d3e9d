package engine

import "slices"

// NodePlan is what one of several nodes does.
type NodePlan struct {
	Node string `json:"node"`
	Plan
}

// TogetherPlan is a workflow planned on several nodes.
type TogetherPlan struct {
	Nodes []NodePlan `json:"nodes"`
	Notes []string   `json:"notes,omitempty"` // what the operator should know before going on
	Risk  string     `json:"risk,omitempty"`  // what the operator must agree to apart from the plan
	// The same notes and risk, for programs; those of one node are in its plan.
	Findings []Finding `json:"findings,omitempty"`
	// Stakes are what the operator agrees to with a yes, for all nodes together.
	Stakes Stakes `json:"stakes,omitzero"`
}

// Empty says that there is nothing to do on any node. Of the other nodes' operations only the words
// are here.
func (p TogetherPlan) Empty() bool {
	return !slices.ContainsFunc(p.Nodes, func(n NodePlan) bool {
		return slices.ContainsFunc(n.Phases, func(p PlannedPhase) bool { return len(p.Operations) > 0 })
	})
}
