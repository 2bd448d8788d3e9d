package together

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// Node is this node as one of several that carry out one run.
type Node struct {
	*engine.Node
	Look *observe.Node
	// OwnName is the name that kubeadm gave the node, by which the other nodes know it.
	OwnName func() (string, error)
	Joints  []Joint          // the joint workflows known here
	Looks   map[string]Reply // what may be asked without a joint workflow
	Connect func(*journal.Cluster, journal.Peer) (io.ReadWriteCloser, error)

	OneByOne bool // for tests: nodes act one after another, so that a run can be repeated
	lost     []string
	reach    Reach
	giveUp   bool
	Patience time.Duration // how long an answer may take without an event; 0: [patience]
	here     *patient      // with this node, while it coordinates
	outages  *[]Outage     // of the run that this node has brought to its end
	Mistakes Mistakes
}

// NewNode makes this node one of several; look is how observers see it.
func NewNode(p engine.Parts, look observe.Node) *Node {
	look.View, look.Etcd, look.API, look.Emit = p.Host.View(), p.Etcd, p.API, p.Emit
	return &Node{Node: &engine.Node{Parts: p}, Look: &look, OwnName: look.KubeName, here: newPatient(),
		outages: new([]Outage)}
}

// Outage is for how long a node's API server was away in a run on several.
type Outage struct {
	Node    string
	Seconds float64
}

// Outages are those of the run on several nodes that this node has brought to its end.
func (n *Node) Outages() []Outage { return *n.outages }

// Mistakes are planted by the tests that show that the exploration would find them. Nothing else
// sets them.
type Mistakes struct {
	CommitEarly     bool // the commit record is written before all earlier phases have ended
	SettleEarly     bool // a node is told that all hold the commit record before they do
	BackUnwitnessed bool // a node that holds the commit record rolls back when asked to
	BackInPart      bool // nodes go back although one cannot be asked, where that takes all
	// The first phase past the commit point runs before all nodes hold the commit record.
	ReleaseEarly bool
	CloseEarly   bool // a run is closed as soon as all nodes hold the commit record
	OneRound     bool // what is to be undone last is undone with the rest
}

// joint returns the joint workflow with that name.
func (n *Node) joint(name string) (Joint, error) {
	i := slices.IndexFunc(n.Joints, func(j Joint) bool { return j.Name == name })
	if i < 0 {
		return Joint{}, fmt.Errorf("this etcdpod has no workflow %q for several nodes", name)
	}
	return n.Joints[i], nil
}

// telling returns the same node, with its events sent to emit, those about progress sparingly.
func (n *Node) telling(emit func(engine.Event)) *Node {
	emit = engine.Sparing(emit)
	far, engine, look := *n, *n.Node, *n.Look
	engine.Emit, look.Emit = emit, emit
	far.Node, far.Look = &engine, &look
	return &far
}

// OneOfSeveral returns the same node, with events that say which node they are about: those of the
// other nodes stand beside them.
func (n *Node) OneOfSeveral() *Node {
	own := sync.OnceValue(func() string {
		name, err := n.OwnName()
		if err != nil {
			return n.Look.Name // whoever needs the name to act on it asks again, and fails
		}
		return name
	})
	return n.telling(func(e engine.Event) {
		if !e.Together {
			e.Node, e.Together = own(), true
		}
		n.Emit(e)
	})
}

// LookAt asks something of several nodes at once, through agents as in a run, and changes nothing.
// errs says why a node could not be asked, or failed to answer. The nodes that were met can be
// asked more until the transaction is left.
func (n *Node) LookAt(
	ctx context.Context, c journal.Cluster, ask func(p *Peer, i int) error,
) (t *Transaction, errs []error, err error) {
	own, err := n.OwnName()
	if err != nil {
		return nil, nil, err
	}
	t, errs = &Transaction{Node: n, Cluster: c}, make([]error, len(c.Nodes))
	stands := make([]*Peer, len(c.Nodes))
	for i, at := range c.Nodes {
		stands[i] = &Peer{Name: at.Name}
	}
	err = t.All(stands, func(stand *Peer) error {
		i := slices.Index(stands, stand)
		var part *Participant
		if stand.Name == own {
			part = &Participant{Node: n}
		}
		p, err := n.Meet(ctx, "", &t.Cluster, c.Nodes[i], part, true)
		if err == nil {
			stand.Link, stand.Here = p.Link, p.Here
			err = ask(p, i)
		}
		errs[i] = err
		return nil
	})
	t.Peers = slices.DeleteFunc(stands, func(p *Peer) bool { return p.Link == nil })
	if err != nil {
		t.Leave()
	}
	return t, errs, err
}

