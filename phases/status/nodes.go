package status

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/phases/together"
)

// NodesStatus is the result of `status --nodes`. The JSON names are stable.
type NodesStatus struct {
	Nodes  []NodeStatus `json:"nodes"`
	Quorum *Quorum      `json:"quorum,omitempty"` // not where the nodes are of several clusters
	// What is wrong between the nodes, and on each: exit code 6. What is wrong on several is one.
	Warnings []string          `json:"warnings"`
	Findings []finding.Finding `json:"findings"` // the same, for programs: one for each node
	Next     string            `json:"next"`     // the next thing to do
	said     []sentence
}

// NodeStatus is one node of several.
type NodeStatus struct {
	Node         string  `json:"node"`
	Error        string  `json:"error,omitempty"` // why it could not be queried
	Hint         string  `json:"hint,omitempty"`  // what cures that
	Status       *Status `json:"status,omitempty"`
	HashKV       string  `json:"hashKV,omitempty"`       // hex, as of hashRevision
	HashRevision int64   `json:"hashRevision,omitempty"` // comparable are hashes of the same one
	compacted    int64
	flags        programFlags
	clock        clock
}

// What a node is asked for its status.
const (
	askStatus  = "status"
	askOwnHash = "own-hash"
	askFlags   = "flags"
	askClock   = "clock"
	askFigures = "figures"
)

// Replies are the answers of a node.
func Replies(n *observe.Node) map[string]together.Reply {
	var last *observe.Figures
	return map[string]together.Reply{
		askStatus: together.Given(func(ctx context.Context, o Options) (any, error) {
			s, err := Of(ctx, n, o)
			last = s.last
			return s, err
		}),
		askFigures: together.Given(func(context.Context, any) (any, error) { return last, nil }),
		askFlags:   together.Given(func(ctx context.Context, _ any) (any, error) { return flags(ctx, n) }),
		askOwnHash: together.Given(func(ctx context.Context, revision int64) (any, error) {
			return n.OwnHash(ctx, revision)
		}),
		askClock: together.Given(func(context.Context, any) (any, error) { return n.Clock.Now(), nil }),
	}
}

// OfNodes examines several nodes, through agents as a restore does, and changes nothing. A node
// that cannot be asked is one of the findings.
func OfNodes(
	ctx context.Context, n *together.Node, o Options, nodes []journal.Peer, sshCommand, remoteCommand string,
) (s NodesStatus, err error) {
	s.Nodes = make([]NodeStatus, len(nodes))
	t, errs, err := n.LookAt(ctx, together.NodesAt(nodes, sshCommand, remoteCommand),
		func(p *together.Peer, i int) error {
			o := o
			o.Last = o.LastOf[nodes[i].Name]
			err := p.Ask(ctx, askStatus, o, &s.Nodes[i].Status, nil)
			if err == nil {
				err = p.Ask(ctx, askFlags, nil, &s.Nodes[i].flags, nil)
			}
			if err == nil {
				s.Nodes[i].clock = clockOf(ctx, p)
				if last, err := together.Query[*observe.Figures](ctx, p, askFigures, nil); err == nil {
					s.Nodes[i].Status.last = last
				}
			}
			return err
		})
	if err != nil {
		return s, err
	}
	defer t.Leave()
	for i, err := range errs {
		if s.Nodes[i].Node = nodes[i].Name; err != nil {
			s.Nodes[i].Error, s.Nodes[i].Hint, s.Nodes[i].Status = err.Error(), engine.Hint(err), nil
		}
	}
	hashes(ctx, t.Peers, s.Nodes)
	s.Quorum = s.quorum()
	s.judge()
	return s, ctx.Err()
}

// Last are the figures that were read last, by node, for the next look.
func (s *NodesStatus) Last() map[string]*observe.Figures {
	last := map[string]*observe.Figures{}
	for _, n := range s.Nodes {
		if n.Status != nil && n.Status.last != nil {
			last[n.Node] = n.Status.last
		}
	}
	return last
}

