package etcd

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// logWriter writes a log with etcd's own writer, in short files.
type logWriter struct {
	t   testing.TB
	w   *wal.WAL
	dir string
}

func newLog(t *testing.T) *logWriter {
	t.Helper()
	return newLogOf(t, 7, 9)
}

func newLogOf(t testing.TB, member, cluster uint64) *logWriter {
	t.Helper()
	metadata, err := proto.Marshal(&pb.Metadata{NodeID: &member, ClusterID: &cluster})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "wal")
	w, err := wal.Create(quiet(), dir, metadata)
	if err != nil {
		t.Fatal(err)
	}
	return &logWriter{t, w, dir}
}

func (l *logWriter) save(commit, term uint64, entries ...uint64) {
	l.t.Helper()
	var es []*raftpb.Entry
	for _, i := range entries {
		es = append(es, &raftpb.Entry{Index: proto.Uint64(i), Term: proto.Uint64(term),
			Type: raftpb.EntryNormal.Enum(), Data: fmt.Appendf(nil, "%d of term %d", i, term)})
	}
	if err := l.w.Save(&raftpb.HardState{Commit: proto.Uint64(commit), Term: proto.Uint64(term), Vote: proto.Uint64(7)},
		es); err != nil {
		l.t.Fatal(err)
	}
}

// cut begins a new file, as etcd does at 64 MB.
func (l *logWriter) cut(index, term uint64) {
	l.t.Helper()
	defer shortFiles()()
	l.save(index-1, term, index)
}

// cutBehind begins a new file behind an entry.
func (l *logWriter) cutBehind(state *raftpb.HardState, e *raftpb.Entry) {
	l.t.Helper()
	defer shortFiles()()
	if err := l.w.Save(state, []*raftpb.Entry{e}); err != nil {
		l.t.Fatal(err)
	}
}

func shortFiles() (end func()) {
	size := wal.SegmentSizeBytes
	wal.SegmentSizeBytes = 1
	return func() { wal.SegmentSizeBytes = size }
}

func (l *logWriter) snapshot(index, term uint64) {
	l.t.Helper()
	if err := l.w.SaveSnapshot(&walpb.Snapshot{Index: proto.Uint64(index),
		Term: proto.Uint64(term), ConfState: &raftpb.ConfState{}}); err != nil {
		l.t.Fatal(err)
	}
}

func upTo(from, to uint64) (all []uint64) {
	for i := from; i <= to; i++ {
		all = append(all, i)
	}
	return all
}

