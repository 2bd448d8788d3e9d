package workflows

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

// movesTo types the command on a node, which is at another loopback address from then on.
func (c *cluster) movesTo(n *node, address string) {
	c.t.Helper()
	c.typed(n.Node, "etcdpod readdress --yes --address "+address, 0, "note: the cluster's ConfigMaps may name ",
		"commit point", "serves at its new address", "change-an-address.md")
	n.Address = address
	c.wantAt(n)
}

// wantAt holds a node, and what the members say of it, to its address.
func (c *cluster) wantAt(n *node) {
	c.t.Helper()
	n.put("/at", n.Address) // through its own etcd
	for _, other := range c.nodes {
		m := c.members(other.Node).named(c.t, n.Node)
		if !m.Answers || !slices.Equal(m.PeerURLs, []string{n.PeerURL()}) ||
			!strings.Contains(strings.Join(m.ClientURLs, " "), "//"+n.Address+":") {
			c.t.Errorf("%s is %+v to %s, and not at %s", n.Node, m, other.Node, n.Address)
		}
	}
	n.wantNames(c.names()...)
	for _, name := range []string{"server", "peer"} {
		if sans := n.addressesIn("/etc/kubernetes/pki/etcd/" + name + ".crt"); !slices.Contains(sans, n.Address) {
			c.t.Errorf("etcd's certificate %s is for %q", name, sans)
		}
	}
}

func (c *cluster) names() (names []string) {
	for _, n := range c.nodes {
		names = append(names, n.Node)
	}
	return names
}

// addressesIn are the addresses that a certificate is for.
func (n *node) addressesIn(file string) (all []string) {
	n.t.Helper()
	data, err := os.ReadFile(n.Path(file))
	must(n.t, err)
	block, _ := pem.Decode(data)
	cert, err := x509.ParseCertificate(block.Bytes)
	must(n.t, err)
	for _, ip := range cert.IPAddresses {
		all = append(all, ip.String())
	}
	return all
}

func TestAMemberOfThreeFollowsItsAddress(t *testing.T) {
	c := startTogether(t)
	second := c.nodes[1]
	old := second.Address
	before := second.manifests()
	for line, want := range map[string]string{
		"--address 192.0.2.77 --yes":                      "this node does not have the address 192.0.2.77",
		"--address 127.0.0.1 --yes":                       "every host reaches itself",
		"--yes --address " + c.nodes[0].Address + "x":     "is no IP address",
		"--address 127.0.0.78":                            "--yes",
		"--address 127.0.0.78 --dry-run --wait-timeout x": "invalid value",
	} {
		code := 2
		if strings.Contains(want, "this node") || strings.Contains(want, "every host") {
			code = 5
		}
		c.typed("cp2", "etcdpod readdress "+line, code, want)
	}
	c.typed("cp2", "etcdpod readdress --yes", 0, "Nothing to do")
	c.typed("cp2", "etcdpod readdress --dry-run --address 127.0.0.78", 0, "stays among the names",
		"/etc/kubernetes/admin.conf names "+old, "kubeadm init phase certs apiserver", "Nothing was changed")
	c.movesTo(second, "127.0.0.78")
	for _, text := range second.manifests() {
		if strings.Contains(text, old) {
			t.Errorf("a manifest still has %s:\n%s", old, text)
		}
	}
	if !slices.Contains(second.addressesIn("/etc/kubernetes/pki/etcd/peer.crt"), old) {
		t.Error("the certificate is not for the old address, which the node still has")
	}
	must(t, second.Reboot(c.ctx))
	must(t, second.WaitEtcd(c.ctx))
	c.wantAt(second)
	c.typed("cp2", "etcdpod readdress --yes", 0, "Nothing to do")

	// While one of the others is down it may not be restarted.
	must(t, c.nodes[2].Crash())
	c.typed("cp2", "etcdpod readdress --yes --address 127.0.0.79", 5, "would lose quorum while this etcd restarts")
	must(t, c.nodes[2].Reboot(c.ctx))
	must(t, c.nodes[2].WaitEtcd(c.ctx))

	// Somebody stops it half-way, and it goes back.
	c.killsReaddress("cp2", "set-peer-url", "127.0.0.79")
	c.typed("cp2", "etcdpod rollback", 0, "Rolled back; everything is as before")
	c.wantAt(second)
	c.killsReaddress("cp2", "await-etcd", "127.0.0.79")
	c.typed("cp2", "etcdpod resume", 0, "Finished")
	second.Address = "127.0.0.79"
	c.wantAt(second)
	if now := second.manifests(); len(now) != len(before) {
		t.Errorf("the manifests were %v, and are %v", before, now)
	}
}

