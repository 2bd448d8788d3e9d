package members

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/etcd"
)

// heard is what members cp1, cp2 and the learner cp4 say, as far as they answer.
func heard(t *testing.T, members []etcd.Member, answering ...uint64) *ClusterFacts {
	t.Helper()
	var said []etcd.Status
	for _, m := range members {
		one := etcd.Status{Endpoint: m.ClientURLs[0], Err: errors.New("connection refused")}
		for _, id := range answering {
			if at := fmt.Sprintf("https://10.0.0.1%d:2379", id); at == one.Endpoint {
				one = etcd.Status{Endpoint: at, ClusterID: 9, MemberID: id, Version: "3.6.5", RaftApplied: 100}
			}
		}
		said = append(said, one)
	}
	c := &ClusterFacts{}
	if err := c.take(members, said); err != nil {
		t.Fatal(err)
	}
	return c
}

func someMembers() (all []etcd.Member) {
	for _, id := range []uint64{1, 2, 4} {
		all = append(all, etcd.Member{ID: id, Name: fmt.Sprintf("cp%d", id), IsLearner: id == 4,
			PeerURLs:   []string{fmt.Sprintf("https://10.0.0.1%d:2380", id)},
			ClientURLs: []string{fmt.Sprintf("https://10.0.0.1%d:2379", id)}})
	}
	return all
}

// Whoever answers at the URL of a dead member is not that member.
func TestAMemberAnswersOnlyForItself(t *testing.T) {
	all := someMembers()
	all[1].ClientURLs = all[0].ClientURLs
	c := heard(t, all, 1, 4)
	if m := c.Members[1]; m.Error == nil || !strings.Contains(m.Error.Error(), "another member, 1, answers at") {
		t.Errorf("cp2, at the URL of cp1: %v", m.Error)
	}
	for _, i := range []int{0, 2} {
		if m := c.Members[i]; m.Error != nil {
			t.Errorf("%s: %v", m.Name, m.Error)
		}
	}
}

// What runs outside --nodes is not removed, whether it votes or not, and whoever it answers.
func TestWhatRunsElsewhereIsNotTakenForDead(t *testing.T) {
	for _, tt := range []struct {
		gone    string
		answers []uint64
		peers   bool
		runs    bool
	}{
		{"cp4", []uint64{1, 2, 4}, false, true},
		{"cp2", []uint64{1, 2}, false, true},
		{"cp2", []uint64{1}, true, true}, // its client port is blocked
		{"cp2", []uint64{1}, false, false},
		{"cp4", []uint64{1, 2}, false, false},
	} {
		c := heard(t, someMembers(), tt.answers...)
		gone, err := c.called(tt.gone)
		if err != nil {
			t.Fatal(err)
		}
		gone.ServesPeers = tt.peers
		err = Removal{Gone: gone.Member, Name: tt.gone}.checkStopped(gone)
		if (err != nil) != tt.runs || err != nil && !strings.Contains(engine.Hint(err), "add its node to --nodes") {
			t.Errorf("%s while %v answer: %v (%s)", tt.gone, tt.answers, err, engine.Hint(err))
		}
	}
	if err := heard(t, someMembers(), 1).Members[2].Error; strings.Contains(err.Error(), "not started") {
		t.Errorf("a learner that has started: %v", err)
	}
}

// A lease ends within seconds of its API server: where there is one, the node lives.
func TestAnAPIServerThatLivesBesideASilentMemberIsNamed(t *testing.T) {
	c := heard(t, someMembers(), 1)
	gone, err := c.called("cp2")
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, n := range (Removal{Gone: gone.Member, Name: "cp2"}).notes(gone, []RemoveSurvey{{Node: "cp1",
		Addresses: []string{"10.0.0.11"}, APIServers: []string{"10.0.0.11", "10.0.0.12"}}}) {
		texts = append(texts, n.Text)
	}
	if all := strings.Join(texts, "\n"); !strings.Contains(all, "use this etcd: 10.0.0.12.") {
		t.Errorf("it says:\n%s", all)
	}
}