func TestTheLogGivesWhatTheDbLacks(t *testing.T) {
	for _, test := range []struct {
		name        string
		write       func(*logWriter)
		after       uint64
		from, last  uint64
		lastTerm    uint64
		end         uint64 // of the log itself, if it is not last
		damaged     string
		torn        bool
		damageFiles func(files []string)
	}{
		{name: "nothing", write: func(l *logWriter) { l.save(5, 1, upTo(1, 5)...) }, after: 5, from: 5, last: 5},
		{name: "the end", write: func(l *logWriter) { l.save(5, 1, upTo(1, 9)...) },
			after: 5, from: 5, last: 9, lastTerm: 1},
		{name: "less than the db has", write: func(l *logWriter) { l.save(5, 1, upTo(1, 5)...) },
			after: 8, from: 8, last: 8, end: 5},
		{name: "entries that a later leader overruled", write: func(l *logWriter) {
			l.save(5, 1, upTo(1, 20)...)
			l.save(8, 2, upTo(8, 10)...)
		}, after: 5, from: 5, last: 10, lastTerm: 2},
		{name: "all that the db lacks overruled", write: func(l *logWriter) {
			l.save(3, 1, upTo(1, 20)...)
			l.save(5, 2, 5)
		}, after: 5, from: 5, last: 5},
		{name: "in several files", write: func(l *logWriter) {
			l.save(5, 1, upTo(1, 5)...)
			l.cut(6, 1)
			l.save(6, 1, 7, 8)
			l.cut(9, 1)
			l.save(9, 1, 10)
		}, after: 4, from: 4, last: 10, lastTerm: 1},
		{name: "from a later file only", write: func(l *logWriter) {
			l.save(5, 1, upTo(1, 5)...)
			l.cut(6, 1)
			l.save(6, 1, 7, 8)
		}, after: 7, from: 7, last: 8, lastTerm: 1},
		{name: "behind a snapshot that the leader sent", write: func(l *logWriter) {
			l.save(5, 1, upTo(1, 5)...)
			l.snapshot(100, 2)
			l.save(100, 2, 101, 102)
		}, after: 5, from: 100, last: 102, lastTerm: 2},
		{name: "nothing behind a snapshot that the leader sent", write: func(l *logWriter) {
			l.save(5, 1, upTo(1, 5)...)
			l.snapshot(100, 2)
			l.save(100, 2)
		}, after: 3, from: 100, last: 100},
		{name: "a snapshot that was not finished does not count", write: func(l *logWriter) {
			l.save(5, 1, upTo(1, 5)...)
			l.snapshot(100, 2)
		}, after: 3, from: 3, last: 5, lastTerm: 1},
		{name: "up to a gap", write: func(l *logWriter) {
			l.save(5, 1, upTo(1, 5)...)
			l.save(5, 1, 8, 9)
		}, after: 3, from: 3, last: 5, lastTerm: 1, damaged: "those in between are missing"},
		{name: "up to damage in a file that is not the last", write: func(l *logWriter) {
			l.save(5, 1, upTo(1, 5)...)
			l.cut(6, 1)
			l.save(6, 1, upTo(7, 9)...)
		}, after: 3, from: 3, last: 4, lastTerm: 1, damaged: "crc mismatch", damageFiles: func(files []string) {
			data, err := os.ReadFile(files[0])
			if err != nil {
				t.Fatal(err)
			}
			data[strings.Index(string(data), "5 of term")] ^= 1
			if err := os.WriteFile(files[0], data, 0o600); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newLog(t)
			test.write(w)
			if err := w.w.Close(); err != nil {
				t.Fatal(err)
			}
			if test.damageFiles != nil {
				files, err := filepath.Glob(filepath.Join(w.dir, "*.wal"))
				if err != nil || len(files) < 2 {
					t.Fatalf("files %v, %v", files, err)
				}
				test.damageFiles(files)
			}
			l, err := readLog(w.dir, test.after)
			if err != nil {
				t.Fatal(err)
			}
			if l.memberID != 7 || l.clusterID != 9 || l.from != test.from || l.last() != test.last {
				t.Errorf("from %d to %d, want %d to %d", l.from, l.last(), test.from, test.last)
			}
			if l.end != cmp.Or(test.end, test.last) {
				t.Errorf("the log ends at %d", l.end)
			}
			if n := len(l.entries); n > 0 && l.entries[n-1].GetTerm() != test.lastTerm {
				t.Errorf("the last entry is of term %d, want %d", l.entries[n-1].GetTerm(), test.lastTerm)
			}
			if (test.damaged == "") != (l.damage == nil) ||
				(l.damage != nil && (!strings.Contains(l.damage.Reason, test.damaged) || l.damage.Torn)) {
				t.Errorf("damage %v, want %q", l.damage, test.damaged)
			}
		})
	}
}

func TestALogIsReadUpToAFileThatIsMissing(t *testing.T) {
	for _, test := range []struct {
		name             string
		overruled        uint64 // by the missing file, which begins with this entry; 0: none
		after, last, end uint64
		gap              bool
	}{
		{name: "all of it", last: 5, gap: true},
		{name: "what the db has of the missing file", after: 7, last: 7, end: 5, gap: true},
		{name: "the db has all of the missing file", after: 8, last: 9},
		{name: "the db has more than the missing file", after: 9, last: 9},
		{name: "the missing file overruled entries", overruled: 4, last: 3, gap: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newLog(t)
			w.save(0, 1, upTo(1, 4)...)
			w.cut(5, 1)
			if test.overruled != 0 {
				w.cut(test.overruled, 2)
			} else {
				w.save(5, 1, 6, 7)
				w.cut(8, 1)
			}
			w.save(3, 2, cmp.Or(test.overruled, 8)+1)
			if err := w.w.Close(); err != nil {
				t.Fatal(err)
			}
			files, err := filepath.Glob(filepath.Join(w.dir, "*.wal"))
			if err != nil || len(files) != 3 {
				t.Fatalf("files %v, %v", files, err)
			}
			if err := os.Remove(files[1]); err != nil {
				t.Fatal(err)
			}
			l, err := readLog(w.dir, test.after)
			if err != nil {
				t.Fatal(err)
			}
			if l.last() != test.last || l.end != cmp.Or(test.end, test.last) || l.damage != nil {
				t.Errorf("up to %d, the log itself up to %d; damage %v", l.last(), l.end, l.damage)
			}
			if (l.gap != nil) != test.gap || test.gap && (!strings.Contains(l.gap.String(), filepath.Base(files[2])) ||
				l.beyond.last != cmp.Or(test.overruled, 8)+1) {
				t.Errorf("gap %v; behind it %+v", l.gap, l.beyond)
			}
		})
	}
}

