package observe

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/etcdpod/etcdpod/manifests"
	"github.com/etcdpod/etcdpod/phases/internal/etcd"
)

// What the API server has stored about the control planes is read from etcd itself: any member that
// answers has it, whether or not an API server does.

// StoredPod is a pod of a control plane, as the API server stored it last: that of a node that is
// gone stays there.
type StoredPod struct {
	Node      string   // that the kubelet says it runs on
	Addresses []string // of that node
	File      ManifestFile
	Container string // that runs the program
}

// Setting is what [EtcdPod.Setting] says of an etcd that was set up by flags or variables.
func (p StoredPod) Setting(name string) string {
	return (&EtcdPod{File: p.File, Container: p.Container}).Setting("", name)
}

// StoredPods are the pods that run a program of kubeadm's control planes, on all nodes. own asks
// the first endpoint alone, without a quorum. One that cannot be read, as where pods are encrypted,
// is not among them.
func StoredPods(ctx context.Context, c *etcd.Client, program string, own bool) ([]StoredPod, error) {
	// k8s.io/kubernetes, pkg/registry/core/pod, and the kubelet's name for a static pod: its own
	// and the node's.
	values, err := c.Values(ctx, "/registry/pods/kube-system/"+program+"-", own)
	if err != nil {
		return nil, err
	}
	var pods []StoredPod
	for _, v := range values {
		var pod corev1.Pod
		if decodeStored(v.Data, &pod) != nil {
			continue
		}
		pod.APIVersion, pod.Kind = "v1", "Pod"
		text, err := json.Marshal(pod)
		if err != nil {
			continue
		}
		m, _ := manifests.Decoded(text)
		if m == nil {
			continue
		}
		container, runs := m.Runs(program)
		if !runs || pod.Spec.NodeName == "" {
			continue
		}
		p := StoredPod{Node: pod.Spec.NodeName, Container: container,
			File: ManifestFile{Path: "the pod " + pod.Namespace + "/" + pod.Name, Data: text, Manifest: m}}
		if pod.Status.HostIP != "" {
			p.Addresses = append(p.Addresses, pod.Status.HostIP)
		}
		for _, ip := range pod.Status.HostIPs {
			p.Addresses = append(p.Addresses, ip.IP)
		}
		pods = append(pods, p)
	}
	return pods, nil
}

// StoredAddresses are the addresses of the node of that name; none when there is no such node.
func StoredAddresses(ctx context.Context, c *etcd.Client, name string, own bool) ([]string, error) {
	values, err := c.Values(ctx, registeredNodes+name, own)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, v := range values {
		var node corev1.Node
		if v.Key != registeredNodes+name || decodeStored(v.Data, &node) != nil {
			continue
		}
		for _, a := range node.Status.Addresses {
			all = append(all, a.Address)
		}
	}
	return all, nil
}

// LivingAPIServers are the addresses of the API servers that keep their entry in etcd alive.
func LivingAPIServers(ctx context.Context, c *etcd.Client) ([]string, error) {
	entries, err := c.Entries(ctx, masterLeases, false)
	var all Live
	all.register(entries)
	return all.APIServers, err
}

// protobufPrefix begins what the API server stores, unless it was told to store JSON
// (k8s.io/apimachinery, pkg/runtime/serializer/protobuf).
var protobufPrefix = []byte("k8s\x00")

// decodeStored reads an object as the API server stores it.
func decodeStored(data []byte, into interface{ Unmarshal([]byte) error }) error {
	raw, ok := bytes.CutPrefix(data, protobufPrefix)
	if !ok {
		return json.Unmarshal(data, into)
	}
	var envelope runtime.Unknown
	if err := envelope.Unmarshal(raw); err != nil {
		return fmt.Errorf("cannot read what the API server stored: %w", err)
	}
	return into.Unmarshal(envelope.Raw)
}
