package workflows

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdpod/etcdpod/e2e/binaries"
	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

// second writes the manifest of a second etcd, beside the first, and returns its host path.
func (n *node) second(ports [2]int) string {
	n.t.Helper()
	file := sandbox.ManifestDir + "/etcd-events.yaml"
	must(n.t, os.WriteFile(n.Path(file), fmt.Appendf(nil, `apiVersion: v1
kind: Pod
metadata: {name: etcd-events, namespace: kube-system, labels: {component: etcd-events}}
spec:
  hostNetwork: true
  containers:
  - name: etcd-events
    image: %s
    command: [etcd, --data-dir=/var/lib/etcd-events, --name=events,
      "--listen-client-urls=http://127.0.0.1:%[2]d", "--advertise-client-urls=http://127.0.0.1:%[2]d",
      "--listen-peer-urls=http://127.0.0.1:%[3]d", "--initial-advertise-peer-urls=http://127.0.0.1:%[3]d",
      "--initial-cluster=events=http://127.0.0.1:%[3]d"]
    volumeMounts: [{name: data, mountPath: /var/lib/etcd-events}]
  volumes: [{name: data, hostPath: {path: /var/lib/etcd-events, type: DirectoryOrCreate}}]
`, n.etcdImage(), ports[0], ports[1]), 0o600))
	return file
}

// freePorts are two that nobody listens at.
func freePorts(t *testing.T) (ports [2]int) {
	t.Helper()
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		defer l.Close()
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports
}

// Its file comes before etcd.yaml in the directory.
func TestASecondEtcdIsNamedAndLeftAlone(t *testing.T) {
	n := start(t, sandbox.Options{})
	file := n.second(freePorts(t))
	must(t, os.WriteFile(n.Path(sandbox.ManifestDir+"/README"), []byte("etcd-events.yaml is for events\n"), 0o600))
	n.eventually("the second etcd runs", func() bool {
		c, found, err := n.Container(n.ctx, "etcd-events")
		must(t, err)
		return found && c.State == "running"
	})
	n.want(6, []string{"status"}, "runs another etcd, kube-system/etcd-events: etcdpod does not back it up")
	n.want(0, []string{"backup"}, "this backup does not include it")
	n.change()
	b := n.backup()
	n.change()
	before := n.state()
	n.want(0, []string{"restore", "--dry-run", b.file}, "another etcd, kube-system/etcd-events",
		"README is not something")
	n.done("restore", b.file, "--yes")
	for _, there := range []string{file, sandbox.ManifestDir + "/README"} {
		if _, err := os.Stat(n.Path(there)); err != nil {
			t.Error(err)
		}
	}
	must(t, os.Remove(n.Path(sandbox.ManifestDir+"/README"))) // no container runs from it
	delete(before.manifests, "README")
	n.wantNew(b, before)

	// kubeadm would render another data directory.
	api, err := n.API()
	must(t, err)
	var config map[string]any
	const at = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config"
	must(t, api.Do(n.ctx, http.MethodGet, at, nil, &config))
	stored := config["data"].(map[string]any)
	stored["ClusterConfiguration"] = strings.Replace(stored["ClusterConfiguration"].(string),
		"dataDir: "+sandbox.DataDir, "dataDir: /srv/old", 1)
	must(t, api.Do(n.ctx, http.MethodPut, at, config, nil))
	n.want(6, []string{"status"}, "kubeadm's ClusterConfiguration says /srv/old")

	// A copy of etcd's manifest: the nightly backup goes on, changes do not.
	text, err := os.ReadFile(n.Path(sandbox.ManifestDir + "/etcd.yaml"))
	must(t, err)
	must(t, os.WriteFile(n.Path(sandbox.ManifestDir+"/etcd.yaml.bak"), text, 0o600))
	n.done("backup")
	n.want(5, []string{"certs", "renew", "--yes"}, "2 files claim the pod kube-system/etcd", "the kubelet runs every "+
		"file in that directory, whatever its name, but only one for each pod: move the others out")
	n.want(6, []string{"status"}, "2 files claim the pod kube-system/etcd")
}

