package together

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// An agent whose disk hangs still says that it is there, for ever: what hangs is one system call.
// So each question has a limit. What is under way cannot be stopped: it keeps the node's lock until
// it ends, and the run is settled when the node can be asked again.

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
	if m.Ask != AskAdvance || p.Run == nil {
		return limit
	}
	q, err := Read[advanceQuestion](m.With)
	if err != nil {
		return limit
	}
	longest := time.Duration(0)
	for i, step := range p.Run.State.Steps {
		if step.Phase == q.Phase {
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

// lives notes that something goes on.
func (a *agent) lives() {
	select {
	case a.alive <- struct{}{}:
	default:
	}
}

// answer answers a question, or says that nothing comes of it.
func (a *agent) answer(ctx context.Context, part *Participant, m message, file io.Reader) {
	if a.hung.Load() {
		_ = a.send(message{Error: toWire(hangs(m.Ask, 0))})
		return
	}
	if a.beat == 0 && part.Node.Patience == 0 { // in tests nodes act one after another
		_ = a.send(a.reply(ctx, part, m, file))
		return
	}
	limit := part.patience(m)
	done := make(chan message, 1)
	go func() { done <- a.reply(ctx, part, m, file) }()
	silent := time.NewTimer(limit)
	defer silent.Stop()
	for {
		select {
		case reply := <-done:
			_ = a.send(reply)
			return
		case <-a.alive:
			silent.Reset(limit)
		case <-silent.C:
			a.hung.Store(true)
			_ = a.send(message{Error: toWire(hangs(m.Ask, limit))})
			return
		}
	}
}

func hangs(question string, limit time.Duration) error {
	what := "it is still at what it was asked before"
	if limit > 0 {
		what = fmt.Sprintf("nothing came of it in %s", limit)
	}
	return engine.WithHint(fmt.Errorf("cannot %s: %s; does a disk of that node hang?", question, what),
		"look at that node (`dmesg`); when it works again, or has booted, type `etcdpod resume` or `etcdpod rollback`")
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
