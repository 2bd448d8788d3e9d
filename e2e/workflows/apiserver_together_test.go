package workflows

import (
	"os"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

// all are the members' client URLs as every node is to have them.
func (c *cluster) all() string {
	var urls []string
	for _, n := range c.nodes {
		urls = append(urls, n.atAddress())
	}
	return strings.Join(urls, ",")
}

// wantServers: every API server runs with these; empty: each with its own node's etcd.
func (c *cluster) wantServers(servers string) {
	c.t.Helper()
	for _, n := range c.nodes {
		want := servers
		if want == "" {
			want = n.ClientURL()
		}
		n.uses(want)
	}
}

const setAll = "etcdpod apiserver set --all-members --nodes cp1,cp2,cp3"

func TestTheAPIServersOfAllNodesGoOverToAllMembers(t *testing.T) {
	c := startTogether(t)
	n := c.nodes[0]
	n.annotate()
	before := n.manifests()
	c.typed("cp1", setAll+" --dry-run", 0, "--etcd-servers="+c.all(), "one node at a time",
		"the API servers on cp1, cp2 and cp3 are down for about", " s each, ", "on cp3:",
		"`etcdpod apiserver set --etcd-servers "+c.nodes[2].ClientURL(), "Nothing was changed")
	c.typed("cp1", setAll, 2, "--yes")
	c.wantServers("")
	c.typed("cp1", setAll+" --yes", 0, "The API servers of 3 nodes are ready with the new settings",
		"; the API servers were down for ", " on cp1, ", " on cp2 and ")
	c.wantServers(c.all())
	c.wantRuns("completed")
	before["kube-apiserver.yaml"] = strings.Replace(before["kube-apiserver.yaml"], n.ClientURL(), c.all(), 1)
	n.wantManifests(before)
	c.typed("cp2", setAll+" --yes", 0, "Nothing to do")
	c.typed("cp2", setAll+" --yes -o json", 0, `"unchanged"`)
	c.wantRuns("completed")

	shown := c.typed("cp3", "etcdpod apiserver show --nodes cp1,cp2,cp3", 0, "=== cp1", "=== cp3")
	if strings.Count(shown, n.atAddress()+"  yes") != 3 {
		t.Errorf("it shows\n%s", shown)
	}
	c.typed("cp3", "etcdpod apiserver show --nodes cp1,cp2,cp3 -o json", 0, `"report"`)

	// Each outlives its own etcd.
	must(t, os.Rename(n.Path(sandbox.ManifestDir+"/etcd.yaml"), n.Path("/root-etcd.yaml")))
	n.eventually("etcd has ended", func() bool { return !n.runsEtcd() })
	n.eventually("it writes", func() bool { return n.writeObject("outlived") == nil })
	c.typed("cp2", "etcdpod apiserver set --yes --nodes cp2,cp3 --etcd-servers "+c.nodes[1].atAddress()+","+
		c.nodes[2].atAddress(), 0, "The API servers of 2 nodes are ready")
	c.nodes[2].uses(c.nodes[1].atAddress() + "," + c.nodes[2].atAddress())
}

// Whatever cannot end well on one node is refused on all, and nothing is touched.
func TestAChangeOfAllAPIServersRefusesWhatOneCannotUse(t *testing.T) {
	c := startTogether(t)
	third := c.nodes[2]
	before := c.states()
	refused := func(line string, code int, says ...string) {
		t.Helper()
		c.typed("cp1", line, code, says...)
		for _, n := range c.nodes {
			if out := n.run("runs").Stdout; strings.Contains(out, "apiserver") {
				t.Errorf("%s has a run:\n%s", n.Node, out)
			}
		}
	}
	refused("etcdpod apiserver set --yes --all-members --nodes cp2,cp3", 2, "--nodes does not name this node")
	refused("etcdpod apiserver set --yes --nodes cp1,cp2", 2, "nothing to set")
	for _, n := range c.nodes[:2] {
		n.copyFile("etcd/ca.crt", "etcd/copy.crt")
	}
	refused("etcdpod apiserver set --yes --nodes cp1,cp2,cp3 --etcd-cafile "+pkiDir+"etcd/copy.crt", 5,
		"cp3: the API server could not read its files", "copy.crt is missing")
	for _, n := range c.nodes[:2] {
		must(t, os.Remove(n.Path(pkiDir+"etcd/copy.crt")))
	}
	must(t, os.Rename(third.Path(apiServerManifest), third.Path("/root-apiserver.yaml")))
	refused(setAll+" --yes", 5, "cp3: no manifest in /etc/kubernetes/manifests runs an API server",
		"leave it out of --nodes")
	must(t, os.Rename(third.Path("/root-apiserver.yaml"), third.Path(apiServerManifest)))
	third.ready()
	const image, gone = "registry.k8s.io/etcd:", "registry.k8s.io/etcd:not-"
	swap := func(from, to string) {
		third.edit(sandbox.ManifestDir+"/etcd.yaml", func(text string) string {
			return strings.Replace(text, from, to, 1)
		})
	}
	swap(image, gone)
	third.eventually("etcd has ended", func() bool { return !third.runsEtcd() })
	refused(setAll+" --yes", 5, third.atAddress()+": connection refused", "use those that do: --etcd-servers")
	swap(gone, image)
	must(t, c.WaitReady(c.ctx))
	for i, n := range c.nodes {
		n.wantManifests(before[i].manifests)
	}
	c.wantServers("")
}

func TestAllAPIServersGoBackWhenOneDoesNotGetReady(t *testing.T) {
	c := startTogether(t)
	before := c.states()
	for i, n := range c.nodes {
		n.copyFile("etcd/ca.crt", "etcd/copy.crt")
		before[i] = n.state()
	}
	c.nodes[2].apiServerEndsWith("etcd/copy.crt") // the last one
	c.typed("cp1", "etcdpod apiserver set --yes --wait-timeout 20s --nodes cp1,cp2,cp3 --etcd-cafile "+
		pkiDir+"etcd/copy.crt", 1, "the API server is not ready with the new manifest", "everything is as before")
	c.wantOld(before)
	c.wantServers("")
}

// The coordinator is killed; somebody settles what is left on another node.
func TestAChangeOfAllAPIServersThatLostItsCoordinatorIsSettledElsewhere(t *testing.T) {
	for name, k := range map[string]struct {
		on, settle, command string
		changed             bool
	}{
		"at its own, undone":             {"cp1", "cp2", "rollback", false},
		"at the second, undone":          {"cp2", "cp3", "rollback", false},
		"at the last, finished":          {"cp3", "cp2", "resume", true},
		"at the second, finished itself": {"cp2", "cp1", "resume", true},
	} {
		t.Run(name, func(t *testing.T) {
			c := startTogether(t)
			must(t, c.KillWhen(c.ctx, "cp1", setAll+" --yes -o json", func(p sandbox.Progress) bool {
				return p.Phase == "set" && p.Node == k.on && p.State == "started"
			}))
			for _, n := range c.nodes {
				n.eventually("the agent has noticed", func() bool {
					return n.run("runs").Code == 0 && n.run("prune", "--yes").Code == 3
				})
			}
			c.typed(k.settle, "etcdpod "+k.command, 0)
			must(t, c.WaitReady(c.ctx))
			if k.changed {
				c.wantServers(c.all())
				c.wantRuns("completed")
				return
			}
			c.wantServers("")
			c.wantRuns("rolled back")
		})
	}
}
