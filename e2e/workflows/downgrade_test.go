package workflows

import (
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdpod/etcdpod/e2e/binaries"
	"github.com/etcdpod/etcdpod/e2e/sandbox"
	"github.com/etcdpod/etcdpod/e2e/writer"
)

// awaitDown plans a downgrade again and again until nothing stands in the way: a member that was
// just started is not to be stopped at once.
func (c *cluster) awaitDown(to string) {
	c.t.Helper()
	for {
		out, err := c.Command(c.ctx, "cp1", "etcdpod downgrade --dry-run --to "+to+allThree).CombinedOutput()
		if err == nil {
			return
		}
		passes := false // by itself
		for _, said := range []string{"was started", "does not answer", "are still those of", "entries behind"} {
			passes = passes || strings.Contains(string(out), said)
		}
		if !passes {
			c.t.Fatalf("it is refused: %s", out)
		}
		select {
		case <-c.ctx.Done():
			c.t.Fatalf("until the end: %s", out)
		case <-time.After(time.Second):
		}
	}
}

// killDowngrade ends the coordinator, on cp1, when an operation of a phase begins on a node.
func (c *cluster) killDowngrade(to, phase, on, operation string) {
	c.t.Helper()
	must(c.t, c.KillWhen(c.ctx, "cp1", "etcdpod downgrade --yes -o json --to "+to+allThree,
		func(p sandbox.Progress) bool {
			return p.Phase == phase && (on == "" || p.Node == on) && p.State == "started" &&
				strings.HasPrefix(p.Operation, operation)
		}))
}

// hashAt is the hash of the keys up to a revision, which must be the same on all members.
func (c *cluster) hashAt(clients []*clientv3.Client, revision int64) (hash uint32) {
	c.t.Helper()
	for i, client := range clients {
		h, err := client.HashKV(c.ctx, client.Endpoints()[0], revision)
		must(c.t, err)
		if i > 0 && h.Hash != hash {
			c.t.Errorf("the keys of %s differ from the others'", c.nodes[i].Node)
		}
		hash = h.Hash
	}
	return hash
}

// clients are one for each member, and one for all.
func (c *cluster) clients() (each []*clientv3.Client, all *clientv3.Client) {
	c.t.Helper()
	var endpoints []string
	for _, n := range append(slices.Clone(c.nodes), c.nodes[0]) {
		client, err := n.EtcdClient()
		must(c.t, err)
		c.t.Cleanup(func() { _ = client.Close() })
		each, endpoints = append(each, client), append(endpoints, client.Endpoints()...)
	}
	all = each[len(each)-1]
	all.SetEndpoints(endpoints[:len(c.nodes)]...)
	return each[:len(c.nodes)], all
}

// storage are the versions of the members' data.
func (c *cluster) storage(version string) {
	c.t.Helper()
	c.nodes[0].eventually("the data of all members are of "+version, func() bool {
		l := c.members("cp1")
		return !slices.ContainsFunc(l.Members, func(m listedMember) bool { return m.StorageVersion != version })
	})
}

// wantManifests holds etcd's manifests to what they were.
func (c *cluster) wantManifests(before []state) {
	c.t.Helper()
	for i, n := range c.nodes {
		if got, want := n.manifests()["etcd.yaml"], before[i].manifests["etcd.yaml"]; got != want {
			c.t.Errorf("the manifest of %s is\n%s\nand was\n%s", n.Node, got, want)
		}
	}
}

// turns are the members in the order of their turns: the last one leads, and enables the downgrade.
func (c *cluster) turns() (all []string) {
	lead := c.leads()
	for _, n := range c.nodes {
		if n.Node != lead {
			all = append(all, n.Node)
		}
	}
	return append(all, lead)
}

func (c *cluster) cancelByHand(client *clientv3.Client) {
	c.t.Helper()
	_, err := client.Downgrade(c.ctx, clientv3.DowngradeCancel, "")
	must(c.t, err)
}

