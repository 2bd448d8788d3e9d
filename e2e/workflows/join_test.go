package workflows

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdpod/etcdpod/e2e/binaries"
	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

// joiner is a node with a kubelet and the cluster's CAs, on which nothing else of etcd is.
type joiner struct {
	*node
	of *node // a member
}

// founder is a cluster of one member.
func founder(t *testing.T, version string) *node {
	t.Helper()
	t.Parallel()
	n := create(t, sandbox.Options{EtcdBinary: etcdBinary(t, version), NoAPIServer: true})
	must(t, n.Start(n.ctx))
	n.put("/before", "joining")
	return n
}

// newcomer is the i-th node beside the first.
func (n *node) newcomer(i int) *joiner {
	n.t.Helper()
	j := &joiner{create(n.t, sandbox.Options{
		EtcdBinary: n.Images()[n.etcdImage()], NoAPIServer: true,
		Join: n.Sandbox, Node: fmt.Sprintf("cp%d", i+1), Address: fmt.Sprintf("127.0.0.%d", i+2),
	}), n}
	j.reset(false)
	must(n.t, j.StartRuntime(j.ctx))
	must(n.t, j.StartKubelet(j.ctx))
	must(n.t, os.WriteFile(j.kubeadm(), []byte(j.JoinConfiguration()+"---\n"+j.ClusterConfiguration()), 0o600))
	return j
}

func (n *node) etcdImage() string { return "registry.k8s.io/etcd:" + n.EtcdVersion + "-0" }

// reset takes away all that join makes, but for certificates where they are to stay.
func (j *joiner) reset(certs bool) {
	j.t.Helper()
	must(j.t, os.RemoveAll(j.Path(sandbox.ManifestDir+"/etcd.yaml")))
	if _, err := os.Stat(j.Path("/run/containerd")); err == nil {
		j.eventually("etcd has ended", func() bool { return len(j.running()) == 0 })
	}
	for _, leaf := range renewed() {
		if certs {
			continue
		}
		for _, ending := range []string{".crt", ".key"} {
			must(j.t, os.RemoveAll(j.Path(pkiDir+leaf+ending)))
		}
	}
	must(j.t, os.RemoveAll(j.Path(sandbox.DataDir)))
}

// typed are the words of a command of join on this node.
func (j *joiner) typed(words ...string) []string {
	return append(append([]string{"join"}, words...), "--config",
		j.kubeadm(), "--endpoints", fmt.Sprintf("https://%s:%d", j.of.Address, j.of.Ports.EtcdClient))
}

// members are name, peer URL and kind, as the first node knows them.
func (n *node) members() (all []string) {
	n.t.Helper()
	n.etcd(func(c *clientv3.Client) error {
		r, err := c.MemberList(n.ctx)
		if err != nil {
			return err
		}
		for _, m := range r.Members {
			kind := "voter"
			if m.IsLearner {
				kind = "learner"
			}
			all = append(all, fmt.Sprintf("%s %s %s", m.Name, m.PeerURLs[0], kind))
		}
		return nil
	})
	slices.Sort(all)
	return all
}

func (n *node) voter() string { return n.Node + " " + n.PeerURL() + " voter" }

// wantMembers holds the cluster to its members, all of which vote.
func (n *node) wantMembers(want ...*node) {
	n.t.Helper()
	var voters []string
	for _, w := range want {
		voters = append(voters, w.voter())
	}
	if got := n.members(); !slices.Equal(got, voters) {
		n.t.Errorf("the members are %q, and not %q", got, voters)
	}
}

// wantJoined holds the node to a member that votes, with all that it needs.
func (j *joiner) wantJoined() {
	j.t.Helper()
	must(j.t, j.WaitEtcd(j.ctx))
	if got := j.of.members(); !slices.Contains(got, j.voter()) {
		j.t.Errorf("the members are %q", got)
	}
	if got := j.keys()["/before"]; got != "joining" {
		j.t.Errorf("the new member holds %q", got)
	}
	for _, base := range renewed() {
		j.wantMode(pkiDir+base+".crt", 0o644)
		j.wantMode(pkiDir+base+".key", 0o600)
	}
	j.wantMode(sandbox.ManifestDir+"/etcd.yaml", 0o600)
	j.wantMode(sandbox.DataDir, fs.ModeDir|0o700)
}

