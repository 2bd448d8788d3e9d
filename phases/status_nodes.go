package phases

import (
	"context"
	"fmt"
	"maps"
	"net/url"
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
	flags        programFlags
}

// What a node is asked for its status.
const (
	askStatus  = "status"
	askOwnHash = "own-hash"
	askFlags   = "flags"
)

// statusReplies are the answers of a node.
func statusReplies(n *View) map[string]Reply {
	return map[string]Reply{
		askStatus:  given(func(ctx context.Context, _ any) (any, error) { return n.Status(ctx) }),
		askFlags:   given(func(context.Context, any) (any, error) { return n.flags() }),
		askOwnHash: given(func(ctx context.Context, revision int64) (any, error) { return n.ownHash(ctx, revision) }),
	}
}

// StatusOf looks at several nodes, through agents as a restore does, and changes nothing. A node that cannot be asked is one of the findings.
func StatusOf(ctx context.Context, n *togetherNode, nodes []journal.Peer, sshCommand, remoteCommand string) (s NodesStatus, err error) {
	own, err := n.OwnName()
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
		p, err := n.meet(ctx, "", &t.cluster, nodes[i], part, true)
		if err == nil {
			stand.link, stand.here = p.link, p.here
			err = p.ask(ctx, askStatus, nil, &s.Nodes[i].Status, nil)
		}
		if err == nil {
			err = p.ask(ctx, askFlags, nil, &s.Nodes[i].flags, nil)
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
	hashes(ctx, t.peers, s.Nodes)
	s.judge()
	return s, ctx.Err()
}

// hashes asks all members of each cluster for their HashKV as of one revision, which all of them have.
func hashes(ctx context.Context, peers []*peer, nodes []NodeStatus) {
	at := map[string]int64{} // by cluster
	for _, n := range nodes {
		if m := memberOf(n); m != nil && !m.Learner && (at[m.ClusterID] == 0 || m.Revision < at[m.ClusterID]) {
			at[m.ClusterID] = m.Revision
		}
	}
	for i, n := range nodes {
		m := memberOf(n)
		j := slices.IndexFunc(peers, func(p *peer) bool { return p.name == n.Node })
		if m == nil || m.Learner || j < 0 {
			continue
		}
		h, err := query[hashAnswer](ctx, peers[j], askOwnHash, at[m.ClusterID])
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
func (n *View) ownHash(ctx context.Context, revision int64) (h hashAnswer, err error) {
	files, err := n.manifests(n.Config.StaticPodPath)
	if err != nil {
		return h, err
	}
	pod, err := n.etcdPod(files)
	if err != nil || pod == nil {
		return h, err
	}
	h.Member = true
	h.Hash, h.Compacted, err = n.Etcd.HashKV(ctx, pod.Access, revision)
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

// judgeDrift: the same program runs from different images, or with different flags. In the middle of an upgrade that is as it should be, and at no other time.
func (s *NodesStatus) judgeDrift(warn func(string, ...any)) {
	for _, name := range []string{"etcd.yaml", "kube-apiserver.yaml"} {
		images := drift{}
		for _, n := range s.Nodes {
			if n.Status == nil {
				continue
			}
			for _, m := range n.Status.Manifests {
				if path.Base(m.Path) == name && m.Image != "" {
					images.add(m.Image, n.Node)
				}
			}
		}
		if len(images) > 1 {
			warn("%s differs between the nodes: %s", name, images)
		}
	}
	for _, program := range []string{"etcd", "kube-apiserver"} {
		for _, flag := range s.flagsOf(program) {
			if values := s.driftOf(program, flag); len(values) > 1 {
				warn("%s has different flags on the nodes: --%s is %s", program, flag, values)
			}
		}
	}
}

// driftOf is which nodes have which value of a flag. All nodes may have the same, each may have its own name or address in it, or be told apart.
func (s *NodesStatus) driftOf(program, flag string) drift {
	values, neutral := drift{}, drift{}
	for _, n := range s.Nodes {
		flags, runs := n.flags[program]
		if !runs {
			continue
		}
		f, given := flags[flag]
		if !given {
			f.Value, f.Neutral = "not set", "not set"
		}
		values.add(f.Value, n.Node)
		neutral.add(f.Neutral, n.Node)
	}
	if len(neutral) == 1 {
		return neutral
	}
	return values
}

// flagsOf are the flags that a program has on any of the nodes.
func (s *NodesStatus) flagsOf(program string) (names []string) {
	for _, n := range s.Nodes {
		names = slices.AppendSeq(names, maps.Keys(n.flags[program]))
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// drift is which nodes have which value.
type drift map[string][]string

func (d drift) add(value, node string) { d[value] = append(d[value], node) }

func (d drift) String() string {
	var words []string
	for _, value := range slices.Sorted(maps.Keys(d)) {
		words = append(words, value+" on "+strings.Join(d[value], ", "))
	}
	return strings.Join(words, "; ")
}

// programFlags are the flags of etcd and of the API server, by program and flag.
type programFlags map[string]map[string]flagValue

// flagValue is what a flag is set to. In Neutral what names the node is in words that are the same on all.
type flagValue struct{ Value, Neutral string }

// flags reads the flags of this node's manifests. Those that kubeadm gives to each member as the cluster was when it joined are left out: etcd reads them at its
// first start only.
func (n *View) flags() (programFlags, error) {
	files, err := n.manifests(n.Config.StaticPodPath)
	if err != nil {
		return nil, err
	}
	own := ownNames(n.Name, files)
	all := programFlags{}
	for _, name := range []string{"etcd", "kube-apiserver"} {
		m, c, ok := program(files, name)
		if !ok {
			continue
		}
		all[name] = map[string]flagValue{}
		for _, f := range m.Manifest.Flags(c) {
			if f.Name == "initial-cluster" || f.Name == "initial-cluster-state" {
				continue
			}
			value, _ := m.Manifest.Expand(c, f.Value)
			now := own.read(value)
			if before, twice := all[name][f.Name]; twice {
				now = flagValue{before.Value + " " + now.Value, before.Neutral + " " + now.Neutral}
			}
			all[name][f.Name] = now
		}
	}
	return all, nil
}

// ownWords are what names a node in its flags: each word with what stands in its place.
type ownWords map[string]string

func ownNames(host string, files []ManifestFile) ownWords {
	own := ownWords{host: "(its name)"}
	var hosts []string
	if m, c, ok := program(files, "etcd"); ok {
		own[flagOf(m, c, "name")] = "(its name)"
		hosts = hostsOf(append(list(flagOf(m, c, "initial-advertise-peer-urls")), list(flagOf(m, c, "advertise-client-urls"))...))
	}
	for _, a := range addresses(files) {
		if !loopback(a) {
			hosts = append(hosts, a)
		}
	}
	for _, h := range hosts {
		own[h] = "(its address)"
	}
	delete(own, "")
	return own
}

// read puts a node's own name and addresses, alone, in lists and in URLs, in words. The order of URLs tells nothing.
func (o ownWords) read(value string) flagValue {
	items, urls := strings.Split(value, ","), false
	neutral := slices.Clone(items)
	for i, item := range items {
		if word, ok := o[item]; ok {
			neutral[i] = word
			continue
		}
		u, err := url.Parse(item)
		if err != nil || u.Host == "" {
			continue
		}
		urls = true
		if word, ok := o[u.Hostname()]; ok {
			neutral[i] = strings.Replace(item, strings.TrimSuffix(u.Host, ":"+u.Port()), word, 1)
		}
	}
	if urls {
		slices.Sort(items)
		slices.Sort(neutral)
	}
	return flagValue{strings.Join(items, ","), strings.Join(neutral, ",")}
}