// From 3.7 to 3.5 and up again, while a client writes: nothing is lost, the keys up to a revision
// stay what they are, and the manifests come back byte for byte.
func TestThreeMembersAreTakenDownAndUpAgainWhileAClientWrites(t *testing.T) {
	c := startTogetherOn(t, binaries.Etcd37)
	c.snapsOften()
	c.canPull()
	c.awaitDown("3.6.16")
	before := c.states()
	each, all := c.clients()
	at, err := all.Get(c.ctx, "some key")
	must(t, err)
	hash := c.hashAt(each, at.Header.Revision)
	w := writer.Begin(c.ctx, all)
	defer w.End()

	// The coordinator is killed before the downgrade is enabled, and then before the data of all
	// are lowered: both times another node cancels it.
	c.killDowngrade("3.6.16", "enable", "", "enable the downgrade")
	c.typed("cp2", "etcdpod rollback", 0, "everything is as before")
	c.killDowngrade("3.6.16", "await-storage-version", "", "wait until the data")
	c.typed("cp1", "etcdpod status", 6, "etcdpod rollback")
	c.typed("cp3", "etcdpod rollback", 0, "everything is as before")
	c.storage("3.7.0")
	c.wantVersions(binaries.Etcd37)
	c.wantManifests(before)
	c.awaitDown("3.6.16")

	// Past the commit point, before the first member is replaced, somebody cancels it.
	c.killDowngrade("3.6.16", "replace-members", "", "see that the downgrade")
	c.cancelByHand(all)
	c.storage("3.7.0")
	c.typed("cp2", "etcdpod rollback", 5, "members may run the older etcd already")
	c.typed("cp2", "etcdpod resume", 3, "somebody has cancelled the downgrade to 3.6", "enables the downgrade again")
	c.wantVersions(binaries.Etcd37)
	c.typed("cp3", "etcdpod resume", 0)
	c.wantVersions(binaries.Etcd36)
	c.storage("3.6.0")
	for _, n := range c.nodes {
		if tag := n.imageTag(); tag != "3.6.16-0" {
			t.Errorf("kubeadm's tag is %q", tag)
		}
	}
	if now := c.hashAt(each, at.Header.Revision); now != hash {
		t.Errorf("with 3.6 the hash is %d, and was %d", now, hash)
	}

	// Between two members, and finished by another node.
	c.awaitDown("3.5.35")
	c.killDowngrade("3.5.35", "replace-members", c.turns()[1], "stop the kubelet")
	c.typed("cp2", "etcdpod resume", 0)
	c.wantVersions(binaries.Etcd35)
	c.wantRuns("completed")
	for _, n := range c.nodes {
		text := n.manifests()["etcd.yaml"]
		if !strings.Contains(text, "--experimental-initial-corrupt-check=true\n") ||
			!strings.Contains(text, "--experimental-watch-progress-notify-interval=5s\n") ||
			!strings.Contains(text, "--snapshot-count=20 # often\n") || strings.Contains(text, "feature-gates") {
			t.Errorf("the manifest of %s is\n%s", n.Node, text)
		}
	}
	if now := c.hashAt(each, at.Header.Revision); now != hash {
		t.Errorf("with 3.5 the hash is %d, and was %d", now, hash)
	}
	c.typed("cp3", "etcdpod downgrade --yes --to 3.5.35"+allThree, 0, "Nothing to do: all members run etcd 3.5.35.")

	for _, to := range []string{"3.6.16", "3.7.3"} {
		c.awaitPlan("--to " + to + allThree)
		c.typed("cp1", "etcdpod upgrade --yes --to "+to+allThree, 0, "All members run etcd "+to)
	}
	w.End()
	must(t, c.WaitReady(c.ctx))
	if now := c.hashAt(each, at.Header.Revision); now != hash {
		t.Errorf("up again the hash is %d, and was %d", now, hash)
	}
	c.wantManifests(before)
	lost, err := w.LostIn(c.ctx, each[2])
	must(t, err)
	if len(lost) > 0 || w.Acknowledged == 0 {
		t.Errorf("of %d acknowledged writes these are lost: %v", w.Acknowledged, lost)
	}
	t.Logf("%d writes were acknowledged, none may be lost; the longest gap was %v", w.Acknowledged, w.Gap)
}

