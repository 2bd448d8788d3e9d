package together

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
)

// Participant is this node's part in a run on several nodes: it does what the coordinator asks, one
// question at a time, under this node's lock. Whatever the coordinator says, it keeps the rules
// that the transaction depends on:
//   - It holds the node's lock from the first question until the link is closed, so what it says
//     about its journal stays true until then.
//   - It does nothing past the commit point until it has been told that all nodes hold the commit
//     record, and has recorded that.
//   - It rolls back if it does not hold the commit record, or if it is told of a node that is known
//     to roll back; never once it has recorded that all nodes hold the commit record.
//   - It does not close its part until the coordinator says that all nodes are done or rolled back.
type Participant struct {
	Node    *Node
	unlock  func() error
	answers map[string]Reply // what it can be asked in addition to the protocol's questions
	plan    engine.Plan
	Id      string
	Run     *engine.Run // nil until begun

	saidBack bool // that it is being undone
}

// The questions of the protocol.
const (
	AskHello   = "hello"
	AskBegin   = "begin"
	askLoad    = "load"
	AskAdvance = "advance"
	AskCommit  = "commit"
	AskSettle  = "settle"
	AskBack    = "back"
	AskClose   = "close"
	askLeft    = "left"
	// Prove that nothing runs but what the run has let run.
	askHold = "hold"
	// Would going back give up what clients were promised?
	askPromised = "promised"
)

// answerTo finds the reply to a question.
func (p *Participant) answerTo(question string) (Reply, error) {
	if a, ok := p.answers[question]; ok {
		return a, nil
	}
	nothing := func(f func() error) Reply {
		return func(context.Context, json.RawMessage, io.Reader) (any, error) { return Done(f()) }
	}
	switch question {
	case AskHello:
		return Given(func(ctx context.Context, q HelloQuestion) (any, error) { return p.hello(ctx, q) }), nil
	case askLoad:
		return Given(func(_ context.Context, id string) (any, error) { return p.Load(id) }), nil
	case askLeft:
		return Given(func(_ context.Context, id string) (any, error) { return p.left(id) }), nil
	case AskBegin:
		return nothing(p.begin), nil
	}
	if p.Run == nil {
		return nil, fmt.Errorf("cannot %s: no run was begun or loaded", question)
	}
	switch question {
	case AskAdvance:
		return Given(func(ctx context.Context, q advanceQuestion) (any, error) { return Done(p.advance(ctx, q)) }), nil
	case AskCommit:
		return nothing(p.commit), nil
	case AskSettle:
		return nothing(p.settle), nil
	case AskBack:
		return Given(func(ctx context.Context, q backQuestion) (any, error) { return Done(p.back(ctx, q)) }), nil
	case AskClose:
		return Given(func(ctx context.Context, _ any) (any, error) { return p.close(ctx) }), nil
	case askHold:
		return Given(func(ctx context.Context, _ any) (any, error) { return Done(p.Run.Hold(ctx)) }), nil
	case askPromised:
		return Given(func(ctx context.Context, _ any) (any, error) { return p.Run.Promised(ctx), nil }), nil
	}
	return nil, fmt.Errorf("cannot %s: this etcdpod does not know how", question)
}

func (p *Participant) Answer(ctx context.Context, question string, with json.RawMessage, file io.Reader) (any, error) {
	a, err := p.answerTo(question)
	if err != nil {
		return nil, err
	}
	return a(ctx, with, file)
}

// Read decodes a question's payload.
func Read[T any](with json.RawMessage) (q T, err error) {
	if err := json.Unmarshal(with, &q); err != nil {
		return q, fmt.Errorf("cannot understand the coordinator: %w", err)
	}
	return q, nil
}

// Done is the answer to a question that asks for nothing but to be carried out.
func Done(err error) (any, error) { return struct{}{}, err }

func (p *Participant) leave() error {
	if p.unlock == nil {
		return nil
	}
	unlock := p.unlock
	p.unlock = nil
	return unlock()
}

// Protocol is the version of the protocol between coordinators and agents. It changes when the
// meaning of any message does; different versions of etcdpod are refused anyway.
const Protocol = 5

