package op

import (
	"context"
	"fmt"
)

// DisarmAlarms disarms the alarms in the snapshot: they name members that no longer exist, and
// NOSPACE keeps etcd read-only.
type DisarmAlarms struct {
	repeated
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

// CompareMembers is the last check before the commit point, while no API server writes: this must
// be the restored cluster, with the staged data.
type CompareMembers struct {
	repeated
	Alone   Alone  `json:"alone"`
	Access  Access `json:"access"`
	Receipt string `json:"receipt"`
	Members int    `json:"members,omitempty"` // of the restored cluster; 0: one
}

func (c *CompareMembers) String() string { return "compare what etcd serves with the staged data" }

func (c *CompareMembers) Do(ctx context.Context, t *Target) error {
	if err := c.Alone.ensure(ctx, t); err != nil {
		return err
	}
	want, err := receipt(t, c.Receipt)
	if err != nil {
		return err
	}
	// As of the staged revision: leases from the snapshot expire, and take their keys with them.
	got, err := t.Etcd.Serving(ctx, c.Access, want.Revision)
	switch {
	case err != nil:
		return err
	case got.ClusterID != want.ClusterID:
		return fmt.Errorf("the restored etcd differs from the staged data: cluster %x, not %x",
			got.ClusterID, want.ClusterID)
	case got.Members != max(c.Members, 1) || got.MemberID != want.MemberID:
		return fmt.Errorf("the restored etcd differs from the staged data: %d members, and this one is %x, not %x",
			got.Members, got.MemberID, want.MemberID)
	case got.Keys != want.Keys:
		return fmt.Errorf("the restored etcd differs from the staged data: it serves %d keys of %d",
			got.Keys, want.Keys)
	case got.Revision < want.Revision:
		return fmt.Errorf("the restored etcd differs from the staged data: it is at revision %d, below %d",
			got.Revision, want.Revision)
	}
	t.report("etcd serves %d keys at revision %d", got.Keys, got.Revision)
	return nil
}
