package restore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/phases/together"
)

// cluster is several simulated nodes, with an etcdpod on each, that reach each other. The real
// coordinator speaks with real agents. Nodes act one after another, so that what happens can be
// counted, and repeated.
type cluster struct {
	names    []string
	worlds   map[string]*restoreWorld
	mistakes together.Mistakes
	late     bool     // a node goes back before that is recorded
	gone     []string // destroyed
	// A node could not be reached, once: then others may have gone back without it.
	apart bool

	cut    map[string]bool    // nodes that nobody reaches, and that reach nobody
	at     string             // where the command runs
	agents map[string]*farEnd // the last one on each node

	mu       sync.Mutex
	instants int          // since the command began
	whose    []string     // at each instant the node that acted, or that was spoken with
	words    []bool       // whether it was a message
	strikes  []misfortune // what happens at some of them
	hit      misfortune   // what happened last
	command  string       // what was typed
	marks    func(mark)   // is told of each instant; nil: nobody is
	// How far each node's run got, as far as it was asked since the node last did something.
	coarse map[string]string
	// Is shown all states between two instants at which a record was written; nil: nobody is.
	seen     func(*cluster)
	heard    func(engine.Event) // is told of what all nodes do; nil: nobody is
	digests  map[string]uint64
	plans    map[string]account // how the run on each node began
	accounts map[string]reading // of what was read last
	records  map[string]*crashtest.Sought
	paths    map[string]string // where the journals were
	wrong    []string          // broken invariants of several nodes
}

// farEnd is a process of an agent, and the connection to it.
type farEnd struct {
	here, there net.Conn
	done        chan struct{}
	greeted     bool // the coordinator has its first answer
}

func (a *farEnd) drop() { _, _ = a.here.Close(), a.there.Close() }

func newCluster(t *testing.T, names ...string) *cluster {
	t.Helper()
	c := &cluster{names: names, worlds: map[string]*restoreWorld{}, plans: map[string]account{}}
	for _, name := range names {
		w := newWorld(t, scenario{name: name})
		w.Name = name
		c.worlds[name] = w
	}
	// The last one does not have the snapshot: it is sent there.
	if last := c.worlds[names[len(names)-1]]; last.Machine.Remove("/backup/snapshot.db") == nil {
		last.Machine.Settle()
		last.First = last.Machine.Look(journal.Home)
	}
	c.wire()
	return c
}

// fork is another cluster in the very state of this one; all processes of etcdpod are dead there.
func (c *cluster) fork() *cluster {
	f := &cluster{names: c.names, mistakes: c.mistakes, late: c.late, gone: c.gone,
		apart: c.apart, worlds: map[string]*restoreWorld{}, wrong: slices.Clone(c.wrong), plans: maps.Clone(c.plans)}
	for _, name := range c.names {
		w := *c.worlds[name].Node
		w.Machine = w.Machine.Clone()
		f.worlds[name] = onNode(&w, c.worlds[name].scenario)
	}
	f.wire()
	return f
}

// wire lets the nodes know of each other.
func (c *cluster) wire() {
	c.cut, c.agents, c.digests, c.coarse = map[string]bool{},
		map[string]*farEnd{}, map[string]uint64{}, map[string]string{}
	c.accounts, c.records, c.paths = map[string]reading{}, map[string]*crashtest.Sought{}, map[string]string{}
	for _, name := range c.names {
		c.worlds[name].Machine.Before = func(call string) { c.before(name, call) }
		c.worlds[name].Machine.CommittedBy(func() bool { return c.holds(name, ` {"kind":"settle"`) })
		c.restart(name)
	}
}

// restart is a new process of etcdpod on a node.
func (c *cluster) restart(name string) {
	w := c.worlds[name]
	w.Restart()
	n := w.Process
	n.OneByOne, n.Connect, n.Mistakes = true, c.connect, c.mistakes
	n.Faults = engine.Mistakes{AbortLate: c.late, ReleaseEarly: c.mistakes.ReleaseEarly}
	n.OwnName = func() (string, error) { return name, nil }
	etcd := sim.Etcd{M: w.Machine}
	for _, other := range c.names {
		etcd.Cluster = append(etcd.Cluster, c.worlds[other].Machine)
	}
	n.Etcd, n.Look.Etcd = etcd, etcd
	if c.heard != nil {
		n.Emit, n.Look.Emit = c.heard, c.heard
	}
	n.Joints = []together.Joint{w.looker().joint()}
}

