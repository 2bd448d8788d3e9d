package together

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
)

// The coordinator and an agent exchange lines of JSON, one message per line. A question is answered
// by any number of events and then by one answer; the next question comes only after the answer. A
// file follows its question as raw bytes. Each side says every few seconds that it is still there:
// cutting the network does not by itself end a connection.

// message is one line. A line with nothing in it only says that its sender is still there; else it
// is a question, a cancel, an event, an answer or an error.
type message struct {
	// From the coordinator: the name of a question.
	Ask string `json:"ask,omitempty"`
	// The question's payload.
	With json.RawMessage `json:"with,omitempty"`
	// From the coordinator: a file of that many bytes follows the line.
	Body bool  `json:"body,omitempty"`
	Size int64 `json:"size,omitempty"`
	// From the coordinator: give up what you are doing; the answer still comes.
	Cancel bool            `json:"cancel,omitempty"`
	Event  *engine.Event   `json:"event,omitempty"`
	Answer json.RawMessage `json:"answer,omitempty"`
	Error  *wireError      `json:"error,omitempty"`
}

// A side that has heard nothing for silence treats the connection as cut.
const (
	heartbeat = 3 * time.Second
	silence   = 20 * time.Second
)

// maxLine is the longest line, in bytes, that either side accepts: many times what a survey of the
// largest cluster needs, and small enough to keep in memory.
const maxLine = 16 << 20

// readLine reads a line, including its newline. The limit keeps a peer that never ends its line
// from filling this node's memory.
func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		if len(line)+len(part) > maxLine {
			return nil, errLongLine
		}
		line = append(line, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

var errLongLine = fmt.Errorf("a line of more than %d MiB is no message", maxLine>>20)

// CutError says that the connection to a node was lost: nobody knows what became of the question.
type CutError struct{ Cause error }

func (e *CutError) Error() string { return fmt.Sprintf("the connection was lost: %v", e.Cause) }

func (e *CutError) Unwrap() error { return e.Cause }

// wireError is an error in transit, with what exit codes and hints are derived from.
type wireError struct {
	Kind string             `json:"kind,omitempty"` // refused, usage, busy, open; empty: any other
	Text string             `json:"text"`
	Hint string             `json:"hint,omitempty"`
	Run  *engine.RunSummary `json:"run,omitempty"` // open
}

func toWire(err error) *wireError {
	if err == nil {
		return nil
	}
	w := &wireError{Text: err.Error(), Hint: engine.Hint(err)}
	var (
		refused *engine.RefusedError
		usage   *engine.UsageError
		open    *engine.OpenRunError
	)
	switch {
	case errors.As(err, &open):
		w.Kind, w.Run = "open", &open.Run
	case errors.As(err, &refused), engine.IsBusy(err):
		w.Kind = "refused"
	case errors.As(err, &usage):
		w.Kind = "usage"
	}
	return w
}

// at turns it back into an error, and says on which node it occurred.
func (w *wireError) at(node string) error {
	text := node + ": " + w.Text
	switch w.Kind {
	case "open":
		if w.Run != nil {
			return &engine.OpenRunError{Run: *w.Run, Cause: errors.New("on " + node)}
		}
	case "refused":
		return &engine.RefusedError{Reason: text, Hint: w.Hint}
	case "usage":
		return &engine.UsageError{Reason: text, Hint: w.Hint}
	}
	return engine.WithHint(errors.New(text), w.Hint)
}

// link asks one node. Questions are asked one at a time.
type link interface {
	Ask(ctx context.Context, question string, with, answer any, body *Body) error
	Close() error
}

// Body is a file that goes with a question.
type Body struct {
	From io.Reader
	Size int64
}

// localLink asks the node that this process runs on.
type localLink struct{ part *Participant }

func (l localLink) Ask(ctx context.Context, question string, with, answer any, _ *Body) error {
	in, err := json.Marshal(with)
	if err != nil {
		return err
	}
	out, err := l.part.Answer(ctx, question, in, nil)
	if err != nil {
		return err
	}
	if answer == nil {
		return nil
	}
	data, err := json.Marshal(out)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, answer)
}

func (l localLink) Close() error { return l.part.leave() }

// RemoteLink asks an agent over a connection.
type RemoteLink struct {
	name   string
	conn   io.ReadWriteCloser
	emit   func(engine.Event)
	write  sync.Mutex
	heard  chan message // every message except events
	cut    error        // why heard was closed
	beat   time.Duration
	closed chan struct{}
	once   sync.Once
}

