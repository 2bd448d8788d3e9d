package members

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// hurried is a clock on which nobody waits.
type hurried struct{}

func (hurried) Now() time.Time { return time.Now() }

func (hurried) Sleep(ctx context.Context, _ time.Duration) error { return ctx.Err() }

// three are cp1, which leads, cp2, and cp3; nobody listens at their URLs.
func three(t *testing.T) *roster {
	r := &roster{own: -1, quorum: true,
		node: &observe.Node{View: node.View{FS: node.OS(t.TempDir()), Clock: hurried{}}}}
	for i, name := range []string{"cp1", "cp2", "cp3"} {
		id := uint64(i + 1)
		at := "http://" + name + ".invalid"
		r.members = append(r.members, etcd.Member{ID: id, Name: name, PeerURLs: []string{at + ":2380"},
			ClientURLs: []string{at + ":2379"}})
		r.answers = append(r.answers, answer{Status: etcd.Status{MemberID: id, Leader: 1, RaftTerm: 2, RaftIndex: 1000,
			RaftApplied: 1000, Version: "3.6.16"}})
	}
	return r
}

func TestAMemberIsMeantByWhatFitsItAlone(t *testing.T) {
	r := three(t)
	r.members[2].Name = "cp2" // etcd lets two have one name
	r.members[1].ID, r.members[2].ID = 0xab, 0xcd
	for word, want := range map[string]int{"cp1": 0, "1": 0, "0xAB": 1, "cd": 2, "http://cp3.invalid:2380": 2,
		"http://cp3.invalid:2379/": 2, "cp2": -1, "": -1, "cp3": -1, "http://cp3.invalid": -1} {
		i, err := r.meant(word)
		if i != want || (err == nil) != (want >= 0) {
			t.Errorf("%q means %d, and not %d: %v", word, i, want, err)
		}
		if word == "cp2" && !strings.Contains(engine.Hint(err), "ab or cd") {
			t.Errorf("two of one name: %v, %s", err, engine.Hint(err))
		}
	}
}

func TestTheLeaderIsNotMovedWhereThatWouldNotGoWell(t *testing.T) {
	gone := errors.New("gone")
	for name, tt := range map[string]struct {
		change func(r *roster)
		word   string
		want   string // of the refusal; empty: it is moved to
		to     int
	}{
		"all is well":                  {func(*roster) {}, "", "", 1},
		"to one that is named":         {func(*roster) {}, "cp3", "", 2},
		"the one that is most in step": {func(r *roster) { r.answers[1].RaftApplied = 10 }, "", "", 2},
		"it leads already":             {func(r *roster) { r.answers[0].Err = gone }, "cp1", "", 0},
		"one that is behind": {func(r *roster) { r.answers[1].RaftApplied = 10 },
			"cp2", "it is 990 entries behind", 0},
		"all are behind": {func(r *roster) { r.answers[0].RaftIndex = 1007 },
			"", "it is 7 entries behind", 0},
		"one that does not answer": {func(r *roster) { r.answers[2].Err = gone },
			"cp3", "it does not answer: gone", 0},
		"beside one that does not answer": {func(r *roster) { r.answers[1].Err = gone }, "", "", 2},
		"a learner": {func(r *roster) { r.members[1].IsLearner = true },
			"cp2", "it is a learner", 0},
		"not to a learner by itself": {func(r *roster) { r.members[1].IsLearner = true }, "", "", 2},
		"nobody else votes": {func(r *roster) { r.members[1].IsLearner, r.members[2].IsLearner = true, true }, "",
			"no voter answers", 0},
		"one that never started": {func(r *roster) { r.members[1].Name = "" }, "2", "one not started yet at", 0},
		"a leader that is not reached": {func(r *roster) { r.answers[0].Err = gone },
			"cp2", "cp1 leads, and does not answer here: gone", 0},
		"an alarm": {func(r *roster) { r.answers[2].Errors = []string{"memberID:3 alarm:NOSPACE "} },
			"cp2", "etcd raised alarms: NOSPACE of member 3", 0},
		"an alarm of one that is gone": {func(r *roster) { r.answers[2].Errors = []string{"memberID:9 alarm:CORRUPT"} },
			"", "CORRUPT of member 9", 0},
		"no leader": {func(r *roster) {
			for i := range r.answers {
				r.answers[i].Leader = 0
			}
		}, "cp2", "no member that answers knows one", 0},
		"no such member": {func(*roster) {}, "cp9", "there is no member cp9", 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := three(t)
			tt.change(r)
			m, err := r.planMove(t.Context(), tt.word)
			var refused *engine.RefusedError
			switch {
			case tt.want == "" && (err != nil || m.to != tt.to || m.Already() != (tt.to == 0)):
				t.Errorf("%v, %+v", err, m)
			case tt.want == "":
			case !errors.As(err, &refused) || !strings.Contains(err.Error(), tt.want) || refused.Hint == "":
				t.Errorf("%v, and not %q", err, tt.want)
			}
		})
	}
}