// HelloQuestion is the first question: whether both ends are the same etcdpod,
// and what is to be done.
type HelloQuestion struct {
	Protocol int
	Version  string
	Command  []string // as it was typed on the node that coordinates
	Workflow string   // the joint workflow to carry out; empty: only look
	Reading  bool     // nothing will be changed, so no lock is needed
	Run      string   // the run that is taken up; empty: one is to begin
}

// HelloAnswer names the node, as kubeadm gave its name.
type HelloAnswer struct{ Node string }

func (p *Participant) hello(ctx context.Context, q HelloQuestion) (HelloAnswer, error) {
	if q.Protocol != Protocol || q.Version != p.Node.Version {
		return HelloAnswer{}, engine.Refuse("install the same etcdpod on all nodes",
			"etcdpod is %s here, but %s on the coordinator", p.Node.Version, q.Version)
	}
	if err := p.serve(q.Workflow); err != nil {
		return HelloAnswer{}, err
	}
	if !q.Reading && p.unlock == nil {
		if err := p.lock(ctx, q.Run); err != nil {
			return HelloAnswer{}, err
		}
	}
	if len(q.Command) > 0 { // people look for what was typed, and nobody typed `etcdpod agent`
		p.Node.Command = q.Command
	}
	name, err := p.Node.OwnName()
	return HelloAnswer{Node: name}, err
}

// lock keeps every other command away from the node. A machine that is no control plane, because
// it was installed anew since a run began, has no record of it: that is an answer, and there is
// nothing to lock.
func (p *Participant) lock(ctx context.Context, takenUp string) error {
	elsewhere := p.Node.OnControlPlane(ctx)
	switch {
	case elsewhere != nil && takenUp == "":
		return elsewhere
	case elsewhere != nil:
		p.unlock = func() error { return nil }
		return nil
	}
	unlock, err := p.Node.Lock(ctx)
	if err == nil {
		p.unlock = unlock
	}
	return err
}

// serve lets the participant answer a workflow's questions.
func (p *Participant) serve(workflow string) error {
	if workflow == "" {
		p.answers = p.Node.Looks
		return nil
	}
	joint, err := p.Node.joint(workflow)
	if err == nil && joint.Answers != nil {
		p.answers = joint.Answers(p)
	}
	return err
}

// Propose stores this node's part as its workflow planned it; begin makes it a run.
func (p *Participant) Propose(id string, plan engine.Plan) { p.Id, p.plan = id, plan }

// Joined makes what the workflow planned for this node one part of a run on several nodes, and
// stores it.
func (p *Participant) Joined(plan engine.Plan, of *journal.Cluster) engine.Plan {
	p.Node.Weigh(&plan)
	plan = plan.Together(of)
	p.Propose(p.Id, plan)
	return plan
}

func (p *Participant) begin() error {
	if !p.plan.OnSeveral() {
		return errors.New("cannot begin: nothing was planned")
	}
	if p.Run != nil {
		return errors.New("cannot begin: the run has already begun")
	}
	run, err := p.Node.Begin(p.Id, p.plan)
	p.Run = run
	return err
}

// partState is what a node's journal says about a run.
type partState struct {
	Begun     bool
	Committed bool
	Settled   bool
	Aborted   bool
	Closed    bool
}

// Load opens a run that was begun earlier.
func (p *Participant) Load(id string) (s partState, err error) {
	if p.Run == nil || p.Run.State.Run.ID != id {
		run, err := p.Node.Load(id)
		if errors.Is(err, fs.ErrNotExist) {
			return s, nil
		}
		if err != nil {
			return s, err
		}
		if run.State.Run.Cluster == nil {
			return s, fmt.Errorf("run %s is of this node only", id)
		}
		p.Run = run
	}
	return partOf(p.Run.State), nil
}

func partOf(s *journal.State) partState {
	return partState{Begun: true, Committed: s.Committed, Settled: s.Settled, Aborted: s.Aborted != "", Closed: s.Ended}
}

// leftOver is what is still to do on a node, forward and back.
type leftOver struct {
	State         partState
	Forward, Back engine.Plan
}

// left reads the journal, and does not load the run.
func (p *Participant) left(id string) (l leftOver, err error) {
	state, err := journal.Read(p.Node.Host.FS, journal.RunDir(id))
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return l, err
	}
	ops, err := engine.Decode(state)
	if err != nil {
		return l, err
	}
	l = leftOver{State: partOf(state), Forward: engine.Remaining(state, ops, false),
		Back: engine.Remaining(state, ops, true)}
	return l, nil
}

