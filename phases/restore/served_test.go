package restore

import (
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// An API server that reads something different from the others is noticed before the run is closed;
// a person who has looked may still close it.
func TestAPIServersThatReadDifferentThingsKeepTheRunOpen(t *testing.T) {
	for _, mended := range []bool{true, false} {
		c := newCluster(t, "cp1", "cp2", "cp3")
		c.Nodes["cp2"].Machine.StrayPods = 1
		err := c.Run("cp1")
		if !crashtest.IsOpen(err) || !strings.Contains(err.Error(), "1 pods on cp1, 2 on cp2") ||
			!strings.Contains(engine.Hint(err), "--skip-phases verify-restored") {
			t.Fatalf("it ended with %v, hint %q", err, engine.Hint(err))
		}
		if c.Settled() {
			t.Error("the run was closed")
		}
		if mended {
			c.Nodes["cp2"].Machine.StrayPods = 0
			err = c.Obey(crashtest.Order{At: "cp3"})
		} else {
			err = c.Begin("cp3").Resume(t.Context(), "verify-restored")
			c.Rest()
		}
		if v, wrong := c.Verdict(); err != nil || wrong != nil || v != "new" || !c.Settled() {
			t.Errorf("mended %v: it ended %s: %v %v", mended, v, err, wrong)
		}
	}
}

func TestWhatAllServersShowIsHeldAgainstEachOther(t *testing.T) {
	counts := func(pods, secrets int64) []op.Count {
		return []op.Count{{Resource: "pods", Objects: pods}, {Resource: "secrets", Objects: secrets}}
	}
	whole := served{Server: true, Revision: 9, Counts: counts(4, 2), Member: true, Hash: 7, Compacted: 3}
	change := func(f func(*served)) served { s := whole; f(&s); return s }
	for name, test := range map[string]struct {
		all  []served
		want string // what it says, or the error
		bad  bool
	}{
		"all alike": {[]served{whole, whole, whole},
			"all 3 API servers read the same at revision 9: 6 objects; etcd members that hold the same: 3", false},
		"one server only": {[]served{whole, {Member: true, Hash: 7, Compacted: 3}}, "", false},
		"one node without etcd": {[]served{whole, change(func(s *served) { s.Member, s.Hash = false, 0 })},
			"all 2 API servers read the same at revision 9: 6 objects; etcd members that hold the same: 1", false},
		"another count": {[]served{{}, whole, change(func(s *served) { s.Counts = counts(4, 1) })},
			"2 secrets on b, 1 on c", true},
		"another hash": {[]served{whole, change(func(s *served) { s.Hash = 8 })},
			"HashKV 00000007 on a, 00000008 on b", true},
		"another hash, compacted meanwhile": {[]served{whole, change(func(s *served) { s.Hash, s.Compacted = 8, 5 })},
			"all 2 API servers", false},
		"a resource that one knows": {[]served{
			whole, change(func(s *served) { s.Counts = append(counts(4, 2), op.Count{Resource: "new", Objects: 5}) }),
		}, "all 2 API servers", false},
	} {
		t.Run(name, func(t *testing.T) {
			said, err := sameServed([]string{"a", "b", "c"}, test.all)
			if err != nil {
				said = err.Error()
			}
			if (err != nil) != test.bad || !strings.Contains(said, test.want) || test.want == "" && said != "" {
				t.Errorf("it says %q", said)
			}
		})
	}
}
