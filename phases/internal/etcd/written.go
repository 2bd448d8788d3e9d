package etcd

import (
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
)

// Written counts the writes of clients in a member's write-ahead log, beginning with what a restore
// or a new cluster puts there. It reads only, and may be asked while that etcd runs. What etcd does
// by itself does not count: elections, members, leases that end, alarms.
//
// A log that no longer begins at its beginning has been cut by etcd after many thousands of
// entries. It counts as one write at least, since nothing tells what was cut off.
func Written(walDir string) (int, error) {
	files, _, err := logFiles(walDir, 0)
	if err != nil {
		return 0, err
	}
	var sequence, index uint64
	name := files[0][len(files[0])-len("0123456789abcdef-0123456789abcdef.wal"):]
	if _, err := fmt.Sscanf(name, "%016x-%016x.wal", &sequence, &index); err == nil && sequence > 0 {
		return 1, nil
	}
	log, err := readLog(walDir, 0)
	if err != nil {
		return 0, err
	}
	writes := 0
	var unread error
	for _, e := range log.entries {
		if e.GetType() != raftpb.EntryNormal {
			continue
		}
		request, err := decodeRequest(e)
		if err != nil && unread == nil {
			unread = err
		}
		if request != nil && ofClient(request) {
			writes++
		}
	}
	// One that is known is enough to know that there are some.
	if writes == 0 && unread != nil {
		return 0, unread
	}
	if writes == 0 && log.damage != nil && !log.damage.Torn {
		return 0, fmt.Errorf("cannot read all of the write-ahead log: %v", log.damage)
	}
	if writes == 0 && log.gap != nil {
		return 0, fmt.Errorf("cannot read all of the write-ahead log: %v", log.gap)
	}
	return writes, nil
}

// ofClient says whether a request changes a key, as only a client asks for. A transaction that only
// reads is in no log.
func ofClient(r *pb.InternalRaftRequest) bool {
	return r.Put != nil || r.DeleteRange != nil || r.Txn != nil
}
