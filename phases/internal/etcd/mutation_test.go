package etcd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"

	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
)

// still is a data directory of a stopped member, in memory: the path of each file below member, and
// what is in it, without the zeros that etcd preallocates.
type still struct {
	name    string
	history int // stills of one history were members of one cluster
	files   map[string][]byte
	last    int64  // revision, with the log applied
	index   uint64 // of the last entry
}

// history is what a cluster held at each of its revisions: the hash of its keys.
type history map[int64]uint32

// take reads a stopped member's files.
func take(t *testing.T, s *server, history int, when string) still {
	t.Helper()
	st := still{name: s.Name + " " + when, history: history, files: map[string][]byte{}}
	member := filepath.Join(s.Dir, "member")
	for _, dir := range []string{"snap", "wal"} {
		names, err := os.ReadDir(filepath.Join(member, dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			if strings.HasSuffix(n.Name(), ".tmp") {
				continue
			}
			data, err := os.ReadFile(filepath.Join(member, dir, n.Name()))
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case dir == "wal":
				data = append(bytes.TrimRight(data, "\x00"), make([]byte, 512)...)
			case n.Name() == "db": // etcd lets it grow by 16 MiB at once
				pages := max(binary.LittleEndian.Uint64(data[metaAt+metaPages:]),
					binary.LittleEndian.Uint64(data[4096+metaAt+metaPages:]))
				data = data[:min(uint64(len(data)), pages*4096)]
			}
			st.files[filepath.Join(dir, n.Name())] = data
		}
	}
	made, err := SnapshotFromDataDir(t.Context(), s.Dir, "", filepath.Join(t.TempDir(), "out.db"), nil)
	if err != nil {
		t.Fatalf("%s: %v", st.name, err)
	}
	st.last, st.index = made.Revision, made.Contents.ConsistentIndex
	return st
}

// work writes as API servers do: conditionally, and some of it in vain.
func (s *server) work(prefix string, n int) {
	s.t.Helper()
	ctx, c := s.t.Context(), s.client().v3
	lease, err := c.Grant(ctx, 3600)
	if err != nil {
		s.t.Fatal(err)
	}
	known := map[string]int64{}
	for i := range n {
		key := fmt.Sprintf("/registry/%s/%d", prefix, i%13)
		put := clientv3.OpPut(key, fmt.Sprintf("%s %d %s", prefix, i, strings.Repeat("x", i%90)))
		if i%17 == 3 {
			put = clientv3.OpPut(key, fmt.Sprint(i), clientv3.WithLease(lease.ID))
		}
		since := known[key]
		if i%7 == 2 {
			since++ // somebody else was faster
		}
		if i%11 == 5 {
			put = clientv3.OpDelete(key)
		}
		r, err := c.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", since)).Then(put).
			Else(clientv3.OpGet(key)).Commit()
		if err != nil {
			s.t.Fatal(err)
		}
		if r.Succeeded {
			known[key] = r.Header.Revision
		}
		if r.Succeeded && i%11 == 5 {
			known[key] = 0
		}
		if i%19 == 4 {
			if _, err := c.Put(ctx, "/plain", fmt.Sprint(prefix, i)); err != nil {
				s.t.Fatal(err)
			}
		}
	}
}

