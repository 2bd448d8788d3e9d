package observe

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/manifests"
	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// told is a container runtime with one container.
type told struct {
	node.Runtime // the rest is not asked
	containers   []node.Container
}

func (r told) Containers(context.Context) ([]node.Container, error) { return r.containers, nil }

func TestPodsWhoseNamesBeginAlikeAreToldApart(t *testing.T) {
	first := podFile(t, "etcd.yaml", "etcd", "etcd")
	second := podFile(t, "etcd-events.yaml", "etcd-events", "etcd")
	files := []ManifestFile{second, first}
	c := node.Container{Name: "etcd", Pod: "etcd-events-cp1", Namespace: "kube-system"}
	if PodOf(files, first, "etcd").Owns(c) || !PodOf(files, second, "etcd").Owns(c) {
		t.Errorf("%+v, %+v", PodOf(files, first, "etcd"), PodOf(files, second, "etcd"))
	}
	c.Pod = "etcd-cp1"
	if !PodOf(files, first, "etcd").Owns(c) || PodOf(files, second, "etcd").Owns(c) {
		t.Errorf("%+v", c)
	}
	// Where the node's name begins like the rest of the other pod's, it decides: etcd-events-1 is
	// events-1's etcd, or 1's etcd for events.
	for _, test := range []struct {
		node, pod    string
		first, other bool
	}{
		{"events-1", "etcd-events-1", true, false}, {"events-1", "etcd-events-events-1", false, true},
		{"1", "etcd-events-1", false, true}, {"1", "etcd-1", true, false},
		{"", "etcd-events-1", false, true}, {"else", "etcd-events-1", false, true}, {"else", "etcd-1", true, false},
	} {
		c.Pod, first.node, second.node = test.pod, test.node, test.node
		if a, b := PodOf(files, first, "etcd").Owns(c), PodOf(files, second, "etcd").Owns(c); a != test.first ||
			b != test.other {
			t.Errorf("%+v: %v, %v", test, a, b)
		}
	}
}

func TestTheNodesNameIsWhatItsKubeletSays(t *testing.T) {
	n := &Node{View: node.View{FS: node.OS(t.TempDir()), Clock: node.WallClock()}, Name: "Events-1"}
	if got := n.kubeletsNode(); got != "events-1" {
		t.Errorf("by the host's name: %q", got)
	}
	if n.Config.Hostname = "cp1"; n.kubeletsNode() != "cp1" {
		t.Errorf("by --hostname-override: %q", n.kubeletsNode())
	}
}

func TestSettingsThatComeFromElsewhereAreThoseOfTheContainer(t *testing.T) {
	const text = "apiVersion: v1\nkind: Pod\nmetadata: {name: etcd, namespace: kube-system}\nspec:\n  containers:\n" +
		"  - {name: front, image: 'logs:1', command: [fluent-bit]}\n" +
		"  - name: etcd\n    image: etcd:3.6.5\n    command: [etcd, '--data-dir=/var/lib/etcd', " +
		"'--initial-advertise-peer-urls=https://$(POD_IP):2380']\n" +
		"    env:\n    - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}\n" +
		"    - {name: ETCD_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}\n" +
		"    - {name: ETCD_ADVERTISE_CLIENT_URLS, value: 'https://$(POD_IP):2379'}\n" +
		"    volumeMounts: [{name: d, mountPath: /var/lib/etcd}]\n" +
		"  volumes: [{name: d, hostPath: {path: /var/lib/etcd}}]\n"
	m, err := manifests.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	files := []ManifestFile{{Path: "/m/etcd.yaml", Data: []byte(text), Manifest: m}}
	etcd := node.Container{ID: "7", Name: "etcd", Pod: "etcd-cp1", Namespace: "kube-system", State: "exited"}
	n := &Node{View: node.View{FS: node.OS(t.TempDir()), Runtime: told{containers: []node.Container{etcd}},
		Environment: func(_ context.Context, id string) (map[string]string, error) {
			if id != "7" {
				return nil, errors.New("no such container")
			}
			return map[string]string{"POD_IP": "10.0.0.11", "ETCD_NAME": "cp1", "HOME": "/"}, nil
		}}}
	pod, err := n.EtcdPod(n.resolved(t.Context(), files))
	if err != nil || pod.Name != "cp1" || pod.PeerURLs[0] != "https://10.0.0.11:2380" ||
		len(pod.ClientURLs) != 1 || pod.ClientURLs[0] != "https://10.0.0.11:2379" || pod.Image != "etcd:3.6.5" {
		t.Fatalf("%+v %v", pod, err)
	}
	if err := CheckResolved(n.resolved(t.Context(), files)); err != nil {
		t.Error(err)
	}

	// No container has ever been there, or the runtime does not tell.
	for name, change := range map[string]func(){
		"no container": func() { n.Runtime = told{} },
		"a runtime that does not tell": func() {
			n.Runtime = told{containers: []node.Container{etcd}}
			n.Environment = func(context.Context, string) (map[string]string, error) { return nil, errors.New("no") }
		},
		"a runtime that cannot be asked": func() { n.Environment = nil },
	} {
		change()
		err := CheckResolved(n.resolved(t.Context(), files))
		if err == nil || !strings.Contains(err.Error(), "/m/etcd.yaml takes POD_IP, ETCD_NAME from the pod's status") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
