package upgrade

import (
	"fmt"
	"strings"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/flags"
)

// Report is the result of `upgrade plan`. The JSON names are stable.
type Report struct {
	// One for each version, the oldest first; none: nothing newer is known.
	Plans []Plan `json:"plans"`
	Next  string `json:"next"` // the next thing to do
}

// Verdict is how an upgrade would end.
type Verdict string

// The verdicts.
const (
	Well    Verdict = "well"
	NotWell Verdict = "not-well"
	Unknown Verdict = "unknown" // something could not be looked at
	Nothing Verdict = "nothing" // all members run that version
)

// Plan is what an upgrade to one version would be like.
type Plan struct {
	To       string    `json:"to"`
	Verdict  Verdict   `json:"verdict"`
	Sentence string    `json:"sentence"` // the verdict, and why
	Members  []Member  `json:"members"`  // in the order of their turns: the leader's is the last
	Findings []Finding `json:"findings"` // the worst first
	Next     string    `json:"next"`     // the next thing to do
}

// Member is one member.
type Member struct {
	ID      string `json:"id"`             // hex
	Name    string `json:"name,omitempty"` // empty: it has never started
	Role    string `json:"role" values:"leader,voter,learner"`
	Node    string `json:"node,omitempty"`    // on which it was looked at; empty: it was not
	Version string `json:"version,omitempty"` // that it runs; empty: it does not answer
	// Whether its version may be followed by the next minor: passed, advised (a later one is
	// better), failed. Left out where the minor stays.
	Gate  string `json:"gate,omitempty" values:"passed,advised,failed"`
	Image string `json:"image,omitempty"` // from which it would run
	// Whether that is on its node; left out if it is not known.
	Present *bool        `json:"present,omitempty"`
	Flags   []FlagChange `json:"flags"` // what changes of its flags
}

// FlagChange is what becomes of one of etcd's flags, variables, or settings in its file.
type FlagChange struct {
	Kind  flags.Kind `json:"kind"`
	Given string     `json:"given"` // as it is written; of a default: the one that it had
	// Of what is given twice, the other one; of a default, the new one; of a value that is refused,
	// those that are not.
	Other   string `json:"other,omitempty"`
	Becomes string `json:"becomes,omitempty"` // how it is written then
	Stops   bool   `json:"stops,omitempty"`   // etcd does not start with it
}

// Weight is what a finding means for the verdict.
type Weight string

// The weights, the worst first.
const (
	Blocks Weight = "blocks"
	Doubts Weight = "doubts" // it must be looked at first
	Notes  Weight = "notes"
)

// Finding is one thing to know, and what to do about it.
type Finding struct {
	finding.Finding
	Weight Weight `json:"weight"`
	Next   string `json:"next,omitempty"`
}

// Told is a finding of one or several nodes.
type Told struct {
	Finding
	Nodes []string
}

// Told are the findings, with what several nodes have in common as one.
func (p Plan) Told() (all []Told) {
	for _, f := range p.Findings {
		same := false
		for i := range all {
			if all[i].Text == f.Text && all[i].Next == f.Next && f.Node != "" && len(all[i].Nodes) > 0 {
				all[i].Nodes, same = append(all[i].Nodes, f.Node), true
				break
			}
		}
		if same {
			continue
		}
		t := Told{Finding: f}
		if f.Node != "" {
			t.Nodes = []string{f.Node}
		}
		all = append(all, t)
	}
	return all
}

// FlagsText counts what changes of a member's flags; the findings name them.
func (m Member) FlagsText() string {
	counts := map[string]int{}
	for _, f := range m.Flags {
		counts[f.word()]++
	}
	var words []string
	for _, word := range []string{inTheWay, toRewrite, going, newDefault} {
		if n := counts[word]; n > 0 {
			words = append(words, fmt.Sprintf("%d %s", n, word))
		}
	}
	return strings.Join(words, ", ")
}

const (
	inTheWay   = "in the way"
	toRewrite  = "to rewrite"
	going      = "old name"
	newDefault = "new default"
)

func (f FlagChange) word() string {
	switch f.Kind {
	case flags.Renamed, flags.Gated:
		return toRewrite
	case flags.Deprecated:
		return going
	case flags.Preset:
		return newDefault
	}
	return inTheWay
}
