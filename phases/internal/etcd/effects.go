package etcd

import (
	"fmt"
	"hash/crc32"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
)

// shared are the last entries of the log that the db has applied.
type shared struct {
	entries []*raftpb.Entry
	bytes   int
}

const (
	sharedEntries = 4096
	sharedBytes   = 16 << 20
)

func (s *shared) add(e *raftpb.Entry) {
	for n := len(s.entries); n > 0 && s.entries[n-1].GetIndex() >= e.GetIndex(); n-- { // overruled
		s.bytes -= len(s.entries[n-1].Data)
		s.entries = s.entries[:n-1]
	}
	s.entries = append(s.entries, e)
	s.bytes += len(e.Data)
	if len(s.entries) >= 2*sharedEntries || s.bytes > 2*sharedBytes {
		half := len(s.entries) / 2
		for _, gone := range s.entries[:half] {
			s.bytes -= len(gone.Data)
		}
		s.entries = slices.Clone(s.entries[half:])
	}
}

func (s *shared) last() *raftpb.Entry {
	if len(s.entries) == 0 {
		return nil
	}
	return s.entries[len(s.entries)-1]
}

// write is what one revision of the db did.
type write []snapfile.Record

// effects compares the last writes in the db with the last entries that it says it has applied. A
// db that was copied while etcd wrote may have pages of different moments, each of them good: its
// keys newer than its index, so that entries would be applied twice, or older, so that entries
// would be left out. Nothing in the db alone tells that.
type effects struct {
	writes map[int64]write // by revision
	latest map[string]int64
	floor  int64 // of a revision at or below it nothing is known
}

const (
	// So many writes that fit are proof enough.
	effectsProof = 64
	// So many entries that could have written, of which none did what the db has last, are proof of
	// the contrary: among that many at least one update succeeds.
	effectsDoubt = 500
	// So many possible ways to fit mean that this comparison tells nothing.
	effectsWays = 256
)

// checkEffects walks back through both at once. An entry that may have had no effect, such as an
// update whose condition did not hold, leaves more than one way to fit.
func (d *DataDir) checkEffects() error {
	c, entries := d.Contents, d.log.shared.entries
	// With an alarm, writes are refused when they are applied.
	if len(entries) == 0 || len(c.Tail) == 0 || len(c.Alarms) > 0 {
		return nil
	}
	x := newEffects(c)
	top := c.Tail[len(c.Tail)-1].Main
	if index, found := x.unapplied(entries, top); found {
		return torn("the db says that it has applied the log up to entry %d, but lacks what entry %d wrote",
			d.ConsistentIndex, index)
	}
	if entries[len(entries)-1].GetIndex() != d.ConsistentIndex || top != c.Revision {
		return nil // the log ends before the db, or the last writes are compacted deletions
	}
	at, candidates := map[int64]bool{top: true}, 0
	for _, e := range slices.Backward(entries) {
		if e.GetType() != raftpb.EntryNormal {
			continue
		}
		r, err := decodeRequest(e)
		if err == nil && r != nil && refuses(r) {
			return nil
		}
		if err != nil || r == nil || !writes(r) {
			continue
		}
		candidates++
		next := map[int64]bool{}
		for rev := range at {
			if rev <= x.floor || top-rev > effectsProof {
				return nil
			}
			if x.done(r, x.writes[rev]) {
				next[rev-1] = true
			}
			if x.nothing(r, rev) {
				next[rev] = true
			}
		}
		if at = next; len(at) > effectsWays {
			return nil
		}
		if len(at) == 0 || candidates >= effectsDoubt && len(at) == 1 && at[top] {
			return torn("the db says that it has applied the log up to entry %d, but its last revisions, up to %d, "+
				"are not what those entries wrote", d.ConsistentIndex, top)
		}
	}
	return nil
}

// torn is the verdict on a db whose parts are of different moments.
func torn(format string, args ...any) error {
	return damaged(format+": it is damaged, or was copied while etcd wrote to it", args...)
}

func damaged(format string, args ...any) error {
	return &snapfile.Bad{Check: snapfile.CheckKeys, What: "the db", Reason: fmt.Sprintf(format, args...)}
}

