package rig

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Kubeconfig returns the administrator's kubeconfig by its path on the host, where it also works.
func (c *Cluster) Kubeconfig() string { return c.Nodes[0].Path("/etc/kubernetes/admin.conf") }

// RESTConfig returns an administrator's access to this node's API server.
func (n *Node) RESTConfig() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("https://"+n.Address+":6443", n.cluster.Kubeconfig())
	if err != nil {
		return nil, fmt.Errorf("cannot reach the API server of %s: %w", n.Name, err)
	}
	config.QPS, config.Burst = 1000, 1000 // tests load many objects
	return config, nil
}

// Client returns an administrator's client of this node's API server.
func (n *Node) Client() (kubernetes.Interface, error) {
	config, err := n.RESTConfig()
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(config)
}

// Client returns a client of the first node's API server.
func (c *Cluster) Client() (kubernetes.Interface, error) { return c.Nodes[0].Client() }

// AwaitWorking returns when, on every node, the API server is ready and controllers work: a new
// Deployment gets its ReplicaSet.
func (c *Cluster) AwaitWorking(ctx context.Context) error {
	for _, n := range c.Nodes {
		if err := n.AwaitReady(ctx); err != nil {
			return err
		}
	}
	client, err := c.Client()
	if err != nil {
		return err
	}
	return AwaitControllers(ctx, client)
}

// AwaitReady returns when the node's API server answers /readyz with ok.
func (n *Node) AwaitReady(ctx context.Context) error {
	client, err := n.Client()
	if err != nil {
		return err
	}
	var last error
	for {
		if _, last = client.Discovery().RESTClient().Get().AbsPath("/readyz").
			Timeout(2 * time.Second).DoRaw(ctx); last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the API server of %s is not ready: %w", n.Name, last)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// AwaitControllers creates a Deployment without replicas, waits for its ReplicaSet,
// and deletes it again.
func AwaitControllers(ctx context.Context, client kubernetes.Interface) error {
	name := "probe-" + strings.ToLower(rand.Text()[:10])
	labels := map[string]string{"probe": name}
	deployments := client.AppsV1().Deployments(metav1.NamespaceDefault)
	deployment := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32),
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "pause", Image: pauseImage}}},
			},
		},
	}
	created := false
	var last error
	for {
		if !created {
			_, last = deployments.Create(ctx, deployment, metav1.CreateOptions{})
			created = last == nil
		}
		if created {
			sets, err := client.AppsV1().ReplicaSets(metav1.NamespaceDefault).List(ctx,
				metav1.ListOptions{LabelSelector: "probe=" + name})
			if last = err; err == nil && len(sets.Items) > 0 {
				return deployments.Delete(ctx, name, metav1.DeleteOptions{})
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("controllers do not work: Deployment %s has no ReplicaSet: %w", name, cause(ctx, last))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func cause(ctx context.Context, last error) error {
	if last != nil {
		return last
	}
	return ctx.Err()
}

// ReadFile reads a file of the node, by its path there.
func (n *Node) ReadFile(path string) ([]byte, error) { return os.ReadFile(n.Path(path)) }
