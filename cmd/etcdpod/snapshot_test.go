package main

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// goodSnapshot makes what etcd would send for three pods: the buckets of a member's database (etcd,
// server/storage/schema), followed by its SHA-256.
func goodSnapshot(t *testing.T) []byte {
	t.Helper()
	name := filepath.Join(t.TempDir(), "db")
	db, err := bolt.Open(name, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for bucket, records := range buckets() {
			b, err := tx.CreateBucket([]byte(bucket))
			if err != nil {
				return err
			}
			for k, v := range records {
				if err := b.Put([]byte(k), v); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	return append(data, sum[:]...)
}

func buckets() map[string]map[string][]byte {
	number := func(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
	records := map[string]map[string][]byte{
		"meta": {"consistent_index": number(9), "term": number(2), "storageVersion": []byte("3.6.0")},
		"members": {
			"8e9e05c52164694d": []byte(`{"id":10276657743932975437,"peerURLs":["https://10.0.0.1:2380"],"name":"cp1"}`),
		},
		"cluster":         {"clusterVersion": []byte("3.6.0")},
		"key":             {},
		"lease":           {},
		"auth":            {},
		"authUsers":       {},
		"authRoles":       {},
		"alarm":           {},
		"members_removed": {},
	}
	for i := range 3 {
		main := uint64(2 + i)
		revision := slices.Concat(number(main), []byte("_"), number(0))
		records["key"][string(revision)] = keyValue(fmt.Sprintf("/registry/pods/default/pod-%d", i), byte(main), "{}")
	}
	return records
}

// keyValue is etcd's mvccpb.KeyValue in protobuf's wire format: key, create and mod revision,
// version, value. All lengths are below 128.
func keyValue(key string, revision byte, value string) []byte {
	b := append([]byte{1<<3 | 2, byte(len(key))}, key...)
	b = append(b, 2<<3, revision, 3<<3, revision, 4<<3, 1)
	return append(append(b, 5<<3|2, byte(len(value))), value...)
}