func TestNoDamageMakesTheReadingOfALogPanicOrInvent(t *testing.T) {
	w := newLog(t)
	w.save(10, 1, upTo(1, 10)...)
	w.snapshot(5, 1)
	w.save(20, 2, upTo(11, 20)...)
	if err := w.w.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(w.dir, "0000000000000000-0000000000000000.wal")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	whole = whole[:len(strings.TrimRight(string(whole), "\x00"))+64]
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 2000 {
		data := append([]byte(nil), whole...)
		switch i % 3 {
		case 0:
			data[random.IntN(len(data))] ^= byte(1 << random.IntN(8))
		case 1:
			data = data[:random.IntN(len(data))]
		case 2:
			at := random.IntN(len(data))
			for j := at; j < min(at+random.IntN(64), len(data)); j++ {
				data[j] = byte(random.Uint32())
			}
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := readLog(w.dir, 0)
		if err != nil {
			continue
		}
		for j, e := range l.entries {
			if e.GetIndex() != uint64(j+1) || !strings.HasPrefix(string(e.Data), fmt.Sprintf("%d of term", j+1)) {
				t.Fatalf("damage %d: entry %d is %v", i, j+1, e)
			}
		}
		if len(l.entries) < 20 && l.damage == nil && i%3 != 1 {
			t.Fatalf("damage %d: %d entries, and no word of it", i, len(l.entries))
		}
	}
}

// The header of a record may be all that its sector holds: then only what follows tells that its
// length is wrong, and that it is not a write that never finished.
func TestAWrongLengthAtTheEndOfASectorIsDamage(t *testing.T) {
	const sector = 512
	left := int64(0)
	for pad := int64(0); pad < sector; pad += 8 { // etcd aligns records at 8 bytes
		if (left-pad+sector)%sector > 48 && pad%256 != 0 {
			continue // the others are alike, and a log takes a while to make
		}
		l := newLog(t)
		l.save(1, 1, 1)
		filler := &raftpb.Entry{Index: proto.Uint64(2), Term: proto.Uint64(1), Type: raftpb.EntryNormal.Enum(),
			Data: make([]byte, pad)}
		state := func(commit uint64) *raftpb.HardState {
			return &raftpb.HardState{Commit: proto.Uint64(commit), Term: proto.Uint64(1), Vote: proto.Uint64(7)}
		}
		if err := l.w.Save(state(2), []*raftpb.Entry{filler}); err != nil {
			t.Fatal(err)
		}
		file := lastWAL(t, l.dir)
		at := recordsEnd(t, file)
		if pad == 0 {
			left = sector - at%sector
		}
		// Without a new state, the entry is the last record.
		last := &raftpb.Entry{Index: proto.Uint64(3), Term: proto.Uint64(1), Type: raftpb.EntryNormal.Enum(),
			Data: bytes.Repeat([]byte("x"), 2000)}
		if err := errors.Join(l.w.Save(state(2), []*raftpb.Entry{last}), l.w.Close()); err != nil {
			t.Fatal(err)
		}
		end := recordsEnd(t, file)
		for _, flipped := range []int64{1, 2, 4} {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			data = data[:end] // a copy without the zeros that etcd preallocates
			data[at+flipped] ^= 0xff
			if err := os.WriteFile(filepath.Join(dir, filepath.Base(file)), data, 0o600); err != nil {
				t.Fatal(err)
			}
			log, err := readLog(dir, 0)
			if err != nil {
				t.Fatal(err)
			}
			if log.damage == nil || log.damage.Torn {
				t.Errorf("with %d bytes left in its sector, byte %d flipped: %+v", sector-at%sector, flipped,
					log.damage)
			}
			// The same record cut off is one that never finished.
			data[at+flipped] ^= 0xff
			if err := os.WriteFile(filepath.Join(dir, filepath.Base(file)), data[:end-100], 0o600); err != nil {
				t.Fatal(err)
			}
			if log, err = readLog(dir, 0); err != nil || log.damage == nil || !log.damage.Torn {
				t.Errorf("with %d bytes left in its sector, cut off: %v %+v", sector-at%sector, err, log.damage)
			}
		}
	}
}

// recordsEnd is where the zeros begin behind the last record of a file.
func recordsEnd(t *testing.T, file string) int64 {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	end := int64(len(bytes.TrimRight(data, "\x00")))
	return (end + 7) &^ 7
}
