package etcd

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/pkg/v3/fileutil"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
)

// LogDamage is the place in the write-ahead log after which nothing can be read.
type LogDamage struct {
	File   string // path
	Offset int64  // bytes into the file
	Reason string
	// Torn means that the very last record is incomplete: a write that was never finished, and so
	// never acknowledged. Otherwise acknowledged entries may follow the place.
	Torn bool
	// Cut means that the file ends within that record, and is shorter than etcd makes its files:
	// somebody may have cut it, or a copy of it broke off.
	Cut bool
}

func (d *LogDamage) String() string {
	return fmt.Sprintf("%s at byte %d: %s", d.File, d.Offset, d.Reason)
}

// raftLog is the valid part of a write-ahead log, as far as the db lacks it.
type raftLog struct {
	memberID, clusterID uint64
	hard                *raftpb.HardState
	// from is the index that the entries follow: the db's consistent index, or a later one of a
	// snapshot that the leader had sent.
	from      uint64
	entries   []*raftpb.Entry
	end       uint64 // index of the last valid entry, even if the db has more
	first     uint64 // index of the first entry that was read, even if the db has it; 0: none
	snapshots []*walpb.Snapshot
	damage    *LogDamage
	gap       *gap // nil where no file is missing
	shared    shared
	beyond    beyond // what stands behind the damage, or the gap
}

// last returns the last index that the db and the entries reach together.
func (l *raftLog) last() uint64 { return l.from + uint64(len(l.entries)) }

// readLog reads the entries after an index from a directory of WAL files. Unlike wal.ReadAll it
// keeps the valid part of a damaged log and says where the damage is. It keeps nothing in memory
// that the db already holds, opens the files for reading only, and takes no lock.
func readLog(dir string, after uint64) (*raftLog, error) {
	files, gap, err := logFiles(dir, after)
	if err != nil {
		return nil, err
	}
	l := &raftLog{hard: &raftpb.HardState{}, from: after}
	var crc uint32
	for i, path := range files {
		if crc, err = l.readFile(path, crc, i == len(files)-1 && gap == nil); err != nil {
			return nil, err
		}
		if l.damage != nil {
			if err := l.beyond.scan(slices.Concat(files[i:], gap.behind()), l.damage.Offset); err != nil {
				return nil, err
			}
			l.damage.Torn = l.damage.Torn && l.beyond.records == 0
			break
		}
	}
	if l.memberID == 0 {
		if l.damage != nil {
			return nil, badLog("it cannot be read: %v", l.damage)
		}
		return nil, badLog("the one in %s does not say which member it belongs to", dir)
	}
	l.skipToSnapshot()
	if gap != nil && l.damage == nil {
		l.endAt(gap)
		return l, l.beyond.scan(gap.files, 0)
	}
	return l, nil
}

// gap is a place in a log at which a file is missing, or several.
type gap struct {
	before string   // path of the file before it
	files  []string // paths of those behind it
	next   uint64   // index of the first entry behind it, by the name of its file
}

func (g *gap) String() string {
	return fmt.Sprintf("a WAL file is missing between %s and %s, which continues with entry %d",
		filepath.Base(g.before), filepath.Base(g.files[0]), g.next)
}

func (g *gap) behind() []string {
	if g == nil {
		return nil
	}
	return g.files
}

// endAt ends the log before the last entry of the files that are missing. If there are such entries
// here, a later leader has overruled them.
func (l *raftLog) endAt(g *gap) {
	l.gap = g
	if there := g.next - 2; there < l.last() && there >= l.from {
		l.entries = l.entries[:there-l.from]
		l.end = min(l.end, l.last())
	}
}

// logFiles returns the files that may hold entries after an index, in order, up to the first that
// is missing. Their names are <sequence>-<first index>.wal.
func logFiles(dir string, after uint64) ([]string, *gap, error) {
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read the write-ahead log: %w", err)
	}
	type file struct{ seq, index uint64 }
	var files []file
	var paths []string
	for _, n := range names { // sorted
		var f file
		if _, err := fmt.Sscanf(n.Name(), "%016x-%016x.wal", &f.seq, &f.index); err == nil &&
			len(n.Name()) == len("0123456789abcdef-0123456789abcdef.wal") {
			files, paths = append(files, f), append(paths, filepath.Join(dir, n.Name()))
		}
	}
	if len(files) == 0 {
		return nil, nil, fmt.Errorf("%w: %s holds no .wal file", ErrNoWAL, dir)
	}
	missing := func(i int) bool { return files[i].seq != files[i-1].seq+1 }
	first := 0
	for i, f := range files {
		// What is missing before the entry that comes next is in the db.
		if f.index <= after || i > 0 && missing(i) && f.index == after+1 {
			first = i
		}
	}
	for i := first + 1; i < len(files); i++ {
		if missing(i) {
			return paths[first:i], &gap{paths[i-1], paths[i:], files[i].index}, nil
		}
	}
	return paths[first:], nil, nil
}

