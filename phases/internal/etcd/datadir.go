package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/version"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.etcd.io/raft/v3/raftpb"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
)

// ErrInUse says that an etcd holds the lock on the data directory's db.
var ErrInUse = errors.New("an etcd is running on it")

// ErrNoWAL says that the write-ahead log is not in the expected place: the member may use
// another (--wal-dir).
var ErrNoWAL = errors.New("no write-ahead log")

// DataDir is what a stopped member's files say.
type DataDir struct {
	Dir string // data directory
	// Path of the db that the log continues: member/snap/db, or one that the leader had just sent.
	DB     string
	WALDir string // with symbolic links followed

	MemberID, ClusterID uint64
	Members             []Member // including changes that only the log holds
	Removed             bool     // this member was removed from the cluster

	Contents *snapfile.Report // of the db alone, without the log; its SHA256 is useless

	// RevisionAtMost is an upper bound for the revision after the whole log: that of the db plus
	// one for each entry of the log that may write. The exact revision is known once the entries
	// are applied; see [Apart.SnapshotFromDataDir].
	RevisionAtMost int64

	ConsistentIndex uint64 // the last raft entry in the db
	// The last entry that the log says is committed; may be too low, never too high.
	CommitIndex uint64
	LastIndex   uint64 // of the last valid entry in the log
	Term        uint64
	Voters      int
	// In its last term it voted for another member. A member that voted for itself need not
	// have been the leader.
	Follower bool

	Damage *LogDamage // nil when the log is whole
	Hole   *Hole      // nil when all is there up to the last committed entry

	log *raftLog
}

// Pending returns the number of raft entries that only the log holds.
func (d *DataDir) Pending() int { return len(d.log.entries) }

// Inspect reads the data directory of a stopped member and changes nothing. walDir is "" where
// it is member/wal. The error is or wraps [ErrInUse] while an etcd runs on it; a
// [*snapfile.Bad] when the db is damaged, or the log does not go with it; [ErrNoWAL] when the
// log is elsewhere; and fs.ErrNotExist when there is no db. A hole is no error here.
func Inspect(ctx context.Context, dir, walDir string) (*DataDir, error) {
	unlock, err := lockShared(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot read the data directory %s: %w", dir, err)
	}
	defer unlock()
	d, err := inspect(ctx, dir, walDir)
	if err != nil {
		return nil, fmt.Errorf("cannot read the data directory %s: %w", dir, err)
	}
	return d, nil
}

// InspectMute is Inspect for a data directory whose running etcd cannot serve, because it has lost
// its quorum: it commits nothing, so its files stay valid, and can be read while it has them open.
// It retries if something changes while it reads.
func InspectMute(ctx context.Context, dir, walDir string) (d *DataDir, err error) {
	const tries = 5
	for range tries {
		if d, err = inspect(ctx, dir, walDir); err == nil {
			return d, nil
		}
	}
	return nil, fmt.Errorf("cannot read the data directory %s: %w", dir, err)
}

// InUse says whether an etcd holds the lock on a data directory's db right now.
func InUse(dir string) bool {
	unlock, err := lockShared(dir)
	if err == nil {
		unlock()
	}
	return errors.Is(err, ErrInUse)
}

// lockShared keeps an etcd from starting on the data directory. bbolt takes an
// exclusive flock on the db.
func lockShared(dir string) (unlock func(), err error) {
	f, _, err := snapfile.OpenPlain(dbPath(dir))
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, ErrInUse
		}
		return nil, fmt.Errorf("cannot lock %s: %w", f.Name(), err)
	}
	return func() { _ = f.Close() }, nil
}

func dbPath(dir string) string { return filepath.Join(dir, "member", "snap", "db") }