// wantOutside holds the node, and the cluster, to what they were before.
func (j *joiner) wantOutside(certs bool) {
	j.t.Helper()
	j.of.wantMembers(j.of)
	gone := []string{sandbox.ManifestDir + "/etcd.yaml", sandbox.DataDir}
	if !certs {
		gone = append(gone, pkiDir+"etcd/peer.key", pkiDir+"apiserver-etcd-client.crt")
	}
	for _, name := range gone {
		if _, err := os.Lstat(j.Path(name)); !os.IsNotExist(err) {
			j.t.Errorf("%s is there: %v", name, err)
		}
	}
	if !j.kubeletRuns() {
		j.t.Error("the kubelet does not run")
	}
	if now := j.running(); len(now) > 0 {
		j.t.Errorf("these run: %v", now)
	}
}

// remove takes a member out of the cluster, as a person would. etcd refuses for five seconds after
// members were last seen to be apart.
func (j *joiner) remove(peer string) {
	j.t.Helper()
	j.of.etcd(func(c *clientv3.Client) error {
		r, err := c.MemberList(j.ctx)
		if err != nil {
			return err
		}
		for _, m := range r.Members {
			if slices.Contains(m.PeerURLs, peer) {
				j.eventually("etcd removes "+peer, func() bool {
					_, err := c.MemberRemove(j.ctx, m.ID)
					return err == nil
				})
			}
		}
		return nil
	})
}

// enlist adds a learner, as a try does that gets no further.
func (j *joiner) enlist(peer string) {
	j.t.Helper()
	j.of.etcd(func(c *clientv3.Client) error {
		_, err := c.MemberAddAsLearner(j.ctx, []string{peer})
		return err
	})
}

func TestAClusterGrowsFromOneMemberToThree(t *testing.T) {
	for _, version := range []string{binaries.Etcd35, binaries.Etcd36, binaries.Etcd37} {
		t.Run(version, func(t *testing.T) {
			first := founder(t, version)
			second, third := first.newcomer(1), first.newcomer(2)
			second.untouched(func() {
				second.want(0, second.typed("--dry-run"), "add the learner "+second.PeerURL(),
					"write /etc/kubernetes/manifests/etcd.yaml",
					"promote "+second.PeerURL(), "commit point", "Nothing was changed")
				second.want(2, second.typed(), "--yes")
			})
			first.wantMembers(first)
			second.want(0, second.typed("--yes", "-o", "json"), "completed")
			second.wantJoined()
			third.want(0, third.typed("--yes"), "Done by run")
			third.wantJoined()
			first.wantMembers(first, second.node, third.node)
			etcd := third.manifests()["etcd.yaml"]
			for _, want := range []string{
				"--initial-cluster-state=existing\n", "--initial-cluster=", first.Node + "=" + first.PeerURL(),
				second.Node + "=" + second.PeerURL(), third.Node + "=" + third.PeerURL(),
			} {
				if !strings.Contains(etcd, want) {
					t.Errorf("the manifest has no %s:\n%s", want, etcd)
				}
			}
			third.untouched(func() { third.want(0, third.typed("--yes"), "Nothing to do") })
			must(t, first.Crash()) // two of three go on
			third.eventually("the two others have a leader", func() bool {
				attempt, cancel := context.WithTimeout(third.ctx, 3*time.Second)
				defer cancel()
				return third.serves(attempt) == nil
			})
		})
	}
}

