package observe

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/etcd"
)

func TestAMemberThatDiffersFromMostIsNamed(t *testing.T) {
	is := func(name string, hash uint32) memberHash {
		return memberHash{name: name, own: name == "cp1", hash: etcd.Hash{Hash: hash, CompactRevision: 5, Revision: 5}}
	}
	silent := memberHash{name: "cp3", err: errors.New("connection refused")}
	further := is("cp3", 9)
	further.hash.CompactRevision = 6
	type hashes = []memberHash
	for name, c := range map[string]struct {
		all     hashes
		differ  []string
		own     bool
		unasked int
	}{
		"all are equal":               {hashes{is("cp1", 7), is("cp2", 7), is("cp3", 7)}, nil, false, 0},
		"another one differs":         {hashes{is("cp1", 7), is("cp2", 8), is("cp3", 7)}, []string{"cp2"}, false, 0},
		"this one differs":            {hashes{is("cp1", 8), is("cp2", 7), is("cp3", 7)}, []string{"cp1"}, true, 0},
		"two, and nobody knows which": {hashes{is("cp1", 8), is("cp2", 7)}, []string{"cp1", "cp2"}, true, 0},
		"all differ": {hashes{is("cp1", 8), is("cp2", 7), is("cp3", 6)},
			[]string{"cp1", "cp2", "cp3"}, true, 0},
		"one is silent":              {hashes{is("cp1", 7), is("cp2", 7), silent}, nil, false, 1},
		"one is silent, one differs": {hashes{is("cp1", 7), is("cp2", 8), silent}, []string{"cp1", "cp2"}, true, 1},
		"one was compacted since":    {hashes{is("cp1", 7), is("cp2", 7), further}, nil, false, 1},
		"nobody was asked":           {nil, nil, false, 0},
	} {
		a := agreementOf(c.all)
		if !slices.Equal(a.Differ, c.differ) || a.Own != c.own || len(a.Unasked) != c.unasked {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

func TestMembersAreComparedWhereThatIsCheapAndElseItIsSaid(t *testing.T) {
	for name, c := range map[string]struct {
		size, compacted int64
		inPassing       bool
		want            []int64
	}{
		"small":                             {1 << 20, 40, false, []int64{40, 50}},
		"small, never compacted":            {1 << 20, 0, false, []int64{50}},
		"small, never compacted, by status": {1 << 20, 0, true, nil},
		"small, by status":                  {1 << 20, 40, true, []int64{40}},
		"large":                             {2 << 30, 40, false, []int64{40}},
		"large, never compacted":            {2 << 30, 0, false, nil},
	} {
		live := &Live{Revision: 50, InUseBytes: c.size}
		if got := revisionsOf(live, c.compacted, c.inPassing); !slices.Equal(got, c.want) {
			t.Errorf("%s: as of %v", name, got)
		}
	}
	if why := tooLarge(&Live{InUseBytes: 2 << 30}); !strings.Contains(why, "etcdctl endpoint hashkv --cluster") ||
		!strings.Contains(why, "2.0 GiB") {
		t.Errorf("it says %q", why)
	}
}

func TestAnEntryThatNoAPIServerKeepsAliveIsDead(t *testing.T) {
	live := &Live{}
	live.register([]etcd.Entry{{Name: "10.0.0.1", Leased: true, For: 15 * time.Second}, {Name: "10.0.0.2"},
		{Name: "10.0.0.3", Leased: true, For: time.Hour}, {Name: "10.0.0.4", Leased: true}})
	if !slices.Equal(live.APIServers, []string{"10.0.0.1", "10.0.0.4"}) ||
		!slices.Equal(live.DeadAPIServers,
			[]DeadAPIServer{{Address: "10.0.0.2"}, {Address: "10.0.0.3", For: time.Hour}}) {
		t.Errorf("%+v", live)
	}
}