// NewRemoteLink returns a link over a connection; beat is how often it says that it is still there,
// 0 for never.
func NewRemoteLink(name string, conn io.ReadWriteCloser, emit func(engine.Event), beat time.Duration) *RemoteLink {
	l := &RemoteLink{name: name, conn: conn, emit: emit, heard: make(chan message),
		beat: beat, closed: make(chan struct{})}
	watch := newWatch(beat, func() { _ = conn.Close() })
	go l.listen(watch)
	go l.keepAlive()
	return l
}

func (l *RemoteLink) listen(watch *watch) {
	defer close(l.heard)
	defer watch.stop()
	in := bufio.NewReader(l.conn)
	for {
		line, err := readLine(in)
		if err != nil {
			l.cut = err
			return
		}
		watch.reset()
		var m message
		if err := json.Unmarshal(line, &m); err != nil {
			l.cut = fmt.Errorf("%s sent what is no message of an etcdpod agent: %.100q", l.name, line)
			return
		}
		switch {
		case m.Event != nil:
			m.Event.Node = l.name
			l.emit(*m.Event)
		case m.Answer != nil || m.Error != nil:
			select {
			case l.heard <- m:
			case <-l.closed:
				return
			}
		}
	}
}

func (l *RemoteLink) keepAlive() {
	if l.beat == 0 {
		return
	}
	for {
		select {
		case <-l.closed:
			return
		case <-time.After(l.beat):
			_ = l.send(message{}) // listen notices when the connection is cut
		}
	}
}

func (l *RemoteLink) send(m message) error {
	l.write.Lock()
	defer l.write.Unlock()
	return json.NewEncoder(l.conn).Encode(m)
}

func (l *RemoteLink) Ask(ctx context.Context, question string, with, answer any, b *Body) error {
	in, err := json.Marshal(with)
	if err != nil {
		return err
	}
	asked := message{Ask: question, With: in}
	if b != nil {
		asked.Body, asked.Size = true, b.Size
	}
	if err := l.sendWith(asked, b); err != nil {
		return l.lost(l.why(err))
	}
	done := ctx.Done()
	for {
		select {
		case <-done: // the agent still answers, and only then takes the next question
			if err := l.send(message{Cancel: true}); err != nil {
				return l.lost(err)
			}
			done = nil
		case m, ok := <-l.heard:
			switch {
			case !ok:
				return l.lost(l.cut)
			case m.Error != nil:
				return m.Error.at(l.name)
			case answer == nil:
				return nil
			}
			return json.Unmarshal(m.Answer, answer)
		}
	}
}

// why prefers the reason that the far end gave when it ended, such as that it cannot be reached, to
// the error that nothing reads what is sent any more.
func (l *RemoteLink) why(sending error) error {
	select {
	case _, ok := <-l.heard:
		if !ok {
			return l.cut
		}
	case <-time.After(heartbeat):
	}
	return sending
}

func (l *RemoteLink) sendWith(m message, b *Body) error {
	l.write.Lock()
	defer l.write.Unlock()
	if err := json.NewEncoder(l.conn).Encode(m); err != nil || b == nil {
		return err
	}
	_, err := io.CopyN(l.conn, b.From, b.Size)
	return err
}

func (l *RemoteLink) lost(err error) error {
	_ = l.Close()
	return fmt.Errorf("%s: %w", l.name, &CutError{err})
}

func (l *RemoteLink) Close() error {
	var err error
	l.once.Do(func() {
		close(l.closed)
		err = l.conn.Close()
	})
	return err
}

// watch calls cut when nothing has been heard for silence.
type watch struct{ timer *time.Timer }

func newWatch(beat time.Duration, cut func()) *watch {
	if beat == 0 {
		return &watch{}
	}
	return &watch{time.AfterFunc(silence, cut)}
}

func (w *watch) reset() {
	if w.timer != nil {
		w.timer.Reset(silence)
	}
}

func (w *watch) stop() {
	if w.timer != nil {
		w.timer.Stop()
	}
}

// Agent is the far end of a run on several nodes: it does on this node what the coordinator says,
// until the connection ends. It decides nothing itself: when it loses its coordinator, it leaves
// everything as it is.
func (n *Node) Agent(ctx context.Context, in io.Reader, out io.Writer) error {
	return n.AgentBeating(ctx, in, out, heartbeat)
}

func (n *Node) AgentBeating(ctx context.Context, in io.Reader, out io.Writer, beat time.Duration) (err error) {
	ctx, end := context.WithCancel(ctx)
	defer end()
	a := &agent{out: json.NewEncoder(out), in: bufio.NewReader(in), beat: beat, alive: make(chan struct{}, 1)}
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

	alive chan struct{} // an event was sent
	hung  atomic.Bool   // a question was given up that is still being answered
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
	watch := newWatch(a.beat, func() { lost(errors.New("nothing was heard of the coordinator")) })
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
