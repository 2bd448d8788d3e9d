package together

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// answering is a link whose far end the test plays.
func answering(t *testing.T, far func(conn net.Conn, in *bufio.Reader)) *RemoteLink {
	t.Helper()
	here, there := net.Pipe()
	go func() {
		far(there, bufio.NewReader(there))
		_ = there.Close()
	}()
	l := NewRemoteLink("cp2", here, func(engine.Event) {}, 0)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func TestWhatIsNoAgentIsACutConnection(t *testing.T) {
	for name, says := range map[string]string{
		"garbage":         "Permission denied (publickey).\n",
		"half a message":  `{"answer":{}`,
		"nothing":         "",
		"another program": "<html>\n",
	} {
		t.Run(name, func(t *testing.T) {
			l := answering(t, func(conn net.Conn, in *bufio.Reader) {
				_, _ = in.ReadString('\n')
				_, _ = io.WriteString(conn, says)
			})
			err := l.Ask(t.Context(), AskHello, nil, nil, nil)
			var cut *CutError
			if !errors.As(err, &cut) || !strings.Contains(err.Error(), "cp2") {
				t.Errorf("it says %v", err)
			}
		})
	}
}

// endless is a far end that begins a line and never ends it.
type endless struct{ sent int64 }

func (e *endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	e.sent += int64(len(b))
	return len(b), nil
}

func TestALineThatNeverEndsIsNotKept(t *testing.T) {
	l := answering(t, func(conn net.Conn, in *bufio.Reader) {
		_, _ = in.ReadString('\n')
		_, _ = io.Copy(conn, io.MultiReader(strings.NewReader(`{"answer":"`), &endless{}))
	})
	err := l.Ask(t.Context(), AskHello, nil, nil, nil)
	var cut *CutError
	if !errors.As(err, &cut) || !strings.Contains(err.Error(), "cp2") ||
		!strings.Contains(err.Error(), "more than 16 MiB") {
		t.Errorf("the coordinator says %v", err)
	}

	n := NewNode(engine.Parts{Host: &node.Host{}}, observe.Node{})
	far, said := &endless{}, &strings.Builder{}
	if err := n.AgentBeating(t.Context(), io.MultiReader(strings.NewReader(`{"ask":"`), far), said, 0); !errors.Is(err,
		errLongLine) {
		t.Errorf("the agent says %v", err)
	}
	if !strings.Contains(said.String(), `"error"`) || !strings.Contains(said.String(), "more than 16 MiB") {
		t.Errorf("the agent answers %q", said)
	}
	if far.sent > 2*maxLine {
		t.Errorf("%d bytes were read of a line", far.sent)
	}
}

func TestALongMessageThatIsOneIsUnderstood(t *testing.T) {
	name := strings.Repeat("x", maxLine/2)
	l := answering(t, func(conn net.Conn, in *bufio.Reader) {
		_, _ = in.ReadString('\n')
		_ = json.NewEncoder(conn).Encode(message{Answer: json.RawMessage(`{"Node":"` + name + `"}`)})
	})
	var hello HelloAnswer
	if err := l.Ask(t.Context(), AskHello, nil, &hello, nil); err != nil || hello.Node != name {
		t.Errorf("%d bytes of %d came: %v", len(hello.Node), len(name), err)
	}
}

// An error of kind "open" that lacks its run is still an error.
func TestAnErrorThatLacksItsRunIsAnError(t *testing.T) {
	err := (&wireError{Kind: "open", Text: "no"}).at("cp2")
	if err == nil || !strings.Contains(err.Error(), "cp2: no") {
		t.Errorf("it says %v", err)
	}
}

func TestAnErrorOfAnotherNodeKeepsItsKindAndNamesTheNode(t *testing.T) {
	ended, end := context.WithCancel(t.Context())
	end()
	// Its words are "operation was canceled", not context.Canceled's.
	_, opened := new(net.Dialer).DialContext(ended, "tcp", "127.0.0.1:1")
	for name, cause := range map[string]error{
		"refused": engine.Refuse("do that", "no"), "usage": &engine.UsageError{Reason: "no"},
		"busy": &journal.BusyError{}, "open": &engine.OpenRunError{Run: engine.RunSummary{ID: "run"},
			Cause: errors.New("no")}, "other": errors.New("no"),
		"image": &op.NoImageError{Text: "no", Fix: "pull it"}, "canceled": opened,
	} {
		t.Run(name, func(t *testing.T) {
			l := answering(t, func(conn net.Conn, in *bufio.Reader) {
				_, _ = in.ReadString('\n')
				_ = json.NewEncoder(conn).Encode(message{Error: toWire(cause)})
			})
			err := l.Ask(t.Context(), AskHello, nil, nil, nil)
			var (
				refused *engine.RefusedError
				usage   *engine.UsageError
			)
			if err == nil || !strings.Contains(err.Error(), "cp2") {
				t.Fatalf("it says %v", err)
			}
			if got := errors.As(err, &refused); got != (name == "refused" || name == "busy") {
				t.Errorf("refused: %v: %v", got, err)
			}
			if got := errors.As(err, &usage); got != (name == "usage") {
				t.Errorf("usage: %v: %v", got, err)
			}
			if got := engine.IsNoImage(err); got != (name == "image") || got && engine.Hint(err) != "pull it" {
				t.Errorf("image: %v: %v", got, err)
			}
			if got := errors.Is(engine.Interrupted(ended, err), context.Canceled); got != (name == "canceled") {
				t.Errorf("canceled: %v: %v", got, err)
			}
			if got := errors.As(err, new(*engine.OpenRunError)); got != (name == "open") {
				t.Errorf("open: %v: %v", got, err)
			}
		})
	}
}

// A question that is given up is still answered, and only then may the next one be asked.
func TestAQuestionThatIsGivenUpIsAnsweredBeforeTheNext(t *testing.T) {
	cancelled := make(chan struct{})
	l := answering(t, func(conn net.Conn, in *bufio.Reader) {
		out := json.NewEncoder(conn)
		_, _ = in.ReadString('\n')
		if line, _ := in.ReadString('\n'); strings.Contains(line, `"cancel":true`) {
			close(cancelled)
		}
		_ = out.Encode(message{Error: &wireError{Text: "given up"}})
		_, _ = in.ReadString('\n')
		_ = out.Encode(message{Answer: json.RawMessage(`{"Node":"cp2"}`)})
	})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(time.Millisecond, cancel)
	if err := l.Ask(ctx, AskHello, nil, nil, nil); err == nil || !strings.Contains(err.Error(), "given up") {
		t.Errorf("it says %v", err)
	}
	<-cancelled
	var hello HelloAnswer
	if err := l.Ask(t.Context(), AskHello, nil, &hello, nil); err != nil || hello.Node != "cp2" {
		t.Errorf("the next question: %v %v", hello, err)
	}
}

// A disk that hangs holds up one system call for ever, and nothing else: the agent still beats.
func TestAQuestionThatNothingComesOfIsGivenUp(t *testing.T) {
	hang, began := make(chan struct{}), make(chan struct{}, 2)
	defer close(hang)
	n := NewNode(engine.Parts{Host: &node.Host{}}, observe.Node{})
	n.Patience = time.Millisecond
	n.OwnName = func() (string, error) {
		began <- struct{}{}
		<-hang
		return "", nil
	}
	here, there := net.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- n.AgentBeating(t.Context(), there, there, 0) }()
	l := NewRemoteLink("cp2", here, func(engine.Event) {}, 0)
	hello := HelloQuestion{Protocol: Protocol, Reading: true}
	for _, want := range []string{"no progress in", "still busy with the previous request"} {
		err := l.Ask(t.Context(), AskHello, hello, nil, nil)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(engine.Hint(err), "dmesg") {
			t.Errorf("it says %v, hint %q", err, engine.Hint(err))
		}
	}
	<-began
	if len(began) > 0 {
		t.Error("it was begun again while it hung")
	}
	if err := errors.Join(l.Close(), <-ended); err != nil {
		t.Error(err)
	}
}