func inspect(ctx context.Context, dir, walDir string) (*DataDir, error) {
	if walDir == "" {
		walDir = filepath.Join(dir, "member", "wal")
	}
	walDir, err := filepath.EvalSymlinks(walDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrNoWAL, err)
	}
	if err != nil {
		return nil, err
	}
	d := &DataDir{Dir: dir, DB: dbPath(dir), WALDir: walDir}
	// bbolt maps the file, and a damaged one would kill the process: so prove the file first,
	// and never map it here.
	if d.Contents, err = checkDB(ctx, d.DB); err != nil {
		return nil, err
	}
	if d.log, err = readLog(walDir, d.Contents.ConsistentIndex); err != nil {
		return nil, err
	}
	if d.log.from > d.Contents.ConsistentIndex {
		if err := d.useSentSnapshot(ctx); err != nil {
			return nil, err
		}
	}
	d.MemberID, d.ClusterID, d.Damage = d.log.memberID, d.log.clusterID, d.log.damage
	d.ConsistentIndex, d.CommitIndex, d.LastIndex = d.Contents.ConsistentIndex,
		max(d.log.hard.GetCommit(), d.Contents.ConsistentIndex), d.log.end
	d.Term = max(d.log.hard.GetTerm(), d.Contents.Term)
	if d.Hole == nil {
		d.Hole = d.findHole()
	}
	if err := d.checkJoint(); err != nil {
		return nil, err
	}
	return d, d.readEntries()
}

// checkDB proves a db that no etcd has closed.
func checkDB(ctx context.Context, path string) (*snapfile.Report, error) {
	r, err := snapfile.Check(ctx, path, snapfile.Options{Raw: true})
	var b *snapfile.Bad
	if errors.As(err, &b) && b.What == "" {
		b.What = "the db"
	}
	return r, err
}

// useSentSnapshot switches to the db that the leader sent, if a crash came after it arrived and
// before it replaced member/snap/db (etcd server/storage, RecoverSnapshotBackend).
func (d *DataDir) useSentSnapshot(ctx context.Context) error {
	sent := filepath.Join(d.Dir, "member", "snap", fmt.Sprintf("%016x.snap.db", d.log.from))
	contents, err := checkDB(ctx, sent)
	if _, absent := os.Lstat(sent); errors.Is(absent, fs.ErrNotExist) {
		d.giveUpLog("the db ends at entry %d, the log continues after entry %d, and %s, which would be in between, "+
			"is missing", d.Contents.ConsistentIndex, d.log.from, filepath.Base(sent))
		return nil
	} else if err != nil {
		return err
	}
	if contents.ConsistentIndex < d.log.from {
		d.giveUpLog("%s ends at entry %d, but the log continues after entry %d",
			filepath.Base(sent), contents.ConsistentIndex, d.log.from)
		return nil
	}
	d.DB, d.Contents = sent, contents
	d.log.skip(contents.ConsistentIndex)
	return nil
}

// giveUpLog leaves out a log that does not join the db.
func (d *DataDir) giveUpLog(format string, args ...any) {
	d.Hole = &Hole{First: d.Contents.ConsistentIndex + 1, Reason: fmt.Sprintf(format, args...)}
	l := d.log
	l.beyond.last = max(l.beyond.last, l.end)
	l.from, l.end, l.entries, l.shared = d.Contents.ConsistentIndex, d.Contents.ConsistentIndex, nil, shared{}
}

