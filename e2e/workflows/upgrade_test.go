package workflows

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/etcdpod/etcdpod/e2e/binaries"
)

// upgradePlan is what programs read of `upgrade plan -o json`.
type upgradePlan struct {
	Plans []struct {
		To, Verdict, Sentence string
		Members               []struct {
			Name, Role, Node, Version, Gate, Image string
			Present                                *bool
			Flags                                  []struct{ Kind, Given, Becomes string }
		}
		Findings []struct{ Code, Weight, Node, Text, Next string }
	}
}

const allThree = " --nodes cp1,cp2,cp3"

// awaitPlan looks ahead again and again until that ends well: a member that was just started is not
// to be stopped at once.
func (c *cluster) awaitPlan(args string) (p upgradePlan) {
	c.t.Helper()
	for {
		cmd := c.Command(c.ctx, "cp1", "etcdpod upgrade plan -o json "+args)
		out, _ := cmd.Output()
		if err := json.Unmarshal(out, &p); err != nil {
			c.t.Fatal(err, string(out))
		}
		if cmd.ProcessState.ExitCode() == 0 {
			return p
		}
		passes := false // by itself
		for _, said := range []string{"was started", "does not answer", "a learner, which is a voter",
			"are still those of", "cannot read: it does not start",
			"entries behind"} {
			passes = passes || strings.Contains(string(out), said)
		}
		if !passes {
			c.t.Fatalf("it does not end well: %s", out)
		}
		select {
		case <-c.ctx.Done():
			c.t.Fatalf("until the end: %s", out)
		case <-time.After(time.Second):
		}
	}
}

// plant changes the members in the data of a node whose etcd does not run.
func (n *node) plant(change func(b *bbolt.Bucket) error) {
	n.t.Helper()
	db, err := bbolt.Open(n.Path("/var/lib/etcd/member/snap/db"), 0o600, nil)
	must(n.t, err)
	defer db.Close()
	must(n.t, db.Update(func(tx *bbolt.Tx) error { return change(tx.Bucket([]byte("members"))) }))
}

// asLearner writes a member down as if its promotion had been forgotten.
func asLearner(name string) func(*bbolt.Bucket) error {
	return func(b *bbolt.Bucket) error {
		changed := map[string][]byte{}
		err := b.ForEach(func(k, v []byte) error {
			var m map[string]any
			d := json.NewDecoder(strings.NewReader(string(v)))
			d.UseNumber() // the id does not fit into a float
			if err := d.Decode(&m); err != nil || m["name"] != name {
				return err
			}
			m["isLearner"] = true
			var err error
			changed[string(k)], err = json.Marshal(m)
			return err
		})
		for k, v := range changed {
			if err == nil {
				err = b.Put([]byte(k), v)
			}
		}
		if err == nil && len(changed) != 1 {
			err = fmt.Errorf("%d members are called %s", len(changed), name)
		}
		return err
	}
}

func TestAnUpgradeIsJudgedBeforeAnythingIsTouched(t *testing.T) {
	c := startTogetherOn(t, binaries.Etcd35)
	before, first := c.states(), c.leads()

	p := c.awaitPlan("--to 3.6.16" + allThree).Plans[0]
	if p.Verdict != "well" || p.Sentence != "This will end well." || len(p.Members) != 3 {
		t.Fatalf("%+v", p)
	}
	for i, m := range p.Members {
		if m.Version != binaries.Etcd35 || m.Gate != "passed" || m.Node != m.Name || m.Present == nil ||
			*m.Present || m.Image != "registry.k8s.io/etcd:3.6.16-0" || (m.Name == first) != (i == 2) ||
			len(m.Flags) == 0 {
			t.Errorf("%+v", m)
		}
	}
	c.typed("cp2", "etcdpod upgrade plan"+allThree, 0, "This will end well.", "GATE", "passed", "to pull",
		"--feature-gates=InitialCorruptCheck=true", "`etcdpod upgrade` pulls it before anything is stopped",
		"etcdpod upgrade --to 3.6.16 --nodes cp1,cp2,cp3")
	c.typed("cp2", "etcdpod upgrade plan --to 3.6.16", 5, "Nobody can tell yet whether this will end well, because",
		"etcdpod upgrade plan --nodes cp1,cp2,cp3")
	c.typed("cp1", "etcdpod upgrade plan -o json --to 3.7.3"+allThree, 5, "one minor at a time", "--to 3.6.16")
	c.typed("cp1", "etcdpod upgrade plan --to 3.5.30"+allThree, 5, "This will not end well, because 3.5.30 is older")
	c.typed("cp1", "etcdpod upgrade plan --to 3.5.35"+allThree, 0, "There is nothing to do")
	c.typed("cp1", "etcdpod upgrade plan --to 3.6", 2, "is not a version of etcd", "--to 3.6.16")
	c.wantAsBefore(before)
	c.typed("cp1", "etcdpod runs", 0, "Nothing has been run")

	// A promotion that was never written down, which the member's own next start writes down; and
	// a removed member, which every start of this version removes.
	cp1 := c.nodes[0]
	cp1.stopEtcd()
	cp1.plant(asLearner("cp2"))
	cp1.plant(func(b *bbolt.Bucket) error {
		return b.Put([]byte("abc"), []byte(`{"id":2748,"name":"gone","peerURLs":["https://10.9.9.9:2380"]}`))
	})
	must(t, cp1.StartKubelet(c.ctx))
	must(t, c.WaitReady(c.ctx))
	said := c.typed("cp1", "etcdpod upgrade plan --to 3.6.16"+allThree, 5, "This will not end well",
		"cp1: its data call cp2 a learner, which is a voter", "restart etcd on the node of cp2")
	if strings.Contains(said, "gone") {
		t.Errorf("a removed member stays in the data after a start: %s", said)
	}
	must(t, c.nodes[1].Kill(c.ctx, "etcd"))
	must(t, c.WaitReady(c.ctx))
	if p := c.awaitPlan("--to 3.6.16" + allThree).Plans[0]; p.Verdict != "well" {
		t.Errorf("%+v", p)
	}

	c.nodes[2].stopEtcd()
	c.typed("cp1", "etcdpod upgrade plan --to 3.6.16"+allThree, 5, "This will not end well, because cp3 does not "+
		"answer",
		"cp3: the kubelet is not running")
	must(t, c.PowerOff("cp3"))
	c.typed("cp1", "etcdpod upgrade plan --to 3.6.16"+allThree, 5, "cp3 cannot be reached")
}

