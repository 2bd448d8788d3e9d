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
		if !strings.Contains(string(out), "was started") && !strings.Contains(string(out), "does not answer") &&
			!strings.Contains(string(out), "a learner, which is a voter") {
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
		"--feature-gates=InitialCorruptCheck=true", "crictl pull registry.k8s.io/etcd:3.6.16-0", "etcdpod backup")
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
