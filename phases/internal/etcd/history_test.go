package etcd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
)

// bbolt has no checksums: each of these dbs is one that etcd would serve.
func TestADbThatIsNotWhatTheLogWroteIsRefused(t *testing.T) {
	t.Parallel()
	all, _, _ := oneMember(t, (*server).kill)
	for name, test := range map[string]struct {
		change func(tx *bbolt.Tx) error
		want   string
	}{
		"it claims what is only in the log": {func(tx *bbolt.Tx) error {
			return setIndex(tx, func(uint64) uint64 { return all[0].index })
		}, "lacks what entry"},
		"it claims more than was ever written": {func(tx *bbolt.Tx) error {
			return setIndex(tx, func(is uint64) uint64 { return is | 1<<31 })
		}, "lacks what entry"},
		"a letter of a key": {func(tx *bbolt.Tx) error {
			return change(tx, func(v []byte) []byte { return bytes.Replace(v, []byte("try/a/"), []byte("try/q/"), 1) })
		}, "which is said to have created it"},
		"a revision of creation": {func(tx *bbolt.Tx) error {
			return change(tx, func(v []byte) []byte {
				at := bytes.IndexByte(v, 0x10) // field 2
				if at > 0 && v[at+1] > 3 && v[at+1] < 0x80 {
					v[at+1]--
				}
				return v
			})
		}, "revision"},
		"the name of a bucket": {func(tx *bbolt.Tx) error {
			return errors.Join(tx.DeleteBucket([]byte("lease")), makeBucket(tx, "leaqe"))
		}, "no bucket \"lease\""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScratch(t)
			m := mutation{files: maps.Clone(all[0].files)}
			m.put(t, s.dir, s.there)
			if _, err := Inspect(t.Context(), s.dir, ""); err != nil {
				t.Fatalf("unchanged: %v", err)
			}
			path := filepath.Join(s.dir, "member", "snap", "db")
			if err := os.Chmod(path, 0o600); err != nil {
				t.Fatal(err)
			}
			db, err := bbolt.Open(path, 0o600, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(db.Update(test.change), db.Close()); err != nil {
				t.Fatal(err)
			}
			_, err = Inspect(t.Context(), s.dir, "")
			var bad *snapfile.Bad
			if !errors.As(err, &bad) || bad.Check != snapfile.CheckKeys || !strings.Contains(bad.Reason, test.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func makeBucket(tx *bbolt.Tx, name string) error {
	_, err := tx.CreateBucket([]byte(name))
	return err
}

// setIndex changes what a db says is the last entry that it has applied.
func setIndex(tx *bbolt.Tx, to func(is uint64) uint64) error {
	meta, name := tx.Bucket([]byte("meta")), []byte("consistent_index")
	return meta.Put(name, binary.BigEndian.AppendUint64(nil, to(binary.BigEndian.Uint64(meta.Get(name)))))
}

// change changes the newest record of a key below /registry that it can change.
func change(tx *bbolt.Tx, to func(value []byte) []byte) error {
	keys := tx.Bucket([]byte("key"))
	c := keys.Cursor()
	for k, v := c.Last(); k != nil; k, v = c.Prev() {
		if changed := to(bytes.Clone(v)); len(k) == 17 && !bytes.Equal(changed, v) {
			return keys.Put(bytes.Clone(k), changed)
		}
	}
	return errors.New("nothing to change")
}
