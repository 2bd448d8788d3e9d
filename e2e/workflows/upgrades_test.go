package workflows

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdpod/etcdpod/e2e/binaries"
	"github.com/etcdpod/etcdpod/e2e/sandbox"
	"github.com/etcdpod/etcdpod/e2e/writer"
)

// canPull has the images of all etcds in the registry of each node.
func (c *cluster) canPull() {
	c.t.Helper()
	for _, n := range c.nodes {
		registry := map[string]string{}
		for _, version := range binaries.EtcdVersions() {
			registry["registry.k8s.io/etcd:"+version+"-0"] = etcdBinary(c.t, version)
		}
		must(c.t, n.SetRegistry(registry))
	}
}

// snapsOften has etcd write a snapshot of its log soon: 3.7 cannot read what 3.5 wrote into it.
func (c *cluster) snapsOften() {
	c.t.Helper()
	for _, n := range c.nodes {
		n.edit(sandbox.ManifestDir+"/etcd.yaml", func(text string) string {
			return strings.Replace(text, "--snapshot-count=10000", "--snapshot-count=20 # often", 1)
		})
		c.awaitVersion(n.Node, c.nodes[0].EtcdVersion)
	}
	must(c.t, c.WaitReady(c.ctx))
}

// wantVersions holds the members to what they run, and the manifests to the image.
func (c *cluster) wantVersions(versions ...string) {
	c.t.Helper()
	c.nodes[0].eventually("all members answer", func() bool {
		l := c.members("cp1")
		return l.Quorum && !slices.ContainsFunc(l.Members, func(m listedMember) bool { return !m.Answers })
	})
	for i, m := range c.members("cp1").Members {
		if m.Version != versions[min(i, len(versions)-1)] {
			c.t.Errorf("%s runs %s, and not %s", m.Name, m.Version, versions)
		}
	}
}

// imageTag is what kubeadm's ClusterConfiguration has.
func (n *node) imageTag() string {
	n.t.Helper()
	var config struct{ Data map[string]string }
	api, err := n.API()
	must(n.t, err)
	must(n.t, api.Do(n.ctx, http.MethodGet, "/api/v1/namespaces/kube-system/configmaps/kubeadm-config", nil, &config))
	_, tag, _ := strings.Cut(config.Data["ClusterConfiguration"], "imageTag: ")
	tag, _, _ = strings.Cut(tag, "\n")
	return tag
}

// killUpgrade ends the coordinator, on cp1, when a node has begun an operation of a phase.
func (c *cluster) killUpgrade(to, phase, on, operation string) {
	c.t.Helper()
	line := "etcdpod upgrade --yes -o json --to " + to + allThree
	must(c.t, c.KillWhen(c.ctx, "cp1", line, func(p sandbox.Progress) bool {
		return p.Phase == phase && (on == "" || p.Node == on) && p.State == "started" &&
			strings.HasPrefix(p.Operation, operation)
	}))
}

