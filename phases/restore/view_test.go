package restore

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/phases/together"
)

func memberCalled(name string, id uint64) observe.Member {
	return observe.Member{ID: op.ID(id), Name: name, PeerURLs: []string{"https://" + name + ":2380"}}
}

func surveyOf(name string, id uint64, live ...observe.Member) Survey {
	m := memberCalled(name, id)
	s := Survey{Node: name, Member: &SharedMember{name, m.PeerURLs}, ClientURLs: []string{"https://" + name + ":2379"},
		APIServer: true, Addresses: []string{"addr-" + name}, KnownRevision: int64(id)}
	if len(live) > 0 {
		s.Live = &observe.Live{Members: live, APIServers: []string{"addr-" + name}}
	}
	return s
}

// threeSeen is a healthy cluster of three members, all on the nodes.
func threeSeen() (view, journal.Cluster) {
	all := []observe.Member{memberCalled("cp1", 1), memberCalled("cp2", 2), memberCalled("cp3", 3)}
	v := view{surveys: map[string]Survey{}}
	c := journal.Cluster{Coordinator: "cp1"}
	for i, m := range all {
		v.surveys[m.Name] = surveyOf(m.Name, uint64(i+1), all...)
		c.Nodes = append(c.Nodes, journal.Peer{Name: m.Name, Host: m.Name})
	}
	return v, c
}

func TestWhatIsTheSameForAllNodes(t *testing.T) {
	v, c := threeSeen()
	j, err := v.joint(c)
	if err != nil {
		t.Fatal(err)
	}
	if got := initialCluster(j.Members); got != "cp1=https://cp1:2380,cp2=https://cp2:2380,cp3=https://cp3:2380" {
		t.Errorf("the members are %s", got)
	}
	if j.KnownRevision != 3 || j.Leader != "cp1" || len(j.OldURLs) != 3 || len(j.ClientURLs) != 3 {
		t.Errorf("got %+v", j)
	}
	v.options.Rejoin = true
	if j, err = v.joint(c); err != nil {
		t.Fatal(err)
	}
	if initialCluster(j.Members) != "cp1=https://cp1:2380" ||
		initialCluster(j.Rejoin) != "cp2=https://cp2:2380,cp3=https://cp3:2380" ||
		!slices.Equal(j.Through, []string{"https://cp1:2379"}) {
		t.Errorf("to be joined: %+v", j)
	}
}

func TestAllNodesTogetherAreRefused(t *testing.T) {
	for _, tt := range []struct {
		name string
		make func(*view, *journal.Cluster)
		want string
	}{
		{"a member that is not listed", func(v *view, c *journal.Cluster) {
			delete(v.surveys, "cp3")
			c.Nodes = c.Nodes[:2]
		}, "the cluster has members that are not in --nodes: cp3"},
		{"an API server that is not listed", func(v *view, _ *journal.Cluster) {
			v.surveys["cp1"].Live.APIServers = append(v.surveys["cp1"].Live.APIServers, "10.9.9.9")
			v.surveys["cp1"].Live.APIServers = append(v.surveys["cp1"].Live.APIServers, "10.9.9.8")
			s := v.surveys["cp2"]
			s.Reached = []string{"10.9.9.8"}
			v.surveys["cp2"] = s
		}, "10.9.9.8 (answers), 10.9.9.9 (does not answer here)"},
		{"two of one name", func(v *view, _ *journal.Cluster) { s := v.surveys["cp2"]; s.Member.Name = "cp1" },
			"two of the nodes share the name cp1"},
		{"two of one URL", func(v *view, _ *journal.Cluster) {
			v.surveys["cp2"].Member.PeerURLs[0] = "https://cp1:2380"
		}, "two of the nodes share https://cp1:2380"},
		{"no etcd anywhere", func(v *view, _ *journal.Cluster) {
			for name, s := range v.surveys {
				s.Member = nil
				v.surveys[name] = s
			}
		}, "none of the nodes runs etcd"},
		{"nothing tells of revisions", func(v *view, _ *journal.Cluster) {
			for name, s := range v.surveys {
				s.KnownRevision = 0
				v.surveys[name] = s
			}
		}, "nothing shows which revision etcd had reached"},
		{"to be joined, but no etcd on the coordinator", func(v *view, _ *journal.Cluster) {
			v.options.Rejoin = true
			s := v.surveys["cp1"]
			s.Member = nil
			v.surveys["cp1"] = s
		}, "runs no etcd"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v, c := threeSeen()
			tt.make(&v, &c)
			_, err := v.joint(c)
			var refused *engine.RefusedError
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want a refusal with %q", err, tt.want)
			}
		})
	}
}

