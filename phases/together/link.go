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
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
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

// heartbeat is how often each side says that it is still there.
const heartbeat = 3 * time.Second

// silence is for how long a side may hear nothing before it treats the connection as cut.
func silence(beat time.Duration) time.Duration { return 7 * beat }

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

var errLongLine = fmt.Errorf("a line of more than %d MiB is not a message", maxLine>>20)

// CutError says that the connection to a node was lost: nobody knows what became of the question.
type CutError struct{ Cause error }

func (e *CutError) Error() string { return fmt.Sprintf("the connection was lost: %v", e.Cause) }

func (e *CutError) Unwrap() error { return e.Cause }

// wireError is an error in transit, with what exit codes and hints are derived from.
type wireError struct {
	// refused, usage, open, image, canceled; empty: any other
	Kind string             `json:"kind,omitempty"`
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
	case engine.IsNoImage(err):
		w.Kind = "image"
	case errors.Is(err, context.Canceled):
		w.Kind = "canceled"
	}
	return w
}

// canceledError is what ended there since the command was to end here. Its text need not say so: a
// connection that was being opened has words of its own for that.
type canceledError struct{ text string }

func (e *canceledError) Error() string { return e.text }

func (e *canceledError) Unwrap() error { return context.Canceled }

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
	case "image":
		return &op.NoImageError{Text: text, Fix: w.Hint}
	case "canceled":
		return engine.WithHint(&canceledError{text}, w.Hint)
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

// RemoteLink asks an agent over a connection.
type RemoteLink struct {
	name   string
	conn   io.ReadWriteCloser
	emit   func(engine.Event)
	write  sync.Mutex
	heard  chan message // every message except events
	cut    error        // why heard was closed
	silent atomic.Bool  // it was closed because nothing was heard
	beat   time.Duration
	closed chan struct{}
	once   sync.Once
}

// NewRemoteLink returns a link over a connection; beat is how often it says that it is still there,
// 0 for never.
func NewRemoteLink(name string, conn io.ReadWriteCloser, emit func(engine.Event), beat time.Duration) *RemoteLink {
	l := &RemoteLink{name: name, conn: conn, emit: emit, heard: make(chan message),
		beat: beat, closed: make(chan struct{})}
	watch := newWatch(beat, func() {
		l.silent.Store(true)
		_ = conn.Close()
	})
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
			l.cut = l.whyCut(err)
			return
		}
		watch.reset()
		var m message
		if err := json.Unmarshal(line, &m); err != nil {
			l.cut = &strangerError{string(line)}
			return
		}
		switch {
		case m.Event != nil:
			m.Event.Node, m.Event.Together = l.name, true
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

// whyCut adds to what the far end said last, if it said anything, that nothing more was heard.
func (l *RemoteLink) whyCut(err error) error {
	if !l.silent.Load() {
		return err
	}
	silent := &silentError{For: silence(l.beat)}
	var ended *node.EndedError
	if errors.As(err, &ended) {
		silent.Said = ended.Said
	}
	return silent
}

// silentError says that nothing was heard for too long.
type silentError struct {
	For  time.Duration
	Said string // by ssh, before that
}

func (e *silentError) Error() string {
	text := fmt.Sprintf("nothing was heard for %s", e.For)
	if e.Said != "" {
		text += ": " + e.Said
	}
	return text
}

// strangerError says that something else than an agent answered.
type strangerError struct{ said string }

func (e *strangerError) Error() string {
	return fmt.Sprintf("what answers is not an etcdpod agent: %.100q", e.said)
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
type watch struct {
	timer *time.Timer
	limit time.Duration
}

func newWatch(beat time.Duration, cut func()) *watch {
	if beat == 0 {
		return &watch{}
	}
	return &watch{time.AfterFunc(silence(beat), cut), silence(beat)}
}

func (w *watch) reset() {
	if w.timer != nil {
		w.timer.Reset(w.limit)
	}
}

func (w *watch) stop() {
	if w.timer != nil {
		w.timer.Stop()
	}
}