// readFile reads one file, whose checksums continue those of the file before, and returns
// the checksum at its end. Bad contents end up in l.damage; an error means that the file
// cannot be read at all.
func (l *raftLog) readFile(path string, crc uint32, newest bool) (uint32, error) {
	f, _, err := snapfile.OpenPlain(path)
	if err != nil {
		return 0, fmt.Errorf("cannot read the write-ahead log: %w", err)
	}
	defer f.Close()
	decoder := wal.NewDecoder(fileutil.NewFileReader(f))
	first, rec := true, new(walpb.Record)
	for {
		at := decoder.LastOffset()
		err := decoder.Decode(rec)
		if err == nil && rec.GetType() == wal.CrcType {
			if want := crcAt(first, crc, decoder); want != 0 && want != rec.GetCrc() {
				err = errors.New("its checksum does not match what precedes it")
			} else {
				decoder.UpdateCRC(rec.GetCrc())
			}
		} else if err == nil {
			err = l.record(rec)
		}
		first = false
		if err == nil {
			continue
		}
		crc = decoder.LastCRC()
		l.damage, err = judgeEnd(f, at, crc, err, newest)
		return crc, err
	}
}

func crcAt(first bool, before uint32, d wal.Decoder) uint32 {
	if first {
		return before
	}
	return d.LastCRC()
}

// judgeEnd tells the end of a log from a torn write and from damage. etcd preallocates files: after
// the last record there are zeros.
func judgeEnd(f *os.File, at int64, crc uint32, why error, newest bool) (*LogDamage, error) {
	damage := &LogDamage{File: f.Name(), Offset: at, Reason: why.Error()}
	if errors.Is(why, io.EOF) {
		zeros, err := zerosFrom(f, at)
		if err != nil || zeros {
			return nil, err
		}
		damage.Reason = "zeros followed by more data"
		return damage, nil
	}
	if !newest || !errors.Is(why, io.ErrUnexpectedEOF) {
		// Etcd's decoder recognizes a torn write: sectors of it are zeros, or not there.
		return damage, nil
	}
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("cannot read the write-ahead log: %w", err)
	}
	var header [8]byte
	end := at
	if n, err := f.ReadAt(header[:], at); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("cannot read the write-ahead log: %w", err)
	} else if n == len(header) {
		end = at + recordSize(header)
	}
	if wrong, err := wrongLength(f, at, end-at, crc); err != nil {
		return nil, fmt.Errorf("cannot read the write-ahead log: %w", err)
	} else if wrong {
		damage.Reason = "the length of a record is not that of what it holds"
		return damage, nil
	}
	damage.Cut = end > info.Size() || end == at
	if damage.Cut && info.Size() >= wal.SegmentSizeBytes {
		// etcd makes a file as long as it will be before it writes to it: a record that ends beyond
		// the end does not tell its length.
		damage.Cut = false
		return damage, nil
	}
	damage.Torn, err = zerosFrom(f, end)
	if damage.Torn {
		damage.Reason = "the last record is incomplete"
	}
	return damage, err
}

// recordSize returns the length of a record including its header of 8 bytes: the low 56
// bits are the length, the high 8, if the top one is set, hold the padding (etcd
// wal/decoder.go, decodeFrameSize).
func recordSize(header [8]byte) int64 {
	var n int64
	for i := 6; i >= 0; i-- {
		n = n<<8 | int64(header[i])
	}
	if header[7]&0x80 != 0 {
		n += int64(header[7] & 0x7)
	}
	return n + 8
}

// wrongLength says whether a record at an offset cannot have the length that its header says. A
// disk writes a sector wholly or not at all: what stands in the sector of the header was written
// together with it, so where the two differ the record is damaged, and not a write that never
// finished. So is one that is whole by its own fields and the checksum of what precedes it, crc.
func wrongLength(f *os.File, at, length int64, crc uint32) (bool, error) {
	const header, sector = 8, 512
	if length > math.MaxInt32 {
		return true, nil // no message can be as long (protobuf)
	}
	held, _, err := heldSize(f, at, sector-at%sector)
	if err != nil || held != 0 {
		return held != length, err
	}
	// Its fields begin in the next sector.
	held, exact, err := heldSize(f, at, sector)
	if err != nil || held <= 0 || held == length {
		return false, err
	}
	data, rec := make([]byte, exact), new(walpb.Record)
	if _, err := f.ReadAt(data, at+header); err != nil {
		return false, nil // it is not all there
	}
	return proto.Unmarshal(data, rec) == nil &&
		crc32.Update(crc, crc32.MakeTable(crc32.Castagnoli), rec.Data) == rec.GetCrc(), nil
}