// hashes asks a member for the hash of its keys at each revision.
func (s *server) hashes() history {
	s.t.Helper()
	last, err := s.client().Revision(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	h := history{}
	for r := int64(2); r <= last; r++ {
		hash, err := s.client().HashKV(s.t.Context(), s.Endpoint, r)
		if err != nil {
			s.t.Fatal(err)
		}
		h[r] = hash.Hash
	}
	return h
}

// stills makes the data directories that are mutated: of one member at two times, and of two
// members of another cluster at two times each. Every one was killed, so that its log goes on
// beyond the db.
func stills(t *testing.T) ([]still, []history) {
	t.Helper()
	all, _, first := oneMember(t, (*server).kill)
	histories := []history{first}
	const version = "3.6.16"
	flags := seldom()
	three := startThree(t, version, flags...)
	three[0].work("c", 90)
	for _, when := range []string{"early", "late"} {
		for _, s := range three {
			s.kill()
		}
		all = append(all, take(t, three[0], 1, when), take(t, three[1], 1, when))
		for _, s := range three {
			s.start(version, append(flags, "--initial-cluster", initialCluster(three))...)
		}
		for _, s := range three {
			s.await()
		}
		if when == "early" {
			three[0].work("d", 90)
		}
	}
	return all, append(histories, three[0].hashes())
}

// seldom are flags with which etcd flushes its db and makes snapshots of its state at times.
func seldom() []string {
	return []string{"--snapshot-count", "40", "--backend-batch-interval", "1h"}
}

// oneMember makes those of one member at two times.
func oneMember(t *testing.T, end func(*server)) (all []still, one *server, h history) {
	t.Helper()
	const version = "3.6.16"
	one = newServer(t, "one").start(version, seldom()...).await()
	one.work("a", 90)
	end(one)
	all = append(all, take(t, one, 0, "early"))
	one.start(version, seldom()...).await().work("b", 90)
	end(one)
	all = append(all, take(t, one, 0, "late"))
	h = one.start(version, seldom()...).await().hashes()
	one.kill()
	return all, one, h
}

func initialCluster(members []*server) string {
	var urls []string
	for _, s := range members {
		urls = append(urls, s.Name+"="+s.PeerURL)
	}
	return strings.Join(urls, ",")
}

// mutation is a damaged data directory.
type mutation struct {
	name  string
	files map[string][]byte
	of    still // what its log is of
	dbOf  int   // the history that its db is of
	db    bool  // its db is not as etcd wrote it
	cut   bool  // the end of its log is not there
}

// mutate damages one still, or makes one of two.
func mutate(r *rand.Rand, all []still) mutation {
	base := all[r.IntN(len(all))]
	m := mutation{name: base.name, files: maps.Clone(base.files), of: base, dbOf: base.history}
	if r.IntN(4) == 0 { // of two times, or of two members
		other := all[r.IntN(len(all))]
		part := []string{"snap/db", "wal/", "snap/0"}[r.IntN(3)]
		for name := range m.files {
			if strings.HasPrefix(name, part) {
				delete(m.files, name)
			}
		}
		for name, data := range other.files {
			if strings.HasPrefix(name, part) {
				m.files[name] = data
			}
		}
		m.name += fmt.Sprintf(" with %s of %s", part, other.name)
		switch part {
		case "wal/":
			m.of = other
		case "snap/db":
			m.dbOf = other.history
		}
		if r.IntN(2) == 0 {
			return m
		}
	}
	names := slices.Sorted(maps.Keys(m.files))
	if r.IntN(10) > 0 { // the small files in snap mean little
		names = slices.DeleteFunc(names, func(n string) bool { return strings.HasSuffix(n, ".snap") })
	}
	name := names[r.IntN(len(names))]
	data := bytes.Clone(m.files[name])
	if len(data) == 0 {
		return m
	}
	end := max(1, len(bytes.TrimRight(data, "\x00"))) // etcd's next log, not begun, is all zeros
	kind := r.IntN(5)
	switch kind {
	case 0: // flipped bits
		for range 1 + r.IntN(3) {
			data[r.IntN(end)] ^= 1 << r.IntN(8)
		}
	case 1: // bytes
		at := r.IntN(end)
		for i := at; i < min(at+1+r.IntN(64), end); i++ {
			data[i] = byte(r.Uint32())
		}
	case 2: // cut
		data = data[:r.IntN(end)]
	case 3: // two blocks swapped
		size := []int{512, 4096}[r.IntN(2)]
		a, b := r.IntN(len(data)/size+1)*size, r.IntN(len(data)/size+1)*size
		for i := range size {
			if a+i < len(data) && b+i < len(data) {
				data[a+i], data[b+i] = data[b+i], data[a+i]
			}
		}
	case 4: // zeros from a sector on, as a disk may leave them
		clear(data[min(r.IntN(end/512+1)*512, end):])
	}
	m.name += fmt.Sprintf(", %s damaged in the way %d", name, kind)
	m.db = m.db || name == "snap/db"
	m.cut = strings.HasPrefix(name, "wal/") && (kind == 2 || kind == 4)
	m.files[name] = data
	return m
}

// put writes a data directory, and only what differs from what is there.
func (m mutation) put(t *testing.T, dir string, there map[string][]byte) {
	t.Helper()
	for name := range there {
		if _, wanted := m.files[name]; !wanted {
			if err := os.Remove(filepath.Join(dir, "member", name)); err != nil {
				t.Fatal(err)
			}
			delete(there, name)
		}
	}
	for name, data := range m.files {
		if now, ok := there[name]; ok && len(now) == len(data) && (len(data) == 0 || &now[0] == &data[0]) {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, "member", name), data, 0o600); err != nil {
			t.Fatal(err)
		}
		there[name] = data
	}
}