// hashes asks the members of each cluster for their HashKV at one revision that all of them have;
// of those that hold more, it takes what each node has found out in passing.
func hashes(ctx context.Context, peers []*together.Peer, nodes []NodeStatus) {
	at := revisionsToHash(nodes)
	for i, n := range nodes {
		m := memberOf(n)
		if m != nil && at[m.ClusterID] == 0 && m.Compared != nil {
			nodes[i].HashKV, nodes[i].HashRevision, nodes[i].compacted = m.Compared.HashKV, m.Compared.HashRevision,
				m.Compared.CompactRevision
			continue
		}
		j := slices.IndexFunc(peers, func(p *together.Peer) bool { return p.Name == n.Node })
		if m == nil || m.Learner || j < 0 || at[m.ClusterID] == 0 {
			continue
		}
		h, err := together.Query[observe.HashAnswer](ctx, peers[j], askOwnHash, at[m.ClusterID])
		if err != nil {
			continue // that member's own status says what is wrong
		}
		nodes[i].HashKV, nodes[i].HashRevision, nodes[i].compacted = fmt.Sprintf("%08x", h.Hash),
			at[m.ClusterID], h.Compacted
	}
}

// revisionsToHash returns a revision for each cluster whose members may be made to hash all they
// hold. The others' are compared by each node's own status as of what the API server has compacted,
// which costs nothing; where there is no such revision, that says so.
func revisionsToHash(nodes []NodeStatus) map[string]int64 {
	at, large := map[string]int64{}, map[string]bool{}
	for _, n := range nodes {
		m := memberOf(n)
		if m == nil || m.Learner {
			continue
		}
		if at[m.ClusterID] == 0 || m.Revision < at[m.ClusterID] {
			at[m.ClusterID] = m.Revision
		}
		large[m.ClusterID] = large[m.ClusterID] || !observe.HashesAtOnce(m.InUseBytes)
	}
	maps.DeleteFunc(at, func(cluster string, _ int64) bool { return large[cluster] })
	return at
}

func memberOf(n NodeStatus) *MemberStatus {
	if n.Status == nil {
		return nil
	}
	return n.Status.Member
}

// programFlags are the flags of etcd and of the API server, by program and flag.
type programFlags map[string]map[string]flagValue

// flagValue is a flag's value. In Neutral, placeholders that are the same on all nodes replace what
// names the node.
type flagValue struct{ Value, Neutral string }

// flags reads the flags of this node's manifests. It leaves out those in which kubeadm records the
// cluster as it was when a member joined: etcd reads them at its first start only.
func flags(ctx context.Context, n *observe.Node) (programFlags, error) {
	files, err := n.Manifests(ctx, n.Config.StaticPodPath)
	if err != nil {
		return nil, err
	}
	own := ownNames(n.Name, files)
	all := programFlags{}
	for _, name := range []string{"etcd", "kube-apiserver"} {
		m, c, ok := observe.Program(files, name)
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

// ownWords are the words that name a node in its flags, with their placeholders.
type ownWords map[string]string

func ownNames(host string, files []observe.ManifestFile) ownWords {
	own := ownWords{host: "(its name)"}
	var hosts []string
	if m, c, ok := observe.Program(files, "etcd"); ok {
		own[observe.FlagOf(m, c, "name")] = "(its name)"
		hosts = observe.HostsOf(append(observe.SplitList(observe.FlagOf(m, c, "initial-advertise-peer-urls")),
			observe.SplitList(observe.FlagOf(m, c, "advertise-client-urls"))...))
	}
	for _, a := range observe.Addresses(files) {
		if !observe.Loopback(a) {
			hosts = append(hosts, a)
		}
	}
	for _, h := range hosts {
		own[h] = "(its address)"
	}
	delete(own, "")
	return own
}

// read replaces a node's own name and addresses, alone, in lists and in URLs, by placeholders. The
// order of URLs does not matter.
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
