package workflows

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdpod/etcdpod/e2e/binaries"
	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

// peerChange is what programs read of `members set-peer-url -o json`.
type peerChange struct {
	Member        struct{ ID, Name string }
	Before, After []string
	Changed       bool
	Notes         []string
}

func (c *cluster) setPeerURL(on, args string) (p peerChange) {
	c.t.Helper()
	must(c.t, json.Unmarshal([]byte(c.typed(on, "etcdpod members set-peer-url -o json "+args, 0)), &p))
	return p
}

func TestAMemberIsReachedAtAnotherURL(t *testing.T) {
	t.Parallel()
	n := create(t, sandbox.Options{})
	three, err := sandbox.NewControlPlanes(n.ctx, sandbox.Options{EtcdBinary: etcdBinary(t, binaries.Etcd36),
		PlainHTTP: true, NoAPIServer: true}, "cp1", "cp2", "cp3")
	must(t, err)
	t.Cleanup(func() { must(t, three.Destroy()) })
	c := &cluster{ControlPlanes: three, t: t, ctx: n.ctx}
	for _, s := range three.Nodes {
		c.nodes = append(c.nodes, &node{Sandbox: s, t: t, ctx: n.ctx})
	}
	cp2, cp3 := c.nodes[1], c.nodes[2]
	old := strings.TrimSuffix(cp2.PeerURL(), "/")
	other := strings.Replace(old, cp2.Address, "127.0.0.33", 1)
	manifests := cp2.manifests()

	const set = "etcdpod members set-peer-url "
	for line, want := range map[string]string{
		"cp2":                                 "needs MEMBER URL",
		"cp2 " + other + " x --yes":           "unexpected argument",
		"cp2 127.0.0.33:2380 --yes":           "is no peer URL",
		"cp2 http://127.0.0.33 --yes":         "is no peer URL",
		"cp2 http://127.0.0.33:2380/x --yes":  "must not contain a path",
		"cp2 " + other:                        "needs confirmation and there is no terminal",
		"cp2 ftp://127.0.0.33:2380 --dry-run": "is no peer URL",
	} {
		c.typed("cp2", set+line, 2, want)
	}
	for line, want := range map[string]string{
		"cp2 " + other + " --yes":                                  "it listens at " + old + ", says /etc/",
		"cp2 " + strings.TrimSuffix(cp3.PeerURL(), "/") + " --yes": "cp3 has it",
		"cp2 http://localhost:2380 --yes":                          "every host reaches itself",
		"cp9 " + other + " --yes":                                  "there is no member cp9",
	} {
		c.typed("cp2", set+line, 5, want)
	}
	c.typed("cp2", set+"cp2 "+old+" --yes", 0, "Nothing to do")

	// It listens at both, and then the others are told.
	cp2.edit(sandbox.ManifestDir+"/etcd.yaml", func(text string) string {
		return strings.Replace(text, "--listen-peer-urls="+old, "--listen-peer-urls="+old+","+other, 1)
	})
	cp2.eventually("etcd listens at both", func() bool {
		p := struct{ Notes []string }{}
		must(t, json.Unmarshal([]byte(c.typed("cp2", set+"--dry-run -o json cp2 "+other, 0)), &p))
		return len(p.Notes) == 0
	})
	c.typed("cp2", set+"--dry-run cp2 "+other, 0, "to reach it at "+other, "Way back:", "Nothing was changed")
	said := c.typed("cp2", set+"--yes cp2 "+other, 0, "at "+other+" now; before, it was "+old,
		"set --initial-advertise-peer-urls="+other+" in /etc/kubernetes/manifests/etcd.yaml", "To undo it, run")
	if at := c.members("cp1").named(t, "cp2").PeerURLs; len(at) != 1 || at[0] != other {
		t.Errorf("cp2 is reached at %q", at)
	}
	must(t, cp2.Kill(c.ctx, "etcd"))
	cp2.put("/still", "written") // once it is back
	_, undo, _ := strings.Cut(said, "To undo it, run `")
	undo, _, _ = strings.Cut(undo, "`")
	c.typed("cp3", undo+" --yes", 0, "now; before, it was "+other)
	if at := c.members("cp1").named(t, "cp2").PeerURLs; len(at) != 1 || at[0] != old {
		t.Errorf("cp2 is reached at %q", at)
	}
	if now := cp2.manifests(); len(now) != len(manifests) {
		t.Errorf("the manifests were %v, and are %v", manifests, now)
	}

	// One that has never started, of which nothing shows where it will listen.
	cp2.eventually("a learner can be added", func() bool {
		cl, err := cp2.EtcdClient()
		must(t, err)
		defer cl.Close()
		_, err = clientv3.NewCluster(cl).MemberAddAsLearner(c.ctx, []string{"http://127.0.0.99:2380"})
		return err == nil
	})
	p := c.setPeerURL("cp1", "--yes http://127.0.0.99:2380 http://127.0.0.98:2380")
	m := c.members("cp1").named(t, "")
	if !p.Changed || fmt.Sprint(p.Before, p.After) != "[http://127.0.0.99:2380] [http://127.0.0.98:2380]" ||
		len(p.Notes) != 2 || m.PeerURLs[0] != "http://127.0.0.98:2380" || m.Role != "learner" {
		t.Errorf("%+v, %+v", p, m)
	}

	// While the others are no quorum without it, it must answer there.
	cp3.stopEtcd()
	port := strings.Replace(old, cp2.Address, "127.0.0.44", 1)
	c.typed("cp1", set+"--yes cp2 "+port, 5, "have no quorum, which could not be undone")
}
