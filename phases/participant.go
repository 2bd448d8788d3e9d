package phases

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
)

// participant is this node's part in a run on several nodes: it does what the coordinator asks, one question at a time, under this node's lock.
// Whatever a coordinator says, it keeps the rules on which the transaction stands:
//   - It holds the node's lock from the first question to its end; so what it says of its journal stays true until then.
//   - It does nothing behind the commit point before it was told that all nodes hold the commit record, and has recorded that.
//   - It goes back when it does not hold the commit record, or when it was told which node is known to go back; never once it has recorded that all hold it.
//   - It does not close its part: that is said to it when all are done.
type participant struct {
	node    *togetherNode
	unlock  func() error
	answers map[string]Reply // what it can be asked besides
	plan    Plan
	id      string
	run     *run // nil until begun
}

// The questions of the protocol.
const (
	askHello   = "hello"
	askBegin   = "begin"
	askLoad    = "load"
	askAdvance = "advance"
	askCommit  = "commit"
	askSettle  = "settle"
	askBack    = "back"
	askClose   = "close"
	askLeft    = "left"
)

// answerTo finds who answers a question.
func (p *participant) answerTo(question string) (Reply, error) {
	if a, ok := p.answers[question]; ok {
		return a, nil
	}
	nothing := func(f func() error) Reply {
		return func(context.Context, json.RawMessage, io.Reader) (any, error) { return done(f()) }
	}
	switch question {
	case askHello:
		return given(func(ctx context.Context, q helloQuestion) (any, error) { return p.hello(ctx, q) }), nil
	case askLoad:
		return given(func(_ context.Context, id string) (any, error) { return p.load(id) }), nil
	case askLeft:
		return given(func(_ context.Context, id string) (any, error) { return p.left(id) }), nil
	case askBegin:
		return nothing(p.begin), nil
	}
	if p.run == nil {
		return nil, fmt.Errorf("cannot %s: no run was begun or loaded", question)
	}
	switch question {
	case askAdvance:
		return given(func(ctx context.Context, q advanceQuestion) (any, error) { return done(p.advance(ctx, q)) }), nil
	case askCommit:
		return nothing(p.commit), nil
	case askSettle:
		return nothing(p.settle), nil
	case askBack:
		return given(func(ctx context.Context, q backQuestion) (any, error) { return done(p.back(ctx, q)) }), nil
	case askClose:
		return nothing(p.close), nil
	}
	return nil, fmt.Errorf("cannot %s: this etcdpod does not know how", question)
}

func (p *participant) answer(ctx context.Context, question string, with json.RawMessage, file io.Reader) (any, error) {
	a, err := p.answerTo(question)
	if err != nil {
		return nil, err
	}
	return a(ctx, with, file)
}

// read reads what goes with a question.
func read[T any](with json.RawMessage) (q T, err error) {
	if err := json.Unmarshal(with, &q); err != nil {
		return q, fmt.Errorf("cannot understand the coordinator: %w", err)
	}
	return q, nil
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
const protocol = 2

type helloQuestion struct {
	Protocol int
	Version  string
	Workflow string // what is going to be done; empty: nothing but looking
	Reading  bool   // nothing will be changed: no lock is needed
}

type helloAnswer struct{ Node string }

func (p *participant) hello(ctx context.Context, q helloQuestion) (helloAnswer, error) {
	if q.Protocol != protocol || q.Version != p.node.Version {
		return helloAnswer{}, refuse("install the same etcdpod on all nodes", "etcdpod is %s here, and %s on the node that coordinates", p.node.Version, q.Version)
	}
	if err := p.serve(q.Workflow); err != nil {
		return helloAnswer{}, err
	}
	if !q.Reading && p.unlock == nil {
		unlock, err := p.node.lock(ctx)
		if err != nil {
			return helloAnswer{}, err
		}
		p.unlock = unlock
	}
	name, err := p.node.OwnName()
	return helloAnswer{Node: name}, err
}

// serve makes the participant answer what a workflow asks.
func (p *participant) serve(workflow string) error {
	if workflow == "" {
		p.answers = p.node.Looks
		return nil
	}
	joint, err := p.node.joint(workflow)
	if err == nil && joint.Answers != nil {
		p.answers = joint.Answers(p)
	}
	return err
}

// propose is this node's part as its workflow has planned it: begin makes it a run.
func (p *participant) propose(id string, plan Plan) { p.id, p.plan = id, plan }

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
	return partOf(p.run.state), nil
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
	state, err := journal.Read(p.node.Host.FS, journal.RunDir(id))
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

// commit: this node has done all that comes before the commit point, and will not go back by itself any more.
func (p *participant) commit() error {
	s := p.run.state
	if s.Aborted != "" {
		return errors.New("cannot commit: this node goes back")
	}
	for _, step := range s.Steps[:s.Run.CommitAt] {
		if step.Progress != journal.Done && !p.node.mistakes.CommitEarly {
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
		if !forward && !back && !p.node.mistakes.CloseEarly {
			return fmt.Errorf("cannot close the run: %s is neither done nor undone", step.Phase)
		}
	}
	return p.run.end()
}

type backQuestion struct {
	Cause   string
	Witness string   // a node that is known to go back: without it a node that holds the commit record does not
	Stay    []string // the phases that stay done for now; nil: all is undone
}

func (p *participant) back(ctx context.Context, q backQuestion) error {
	switch s := p.run.state; {
	case s.Ended && s.Aborted != "":
		return nil
	case s.Forward() || s.Ended:
		return p.node.refusePastCommit(s)
	case s.Committed && s.Aborted == "" && q.Witness == "" && !p.node.mistakes.BackUnwitnessed:
		return errors.New("cannot go back: this node holds the commit record, and no node is known to go back")
	}
	if len(q.Stay) > 0 {
		p.run.emit(p.run.event(-1, GoingBack))
	}
	return p.run.revert(context.WithoutCancel(ctx), errors.New(q.Cause), q.Stay)
}
