package engine

import (
	"errors"
	"testing"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
)

func TestTheCodeOfARunFollowsFromItsState(t *testing.T) {
	open := &journal.State{}
	for want, r := range map[finding.Code]RunSummary{
		finding.RunOpen:       summarize(open),
		finding.RunUnderWay:   summarize(open).is(Running),
		finding.RunUnreadable: summaryOf(journal.Listed{Err: errors.New("bad line")}),
		"":                    summarize(&journal.State{Ended: true}),
	} {
		if r.Code != want || CodeOf(r.State) != want {
			t.Errorf("%s: it has the code %q, and not %q", r.State, r.Code, want)
		}
	}
}
