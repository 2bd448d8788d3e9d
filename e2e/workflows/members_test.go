package workflows

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/etcdpod/etcdpod/e2e/binaries"
	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

// listing is what programs read of `members -o json`.
type listing struct {
	ClusterID, Through, Leader string
	Quorum                     bool
	Members                    []listedMember
	OtherAPIServers            []listedServer
	Findings                   []struct{ Code, Subject, Text string }
}

type listedMember struct {
	ID, Name, Role, Error, Version, Node string
	StorageVersion                       string
	Started, Own, Answers                bool
	PeerURLs, ClientURLs, Alarms         []string
	SilentSince                          time.Time
	SizeBytes, AppliedIndex              int64
	Behind                               *int64
	APIServers                           []listedServer
}

type listedServer struct {
	Node, Address string
	Alive         *bool
}

func (l listing) named(t *testing.T, name string) listedMember {
	t.Helper()
	i := slices.IndexFunc(l.Members, func(m listedMember) bool { return m.Name == name })
	if i < 0 {
		t.Fatalf("%s is not among %+v", name, l.Members)
	}
	return l.Members[i]
}

func (l listing) codes() (codes []string) {
	for _, f := range l.Findings {
		codes = append(codes, f.Code)
	}
	return codes
}

// servers are the nodes of API servers, those that are down in brackets.
func servers(all []listedServer) string {
	var names []string
	for _, s := range all {
		if s.Alive != nil && !*s.Alive {
			s.Node = "(" + s.Node + ")"
		}
		names = append(names, s.Node)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

func (c *cluster) members(on string) (l listing) {
	c.t.Helper()
	must(c.t, json.Unmarshal([]byte(c.typed(on, "etcdpod members -o json", 0)), &l))
	return l
}

// mirror stores the pod of a node's API server, as its kubelet would.
func (n *node) mirror(etcdServers string) {
	n.put("/registry/pods/kube-system/kube-apiserver-"+n.Node, fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod",`+
		`"metadata":{"name":"kube-apiserver-%[1]s","namespace":"kube-system"},"spec":{"nodeName":"%[1]s",`+
		`"containers":[{"name":"kube-apiserver","image":"a","command":["kube-apiserver","--etcd-servers=%[3]s"]}]},`+
		`"status":{"hostIP":"%[2]s"}}`, n.Node, n.Address, etcdServers))
}

// mirrorEtcd stores the pod of a node's etcd as a real API server does, on a node of another name.
func (n *node) mirrorEtcd(on string) {
	n.t.Helper()
	pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "etcd-" + on, Namespace: "kube-system"},
		Spec: corev1.PodSpec{NodeName: on, Containers: []corev1.Container{{Name: "etcd", Image: "e",
			Command: []string{"etcd", "--name=x", "--initial-advertise-peer-urls=" + n.PeerURL()}}}}}
	raw, err := pod.Marshal()
	must(n.t, err)
	whole, err := (&runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: "v1", Kind: "Pod"}, Raw: raw}).Marshal()
	must(n.t, err)
	n.put("/registry/pods/kube-system/"+pod.Name, "k8s\x00"+string(whole))
}

// stopEtcd ends a node's etcd for as long as the kubelet is stopped.
func (n *node) stopEtcd() {
	n.t.Helper()
	must(n.t, n.StopKubelet(n.ctx))
	must(n.t, n.Kill(n.ctx, "etcd"))
}

func TestTheMembersOfEveryEtcdAreListedAndLedInTurn(t *testing.T) {
	for _, version := range binaries.EtcdVersions() {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(context.Background(), limit)
			t.Cleanup(cancel)
			two, err := sandbox.NewControlPlanes(ctx, sandbox.Options{EtcdBinary: etcdBinary(t, version),
				NoAPIServer: true}, "cp1", "cp2")
			must(t, err)
			t.Cleanup(func() { must(t, two.Destroy()) })
			c := &cluster{ControlPlanes: two, t: t, ctx: ctx}
			for _, s := range two.Nodes {
				c.nodes = append(c.nodes, &node{Sandbox: s, t: t, ctx: ctx})
			}
			must(t, c.WaitReady(ctx))
			// The manifest of the first names nobody else, and no run was on several nodes yet.
			for _, words := range []string{"remove", "members move-leader", "status --nodes", "restore --lost"} {
				c.typed("cp1", "etcdpod __complete -- "+words+" ''", 0, "cp1", "cp2")
			}
			first := c.leads()
			if m := c.moveLeader("cp2", "--yes"); !m.Moved || m.From.Name != first || c.leads() != m.To.Name {
				t.Errorf("%+v", m)
			}
			l := c.members("cp2")
			for _, name := range []string{"cp1", "cp2"} {
				if m := l.named(t, name); !m.Answers || m.Version != version || m.AppliedIndex == 0 || m.Node != "" &&
					m.Node != name {
					t.Errorf("%s is listed as %+v", name, m)
				}
			}
			if !l.Quorum || len(l.Findings)+len(l.OtherAPIServers) > 0 {
				t.Errorf("the members are %+v", l)
			}
		})
	}
}

