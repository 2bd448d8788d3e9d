package backup

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coreos/go-semver/semver"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.etcd.io/etcd/server/v3/lease"
	"go.etcd.io/etcd/server/v3/storage/backend"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"go.uber.org/zap"

	"github.com/etcdpod/etcdpod/e2e/damage"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// goodSnapshot is what etcd's own storage would send: 500 keys, one member.
func goodSnapshot(t *testing.T) []byte {
	t.Helper()
	cfg := backend.DefaultBackendConfig(zap.NewNop())
	cfg.Path, cfg.BatchInterval = filepath.Join(t.TempDir(), "db"), time.Hour
	be := backend.New(cfg)
	kv := mvcc.New(zap.NewNop(), be, &lease.FakeLessor{}, mvcc.StoreConfig{})
	defer func() { kv.Close(); be.Close() }()
	m := schema.NewMembershipBackend(zap.NewNop(), be)
	m.MustCreateBackendBuckets()
	m.MustSaveMemberToBackend(&membership.Member{
		ID: types.ID(7), RaftAttributes: membership.RaftAttributes{PeerURLs: []string{"https://10.0.0.1:2380"}},
		Attributes: membership.Attributes{Name: "cp1"},
	})
	m.MustSaveClusterVersionToBackend(semver.New("3.7.0"))
	for i := range 500 {
		kv.Put(fmt.Appendf(nil, "/registry/pods/default/web-%d", i),
			bytes.Repeat([]byte{byte(i)}, 500+i), lease.NoLease)
	}
	tx := be.BatchTx()
	tx.LockOutsideApply()
	schema.UnsafeUpdateConsistentIndexForce(tx, 1234, 5)
	schema.UnsafeSetStorageVersion(tx, semver.New("3.7.0"))
	tx.Unlock()
	kv.Commit()
	snap := be.Snapshot()
	defer snap.Close()
	var b bytes.Buffer
	if _, err := snap.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b.Bytes())
	return append(b.Bytes(), sum[:]...)
}

func writeSnapshot(t *testing.T, data []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "snapshot.db")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func verify(t *testing.T, file string, quick bool) Verdict {
	t.Helper()
	v, err := Verify(t.Context(), file, VerifyOptions{Quick: quick}, nil)
	if err != nil {
		t.Fatalf("%s: not judged: %v", file, err)
	}
	return v
}

func TestAGoodSnapshotIsSaidToBeGoodWithWhatItHolds(t *testing.T) {
	v := verify(t, writeSnapshot(t, goodSnapshot(t)), false)
	if !v.OK || v.Check != "" || v.Keys != 500 || v.Revision != 501 ||
		v.Resources["pods"] != 500 || v.StorageVersion != "3.7.0" || len(v.Members) != 1 || v.Members[0].Name != "cp1" {
		t.Errorf("%+v", v)
	}
}

func TestEveryDamageIsAVerdictWithTheCheckThatFailed(t *testing.T) {
	good := goodSnapshot(t)
	for _, c := range damage.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			file := writeSnapshot(t, c.Make(good))
			if v := verify(t, file, false); v.OK || v.Check != c.Check || v.Reason == "" {
				t.Errorf("not the check %q: %+v", c.Check, v)
			}
			if v := verify(t, file, true); v.OK != (c.Check == "structure" || c.Check == "keys") || !v.Quick {
				t.Errorf("quick: %+v", v)
			}
		})
	}
}

func TestWhatIsNoFileIsAVerdict(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string]string{
		"absent":      filepath.Join(dir, "absent"),
		"a directory": dir,
		"a FIFO":      fifo,
	} {
		t.Run(name, func(t *testing.T) {
			v := verify(t, file, false)
			if v.OK || v.Check != "file" || v.Reason == "" {
				t.Errorf("%+v", v)
			}
			says := v.Wrong()
			if strings.Contains(says+v.Findings[0].Text, "at byte") ||
				name == "absent" && says != "there is no such file" {
				t.Errorf("it says %q, and %q", says, v.Findings[0].Text)
			}
		})
	}
}

func TestAPlaceIsNamedWhereThereIsOne(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.db")
	for content, want := range map[string]string{
		"":     "length check: the file is empty",
		"\x01": "length check, at byte 1: ",
	} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if says := verify(t, file, false).Wrong(); !strings.HasPrefix(says, want) {
			t.Errorf("of %q it says %q", content, says)
		}
	}
}

func TestASidecarThatTellsOtherwiseMakesASnapshotBad(t *testing.T) {
	good := goodSnapshot(t)
	file := writeSnapshot(t, good)
	v := verify(t, file, false)
	right := Sidecar{SHA256: v.SHA256, Revision: v.Revision, HashKV: v.HashKV}
	cases := []struct {
		name   string
		change func(*Sidecar)
		ok     bool
		quick  bool // still good for --quick
	}{
		{"the same", func(*Sidecar) {}, true, true},
		{"another SHA-256", func(s *Sidecar) { s.SHA256 = "00" }, false, false},
		{"another revision", func(s *Sidecar) { s.Revision++ }, false, true},
		{"another HashKV", func(s *Sidecar) { s.HashKV++ }, false, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := right
			c.change(&s)
			data, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(op.SidecarOf(file), data, 0o600); err != nil {
				t.Fatal(err)
			}
			for quick, ok := range map[bool]bool{false: c.ok, true: c.quick} {
				if v := verify(t, file, quick); v.OK != ok || !ok && (v.Check != "sidecar" || v.Reason == "") {
					t.Errorf("quick %v: %+v", quick, v)
				}
			}
		})
	}
	t.Run("no JSON", func(t *testing.T) {
		if err := os.WriteFile(op.SidecarOf(file), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		if v := verify(t, file, false); v.OK || v.Check != "sidecar" {
			t.Errorf("%+v", v)
		}
	})
	t.Run("a FIFO", func(t *testing.T) {
		if err := os.Remove(op.SidecarOf(file)); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mkfifo(op.SidecarOf(file), 0o600); err != nil {
			t.Fatal(err)
		}
		if v := verify(t, file, false); v.OK || v.Check != "sidecar" {
			t.Errorf("%+v", v)
		}
	})
}

// What is left of a member is often its db alone, which has no SHA-256 at its end.
func TestAPlainCopyOfADbIsToldFromOtherBadFiles(t *testing.T) {
	good := goodSnapshot(t)
	for name, test := range map[string]struct {
		data []byte
		bare bool
	}{
		"the db":            {good[:len(good)-sha256.Size], true},
		"a byte less":       {good[:len(good)-sha256.Size-1], false},
		"pages of anything": {bytes.Repeat([]byte{0xee}, 1<<16), false},
		"a good snapshot":   {good, false},
	} {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, test.data, 0o600); err != nil {
			t.Fatal(err)
		}
		v, err := Verify(t.Context(), file, VerifyOptions{}, nil)
		command := "`etcdpod restore --skip-hash-check " + file + "`"
		if err != nil || strings.Contains(v.Next(), command) != test.bare || (v.Next() != "") != test.bare ||
			strings.Contains(v.Reason, "no SHA-256 at its end") != test.bare {
			t.Errorf("%s: %v; %+v; next: %q", name, err, v, v.Next())
		}
	}
}
