package members

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/apiserver"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/observe"
)

func TestAReplacementThatMakesNoSenseIsWrongUsage(t *testing.T) {
	with := journal.Peer{Name: "cp4", Host: "10.0.0.14"}
	for want, o := range map[string]ReplaceOptions{
		"":                                {Member: "cp3", With: with, Nodes: []journal.Peer{{Name: "cp1"}}},
		"replace needs a member":          {With: with},
		"a machine for the new member":    {Member: "cp3"},
		"cp4 is in --with and in --nodes": {Member: "cp3", With: with, Nodes: []journal.Peer{{Name: "cp4"}}},
	} {
		err := o.Check()
		var usage *engine.UsageError
		if errors.As(err, &usage) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v, and not %q", err, want)
		}
	}
}

// A member that serves has to be on one of the nodes, and one that has failed must not be.
func TestTheOldMemberIsWhereItCanBeReplaced(t *testing.T) {
	for _, tt := range []struct {
		alive     bool
		node      string
		why, hint string
	}{
		{false, "", "", ""},
		{true, "cp3", "", ""},
		{true, "", "cp3 serves, on none of the nodes of this run", "add the node of cp3 to --nodes"},
		{false, "cp3", "etcd of cp3 is on cp3, in --nodes", "take it out of --nodes"},
	} {
		o := replacer{ReplaceOptions: ReplaceOptions{With: journal.Peer{Name: "cp4"}},
			Removal: Removal{Name: "cp3", Node: tt.node}, Alive: tt.alive}
		crashtest.Refused(t, o.checkOld(), tt.why, tt.hint)
	}
}

// A member that serves cannot be taken over by its own machine: that is given in --with alone.
func TestAMemberThatServesIsNotReplacedOnItsOwnMachine(t *testing.T) {
	o := replacer{ReplaceOptions: ReplaceOptions{With: journal.Peer{Name: "cp3"}}, Removal: Removal{Name: "cp3"},
		Alive: true}
	crashtest.Refused(t, o.checkOld(), "cp3 still serves, on the machine in --with", "power it off")
	if hint := engine.Hint(o.checkOld()); strings.Contains(hint, "add the node of cp3") {
		t.Errorf("it sends to what is refused: %q", hint)
	}
}

// fresh is the new machine cp4, as it finds the cluster of whose members the third has failed.
func fresh(members string) *Facts {
	f := &Facts{Facts: &observe.Facts{Node: "cp4"},
		Init: &InitFacts{DataDir: "/var/lib/etcd", ManifestPath: "/etc/kubernetes/manifests/etcd.yaml",
			Pod: &observe.EtcdPod{Name: "cp4", PeerURLs: []string{"https://10.0.0.14:2380"}}},
		Join: &JoinFacts{Cluster: of(members)}}
	for i, m := range f.Join.Cluster.Members {
		if m.PeerURLs[0] == f.Init.Pod.PeerURLs[0] {
			f.Join.Own = &f.Join.Cluster.Members[i]
		}
	}
	return f
}

// What could keep the new machine out is looked for in the cluster as it will be.
func TestTheNewMachineIsJudgedByTheClusterWithoutTheFailedMember(t *testing.T) {
	o := replacer{ReplaceOptions: ReplaceOptions{With: journal.Peer{Name: "cp4"}}}
	for _, tt := range []struct {
		members   string
		spoil     func(*Facts)
		why, hint string
	}{
		{"vvd", nil, "", ""},
		{"vvdd", func(f *Facts) { f.Join.without(4) }, "", ""}, // cp4 itself, with a new disk
		{"vvv", func(f *Facts) { f.Node = "cp9" }, "is for the node cp9", "nodeRegistration.name"},
		{"vvd", func(f *Facts) { f.Init.There = []byte("kind: Pod") }, "would not be the only etcd on cp4",
			"move it and kube-apiserver.yaml out of the directory"},
		{"vvdv", nil, "where the cluster already has member 4 (cp4)", "give another machine as --with"},
		{"vvdd", nil, "already has member 4", "another machine"},
		{"vvddd", nil, "already has member 4", "another machine"},
	} {
		f := fresh(tt.members)
		f.Join.without(3)
		if tt.spoil != nil {
			tt.spoil(f)
		}
		crashtest.Refused(t, engine.Passes(f, o.checkNode, checkCleared, checkNoMember), tt.why, tt.hint)
		if tt.why == "" {
			crashtest.Refused(t, engine.Passes(f, checkHealthy, checkNobodyElse, checkName), "", "")
		}
	}
	whole := fresh("vvd") // with the failed one it would be refused
	crashtest.Refused(t, checkHealthy(whole), "cp3", "etcdpod remove ID")
	two := fresh("vvdvd")
	two.Join.Own = nil
	two.Join.without(3)
	crashtest.Refused(t, checkHealthy(two), "cp5", "remove those that are gone for good")
}

// The phases that only one kind of node has a part in have no operations on the other.
func TestEachNodeOfAReplacementHasItsOwnPart(t *testing.T) {
	o := replacer{Newcomer: Newcomer{ClientURLs: []string{"https://10.0.0.14:2379", "https://b"}}}
	for _, p := range o.workflow().Phases {
		if p.Plan == nil || p.Short == "" || p.Name == "" {
			t.Errorf("%q is no phase", p.Name)
		}
	}
	names := o.naming(apiserver.EtcdFlags{Servers: []string{"https://a", "https://b"}})
	if got := fmt.Sprint(names.Servers); got != "[https://a https://b https://10.0.0.14:2379]" {
		t.Errorf("an API server is to use %s", got)
	}
}

func TestARunThatStaysOpenSaysHowToEndItWithoutTheNewMachine(t *testing.T) {
	for cause, want := range map[string]string{
		"cp4: the learner does not catch up: nothing has arrived for 4m0s": "resume --lost NODE",
		"cp4: someone has removed the learner https://10.0.0.14:2380":      "kubeadm reset",
		"cp1: member cp3 is not removed: not within 2m0s":                  "etcdpod members",
		"cp1: the API server is not ready":                                 "",
		"the new machine cp4 does not answer":                              "resume --lost cp4",
	} {
		if says := adviceOnReplacement(errors.New(cause)); !strings.Contains(says, want) || want == "" && says != "" {
			t.Errorf("%s: %q", cause, says)
		}
	}
}