// Convene prepares a run of a workflow on several nodes, or on this one alone if none are given: it
// gives the run an id, and greets all nodes. Nothing is written yet.
func (n *Node) Convene(ctx context.Context, workflow string, c journal.Cluster) (*Transaction, error) {
	if err := engine.RefuseOpen(n.Host.FS); err != nil {
		return nil, err
	}
	joint, err := n.joint(workflow)
	if err != nil {
		return nil, err
	}
	id, err := n.NewID(workflow)
	if err != nil {
		return nil, err
	}
	if len(c.Nodes) == 0 {
		own, err := n.OwnName()
		if err != nil {
			return nil, err
		}
		c.Nodes = []journal.Peer{{Name: own, Host: own}}
	}
	t := &Transaction{Node: n, joint: joint, Run: id, Cluster: c}
	return t, t.meetAll(ctx)
}

// Begin journals the run on every node, the coordinator first, and drives it. If a node fails to
// journal it, none has done anything yet, and all roll back.
func (t *Transaction) Begin(ctx context.Context) error {
	i := slices.IndexFunc(t.Peers, func(p *Peer) bool { return p.Here })
	if err := t.Peers[i].Ask(ctx, AskBegin, nil, nil, nil); err != nil {
		return err
	}
	others := slices.Delete(slices.Clone(t.Peers), i, i+1)
	err := t.eachOf(ctx, others, func(ctx context.Context, p *Peer) error {
		return p.Ask(ctx, AskBegin, nil, nil, nil)
	})
	if err != nil {
		return t.failed(ctx, err)
	}
	return t.forward(ctx)
}

// meetAll greets all nodes. This node must be one of them, and becomes the coordinator.
func (t *Transaction) meetAll(ctx context.Context) error {
	own, err := t.Node.OwnName()
	if err != nil {
		return err
	}
	if _, ok := peerNamed(&t.Cluster, own); !ok {
		return &engine.UsageError{Reason: fmt.Sprintf("--nodes does not name this node, %s", own),
			Hint: "run the command on one of the nodes in --nodes"}
	}
	t.Cluster.Coordinator = own
	t.Peers = make([]*Peer, len(t.Cluster.Nodes))
	seen := map[string]bool{}
	indexed := map[string]int{}
	for i, at := range t.Cluster.Nodes {
		if seen[at.Name] {
			return &engine.UsageError{Reason: fmt.Sprintf("--nodes names %s twice", at.Name)}
		}
		seen[at.Name], indexed[at.Name] = true, i
		t.Peers[i] = &Peer{Name: at.Name}
	}
	err = t.Each(ctx, func(ctx context.Context, stand *Peer) error {
		i := indexed[stand.Name]
		var part *Participant
		if stand.Name == own {
			part = &Participant{Node: t.Node}
		}
		p, err := t.Node.Meet(ctx, t.joint.Name, &t.Cluster, t.Cluster.Nodes[i], part, false)
		if err == nil {
			t.Peers[i] = p
		}
		return err
	})
	t.Peers = slices.DeleteFunc(t.Peers, func(p *Peer) bool { return p.Link == nil })
	return err
}

// NodesAt are nodes, and how they are reached.
func NodesAt(nodes []journal.Peer, sshCommand, remoteCommand string) journal.Cluster {
	return journal.Cluster{Nodes: nodes, SSHCommand: sshCommand, RemoteCommand: remoteCommand}
}

const nodesHint = "give it as --nodes cp1,cp2,cp3"

// ParseNodes reads NAME[=HOST],….
func ParseNodes(list []string) ([]journal.Peer, error) {
	var peers []journal.Peer
	for _, item := range list {
		peer, ok := ParseNode(item)
		if !ok {
			return nil, &engine.UsageError{Reason: fmt.Sprintf("--nodes %q is not NAME or NAME=HOST", item),
				Hint: nodesHint}
		}
		if slices.ContainsFunc(peers, func(p journal.Peer) bool { return p.Name == peer.Name }) {
			return nil, &engine.UsageError{Reason: fmt.Sprintf("--nodes names %s twice", peer.Name), Hint: nodesHint}
		}
		peers = append(peers, peer)
	}
	if len(peers) == 0 {
		return nil, &engine.UsageError{Reason: "--nodes names no node", Hint: nodesHint}
	}
	return peers, nil
}

// ParseNode reads NAME or NAME=HOST, of one node: false where it is neither.
func ParseNode(text string) (journal.Peer, bool) {
	name, host, given := strings.Cut(strings.TrimSpace(text), "=")
	if !given {
		host = name
	}
	ok := name != "" && host != "" && !strings.HasPrefix(host, "-") && !strings.Contains(text, ",")
	return journal.Peer{Name: name, Host: host}, ok
}