// committed is what etcd's own reader says of a log: the last index that is known to be committed.
func committed(dir string) (index uint64, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	w, err := wal.OpenForRead(quiet(), filepath.Join(dir, "member", "wal"), &walpb.Snapshot{})
	if err != nil {
		return 0, err
	}
	defer w.Close()
	_, state, _, err := w.ReadAll()
	return state.GetCommit(), err
}

// scratch is a directory for one mutation after the other.
type scratch struct {
	dir, out string
	there    map[string][]byte
}

func newScratch(t *testing.T) scratch {
	t.Helper()
	s := scratch{t.TempDir(), filepath.Join(t.TempDir(), "out.db"), map[string][]byte{}}
	for _, name := range []string{"snap", "wal"} {
		if err := os.MkdirAll(filepath.Join(s.dir, "member", name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// Whatever is wrong with a data directory, it is called bad, or what comes out is what the cluster
// held: at least up to the last entry that the log says is committed, and without damage to the log
// all that was acknowledged. All are looked at, and of some a snapshot is made.
func TestNoHoleInAMutatedDataDirectoryIsCalledGood(t *testing.T) {
	t.Parallel()
	mutations, whole := 10000, 50
	if testing.Short() {
		mutations = 1000
	}
	all, histories := stills(t)
	r, s := rand.New(rand.NewPCG(20, 26)), newScratch(t)
	count, begun := map[string]int{}, time.Now()
	for i := range mutations {
		m := mutate(r, all)
		m.put(t, s.dir, s.there)
		kind := m.judge(t, s, histories, i%whole == 0)
		if count[kind]++; t.Failed() {
			t.Fatalf("%d, %s", i, m.name)
		}
	}
	t.Logf("%d mutations: %v; %s", mutations, count, time.Since(begun))
	for _, kind := range []string{"good", "bad", "hole"} {
		if count[kind] < mutations/20 {
			t.Errorf("too few are %s: the mutations do not try much", kind)
		}
	}
}

// judge looks at a mutated data directory, and says what it is: good, bad, or with a hole.
func (m mutation) judge(t *testing.T, s scratch, histories []history, snapshot bool) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	m.alone(t, s)
	d, err := Inspect(ctx, s.dir, "")
	var bad *snapfile.Bad
	switch {
	case errors.As(err, &bad):
		return "bad"
	case err != nil:
		t.Errorf("neither good nor bad: %v", err)
		return ""
	}
	kind, snapshotOf := "good", SnapshotFromDataDir
	if d.Hole != nil {
		kind, snapshotOf = "hole", SnapshotUpToHole
	} else {
		m.reaches(t, s.dir, d)
	}
	if !snapshot && !m.db {
		return kind
	}
	made, err := snapshotOf(ctx, s.dir, "", s.out, nil)
	switch {
	case errors.As(err, &bad):
		return "bad"
	case err != nil:
		t.Errorf("neither good nor bad: %v", err)
		return kind
	}
	if kind == "good" && !m.cut && made.Revision < m.of.last {
		t.Errorf("up to revision %d, and %d was acknowledged; %v", made.Revision, m.of.last, made.Caveats)
	}
	of := m.of.history
	if kind == "hole" && d.Pending() == 0 {
		of = m.dbOf // nothing of the log is in it
	}
	if want := histories[of][made.Contents.HashRevision]; !m.db && made.Contents.HashKV != want {
		t.Errorf("not what the cluster held at revision %d: hash %d and not %d; %v", made.Contents.HashRevision,
			made.Contents.HashKV, want, made.Caveats)
	}
	if err := os.Remove(s.out); err != nil {
		t.Fatal(err)
	}
	return kind
}

// alone: a log without the directory of the db is called whole only if etcd's own reader finds
// nothing that came before it, and what was acknowledged is in it.
func (m mutation) alone(t *testing.T, s scratch) {
	t.Helper()
	walDir := filepath.Join(s.dir, "member", "wal")
	log, err := InspectLog(filepath.Dir(s.out), walDir)
	if err != nil || !log.Whole {
		return
	}
	before, err := wal.ValidSnapshotEntries(quiet(), walDir)
	if err == nil && slices.ContainsFunc(before, func(s *walpb.Snapshot) bool { return s.GetIndex() > 0 }) {
		t.Errorf("the log is called whole, and etcd finds in it that something came before: %v", before)
	}
	if !m.cut && log.RevisionAtMost < m.of.last {
		t.Errorf("the log is called whole up to revision %d, and %d was acknowledged", log.RevisionAtMost, m.of.last)
	}
}

// reaches: what is called good goes as far as it must.
func (m mutation) reaches(t *testing.T, dir string, d *DataDir) {
	t.Helper()
	last := max(d.LastIndex, d.ConsistentIndex)
	if index, err := committed(dir); err == nil && last < index {
		t.Errorf("up to entry %d, and etcd reads that %d was committed", last, index)
	}
	if !m.cut && last < m.of.index {
		t.Errorf("up to entry %d, and %d was acknowledged; %v", last, m.of.index, d.Caveats())
	}
}

// On what is called good, etcd itself serves the same, if it starts at all: it does not on a log
// that lacks a record which only etcd needs.
func TestEtcdServesWhatAMutatedDataDirectoryIsSaidToHold(t *testing.T) {
	t.Parallel()
	all, one, _ := oneMember(t, (*server).kill)
	r, s := rand.New(rand.NewPCG(7, 7)), newScratch(t)
	served := 0
	for tries := 0; served < 4 && tries < 400; tries++ {
		m := mutate(r, all)
		m.put(t, s.dir, s.there)
		if m.db || maps.EqualFunc(m.files, m.of.files, bytes.Equal) {
			continue
		}
		made, err := SnapshotFromDataDir(t.Context(), s.dir, "", s.out, nil)
		if err != nil {
			continue
		}
		if err := os.Remove(s.out); err != nil {
			t.Fatal(err)
		}
		again := &server{t: t, Name: one.Name, Dir: filepath.Join(t.TempDir(), "again"),
			Endpoint: one.Endpoint, PeerURL: one.PeerURL}
		if err := os.CopyFS(again.Dir, os.DirFS(s.dir)); err != nil {
			t.Fatal(err)
		}
		if !again.start("3.6.16").answers() {
			continue
		}
		served++
		hash, err := again.client().HashKV(t.Context(), again.Endpoint, made.Contents.HashRevision)
		now, revErr := again.client().Revision(t.Context())
		if err != nil || revErr != nil || hash.Hash != made.Contents.HashKV || now != made.Revision {
			t.Errorf("%s: etcd holds %v at revision %d, and not %d at %d; %v %v", m.name, hash, now,
				made.Contents.HashKV, made.Revision, err, revErr)
		}
		again.kill()
	}
	if served == 0 {
		t.Error("etcd started on none of them")
	}
}

// answers says whether the member serves, once it does or has ended.
func (s *server) answers() bool {
	s.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		select {
		case <-s.exited:
			return false
		default:
		}
		c, err := Dial(s.t.Context(), Access{Endpoints: []string{s.Endpoint}})
		if err != nil {
			continue
		}
		err = c.Ready(s.t.Context())
		_ = c.Close()
		if err == nil {
			return true
		}
	}
	s.t.Fatal("etcd neither serves nor ends")
	return false
}
