package etcd

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
)

// beyond is what can still be recognized in a log behind the place where it is damaged. It proves
// nothing but that something is lost.
type beyond struct {
	records int    // that continue each other's checksums
	last    uint64 // the highest index of an entry among them
	commit  uint64 // the highest index that they say is committed
}

// scan looks for records from an offset of the first file on, in the newest files first: there are
// the highest indexes.
func (b *beyond) scan(files []string, from int64) error {
	for i, path := range slices.Backward(files) {
		at := int64(0)
		if i == 0 {
			at = from
		}
		if err := b.scanFile(path, at); err != nil {
			return fmt.Errorf("cannot read the write-ahead log: %w", err)
		}
		if b.last > 0 {
			break // enough is known
		}
	}
	return nil
}

// scanFile looks at every place where a record may begin: etcd aligns them at 8 bytes.
func (b *beyond) scanFile(path string, from int64) error {
	f, _, err := snapfile.OpenPlain(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	// etcd's records are small beside a file. The whole of it is 64 MiB and one record at most.
	data := make([]byte, info.Size()-min(from, info.Size()))
	if _, err := io.ReadFull(io.NewSectionReader(f, from, int64(len(data))), data); err != nil {
		return err
	}
	var before *walpb.Record
	for at := (8 - from%8) % 8; at+8 <= int64(len(data)); {
		rec, size := recordAt(data[at:])
		if rec == nil {
			before = nil
			at += 8
			continue
		}
		if before != nil && continues(before, rec) {
			b.take(rec)
		}
		before = rec
		at += size
	}
	return nil
}

// recordAt reads what may be a record, and its length with the header; nil if it is none.
func recordAt(data []byte) (*walpb.Record, int64) {
	field := binary.LittleEndian.Uint64(data)
	size, pad := int64(field&^(0xff<<56)), int64(0)
	if field>>63 != 0 {
		pad = int64(field >> 56 & 7)
	}
	if size <= 0 || size > int64(len(data))-8-pad || (size+pad)%8 != 0 {
		return nil, 0
	}
	rec := new(walpb.Record)
	if proto.Unmarshal(data[8:8+size], rec) != nil || rec.GetType() < wal.MetadataType ||
		rec.GetType() > wal.SnapshotType || len(rec.ProtoReflect().GetUnknown()) > 0 {
		return nil, 0
	}
	return rec, 8 + size + pad
}

// continues says whether a record has the checksum that it must have behind another one.
func continues(before, rec *walpb.Record) bool {
	if rec.GetType() == wal.CrcType {
		return rec.GetCrc() == before.GetCrc()
	}
	return crc32.Update(before.GetCrc(), crc32.MakeTable(crc32.Castagnoli), rec.Data) == rec.GetCrc()
}

func (b *beyond) take(rec *walpb.Record) {
	b.records++
	switch rec.GetType() {
	case wal.EntryType:
		if e := new(raftpb.Entry); proto.Unmarshal(rec.Data, e) == nil {
			b.last = max(b.last, e.GetIndex())
		}
	case wal.StateType:
		if h := new(raftpb.HardState); proto.Unmarshal(rec.Data, h) == nil {
			b.commit = max(b.commit, h.GetCommit())
		}
	}
}