// readEntries learns what it can from the entries that the db lacks, without applying them.
func (d *DataDir) readEntries() error {
	members := map[uint64]Member{}
	for _, m := range d.Contents.Members {
		members[m.ID] = m
	}
	d.RevisionAtMost = d.Contents.Revision
	known := len(members) > 0
	var removed []uint64
	for _, e := range d.log.entries {
		if e.GetType() == raftpb.EntryConfChange {
			for id := range members {
				removed = append(removed, id)
			}
			if err := changeMembers(members, e); err != nil {
				return err
			}
			continue
		}
		r, err := decodeRequest(e)
		if err != nil {
			return err
		}
		if r == nil {
			continue
		}
		if mayWrite(r) {
			d.RevisionAtMost++
		}
		if a := r.ClusterMemberAttrSet; a != nil {
			if m, ok := members[a.Member_ID]; ok && a.MemberAttributes != nil {
				m.Name, m.ClientURLs = a.MemberAttributes.Name, a.MemberAttributes.ClientUrls
				members[a.Member_ID] = m
			}
		}
	}
	for _, m := range members {
		d.Members = append(d.Members, m)
		if !m.IsLearner {
			d.Voters++
		}
	}
	slices.SortFunc(d.Members, func(a, b Member) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	if d.Hole != nil { // entries that are lost may have written, too
		behind := d.log.beyond
		d.RevisionAtMost += int64(max(behind.last, behind.commit, d.CommitIndex, d.log.last()) - d.log.last())
	}
	_, member := members[d.MemberID]
	d.Removed = slices.Contains(append(removed, d.Contents.Removed...), d.MemberID) && !member
	d.Follower = d.log.hard.GetVote() != d.MemberID
	if known && !member && !d.Removed {
		return d.checkMember()
	}
	return nil
}

// mayWrite says whether a request, if there is one, may raise the revision.
func mayWrite(r *pb.InternalRaftRequest) bool {
	return r != nil && (r.Put != nil || r.DeleteRange != nil || r.Txn != nil || r.LeaseRevoke != nil)
}

// changeMembers changes a list of members as etcd does on a change of raft's configuration
// (etcdserver/server.go, applyConfChange).
func changeMembers(members map[uint64]Member, e *raftpb.Entry) error {
	var cc raftpb.ConfChange
	if err := proto.Unmarshal(e.Data, &cc); err != nil {
		return fmt.Errorf("raft entry %d cannot be decoded: %w", e.GetIndex(), err)
	}
	id := cc.GetNodeId()
	if cc.GetType() == raftpb.ConfChangeRemoveNode {
		delete(members, id)
		return nil
	}
	var change membership.ConfigChangeContext
	if err := json.Unmarshal(cc.Context, &change); err != nil {
		return fmt.Errorf("the member in raft entry %d cannot be decoded: %w", e.GetIndex(), err)
	}
	m, there := members[id]
	switch {
	case cc.GetType() == raftpb.ConfChangeUpdateNode && there:
		m.PeerURLs = change.PeerURLs
	case cc.GetType() == raftpb.ConfChangeUpdateNode:
		return nil
	case change.IsPromote:
		m.IsLearner = false
	case !there:
		m = Member{ID: id, Name: change.Name, PeerURLs: change.PeerURLs,
			ClientURLs: change.ClientURLs, IsLearner: change.IsLearner}
	}
	members[id] = m
	return nil
}

// decodeRequest returns the request in a normal raft entry; nil for the empty entry with which
// every leader begins, and for a request of etcd's v2 API: etcd up to 3.5 wrote two of those, for a
// member's name and client URLs and for the cluster's version. They hold no key, and etcd 3.7
// cannot read them. A request of a later etcd is an error, since its meaning is unknown here.
func decodeRequest(e *raftpb.Entry) (*pb.InternalRaftRequest, error) {
	if len(e.Data) == 0 {
		return nil, nil
	}
	r := new(pb.InternalRaftRequest)
	err := proto.Unmarshal(e.Data, r)
	known := false
	r.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		known = f.Name() != "header" && f.Name() != "ID"
		return !known
	})
	switch {
	case err == nil && known:
		return r, nil
	case isV2(e.Data):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("the request in raft entry %d cannot be decoded: %w", e.GetIndex(), err)
	}
	return nil, fmt.Errorf("the request in raft entry %d is of a kind unknown to etcd %s",
		e.GetIndex(), version.Version)
}

// isV2 recognizes a v2 request by its method (PUT, say) in field 2, bare or as field 2 of another
// request (api 3.5, etcdserver.proto and raft_internal.proto).
func isV2(data []byte) bool {
	inner, ok := bytesField(data, 2)
	if method, wrapped := bytesField(inner, 2); ok && wrapped {
		inner = method
	}
	return ok && slices.Contains([]string{"PUT", "POST", "DELETE", "QGET", "SYNC", "GET"}, string(inner))
}

// bytesField returns the bytes of a field of a protobuf message, the first of that number.
func bytesField(data []byte, field protowire.Number) ([]byte, bool) {
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return nil, false
		}
		data = data[n:]
		if number == field && kind == protowire.BytesType {
			value, n := protowire.ConsumeBytes(data)
			return value, n >= 0
		}
		if n = protowire.ConsumeFieldValue(number, kind, data); n < 0 {
			return nil, false
		}
		data = data[n:]
	}
	return nil, false
}
