package workflows

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

// followTo is the command with which all three follow, to addresses that begin at such a one.
func (c *cluster) followTo(first int) (line string, addresses []string) {
	var given []string
	for i, n := range c.nodes {
		addresses = append(addresses, fmt.Sprintf("127.0.0.%d", first+i))
		given = append(given, n.Node+"="+addresses[i])
	}
	return "etcdpod readdress --nodes cp1,cp2,cp3 --address " + strings.Join(given, ","), addresses
}

// wantAllAt holds all nodes, and what the members say of them, to their addresses.
func (c *cluster) wantAllAt(addresses []string) {
	c.t.Helper()
	for i, n := range c.nodes {
		n.Address = addresses[i]
	}
	var whole []string
	for _, n := range c.nodes {
		c.wantAt(n)
		whole = append(whole, n.Node+"="+n.PeerURL())
	}
	for _, n := range c.nodes {
		etcd := n.manifests()["etcd.yaml"]
		_, flag, _ := strings.Cut(etcd, "--initial-cluster=")
		flag, _, _ = strings.Cut(flag, "\n")
		for _, pair := range whole {
			if !strings.Contains(flag, pair) {
				c.t.Errorf("--initial-cluster of %s is %s, without %s", n.Node, flag, pair)
			}
		}
		if strings.Count(flag, "=") != len(whole) {
			c.t.Errorf("--initial-cluster of %s is %s", n.Node, flag)
		}
	}
}

func TestThreeMembersFollowAsOneRun(t *testing.T) {
	c := startTogether(t)
	old := []string{c.nodes[0].Address, c.nodes[1].Address, c.nodes[2].Address}
	c.typed("cp1", "etcdpod readdress --yes --nodes cp1,cp2,cp3", 0, "Nothing to do")
	c.typed("cp1", "etcdpod readdress --yes --nodes cp1,cp2,cp3 --address 127.0.0.110", 2, "which node has it")
	c.typed("cp1", "etcdpod readdress --yes --nodes cp1,cp2 --address cp3=127.0.0.110", 2, "not in --nodes")
	line, addresses := c.followTo(110)
	c.typed("cp1", line+" --dry-run", 0, "=== cp3", "one after the other", "kubeadm init phase certs apiserver",
		"Nothing was changed")
	c.typed("cp1", line+" --yes", 0, "commit point", "The etcds of 3 nodes serve at their new addresses")
	c.wantAllAt(addresses)
	c.wantRuns("completed")
	for i, n := range c.nodes {
		for name, text := range n.manifests() {
			if strings.Contains(text, "//"+old[i]+":") {
				t.Errorf("%s of %s still has %s:\n%s", name, n.Node, old[i], text)
			}
		}
	}

	// The coordinator is killed at the second one's turn: undone elsewhere; and at the third one's:
	// finished elsewhere.
	next, then := c.followTo(120)
	kill := func(on string) {
		t.Helper()
		must(t, c.KillWhen(c.ctx, "cp1", next+" --yes -o json", func(p sandbox.Progress) bool {
			return p.Phase == "follow" && p.Node == on && strings.HasPrefix(p.Operation, "have the members")
		}))
	}
	kill("cp2")
	c.typed("cp3", "etcdpod rollback", 0, "everything is as before")
	c.wantAllAt(addresses)
	kill("cp3")
	c.typed("cp2", "etcdpod resume", 0, "Finished")
	c.wantAllAt(then)
}

// listens says whether somebody is at a URL. An etcd that waits for a quorum is, for its peers.
func listens(url string) bool {
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "https://"))
	if err == nil {
		_ = conn.Close()
	}
	return err == nil
}

// All three have lost their addresses. None finds another, and no command can change that; with one
// of them where it was, all follow as one run. 198.51.100.71 and the next ones stand for the
// addresses that they had: nobody has them.
func TestAllMembersThatLostTheirAddressesFollowOnceOneIsBack(t *testing.T) {
	c := startTogether(t)
	before := make([]string, len(c.nodes))
	c.nodes[0].put("/before", "it moves")
	for i, n := range c.nodes { // a kubelet that no API server answers leaves what runs alone
		must(t, n.Crash())
		n.edit(sandbox.ManifestDir+"/etcd.yaml", func(text string) string {
			before[i] = text
			return strings.ReplaceAll(text, n.Address, fmt.Sprintf("198.51.100.%d", 71+i))
		})
	}
	for _, n := range c.nodes {
		must(t, n.Reboot(c.ctx))
	}
	line, addresses := c.followTo(130)
	c.typed("cp1", line+" --yes", 5, "no member is where the others look for it",
		"ip address add "+c.nodes[0].Address+"/32 dev lo", "ip route add "+c.nodes[0].Address+"/32 via 127.0.0.130")
	c.nodes[0].edit(sandbox.ManifestDir+"/etcd.yaml", func(string) string { return before[0] })
	c.nodes[0].eventually("etcd is open to its peers", func() bool { return listens(c.nodes[0].PeerURL()) })
	c.typed("cp1", line+" --dry-run", 0, "the cluster has no quorum now")
	c.typed("cp1", line+" --yes", 0, "which stays where it is: run the command again",
		"The members have a quorum again")
	c.typed("cp1", line+" --yes", 0, "The etcds of 3 nodes serve at their new addresses")
	c.wantAllAt(addresses)
	c.wantRuns("completed")
}