// looker looks at simulated nodes.
func (w *restoreWorld) looker() looker {
	return looker{
		survey: func(ctx context.Context, n *observe.Node, q surveyQuestion) (*Facts, error) {
			return w.facts(ctx, n, q.Run)
		},
		source: func(ctx context.Context, n *observe.Node, _ restorer, run string) (*SnapshotFacts, error) {
			f, err := w.facts(ctx, n, run)
			if err != nil {
				return nil, err
			}
			return f.Snapshot, nil
		},
	}
}

func (c *cluster) connect(_ *journal.Cluster, at journal.Peer) (io.ReadWriteCloser, error) {
	if c.cut[at.Name] || c.cut[c.at] || slices.Contains(c.gone, at.Name) || c.worlds[c.at].Machine.Crashed() {
		return nil, errors.New("no route to host")
	}
	c.bury(at.Name)
	c.restart(at.Name)
	here, there := net.Pipe()
	a := &farEnd{here: here, there: there, done: make(chan struct{})}
	c.agents[at.Name] = a
	go func() {
		defer close(a.done)
		_ = c.worlds[at.Name].Process.AgentBeating(context.Background(),
			&ear{Conn: there, c: c, node: at.Name}, wire{there, c, at.Name, nil}, 0)
		_ = there.Close()
	}()
	return wire{here, c, at.Name, a.done}, nil
}

// bury waits until the last agent on a node has ended.
func (c *cluster) bury(name string) {
	if a := c.agents[name]; a != nil {
		a.drop()
		<-a.done
		delete(c.agents, name)
	}
	if m := c.worlds[name].Machine; m.Crashed() {
		m.Revive()
	}
}

// rest waits until no process of etcdpod runs.
func (c *cluster) rest() {
	for _, name := range c.names {
		c.bury(name)
	}
	c.strikes, c.seen, c.marks, c.cut = nil, nil, nil, map[string]bool{}
	c.check()
}

// begin is the beginning of a command on a node.
func (c *cluster) begin(at string) *together.Node {
	c.at, c.instants, c.whose, c.words, c.hit = at, 0, nil, nil, misfortune{}
	c.restart(at)
	return c.worlds[at].Process
}

func (c *cluster) restore(at string) error {
	defer c.rest()
	n := c.begin(at)
	c.command = "restore"
	var peers []journal.Peer
	for _, name := range c.names {
		peers = append(peers, journal.Peer{Name: name, Host: name})
	}
	o := TogetherOptions{Nodes: peers, Restore: Options{StopTimeout: time.Minute}}
	return c.worlds[at].looker().restore(context.Background(), n, o, func(engine.TogetherPlan) error { return nil })
}

// order is a command that a person types to settle a run.
type order struct {
	back bool
	at   string
	cut  []string // nodes that cannot be reached meanwhile
	lost []string // --lost
}

func (o order) String() string {
	command := "resume"
	if o.back {
		command = "rollback"
	}
	return fmt.Sprintf("%s on %s, without %v, lost %v", command, o.at, o.cut, o.lost)
}

func (c *cluster) obey(o order) error {
	defer c.rest()
	n := c.begin(o.at)
	c.command = o.String()
	for _, name := range o.cut {
		c.cut[name], c.apart = true, true
	}
	n.Lost(o.lost)
	if o.back {
		return n.Rollback(context.Background())
	}
	return n.Resume(context.Background())
}

// alive are the nodes that are not destroyed.
func (c *cluster) alive() []string {
	if len(c.gone) == 0 {
		return slices.Clip(c.names)
	}
	return slices.DeleteFunc(slices.Clone(c.names), func(n string) bool { return slices.Contains(c.gone, n) })
}