type advanceQuestion struct {
	Phase string
	Skip  bool // skip the operations that only wait or look
	Lost  []string
}

func (p *Participant) advance(ctx context.Context, q advanceQuestion) error {
	p.Run.Skip, p.Run.Target.Lost = nil, q.Lost
	if q.Skip {
		p.Run.Skip = []string{q.Phase}
	}
	return p.Run.Advance(ctx, q.Phase)
}

// commit records that this node has done everything before the commit point, and will no longer
// roll back by itself.
func (p *Participant) commit() error {
	s := p.Run.State
	if s.Aborted != "" {
		return errors.New("cannot commit: this node is undoing the run")
	}
	for _, step := range s.Steps[:s.Run.CommitAt] {
		if step.Progress != journal.Done && !p.Node.Mistakes.CommitEarly {
			return fmt.Errorf("cannot commit: %s is not done yet", step.Phase)
		}
	}
	return p.Run.Commit()
}

// settle records that all nodes hold the commit record. A node that does not hold it itself was
// told something false.
func (p *Participant) settle() error {
	switch s := p.Run.State; {
	case s.Aborted != "":
		return errors.New("cannot settle: this node is undoing the run")
	case !s.Committed:
		return errors.New("cannot settle: this node does not hold the commit record")
	}
	return p.Run.Settle()
}

// close closes this node's part. The coordinator says that all nodes are done or rolled back; this
// node checks itself.
func (p *Participant) close(ctx context.Context) (closed, error) {
	for _, step := range p.Run.State.Steps {
		forward := step.Progress == journal.Done && p.Run.State.Aborted == ""
		back := p.Run.State.Aborted != "" && (step.Progress == journal.Pending || step.Progress == journal.Reverted)
		if !forward && !back && !p.Node.Mistakes.CloseEarly {
			return closed{}, fmt.Errorf("cannot close the run: %s is neither done nor undone", step.Phase)
		}
	}
	if p.Run.State.Aborted == "" {
		if err := p.Run.Lasts(ctx); err != nil {
			return closed{}, err
		}
		err := p.Run.End()
		return closed{Away: engine.RunOf(p.Node.Host.FS, p.Run.State.Run.ID).APIAwaySeconds}, err
	}
	lacks := p.Run.Returned(context.WithoutCancel(ctx))
	return closedWith(lacks), p.Run.EndLacking(lacks)
}

// closed is the answer to close: what does not serve on a node that went back, and what to do; of
// one that did not, for how many seconds its API server was away.
type closed struct {
	Lacks, Fix string
	Away       float64
}

func closedWith(lacks error) closed {
	if lacks == nil {
		return closed{}
	}
	return closed{Lacks: lacks.Error(), Fix: (&engine.NotServingError{Lacks: lacks}).Hint()}
}

// on turns it back into an error.
func (c closed) on(node string) error {
	if c.Lacks == "" {
		return nil
	}
	return engine.WithHint(fmt.Errorf("on %s, %s", node, c.Lacks), c.Fix)
}

type backQuestion struct {
	Cause string
	// Witness is a node known to roll back: without one, a node that holds the commit record does
	// not.
	Witness string
	// Stay are the phases that stay done for now; nil: undo all.
	Stay []string
	// GiveUp: a person has agreed to give up what clients have written to the new data.
	GiveUp bool
}

func (p *Participant) back(ctx context.Context, q backQuestion) error {
	switch s := p.Run.State; {
	case s.Ended && s.Aborted != "":
		return nil
	case s.Forward() || s.Ended:
		return p.Node.RefusePastCommit(s)
	case s.Committed && s.Aborted == "" && q.Witness == "" && !p.Node.Mistakes.BackUnwitnessed:
		return errors.New("cannot undo: this node holds the commit record, and no node is known to be undoing the run")
	}
	p.Run.Target.GiveUp = q.GiveUp
	if !p.saidBack { // it is undone in two steps where some phases are undone last
		p.saidBack = true
		p.Run.Emit(p.Run.Event(-1, engine.GoingBack))
	}
	return p.Run.Revert(context.WithoutCancel(ctx), errors.New(q.Cause), q.Stay)
}
