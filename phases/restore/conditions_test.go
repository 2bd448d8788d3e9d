package restore

import (
	"context"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// asked counts what is asked of etcd.
type asked struct {
	op.Etcd
	peer, started, serving int
}

func (a *asked) PeerServes(context.Context, op.Access) error {
	a.peer++
	return nil
}

func (a *asked) Started(context.Context, op.Access) (op.Answer, error) {
	a.started++
	return op.Answer{ClusterID: 1}, nil
}

func (a *asked) Serving(context.Context, op.Access, int64) (op.Answer, error) {
	a.serving++
	return op.Answer{}, nil
}

// A process that resumes a run does not know whether the node has booted since. So it waits again,
// once, for what the next operation needs from the programs.
func TestEveryConditionBeforeTheCommitPointIsWaitedForAgain(t *testing.T) {
	at := op.Access{Endpoints: []string{"https://10.0.0.11:2379"}}
	peer := &op.AwaitPeer{Peer: at, Limit: time.Minute}
	learner := &op.AwaitAnswer{Access: at, ClusterID: 1, Learner: true, Limit: time.Minute}
	for _, tt := range []struct {
		name     string
		wait     op.Op
		commitAt int
		progress journal.Progress
		want     asked
	}{
		{"that it serves peers", peer, 2, journal.Done, asked{peer: 1}},
		{"that the learner has started", learner, 2, journal.Done, asked{started: 1}},
		{"that it serves", &op.AwaitAnswer{Access: at, Limit: time.Minute}, 2, journal.Done, asked{serving: 1}},
		{"not where it is still to be waited for", peer, 2, journal.Pending, asked{}},
		{"not behind the commit point", peer, 1, journal.Done, asked{}},
		{"not what has an effect that stays", &op.DisarmAlarms{Access: at}, 2, journal.Done, asked{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := &asked{}
			w := newWorld(t, scenario{})
			w.Process.Etcd = got
			r := &engine.Run{
				Ops: []op.Op{tt.wait, &op.KeepKubelet{}}, Target: w.Process.Target(),
				State: &journal.State{
					Run: journal.Run{CommitAt: tt.commitAt}, Steps: []journal.StepState{{Progress: tt.progress}, {}},
				},
			}
			for range 2 {
				if err := r.StillHolds(t.Context(), 1); err != nil {
					t.Fatal(err)
				}
			}
			if *got != tt.want {
				t.Errorf("etcd was asked %+v", *got)
			}
		})
	}
}
