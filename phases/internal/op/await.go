package op

import (
	"context"
	"fmt"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// AwaitEtcd waits until the restored etcd, and no other, serves.
type AwaitEtcd struct {
	Alone   Alone         `json:"alone"`
	Access  Access        `json:"access"`
	Receipt string        `json:"receipt"`
	Limit   time.Duration `json:"limit"`
}

func (a *AwaitEtcd) String() string {
	return fmt.Sprintf("wait until etcd serves at %s, %s at most", a.Access.Endpoints[0], a.Limit)
}

func (a *AwaitEtcd) Do(ctx context.Context, t *Target) error {
	if err := a.Alone.ensure(ctx, t); err != nil {
		return err
	}
	if err := startKubelet(ctx, t); err != nil {
		return err
	}
	want, err := receipt(t, a.Receipt)
	if err != nil {
		return err
	}
	crashes, err := watchCrashes(ctx, t, "etcd")
	if err != nil {
		return err
	}
	return poll(ctx, t, "the restored etcd does not serve", a.Limit, 100*time.Millisecond, func(ctx context.Context) error {
		if err := a.Alone.ensure(ctx, t); err != nil {
			return err
		}
		got, err := t.Etcd.Serving(ctx, a.Access, 0)
		if err != nil {
			if loop := crashes.loop(ctx, t); loop != nil {
				return &finalError{loop}
			}
			return err
		}
		if got.ClusterID != want.ClusterID {
			return &finalError{fmt.Errorf("another etcd answers at %s: cluster %x, and not the restored %x", a.Access.Endpoints[0], got.ClusterID, want.ClusterID)}
		}
		return nil
	})
}

// Condition: what is compared next is what this etcd serves, with nothing else beside it.
func (a *AwaitEtcd) Condition() {}

func (a *AwaitEtcd) Undo(context.Context, *Target) error         { return nil }
func (a *AwaitEtcd) Done(context.Context, *Target) (bool, error) { return false, nil }

// AwaitPeer waits until the member on this node serves its peers. On several nodes the next member is started after it: a member asks each peer for a hash before
// it serves (--feature-gates=InitialCorruptCheck=true, as kubeadm sets it), and waits 7 s for one that has its port open and does not serve yet.
type AwaitPeer struct {
	Peer  Access        `json:"peer"` // its peer URL on this node, and a certificate that peers accept
	Limit time.Duration `json:"limit"`
}

func (a *AwaitPeer) String() string {
	return fmt.Sprintf("wait until etcd serves its peers at %s, %s at most", a.Peer.Endpoints[0], a.Limit)
}

func (a *AwaitPeer) Do(ctx context.Context, t *Target) error {
	if err := startKubelet(ctx, t); err != nil {
		return err
	}
	return poll(ctx, t, "the restored etcd does not serve its peers", a.Limit, 50*time.Millisecond, func(ctx context.Context) error {
		return t.Etcd.PeerServes(ctx, a.Peer)
	})
}

// Condition: the members that are started next ask this one.
func (a *AwaitPeer) Condition() {}

func (a *AwaitPeer) Undo(context.Context, *Target) error         { return nil }
func (a *AwaitPeer) Done(context.Context, *Target) (bool, error) { return false, nil }

// Alone is the condition of the time before the commit point: of all that the fence kept from running, etcd runs, and nothing else.
type Alone struct {
	Fence    Fence  `json:"fence"`
	Manifest string `json:"manifest"` // etcd's
	Pod      string `json:"pod"`      // etcd's, as the manifest names it
}

func (a Alone) ensure(ctx context.Context, t *Target) error {
	return a.Fence.Only(ctx, t, a.Manifest, a.Pod)
}

// crashWatch notices a container that ends again and again: more waiting would not help.
type crashWatch struct {
	container string
	before    node.Container // the newest one when the watch began
}

// crashesTolerated is how often a container may end and be started again while it is waited for; a peer or a disk may be late once.
const crashesTolerated = 3

func watchCrashes(ctx context.Context, t *Target, container string) (crashWatch, error) {
	before, err := newest(ctx, t, container)
	return crashWatch{container, before}, err
}

func (w crashWatch) loop(ctx context.Context, t *Target) error {
	now, err := newest(ctx, t, w.container)
	if err != nil || now.State != stateExited {
		return nil
	}
	ended := now.Attempt - w.before.Attempt
	if now.PodUID != w.before.PodUID { // another manifest makes another pod, whose attempts count from 0
		ended = now.Attempt + 1
	}
	if ended < crashesTolerated {
		return nil
	}
	return endsAgain(w.container, int(ended))
}

func endsAgain(container string, times int) error {
	return fmt.Errorf("its container ended %d times; its log is in /var/log/pods/%s_%s-*/%s", times, systemNamespace, container, container)
}

// newest returns the container of that name which was made last; the zero value when there is none.
func newest(ctx context.Context, t *Target, container string) (last node.Container, err error) {
	all, err := t.Host.Runtime.Containers(ctx)
	if err != nil {
		return last, err
	}
	for _, c := range all {
		later := c.CreatedAt.After(last.CreatedAt) || c.CreatedAt.Equal(last.CreatedAt) && c.Attempt >= last.Attempt
		if c.Namespace == systemNamespace && c.Name == container && later {
			last = c
		}
	}
	return last, nil
}

// DisarmAlarms disarms the alarms that came with the snapshot: they name members that no longer exist, and NOSPACE keeps etcd read-only.
type DisarmAlarms struct {
	Access Access `json:"access"`
}

func (d *DisarmAlarms) String() string { return "disarm the alarms that came with the snapshot" }

func (d *DisarmAlarms) Do(ctx context.Context, t *Target) error {
	n, err := t.Etcd.DisarmAlarms(ctx, d.Access)
	if n > 0 {
		t.report("%d alarms that came with the snapshot were disarmed", n)
	}
	return err
}

func (d *DisarmAlarms) Undo(context.Context, *Target) error         { return nil }
func (d *DisarmAlarms) Done(context.Context, *Target) (bool, error) { return false, nil }

// CompareMembers is the last look before the commit point, while no API server writes: the cluster is the restored one, and holds what was staged.
type CompareMembers struct {
	Alone   Alone  `json:"alone"`
	Access  Access `json:"access"`
	Receipt string `json:"receipt"`
	Members int    `json:"members,omitempty"` // of the restored cluster; 0: one
}

func (c *CompareMembers) String() string { return "compare what etcd serves with what was staged" }

func (c *CompareMembers) Do(ctx context.Context, t *Target) error {
	if err := c.Alone.ensure(ctx, t); err != nil {
		return err
	}
	want, err := receipt(t, c.Receipt)
	if err != nil {
		return err
	}
	// As of the staged revision: leases that came with the snapshot expire, and take their keys with them.
	got, err := t.Etcd.Serving(ctx, c.Access, want.Revision)
	switch {
	case err != nil:
		return err
	case got.ClusterID != want.ClusterID:
		return fmt.Errorf("the restored etcd differs from what was staged: cluster %x, and not %x", got.ClusterID, want.ClusterID)
	case got.Members != max(c.Members, 1) || got.MemberID != want.MemberID:
		return fmt.Errorf("the restored etcd differs from what was staged: %d members, and this one is %x, not %x", got.Members, got.MemberID, want.MemberID)
	case got.Keys != want.Keys:
		return fmt.Errorf("the restored etcd differs from what was staged: it serves %d keys of %d", got.Keys, want.Keys)
	case got.Revision < want.Revision:
		return fmt.Errorf("the restored etcd differs from what was staged: it is at revision %d, below %d", got.Revision, want.Revision)
	}
	t.report("etcd serves %d keys at revision %d", got.Keys, got.Revision)
	return nil
}

func (c *CompareMembers) Undo(context.Context, *Target) error         { return nil }
func (c *CompareMembers) Done(context.Context, *Target) (bool, error) { return false, nil }
