package crashtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
	"github.com/etcdpod/etcdpod/phases/together"
)

// Cluster is several simulated nodes that can reach each other, with an etcdpod on each. The real
// coordinator talks to real agents. Nodes act one after another, so that instants can be counted,
// and runs repeated.
type Cluster struct {
	Names    []string
	Nodes    map[string]*Node
	Mistakes together.Mistakes
	Gone     []string // destroyed
	// Apart says that a node was once unreachable: the others may have rolled back without it.
	Apart bool

	Command  string // what was typed
	At       string // the node where it runs
	Instants int    // since the command began
	// Seen, if set, is called with each state between two instants at which a record was written.
	Seen  func(*Cluster)
	Heard func(engine.Event) // if set, is called with the events of all nodes

	work       Together
	abortsLate bool               // a node rolls back before it records that
	cut        map[string]bool    // nodes that are cut off in both directions
	agents     map[string]*farEnd // the latest one on each node

	mu      sync.Mutex
	whose   []string     // for each instant, the node that acted, or that was talked to
	words   []bool       // for each instant, whether it was a message
	strikes []misfortune // what is to happen, and at which instants
	hit     misfortune   // what happened last
	marks   func(mark)   // if set, is called at each instant
	// How far each node's run got, cached until the node does something.
	coarse   map[string]string
	digests  map[string]uint64
	plans    map[string]Account // how the run on each node began
	accounts map[string]reading // what was last read of each journal
	records  map[string]*Sought
	paths    map[string]string // where the journals were
	wrong    []string          // broken invariants across nodes
	meddle   func()            // what somebody else does
}

// farEnd is an agent's process and the connection to it.
type farEnd struct {
	here, there net.Conn
	done        chan struct{}
	greeted     bool // the coordinator has its first answer
}

func (a *farEnd) drop() { _, _ = a.here.Close(), a.there.Close() }

// Fresh makes a new cluster.
func (w Together) Fresh(t *testing.T) *Cluster {
	t.Helper()
	var machines []*sim.Machine
	for _, name := range w.Nodes {
		machines = append(machines, w.Machine(t, name))
	}
	return w.Loaded(t, machines, machines)
}

// Loaded makes a cluster of machines on which something has happened; before is how they were at
// first.
func (w Together) Loaded(t *testing.T, before, now []*sim.Machine) *Cluster {
	t.Helper()
	c := &Cluster{work: w, Names: w.Nodes, Nodes: map[string]*Node{}, plans: map[string]Account{}}
	for i, name := range w.Nodes {
		c.Nodes[name] = Over(t, name, now[i], before[i])
	}
	c.wire()
	return c
}

// Fork returns a copy of the cluster in its present state, with all processes of etcdpod dead.
func (c *Cluster) Fork() *Cluster {
	f := &Cluster{work: c.work, Names: c.Names, Mistakes: c.Mistakes, abortsLate: c.abortsLate, Gone: c.Gone,
		Apart: c.Apart, Nodes: map[string]*Node{}, wrong: slices.Clone(c.wrong), plans: maps.Clone(c.plans)}
	for _, name := range c.Names {
		n := *c.Nodes[name]
		n.Machine = n.Machine.Clone()
		f.Nodes[name] = &n
	}
	f.wire()
	return f
}

// wire connects the nodes.
func (c *Cluster) wire() {
	c.cut, c.agents, c.digests, c.coarse = map[string]bool{},
		map[string]*farEnd{}, map[string]uint64{}, map[string]string{}
	c.accounts, c.records, c.paths = map[string]reading{}, map[string]*Sought{}, map[string]string{}
	for _, name := range c.Names {
		c.Nodes[name].Machine.Before = func(call string) { c.before(name, call) }
		c.Nodes[name].Machine.Others = c.machines
		if c.work.Wire != nil {
			c.work.Wire(c, name)
		}
		c.restart(name)
	}
}

// restart starts a new process of etcdpod on a node.
func (c *Cluster) restart(name string) {
	w := c.Nodes[name]
	w.Restart()
	n := w.Process
	n.OneByOne, n.Connect, n.Mistakes = true, c.Connect, c.Mistakes
	n.Faults = engine.Mistakes{AbortLate: c.abortsLate, ReleaseEarly: c.Mistakes.ReleaseEarly}
	n.OwnName = func() (string, error) { return name, nil }
	etcd := sim.Etcd{M: w.Machine}
	for _, other := range c.Names {
		etcd.Cluster = append(etcd.Cluster, c.Nodes[other].Machine)
	}
	n.Etcd, n.Look.Etcd = etcd, etcd
	if c.Heard != nil {
		n.Emit, n.Look.Emit = c.Heard, c.Heard
	}
	n.Joints = []together.Joint{c.joint(name)}
}

func (c *Cluster) joint(name string) together.Joint { return c.work.Joint(c.Nodes[name]) }

