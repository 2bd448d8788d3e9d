package engine

import (
	"runtime"
	"slices"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// Stakes are what a person agrees to with a yes. The JSON names are stable.
type Stakes struct {
	Lost []string `json:"lost,omitempty"` // what is given up
	// About how long this node's API server will be away; 0 if it stays, or if there is none.
	AwaySeconds float64 `json:"awaySeconds,omitempty"`
	// The run that the estimate is from; empty: none was here yet.
	Earlier string   `json:"earlier,omitempty"`
	Back    []string `json:"back,omitempty"` // how to come back when the run is over
	// The nodes whose API server will be away, in a run on several nodes.
	AwayNodes []string `json:"awayNodes,omitempty"`
	// Set if the API servers of several nodes are away one at a time, each for so long.
	InTurn bool `json:"inTurn,omitempty"`

	// Of the data that etcd starts with; 0 if that stays as it is.
	SizeBytes int64 `json:"sizeBytes,omitempty"`
}

// About how long an API server is away on a machine of two cores: what `make bench` measures for an
// etcd with little in it is 4 s, and kubeadm's own waits make it up to 17 s.
const (
	awayAtLeast  = 15 * time.Second
	awayGigabyte = 3 * time.Second // more for each GiB that etcd loads
)

// Weigh fills in how long the API server will be away, by earlier runs on this node, its size and
// the machine.
func (n *Node) Weigh(p *Plan) {
	var ops []op.Op
	for _, phase := range p.Phases {
		ops = append(ops, phase.ops...)
	}
	if !interrupts(ops) {
		return
	}
	estimate := awayAtLeast
	if runtime.NumCPU() < 2 {
		estimate *= 2
	}
	runs, err := RunsOf(n.Host.FS)
	for _, r := range slices.Backward(runs) {
		if err != nil || r.Workflow != p.Workflow || r.State != string(journal.Completed) || r.APIAwaySeconds == 0 {
			continue
		}
		estimate, p.Stakes.Earlier = Seconds(r.APIAwaySeconds), r.ID
		break
	}
	p.Stakes.AwaySeconds = (estimate + time.Duration(p.Stakes.SizeBytes/(1<<20))*(awayGigabyte/1024)).Seconds()
}

// AwayOn fills in which API servers will be away, and for how long: the longest of what each node
// has estimated for itself.
func (s *Stakes) AwayOn(nodes []NodePlan) {
	for _, n := range nodes {
		if n.Stakes.AwaySeconds == 0 {
			continue
		}
		s.AwayNodes = append(s.AwayNodes, n.Node)
		if n.Stakes.AwaySeconds > s.AwaySeconds {
			s.AwaySeconds, s.Earlier, s.SizeBytes = n.Stakes.AwaySeconds, n.Stakes.Earlier, n.Stakes.SizeBytes
		}
	}
}

// interrupts says whether operations take the API server away for a time that has an end.
func interrupts(ops []op.Op) bool {
	var stopped bool
	for _, o := range ops {
		if outage, can := o.(op.Outage); can {
			stops, serves := outage.Outage()
			if stopped = stopped || stops; stopped && serves {
				return true
			}
		}
	}
	return false
}

// away is how long the API server was away in a run, as far as its journal tells: from the start of
// the first operation that stops it to the end of the last that sees it serve. 0: not at all, or
// nobody has seen it come back.
func away(s *journal.State) time.Duration {
	var from, to time.Time
	for _, r := range s.Records {
		if r.Kind != journal.Start && r.Kind != journal.Finish || !op.Can[op.Outage](s.Steps[r.Step].Kind) {
			continue
		}
		o, err := op.Decode(s.Steps[r.Step].Kind, s.Steps[r.Step].Op)
		outage, can := o.(op.Outage)
		if err != nil || !can {
			continue
		}
		stops, serves := outage.Outage()
		if stops && from.IsZero() && r.Kind == journal.Start {
			from = r.Time
		}
		if serves && !from.IsZero() && r.Kind == journal.Finish {
			to = r.Time
		}
	}
	if from.IsZero() || to.Before(from) {
		return 0
	}
	return to.Sub(from)
}

// backAtLeast is for a run that has stopped nothing yet: what it has made is deleted.
const backAtLeast = 2 * time.Second

// WayBack is about how long it takes to go back from where a run stands, by earlier runs of its
// kind.
func WayBack(fsys node.Reader, r RunSummary) time.Duration {
	if r.state == nil || !stopped(r.state, journal.Doing, journal.Done, journal.Undoing) {
		return backAtLeast
	}
	runs, err := RunsOf(fsys)
	for _, earlier := range slices.Backward(runs) {
		if err == nil && earlier.Workflow == r.Workflow && earlier.State == string(journal.RolledBack) &&
			stopped(earlier.state, journal.Reverted) {
			return earlier.state.Last.Sub(earlier.state.Records[slices.IndexFunc(earlier.state.Records,
				func(r journal.Record) bool { return r.Kind == journal.Abort })].Time)
		}
	}
	return awayAtLeast
}

// Stopped says whether the run has stopped something that ran.
func (r RunSummary) Stopped() bool {
	return r.state != nil && stopped(r.state, journal.Doing, journal.Done, journal.Undoing, journal.Reverted)
}

// stopped says whether an operation that stops something stands at one of these.
func stopped(s *journal.State, at ...journal.Progress) bool {
	return slices.ContainsFunc(s.Steps, func(step journal.StepState) bool {
		if !slices.Contains(at, step.Progress) {
			return false
		}
		o, err := op.Decode(step.Kind, step.Op)
		return err == nil && op.Stops(o)
	})
}