func TestValuesThatOnlyTheContainerKnowsAreTakenFromIt(t *testing.T) {
	n := create(t, sandbox.Options{NoAPIServer: true})
	t.Parallel()
	file := n.Path(sandbox.ManifestDir + "/etcd.yaml")
	data, err := os.ReadFile(file)
	must(t, err)
	text := strings.Replace(string(data), "- --name="+n.Node, "- --name=$(NODE)", 1)
	text = strings.ReplaceAll(text, "https://"+n.Address+":", "https://$(POD_IP):")
	text = strings.Replace(text, "  annotations:\n", "  annotations:\n    example/address: "+n.Address+"\n", 1)
	text = strings.Replace(text, "    image: ", "    env:\n    - name: NODE\n      valueFrom: {fieldRef: {fieldPath: "+
		"spec.nodeName}}\n    - name: POD_IP\n      valueFrom: {fieldRef: {fieldPath: \"metadata.annotations["+
		"'example/address']\"}}\n    image: ", 1)
	text = strings.Replace(text, "  containers:\n", "  containers:\n  - name: shipper\n    image: logs:1\n"+
		"    command: [sleep, \"100000\"]\n", 1)
	must(t, os.WriteFile(file, []byte(text), 0o600))
	images := n.Images()
	images["logs:1"] = "/bin/sleep"
	must(t, n.SetImages(images))
	// Before it has ever run, nothing tells the values; that is said before anything is stopped.
	must(t, n.StartRuntime(n.ctx))
	n.want(5, []string{"certs", "renew", "--yes"}, "etcd.yaml takes POD_IP, NODE", "write the value")
	must(t, n.StartKubelet(n.ctx))
	must(t, n.WaitEtcd(n.ctx))
	n.put("/registry/configmaps/default/a", "b")
	b := n.backup()
	n.put("/registry/configmaps/default/a", "c")
	r := n.want(0, []string{"status", "-o", "json"})
	for _, part := range []string{`"name":"` + n.Node + `"`, `"image":"` + n.etcdImage() + `"`} {
		if !strings.Contains(r.Stdout, part) {
			t.Errorf("status does not say %s: %s", part, r.Stdout)
		}
	}
	n.done("certs", "renew", "--yes")
	n.done("restore", b.file, "--yes")
	must(t, n.WaitEtcd(n.ctx))
	if now, err := os.ReadFile(file); err != nil || string(now) != text {
		t.Errorf("the manifest has changed: %v\n%s", err, now)
	}
}