func newEffects(c *snapfile.Report) *effects {
	x := &effects{writes: map[int64]write{}, latest: map[string]int64{},
		floor: floorOf(c)}
	for _, r := range c.Tail {
		x.writes[r.Main] = append(x.writes[r.Main], r)
		x.latest[r.Key] = r.Main
	}
	return x
}

// refuses says that what was written before may have been refused, or that this may be forbidden.
func refuses(r *pb.InternalRaftRequest) bool {
	return r.Alarm != nil || r.GetHeader().GetUsername() != ""
}

// writes is false for requests that never write keys.
func writes(r *pb.InternalRaftRequest) bool {
	return r.Put != nil || r.DeleteRange != nil || r.Txn != nil || r.LeaseRevoke != nil
}

// done says whether a request can have made a write.
func (x *effects) done(r *pb.InternalRaftRequest, w write) bool {
	switch {
	case len(w) == 0:
		return false
	case r.Put != nil:
		return len(w) == 1 && put(r.Put, w[0])
	case r.DeleteRange != nil:
		return len(deleted(r.DeleteRange, w)) == 0
	case r.LeaseRevoke != nil:
		return !slices.ContainsFunc(w, func(r snapfile.Record) bool { return !r.Deleted })
	}
	return branch(r.Txn.GetSuccess(), w) || branch(r.Txn.GetFailure(), w)
}

func put(p *pb.PutRequest, r snapfile.Record) bool {
	return !r.Deleted && r.Key == string(p.Key) &&
		(p.IgnoreValue || r.ValueCRC == crc32.Checksum(p.Value, crc32.MakeTable(crc32.Castagnoli)))
}

// deleted returns what follows the records that a deletion may have made.
func deleted(d *pb.DeleteRangeRequest, w write) write {
	end := string(d.RangeEnd)
	for len(w) > 0 && w[0].Deleted && w[0].Key >= string(d.Key) &&
		(w[0].Key == string(d.Key) || end == "\x00" || w[0].Key < end) {
		w = w[1:]
	}
	return w
}

// branch says whether one side of a transaction can have made exactly this write.
func branch(ops []*pb.RequestOp, w write) bool {
	for _, o := range ops {
		switch {
		case o.GetRequestTxn() != nil:
			return true // not looked into
		case o.GetRequestPut() != nil:
			if len(w) == 0 || !put(o.GetRequestPut(), w[0]) {
				return false
			}
			w = w[1:]
		case o.GetRequestDeleteRange() != nil:
			w = deleted(o.GetRequestDeleteRange(), w)
		}
	}
	return len(w) == 0
}

// nothing says whether a request can have written nothing when the db was at a revision.
func (x *effects) nothing(r *pb.InternalRaftRequest, rev int64) bool {
	switch {
	case r.Put != nil:
		return mayFail(r.Put)
	case r.Txn == nil:
		return true
	}
	success, failure := idle(r.Txn.GetSuccess()), idle(r.Txn.GetFailure())
	if success || !failure {
		return success
	}
	return !x.held(r.Txn.GetCompare(), rev)
}

// mayFail: without its lease, or without what it leaves unchanged, a put does nothing.
func mayFail(p *pb.PutRequest) bool { return p.Lease != 0 || p.IgnoreValue || p.IgnoreLease }

// idle says whether one side of a transaction can have written nothing. One that reads at a certain
// revision fails as a whole when that has been compacted.
func idle(ops []*pb.RequestOp) bool {
	if slices.ContainsFunc(ops, func(o *pb.RequestOp) bool { return o.GetRequestRange().GetRevision() > 0 }) {
		return true
	}
	return !slices.ContainsFunc(ops, func(o *pb.RequestOp) bool {
		return o.GetRequestPut() != nil && !mayFail(o.GetRequestPut())
	})
}

// held says that the conditions of an update surely held: it names the revision of the key that the
// key still has.
func (x *effects) held(conditions []*pb.Compare, rev int64) bool {
	for _, c := range conditions {
		mod, ok := c.TargetUnion.(*pb.Compare_ModRevision)
		if !ok || c.Target != pb.Compare_MOD || c.Result != pb.Compare_EQUAL || len(c.RangeEnd) > 0 {
			return false
		}
		if latest, known := x.latest[string(c.Key)]; !known || latest != mod.ModRevision || latest > rev ||
			mod.ModRevision <= x.floor {
			return false
		}
	}
	return len(conditions) > 0
}
