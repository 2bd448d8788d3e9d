package status

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// sized is a cluster of so many voting members.
func sized(t *testing.T, voters int) seen {
	t.Helper()
	s := healthy(t)
	s.facts.Live.Members = nil
	for i := range voters {
		s.facts.Live.Members = append(s.facts.Live.Members,
			observe.Member{ID: op.ID(7 + i), Name: fmt.Sprintf("cp%d", i+1)})
	}
	return s
}

func codesOf(w found) (all []string) {
	for _, f := range w {
		all = append(all, string(f.Code))
	}
	return all
}

func TestStatusWarnsOfANumberOfMembersThatCostsMoreThanItGives(t *testing.T) {
	for voters, want := range map[int][]string{
		1: nil, 3: nil, 5: nil,
		2: {"2 voting members, and survives the loss of none of them: no more than with 1", "etcdpod join",
			"etcdpod remove"},
		4: {"4 voting members, and survives the loss of 1: no more than with 3"},
		7: {"7 voting members: every write waits until 4 of them", "etcdpod remove"},
		8: {"survives the loss of 3: no more than with 7", "every write waits until 5 of them"},
	} {
		s := sized(t, voters)
		st := s.status()
		all := strings.Join(st.Warnings, "\n")
		if (len(st.Warnings) == 0) != (want == nil) {
			t.Errorf("with %d members it warns of %q", voters, st.Warnings)
		}
		for _, text := range want {
			if !strings.Contains(all, text) {
				t.Errorf("with %d members it does not say %q: %q", voters, text, st.Warnings)
			}
		}
	}
}

func TestStatusWarnsOfALearnerThatIsLeftOver(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*seen)
		want   []string
	}{
		{"a learner, whatever the number", func(s *seen) { s.facts.Live.Members[3].IsLearner = true },
			[]string{"member-learner"}},
		{"one that never started is said otherwise", func(s *seen) {
			s.facts.Live.Members[3].Name, s.facts.Live.Members[3].IsLearner = "", true
		}, nil},
		{"two of one name: that comes first", func(s *seen) { s.facts.Live.Members[3].Name = "cp1" }, nil},
		{"a member does not answer: that comes first", func(s *seen) { s.silent = s.facts.Live.Members[3:] }, nil},
		{"a member never started: that comes first", func(s *seen) { s.facts.Live.Members[3].Name = "" }, nil},
		{"no quorum", func(s *seen) { s.facts.Live.Leader = 0 }, nil},
		{"nothing is known", func(s *seen) { s.facts.Live = nil }, nil},
	} {
		s := sized(t, 4)
		tt.change(&s)
		if got := codesOf(s.judgeSize()); !slices.Equal(got, tt.want) {
			t.Errorf("%s: it warns of %q", tt.name, got)
		}
	}
	s := sized(t, 4)
	s.facts.Live.Members[3].IsLearner = true
	if w := s.judgeSize(); w[0].Subject != "cp4" || !strings.Contains(w[0].Text, "`etcdpod remove a`") {
		t.Errorf("got %+v", w)
	}
}
