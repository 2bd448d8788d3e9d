//go:build e2e

package cluster

import (
	"os"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/e2e/rig/hand"
)

// canary is a static pod that a kubelet runs, whatever holds etcd back.
const canary = `apiVersion: v1
kind: Pod
metadata:
  name: canary
  namespace: kube-system
spec:
  hostNetwork: true
  containers:
  - name: canary
    image: registry.k8s.io/pause:3.10.2
`

func TestAKubeletThatSomebodyStartsInsideTheFenceRunsNothingOfTheControlPlane(t *testing.T) {
	k := take(t)
	s := k.scene()
	manifests := k.manifests()
	k.moveOn()
	k.cutOff(s.backup, point{phase: "exchange-data"}, func(kill func()) { kill() })

	file := k.node.Path(manifestDir + "/canary.yaml")
	k.Must(os.WriteFile(file, []byte(canary), 0o600))
	k.Must(k.node.StartKubelet(k.Ctx))
	const list = `ctr --namespace k8s.io containers list --quiet 'labels."io.kubernetes.container.name"==canary'`
	runs := func() bool { return k.shell(list) != "" }
	// It is watched for 20 s, and until the other pod shows that the kubelet works.
	begun := time.Now()
	for time.Since(begun) < 20*time.Second || !runs() {
		if time.Since(begun) > hand.Patience {
			k.Fatal("the kubelet does not run the other static pod either: this proves nothing")
		}
		if up := k.shell("pgrep -a -x 'etcd|kube-apiserver|kube-controller|kube-scheduler' || true"); up != "" {
			k.Fatalf("inside the fence came up:\n%s", up)
		}
		time.Sleep(250 * time.Millisecond)
	}
	k.Must(os.Remove(file))

	k.want(0, "resume")
	k.be(s.then, "the world of the backup")
	k.sameManifests(manifests)
	k.oneEtcd()
}
