package phases

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"strconv"
	"strings"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// participant is this node's part in a run on several nodes: it does what the coordinator asks, one question at a time, under this node's lock.
// Whatever a coordinator says, it keeps the rules on which the transaction stands:
//   - It holds the node's lock from the first question to its end; so what it says of its journal stays true until then.
//   - It does nothing behind the commit point before it was told that all nodes hold the commit record, and has recorded that.
//   - It goes back when it does not hold the commit record, or when it was told which node is known to go back; never once it has recorded that all hold it.
//   - It does not close its part: that is said to it when all are done.
type participant struct {
	node   *Node
	unlock func() error
	facts  *Facts // of the survey
	plan   Plan
	id     string
	run    *run // nil until begun
}

// The questions.
const (
	askHello   = "hello"
	askSurvey  = "survey"
	askPlan    = "plan"
	askBegin   = "begin"
	askReceive = "receive"
	askLoad    = "load"
	askAdvance = "advance"
	askStaged  = "staged"
	askHash    = "hash"
	askCommit  = "commit"
	askSettle  = "settle"
	askBack    = "back"
	askClose   = "close"
	askStatus  = "status"
	askOwnHash = "own-hash"
	askFlags   = "flags"
	askLeft    = "left"
	askServed  = "served"
)

func (p *participant) answer(ctx context.Context, question string, with json.RawMessage, file io.Reader) (any, error) {
	switch question {
	case askHello:
		return given(with, func(q helloQuestion) (any, error) { return p.hello(ctx, q) })
	case askSurvey:
		return given(with, func(q surveyQuestion) (any, error) { return p.survey(ctx, q) })
	case askPlan:
		return given(with, func(o RestoreOptions) (any, error) { return p.planWith(ctx, o) })
	case askReceive:
		return given(with, func(q sent) (any, error) { return done(p.receive(ctx, q, file)) })
	case askLoad:
		return given(with, func(id string) (any, error) { return p.load(id) })
	case askLeft:
		return given(with, func(id string) (any, error) { return p.left(id) })
	case askStatus:
		return p.node.Status(ctx)
	case askFlags:
		return p.node.flags()
	case askOwnHash:
		return given(with, func(revision int64) (any, error) { return p.ownHash(ctx, revision) })
	}
	if question == askBegin {
		return done(p.begin())
	}
	if p.run == nil {
		return nil, fmt.Errorf("cannot %s: no run was begun or loaded", question)
	}
	switch question {
	case askAdvance:
		return given(with, func(q advanceQuestion) (any, error) { return done(p.advance(ctx, q)) })
	case askStaged:
		return p.staged()
	case askHash:
		return given(with, func(revision int64) (any, error) { return p.hash(ctx, revision) })
	case askServed:
		return given(with, func(revision int64) (any, error) { return p.served(ctx, revision) })
	case askCommit:
		return done(p.commit())
	case askSettle:
		return done(p.settle())
	case askBack:
		return given(with, func(q backQuestion) (any, error) { return done(p.back(ctx, q)) })
	case askClose:
		return done(p.close())
	}
	return nil, fmt.Errorf("cannot %s: this etcdpod does not know how", question)
}

// given reads what goes with a question.
func given[T any](with json.RawMessage, f func(T) (any, error)) (any, error) {
	var q T
	if err := json.Unmarshal(with, &q); err != nil {
		return nil, fmt.Errorf("cannot understand the coordinator: %w", err)
	}
	return f(q)
}

func done(err error) (any, error) { return struct{}{}, err }

func (p *participant) leave() error {
	if p.unlock == nil {
		return nil
	}
	unlock := p.unlock
	p.unlock = nil
	return unlock()
}

// protocol is the version of what coordinators and agents say to each other. It changes with the meaning of any of it; programs of different versions are refused anyway.
const protocol = 1

type helloQuestion struct {
	Protocol int
	Version  string
	Reading  bool // nothing will be changed: no lock is needed
}

type helloAnswer struct{ Node string }