func TestMembersThatAreLost(t *testing.T) {
	v, c := threeSeen()
	delete(v.surveys, "cp3")
	c.Nodes = c.Nodes[:2]
	v.options.Lost = []string{"cp3"}
	live := v.surveys["cp1"].Live
	live.APIServers = append(live.APIServers, "cp3") // at the host of its peer URL
	j, err := v.joint(c)
	if err != nil || len(j.Members) != 2 {
		t.Fatalf("%v %+v", err, j)
	}
	if got := v.strangers(); !slices.Equal(got, []string{"https://cp3:2380"}) {
		t.Errorf("nobody may answer at %v", got)
	}
	if v.risk() != "" || len(j.Left) > 0 {
		t.Errorf("one of three is no quorum: %s", v.risk())
	}
	delete(v.surveys, "cp2")
	v.options.Lost = []string{"cp2", "cp3"}
	c.Nodes = c.Nodes[:1]
	if j, err = v.joint(c); err != nil || len(j.Left) != 2 ||
		!strings.Contains(v.risk(), "2 of the old cluster's 3 voting members") {
		t.Errorf("%v %+v %s", err, j.Left, v.risk())
	}
}

// On new machines the live members are the present ones; the snapshot's names and addresses belong
// to machines that may be gone, and nobody may answer there.
func TestNewMachinesHaveOtherNamesThanTheSnapshot(t *testing.T) {
	v, c := threeSeen()
	v.source.Members = []observe.Member{memberCalled("old1", 7), memberCalled("old2", 8)}
	j, err := v.joint(c)
	if err != nil {
		t.Fatal(err)
	}
	if got := v.strangers(); !slices.Equal(got, []string{"https://old1:2380", "https://old2:2380"}) {
		t.Errorf("nobody may answer at %v", got)
	}
	if !slices.Contains(j.OldHosts, "old2") {
		t.Errorf("hosts of old members: %v", j.OldHosts)
	}
}

func TestOtherClientsAreNamed(t *testing.T) {
	v, _ := threeSeen()
	s := v.surveys["cp1"]
	s.Clients = []string{"127.0.0.1", "addr-cp2", "10.7.7.7"}
	v.surveys["cp1"] = s
	notes := v.notes()
	if len(notes) != 1 || notes[0].Code != finding.ClientsToRestart || notes[0].Subject != "10.7.7.7" ||
		!strings.Contains(notes[0].Text, "restart what runs on 10.7.7.7 ") {
		t.Errorf("got %+v", notes)
	}
}

func TestNodesAreReadFromTheCommandLine(t *testing.T) {
	got, err := together.ParseNodes([]string{"cp1", " cp2=10.0.0.2 ", "cp3=root@cp3.example"})
	if err != nil || !slices.Equal(got, []journal.Peer{{Name: "cp1", Host: "cp1"},
		{Name: "cp2", Host: "10.0.0.2"}, {Name: "cp3", Host: "root@cp3.example"}}) {
		t.Errorf("%v %v", got, err)
	}
	for _, bad := range [][]string{{}, {""}, {"=host"}, {"cp1="}, {"cp1=-oProxyCommand=x"}} {
		var usage *engine.UsageError
		if _, err := together.ParseNodes(bad); !errors.As(err, &usage) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