func TestTheMembersAreListedThroughAnyThatAnswers(t *testing.T) {
	c := startTogether(t)
	must(t, c.WaitReady(c.ctx))
	cp1, cp2, cp3 := c.nodes[0], c.nodes[1], c.nodes[2]
	var l listing
	cp1.eventually("all API servers are registered, and a leader is known", func() bool {
		l = c.members("cp1")
		return servers(l.OtherAPIServers) == "cp2 cp3" && l.Leader != ""
	})
	leaders := 0
	for i, n := range c.nodes {
		m := l.named(t, n.Node)
		if m.Role == "leader" && m.ID == l.Leader {
			leaders++
		}
		if !m.Answers || !m.Started || m.Own != (i == 0) || m.Version != n.EtcdVersion || m.Node != n.Node ||
			m.AppliedIndex == 0 || m.Behind == nil || m.SizeBytes == 0 || m.PeerURLs[0] != n.PeerURL() ||
			m.ClientURLs[0] != n.atAddress() {
			t.Errorf("%s is listed as %+v", n.Node, m)
		}
	}
	if leaders != 1 || !l.Quorum || len(l.Findings) > 0 || l.ClusterID == "" ||
		servers(l.named(t, "cp1").APIServers) != "cp1" {
		t.Errorf("the members are %+v", l)
	}

	// What the API servers use is known where their pods are stored.
	cp1.mirror("https://127.0.0.1:1") // this node's own manifest outranks that
	cp2.mirror(cp2.ClientURL())
	cp3.mirror(cp1.atAddress() + "," + cp3.atAddress())
	cp3.mirrorEtcd("machine3")
	l = c.members("cp1")
	if at := l.named(t, "cp3").Node; at != "machine3" {
		t.Errorf("cp3 is on %q, and its pod on machine3", at)
	}
	for name, want := range map[string]string{"cp1": "cp1 cp3", "cp2": "cp2", "cp3": "cp3"} {
		if got := servers(l.named(t, name).APIServers); got != want {
			t.Errorf("%s is used by %q, and not by %q", name, got, want)
		}
	}
	if len(l.OtherAPIServers) > 0 {
		t.Errorf("unknown are %+v", l.OtherAPIServers)
	}
	c.typed("cp2", "etcdpod members", 0, "3 of 3 members answer", "MEMBER", "cp1, cp3", cp2.PeerURL())

	// A person may say where to ask.
	c.typed("cp1", "etcdpod members --endpoints "+cp3.atAddress(), 0, "3 of 3 members answer")
	c.typed("cp1", "etcdpod members --endpoints https://127.0.0.1:1", 1, "cannot list the members: cannot reach etcd")

	// A node whose own etcd does not answer learns it from the others, and they know since when.
	before := time.Now().Add(-time.Second)
	cp2.stopEtcd()
	cp1.eventually("cp1 has noticed that cp2 is gone", func() bool {
		l = c.members("cp1")
		return !l.named(t, "cp2").SilentSince.IsZero()
	})
	m := l.named(t, "cp2")
	if m.Answers || m.Error == "" || m.SilentSince.Before(before) || m.Behind != nil ||
		!slices.Equal(l.codes(), []string{"member-silent"}) || !l.Quorum {
		t.Errorf("what does not answer is listed as %+v of %+v", m, l)
	}
	l = c.members("cp2")
	if !l.Quorum || l.named(t, "cp2").Answers || !l.named(t, "cp2").Own || !l.named(t, "cp1").Answers {
		t.Errorf("cp2 lists %+v", l)
	}
	c.typed("cp1", "etcdpod members", 0, "2 of 3 members answer", "! cp2 does not answer: ", "connection refused",
		"this node's etcd has not been connected to it since 20")

	// Without a quorum, the list is what one member knows.
	cp3.stopEtcd()
	cp1.eventually("cp1 has noticed that there is no quorum", func() bool {
		l = c.members("cp1")
		return l.Leader == ""
	})
	if l.Quorum || len(l.Members) != 3 || !l.named(t, "cp1").Answers || l.codes()[0] != "etcd-no-quorum" {
		t.Errorf("without a quorum, cp1 lists %+v", l)
	}
	cp1.stopEtcd()
	c.typed("cp1", "etcdpod members", 1, "cannot list the members: cannot reach etcd", "etcdpod status")

	for _, n := range c.nodes {
		must(t, n.StartKubelet(c.ctx))
	}
	must(t, c.WaitReady(c.ctx))
	cp1.eventually("a learner can be added", func() bool {
		cl, err := cp1.EtcdClient()
		must(t, err)
		defer cl.Close()
		_, err = clientv3.NewCluster(cl).MemberAddAsLearner(c.ctx, []string{"https://127.0.0.99:2380"})
		return err == nil
	})
	l = c.members("cp2")
	m = l.named(t, "")
	if m.Started || m.Role != "learner" || m.Answers || m.Error != "" || len(m.ClientURLs) > 0 ||
		!slices.Equal(l.codes(), []string{"member-never-started"}) {
		t.Errorf("one that has never started is listed as %+v of %+v", m, l)
	}
	c.typed("cp2", "etcdpod members", 0, "3 of 4 members answer", "never started", m.ID,
		"! learner "+m.ID+" (https://127.0.0.99:2380) has never started")
}