// killsReaddress ends the command when an operation of a phase has begun.
func (c *cluster) killsReaddress(on, phase, address string) {
	c.t.Helper()
	must(c.t, c.KillWhen(c.ctx, on, "etcdpod readdress --yes -o json --address "+address,
		func(p sandbox.Progress) bool { return p.Phase == phase && p.State == "started" }))
}

// A member whose old address is gone is down, and finds the others by what is on its node.
func TestAMemberThatIsDownFollowsItsAddress(t *testing.T) {
	c := startTogether(t)
	third := c.nodes[2]
	// 192.0.2.9 stands for the address that it had: nobody has it.
	third.edit(sandbox.ManifestDir+"/etcd.yaml", func(text string) string {
		return strings.ReplaceAll(text, third.Address, "192.0.2.9")
	})
	third.eventually("etcd is down", func() bool { return !third.runsEtcd() })
	c.movesTo(third, "127.0.0.88")
}

// With two of three at other addresses there is no quorum, and nobody who could be told. But both
// reach the third one at its own URL, which has not changed.
func TestTwoOfThreeFollowAtOnce(t *testing.T) {
	c := startTogether(t)
	for i, n := range c.nodes[1:] {
		n.edit(sandbox.ManifestDir+"/etcd.yaml", func(text string) string {
			return strings.ReplaceAll(text, n.Address, fmt.Sprintf("192.0.2.%d", i))
		})
	}
	for _, n := range c.nodes[1:] {
		n.eventually("etcd is down", func() bool { return !n.runsEtcd() })
	}
	for i, n := range c.nodes[1:] {
		n.Address = fmt.Sprintf("127.0.0.%d", 86+i)
		c.typed(n.Node, "etcdpod readdress --yes --address "+n.Address, 0, "serves at its new address")
	}
	for _, n := range c.nodes {
		c.wantAt(n)
	}
}

func TestAMemberThatIsAloneFollowsItsAddress(t *testing.T) {
	n := start(t, sandbox.Options{})
	n.put("/before", "it moves")
	keys := len(n.keys())
	n.want(0, []string{"readdress", "--dry-run", "--address", "127.0.0.81"}, "takes no writes")
	n.want(0, []string{"readdress", "--dry-run", "--address", "127.0.0.81", "-o", "json"}, `"workflow":"readdress"`)
	n.want(0, []string{"readdress", "--yes", "--address", "127.0.0.81"}, "serves at its new address")
	if now := len(n.keys()); now < keys {
		t.Errorf("there were %d keys, and are %d", keys, now)
	}
	n.Address = "127.0.0.81"
	n.wantNames("cp1")
	n.want(0, []string{"members"}, n.PeerURL())
	n.want(0, []string{"readdress", "--yes"}, "Nothing to do")
	// Its peer URL is one at which every host reaches itself, as in clusters of old kubeadms.
	local := strings.Replace(n.PeerURL(), n.Address, "localhost", 1)
	n.want(0, []string{"members", "set-peer-url", "--yes", "cp1", local})
	n.want(0, []string{"readdress", "--yes", "-o", "json"}, `"workflow":"readdress"`, `"state":"completed"`)
	n.want(0, []string{"members"}, n.PeerURL())
}

func TestAnAddressChangeKilledAnywhereIsFinishedOrTakenBack(t *testing.T) {
	for pass, command := range []string{"resume", "rollback"} {
		t.Run(command, func(t *testing.T) {
			n := start(t, sandbox.Options{})
			plan := n.operations("readdress", "--address", "127.0.0.100")
			if len(plan) < 15 {
				t.Fatalf("an address is changed by %d operations", len(plan))
			}
			for operation := range turns(len(plan), pass, 2) {
				n.put("/before", fmt.Sprint(operation))
				before := n.manifests()
				// One that its certificates are not for yet.
				next := fmt.Sprintf("127.0.0.%d", 100+operation)
				n.killAt(moment{operation, "started", 0}, "readdress", "--yes", "--address", next)
				run, with := n.open(), command
				if run.Committed {
					n.want(5, []string{"rollback"}, "etcdpod resume")
					with = "resume"
				}
				n.done(with)
				n.wantEnding(with)
				if with == "resume" {
					for name, text := range before {
						before[name] = strings.ReplaceAll(text, n.Address, next)
					}
					n.Address = next
				}
				for name, text := range n.manifests() {
					if strings.ReplaceAll(text, `"`, "") != strings.ReplaceAll(before[name], `"`, "") {
						t.Errorf("%s is\n%s\nand not\n%s", name, text, before[name])
					}
				}
				n.want(0, []string{"members"}, n.PeerURL())
				n.wantAllRunning()
				if t.Failed() {
					t.Fatalf("this was after a kill at operation %d, in %s at: %s", operation, run.Phase, run.Operation)
				}
			}
		})
	}
}
