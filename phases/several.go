package phases

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
)

// togetherNode is this node as one of several that carry out one run.
type togetherNode struct {
	*engineNode
	Look *View
	// OwnName is the node's name as kubeadm gives it, by which other nodes know it.
	OwnName func() (string, error)
	Joints  []Joint          // the workflows that are known here
	Looks   map[string]Reply // what may be asked without any of them
	Connect func(*journal.Cluster, journal.Peer) (io.ReadWriteCloser, error)

	OneByOne bool // tests: nodes act one after another, so that a run can be repeated
	lost     []string
	mistakes protocolMistakes
}

// newNode makes this node one of several, as it is seen by those who look at it.
func newNode(p Parts, look View) *togetherNode {
	look.View, look.Etcd, look.API, look.Emit = p.Host.View(), p.Etcd, p.API, p.Emit
	return &togetherNode{engineNode: &engineNode{Parts: p}, Look: &look, OwnName: look.kubeName}
}

// protocolMistakes are deliberate ones, for the tests that show that the exploration would find them. They are never made outside tests.
type protocolMistakes struct {
	CommitEarly     bool // the commit record is written before the phases before it have ended
	SettleEarly     bool // a node is told that all hold the commit record when it holds it itself
	BackUnwitnessed bool // a node that holds the commit record goes back because it is asked to
	ReleaseEarly    bool // what is behind the commit point is done before all hold the commit record
	CloseEarly      bool // a run is closed when all hold the commit record
	OneRound        bool // what is to be undone last is undone with the rest
}

// joint returns the workflow of that name.
func (n *togetherNode) joint(name string) (Joint, error) {
	i := slices.IndexFunc(n.Joints, func(j Joint) bool { return j.Name == name })
	if i < 0 {
		return Joint{}, fmt.Errorf("this etcdpod knows no workflow %q over several nodes", name)
	}
	return n.Joints[i], nil
}

// telling is the same node with its events going elsewhere.
func (n *togetherNode) telling(emit func(Event)) *togetherNode {
	far, engine, look := *n, *n.engineNode, *n.Look
	engine.Emit, look.Emit = emit, emit
	far.engineNode, far.Look = &engine, &look
	return &far
}

// convene begins a run of a workflow on several nodes: it has an id, and all nodes are greeted. Nothing is written yet.
func (n *togetherNode) convene(ctx context.Context, workflow string, c journal.Cluster) (*transaction, error) {
	if err := refuseOpen(n.Host.FS); err != nil {
		return nil, err
	}
	joint, err := n.joint(workflow)
	if err != nil {
		return nil, err
	}
	id, err := n.newID(workflow)
	if err != nil {
		return nil, err
	}
	t := &transaction{node: n, joint: joint, run: id, cluster: c}
	return t, t.meetAll(ctx)
}

// begin journals the run on every node, on the coordinator first, and drives it. A node where that fails has done nothing yet: then all go back.
func (t *transaction) begin(ctx context.Context) error {
	i := slices.IndexFunc(t.peers, func(p *peer) bool { return p.here })
	if err := t.peers[i].ask(ctx, askBegin, nil, nil, nil); err != nil {
		return err
	}
	others := slices.Delete(slices.Clone(t.peers), i, i+1)
	err := t.eachOf(ctx, others, func(ctx context.Context, p *peer) error { return p.ask(ctx, askBegin, nil, nil, nil) })
	if err != nil {
		return t.failed(ctx, err)
	}
	return t.forward(ctx)
}

// meetAll greets all nodes: this one is the one of that name, and coordinates.
func (t *transaction) meetAll(ctx context.Context) error {
	own, err := t.node.OwnName()
	if err != nil {
		return err
	}
	if _, ok := peerNamed(&t.cluster, own); !ok {
		return &UsageError{Reason: fmt.Sprintf("--nodes does not name this node, %s", own), Hint: "type the command on one of the nodes that are restored"}
	}
	t.cluster.Coordinator = own
	t.peers = make([]*peer, len(t.cluster.Nodes))
	seen := map[string]bool{}
	indexed := map[string]int{}
	for i, at := range t.cluster.Nodes {
		if seen[at.Name] {
			return &UsageError{Reason: fmt.Sprintf("--nodes names %s twice", at.Name)}
		}
		seen[at.Name], indexed[at.Name] = true, i
		t.peers[i] = &peer{name: at.Name}
	}
	err = t.each(ctx, func(ctx context.Context, stand *peer) error {
		i := indexed[stand.name]
		var part *participant
		if stand.name == own {
			part = &participant{node: t.node}
		}
		p, err := t.node.meet(ctx, t.joint.Name, &t.cluster, t.cluster.Nodes[i], part, false)
		if err == nil {
			t.peers[i] = p
		}
		return err
	})
	t.peers = slices.DeleteFunc(t.peers, func(p *peer) bool { return p.link == nil })
	return err
}

// NodePlan is what one of several nodes does.
type NodePlan struct {
	Node string `json:"node"`
	Plan
}

// TogetherPlan is a restore planned on several nodes.
type TogetherPlan struct {
	Nodes []NodePlan `json:"nodes"`
	Notes []string   `json:"notes,omitempty"` // what a person should know before going on
	Risk  string     `json:"risk,omitempty"`  // what a person must agree to apart from the plan
}

// ParseNodes reads NAME[=HOST],….
func ParseNodes(list []string) ([]journal.Peer, error) {
	var peers []journal.Peer
	for _, item := range list {
		name, host, given := strings.Cut(strings.TrimSpace(item), "=")
		if !given {
			host = name
		}
		if name == "" || host == "" || strings.HasPrefix(host, "-") {
			return nil, &UsageError{Reason: fmt.Sprintf("--nodes %q is not NAME or NAME=HOST", item)}
		}
		peers = append(peers, journal.Peer{Name: name, Host: host})
	}
	if len(peers) == 0 {
		return nil, &UsageError{Reason: "--nodes names no node", Hint: "give it as --nodes cp1,cp2,cp3"}
	}
	return peers, nil
}
