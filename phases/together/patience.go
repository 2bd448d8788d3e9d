package together

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// An agent whose disk hangs still says that it is there, for ever, and the coordinator would wait
// for a disk of its own just as long: what hangs is one system call. So each question has a limit.
// What is under way cannot be stopped: it keeps the node's lock until it ends, and the run is
// settled when the node can be asked again.

// patience is how long a question may go without an event; what waits for a program by itself may
// take its own limit in addition.
const patience = 5 * time.Minute

func (p *Participant) patience(m message) time.Duration {
	limit := patience
	if p.Node.Patience > 0 {
		limit = p.Node.Patience
	}
	if m.Ask == AskClose && p.Run != nil {
		return limit + p.untilReturned()
	}
	if m.Ask != AskAdvance && m.Ask != AskBack || p.Run == nil {
		return limit
	}
	q, err := Read[advanceQuestion](m.With)
	if err != nil {
		return limit
	}
	longest := time.Duration(0)
	for i, step := range p.Run.State.Steps {
		if m.Ask == AskBack || step.Phase == q.Phase {
			longest = max(longest, op.Within(p.Run.Ops[i]))
		}
	}
	return limit + longest
}

// untilReturned is how long a node that has gone back may wait for what served before: it may take
// its limit, and so may the end of what did not run before.
func (p *Participant) untilReturned() (sum time.Duration) {
	if p.Run.State.Aborted == "" {
		return 0
	}
	for _, o := range p.Run.Ops {
		if _, waits := o.(op.Returner); waits {
			sum += 2 * op.Within(o)
		}
	}
	return sum
}

// patient gives up a question of which nothing comes.
type patient struct {
	alive chan struct{} // something goes on
	hung  atomic.Bool   // a question was given up that is still being answered
}

func newPatient() *patient { return &patient{alive: make(chan struct{}, 1)} }

// lives notes that something goes on.
func (p *patient) lives() {
	select {
	case p.alive <- struct{}{}:
	default:
	}
}

// patiently returns an answer, or that nothing comes of the question.
func patiently[T any](p *patient, question string, limit time.Duration, answer func() T) (none T, err error) {
	if p.hung.Load() {
		return none, hangs(question, 0)
	}
	done := make(chan T, 1)
	go func() { done <- answer() }()
	silent := time.NewTimer(limit)
	defer silent.Stop()
	for {
		select {
		case answered := <-done:
			return answered, nil
		case <-p.alive:
			silent.Reset(limit)
		case <-silent.C:
			p.hung.Store(true)
			return none, hangs(question, limit)
		}
	}
}

// answer answers a question, or says that nothing comes of it.
func (a *agent) answer(ctx context.Context, part *Participant, m message, file io.Reader) {
	if a.beat == 0 && part.Node.Patience == 0 { // in tests nodes act one after another
		_ = a.send(a.reply(ctx, part, m, file))
		return
	}
	reply, err := patiently(a.patient, m.Ask, part.patience(m), func() message { return a.reply(ctx, part, m, file) })
	if err != nil {
		reply = message{Error: toWire(err)}
	}
	_ = a.send(reply)
}

func hangs(question string, limit time.Duration) error {
	what := "it is still busy with the previous request"
	if limit > 0 {
		what = fmt.Sprintf("no progress in %s", limit)
	}
	return engine.WithHint(fmt.Errorf("cannot %s: %s; is a disk of that node hanging?", question, what),
		"check that node (`dmesg`); once it works again or has rebooted, run `etcdpod resume` or `etcdpod rollback`")
}

// watched is a file in transit: each byte of it shows that the coordinator is still there.
type watched struct {
	io.Reader
	watch *watch
}

func (w watched) Read(b []byte) (int, error) {
	w.watch.reset()
	return w.Reader.Read(b)
}
