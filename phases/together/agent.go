package together

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
)

// Agent is the far end of a run on several nodes: it does on this node what the coordinator says,
// until the connection ends. It decides nothing itself: when it loses its coordinator, it leaves
// everything as it is.
func (n *Node) Agent(ctx context.Context, in io.Reader, out io.Writer) error {
	return n.AgentBeating(ctx, in, out, heartbeat)
}

func (n *Node) AgentBeating(ctx context.Context, in io.Reader, out io.Writer, beat time.Duration) (err error) {
	ctx, end := context.WithCancel(ctx)
	defer end()
	a := &agent{out: json.NewEncoder(out), in: bufio.NewReader(in), beat: beat, patient: newPatient()}
	// serve notices when the coordinator is gone.
	part := &Participant{Node: n.telling(func(e engine.Event) { _ = a.send(message{Event: &e}) })}
	defer func() {
		if !a.hung.Load() { // otherwise something still works on this node: only its end unlocks it
			err = errors.Join(err, part.leave())
		}
	}()
	go a.keepAlive(ctx)
	return a.serve(ctx, part)
}

type agent struct {
	mu   sync.Mutex
	out  *json.Encoder
	in   *bufio.Reader
	beat time.Duration
	*patient
}

func (a *agent) send(m message) error {
	if m.Event != nil {
		a.lives()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.out.Encode(m)
}

func (a *agent) keepAlive(ctx context.Context) {
	for a.beat > 0 {
		select {
		case <-ctx.Done():
			return
		case <-time.After(a.beat):
			_ = a.send(message{})
		}
	}
}

// serve reads lines and answers one question at a time. The end of the input, or silence, cancels
// the question in progress.
func (a *agent) serve(ctx context.Context, part *Participant) error {
	ctx, lost := context.WithCancelCause(ctx)
	var busy sync.WaitGroup
	defer busy.Wait()
	defer lost(io.EOF)
	watch := newWatch(a.beat, func() { lost(errors.New("the coordinator stopped answering")) })
	defer watch.stop()
	lines := a.lines(ctx, watch)
	cancel := make(chan struct{}, 1) // for the question being answered
	for {
		var m message
		select {
		case <-ctx.Done():
			return nil
		case next, ok := <-lines:
			switch {
			case !ok:
				return nil
			case next.wrong != nil:
				_ = a.send(message{Error: toWire(next.wrong)})
				return next.wrong
			}
			m = next.message
		}
		if m.Cancel {
			select {
			case cancel <- struct{}{}:
			default:
			}
			continue
		}
		busy.Wait()
		select { // drop a cancel that came too late
		case <-cancel:
		default:
		}
		if m.Body { // the file follows on the wire
			a.answer(ctx, part, m, io.LimitReader(watched{a.in, watch}, m.Size))
			if a.hung.Load() { // it may still read the file
				return nil
			}
			lines = a.lines(ctx, watch)
			continue
		}
		busy.Go(func() { a.answerUnless(ctx, cancel, part, m) })
	}
}

// answerUnless answers a question, and gives up when it is cancelled.
func (a *agent) answerUnless(ctx context.Context, cancel <-chan struct{}, part *Participant, m message) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		select {
		case <-cancel:
			stop()
		case <-ctx.Done():
		}
	}()
	a.answer(ctx, part, m, nil)
}

// line is a message, or the reason why the line is not one.
type line struct {
	message
	wrong error
}

// lines reads messages until one that a file follows, or one that it cannot understand.
func (a *agent) lines(ctx context.Context, watch *watch) <-chan line {
	lines := make(chan line)
	go func() {
		defer close(lines)
		for {
			text, err := readLine(a.in)
			if err != nil && !errors.Is(err, errLongLine) {
				return
			}
			watch.reset()
			var l line
			if err == nil {
				err = json.Unmarshal(text, &l.message)
			}
			if err != nil {
				l = line{wrong: fmt.Errorf("cannot understand the coordinator: %w", err)}
			}
			if l.wrong == nil && l.Ask == "" && !l.Cancel {
				continue
			}
			select {
			case lines <- l:
			case <-ctx.Done():
				return
			}
			if l.wrong != nil || l.Body {
				return
			}
		}
	}()
	return lines
}

func (a *agent) reply(ctx context.Context, part *Participant, m message, file io.Reader) message {
	var out any
	err := engine.Guarded(func() (err error) {
		out, err = part.Answer(ctx, m.Ask, m.With, file)
		return err
	})
	if file != nil { // the part that the answer did not read still follows on the wire
		_, drained := io.Copy(io.Discard, file)
		err = errors.Join(err, drained)
	}
	reply := message{Error: toWire(err)}
	if err == nil {
		if reply.Answer, err = json.Marshal(out); err != nil {
			reply = message{Error: toWire(err)}
		}
	}
	return reply
}
