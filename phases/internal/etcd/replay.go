package etcd

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/auth"
	"go.etcd.io/etcd/server/v3/etcdserver/api"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3alarm"
	"go.etcd.io/etcd/server/v3/etcdserver/apply"
	"go.etcd.io/etcd/server/v3/etcdserver/cindex"
	"go.etcd.io/etcd/server/v3/lease"
	"go.etcd.io/etcd/server/v3/storage"
	"go.etcd.io/etcd/server/v3/storage/backend"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
)

// quiet logs nothing, and turns the library's ways of ending the process into a panic that can be
// caught and gives the reason.
func quiet() *zap.Logger {
	return zap.NewNop().WithOptions(zap.WithFatalHook(givesUp{}), zap.WithPanicHook(givesUp{}))
}

type givesUp struct{}

// OnWrite panics with the message and its error: a full disk, say.
func (givesUp) OnWrite(entry *zapcore.CheckedEntry, fields []zapcore.Field) {
	text, cause := entry.Message, error(nil)
	for _, f := range fields {
		if err, ok := f.Interface.(error); ok && f.Type == zapcore.ErrorType {
			text += ": " + err.Error()
			cause = err
		}
	}
	panic(&gaveUp{text, cause})
}

// gaveUp is a panic of etcd's own code.
type gaveUp struct {
	text  string
	cause error // may be nil
}

// Error is what Go writes when nothing catches it.
func (g *gaveUp) Error() string { return g.text }

// gone turns a panic of etcd's or bbolt's code into an error. Unless the disk is to blame, it is a
// verdict on the data that the code was given.
func gone(p any) error {
	g, ok := p.(*gaveUp)
	if !ok {
		g = &gaveUp{text: fmt.Sprint(p)}
		g.cause, _ = p.(error)
	}
	for _, disk := range []error{
		unix.ENOSPC, unix.EDQUOT, unix.EFBIG, unix.EIO, unix.EROFS, unix.EMFILE, unix.ENOMEM,
	} {
		// bbolt does not wrap every error.
		if errors.Is(g.cause, disk) || strings.Contains(g.text, disk.Error()) {
			return fmt.Errorf("etcd's own code fails: %s", g.text)
		}
	}
	return &snapfile.Bad{Check: snapfile.CheckKeys, What: "the data", Reason: "etcd's own code fails: " + g.text}
}

// replayer applies raft entries to a db as etcd does at startup, with etcd's
// own applier and stores.
//
// The alternative is to boot an embedded etcd on a copy, with --force-new-cluster and a commit
// index raised to the log's end. But a 3.7 server raises the cluster and storage version of older
// data, adds its own members and entries, listens on ports, and ends the process when it dislikes
// what it finds. The applier does none of that. The stores are made in the order, and with the
// hooks, of etcdserver.NewServer.
//
// The stores have goroutines of their own, where a panic cannot be caught: bbolt looks for the free
// pages in one when it opens a file, the backend commits in one, and the store compacts in one. So
// what they get has been proven page by page, there is room for what they write, and all of it is
// done [Apart].
type replayer struct {
	lg      *zap.Logger
	be      backend.Backend
	hooks   *storage.BackendHooks
	index   cindex.ConsistentIndexer
	lessor  lease.Lessor
	kv      mvcc.WatchableKV
	auth    auth.AuthStore
	cluster *membership.RaftCluster
	apply   apply.UberApplier
}

// minLeaseTTL is what etcd derives from its default election timeout, in seconds; shorter
// leases are extended to it.
const minLeaseTTL = 2

// replay applies the entries to the db file and returns its revision afterwards.
func (d *replaying) replay() (revision int64, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = gone(p)
		}
	}()
	// Not closed after a panic: closing would wait for locks that the panic left held.
	r := newReplayer(d)
	for range d.Entries {
		e, err := d.next()
		if err == nil {
			err = r.entry(e)
		}
		if err != nil {
			r.close()
			return 0, fmt.Errorf("cannot apply raft entry %d: %w", e.GetIndex(), err)
		}
	}
	return r.close(), nil
}

