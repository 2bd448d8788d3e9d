package status

import (
	"context"
	"fmt"

	"github.com/etcdpod/etcdpod/phases/backup"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// compared says how this node's member compares with the others; nil: it was not compared.
func (s seen) compared() *Compared {
	a := s.agreement
	if a == nil {
		return nil
	}
	c := &Compared{Members: a.Compared, NotCompared: append([]string{}, a.Unasked...)}
	if a.Hash.Revision > 0 {
		c.HashKV, c.HashRevision = fmt.Sprintf("%08x", a.Hash.Hash), a.Hash.Revision
		c.CompactRevision = a.Hash.CompactRevision
	}
	return c
}

// changedSince is a backup that holds something else than etcd does at the same revision.
type changedSince struct {
	backup backup.Entry
	now    uint32
}

// lookForChanges asks etcd what it holds at the revision of the newest backup, and compares that
// with the backup's description. It does so only where that takes no time, and where etcd has
// compacted nothing since, which changes the hash: in a cluster of Kubernetes for a few minutes.
func (s *seen) lookForChanges(ctx context.Context, n *observe.Node) *changedSince {
	f, b := s.facts, s.newest()
	if b == nil || f.Live == nil || f.LiveError != nil || f.Etcd == nil || s.behind != nil ||
		!mayCompare(*b, f.Live) {
		return nil
	}
	hash, compacted, err := n.Etcd.HashKV(ctx, f.Etcd.Access, b.Revision)
	if err != nil || max(0, compacted) != max(0, b.CompactRevision) || hash == b.HashKV {
		return nil
	}
	return &changedSince{*b, hash}
}

// mayCompare says whether the hash in a backup's description may be compared with one of etcd's.
func mayCompare(b backup.Entry, l *observe.Live) bool {
	return b.HashKV != 0 && b.Revision > 0 && b.Revision <= l.Revision &&
		b.ClusterID == fmt.Sprintf("%x", l.ClusterID) &&
		len(b.Caveats) == 0 && observe.HashesAtOnce(l.InUseBytes)
}

func (s seen) judgeChanged() found {
	c := s.changed
	if c == nil {
		return nil
	}
	return one(finding.EtcdChanged, c.backup.Path, "etcd does not hold what it held at revision %d, when %s was "+
		"taken: its HashKV was %08x, and is %08x. Run `etcdpod verify %[2]s`: if that backup is good, this member's "+
		"data was changed since, and not by a client. Back up each member (`etcdpod backup` on its node) before "+
		"anything else", c.backup.Revision, c.backup.Path, c.backup.HashKV, c.now)
}
