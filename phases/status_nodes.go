package phases

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
)

// NodesStatus is what `status --nodes` found out. The JSON names are stable.
type NodesStatus struct {
	Nodes    []NodeStatus `json:"nodes"`
	Warnings []string     `json:"warnings"` // what is wrong between the nodes, and on each: exit code 6
}

// NodeStatus is one node of several.
type NodeStatus struct {
	Node         string  `json:"node"`
	Error        string  `json:"error,omitempty"` // why it could not be asked
	Status       *Status `json:"status,omitempty"`
	HashKV       string  `json:"hashKV,omitempty"`       // hex, as of hashRevision
	HashRevision int64   `json:"hashRevision,omitempty"` // the same on all nodes of a cluster
	compacted    int64
}

// StatusOf looks at several nodes, through agents as a restore does, and changes nothing. A node that cannot be asked is one of the findings.
func (n *Node) StatusOf(ctx context.Context, nodes []journal.Peer, sshCommand, remoteCommand string) (s NodesStatus, err error) {
	own, err := n.kubeName()
	if err != nil {
		return s, err
	}
	t := &transaction{node: n, cluster: journal.Cluster{Nodes: nodes, SSHCommand: sshCommand, RemoteCommand: remoteCommand}}
	defer t.leave()
	s.Nodes = make([]NodeStatus, len(nodes))
	stands := make([]*peer, len(nodes))
	for i, at := range nodes {
		s.Nodes[i].Node, stands[i] = at.Name, &peer{name: at.Name}
	}
	ask := func(stand *peer) error {
		i := slices.Index(stands, stand)
		var part *participant
		if stand.name == own {
			part = &participant{node: n}
		}
		p, err := n.meet(ctx, &t.cluster, nodes[i], part, true)
		if err == nil {
			stand.link, stand.here = p.link, p.here
			err = p.ask(ctx, askStatus, nil, &s.Nodes[i].Status, nil)
		}
		if err != nil {
			s.Nodes[i].Error, s.Nodes[i].Status = err.Error(), nil
		}
		return nil
	}
	if err := t.all(stands, ask); err != nil {
		return s, err
	}
	t.peers = slices.DeleteFunc(slices.Clone(stands), func(p *peer) bool { return p.link == nil })
	t.hashes(ctx, s.Nodes)
	s.judge()
	return s, ctx.Err()
}

// hashes asks all members of each cluster for their HashKV as of one revision, which all of them have.
func (t *transaction) hashes(ctx context.Context, nodes []NodeStatus) {
	at := map[string]int64{} // by cluster
	for _, n := range nodes {
		if m := memberOf(n); m != nil && !m.Learner && (at[m.ClusterID] == 0 || m.Revision < at[m.ClusterID]) {
			at[m.ClusterID] = m.Revision
		}
	}
	for i, n := range nodes {
		m := memberOf(n)
		j := slices.IndexFunc(t.peers, func(p *peer) bool { return p.name == n.Node })
		if m == nil || m.Learner || j < 0 {
			continue
		}
		h, err := query[hashAnswer](ctx, t.peers[j], askOwnHash, at[m.ClusterID])
		if err != nil {
			continue // what is wrong with that member, its own status tells
		}
		nodes[i].HashKV, nodes[i].HashRevision, nodes[i].compacted = fmt.Sprintf("%08x", h.Hash), at[m.ClusterID], h.Compacted
	}
}

func memberOf(n NodeStatus) *MemberStatus {
	if n.Status == nil {
		return nil
	}
	return n.Status.Member
}

// ownHash is the HashKV of the member on this node.
func (p *participant) ownHash(ctx context.Context, revision int64) (h hashAnswer, err error) {
	files, err := p.node.manifests(p.node.kubelet.StaticPodPath)
	if err != nil {
		return h, err
	}
	pod, err := p.node.etcdPod(files)
	if err != nil || pod == nil {
		return h, err
	}
	h.Member = true
	h.Hash, h.Compacted, err = p.node.etcd.HashKV(ctx, pod.Access, revision)
	return h, err
}

// judge says what is wrong.
func (s *NodesStatus) judge() {
	s.Warnings = []string{}
	warn := func(format string, args ...any) { s.Warnings = append(s.Warnings, fmt.Sprintf(format, args...)) }
	for _, n := range s.Nodes {
		if n.Error != "" {
			warn("%s cannot be asked: %s", n.Node, strings.TrimPrefix(n.Error, n.Node+": "))
		}
		if n.Status != nil {
			for _, w := range n.Status.Warnings {
				warn("%s: %s", n.Node, w)
			}
		}
	}
	s.judgeClusters(warn)
	s.judgeDrift(warn)
}

func (s *NodesStatus) judgeClusters(warn func(string, ...any)) {
	first := map[string]NodeStatus{} // by cluster
	var ids []string
	for _, n := range s.Nodes {
		m := memberOf(n)
		if m == nil || n.HashKV == "" {
			continue
		}
		other, known := first[m.ClusterID]
		switch {
		case !known:
			first[m.ClusterID] = n
			ids = append(ids, m.ClusterID)
		case other.compacted == n.compacted && other.HashKV != n.HashKV:
			warn("%s and %s are members of one cluster and do not hold the same at revision %d: HashKV %s and %s", other.Node, n.Node, n.HashRevision, other.HashKV, n.HashKV)
		}
	}
	if len(ids) > 1 {
		warn("the nodes are members of %d different clusters: %s", len(ids), strings.Join(ids, ", "))
	}
}

// judgeDrift: the same program runs from different images. In the middle of an upgrade that is as it should be, and at no other time.
func (s *NodesStatus) judgeDrift(warn func(string, ...any)) {
	images := map[string][]string{} // by manifest
	for _, n := range s.Nodes {
		if n.Status == nil {
			continue
		}
		for _, m := range n.Status.Manifests {
			name := path.Base(m.Path)
			if m.Image != "" && !slices.Contains(images[name], m.Image) {
				images[name] = append(images[name], m.Image)
			}
		}
	}
	for _, name := range []string{"etcd.yaml", "kube-apiserver.yaml"} {
		if len(images[name]) > 1 {
			warn("%s differs between the nodes: %s", name, strings.Join(images[name], ", "))
		}
	}
}