func (p *participant) hello(ctx context.Context, q helloQuestion) (helloAnswer, error) {
	if q.Protocol != protocol || q.Version != p.node.version {
		return helloAnswer{}, refuse("install the same etcdpod on all nodes", "etcdpod is %s here, and %s on the node that coordinates", p.node.version, q.Version)
	}
	if !q.Reading && p.unlock == nil {
		unlock, err := p.node.lock(ctx)
		if err != nil {
			return helloAnswer{}, err
		}
		p.unlock = unlock
	}
	name, err := p.node.kubeName()
	return helloAnswer{Node: name}, err
}

// kubeName is the node's name as kubeadm gives it: to etcd as --name, else the host's.
func (n *Node) kubeName() (string, error) {
	if n.gather != nil {
		return n.name, nil
	}
	files, err := n.manifests(n.kubelet.StaticPodPath)
	if err != nil {
		return "", err
	}
	if pod, err := n.etcdPod(files); err == nil && pod != nil {
		return pod.Name, nil
	}
	if open, err := n.openRun(); err == nil && open.Node != "" { // it may have taken the manifests out
		return open.Node, nil
	}
	return n.name, nil
}

type surveyQuestion struct {
	Run      string
	Options  RestoreOptions
	Snapshot SnapshotFacts
	File     string // where the coordinator has the snapshot
}

// Survey is what the coordinator wants to know of a node before it decides anything.
type Survey struct {
	Node          string
	Member        *JointMember // nil: no etcd here
	ClientURLs    []string
	APIServer     bool
	Addresses     []string
	Live          *Live
	Stopped       *Stopped
	KnownRevision int64
	Clients       []string // addresses that are connected to etcd's client port
	Has           bool     // the snapshot is here, too, under the same name, and the same by its SHA-256
}

func (p *participant) survey(ctx context.Context, q surveyQuestion) (s Survey, err error) {
	if err := p.node.refuseOpen(); err != nil {
		return s, err
	}
	f, err := p.node.survey(ctx, q)
	if err != nil {
		return s, err
	}
	p.id, p.facts = q.Run, f
	s = Survey{Node: f.Node, APIServer: hasAPIServer(f), Addresses: f.Addresses, Live: f.Live, Stopped: f.Stopped, KnownRevision: f.KnownRevision}
	if f.Etcd != nil {
		s.Member = &JointMember{Name: f.Etcd.Name, PeerURLs: f.Etcd.PeerURLs}
		s.ClientURLs = f.Etcd.ClientURLs
		s.Clients = f.Clients
	}
	if q.File != "" {
		s.Has = p.node.has(q.File, q.Snapshot.SHA256, q.Snapshot.SizeBytes)
	}
	return s, nil
}

// clientsOf lists who is connected to etcd on this node; nobody, where that cannot be told.
func clientsOf(endpoint string) []string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil {
		return nil
	}
	connected, err := node.Connected(uint16(port))
	if err != nil {
		return nil
	}
	var clients []string
	for _, a := range connected {
		clients = append(clients, a.String())
	}
	return clients
}

// planWith plans the restore on this node, with what the coordinator has settled for all of them. Its checks refuse here what cannot end well here.
func (p *participant) planWith(ctx context.Context, o RestoreOptions) (Plan, error) {
	if p.facts == nil || o.Joint == nil {
		return Plan{}, errors.New("cannot plan: no survey was made")
	}
	p.facts.Snapshot = &o.Joint.Snapshot
	p.facts.notes[noteSnapshot] = o.snapshotPath(p.facts)
	if len(o.Joint.Left) > 0 {
		p.facts.notes[noteLeft] = strings.Join(o.Joint.Left, " ")
	}
	plan, err := Restore(o).plan(ctx, p.facts)
	plan.cluster = &o.Joint.Cluster
	p.plan = plan
	return plan, err
}

func (p *participant) begin() error {
	if p.plan.cluster == nil {
		return errors.New("cannot begin: nothing was planned")
	}
	if p.run != nil {
		return errors.New("cannot begin: the run has begun")
	}
	run, err := p.node.begin(p.id, p.plan)
	p.run = run
	return err
}

