//go:build e2e

package threenodes

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/etcdpod/etcdpod/e2e/rig"
)

// namespace and label are those of the objects by which tests tell one world from another.
const (
	namespace = "etcdpod-e2e"
	label     = "etcdpod-e2e"
)

// world is what an API server shows of those objects: data by name.
type world map[string]string

// configMaps returns the test's objects as the API server of the node has them.
func configMaps(n *rig.Node) (corev1client.ConfigMapInterface, error) {
	client, err := n.Client()
	if err != nil {
		return nil, err
	}
	return client.CoreV1().ConfigMaps(namespace), nil
}

// worldOf returns what the API server of the node shows.
func worldOf(ctx context.Context, n *rig.Node) (world, error) {
	objects, err := configMaps(n)
	if err != nil {
		return nil, err
	}
	list, err := objects.List(ctx, metav1.ListOptions{LabelSelector: label})
	if err != nil {
		return nil, fmt.Errorf("cannot list through the API server of %s: %w", n.Name, err)
	}
	w := world{}
	for _, m := range list.Items {
		w[m.Name] = m.Data["value"]
	}
	return w, nil
}

// world returns what all three API servers show; that they differ is a failure.
func (k *cluster) world() world {
	k.Helper()
	w, err := sharedWorld(k.Patiently(), k.nodes)
	k.Must(err)
	return w
}

func sharedWorld(ctx context.Context, nodes []*rig.Node) (world, error) {
	var first world
	for i, n := range nodes {
		w, err := worldOf(ctx, n)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			first = w
		}
		if !maps.Equal(first, w) {
			return nil, fmt.Errorf("the API servers differ: %s shows %v, %s shows %v", nodes[0].Name, first, n.Name, w)
		}
	}
	return first, nil
}

// put makes or changes an object through the API server of a node.
func (k *cluster) put(n *rig.Node, name, value string) {
	k.Helper()
	objects, err := configMaps(n)
	k.Must(err)
	object := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{label: "yes"}},
		Data:       map[string]string{"value": value},
	}
	_, err = objects.Create(k.Patiently(), object, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		_, err = objects.Update(k.Patiently(), object, metav1.UpdateOptions{})
	}
	k.Must(err)
}

func (k *cluster) remove(n *rig.Node, name string) {
	k.Helper()
	objects, err := configMaps(n)
	k.Must(err)
	if err := objects.Delete(k.Patiently(), name, metav1.DeleteOptions{}); !apierrors.IsNotFound(err) {
		k.Must(err)
	}
}

// scene is a backup on the first node, and the world that it holds.
type scene struct {
	backup string // a path on the node
	then   world
}

// scene makes objects through all three API servers, and takes a backup of them.
func (k *cluster) scene() scene {
	k.Helper()
	client, err := k.nodes[0].Client()
	k.Must(err)
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	if _, err := client.CoreV1().Namespaces().Create(k.Patiently(),
		ns, metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
		k.Must(err)
	}
	for name := range k.world() {
		k.remove(k.nodes[0], name)
	}
	for i, n := range k.nodes {
		k.put(n, fmt.Sprintf("kept-%d", i), rand.Text())
	}
	k.put(k.nodes[1], "changed-later", "before")
	k.put(k.nodes[2], "deleted-later", "before")
	var made struct{ Result struct{ Path string } }
	lines := strings.Split(strings.TrimSpace(k.want(0, k.nodes[0], "backup", "--output", "json").stdout), "\n")
	k.Must(json.Unmarshal([]byte(lines[len(lines)-1]), &made))
	return scene{backup: made.Result.Path, then: k.world()}
}

// moveOn changes the world through all API servers, and returns what it is now.
func (k *cluster) moveOn() world {
	k.Helper()
	k.put(k.nodes[0], "made-later-"+strings.ToLower(rand.Text()[:8]), "after")
	k.put(k.nodes[1], "changed-later", rand.Text())
	k.remove(k.nodes[len(k.nodes)-1], "deleted-later")
	return k.world()
}
