package etcd

import (
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
)

// checkHistory refuses a db whose last records cannot have been written one after the other: each
// version of a key follows the one before (server/storage/mvcc/kvstore_txn.go, put). bbolt has no
// checksum that would show a damaged record.
func (d *DataDir) checkHistory() error {
	if len(d.Contents.Tail) == 0 {
		return nil
	}
	floor, last := floorOf(d.Contents), map[string]snapfile.Record{}
	for _, r := range d.Contents.Tail {
		before, known := last[r.Key]
		last[r.Key] = r
		if r.Main <= floor || r.Key == "" { // the mark of a bumped revision has no key
			continue
		}
		alive := known && !before.Deleted
		switch {
		case r.Deleted && (alive || !known):
		case r.Deleted:
			return damaged("revision %d deletes a key that revision %d deleted before", r.Main, before.Main)
		case alive && r.Created == before.Created && r.Version == before.Version+1:
		case alive:
			return damaged("revision %d holds version %d of a key of which revision %d holds version %d", r.Main,
				r.Version, before.Main, before.Version)
		case r.Created == r.Main && r.Version == 1, !known && r.Created <= floor:
		default:
			return damaged("revision %d holds a key that is not there at revision %d, which is said to have created it",
				r.Main, r.Created)
		}
	}
	return nil
}

// floorOf returns the revision from which on all records are known.
func floorOf(c *snapfile.Report) int64 {
	return max(c.Tail[0].Main-1, c.CompactRevision, c.ScheduledCompactRevision)
}

// unapplied finds an update that the db says it has applied, that cannot have failed, and that it
// does not hold: one that names the revision which its key still has. Clients name a revision only
// after it was written.
func (x *effects) unapplied(entries []*raftpb.Entry, top int64) (index uint64, found bool) {
	for _, e := range slices.Backward(entries) {
		if e.GetType() != raftpb.EntryNormal {
			continue
		}
		r, err := decodeRequest(e)
		switch {
		case err != nil || r == nil:
			continue
		case refuses(r):
			return 0, false
		case r.Txn != nil && x.held(r.Txn.GetCompare(), top) && rewrites(r.Txn):
			return e.GetIndex(), true
		}
	}
	return 0, false
}

// rewrites says whether a transaction, if its conditions hold, surely writes to a key that they
// name.
func rewrites(t *pb.TxnRequest) bool {
	return !idle(t.GetSuccess()) && slices.ContainsFunc(t.GetSuccess(), func(o *pb.RequestOp) bool {
		p := o.GetRequestPut()
		return p != nil && slices.ContainsFunc(t.GetCompare(), func(c *pb.Compare) bool {
			return string(c.Key) == string(p.Key)
		})
	})
}
