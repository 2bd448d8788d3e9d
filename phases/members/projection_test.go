package members

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// of is a cluster of members cp1, cp2, …: v is a healthy voter, d a dead one, b one that is behind,
// u one that never started, l a learner.
func of(members string) *ClusterFacts {
	c := &ClusterFacts{ID: 1}
	for i, kind := range members {
		m := MemberFacts{Member: op.Member{ID: op.ID(i + 1), Name: fmt.Sprintf("cp%d", i+1),
			PeerURLs: []string{fmt.Sprintf("https://10.0.0.1%d:2380", i+1)}}, Version: "3.6.5", Applied: 100_000,
			ClientURLs: []string{fmt.Sprintf("https://10.0.0.1%d:2379", i+1)}}
		switch kind {
		case 'd':
			m.Error, m.Applied = errors.New("connection refused"), 0
		case 'b':
			m.Applied = 90_000
		case 'u':
			m.Name, m.ClientURLs, m.Error, m.Applied = "", nil, errors.New("it has not started yet"), 0
		case 'l':
			m.IsLearner = true
		}
		c.Members = append(c.Members, m)
	}
	return c
}

func TestARemovalIsRefusedByWhatTheClusterWouldBe(t *testing.T) {
	for _, tt := range []struct {
		members, gone string // gone: the n-th
		says          string // empty: it is not refused
	}{
		{"v", "1", "the last voting member"},
		{"vl", "1", "a learner is joining"},
		{"vl", "2", ""},
		{"vv", "2", ""}, // two survive no more losses than one
		{"vd", "1", "lose its quorum at once (healthy others: 0 of 1): cp2 does not answer"},
		{"vvd", "3", ""},
		{"vvd", "2", "lose its quorum at once (healthy others: 1 of 2): cp3 does not answer"},
		{"vvv", "3", "the next loss costs the quorum: 2 of 2 members would be healthy, and 2 are needed"},
		{"vvb", "1", "cp3 is 10000 entries behind"},
		{"vvb", "3", ""},
		{"vvvv", "4", ""},
		{"vvvvd", "1", "the next loss costs the quorum"},
		{"vvvvd", "5", ""},
		{"vvvvv", "5", ""},
		{"vvvdd", "4", ""},
		{"vvvdd", "1", "lose its quorum at once"},
		{"vvvl", "1", "a learner is joining, 4 at https://10.0.0.14:2380"},
		{"vvvu", "1", "another member was added and never started: 4 at https://10.0.0.14:2380"},
		{"vvvu", "4", ""},
		{"vvuu", "4", "another member was added and never started: 3"},
	} {
		c := of(tt.members)
		err := c.checkRemoval(c.Members[tt.gone[0]-'1'], false)
		var refused *engine.RefusedError
		if (err != nil) != (tt.says != "") || err != nil && (!errors.As(err, &refused) || refused.Hint == "" ||
			!strings.Contains(err.Error(), tt.says)) {
			t.Errorf("%s without %s: %v, hint %q", tt.members, tt.gone, err, engine.Hint(err))
		}
	}
}

func TestOnlyTheSpareCanBeGivenUp(t *testing.T) {
	for members, refused := range map[string]bool{"vvv": false, "vvd": true, "v": true} {
		c := of(members)
		if err := c.checkRemoval(c.Members[0], true); (err != nil) != refused {
			t.Errorf("%s: %v", members, err)
		}
	}
}

func TestNoMemberIsRemovedWhereItMayComeBackOrWithoutAQuorum(t *testing.T) {
	for version, refused := range map[string]bool{"3.5.25": true, "3.5.26": false, "3.5.35": false, "3.6.0": false,
		"": false} {
		c := of("vvd")
		c.Members[1].Version = version
		if err := c.checkRemoval(c.Members[2], false); (err != nil) != refused {
			t.Errorf("%s: %v", version, err)
		}
	}
	c := of("vdd")
	c.QuorumError = errors.New("no leader")
	if err := c.checkRemoval(c.Members[2], true); err == nil || !strings.Contains(engine.Hint(err), "quorum-lost") {
		t.Errorf("without a quorum: %v, hint %q", err, engine.Hint(err))
	}
}

func TestAMemberIsWhatExactlyOneIsCalled(t *testing.T) {
	c := of("vvvu")
	c.Members[1].Name = "cp1"
	for word, want := range map[string]string{
		"cp3": "3", "3": "3", "0x3": "3", "https://10.0.0.13:2380": "3", "https://10.0.0.13:2379/": "3", "4": "4",
		"https://10.0.0.14:2380": "4",
		"cp1":                    "may be any of 1 at https://10.0.0.11:2380, 2 at https://10.0.0.12:2380",
		"cp9":                    "the cluster has no member cp9", "": "the cluster has no member",
	} {
		m, err := c.called(word)
		if err == nil && m.ID.String() != want || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q is %s, %v", word, m.ID, err)
		}
	}
}

// Whoever stops a member first takes its vote away from the decision to remove it.
func TestAMemberIsRemovedWhileItRunsWhereStoppingItWouldCostTheQuorum(t *testing.T) {
	for _, tt := range []struct {
		members, gone string
		needed        bool
	}{
		{"vv", "2", true}, {"vvvd", "1", true}, {"vvvvdd", "1", true}, {"vvvb", "1", true},
		{"vvv", "3", false}, {"vvd", "3", false}, {"vvvv", "4", false}, {"vvvd", "4", false},
		{"vvbd", "4", false}, // it is dead: nothing is stopped
		{"vd", "2", true},    // who says so has heard a quorum: it runs, and does not answer
		{"vl", "2", false}, {"vvl", "3", false},
	} {
		c := of(tt.members)
		if got := c.needs(c.Members[tt.gone[0]-'1']); got != tt.needed {
			t.Errorf("%s without %s: %v", tt.members, tt.gone, got)
		}
	}
}
