package etcd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.etcd.io/raft/v3/raftpb"
)

// LogAlone is the write-ahead log of a member whose db is gone.
type LogAlone struct {
	// Whole says that nothing of it is missing or damaged: etcd makes the db anew from it when it
	// starts. It cannot once it has cut the log, or has noted what came before.
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
	alone.Whole = err == nil && log.from == 0 && log.gap == nil && (log.damage == nil || log.damage.Torn)
	snapshots, _ := os.ReadDir(filepath.Join(dir, "member", "snap"))
	for _, s := range snapshots {
		alone.Whole = alone.Whole && !strings.HasSuffix(s.Name(), ".snap")
	}
	return alone, nil
}
