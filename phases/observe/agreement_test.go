package observe

import (
	"errors"
	"slices"
	"testing"

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
