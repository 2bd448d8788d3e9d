package manifests

import (
	"fmt"

	"go.yaml.in/yaml/v3"
)

// SetProbeHosts changes at which host the kubelet probes the pod's containers, wherever that is
// from. kubeadm has the API server probed at the address that it advertises: once the node has
// another one, the kubelet would kill an API server that works.
func (m *Manifest) SetProbeHosts(from, to string) (*Manifest, error) {
	e := m.edit()
	for _, c := range m.pod.containers {
		for _, probe := range []*yaml.Node{c.startup, c.live, c.ready} {
			host := probeHost(probe)
			if host == nil || host.Value != from {
				continue
			}
			if err := e.replace(host, to); err != nil {
				return nil, fmt.Errorf("cannot change where container %s is probed: %w", c.name, err)
			}
		}
	}
	edited, err := e.apply()
	if err != nil {
		return nil, fmt.Errorf("cannot change where the pod is probed: %w", err)
	}
	return edited, nil
}

// probeHost is the host of an HTTP or TCP probe; nil if it has none, or one shared with another
// place in the file.
func probeHost(probe *yaml.Node) *yaml.Node {
	for _, kind := range []string{"httpGet", "tcpSocket"} {
		if host := child(child(probe, kind), "host"); host != nil && host.Kind == yaml.ScalarNode && host.Anchor == "" {
			return host
		}
	}
	return nil
}

// child is the value of a key of a mapping; nil if there is none, or the mapping is shared.
func child(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode || n.Anchor != "" {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}