func TestThreeMembersAreUpgradedWhileAClientWrites(t *testing.T) {
	c := startTogetherOn(t, binaries.Etcd35)
	c.snapsOften()
	c.canPull()
	c.awaitPlan("--to 3.6.16" + allThree)
	before := c.states()
	turns := c.awaitPlan("--to 3.6.16" + allThree).Plans[0].Members

	// What is refused changes nothing.
	c.typed("cp1", "etcdpod upgrade --yes"+allThree, 2, "no version is given", "etcdpod upgrade plan")
	c.typed("cp1", "etcdpod upgrade --yes --to 3.7.3"+allThree, 5, "This will not end well, because",
		"one minor at a time")
	c.typed("cp1", "etcdpod upgrade --yes --to 3.6.16 --nodes cp1,cp2", 5, "Nobody can tell yet")
	c.typed("cp1", "etcdpod upgrade --yes --to 3.6.16 --image registry.k8s.io/etcd:3.7.3-0"+allThree, 2,
		"is etcd 3.7.3, and not 3.6.16")
	c.typed("cp1", "etcdpod upgrade --yes --to 3.6.16 --image registry.k8s.io/etcd:3.6.16-9"+allThree, 5,
		"cannot pull the image registry.k8s.io/etcd:3.6.16-9", "everything is as before", "crictl pull")
	c.typed("cp1", "etcdpod upgrade --to 3.6.16 --dry-run"+allThree, 0, "pull the image registry.k8s.io/etcd:3.6.16-0",
		"take a backup", "turn 3 of 3", "the commit point is just before it", "Nothing was changed")
	c.wantAsBefore(before)

	// The coordinator is killed in the middle of the second member's turn; all goes back.
	c.killUpgrade("3.6.16", "replace-members", turns[1].Node, "set the image")
	c.typed("cp1", "etcdpod status", 6, "etcdpod rollback")
	c.typed(turns[1].Node, "etcdpod rollback", 0, "everything is as before")
	c.wantVersions(binaries.Etcd35)
	c.wantAsBefore(before)
	c.wantRuns("rolled back")
	c.awaitPlan("--to 3.6.16" + allThree)

	// And once more; now it is finished, by another node.
	var clients []*clientv3.Client
	var endpoints []string
	for _, n := range c.nodes {
		client, err := n.EtcdClient()
		must(t, err)
		defer client.Close()
		clients, endpoints = append(clients, client), append(endpoints, client.Endpoints()...)
	}
	clients[0].SetEndpoints(endpoints...)
	w := writer.Begin(c.ctx, clients[0])
	defer w.End()
	turns = c.awaitPlan("--to 3.6.16" + allThree).Plans[0].Members
	c.killUpgrade("3.6.16", "replace-members", turns[1].Node, "wait until etcd 3.6.16 runs")
	c.typed("cp2", "etcdpod resume", 0)
	c.wantVersions(binaries.Etcd36)
	c.wantRuns("completed")
	if tag := c.nodes[0].imageTag(); tag != "3.6.16-0" {
		t.Errorf("kubeadm's tag is %q", tag)
	}
	for i, n := range c.nodes {
		want := strings.Replace(before[i].manifests["etcd.yaml"], "etcd:3.5.35-0", "etcd:3.6.16-0", 1)
		if got := n.manifests()["etcd.yaml"]; got != want {
			t.Errorf("the manifest of %s is\n%s\nand should be\n%s", n.Node, got, want)
		}
	}
	c.typed("cp3", "etcdpod upgrade --yes --to 3.6.16"+allThree, 0, "Nothing to do: all members run etcd 3.6.16.")

	// To 3.7 flags have other names. Past the commit point there is no way back.
	turns = c.awaitPlan("--to 3.7.3" + allThree).Plans[0].Members
	c.killUpgrade("3.7.3", "replace-last", turns[2].Node, "")
	c.typed("cp2", "etcdpod rollback", 5, "the version of the cluster rises once all members run the new etcd")
	c.typed("cp2", "etcdpod resume", 0)
	w.End()
	must(t, c.WaitReady(c.ctx))
	c.wantVersions(binaries.Etcd37)
	for _, n := range c.nodes {
		text := n.manifests()["etcd.yaml"]
		if !strings.Contains(text, "--feature-gates=InitialCorruptCheck=true\n") ||
			!strings.Contains(text, "--watch-progress-notify-interval=5s\n") ||
			!strings.Contains(text, "--snapshot-count=20 # often\n") || strings.Contains(text, "experimental") {
			t.Errorf("the manifest of %s is\n%s", n.Node, text)
		}
		if tag := n.imageTag(); tag != "3.7.3-0" {
			t.Errorf("kubeadm's tag is %q", tag)
		}
	}
	lost, err := w.LostIn(c.ctx, clients[2])
	must(t, err)
	if len(lost) > 0 || w.Acknowledged == 0 {
		t.Errorf("of %d acknowledged writes these are lost: %v", w.Acknowledged, lost)
	}
	t.Logf("%d writes were acknowledged, none may be lost; the longest gap was %v", w.Acknowledged, w.Gap)
	backups, err := filepath.Glob(c.nodes[0].Path("/var/lib/etcdpod/backups/*.db"))
	if err != nil || len(backups) == 0 {
		t.Errorf("there is no backup: %v", err)
	}
	for _, file := range backups {
		c.nodes[0].done("verify", file)
	}
}