// partState is what a node's journal says of a run.
type partState struct {
	Begun     bool
	Committed bool
	Settled   bool
	Aborted   bool
	Closed    bool
	Needs     bool // the snapshot is to be sent, and is not there yet
}

// load takes up a run that was begun earlier.
func (p *participant) load(id string) (s partState, err error) {
	if p.run == nil || p.run.state.Run.ID != id {
		run, err := p.node.load(id)
		if errors.Is(err, fs.ErrNotExist) {
			return s, nil
		}
		if err != nil {
			return s, err
		}
		if run.state.Run.Cluster == nil {
			return s, fmt.Errorf("the run %s is of this node alone", id)
		}
		p.run = run
	}
	s = partOf(p.run.state)
	s.Needs = !s.Aborted && p.awaitsSnapshot()
	return s, nil
}

func partOf(s *journal.State) partState {
	return partState{Begun: true, Committed: s.Committed, Settled: s.Settled, Aborted: s.Aborted != "", Closed: s.Ended}
}

// leftOver is what there would still be to do on a node, either way.
type leftOver struct {
	State         partState
	Forward, Back Plan
}

// left reads the journal, and takes up nothing.
func (p *participant) left(id string) (l leftOver, err error) {
	state, err := journal.Read(p.node.host.FS, journal.RunDir(id))
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return l, err
	}
	ops, err := decode(state)
	if err != nil {
		return l, err
	}
	l = leftOver{State: partOf(state), Forward: remaining(state, ops, false), Back: remaining(state, ops, true)}
	return l, nil
}

// awaitsSnapshot says whether staging is still to be done, from a file that the coordinator sends.
func (p *participant) awaitsSnapshot() bool {
	for i, o := range p.run.ops {
		stage, ok := o.(*op.StageData)
		if ok && p.run.state.Steps[i].Progress != journal.Done {
			return stage.Staging.Snapshot == madeSnapshot(p.run.state.Run.ID) && !p.node.thereIs(stage.Staging.Snapshot)
		}
	}
	return false
}

// sent goes with a file: the snapshot, whole.
type sent struct {
	Proof op.Proof
	Made  bool // nobody knew its proof when the run was planned
}

// receive writes the snapshot into the run's folder. It gets its name when it is whole and durable, and its SHA-256 is right.
func (p *participant) receive(ctx context.Context, q sent, file io.Reader) error {
	file = io.LimitReader(file, q.Proof.SizeBytes) // what follows on the wire is the next question
	err := p.keep(ctx, q, file)
	if err != nil { // the rest of the file is on its way all the same
		_, drained := io.Copy(io.Discard, file)
		err = errors.Join(err, drained)
	}
	return err
}

func (p *participant) keep(ctx context.Context, q sent, file io.Reader) error {
	if p.run == nil {
		return errors.New("cannot receive a snapshot: no run was begun")
	}
	id := p.run.state.Run.ID
	progress := func(done, total int64) {
		e := p.run.event(-1, Progressed)
		e.Phase, e.Operation, e.Done, e.Total = "stage-data", "receive the snapshot", done, total
		p.node.emit(e)
	}
	if err := node.Receive(ctx, p.node.host.FS, madeSnapshot(id), file, q.Proof.SizeBytes, q.Proof.SHA256, progress); err != nil {
		return fmt.Errorf("cannot receive the snapshot: %w", err)
	}
	if !q.Made {
		return nil
	}
	proof, err := json.Marshal(q.Proof)
	if err != nil {
		return err
	}
	return node.WriteAtomic(p.node.host.FS, proofPath(id), proof, node.Mine(0o600))
}

// has says whether a file of that name is here, with that content.
func (n *Node) has(name, sum string, size int64) bool {
	st, err := n.host.FS.Lstat(name)
	if err != nil || !st.Mode.IsRegular() || st.Size != size || sum == "" {
		return false
	}
	f, err := n.host.FS.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return err == nil && hex.EncodeToString(h.Sum(nil)) == sum
}

