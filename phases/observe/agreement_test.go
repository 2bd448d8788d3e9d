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
		want            []int64
	}{
		"small":                  {1 << 20, 40, []int64{40, 50}},
		"small, never compacted": {1 << 20, 0, []int64{50}},
		"large":                  {2 << 30, 40, []int64{40}},
		"large, never compacted": {2 << 30, 0, nil},
	} {
		live := &Live{Revision: 50, InUseBytes: c.size}
		if got := revisionsOf(live, c.compacted); !slices.Equal(got, c.want) {
			t.Errorf("%s: as of %v", name, got)
		}
	}
	if why := tooLarge(&Live{InUseBytes: 2 << 30}); !strings.Contains(why, "etcdctl endpoint hashkv --cluster") ||
		!strings.Contains(why, "2.0 GiB") {
		t.Errorf("it says %q", why)
	}
}

// In passing, nobody is made to hash all it holds: a member has its hash ready if it has compacted
// since it was started.
func TestAMemberThatHasNoHashReadyIsNotAskedInPassing(t *testing.T) {
	has := func(compactions, revision int64) memberFigures {
		return memberFigures{Figures: Figures{Compactions: compactions, CompactRevision: revision}}
	}
	for name, c := range map[string]struct {
		f    memberFigures
		size int64
		want string
	}{
		"it has compacted":                   {has(1, 40), 2 << 30, ""},
		"it was restarted since":             {has(0, 40), 2 << 30, "2.0 GiB, while its writes wait for about 0.75 s"},
		"it was restarted, and holds little": {has(0, 40), 1 << 20, ""},
		"it was never compacted":             {has(0, -1), 1 << 20, "nothing has compacted it yet"},
		"it does not answer":                 {memberFigures{err: errors.New("no answer")}, 1 << 20, "no answer"},
	} {
		if got := notAtOnce(c.f, c.size); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q", name, got)
		}
	}
	for name, c := range map[string]struct {
		all  []memberFigures
		want bool
	}{
		"nobody has":            {[]memberFigures{has(0, -1), has(0, 0)}, true},
		"they were restarted":   {[]memberFigures{has(0, 40), has(0, 40)}, false},
		"nobody says anything":  {[]memberFigures{{err: errors.New("x")}}, false},
		"who says so has never": {[]memberFigures{{err: errors.New("x")}, has(0, -1)}, true},
	} {
		if neverCompacted(c.all) != c.want {
			t.Errorf("%s: that nothing has compacted is %v", name, !c.want)
		}
	}
}

// Two members may have been compacted to one revision from different ones, as one that computes its
// hash anew: then nothing can be said of these two.
func TestOnlyHashesOfTheSameRevisionsAreCompared(t *testing.T) {
	is := func(name string, hash uint32, revision, compacted int64) memberHash {
		return memberHash{name: name, own: name == "cp1", hash: etcd.Hash{Hash: hash, Revision: revision,
			CompactRevision: compacted}}
	}
	a := agreementOf([]memberHash{is("cp1", 7, 40, 40), is("cp2", 8, 40, 30), is("cp3", 9, 40, 30)})
	if !slices.Equal(a.Differ, []string{"cp2", "cp3"}) || a.Own || a.Compared != 2 || len(a.Unasked) != 1 ||
		a.Hash != (etcd.Hash{}) {
		t.Errorf("%+v", a)
	}
	a = agreementOf([]memberHash{is("cp1", 7, 40, 30), is("cp2", 7, 40, 30), is("cp3", 9, 50, 30)})
	if len(a.Differ) > 0 || a.Compared != 2 || a.Hash.Hash != 7 || len(a.Unasked) != 1 {
		t.Errorf("%+v", a)
	}
	a = agreementOf([]memberHash{is("cp1", 7, 40, 30), is("cp2", 8, 40, 40)})
	if len(a.Differ) > 0 || a.Compared != 0 || len(a.Unasked) != 2 {
		t.Errorf("%+v", a)
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
