package workflows

import (
	"os"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/e2e/binaries"
	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

// newMachine makes a machine for a new member, as kubeadm leaves it before etcd.
func (c *cluster) newMachine(name string) *node {
	c.t.Helper()
	s, err := c.Newcomer(c.ctx, sandbox.Options{EtcdBinary: etcdBinary(c.t, binaries.Etcd36)}, name)
	must(c.t, err)
	return &node{Sandbox: s, t: c.t, ctx: c.ctx}
}

// replacing is the command that puts a member on a machine in the place of cp3.
func replacing(n *node) string {
	return "etcdpod replace cp3 --with " + n.Node + " --nodes cp1,cp2 --config " + n.Path(sandbox.KubeadmFile)
}

// untouchedMachine holds a machine to having nothing of the run.
func (n *node) untouchedMachine() {
	n.t.Helper()
	for _, file := range []string{sandbox.ManifestDir + "/etcd.yaml", pkiDir + "etcd/server.crt",
		sandbox.DataDir + "/member"} {
		if _, err := os.Stat(n.Path(file)); err == nil {
			n.t.Errorf("%s has %s", n.Node, file)
		}
	}
}

func TestAFailedMemberIsReplacedByAnotherMachine(t *testing.T) {
	c := startTogether(t)
	first, second := c.nodes[0], c.nodes[1]
	c.typed("cp1", "etcdpod apiserver set --all-members --yes", 0)
	fresh := c.newMachine("cp4")
	line := replacing(fresh)
	c.typed("cp1", "etcdpod replace --with cp4 --nodes cp1,cp2", 2, "replace needs MEMBER")
	c.typed("cp1", "etcdpod replace cp3 --nodes cp1,cp2", 2, "--with NODE")
	c.typed("cp1", "etcdpod replace cp3 --with cp2 --nodes cp1,cp2", 2, "cp2 is in --with and in --nodes")
	c.typed("cp4", line+" --yes", 2, "cp4 is the new machine", "run the command on a node that stays")
	c.typed("cp1", line+" --yes", 5, "cp3 serves, on none of the nodes of this run", "--nodes")
	must(t, c.PowerOff("cp3"))
	must(t, first.WaitEtcd(c.ctx))
	first.put("/before", "the replacement")
	c.typed("cp1", strings.Replace(line, "replace cp3", "replace cp2", 1)+" --yes", 5,
		"would lose its quorum at once")
	c.typed("cp1", line, 2, "--yes")
	c.typed("cp1", line+" --dry-run", 0, "remove member", "add the learner", "could serve", "promote "+fresh.PeerURL(),
		"commit point", "for good", "Nothing was changed")
	fresh.untouchedMachine()
	c.typed("cp1", line+" --yes", 0, "Replaced cp3: cp4 is a member, by run", "the learner has the leader's data")
	for _, n := range []*node{first, second, fresh} {
		must(t, n.WaitEtcd(c.ctx))
		n.wantNames("cp1", "cp2", "cp4")
	}
	must(t, first.WaitAPIServer(c.ctx))
	servers := first.manifests()["kube-apiserver.yaml"]
	if strings.Contains(servers, c.nodes[2].Address+":") || !strings.Contains(servers, fresh.Address+":") {
		t.Errorf("the API server of cp1 does not name cp4 in the place of cp3:\n%s", servers)
	}
	c.typed("cp1", line+" --yes", 5, "the cluster has no member cp3")
	must(t, c.PowerOff("cp2")) // the new one votes
	must(t, first.WaitEtcd(c.ctx))
	fresh.put("/after", "the replacement")
}

func TestAFailedMemberIsReplacedOnTheSameMachineWithANewDisk(t *testing.T) {
	c := startTogether(t)
	third := c.nodes[2]
	must(t, third.Crash())
	must(t, c.nodes[0].WaitEtcd(c.ctx))
	must(t, third.Reinstall(c.ctx))
	c.typed("cp1", replacing(third)+" --dry-run -o json", 0, `{"nodes":`)
	c.typed("cp1", replacing(third)+" --yes -o json", 0, `"workflow":"replace"`, `"state":"completed"`)
	for _, n := range c.nodes {
		must(t, n.WaitEtcd(c.ctx))
		n.wantNames("cp1", "cp2", "cp3")
	}
	third.put("/after", "the replacement")
}

// The coordinator is killed; somebody settles what is left on another node.
func TestAReplacementThatLostItsCoordinatorIsSettledElsewhere(t *testing.T) {
	for name, k := range map[string]struct {
		phase, on, at, command string
		names                  []string
	}{
		"before the commit point": {"certs", "cp4", "cp2", "rollback", []string{"cp1", "cp2", "cp3"}},
		"the old one is removed":  {"remove-member", "cp2", "cp2", "resume", []string{"cp1", "cp2", "cp4"}},
		"the learner starts":      {"await-serving", "cp4", "cp4", "resume", []string{"cp1", "cp2", "cp4"}},
		"the learner is lost":     {"await-serving", "cp4", "cp2", "resume --lost cp4", []string{"cp1", "cp2"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := startTogether(t)
			fresh := c.newMachine("cp4")
			must(t, c.PowerOff("cp3"))
			must(t, c.KillWhen(c.ctx, "cp1", replacing(fresh)+" --yes -o json", func(p sandbox.Progress) bool {
				return p.Phase == k.phase && p.Node == k.on && p.State == "started"
			}))
			all := []*node{c.nodes[0], c.nodes[1], fresh}
			for _, n := range all {
				n.eventually("the agent has noticed", func() bool {
					return n.run("runs").Code == 0 && n.run("prune", "--yes").Code == 3
				})
			}
			if strings.Contains(k.command, "--lost") {
				must(t, c.PowerOff("cp4"))
				c.typed(k.at, "etcdpod resume", 3, "--lost cp4")
				all = all[:2]
				c.typed(k.at, "etcdpod "+k.command, 0, "cp4 was to be the new member, and is lost", "etcdpod join")
			} else {
				c.typed(k.at, "etcdpod "+k.command, 0)
			}
			must(t, all[0].WaitEtcd(c.ctx))
			all[0].wantNames(k.names...)
			if k.command == "rollback" {
				fresh.untouchedMachine()
				return
			}
			last := all[len(all)-1]
			must(t, last.WaitEtcd(c.ctx))
			last.put("/after", "the replacement")
		})
	}
}

func TestAMemberThatServesHandsOverToAnotherMachine(t *testing.T) {
	c := startTogether(t)
	fresh, third := c.newMachine("cp4"), c.nodes[2]
	line := strings.Replace(replacing(fresh), "cp1,cp2", "cp1,cp2,cp3", 1)
	c.typed("cp1", line+" --dry-run", 0, "the new member", "its data stays in", "Nothing was changed")
	fresh.untouchedMachine()
	must(t, c.KillWhen(c.ctx, "cp1", line+" --yes -o json", func(p sandbox.Progress) bool {
		return p.Phase == "stop-member" && p.Node == "cp3" && p.State == "started"
	}))
	for _, n := range append(c.nodes, fresh) {
		n.eventually("the agent has noticed", func() bool {
			return n.run("runs").Code == 0 && n.run("prune", "--yes").Code == 3
		})
	}
	c.typed("cp2", "etcdpod rollback", 0)
	must(t, third.WaitReady(c.ctx))
	third.wantNames("cp1", "cp2", "cp3")
	fresh.untouchedMachine()
	c.typed("cp1", line+" --yes", 0, "Replaced cp3: cp4 is a member, by run")
	for _, n := range []*node{c.nodes[0], c.nodes[1], fresh} {
		must(t, n.WaitEtcd(c.ctx))
		n.wantNames("cp1", "cp2", "cp4")
	}
	if third.runsEtcd() {
		t.Errorf("etcd runs on cp3: %q", third.running())
	}
	must(t, third.WaitAPIServer(c.ctx)) // it uses the others
}