// verdict says whether all nodes are wholly old, or all wholly new.
func (c *cluster) verdict() (string, error) {
	var all []string
	for _, name := range c.alive() {
		v, err := c.worlds[name].verdict()
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

func (c *cluster) err() error {
	for _, name := range c.names {
		for _, v := range c.worlds[name].Machine.Violations {
			return fmt.Errorf("%s: %s", name, v)
		}
	}
	if len(c.wrong) > 0 {
		return errors.New(c.wrong[0])
	}
	return nil
}

// check holds the nodes together to what must be true after every step.
func (c *cluster) check() {
	alive := c.alive()
	var oldAt, newAt string
	for _, name := range alive {
		switch c.worlds[name].Machine.Serves() {
		case "old":
			oldAt = name
		case "new":
			newAt = name
		}
	}
	for _, name := range alive {
		if !c.apart && len(c.gone) == 0 && oldAt != "" && c.worlds[name].Machine.EtcdServes() == "new" {
			c.violate("an API server runs on %s, which goes back, and could reach the "+
				"etcd on %s, which still has the new data",
				oldAt, name)
		}
	}
	if newAt == "" {
		return
	}
	if oldAt != "" {
		c.violate("an API server serves the old data on %s, and one the new on %s", oldAt, newAt)
	}
	for _, name := range alive {
		if !c.holds(name, ` {"kind":"commit"`) {
			c.violate("an API server serves the new data on %s, and %s does not hold the commit record", newAt, name)
		}
	}
}

func (c *cluster) violate(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.wrong) < 10 {
		c.wrong = append(c.wrong, fmt.Sprintf(format, args...))
	}
}

// journal is that of the run on a node; nil when it has none.
func (c *cluster) journal(name string) []byte {
	m := c.worlds[name].Machine
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

// holds says whether a node's journal holds such a record.
func (c *cluster) holds(name, record string) bool {
	key := name + record
	if c.records[key] == nil {
		c.records[key] = &crashtest.Sought{}
	}
	return c.records[key].In(c.journal(name), record) >= 0
}

// account is what a journal adds up to, without times and names.
type account struct {
	id, steps        string // one letter a step: its last record
	phases           []int  // where each phase ends
	commitAt         int
	commit, settle   bool
	abort, end, torn bool
}

// reading is a journal, and what it adds up to.
type reading struct {
	journal []byte
	account account
}

// read remembers the last journal: what is written does not change in its place.
func (c *cluster) read(name string) account {
	now, last := c.journal(name), c.accounts[name]
	if len(now) == 0 || len(now) != len(last.journal) || &now[0] != &last.journal[0] {
		last = reading{now, c.readAll(name, now)}
		c.accounts[name] = last
	}
	return last.account
}

// readAll is quick: it is asked at every record. Only the first line is read as
// JSON, and only once.
func (c *cluster) readAll(name string, written []byte) account {
	first, rest, whole := bytes.Cut(written, []byte("\n"))
	if !whole {
		return account{}
	}
	a, known := c.plans[name]
	if !known {
		var begun journal.Record
		if json.Unmarshal(first[9:], &begun) != nil {
			return account{}
		}
		a = account{id: begun.Run.ID, commitAt: begun.Run.CommitAt, steps: strings.Repeat(".", len(begun.Run.Plan))}
		for i := range begun.Run.Plan {
			if i+1 == len(begun.Run.Plan) || begun.Run.Plan[i].Phase != begun.Run.Plan[i+1].Phase {
				a.phases = append(a.phases, i+1)
			}
		}
		c.plans[name] = a
	}
	steps := []byte(a.steps)
	for line := range bytes.Lines(rest) {
		kind, after, ok := bytes.Cut(line[min(len(line), 18):], []byte(`"`))
		if !ok || !bytes.HasSuffix(line, []byte("\n")) {
			a.torn = true
			break
		}
		switch journal.Kind(kind) {
		case journal.Commit:
			a.commit = true
		case journal.Settle:
			a.settle = true
		case journal.Abort:
			a.abort = true
		case journal.End:
			a.end = true
		default:
			i := 0
			if _, number, ok := bytes.Cut(after[:min(len(after), 80)], []byte(`"step":`)); ok {
				number = number[:bytes.IndexAny(number, ",}")]
				i, _ = strconv.Atoi(string(number))
			}
			steps[i] = letters[journal.Kind(kind)]
		}
	}
	a.steps = string(steps)
	return a
}

var letters = map[journal.Kind]byte{journal.Start: 's', journal.Finish: 'f', journal.Undo: 'u', journal.Undone: 'n'}

// coarse is how far each phase got: all of its operations alike, or not.
func (a account) coarse() string {
	var b strings.Builder
	fmt.Fprint(&b, a.commit, a.settle, a.abort, a.end)
	from := 0
	for _, to := range a.phases {
		if part := a.steps[from:to]; strings.Trim(part, part[:1]) == "" {
			b.WriteString(part[:1])
		} else {
			b.WriteString("m")
		}
		from = to
	}
	return b.String()
}

func (a account) begun() bool { return a.id != "" }

func (a account) done() bool { return strings.Trim(a.steps, "f") == "" }

func (a account) reverted() bool {
	return !a.begun() || a.abort && strings.Trim(a.steps, ".n") == ""
}

func TestARestoreOfThreeNodesEndsNewOnAll(t *testing.T) {
	c := newCluster(t, "cp1", "cp2", "cp3")
	if err := c.restore("cp1"); err != nil {
		t.Fatal(err)
	}
	if v, err := c.verdict(); v != "new" || err != nil {
		t.Fatalf("%s %v", v, err)
	}
	for _, name := range c.names {
		if a := c.read(name); !a.done() || !a.commit || !a.settle || !a.end {
			t.Errorf("%s: %+v", name, a)
		}
	}
}