func newReplayer(d *replaying) *replayer {
	r := &replayer{lg: quiet(), index: cindex.NewConsistentIndex(nil)}
	r.hooks = storage.NewBackendHooks(r.lg, r.index)
	conf := backend.DefaultBackendConfig(r.lg)
	conf.Path, conf.Hooks = d.DB, r.hooks
	conf.UnsafeNoFsync = true // the whole file is synced at the end
	r.be = backend.New(conf)
	r.index.SetBackend(r.be)
	schema.CreateMetaBucket(r.be.BatchTx())

	r.cluster = membership.NewCluster(r.lg)
	r.cluster.SetID(types.ID(d.MemberID), types.ID(d.ClusterID))
	r.cluster.SetBackend(schema.NewMembershipBackend(r.lg, r.be))
	r.cluster.Recover(api.UpdateCapability)

	// The lessor comes before the store, which attaches its keys to the leases.
	r.lessor = lease.NewLessor(r.lg, r.be, r.cluster, lease.LessorConfig{MinLeaseTTL: minLeaseTTL})
	r.kv = mvcc.New(r.lg, r.be, r.lessor, mvcc.StoreConfig{})
	tokens, err := auth.NewTokenProvider(r.lg, "", nil, 0)
	if err != nil {
		panic(err)
	}
	r.auth = auth.NewAuthStore(r.lg, schema.NewAuthBackend(r.lg, r.be), tokens, 0)
	alarms, err := v3alarm.NewAlarmStore(r.lg, schema.NewAlarmBackend(r.lg, r.be))
	if err != nil {
		panic(err)
	}
	r.apply = apply.NewUberApplier(apply.ApplierOptions{
		Logger: r.lg, KV: r.kv, AlarmStore: alarms, AuthStore: r.auth, Lessor: r.lessor, Cluster: r.cluster,
		RaftStatus: standing{}, SnapshotServer: standing{}, ConsistentIndex: r.index,
		TxnModeWriteWithSharedBuffer: true,
		// What the quota refused was refused before raft, or is an alarm in the log.
		Backend: r.be, QuotaBackendBytesCfg: -1,
	})
	r.be.SetTxPostLockInsideApplyHook(func() {
		if i, term := r.index.ConsistentApplyingIndex(); i > r.index.UnsafeConsistentIndex() {
			r.index.SetConsistentIndex(i, term)
		}
	})
	return r
}

// entry applies one entry (etcdserver/server.go, apply).
func (r *replayer) entry(e *raftpb.Entry) error {
	r.index.SetConsistentApplyingIndex(e.GetIndex(), e.GetTerm())
	if e.GetType() == raftpb.EntryConfChange {
		if err := r.member(e); err != nil {
			return err
		}
	} else if req, err := decodeRequest(e); err != nil {
		return err
	} else if req != nil && changes(req) {
		r.apply.Apply(&apply.InternalRaftRequestWrapper{InternalRaftRequest: req, SkipRangeExecution: req.Txn != nil},
			membership.ApplyBoth)
	}
	// An entry that wrote nothing has not moved the index.
	if r.index.ConsistentIndex() < e.GetIndex() {
		r.index.SetConsistentIndex(e.GetIndex(), e.GetTerm())
	}
	return nil
}

// changes is false for requests that only read or issue a token.
func changes(r *pb.InternalRaftRequest) bool {
	return r.Range == nil && r.AuthUserGet == nil && r.AuthRoleGet == nil &&
		r.AuthStatus == nil && r.AuthUserList == nil && r.AuthRoleList == nil && r.Authenticate == nil
}

// member changes the membership (etcdserver/server.go, applyConfChange). Changes that etcd found
// invalid are also in the log, and had no effect.
func (r *replayer) member(e *raftpb.Entry) error {
	var cc raftpb.ConfChange
	if err := proto.Unmarshal(e.Data, &cc); err != nil {
		return err
	}
	if r.cluster.ValidateConfigurationChange(&cc, membership.ApplyBoth) != nil {
		return nil
	}
	id := types.ID(cc.GetNodeId())
	var change membership.ConfigChangeContext
	if cc.GetType() != raftpb.ConfChangeRemoveNode {
		if err := json.Unmarshal(cc.Context, &change); err != nil {
			return err
		}
	}
	switch {
	case cc.GetType() == raftpb.ConfChangeRemoveNode:
		r.cluster.RemoveMember(id, membership.ApplyBoth)
	case cc.GetType() == raftpb.ConfChangeUpdateNode:
		r.cluster.UpdateRaftAttributes(id, change.RaftAttributes, membership.ApplyBoth)
	case change.IsPromote:
		r.cluster.PromoteMember(id, membership.ApplyBoth)
	default:
		r.cluster.AddMember(&change.Member, membership.ApplyBoth)
	}
	state := &raftpb.ConfState{}
	for _, m := range r.cluster.Members() {
		if m.IsLearner {
			state.Learners = append(state.Learners, uint64(m.ID))
		} else {
			state.Voters = append(state.Voters, uint64(m.ID))
		}
	}
	r.hooks.SetConfState(state)
	return nil
}

// close writes everything to the file and returns the revision.
func (r *replayer) close() int64 {
	revision := r.kv.Rev()
	_ = r.auth.Close()
	r.lessor.Stop()
	_ = r.kv.Close() // the next etcd resumes an unfinished compaction
	_ = r.be.Close()
	return revision
}

// standing is the raft status of a member without a raft: the applier puts it into
// responses that nobody reads.
type standing struct{}

func (standing) MemberID() types.ID     { return 0 }
func (standing) Leader() types.ID       { return 0 }
func (standing) CommittedIndex() uint64 { return 0 }
func (standing) AppliedIndex() uint64   { return 0 }
func (standing) Term() uint64           { return 0 }
func (standing) ForceSnapshot()         {}