// The coordinator does not wait for ever for a disk of its own: the others go back, and it looks at
// nothing there any more.
func TestACoordinatorWhoseOwnDiskHangsDoesNotWaitForIt(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	n := NewNode(engine.Parts{Host: &node.Host{}, Emit: func(engine.Event) {}}, observe.Node{})
	n.Patience = time.Millisecond
	n.OwnName = func() (string, error) {
		<-hang
		return "", nil
	}
	unlocked := false
	part := &Participant{Node: n, unlock: func() error {
		unlocked = true
		return nil
	}}
	own := &Peer{Name: "cp1", Link: local(part), Here: true}
	hello := HelloQuestion{Protocol: Protocol, Reading: true}
	_, err := Query[HelloAnswer](t.Context(), own, AskHello, hello)
	if err == nil || !strings.Contains(err.Error(), "cp1: cannot hello: no progress in 1ms") ||
		!strings.Contains(engine.Hint(err), "dmesg") {
		t.Fatalf("it says %v, hint %q", err, engine.Hint(err))
	}
	far := &saysYes{asked: map[string]bool{}}
	tr := &Transaction{Node: n, Run: "r1", Peers: []*Peer{own, {Name: "cp2", Link: far}},
		Cluster: journal.Cluster{Nodes: []journal.Peer{{Name: "cp1"}, {Name: "cp2"}}}}
	var open *engine.OpenRunError
	if err := tr.failed(t.Context(), err); !errors.As(err, &open) || open.Run.ID != "r1" ||
		!strings.Contains(err.Error(), "cp1 could not be queried") {
		t.Errorf("it says %v", err)
	}
	if !far.asked[AskBack] || far.asked[AskClose] {
		t.Errorf("the other node was asked %v", far.asked)
	}
	if tr.Leave(); own.Link.Close() != nil || unlocked {
		t.Error("this node is unlocked while something works there")
	}
}

// saysYes is a node on which the run has begun, and which does all that it is asked.
type saysYes struct{ asked map[string]bool }

func (s *saysYes) Ask(_ context.Context, question string, _, answer any, _ *Body) error {
	s.asked[question] = true
	if state, ok := answer.(*partState); ok {
		state.Begun = true
	}
	return nil
}

func (s *saysYes) Close() error { return nil }

func TestProgressIsSentSparingly(t *testing.T) {
	sent := 0
	far := NewNode(engine.Parts{Host: &node.Host{}}, observe.Node{}).telling(func(engine.Event) { sent++ })
	for i := range 1000 {
		e := engine.Event{Time: time.Unix(1, 0), Node: "cp2", State: engine.Progressed, Done: int64(i)}
		far.Emit(e)
		far.Look.Emit(e)
	}
	if sent != 1 {
		t.Errorf("%d events were sent of what happened at one instant", sent)
	}
}
