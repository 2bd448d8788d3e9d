package together

import (
	"fmt"
	"strings"
)

// verdict is what is to become of a run on several nodes.
type verdict string

const (
	goForward verdict = "forward"
	goBack    verdict = "back"
	stay      verdict = "stay" // this node may not decide: all nodes stay as they are
	tooLate   verdict = "past the commit point"
)

// known is what is known about the nodes when a run on several of them is to be settled. None of
// the nodes that were asked can change: each is under its lock.
type known struct {
	// asked are the nodes that answered, by name.
	asked map[string]partState
	// mute are the nodes that cannot be asked. Nodes that are declared destroyed are not among
	// them, and count for nothing.
	mute []string
}

// decide is the rule on who may decide. A node holds the commit record only after every node has
// done everything before it, and a node settles only after all nodes were seen to hold it. A node
// without the record may roll back, and never reverses that; a node with it rolls back only when
// another node does. So as long as one node is rolling back no node ever settles, and once a node
// has settled none can roll back: docs/failure-model.md has the proof.
func (k known) decide(back bool) (v verdict, why string) {
	var gone, never, without, with []string
	settled := false
	for name, s := range k.asked {
		switch {
		case s.Settled || s.Closed && !s.Aborted && s.Begun:
			settled = true
		case s.Aborted:
			gone = append(gone, name)
		case !s.Begun:
			never = append(never, name)
		case s.Committed:
			with = append(with, name)
		default:
			without = append(without, name)
		}
	}
	switch {
	case settled && back:
		return tooLate, ""
	case settled:
		return goForward, ""
	case len(gone) > 0:
		return goBack, gone[0]
	case len(never) > 0 && len(with) > 0:
		// It had begun, or nobody would hold the record: it was closed there without us, and
		// pruned.
		return stay, fmt.Sprintf("%s has no record of the run any more, and may have ended it either way",
			strings.Join(never, ", "))
	case len(never) > 0:
		return goBack, never[0]
	case back && len(without) > 0:
		return goBack, without[0]
	case len(k.mute) > 0:
		return stay, fmt.Sprintf("%s cannot be queried, and may have decided", strings.Join(k.mute, ", "))
	case back:
		// All nodes that can still exist hold the record. A lost one may have settled, and promised
		// writes to clients.
		return tooLate, ""
	}
	return goForward, ""
}
