package op

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// How a new member takes the place of one that has left for good: by then there is no way back, so
// each of these can be carried out again until it succeeds, or ended without the newcomer.

// AwaitServing waits until this node's learner could serve: until it has the leader's data, and
// each of its own checks is fine but that it is a learner. etcd itself promotes by how much of the
// leader's log a member has received, which is seconds before it has loaded a snapshot.
type AwaitServing struct {
	repeated
	Access    Access `json:"access"`  // this node's etcd
	Through   Access `json:"through"` // members that vote
	ClusterID ID     `json:"clusterID"`
	Snap      string `json:"snap"` // where the leader's snapshot arrives: member/snap
	// How long nothing may arrive. A learner that is slow takes as long as it takes.
	Limit time.Duration `json:"limit"`
	Watched
}

func (a *AwaitServing) String() string {
	return fmt.Sprintf("wait until the learner has the leader's data and could serve at %s; give up if nothing "+
		"arrives for %s", strings.Join(a.Access.Endpoints, ", "), a.Limit)
}

// inStep is by how many entries a member may lag and count as being in step. etcd itself refuses
// clients of a member that has 5,000 committed entries to apply (server/etcdserver/v3_server.go:
// maxGapBetweenApplyAndCommitIndex).
const inStep = 5000

func (a *AwaitServing) Do(ctx context.Context, t *Target) error {
	if err := startKubelet(ctx, t); err != nil {
		return err
	}
	crashes, err := a.watch(ctx, t, "etcd")
	if err != nil {
		return err
	}
	crashes.earlier = true
	const what = "the learner does not catch up"
	moved, most := t.Host.Clock.Now(), arrival{}
	for {
		now, err := t.Etcd.Learner(ctx, a.Access, a.Through)
		got := arrival{bytes: max(now.SizeBytes, a.arrived(t)), applied: now.Applied}
		switch lacks := a.lacks(now, err); {
		case err == nil && a.ClusterID != 0 && now.ClusterID != uint64(a.ClusterID):
			return fmt.Errorf("another etcd answers at %s: of cluster %x, not %s", a.Access.Endpoints[0],
				now.ClusterID, a.ClusterID)
		case lacks == nil:
			t.report("the learner has the leader's data: %d entries of its log, %d bytes", now.Applied, got.bytes)
			return nil
		case got.beyond(most):
			moved, most = t.Host.Clock.Now(), got
			if now.LeaderBytes > 0 {
				t.progress(min(got.bytes, now.LeaderBytes), now.LeaderBytes)
			}
		case t.Host.Clock.Now().Sub(moved) > a.Limit:
			return crashes.explain(ctx, t, fmt.Errorf("%s: nothing has arrived for %s; it has %d of the leader's %d "+
				"bytes, and %d of %d entries: %w", what, a.Limit, most.bytes, now.LeaderBytes, most.applied,
				now.Committed, lacks))
		default:
			if loop := crashes.loop(ctx, t); loop != nil {
				return crashes.explain(ctx, t, fmt.Errorf("%s: %w", what, loop))
			}
		}
		if err := t.Host.Clock.Sleep(ctx, 200*time.Millisecond); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
}

// lacks says why the learner could not serve yet.
func (a *AwaitServing) lacks(now Learner, err error) error {
	switch {
	case err != nil:
		return err
	case now.Applied+inStep < now.Committed:
		return fmt.Errorf("it is %d entries behind", now.Committed-now.Applied)
	case len(now.Failing) > 0:
		return fmt.Errorf("its checks fail: %s", strings.Join(now.Failing, ", "))
	}
	return nil
}

// arrival is how much of the leader's data a learner has.
type arrival struct {
	bytes   int64
	applied uint64
}

func (a arrival) beyond(b arrival) bool { return a.bytes > b.bytes || a.applied > b.applied }

// arrived is the size of the largest file in which the leader's snapshot arrives. While etcd
// receives and loads it, it says nothing about itself.
func (a *AwaitServing) arrived(t *Target) (most int64) {
	names, _ := t.Host.FS.ReadDir(a.Snap)
	for _, name := range names {
		if st, err := t.Host.FS.Lstat(path.Join(a.Snap, name)); err == nil {
			most = max(most, st.Size)
		}
	}
	return most
}

// Skippable: where the learner's own checks cannot be asked, a person may leave it to etcd, which
// promotes by the log.
func (a *AwaitServing) Skippable() {}

// SeeNewcomer sees that the member that has joined votes. Where its node was declared destroyed, it
// takes it out of the cluster again: a learner that nobody runs keeps the next one out, and a dead
// voter is what the run was to get rid of. Every node that stays has this operation.
type SeeNewcomer struct {
	repeated
	Access   Access        `json:"access"` // of members that stay
	Node     string        `json:"node"`   // the newcomer's
	PeerURLs []string      `json:"peerURLs"`
	Before   []ID          `json:"before"` // the members when the run was planned
	Limit    time.Duration `json:"limit"`
}

func (s *SeeNewcomer) String() string {
	return fmt.Sprintf("see that the new member on %s votes, or remove it if that node is lost", s.Node)
}

func (s *SeeNewcomer) Do(ctx context.Context, t *Target) error {
	lost := t.isLost(s.Node)
	removed := ID(0)
	err := poll(ctx, t, fmt.Sprintf("the new member on %s does not vote", s.Node), s.Limit, 200*time.Millisecond,
		func(ctx context.Context) error {
			members, err := t.Etcd.Members(ctx, s.Access)
			if err != nil {
				return err
			}
			at := memberAt(members, s.PeerURLs)
			if at != nil && slices.Contains(s.Before, at.ID) {
				at = nil
			}
			switch {
			case lost && at == nil:
				return nil
			case lost:
				removed = at.ID
				if err := t.Etcd.RemoveMember(ctx, s.Access, at.ID); err != nil {
					return err
				}
				return errors.New("it is only just removed")
			case at == nil:
				return &finalError{fmt.Errorf("the cluster has no member at %s: it was not added yet, or someone has "+
					"removed it", strings.Join(s.PeerURLs, ","))}
			case at.IsLearner:
				return errors.New("it is still a learner")
			}
			return nil
		})
	if err == nil && lost {
		s.tell(t, removed)
	}
	return err
}

func (s *SeeNewcomer) tell(t *Target, removed ID) {
	left := "it was no member yet"
	if removed != 0 {
		left = fmt.Sprintf("its member %s was removed", removed)
	}
	t.warn(finding.NewcomerLost, s.Node, "%s was to be the new member, and is lost: %s, and the cluster is one member "+
		"short. Prepare another machine, and run `etcdpod join` on it", s.Node, left)
}

// AdmitNewcomer changes nothing. If the run goes back, it sees that the member that joined has
// left: its own node sees to that, unless it is lost.
type AdmitNewcomer struct {
	Access   Access        `json:"access"` // of members that stay
	Node     string        `json:"node"`   // the newcomer's
	PeerURLs []string      `json:"peerURLs"`
	Before   []ID          `json:"before"` // the members when the run was planned
	Limit    time.Duration `json:"limit"`
}

func (a *AdmitNewcomer) String() string {
	return fmt.Sprintf("(when undoing: remove the new member on %s, unless it has left)", a.Node)
}

// Do sees that the cluster answers: it is to change.
func (a *AdmitNewcomer) Do(ctx context.Context, t *Target) error {
	_, err := t.Etcd.Members(ctx, a.Access)
	return err
}

func (a *AdmitNewcomer) Undo(ctx context.Context, t *Target) error {
	return poll(ctx, t, fmt.Sprintf("the new member on %s is not removed", a.Node), a.Limit, 200*time.Millisecond,
		func(ctx context.Context) error {
			members, err := t.Etcd.Members(ctx, a.Access)
			if err != nil {
				return err
			}
			at := memberAt(members, a.PeerURLs)
			if at == nil || slices.Contains(a.Before, at.ID) {
				return nil
			}
			if err := t.Etcd.RemoveMember(ctx, a.Access, at.ID); err != nil {
				return err
			}
			return errors.New("it is only just removed")
		})
}

func (a *AdmitNewcomer) Done(context.Context, *Target) (bool, error) { return false, nil }

// isLost says whether a person has declared a node destroyed.
func (t *Target) isLost(name string) bool { return slices.Contains(t.Lost, name) }

// NameNewcomer replaces the API server's manifest once more, with one that names the new member,
// too, and waits until it serves. Which pod ran from the one before is known only now. If the
// newcomer is lost, the API server stays as it is.
type NameNewcomer struct {
	Replace ReplaceManifest `json:"replace"`
	Await   AwaitReplaced   `json:"await"`
	Node    string          `json:"node"` // the newcomer's
}

func (n *NameNewcomer) String() string {
	return fmt.Sprintf("%s; %s", &n.Replace, &n.Await)
}

// Record notes the pod that runs from the manifest as it is.
func (n *NameNewcomer) Record(ctx context.Context, t *Target) error {
	all, err := t.Host.Runtime.Containers(ctx)
	if err != nil {
		return fmt.Errorf("cannot determine what runs: %w", err)
	}
	var last node.Container
	for _, c := range all {
		runs, ran := c.State == stateRunning, last.State == stateRunning
		if n.Await.Pod.Owns(c) && (last.ID == "" || runs && !ran || runs == ran && newer(c, last)) {
			last = c
		}
	}
	n.Await.Before = last.PodUID
	return n.Replace.Record(ctx, t)
}

func (n *NameNewcomer) Do(ctx context.Context, t *Target) error {
	if t.isLost(n.Node) {
		t.report("%s stays as it is: the new member is lost", n.Replace.Path)
		return nil
	}
	err := n.Replace.shared().replace(t, n.Replace.Data)
	if errors.Is(err, errEdited) {
		return fmt.Errorf("cannot replace %s: %w; take that back", n.Replace.Path, err)
	}
	if err != nil {
		return err
	}
	return n.Await.Do(ctx, t)
}

// Undo is never asked for: it is past the commit point.
func (n *NameNewcomer) Undo(ctx context.Context, t *Target) error { return n.Replace.Undo(ctx, t) }

// Done asks by doing: the API server may not be ready yet.
func (n *NameNewcomer) Done(context.Context, *Target) (bool, error) { return false, nil }

// Outage is from the end of the old API server until the new one is ready.
func (n *NameNewcomer) Outage() (stops, serves bool) { return true, true }

// Skippable: without it the API server serves from the members that it named before.
func (n *NameNewcomer) Skippable() {}