// Connect starts an agent on a node, as ssh does.
func (c *Cluster) Connect(_ *journal.Cluster, at journal.Peer) (io.ReadWriteCloser, error) {
	if c.cut[at.Name] || c.cut[c.At] || slices.Contains(c.Gone, at.Name) || c.Nodes[c.At].Machine.Crashed() {
		return nil, errors.New("no route to host")
	}
	c.bury(at.Name)
	c.restart(at.Name)
	here, there := net.Pipe()
	a := &farEnd{here: here, there: there, done: make(chan struct{})}
	c.agents[at.Name] = a
	go func() {
		defer close(a.done)
		_ = c.Nodes[at.Name].Process.AgentBeating(context.Background(),
			&ear{Conn: there, c: c, node: at.Name}, wire{there, c, at.Name, nil}, 0)
		_ = there.Close()
	}()
	return wire{here, c, at.Name, a.done}, nil
}

// bury waits until the latest agent on a node has ended.
func (c *Cluster) bury(name string) {
	if a := c.agents[name]; a != nil {
		a.drop()
		<-a.done
		delete(c.agents, name)
	}
	if m := c.Nodes[name].Machine; m.Crashed() {
		m.Revive()
	}
}

// Rest waits until no process of etcdpod runs.
func (c *Cluster) Rest() {
	for _, name := range c.Names {
		c.bury(name)
	}
	c.strikes, c.Seen, c.marks, c.cut = nil, nil, nil, map[string]bool{}
	c.check()
}

// Begin begins a command on a node.
func (c *Cluster) Begin(at string) *together.Node {
	c.At, c.Instants, c.whose, c.words, c.hit = at, 0, nil, nil, misfortune{}
	c.restart(at)
	return c.Nodes[at].Process
}

// Run types the command on a node.
func (c *Cluster) Run(at string) error {
	defer c.Rest()
	c.Begin(at)
	c.Command = c.work.Name
	var peers []journal.Peer
	for _, name := range c.Names {
		peers = append(peers, journal.Peer{Name: name, Host: name})
	}
	return c.work.Run(c.Nodes[at], peers)
}

// Order is a command that an operator types to settle a run.
type Order struct {
	Back bool
	At   string
	Cut  []string // nodes that cannot be reached meanwhile
	Lost []string // --lost

	GiveUp bool // --give-up-writes
}

func (o Order) String() string {
	command := "resume"
	if o.Back {
		command = "rollback"
	}
	return fmt.Sprintf("%s on %s, without %v, lost %v", command, o.At, o.Cut, o.Lost)
}

// Obey types such a command.
func (c *Cluster) Obey(o Order) error {
	defer c.Rest()
	n := c.Begin(o.At)
	c.Command = o.String()
	for _, name := range o.Cut {
		c.cut[name], c.Apart = true, true
	}
	n.Lost(o.Lost)
	n.GiveUp(o.GiveUp)
	if o.Back {
		return n.Rollback(context.Background())
	}
	return n.Resume(context.Background())
}

// machines are all nodes' machines.
func (c *Cluster) machines() (all []*sim.Machine) {
	for _, name := range c.Names {
		all = append(all, c.Nodes[name].Machine)
	}
	return all
}

// Alive are the nodes that are not destroyed.
func (c *Cluster) Alive() []string {
	if len(c.Gone) == 0 {
		return slices.Clip(c.Names)
	}
	return slices.DeleteFunc(slices.Clone(c.Names), func(n string) bool { return slices.Contains(c.Gone, n) })
}

// Verdict says whether all nodes are wholly old, or all wholly new.
func (c *Cluster) Verdict() (string, error) {
	var all []string
	for _, name := range c.Alive() {
		v, err := c.work.Outcome(c.Nodes[name])
		if err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, v)
	}
	for _, v := range all {
		if v != all[0] {
			return "", fmt.Errorf("some nodes are old and some new: %s", strings.Join(all, " "))
		}
	}
	return all[0], c.err()
}

func (c *Cluster) err() error {
	for _, name := range c.Names {
		for _, v := range c.Nodes[name].Machine.Violations {
			return fmt.Errorf("%s: %s", name, v)
		}
	}
	if len(c.wrong) > 0 {
		return errors.New(c.wrong[0])
	}
	return nil
}

// check checks what must be true of all nodes together after every step.
func (c *Cluster) check() {
	if c.work.Check != nil {
		c.work.Check(c)
	}
}

// Violate reports that something was not true after a step.
func (c *Cluster) Violate(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.wrong) < 10 {
		c.wrong = append(c.wrong, fmt.Sprintf(format, args...))
	}
}

// journal returns the journal of the run on a node; nil when it has none.
func (c *Cluster) journal(name string) []byte {
	m := c.Nodes[name].Machine
	if c.paths[name] != "" {
		if there := m.Peek(c.paths[name]); there != nil {
			return there
		}
	}
	ids, _ := m.ReadDir(journal.RunsDir)
	if len(ids) == 0 {
		return nil
	}
	c.paths[name] = journal.RunsDir + "/" + ids[0] + "/journal"
	return m.Peek(c.paths[name])
}

// Holds says whether a node's journal holds a record of that kind.
func (c *Cluster) Holds(name string, kind journal.Kind) bool {
	record := ` {"kind":"` + string(kind) + `"`
	key := name + record
	if c.records[key] == nil {
		c.records[key] = &Sought{}
	}
	return c.records[key].In(c.journal(name), record) >= 0
}
