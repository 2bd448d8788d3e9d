package workflows

import (
	"context"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/e2e/binaries"
	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

// memberNames asks a node's etcd.
func (n *node) memberNames() (names []string) {
	n.t.Helper()
	etcd, err := n.EtcdClient()
	must(n.t, err)
	defer etcd.Close()
	all, err := etcd.MemberList(n.ctx)
	must(n.t, err)
	for _, m := range all.Members {
		names = append(names, m.Name)
	}
	slices.Sort(names)
	return names
}

func (n *node) wantNames(names ...string) {
	n.t.Helper()
	if have := n.memberNames(); !slices.Equal(have, names) {
		n.t.Errorf("the members are %q, and not %q", have, names)
	}
}

// runsEtcd says whether an etcd runs on the node.
func (n *node) runsEtcd() bool {
	n.t.Helper()
	return slices.ContainsFunc(n.running(), func(c string) bool { return strings.Contains(c, "etcd") })
}

func TestALiveMemberIsRemovedAndStaysStopped(t *testing.T) {
	c := startTogether(t)
	third := c.nodes[2]
	c.typed("cp1", "etcdpod remove cp9 --yes", 5, "the cluster has no member cp9; it has cp1 (")
	c.typed("cp1", "etcdpod remove cp3 --yes --no-spare", 5, "still runs, on none of the nodes of this run", "--nodes")
	c.typed("cp1", "etcdpod remove cp3 --yes --nodes cp1,cp2,cp3", 5, "the next loss costs the quorum", "--no-spare")
	c.typed("cp1", "etcdpod remove cp3 --no-spare --nodes cp1,cp2,cp3", 2, "--yes")
	c.typed("cp1", "etcdpod remove cp3 --no-spare --nodes cp1,cp2,cp3 --dry-run", 0,
		"its data stays in", "--etcd-servers=", "for good")
	c.wantRunsNone()
	c.typed("cp1", "etcdpod remove cp3 --yes --no-spare --nodes cp1,cp2,cp3", 0, "Removed cp3 by run",
		"; the API server on cp3 was down for")
	for _, n := range c.nodes[:2] {
		n.wantNames("cp1", "cp2")
		n.put("/after", "the removal")
	}
	if third.runsEtcd() {
		t.Errorf("etcd runs on cp3: %q", third.running())
	}
	must(t, third.WaitAPIServer(c.ctx)) // it uses the others
	must(t, third.Reboot(c.ctx))
	must(t, third.WaitAPIServer(c.ctx))
	if third.runsEtcd() {
		t.Errorf("after a reboot etcd runs on cp3: %q", third.running())
	}
	for _, look := range []string{"status", "certs check"} {
		said := c.typed("cp3", "etcdpod "+look, 6, "its member was removed from the cluster by run", "kubeadm reset")
		if strings.Contains(said, "put the manifest") || strings.Contains(said, "put etcd's manifest") {
			t.Errorf("%s proposes to start the removed member again:\n%s", look, said)
		}
	}
	c.typed("cp1", "etcdpod remove cp3 --yes --no-spare --nodes cp1,cp2", 5, "the cluster has no member cp3")
	c.typed("cp1", "etcdpod remove cp2 --yes --no-spare", 5, "still runs, on none of the nodes")
	c.typed("cp1", "etcdpod runs", 0, "remove")
}

func TestADeadMemberIsRemovedFromAnotherNode(t *testing.T) {
	c := startTogether(t)
	must(t, c.nodes[2].Crash())
	c.typed("cp1", "etcdpod remove cp2 --yes --nodes cp1,cp2", 5, "would lose its quorum at once",
		"cp3 does not answer")
	c.typed("cp1", "etcdpod remove cp3 --dry-run -o json", 0, `{"nodes":`)
	c.typed("cp1", "etcdpod remove cp3 --yes -o json", 0, `"workflow":"remove"`, `"state":"completed"`)
	c.nodes[0].wantNames("cp1", "cp2")
	c.nodes[1].put("/after", "the removal")

	// Somebody powers it on.
	third := c.nodes[2]
	must(t, third.Reboot(c.ctx))
	third.eventually("its etcd has exited again and again", func() bool {
		etcd, found, err := third.Container(c.ctx, "etcd")
		must(t, err)
		return found && etcd.State == "exited" && etcd.Attempt > 1
	})
	c.typed("cp3", "etcdpod status", 6, "it was removed from its cluster", "kubeadm reset",
		"wait until etcd has exited, and move away what is in")
	// By hand, and without a run that tells.
	must(t, os.Remove(third.Path(sandbox.ManifestDir+"/etcd.yaml")))
	third.eventually("etcd is gone", func() bool { return !third.runsEtcd() })
	c.typed("cp3", "etcdpod status", 6, "was removed from the cluster", "kubeadm reset")
}

func (c *cluster) wantRunsNone() {
	c.t.Helper()
	for _, n := range c.nodes {
		if out := n.run("runs").Stdout; strings.Contains(out, "remove") {
			c.t.Errorf("%s has a run:\n%s", n.Node, out)
		}
	}
}

// The coordinator is killed; somebody settles what is left on another node.
func TestARemovalThatLostItsCoordinatorIsSettledElsewhere(t *testing.T) {
	for name, k := range map[string]struct {
		phase, on, command string
		gone               bool
	}{
		"before the fence, taken back":   {"wire-apiservers", "cp3", "rollback", false},
		"before the fence, resumed":      {"wire-apiservers", "cp3", "resume", true},
		"behind the fence, taken back":   {"stop-member", "cp3", "rollback", false},
		"past the commit point, resumed": {"remove-member", "cp1", "resume", true},
	} {
		t.Run(name, func(t *testing.T) {
			c := startTogether(t)
			must(t, c.KillWhen(c.ctx, "cp1", "etcdpod remove cp3 --no-spare --yes --nodes cp1,cp2,cp3 -o json",
				func(p sandbox.Progress) bool { return p.Phase == k.phase && p.Node == k.on && p.State == "started" }))
			for _, n := range c.nodes {
				n.eventually("the agent has noticed", func() bool {
					return n.run("runs").Code == 0 && n.run("prune", "--yes").Code == 3
				})
			}
			c.typed("cp2", "etcdpod "+k.command, 0)
			if k.gone {
				c.nodes[0].wantNames("cp1", "cp2")
				if c.nodes[2].runsEtcd() {
					t.Error("etcd runs on cp3")
				}
				must(t, c.nodes[2].WaitAPIServer(c.ctx))
				return
			}
			must(t, c.WaitReady(c.ctx))
			c.nodes[2].wantNames("cp1", "cp2", "cp3")
		})
	}
}

// Of two members both are needed to agree that one leaves: it does so while it runs, and leads.
func TestOneOfTwoMembersIsRemovedWhileItRuns(t *testing.T) {
	for _, version := range binaries.EtcdVersions() {
		t.Run(version, func(t *testing.T) {
			c := startTwo(t, version)
			c.typed("cp1", "etcdpod remove cp2 --yes", 5, "still runs, on none of the nodes", "do not stop it")
			c.leadBy("cp2")
			c.typed("cp1", "etcdpod remove cp2 --nodes cp1,cp2 --dry-run", 0, "leaves while it runs",
				"while it runs, unless that is done")
			c.wantRunsNone()
			c.typed("cp1", "etcdpod remove cp2 --yes --nodes cp1,cp2", 0, "Removed cp2 by run")
			c.wantOnlyFirst()
			must(t, c.nodes[0].Kill(c.ctx, "etcd"))
			must(t, c.nodes[1].Reboot(c.ctx))
			c.wantOnlyFirst()
		})
	}
}

// leadBy has a member lead.
func (c *cluster) leadBy(name string) {
	c.t.Helper()
	if c.leads() != name {
		c.moveLeader("cp1", "--yes "+name)
	}
}

// wantOnlyFirst: cp1 is the whole cluster, and writes; cp2's etcd is down, with its data.
func (c *cluster) wantOnlyFirst() {
	c.t.Helper()
	c.nodes[0].eventually("the one that stays serves", func() bool {
		cl, err := c.nodes[0].EtcdClient()
		must(c.t, err)
		defer cl.Close()
		ctx, cancel := context.WithTimeout(c.ctx, 5*time.Second)
		defer cancel()
		_, err = cl.Put(ctx, "/after", "the removal")
		return err == nil
	})
	c.nodes[0].wantNames("cp1")
	if c.nodes[1].runsEtcd() {
		c.t.Errorf("etcd runs on cp2: %q", c.nodes[1].running())
	}
	if _, err := os.Stat(c.nodes[1].Path("/var/lib/etcd/member/snap/db")); err != nil {
		c.t.Error(err)
	}
}

// startTwo makes two control planes of one cluster.
func startTwo(t *testing.T, version string) *cluster {
	t.Helper()
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	two, err := sandbox.NewControlPlanes(ctx, sandbox.Options{EtcdBinary: etcdBinary(t, version)}, "cp1", "cp2")
	must(t, err)
	t.Cleanup(func() { must(t, two.Destroy()) })
	c := &cluster{ControlPlanes: two, t: t, ctx: ctx}
	for _, s := range two.Nodes {
		c.nodes = append(c.nodes, &node{Sandbox: s, t: t, ctx: ctx})
	}
	must(t, c.WaitReady(ctx))
	return c
}

// Wherever the run is cut off behind the commit point, the cluster has a quorum, and any of the two
// nodes can finish it.
func TestARemovalOfOneOfTwoThatLostItsCoordinatorIsFinishedElsewhere(t *testing.T) {
	for name, at := range map[string]struct {
		phase, on, settle, command string
		gone                       bool
	}{
		"before it has left":           {"wire-apiservers", "cp2", "cp2", "rollback", false},
		"as it leaves, by who stays":   {"remove-member", "cp1", "cp1", "resume", true},
		"as it leaves, by who leaves":  {"remove-member", "cp1", "cp2", "resume", true},
		"when it has left, by the one": {"remove-member", "cp2", "cp2", "resume", true},
	} {
		t.Run(name, func(t *testing.T) {
			c := startTwo(t, binaries.Etcd36)
			must(t, c.KillWhen(c.ctx, "cp1", "etcdpod remove cp2 --yes --nodes cp1,cp2 -o json",
				func(p sandbox.Progress) bool {
					return p.Phase == at.phase && p.Node == at.on && p.State == "started"
				}))
			for _, n := range c.nodes {
				n.eventually("the agent has noticed", func() bool {
					return n.run("runs").Code == 0 && n.run("prune", "--yes").Code == 3
				})
			}
			c.nodes[0].put("/meanwhile", "there is a quorum")
			c.typed(at.settle, "etcdpod "+at.command, 0)
			if at.gone {
				c.wantOnlyFirst()
				return
			}
			must(t, c.WaitReady(c.ctx))
			c.nodes[0].wantNames("cp1", "cp2")
		})
	}
}

// What runs on a node that takes no part is not taken for dead: a learner, of which nobody asks for
// more than how it is, and a voter whose clients do not reach it.
func TestWhatRunsOnAnotherNodeIsNotRemoved(t *testing.T) {
	t.Run("a learner", func(t *testing.T) {
		first := founder(t, binaries.Etcd36)
		learner := first.newcomer(1)
		for _, phase := range []string{"certs", "add-learner", "render-etcd", "await-started"} {
			learner.done(learner.typed("phase", phase, "--yes")...)
		}
		first.want(5, []string{"remove", learner.Node, "--yes"}, "still runs, on none of the nodes", "--nodes")
	})
	t.Run("a voter that serves only its peers", func(t *testing.T) {
		c := startTogether(t)
		must(t, c.WaitReady(c.ctx))
		cp3 := c.nodes[2]
		cp3.edit(sandbox.ManifestDir+"/etcd.yaml", func(text string) string {
			return regexp.MustCompile("--listen-client-urls=.*").ReplaceAllString(text,
				"--listen-client-urls=https://127.0.0.77:2379")
		})
		cp3.eventually("it serves its peers again, and not its clients", func() bool {
			return !c.members("cp1").named(t, "cp3").Answers &&
				c.nodes[0].run("remove", "cp3", "--dry-run", "--no-spare").Code == 5
		})
		c.typed("cp1", "etcdpod remove cp3 --yes --no-spare --nodes cp1,cp2", 5, "still runs, on none of the nodes",
			cp3.PeerURL())
		c.wantRunsNone()
	})
}

// cp1's API server uses nothing but cp3's etcd, at a URL that this does not advertise.
func TestAnAPIServerThatNamesTheMemberByAnotherURLIsPointedElsewhere(t *testing.T) {
	c := startTogether(t)
	must(t, c.WaitReady(c.ctx))
	cp1, cp3 := c.nodes[0], c.nodes[2]
	if slices.Contains(c.members("cp1").named(t, "cp3").ClientURLs, cp3.ClientURL()) {
		t.Fatal("it advertises that")
	}
	c.typed("cp1", "etcdpod apiserver set --yes --etcd-servers "+cp3.ClientURL(), 0, "ready with the new settings")
	c.typed("cp1", "etcdpod remove cp3 --yes --no-spare --nodes cp1,cp2,cp3", 0, "Removed cp3 by run")
	if servers := cp1.showAPIServer().EtcdServers; len(servers) != 2 || !servers[0].Serves || !servers[1].Serves {
		t.Errorf("it uses %+v", servers)
	}
	for _, n := range c.nodes {
		must(t, n.WaitAPIServer(c.ctx))
	}
}
