package sandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sort"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// batch is the number of objects per transaction; etcd allows 128 operations, and 1.5 MiB.
const batch = 64

// Load writes n objects of about size bytes each straight into etcd, at a Kubernetes
// cluster's keys: half of them pods, and every Deployment with its ReplicaSet. The same n and
// size give the same objects.
func (s *Sandbox) Load(ctx context.Context, n, size int) error {
	etcd, err := s.EtcdClient()
	if err != nil {
		return err
	}
	defer etcd.Close()
	random := rand.NewChaCha8([32]byte{byte(n), byte(size)})
	perTxn := max(1, min(batch, 1<<20/(size+512)))
	var ops []clientv3.Op
	for i := range n {
		key, value, err := object(i, size, random)
		if err != nil {
			return err
		}
		if ops = append(ops, clientv3.OpPut(key, value)); len(ops) < perTxn && i < n-1 {
			continue
		}
		if _, err := etcd.Txn(ctx).Then(ops...).Commit(); err != nil {
			return fmt.Errorf("cannot load objects into etcd: %w", err)
		}
		ops = nil
	}
	return nil
}

// object makes the i-th object. Of twenty, ten are pods; the last two are a Deployment and its
// ReplicaSet, with the same namespace and number.
func object(i, size int, random *rand.ChaCha8) (key, value string, err error) {
	type kindAt struct{ at, version, kind string }
	pod := kindAt{"pods", "v1", "Pod"}
	kinds := []kindAt{
		{"configmaps", "v1", "ConfigMap"}, {"configmaps", "v1", "ConfigMap"},
		{"secrets", "v1", "Secret"}, {"serviceaccounts", "v1", "ServiceAccount"},
		{"services/specs", "v1", "Service"}, {"services/endpoints", "v1", "Endpoints"},
		{"events", "v1", "Event"}, {"events", "v1", "Event"},
		{"deployments", "apps/v1", "Deployment"}, {"replicasets", "apps/v1", "ReplicaSet"},
	}
	set, at := i/20, i%20
	kind := pod
	if at >= 10 {
		kind = kinds[at-10]
	}
	namespace, name := fmt.Sprintf("team-%02d", set%50), fmt.Sprintf("app-%05d-%02d", set, at)
	meta := map[string]any{"name": name, "namespace": namespace, "uid": fmt.Sprintf("00000000-0000-4000-8000-%012d", i),
		"creationTimestamp": "2026-01-01T00:00:00Z", "labels": map[string]string{"app": fmt.Sprintf("app-%05d", set)}}
	if kind.kind == "ReplicaSet" {
		meta["ownerReferences"] = []any{map[string]any{"apiVersion": "apps/v1",
			"kind": "Deployment", "controller": true,
			"name": fmt.Sprintf("app-%05d-%02d", set, at-1), "uid": fmt.Sprintf("00000000-0000-4000-8000-%012d", i-1)}}
	}
	filler := make([]byte, size/2)
	random.Read(filler)
	meta["annotations"] = map[string]string{"sandbox/filler": fmt.Sprintf("%x", filler)}
	data, err := json.Marshal(map[string]any{"apiVersion": kind.version, "kind": kind.kind, "metadata": meta})
	return "/registry/" + kind.at + "/" + namespace + "/" + name, string(data), err
}

// AllKeys reads everything in etcd at one revision, except what the control plane renews all the
// time: the API servers' master leases and the leader leases.
func (s *Sandbox) AllKeys(ctx context.Context) (map[string]string, error) {
	etcd, err := s.EtcdClient()
	if err != nil {
		return nil, err
	}
	defer etcd.Close()
	all, from, revision := map[string]string{}, "\x00", int64(0)
	for {
		got, err := etcd.Get(ctx, from, clientv3.WithFromKey(), clientv3.WithLimit(500), clientv3.WithRev(revision))
		if err != nil {
			return nil, fmt.Errorf("cannot read all keys: %w", err)
		}
		for _, kv := range got.Kvs {
			key := string(kv.Key)
			if !strings.HasPrefix(key, "/registry/masterleases/") &&
				!strings.HasPrefix(key, "/registry/leases/kube-system/") {
				all[key] = string(kv.Value)
			}
			from = key + "\x00"
		}
		if !got.More {
			return all, nil
		}
		if revision == 0 {
			revision = got.Header.Revision
		}
	}
}

// Diff lists the keys in which two results of AllKeys differ: "lost KEY", "new KEY" or
// "changed KEY", sorted.
func Diff(before, after map[string]string) []string {
	var lines []string
	for key, value := range before {
		if now, ok := after[key]; !ok {
			lines = append(lines, "lost "+key)
		} else if now != value {
			lines = append(lines, "changed "+key)
		}
	}
	for key := range after {
		if _, ok := before[key]; !ok {
			lines = append(lines, "new "+key)
		}
	}
	sort.Strings(lines)
	return lines
}
