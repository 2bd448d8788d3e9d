package together

import (
	"fmt"
	"maps"
	"slices"
	"testing"
)

func TestWhoMayDecide(t *testing.T) {
	var (
		absent    = partState{}
		begun     = partState{Begun: true}
		committed = partState{Begun: true, Committed: true}
		settled   = partState{Begun: true, Committed: true, Settled: true}
		done      = partState{Begun: true, Committed: true, Settled: true, Closed: true}
		aborted   = partState{Begun: true, Aborted: true}
		// Held the record, and rolls back because another node does.
		turned = partState{Begun: true, Committed: true, Aborted: true}
		back   = partState{Begun: true, Aborted: true, Closed: true}
	)
	tests := []struct {
		name             string
		asked            []partState
		mute             []string
		resume, rollback verdict
	}{
		{"nobody holds the record", []partState{begun, begun, begun}, nil, goForward, goBack},
		{"some hold it", []partState{committed, begun, begun}, nil, goForward, goBack},
		{"all hold it", []partState{committed, committed, committed}, nil, goForward, tooLate},
		{"one is settled", []partState{committed, settled, committed}, nil, goForward, tooLate},
		{"one is settled, and others cannot be asked", []partState{settled}, []string{"b", "c"}, goForward, tooLate},
		{"one is closed", []partState{settled, done}, []string{"c"}, goForward, tooLate},
		{"one goes back", []partState{committed, aborted, begun}, nil, goBack, goBack},
		{"one went back, and the other cannot be asked", []partState{committed, back}, []string{"c"}, goBack, goBack},
		{"one that held it goes back", []partState{committed, turned}, []string{"c"}, goBack, goBack},
		{"one never began", []partState{begun, absent}, []string{"c"}, goBack, goBack},
		{"alone without it", []partState{begun}, []string{"b", "c"}, stay, goBack},
		{"alone with it", []partState{committed}, []string{"b", "c"}, stay, stay},
		{"all but one hold it, and that one cannot be asked",
			[]partState{committed, committed}, []string{"c"}, stay, stay},
		{"one without it, one cannot be asked", []partState{committed, begun}, []string{"c"}, stay, goBack},
		{"one is destroyed, nobody holds it", []partState{begun, begun}, nil, goForward, goBack},
		{"one is destroyed, all others hold it", []partState{committed, committed}, nil, goForward, tooLate},
		{"all but one are destroyed, and that one holds it", []partState{committed}, nil, goForward, tooLate},
		{"one is destroyed, one holds it, one does not", []partState{committed, begun}, nil, goForward, goBack},
		{"one is destroyed, one settled", []partState{committed, settled}, nil, goForward, tooLate},
		{"one is destroyed, one cannot be asked", []partState{committed}, []string{"b"}, stay, stay},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			k := known{asked: map[string]partState{}, mute: test.mute}
			for i, s := range test.asked {
				k.asked[fmt.Sprint("node", i)] = s
			}
			if v, why := k.decide(false); v != test.resume {
				t.Errorf("resume: %s (%s), and not %s", v, why, test.resume)
			}
			if v, why := k.decide(true); v != test.rollback {
				t.Errorf("rollback: %s (%s), and not %s", v, why, test.rollback)
			}
		})
	}
}

// Whichever nodes two operators can ask, at the same time or one after the other, one never decides
// to go forward for good while the other decides to roll back.
func TestNoTwoPeopleDecideDifferently(t *testing.T) {
	states := map[string]partState{
		"absent": {}, "begun": {Begun: true}, "committed": {Begun: true, Committed: true},
		"aborted": {Begun: true, Aborted: true},
		"settled": {Begun: true, Committed: true, Settled: true},
		"turned":  {Begun: true, Committed: true, Aborted: true},
	}
	names := []string{"a", "b", "c"}
	kinds := slices.Sorted(maps.Keys(states))
	worlds := 0
	for i := range len(kinds) * len(kinds) * len(kinds) {
		world := map[string]partState{"a": states[kinds[i%6]], "b": states[kinds[i/6%6]], "c": states[kinds[i/36]]}
		if !possible(world) {
			continue
		}
		worlds++
		final, back := "", ""
		for seen := 1; seen < 8; seen++ { // which nodes the operator can ask
			k := known{asked: map[string]partState{}}
			all := true
			for j, name := range names {
				if seen>>j&1 == 1 {
					k.asked[name], all = world[name], all && world[name].Committed
				} else {
					k.mute = append(k.mute, name)
				}
			}
			for _, asked := range []bool{false, true} {
				switch v, _ := k.decide(asked); {
				case v == goForward && (all && len(k.mute) == 0 || settledAmong(k)):
					// The verdict is final only then: otherwise others may still roll back a run
					// that is going forward.
					final = fmt.Sprint(k)
				case v == goBack:
					back = fmt.Sprint(k)
				}
			}
		}
		if final != "" && back != "" {
			t.Errorf("%v: one goes forward for good (%s), and one back (%s)", world, final, back)
		}
	}
	if worlds < 20 {
		t.Errorf("only %d worlds were looked at", worlds)
	}
}

func settledAmong(k known) bool {
	for _, s := range k.asked {
		if s.Settled {
			return true
		}
	}
	return false
}

// possible says whether the world can occur: a node settles only when all nodes hold the record,
// and then none rolls back.
func possible(world map[string]partState) bool {
	settled, fit := false, true
	for _, s := range world {
		settled = settled || s.Settled
		fit = fit && s.Committed && !s.Aborted
	}
	return !settled || fit
}
