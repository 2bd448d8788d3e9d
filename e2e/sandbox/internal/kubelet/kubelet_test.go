package kubelet

import (
	"strings"
	"testing"
	"time"
)

func TestTheBackOffDoublesAndIsForgotten(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	b := backoffs{first: 10 * time.Second, max: 40 * time.Second, entries: map[string]backoff{}}
	for _, step := range []struct {
		what       string
		ended, now time.Duration
		may        bool
	}{
		{"the first restart is at once", 0, 0, true},
		{"the second waits for 10 s", 5, 14, false},
		{"and no longer", 5, 15, true},
		{"the third waits for 20 s", 16, 35, false},
		{"and no longer", 16, 36, true},
		{"the fourth waits for 40 s", 37, 76, false},
		{"and no longer", 37, 77, true},
		{"the fifth waits no longer than that", 78, 118, true},
		{"after twice the longest in peace all is forgotten", 200, 200, true},
		{"and begins anew", 201, 210, false},
	} {
		if may := b.mayRestart("c", start.Add(step.ended*time.Second),
			start.Add(step.now*time.Second)); may != step.may {
			t.Fatalf("%s: may restart: %v", step.what, may)
		}
	}
	if !b.mayRestart("another", start, start) {
		t.Error("another container's back-off counted")
	}
}

func TestAPodsUIDFollowsFromContentsNodeAndFile(t *testing.T) {
	const manifest = "apiVersion: v1\nkind: Pod\nmetadata: {name: etcd}\nspec: {containers: [{name: etcd, image: x}]}\n"
	uid := func(text, node, path string) string {
		t.Helper()
		pod, err := parse([]byte(text), node, path)
		if err != nil {
			t.Fatal(err)
		}
		if pod.Name != "etcd-"+strings.ToLower(node) || pod.Namespace != "default" {
			t.Errorf("the pod is %s in %s", pod.Name, pod.Namespace)
		}
		return string(pod.UID)
	}
	same := uid(manifest, "CP1", "/m/etcd.yaml")
	if got := uid("# why\n"+manifest+"\n", "CP1", "/m/etcd.yaml"); got != same {
		t.Error("a comment changed it")
	}
	for what, other := range map[string]string{
		"the image": uid(strings.Replace(manifest, "image: x", "image: y", 1), "CP1", "/m/etcd.yaml"),
		"the node":  uid(manifest, "CP2", "/m/etcd.yaml"),
		"the file":  uid(manifest, "CP1", "/m/etcd.yaml.bak"),
		"its own word": uid(strings.Replace(manifest, "{name: etcd}", "{name: etcd, uid: abc}", 1),
			"CP1", "/m/etcd.yaml"),
	} {
		if other == same {
			t.Errorf("%s did not change it", what)
		}
	}
}

func TestWhatIsNotAPodIsRefused(t *testing.T) {
	for what, text := range map[string]string{
		"text":            "hello",
		"another kind":    "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n",
		"another version": "apiVersion: v2\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a}]}\n",
		"no name":         "apiVersion: v1\nkind: Pod\nspec: {containers: [{name: a}]}\n",
		"no container":    "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n",
	} {
		if pod, err := parse([]byte(text), "cp1", "/m/a"); err == nil {
			t.Errorf("%s became the pod %s", what, pod.Name)
		}
	}
}