func TestAJoinKilledAtEachOperationEndsWhollyOldOrWhollyNew(t *testing.T) {
	for pass, command := range []string{"resume", "rollback"} {
		t.Run(command, func(t *testing.T) {
			first := founder(t, binaries.Etcd36)
			j := first.newcomer(1)
			j.done(j.typed("phase", "certs", "--yes")...) // they are killed with init
			total := len(j.operations(j.typed()...))
			for at := range turns(total, pass, 2) {
				j.killAt(moment{at, "started", time.Duration(at%4) * time.Millisecond}, j.typed("--yes")...)
				run := j.open()
				j.want(3, j.typed("--yes"), run.ID, "etcdpod resume")
				by := command
				if command == "rollback" && run.Committed {
					j.want(5, []string{"rollback"}, "past its commit point")
					by = "resume"
				}
				j.done(by)
				j.wantEnding(by)
				if by == "resume" {
					j.wantJoined()
					j.remove(j.PeerURL())
				} else {
					j.wantOutside(true)
				}
				if t.Failed() {
					t.Fatalf("this was after a kill at operation %d, in %s at: %s", at, run.Phase, run.Operation)
				}
				j.reset(true)
				j.done("prune", "--yes")
			}
		})
	}
}

func TestAnEtcdThatNeverGetsGoingIsTakenOutOfTheClusterAgain(t *testing.T) {
	first := founder(t, binaries.Etcd36)
	j := first.newcomer(1)
	must(t, j.SetImages(map[string]string{j.etcdImage(): "/bin/false"}))
	j.want(1, j.typed("--yes", "--wait-timeout", "1m"), "etcd does not start", "everything is as before")
	j.wantOutside(false)
	must(t, j.SetImages(j.Images()))
	j.done(j.typed("--yes")...)
	j.wantJoined()
}

func TestWhatAnEarlierTryHasLeftIsGoneOnWithOrAddedAnew(t *testing.T) {
	first := founder(t, binaries.Etcd36)
	j := first.newcomer(1)
	j.enlist(j.PeerURL())
	j.want(0, j.typed("--dry-run"), "an earlier attempt added the learner")
	j.done(j.typed("phase", "certs", "--yes")...)
	j.want(0, j.typed("phase", "add-learner", "--yes"), "Nothing to do")
	j.done(j.typed("phase", "render-etcd", "--yes")...)
	j.done(j.typed("phase", "await-started", "--yes")...)

	// The learner has started. Then its data gets lost.
	must(t, os.Rename(j.Path(sandbox.ManifestDir+"/etcd.yaml"), j.Path("/etcd.yaml")))
	j.eventually("etcd has ended", func() bool { return len(j.running()) == 0 })
	must(t, os.RemoveAll(j.DataPath()))
	j.want(0, j.typed("--dry-run"), "but its data is not on this node: it is removed and added again")
	j.done(j.typed("--yes")...)
	j.wantJoined()
	first.wantMembers(first, j.node)

	// A learner that runs from its manifest, as kubeadm leaves one when it is killed.
	third := first.newcomer(2)
	for _, phase := range []string{"certs", "add-learner", "render-etcd", "await-started"} {
		third.done(third.typed("phase", phase, "--yes")...)
	}
	if got := first.members(); !slices.Contains(got, third.Node+" "+third.PeerURL()+" learner") {
		t.Fatalf("the members are %q", got)
	}
	third.done(third.typed("--yes")...)
	third.wantJoined()
}

