package workflows

import (
	"strings"
	"testing"
)

// One member is restored; the others move their data aside and join it. Then a coordinator is
// killed while they do, and the run is finished.
func TestOneMemberIsRestoredAndTheOthersJoinIt(t *testing.T) {
	c := startTogether(t)
	b := c.nodes[0].backup()
	c.nodes[1].change()
	before := c.states()
	c.typed("cp1", "etcdpod restore --yes --rejoin "+b.file, 2, "--nodes")
	c.typed("cp1", "etcdpod restore --dry-run --rejoin --nodes cp1,cp2,cp3 "+b.file,
		0, "add the learner", "Nothing was changed")
	c.typed("cp1", "etcdpod restore --yes --rejoin --nodes cp1,cp2,cp3 "+b.file, 0, "Restored on 3 nodes")
	c.wantJoined(b, before)
}

func TestARejoinThatIsKilledIsFinishedOrTakenBack(t *testing.T) {
	c := startTogether(t)
	b := c.nodes[0].backup()
	for _, m := range []kill{
		{"exchange-data", "cp2", "cp1", "rollback"},
		{"exchange-data", "cp3", "cp3", "resume"},
		{"rejoin", "cp2", "cp1", "resume"},
		{"rejoin", "cp3", "cp2", "resume"},
	} {
		c.killAndSettle(m, b, c.wantJoined, "--rejoin")
	}
}

// wantJoined: all nodes serve the backup as voting members of one cluster. The manifests of those
// that joined are those that kubeadm renders for a member that joins.
func (c *cluster) wantJoined(b backup, before []state) {
	c.t.Helper()
	for i, now := range c.states() {
		if i > 0 {
			etcd := now.manifests["etcd.yaml"]
			if !strings.Contains(etcd, "--initial-cluster-state=existing") ||
				!strings.Contains(etcd, "--initial-cluster=cp1=") {
				c.t.Errorf("the manifest of %s is none of a member that joined:\n%s", c.nodes[i].Node, etcd)
			}
			before[i].manifests["etcd.yaml"] = etcd
		}
	}
	c.wantNew(b, before)
}
