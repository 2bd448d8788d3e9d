package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

// generator makes objects as an API server stores them: protobuf, at the keys that it uses, about 5
// KB each. A real control plane can serve them, and its controllers leave them alone. The same seed
// makes the same objects.
type generator struct {
	prefix string // of names: two loads into one etcd do not meet
	events bool   // and nothing else
	random *rand.Rand
	n      int
}

func newGenerator(prefix string, seed byte) *generator {
	return &generator{prefix: prefix, random: rand.New(rand.NewChaCha8([32]byte{seed}))}
}

// next makes the next object. Of ten, four are events of 1 to 9 KB, two config maps of up to 12 KB,
// two pods of 4 to 8 KB, and two secrets of up to 8 KB.
func (g *generator) next() (key string, value []byte, err error) {
	n, namespace := g.n, fmt.Sprintf("team-%02d", g.n/10%50)
	g.n++
	meta := metav1.ObjectMeta{
		Name: fmt.Sprintf("%s-%07d", g.prefix, n), Namespace: namespace,
		UID: g.uid(), CreationTimestamp: metav1.Unix(1767225600+int64(n), 0), Generation: 1,
		Labels: map[string]string{"app.kubernetes.io/name": fmt.Sprintf("app-%05d", n/10),
			"app.kubernetes.io/managed-by": "bench"},
	}
	kind := n % 10
	if g.events {
		kind = 0
	}
	switch kind {
	case 0, 1, 2, 3:
		return stored("events", "Event", namespace, g.event(meta))
	case 4, 5:
		return stored("configmaps", "ConfigMap", namespace,
			&corev1.ConfigMap{ObjectMeta: meta, Data: map[string]string{"config.yaml": g.text(12000)}})
	case 6, 7:
		return stored("pods", "Pod", namespace, g.pod(meta))
	}
	secret := &corev1.Secret{ObjectMeta: meta, Type: corev1.SecretTypeOpaque,
		Data: map[string][]byte{"token": []byte(g.text(8000))}}
	return stored("secrets", "Secret", namespace, secret)
}

func (g *generator) event(meta metav1.ObjectMeta) *corev1.Event {
	return &corev1.Event{
		ObjectMeta: meta, Type: corev1.EventTypeWarning, Reason: "FailedScheduling", Message: g.text(9000), Count: 7,
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: meta.Namespace, Name: meta.Name, UID: meta.UID},
		Source:         corev1.EventSource{Component: "default-scheduler"},
		FirstTimestamp: meta.CreationTimestamp, LastTimestamp: meta.CreationTimestamp,
	}
}

// pod makes one that waits for a scheduler that there is not.
func (g *generator) pod(meta metav1.ObjectMeta) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: meta, Spec: corev1.PodSpec{SchedulerName: "nobody",
			RestartPolicy: corev1.RestartPolicyAlways, DNSPolicy: corev1.DNSClusterFirst},
	}
	pod.Status.Phase = corev1.PodPending
	pod.Annotations = map[string]string{"bench/applied-configuration": g.text(4000)}
	for i := range 4 {
		c := corev1.Container{Name: fmt.Sprintf("c%d", i), Image: "registry.example/app@sha256:" + string(meta.UID),
			ImagePullPolicy: corev1.PullIfNotPresent}
		for j := range 12 {
			c.Env = append(c.Env, corev1.EnvVar{Name: fmt.Sprintf("VARIABLE_%02d", j), Value: g.text(120)})
		}
		pod.Spec.Containers = append(pod.Spec.Containers, c)
	}
	return pod
}

func (g *generator) uid() types.UID {
	return types.UID(fmt.Sprintf("%08x-0000-4000-8000-%012x", g.random.Uint32(), g.random.Uint64()>>16))
}

// text makes up to most characters, at least an eighth of that.
func (g *generator) text(most int) string {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789 -:\nABCDEFGHIJKLMNOPQRSTUVWXY"
	b := make([]byte, most/8+g.random.IntN(most-most/8), most+8)
	for i := 0; i < len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:i+8:cap(b)], g.random.Uint64())
	}
	for i := range b {
		b[i] = letters[b[i]&63]
	}
	return string(b)
}

// stored encodes an object as the API server does (apimachinery, runtime/serializer/protobuf).
func stored(resource, kind, namespace string, object interface {
	metav1.Object
	Marshal() ([]byte, error)
}) (key string, value []byte, err error) {
	raw, err := object.Marshal()
	if err != nil {
		return "", nil, err
	}
	whole, err := (&runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: "v1", Kind: kind}, Raw: raw}).Marshal()
	return fmt.Sprintf("/registry/%s/%s/%s", resource, namespace, object.GetName()),
		append([]byte("k8s\x00"), whole...), err
}

// load writes objects into etcd until keys and values have so many bytes, and returns how
// many objects they were.
func load(ctx context.Context, etcd *clientv3.Client, g *generator, size int64) (int, error) {
	const perTxn, maxTxn, writers = 100, 1 << 20, 4 // etcd takes 128 operations and 1.5 MiB
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	txns := make(chan []clientv3.Op)
	var writing sync.WaitGroup
	for range writers {
		writing.Go(func() {
			for ops := range txns {
				if _, err := etcd.Txn(ctx).Then(ops...).Commit(); err != nil {
					cancel(fmt.Errorf("cannot load objects into etcd: %w", err))
				}
			}
		})
	}
	var ops []clientv3.Op
	bytes, pending, first := int64(0), 0, g.n
	for bytes < size && ctx.Err() == nil {
		key, value, err := g.next()
		if err != nil {
			cancel(err)
			break
		}
		ops = append(ops, clientv3.OpPut(key, string(value)))
		bytes += int64(len(key) + len(value))
		pending += len(key) + len(value)
		if len(ops) == perTxn || pending > maxTxn || bytes >= size {
			txns <- ops
			ops, pending = nil, 0
		}
	}
	close(txns)
	writing.Wait()
	return g.n - first, context.Cause(ctx)
}