// heldSize returns the length of the record that a file has at an offset by the lengths of its own
// fields (walpb/record.proto), as far as these are in its first bytes: with header and padding, and
// without. It is 0 if they do not get that far, -1 if they are not those of a record.
func heldSize(f *os.File, at, within int64) (padded, exact int64, err error) {
	const header = 8
	buf := make([]byte, within)
	n, err := f.ReadAt(buf, at)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, 0, err
	}
	if n <= header {
		return 0, 0, nil
	}
	rest := buf[header:n]
	for want := protowire.Number(1); len(rest) > 0; want++ {
		number, kind, tag := protowire.ConsumeTag(rest)
		if tag < 0 && errors.Is(protowire.ParseError(tag), io.ErrUnexpectedEOF) {
			return 0, 0, nil
		}
		isData := number == 3 && kind == protowire.BytesType
		if tag < 0 || number != want || !isData && (number > 2 || kind != protowire.VarintType) {
			return -1, 0, nil
		}
		value, length := protowire.ConsumeVarint(rest[tag:])
		switch {
		case length < 0 && errors.Is(protowire.ParseError(length), io.ErrUnexpectedEOF):
			return 0, 0, nil
		case length < 0:
			return -1, 0, nil
		case isData:
			size := int64(n-len(rest)+tag+length) + int64(min(value, math.MaxInt32))
			return (size + 7) &^ 7, size - header, nil
		}
		rest = rest[tag+length:]
	}
	return 0, 0, nil
}

func zerosFrom(f *os.File, at int64) (bool, error) {
	info, err := f.Stat()
	if err != nil {
		return false, fmt.Errorf("cannot read the write-ahead log: %w", err)
	}
	buf := make([]byte, 64<<10)
	for at >= 0 && at < info.Size() {
		n, err := f.ReadAt(buf, at)
		if slices.ContainsFunc(buf[:n], func(b byte) bool { return b != 0 }) {
			return false, nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return false, fmt.Errorf("cannot read the write-ahead log: %w", err)
		}
		at += int64(n)
		if n == 0 {
			break
		}
	}
	return true, nil
}

func (l *raftLog) record(rec *walpb.Record) error {
	switch rec.GetType() {
	case wal.MetadataType:
		var m pb.Metadata
		if err := proto.Unmarshal(rec.Data, &m); err != nil {
			return fmt.Errorf("its metadata cannot be decoded: %w", err)
		}
		if l.memberID != 0 && (l.memberID != m.GetNodeID() || l.clusterID != m.GetClusterID()) {
			return fmt.Errorf("it is of member %x of cluster %x, but the files before it of member %x of cluster %x",
				m.GetNodeID(), m.GetClusterID(), l.memberID, l.clusterID)
		}
		l.memberID, l.clusterID = m.GetNodeID(), m.GetClusterID()
	case wal.StateType:
		hard := new(raftpb.HardState)
		if err := proto.Unmarshal(rec.Data, hard); err != nil {
			return fmt.Errorf("a state cannot be decoded: %w", err)
		}
		l.hard = hard
	case wal.SnapshotType:
		snapshot := new(walpb.Snapshot)
		if err := proto.Unmarshal(rec.Data, snapshot); err != nil {
			return fmt.Errorf("a snapshot's record cannot be decoded: %w", err)
		}
		l.snapshots = append(l.snapshots, snapshot)
	case wal.EntryType:
		e := new(raftpb.Entry)
		if err := proto.Unmarshal(rec.Data, e); err != nil {
			return fmt.Errorf("an entry cannot be decoded: %w", err)
		}
		return l.append(e)
	default:
		return fmt.Errorf("a record of the unknown type %d", rec.GetType())
	}
	return nil
}

// append adds an entry. One whose index exists replaces that entry and all after it: a leader of a
// later term overruled them (section 5.3 of the Raft paper).
func (l *raftLog) append(e *raftpb.Entry) error {
	index := e.GetIndex()
	if l.first == 0 {
		l.first = index
	}
	if index > l.last()+1 {
		sent := slices.IndexFunc(l.snapshots, func(s *walpb.Snapshot) bool { return s.GetIndex()+1 == index })
		if sent < 0 {
			return fmt.Errorf("entry %d follows entry %d: those in between are missing", index, l.last())
		}
		l.from, l.entries = index-1, nil
		l.shared = shared{}
	}
	l.end = index
	if index <= l.from {
		l.entries = nil
		l.shared.add(e)
		return nil
	}
	l.entries = append(l.entries[:index-l.from-1], e)
	return nil
}

// skipToSnapshot handles a snapshot from the leader that no entry follows yet. One beyond the
// commit index was not finished.
func (l *raftLog) skipToSnapshot() {
	for _, s := range l.snapshots {
		i := s.GetIndex()
		if i > l.hard.GetCommit() {
			continue
		}
		l.end = max(l.end, i)
		if i > l.last() {
			l.from, l.entries, l.shared = i, nil, shared{}
		}
	}
}

// skip leaves out entries that the db has.
func (l *raftLog) skip(upTo uint64) {
	if upTo <= l.from {
		return
	}
	n := min(upTo-l.from, uint64(len(l.entries)))
	l.entries, l.from, l.shared = l.entries[n:], upTo, shared{}
}