// Its etcd starts on the empty directory, and ends as soon as the leader speaks to it.
func TestAMemberOfThreeThatWasEmptiedIsSentTheWayBackAtOnce(t *testing.T) {
	first := founder(t, binaries.Etcd36)
	second, third := first.newcomer(1), first.newcomer(2)
	second.done(second.typed("--yes")...)
	third.done(third.typed("--yes")...)
	must(t, third.StopKubelet(third.ctx))
	must(t, third.Kill(third.ctx, "etcd"))
	third.eventually("etcd has ended", func() bool { return len(third.running()) == 0 })
	must(t, os.RemoveAll(third.DataPath()+"/member"))
	must(t, third.StartKubelet(third.ctx))
	third.eventually("etcd was started on nothing", func() bool {
		c, found, err := third.Container(third.ctx, "etcd")
		must(t, err)
		return found && c.State == "exited" && c.Attempt > 1
	})
	third.want(5, third.typed("--yes"), "is a voting member, but", "etcdpod remove",
		"move away what is in "+sandbox.DataDir)
	third.want(6, []string{"status"}, "holds none of its data: it was emptied", "bring it back as a new member")

	// The way back that it names.
	third.reset(true)
	first.etcd(func(c *clientv3.Client) error {
		r, err := c.MemberList(first.ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(r.Members, func(m *pb.Member) bool { return m.Name == third.Node })
		_, err = c.MemberRemove(first.ctx, r.Members[i].ID)
		return err
	})
	third.done(third.typed("--yes")...)
	first.wantMembers(first, second.node, third.node)

	// The first member begins anew under its old ids, which its manifest gives it.
	must(t, first.StopKubelet(first.ctx))
	must(t, first.Kill(first.ctx, "etcd"))
	first.eventually("etcd has ended", func() bool { return len(first.running()) == 0 })
	must(t, os.RemoveAll(first.DataPath()+"/member"))
	must(t, first.StartKubelet(first.ctx))
	first.eventually("etcd was started on nothing", func() bool {
		_, err := os.Stat(first.DataPath() + "/member/snap/db")
		return err == nil
	})
	again := &joiner{first, second.node}
	must(t, os.WriteFile(again.kubeadm(),
		[]byte(again.JoinConfiguration()+"---\n"+again.ClusterConfiguration()), 0o600))
	for _, leaf := range renewed() { // they are not for the configuration's address
		must(t, os.RemoveAll(first.Path(pkiDir+leaf+".crt")))
		must(t, os.RemoveAll(first.Path(pkiDir+leaf+".key")))
	}
	first.eventually("etcd does not start without them", func() bool {
		_ = first.Kill(first.ctx, "etcd") // it may have ended by itself
		return len(first.running()) == 0
	})
	again.want(5, again.typed("--yes"), "is a voting member, but", "etcdpod remove")

	// Nor is it restored alone, beside the others that serve.
	must(t, first.StopKubelet(first.ctx))
	first.eventually("etcd has ended", func() bool {
		_ = first.Kill(first.ctx, "etcd") // it may have ended by itself
		return len(first.running()) == 0
	})
	b := second.backup()
	data, err := os.ReadFile(b.file)
	must(t, err)
	must(t, os.WriteFile(first.Path("/backup.db"), data, 0o600))
	// How far etcd came before it was killed decides whether its data can be read, and what is
	// said.
	first.want(5, []string{"restore", first.Path("/backup.db"), "--yes"}, "other member", "--nodes")
}

func TestAPeerURLThatLeadsEverybodyToItselfIsNamedAndCured(t *testing.T) {
	first := founder(t, binaries.Etcd36)
	j := first.newcomer(1)
	at := func(url string) {
		first.etcd(func(c *clientv3.Client) error {
			r, err := c.MemberList(first.ctx)
			if err == nil {
				_, err = c.MemberUpdate(first.ctx, r.Members[0].ID, []string{url})
			}
			return err
		})
	}
	at("http://localhost:2380")
	j.want(5, j.typed("--yes"), "is listed at http://localhost:2380, which no other node can reach",
		"etcdpod members set-peer-url")
	r := first.want(6, []string{"status"}, "is listed at http://localhost:2380", "members set-peer-url ")
	_, cure, _ := strings.Cut(r.Stdout, "real address: run `etcdpod ")
	cure, _, _ = strings.Cut(strings.ReplaceAll(cure, "\n", " "), "`")
	first.done(append(strings.Fields(cure), "--yes")...) // as it says
	j.done(j.typed("--yes")...)
	j.wantJoined()
}

// `etcdctl member add` on a cluster of one is the classic way to lose a quorum.
func TestAClusterThatWaitsForAMemberThatNeverStartedIsRestored(t *testing.T) {
	n := start(t, sandbox.Options{NoAPIServer: true})
	b := n.backup()
	n.change()
	before := n.state()
	n.etcd(func(c *clientv3.Client) error {
		_, err := c.MemberAdd(n.ctx, []string{"https://127.0.0.99:2380"})
		return err
	})
	id := ""
	n.untouched(func() {
		r := n.want(5, []string{"restore", b.file, "--yes"},
			"one not started yet at https://127.0.0.99:2380", "--lost ")
		_, rest, _ := strings.Cut(r.Stdout+r.Stderr, "--lost ")
		id = strings.TrimRight(strings.Fields(rest)[0], ".)`")
	})
	n.want(6, []string{"status"}, "has never started", "etcdpod remove "+id, "these have never started: "+id,
		"--lost "+id+" FILE")
	n.done("restore", b.file, "--yes", "--lost", id)
	n.wantNew(b, before)
}