func TestAJoinIsRefusedBeforeAnythingIsTouched(t *testing.T) {
	first := founder(t, binaries.Etcd36)
	j := first.newcomer(1)
	other := "https://127.0.0.9:2380"
	for _, tt := range []struct {
		name        string
		spoil, mend func()
		says        []string
	}{
		{"another node is joining", func() { j.enlist(other) },
			func() { j.remove(other) }, []string{"another node is joining: the learner", other}},
		{"the name is taken", func() { j.rename(first.Node) },
			func() { j.rename(j.Node) }, []string{"the name cp1 is taken"}},
		{"no CA", func() { must(t, os.Rename(j.Path(pkiDir+"etcd/ca.crt"), j.Path("/ca.crt"))) },
			func() { must(t, os.Rename(j.Path("/ca.crt"), j.Path(pkiDir+"etcd/ca.crt"))) }, []string{"ca.crt"}},
		{"data of somebody", func() { must(t, os.MkdirAll(j.DataPath()+"/pictures", 0o700)) },
			func() { must(t, os.RemoveAll(j.DataPath())) }, []string{"it holds pictures"}},
		{"another CA", func() { j.copyFile("ca.crt", "etcd/ca.crt"); j.copyFile("ca.key", "etcd/ca.key") },
			nil, []string{"and its key must be the cluster's: copy them from another control plane"}},
		{"only the runtime knows which etcd it is", func() {
			j.configured("imageTag: "+j.EtcdVersion+"-0", "imageTag: production")
			must(t, j.SetImages(map[string]string{"registry.k8s.io/etcd:production": "/bin/false",
				"registry.k8s.io/etcd:3.4.9-0": "/bin/false"}))
		}, func() {
			j.configured("", "")
			must(t, j.SetImages(j.Images()))
		}, []string{"registry.k8s.io/etcd:production is etcd 3.4, but the cluster runs 3.6"}},
		{"a flag that etcd does not know", func() {
			j.configured("    extraArgs:\n", "    extraArgs:\n    - name: enable-v2\n      value: \"false\"\n")
		}, func() { j.configured("", "") }, []string{"does not know --enable-v2, and would exit at once"}},
	} {
		saved := j.savePKI()
		tt.spoil()
		j.untouched(func() { j.want(5, j.typed("--yes"), tt.says...) })
		if tt.mend != nil {
			tt.mend()
		}
		j.restorePKI(saved)
		first.wantMembers(first)
	}

	// A machine for etcd alone has no image of etcd until the kubelet pulls it.
	j.without("/etcd:")
	j.untouched(func() {
		j.want(0, j.typed("--dry-run"), "the image "+j.etcdImage(), "the kubelet will have to pull it")
	})
	must(t, j.SetImages(j.Images()))
	j.done(j.typed("--yes")...)

	// Of two members one is dead: no quorum, and nobody may join.
	third := first.newcomer(2)
	must(t, j.Crash())
	third.untouched(func() { third.want(5, third.typed("--yes"), "has no quorum") })
}

// rename has the configuration give the node another name.
func (j *joiner) rename(name string) { j.configured("name: "+j.Node+"\n", "name: "+name+"\n") }

// configured writes kubeadm's configuration anew, with another text in one place.
func (j *joiner) configured(old, now string) {
	text := j.JoinConfiguration() + "---\n" + j.ClusterConfiguration()
	must(j.t, os.WriteFile(j.kubeadm(), []byte(strings.Replace(text, old, now, 1)), 0o600))
}

// Where an API server answers it names the members, by kubeadm's annotation, and
// how etcd is configured.
func TestTheAPIServerNamesTheMembersAndTheirConfiguration(t *testing.T) {
	t.Parallel()
	first := create(t, sandbox.Options{EtcdBinary: etcdBinary(t, binaries.Etcd36)})
	must(t, first.Start(first.ctx))
	first.put("/before", "joining")
	j := first.newcomer(1)
	api, err := first.API()
	must(t, err)
	must(t, api.Do(first.ctx, http.MethodPost, "/api/v1/namespaces/kube-system/pods",
		map[string]any{"metadata": map[string]any{
			"name": "etcd-cp1", "labels": map[string]string{"component": "etcd", "tier": "control-plane"},
			"annotations": map[string]string{
				"kubeadm.kubernetes.io/etcd.advertise-client-urls": fmt.Sprintf("https://%s:%d",
					first.Address, first.Ports.EtcdClient),
			},
		}}, nil))
	const config = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config"
	var kept map[string]any
	must(t, api.Do(first.ctx, http.MethodGet, config, nil, &kept))
	kept["data"] = map[string]string{"ClusterConfiguration": j.ClusterConfiguration()}
	must(t, api.Do(first.ctx, http.MethodPut, config, kept, nil))

	admin, err := os.ReadFile(first.Path("/etc/kubernetes/admin.conf"))
	must(t, err)
	j.replace("/etc/kubernetes/admin.conf", admin)
	must(t, os.WriteFile(j.kubeadm(), []byte(j.JoinConfiguration()), 0o600))
	j.want(0, []string{"join", "--config", j.kubeadm(), "--dry-run"}, "from the annotations of etcd's pods")
	j.done("join", "--config", j.kubeadm(), "--yes")
	j.wantJoined()
	first.wantMembers(first, j.node)
}
