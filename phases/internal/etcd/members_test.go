package etcd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
)

// startThree runs a cluster of three and returns its leader first.
func startThree(t *testing.T, version string, extra ...string) []*server {
	t.Helper()
	all := []*server{newServer(t, "a"), newServer(t, "b"), newServer(t, "c")}
	for _, s := range all {
		s.start(version, slices.Concat([]string{"--initial-cluster", initialCluster(all)}, unflushed, extra)...)
	}
	for _, s := range all {
		s.await()
	}
	for i, s := range all {
		if st := s.client().Status(t.Context())[0]; st.Err == nil && st.Leader == st.MemberID {
			all[1], all[i] = all[i], all[1]
		}
	}
	// In an election that nobody called, a losing member may have voted for itself.
	to := all[0].client().Status(t.Context())[0].MemberID
	eventually(t, func() error { _, err := all[1].client().v3.MoveLeader(t.Context(), to); return err })
	return all
}

func TestAMemberOfThreeSaysWhatItCannotPromise(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"3.5.35", "3.7.3"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			all := startThree(t, version)
			leader, follower, gone := all[0], all[1], all[2]
			leader.put("/k", 200, 100)
			goneID := gone.client().Status(t.Context())[0].MemberID
			ctx, c := t.Context(), leader.client().v3
			// etcd refuses membership changes until all members have been connected for 5 s.
			eventually(t, func() error { _, err := c.MemberRemove(ctx, goneID); return err })
			select {
			case <-gone.exited:
			case <-time.After(patience):
				t.Fatal("the removed member goes on")
			}
			eventually(t, func() error {
				_, err := c.MemberAddAsLearner(ctx, []string{"http://127.0.0.1:1"})
				return err
			})
			leader.put("/later", 50, 100)
			// Linearizable: by then the follower has applied everything.
			revision, err := follower.client().Revision(ctx)
			if err != nil {
				t.Fatal(err)
			}
			leader.kill()
			follower.kill()

			for _, test := range []struct {
				s        *server
				follower bool
				removed  bool
				caveat   string
			}{
				{leader, false, false, "if another one became leader later, it acknowledged writes that are not here."},
				{follower, true, false, "was a follower in a cluster of 2"},
				{gone, false, true, "had been removed from its cluster"},
			} {
				made, err := SnapshotFromDataDir(ctx, test.s.Dir, "", filepath.Join(t.TempDir(), "out.db"), nil)
				if err != nil {
					t.Fatal(err)
				}
				d := made.DataDir
				if (d.Follower != test.follower && !d.Removed) ||
					d.Removed != test.removed || !strings.Contains(strings.Join(made.Caveats, " "), test.caveat) {
					t.Errorf("%s: follower %v, removed %v, %q", test.s.Name, d.Follower, d.Removed, made.Caveats)
				}
				learners := 0
				for _, m := range d.Members {
					if m.IsLearner {
						learners++
					} else if m.Name == "" || len(m.ClientURLs) == 0 {
						t.Errorf("%s: a voter without a name or URLs: %+v", test.s.Name, m)
					}
				}
				// Only the log has the learner: etcd had no reason to write its
				// db after it was added.
				if d.Voters != 2 || (learners == 1) == test.removed || (len(d.Contents.Members) != 2 && !d.Removed) {
					t.Errorf("%s: members %+v, in the db %+v", test.s.Name, d.Members, d.Contents.Members)
				}
				if !test.removed && made.Revision != revision {
					t.Errorf("%s: revision %d, want %d", test.s.Name, made.Revision, revision)
				}
			}
		})
	}
}