// Without an API server there is nobody who could be told, as on nodes that run etcd alone.
func TestTheOnlyMemberIsUpgradedWithoutAnAPIServer(t *testing.T) {
	n := start(t, sandbox.Options{NoAPIServer: true})
	must(t, n.SetRegistry(map[string]string{"registry.k8s.io/etcd:3.7.3-0": etcdBinary(t, binaries.Etcd37)}))
	before := n.keys()
	n.eventually("it has run for five seconds", func() bool {
		return n.run("upgrade", "plan", "--to", "3.7.3").Code == 0
	})
	n.want(0, []string{"upgrade", "--to", "3.7.3", "--dry-run"}, "turn 1 of 1", "there is one member", "replace-last")
	n.want(0, []string{"upgrade", "--to", "3.7.3", "--yes"}, "All members run etcd 3.7.3",
		"the version of the cluster, and of this member's data, is 3.7.0")
	if diff := sandbox.Diff(before, n.keys()); len(diff) > 0 {
		t.Errorf("its data differ in %v", diff)
	}
	n.want(0, []string{"upgrade", "--to", "3.7.3", "--yes"}, "Nothing to do")
	n.want(0, []string{"prune", "--yes"})
	if _, err := os.Stat(n.Path("/var/lib/etcdpod/backups")); err != nil {
		t.Errorf("its backup is gone: %v", err)
	}
}

func TestCtrlCPressedDuringAnUpgradeIsHeededOnAll(t *testing.T) {
	c := startTogether(t)
	c.canPull()
	i := c.interruptible(c.nodes, "upgrade", "--to", "3.7.3", "--nodes", "cp1,cp2,cp3")
	i.before = func() {
		c.awaitPlan("--to 3.7.3" + allThree)
		c.leadBy("cp3") // its turn is the last
	}
	i.old = func() { c.wantVersions(binaries.Etcd36) }
	i.new = func() { c.wantVersions(binaries.Etcd37) }
	i.back = true
	c.pressAt(i, at{"pull-images", "cp2"}, at{"backup", "cp1"}, at{"replace-members", "cp1"},
		at{"replace-members", "cp2"}, at{"replace-last", "cp3"})
}

// With all API servers down nobody is told the new tag: then how to set it is said, and by the next
// run it is set.
func TestAnUpgradeNeedsNoAPIServer(t *testing.T) {
	c := startTogether(t)
	c.canPull()
	for _, n := range c.nodes {
		n.replaceImage("kube-apiserver", func(string) string { return "/bin/false" })
		must(t, n.Kill(c.ctx, "kube-apiserver"))
	}
	c.awaitPlan("--to 3.7.3" + allThree)
	c.typed("cp1", "etcdpod upgrade --yes --to 3.7.3"+allThree, 0, "All members run etcd 3.7.3",
		"kubectl -n kube-system edit configmap kubeadm-config", `set etcd.local.imageTag to "3.7.3-0"`)
	c.wantVersions(binaries.Etcd37)
	c.wantRuns("completed")
	for _, n := range c.nodes {
		images := n.Images()
		images["registry.k8s.io/etcd:3.7.3-0"] = etcdBinary(t, binaries.Etcd37)
		must(t, n.SetImages(images))
	}
	must(t, c.WaitReady(c.ctx))
	c.typed("cp2", "etcdpod upgrade plan --to 3.7.3"+allThree, 0, "There is nothing to do", "kubeadm would set up etcd",
		"etcdpod upgrade --to 3.7.3")
	c.typed("cp2", "etcdpod upgrade --yes --to 3.7.3"+allThree, 0, "All members run etcd 3.7.3 already: kubeadm's "+
		"imageTag was all that was left")
	if tag := c.nodes[0].imageTag(); tag != "3.7.3-0" {
		t.Errorf("kubeadm's tag is %q", tag)
	}
}