// A downgrade that somebody has enabled and forgotten is found, and cancelled or gone on with.
func TestADowngradeThatSomebodyHasForgottenIsTakenBackOrFinished(t *testing.T) {
	c := startTogetherOn(t, binaries.Etcd37)
	c.canPull()
	c.awaitDown("3.6.16")
	_, all := c.clients()
	before := c.states()

	// What is refused changes nothing.
	c.typed("cp1", "etcdpod downgrade --yes"+allThree, 2, "no version is given")
	c.typed("cp1", "etcdpod downgrade --yes --to 3.5.35"+allThree, 5, "one minor at a time", "--to 3.6.16")
	c.typed("cp1", "etcdpod downgrade --yes --to 3.7.2"+allThree, 5, "3.7.2 is of the minor that runs")
	c.typed("cp1", "etcdpod downgrade --yes --to 3.6.16 --nodes cp1,cp2", 5, "nobody has looked at the data",
		"--nodes cp1,cp2,cp3")
	c.typed("cp1", "etcdpod downgrade --yes --to 3.6.16 --image registry.k8s.io/etcd:3.6.16-9"+allThree, 5,
		"cannot pull the image registry.k8s.io/etcd:3.6.16-9", "everything is as before", "crictl pull")
	c.typed("cp1", "etcdpod downgrade --to 3.6.16 --dry-run"+allThree, 0, "enable the downgrade to 3.6",
		"turn 3 of 3", "Nothing was changed")
	c.typed("cp1", "etcdpod downgrade cancel --yes", 0, "Nothing to do: no downgrade of etcd is enabled.")
	c.wantAsBefore(before)

	enable := func() {
		_, err := all.Downgrade(c.ctx, clientv3.DowngradeEnable, "3.6.0")
		must(t, err)
		c.storage("3.6.0")
	}
	enable()
	c.typed("cp2", "etcdpod status", 6, "a downgrade of etcd to 3.6", "etcdpod downgrade cancel",
		"etcdpod downgrade --to 3.6")
	c.typed("cp1", "etcdpod upgrade plan --to 3.7.3"+allThree, 0, "There is nothing to do")
	c.typed("cp2", "etcdpod downgrade cancel --dry-run", 0, "cancels the downgrade of etcd to 3.6.0",
		"Nothing was changed")
	c.typed("cp2", "etcdpod downgrade cancel --yes", 0, "The downgrade to 3.6.0 is cancelled; the version of the "+
		"cluster is 3.7.0")
	c.storage("3.7.0")
	c.wantAsBefore(before)

	// What was enabled before stays so when the run goes back, and is gone on with by the next.
	enable()
	c.killDowngrade("3.6.16", "await-storage-version", "", "wait until the data")
	c.typed("cp2", "etcdpod rollback", 0, "everything is as before")
	c.storage("3.6.0")
	c.typed("cp1", "etcdpod downgrade --yes --to 3.6.16"+allThree, 0, "All members run etcd 3.6.16, and the downgrade "+
		"has ended")
	c.wantVersions(binaries.Etcd36)
	if said := c.typed("cp1", "etcdpod downgrade cancel --yes", 0); !strings.Contains(said, "Nothing to do") {
		t.Errorf("it has not ended: %s", said)
	}
}

// Without an API server there is nobody who could be told, and the only member is the leader, too.
func TestTheOnlyMemberIsTakenDownWithoutAnAPIServer(t *testing.T) {
	n := start(t, sandbox.Options{NoAPIServer: true})
	must(t, n.SetRegistry(map[string]string{"registry.k8s.io/etcd:3.5.35-0": etcdBinary(t, binaries.Etcd35)}))
	before := n.keys()
	n.eventually("it has run for five seconds", func() bool {
		return n.run("downgrade", "--to", "3.5.35", "--dry-run").Code == 0
	})
	n.want(0, []string{"downgrade", "--to", "3.5.35", "--dry-run"}, "turn 1 of 1", "there is one member")
	n.want(0, []string{"downgrade", "--to", "3.5.35", "--yes"}, "All members run etcd 3.5.35",
		"the downgrade has ended, and the version of the cluster is 3.5.0")
	if diff := sandbox.Diff(before, n.keys()); len(diff) > 0 {
		t.Errorf("its data differ in %v", diff)
	}
	n.want(5, []string{"downgrade", "--to", "3.4.42", "--yes"}, "etcd goes down from 3.6 on")
}