// What is said to end well does, in the order and with the flags of the plan, also by hand: from
// the oldest etcd to the newest. What is told to be rewritten must be: the
// others' flags stay as they are.
func TestAnUpgradeThatIsSaidToEndWellDoes(t *testing.T) {
	c := startTogetherOn(t, binaries.Etcd35)
	must(t, c.WaitReady(c.ctx))
	for _, n := range c.nodes {
		images := n.Images()
		for _, version := range binaries.EtcdVersions() {
			images["registry.k8s.io/etcd:"+version+"-0"] = etcdBinary(t, version)
		}
		must(t, n.SetImages(images))
	}
	for _, to := range binaries.EtcdVersions()[1:] {
		plan := c.awaitPlan("--to " + to + allThree).Plans[0]
		rewritten := 0
		for _, m := range plan.Members {
			if m.Present == nil || !*m.Present {
				t.Errorf("the image is there: %+v", m)
			}
			n := c.nodes[0]
			for _, other := range c.nodes {
				if other.Node == m.Node {
					n = other
				}
			}
			n.edit("/etc/kubernetes/manifests/etcd.yaml", func(text string) string {
				text = strings.Replace(text, "registry.k8s.io/etcd:"+m.Version+"-0", m.Image, 1)
				// For a snapshot of the log soon: 3.7 cannot read what 3.5 wrote into it.
				text = strings.Replace(text, "--snapshot-count=10000", "--snapshot-count=20", 1)
				for _, f := range m.Flags {
					if f.Kind == "renamed" || f.Kind == "gated" {
						rewritten++
						text = strings.Replace(text, "- "+f.Given, "- "+f.Becomes, 1)
					}
				}
				return text
			})
			c.awaitVersion(m.Name, to)
		}
		if to == binaries.Etcd37 != (rewritten > 0) || to == binaries.Etcd37 !=
			strings.Contains(plan.Sentence, "with the flags written as below") {
			t.Errorf("to %s, %d flags were rewritten: %q", to, rewritten, plan.Sentence)
		}
		c.typed("cp1", "etcdpod upgrade plan --to "+to+allThree, 0, "There is nothing to do: all members run etcd "+to)
		must(t, c.nodes[0].Load(c.ctx, 100, 100))
	}
	must(t, c.WaitReady(c.ctx))
}

// awaitVersion waits until a member runs a version, and the whole cluster answers and has caught
// up.
func (c *cluster) awaitVersion(name, version string) {
	c.t.Helper()
	for {
		cmd := c.Command(c.ctx, "cp1", "etcdpod members -o json")
		out, _ := cmd.Output()
		var l listing
		ready := json.Unmarshal(out, &l) == nil && l.Quorum
		for _, m := range l.Members {
			ready = ready && m.Answers && (m.Name != name || m.Version == version)
		}
		if ready {
			return
		}
		select {
		case <-c.ctx.Done():
			c.t.Fatalf("%s does not run %s: %s", name, version, out)
		case <-time.After(time.Second):
		}
	}
}