func eventually(t *testing.T, f func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for err := f(); err != nil; err = f() {
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func TestADbThatTheLeaderHadJustSentIsUsed(t *testing.T) {
	t.Parallel()
	s := newServer(t, "a").start("3.7.3").await()
	s.put("/k", 10, 10)
	s.stop()
	old, err := os.ReadFile(dbPath(s.Dir))
	if err != nil {
		t.Fatal(err)
	}
	s.start("3.7.3").await().put("/later", 10, 10)
	s.stop()
	d, err := Inspect(t.Context(), s.Dir, "")
	if err != nil {
		t.Fatal(err)
	}
	// The follower's own db and log end early; the leader's db has arrived, but
	// is not yet in place.
	w := newLog(t)
	w.save(3, 1, upTo(1, 3)...)
	w.snapshot(d.ConsistentIndex, d.Contents.Term)
	w.save(d.ConsistentIndex, d.Contents.Term)
	if err := w.w.Close(); err != nil {
		t.Fatal(err)
	}
	sent := filepath.Join(s.Dir, "member", "snap", fmt.Sprintf("%016x.snap.db", d.ConsistentIndex))
	if err := errors.Join(os.Rename(dbPath(s.Dir), sent), os.WriteFile(dbPath(s.Dir), old, 0o600)); err != nil {
		t.Fatal(err)
	}
	made, err := SnapshotFromDataDir(t.Context(), s.Dir, w.dir, filepath.Join(t.TempDir(), "out.db"), nil)
	if err != nil || made.Revision != d.Contents.Revision {
		t.Errorf("%+v, %v", made, err)
	}
	if err := os.Remove(sent); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out.db")
	if _, err := SnapshotFromDataDir(t.Context(), s.Dir, w.dir, out, nil); err == nil ||
		!strings.Contains(err.Error(), "is missing") {
		t.Errorf("without it: %v", err)
	}
	if _, err := os.Lstat(out); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a file is left")
	}
}

func TestALogElsewhereIsFollowed(t *testing.T) {
	t.Parallel()
	s := newServer(t, "a")
	logs := filepath.Join(t.TempDir(), "wal")
	s.start("3.5.35", append([]string{"--wal-dir", logs}, unflushed...)...).await().put("/k", 100, 10)
	s.kill()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(logs, link); err != nil {
		t.Fatal(err)
	}
	d, err := Inspect(t.Context(), s.Dir, link)
	if err != nil || d.Pending() < 100 || d.WALDir != logs {
		t.Errorf("%+v, %v", d, err)
	}
	// Nothing was flushed since the start, so the entries include what etcd 3.5
	// wrote in its v2 API.
	made, err := SnapshotFromDataDir(t.Context(), s.Dir, link, filepath.Join(t.TempDir(), "out.db"), nil)
	if err != nil || made.Revision != 101 || made.Contents.Keys != 100 || made.StorageVersion != "" {
		t.Errorf("%+v, %v", made, err)
	}
	v2 := 0
	for _, e := range d.log.entries {
		if isV2(e.Data) {
			v2++
		}
	}
	if v2 == 0 {
		t.Error("no entry of the v2 API among them")
	}
	if _, err := Inspect(t.Context(), s.Dir, ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("where there is no log: %v", err)
	}
}

func TestARequestThatNobodyHereKnowsIsNotPassedOver(t *testing.T) {
	t.Parallel()
	header := protowire.AppendBytes(protowire.AppendTag(nil, 100, protowire.BytesType), []byte{8, 1})
	for _, test := range []struct {
		name string
		data []byte
		ok   bool
	}{
		{"nothing", nil, true},
		{"a v2 request in a v3 one", append(protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType),
			[]byte("\x08\x01\x12\x03PUT\x1a\x02/0")), header...), true},
		{"a bare v2 request", []byte("\x08\x01\x12\x03PUT\x1a\x0a/0/version"), true},
		{"a request of a later etcd",
			append(protowire.AppendBytes(protowire.AppendTag(nil, 1400, protowire.BytesType), nil), header...), false},
		{"noise", []byte("\xff\xff\xff"), false},
	} {
		r, err := decodeRequest(&raftpb.Entry{Data: test.data})
		if r != nil || (err == nil) != test.ok {
			t.Errorf("%s: %v, %v", test.name, r, err)
		}
	}
}
