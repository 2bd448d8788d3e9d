package etcd

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
)

// LogAlone is the write-ahead log of a member whose db is gone.
type LogAlone struct {
	// Whole says that nothing of it is missing or damaged, and that it goes back to an empty
	// etcd: etcd makes the db anew from it when it starts. It cannot once it has cut the log, or
	// has noted what came before. What was restored, or came from the leader, is not in the log
	// at all: an etcd that begins with its first entry serves the rest as if that was all.
	Whole bool
	// RevisionAtMost is as that of [DataDir].
	RevisionAtMost int64
}

// InspectLog reads the log of the member in a data directory, and changes nothing. walDir is ""
// where it is member/wal.
func InspectLog(dir, walDir string) (*LogAlone, error) {
	if walDir == "" {
		walDir = filepath.Join(dir, "member", "wal")
	}
	log, err := readLog(walDir, 0)
	if err != nil {
		return nil, err
	}
	alone := &LogAlone{RevisionAtMost: 1}
	for _, e := range log.entries {
		if e.GetType() != raftpb.EntryNormal {
			continue
		}
		r, err := decodeRequest(e)
		if err != nil {
			return nil, err
		}
		if mayWrite(r) {
			alone.RevisionAtMost++
		}
	}
	_, err = os.Lstat(filepath.Join(walDir, fmt.Sprintf("%016x-%016x.wal", 0, 0)))
	alone.Whole = err == nil && log.from == 0 && log.gap == nil &&
		(log.damage == nil || log.damage.Torn && !log.damage.Cut) && !slices.ContainsFunc(log.snapshots, noted)
	snapshots, _ := os.ReadDir(filepath.Join(dir, "member", "snap"))
	for _, s := range snapshots {
		alone.Whole = alone.Whole && !strings.HasSuffix(s.Name(), ".snap")
	}
	return alone, nil
}

// noted says that something came before the entries behind this place in the log: that was in the
// db, and in a file beside it.
func noted(s *walpb.Snapshot) bool { return s.GetIndex() > 0 }