type advanceQuestion struct {
	Phase string
	Skip  bool // leave out what only waits or looks
}

func (p *participant) advance(ctx context.Context, q advanceQuestion) error {
	p.run.skip = nil
	if q.Skip {
		p.run.skip = []string{q.Phase}
	}
	return p.run.advance(ctx, q.Phase)
}

// staged tells what was staged here; nil on a node without etcd.
func (p *participant) staged() (*op.Staged, error) {
	for _, o := range p.run.ops {
		if stage, ok := o.(*op.StageData); ok {
			var s op.Staged
			return &s, readJSONFile(p.node.host.FS, stage.Receipt, &s)
		}
	}
	return nil, nil
}

// hashAnswer is what the member on a node serves, as of a revision.
type hashAnswer struct {
	Member    bool // false: no etcd here
	ClusterID uint64
	Revision  int64 // the present one
	Hash      uint32
	Compacted int64
}

func (p *participant) hash(ctx context.Context, revision int64) (h hashAnswer, err error) {
	for _, o := range p.run.ops {
		compare, ok := o.(*op.CompareMembers)
		if !ok {
			continue
		}
		if err := p.run.stillHolds(ctx, p.run.state.Run.CommitAt-1); err != nil {
			return h, err
		}
		serving, err := p.node.etcd.Serving(ctx, compare.Access, 0)
		if err != nil {
			return h, err
		}
		h = hashAnswer{Member: true, ClusterID: serving.ClusterID, Revision: serving.Revision}
		if revision > 0 {
			h.Hash, h.Compacted, err = p.node.etcd.HashKV(ctx, compare.Access, revision)
		}
		return h, err
	}
	return h, nil
}

// commit: this node has done all that comes before the commit point, and will not go back by itself any more.
func (p *participant) commit() error {
	s := p.run.state
	if s.Aborted != "" {
		return errors.New("cannot commit: this node goes back")
	}
	for _, step := range s.Steps[:s.Run.CommitAt] {
		if step.Progress != journal.Done && !p.run.faults.commitEarly {
			return fmt.Errorf("cannot commit: %s is not done yet", step.Phase)
		}
	}
	return p.run.commit()
}

// settle: all nodes hold the commit record. One that does not hold it itself was told something false.
func (p *participant) settle() error {
	switch s := p.run.state; {
	case s.Aborted != "":
		return errors.New("cannot settle: this node goes back")
	case !s.Committed:
		return errors.New("cannot settle: this node does not hold the commit record")
	}
	return p.run.settle()
}

// close: all nodes are done, or have gone back; this one is, at least.
func (p *participant) close() error {
	for _, step := range p.run.state.Steps {
		forward := step.Progress == journal.Done && p.run.state.Aborted == ""
		back := p.run.state.Aborted != "" && (step.Progress == journal.Pending || step.Progress == journal.Reverted)
		if !forward && !back && !p.run.faults.closeEarly {
			return fmt.Errorf("cannot close the run: %s is neither done nor undone", step.Phase)
		}
	}
	return p.run.end()
}

type backQuestion struct {
	Cause   string
	Witness string // a node that is known to go back: without it a node that holds the commit record does not
	Fenced  bool   // stay fenced: an API server must not find etcds of the new data on nodes that have not gone back yet
}

func (p *participant) back(ctx context.Context, q backQuestion) error {
	switch s := p.run.state; {
	case s.Ended && s.Aborted != "":
		return nil
	case s.Forward() || s.Ended:
		return refusePastCommit(s)
	case s.Committed && s.Aborted == "" && q.Witness == "" && !p.run.faults.backUnwitnessed:
		return errors.New("cannot go back: this node holds the commit record, and no node is known to go back")
	}
	if q.Fenced {
		p.run.emit(p.run.event(-1, GoingBack))
	}
	return p.run.revert(context.WithoutCancel(ctx), errors.New(q.Cause), q.Fenced)
}
