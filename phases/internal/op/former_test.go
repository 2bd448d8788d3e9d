package op_test

import (
	"context"
	"encoding/json"
	"os"
	"path"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
)

// answering is an etcd of one cluster, and remembers what it was asked.
type answering struct {
	op.Etcd
	cluster uint64
	asked   string
}

func (a *answering) Started(context.Context, op.Access) (op.Answer, error) {
	a.asked += "what it is; "
	return op.Answer{ClusterID: a.cluster}, nil
}

func (a *answering) Serving(context.Context, op.Access, int64) (op.Answer, error) {
	a.asked += "a linearizable read; "
	return op.Answer{ClusterID: a.cluster, Members: 1}, nil
}

// Four kinds became one. Under each old name a journal keeps its meaning: what to ask, which
// cluster the etcd must belong to, and whether anything else may run beside it.
func TestAFormerKindWaitsForWhatItWaitedFor(t *testing.T) {
	data, err := os.ReadFile("testdata/kinds.json")
	if err != nil {
		t.Fatal(err)
	}
	var examples []struct {
		Kind string          `json:"kind"`
		Op   json.RawMessage `json:"op"`
	}
	if err := json.Unmarshal(data, &examples); err != nil {
		t.Fatal(err)
	}
	const stray = manifestDir + "/stray.yaml"
	for kind, want := range map[string]struct {
		asks    string
		cluster uint64 // 0: any
		alone   bool
	}{
		"await-etcd":    {"a linearizable read; ", 7, true},
		"await-started": {"a linearizable read; ", 0, false},
		"await-member":  {"a linearizable read; ", 0, false},
		"await-learner": {"what it is; ", 0xc09e, false},
	} {
		for _, cluster := range []uint64{7, 0xc09e} {
			for _, e := range examples {
				if e.Kind != kind {
					continue
				}
				o, err := op.Decode(e.Kind, e.Op)
				if err != nil {
					t.Fatal(err)
				}
				etcd := &answering{cluster: cluster}
				m, target, _ := cutting{make: func() op.Op { return o }}.begin(t, true)
				target.Etcd = etcd
				target.Involved = func([]byte, []string) bool { return true }
				put(t, m, stray, "kind: Pod\nmetadata:\n  name: stray\nspec:\n  containers:\n  - name: c\n")
				if receipt := receiptOf(e.Op); receipt != "" {
					put(t, m, receipt, `{"clusterID":7}`)
					// The run's folder exists.
					put(t, m, path.Join(path.Dir(receipt), "manifests", "other.yaml"), "")
				}
				err = o.Do(t.Context(), target)
				if etcd.asked != want.asks {
					t.Errorf("%s asked for %q", kind, etcd.asked)
				}
				if wrong := want.cluster != 0 && want.cluster != cluster; wrong != (err != nil) ||
					wrong && !strings.Contains(err.Error(), "another etcd answers") {
					t.Errorf("%s: an etcd of the cluster %x: %v", kind, cluster, err)
				}
				if _, err := m.Lstat(stray); (err != nil) != want.alone {
					t.Errorf("%s: a manifest beside it: %v", kind, err)
				}
				if done, err := o.Done(t.Context(), target); done || err != nil {
					t.Errorf("%s is found done: %v", kind, err)
				}
				if err := o.Undo(t.Context(), target); err != nil {
					t.Errorf("%s cannot go back: %v", kind, err)
				}
			}
		}
	}
}

func receiptOf(body json.RawMessage) string {
	var o struct{ Receipt string }
	_ = json.Unmarshal(body, &o)
	return o.Receipt
}

func put(t *testing.T, m *sim.Machine, name, text string) {
	t.Helper()
	err := node.MkdirAll(m.Disk, path.Dir(name), node.Attr{Mode: 0o700})
	if err == nil {
		err = m.Create(name, []byte(text), node.Attr{Mode: 0o600})
	}
	if err != nil {
		t.Fatal(err)
	}
}
