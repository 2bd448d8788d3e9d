//go:build e2e

package cluster

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// namespace and label are those of the objects by which tests tell one world from another.
const (
	namespace = "etcdpod-e2e"
	label     = "etcdpod-e2e"
)

// world is what the API server shows of those objects: data by name.
type world map[string]string

func (k *control) world() world {
	k.Helper()
	list, err := k.client.CoreV1().ConfigMaps(namespace).List(k.Patiently(),
		metav1.ListOptions{LabelSelector: label})
	k.Must(err)
	w := world{}
	for _, m := range list.Items {
		w[m.Name] = m.Data["value"]
	}
	return w
}

// be insists on a world.
func (k *control) be(want world, what string) {
	k.Helper()
	if got := k.world(); !maps.Equal(got, want) {
		k.Fatalf("the API server does not show %s:\ngot  %v\nwant %v", what, got, want)
	}
}

func (k *control) put(name, value string) {
	k.Helper()
	maps := k.client.CoreV1().ConfigMaps(namespace)
	object := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{label: "yes"}},
		Data:       map[string]string{"value": value},
	}
	_, err := maps.Create(k.Patiently(), object, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		_, err = maps.Update(k.Patiently(), object, metav1.UpdateOptions{})
	}
	k.Must(err)
}

func (k *control) remove(name string) {
	k.Helper()
	err := k.client.CoreV1().ConfigMaps(namespace).Delete(k.Patiently(), name, metav1.DeleteOptions{})
	if !apierrors.IsNotFound(err) {
		k.Must(err)
	}
}

// scene is a backup and the world that it holds.
type scene struct {
	backup string // a path on the node
	then   world
}

// scene makes objects and takes a backup of them.
func (k *control) scene() scene {
	k.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	if _, err := k.client.CoreV1().Namespaces().Create(k.Patiently(),
		ns, metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
		k.Must(err)
	}
	for name := range k.world() {
		k.remove(name)
	}
	for i := range 5 {
		k.put(fmt.Sprintf("kept-%d", i), rand.Text())
	}
	k.put("changed-later", "before")
	k.put("deleted-later", "before")
	var made struct{ Result struct{ Path string } }
	lines := strings.Split(strings.TrimSpace(k.want(0, "backup", "--output", "json").stdout), "\n")
	k.Must(json.Unmarshal([]byte(lines[len(lines)-1]), &made))
	return scene{backup: made.Result.Path, then: k.world()}
}

// moveOn changes the world, and returns what it is now.
func (k *control) moveOn() world {
	k.Helper()
	k.put("made-later-"+strings.ToLower(rand.Text()[:8]), "after")
	k.put("changed-later", rand.Text())
	k.remove("deleted-later")
	return k.world()
}

const manifestDir = "/etc/kubernetes/manifests"

// manifests returns the static-pod directory: contents and mode by name, hidden files, too.
func (k *control) manifests() map[string]string {
	k.Helper()
	dir := k.node.Path(manifestDir)
	entries, err := os.ReadDir(dir)
	k.Must(err)
	all := map[string]string{}
	for _, e := range entries {
		info, err := e.Info()
		k.Must(err)
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		k.Must(err)
		all[e.Name()] = info.Mode().String() + "\n" + string(data)
	}
	return all
}

// sameManifests insists that the static-pod directory is what it was, to the byte.
func (k *control) sameManifests(want map[string]string) {
	k.Helper()
	got := k.manifests()
	for name := range want {
		if got[name] != want[name] {
			k.Errorf("%s is not what it was:\n%s\nit was\n%s", name, got[name], want[name])
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			k.Errorf("%s was not in the static-pod directory before", name)
		}
	}
}

// oneEtcd insists that one etcd runs on the node.
func (k *control) oneEtcd() {
	k.Helper()
	if pids := strings.Fields(k.shell("pgrep -x etcd || true")); len(pids) != 1 {
		k.Errorf("%d processes of etcd run: %v", len(pids), pids)
	}
}
