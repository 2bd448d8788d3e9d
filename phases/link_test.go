package phases

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

	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// answering is a link to a far end that is played by the test.
func answering(t *testing.T, far func(conn net.Conn, in *bufio.Reader)) *remoteLink {
	t.Helper()
	here, there := net.Pipe()
	go func() {
		far(there, bufio.NewReader(there))
		_ = there.Close()
	}()
	l := newRemoteLink("cp2", here, func(Event) {}, 0)
	t.Cleanup(func() { _ = l.close() })
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
			err := l.ask(t.Context(), askHello, nil, nil, nil)
			var cut *CutError
			if !errors.As(err, &cut) || !strings.Contains(err.Error(), "cp2") {
				t.Errorf("it says %v", err)
			}
		})
	}
}

// endless is a far end that begins a line, and never ends it.
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
	err := l.ask(t.Context(), askHello, nil, nil, nil)
	var cut *CutError
	if !errors.As(err, &cut) || !strings.Contains(err.Error(), "cp2") || !strings.Contains(err.Error(), "more than 16 MiB") {
		t.Errorf("the coordinator says %v", err)
	}

	n := newNode(Parts{Host: &node.Host{}}, View{})
	far, said := &endless{}, &strings.Builder{}
	if err := n.agentBeating(t.Context(), io.MultiReader(strings.NewReader(`{"ask":"`), far), said, 0); !errors.Is(err, errLongLine) {
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
	var hello helloAnswer
	if err := l.ask(t.Context(), askHello, nil, &hello, nil); err != nil || hello.Node != name {
		t.Errorf("%d bytes of %d came: %v", len(hello.Node), len(name), err)
	}
}

// What is only half an error of a run that is open is an error all the same.
func TestAnErrorThatLacksItsRunIsAnError(t *testing.T) {
	err := (&wireError{Kind: "open", Text: "no"}).at("cp2")
	if err == nil || !strings.Contains(err.Error(), "cp2: no") {
		t.Errorf("it says %v", err)
	}
}

func TestAnErrorOfAnotherNodeKeepsItsKindAndNamesTheNode(t *testing.T) {
	for name, cause := range map[string]error{
		"refused": refuse("do that", "no"), "usage": &UsageError{Reason: "no"}, "busy": &journal.BusyError{}, "open": &OpenRunError{Run: RunSummary{ID: "run"}, Cause: errors.New("no")}, "other": errors.New("no"),
	} {
		t.Run(name, func(t *testing.T) {
			l := answering(t, func(conn net.Conn, in *bufio.Reader) {
				_, _ = in.ReadString('\n')
				_ = json.NewEncoder(conn).Encode(message{Error: toWire(cause)})
			})
			err := l.ask(t.Context(), askHello, nil, nil, nil)
			var (
				refused *RefusedError
				usage   *UsageError
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
			if got := errors.As(err, new(*OpenRunError)); got != (name == "open") {
				t.Errorf("open: %v: %v", got, err)
			}
		})
	}
}

// A question that is given up is answered all the same, and only then may the next one be asked.
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
	if err := l.ask(ctx, askHello, nil, nil, nil); err == nil || !strings.Contains(err.Error(), "given up") {
		t.Errorf("it says %v", err)
	}
	<-cancelled
	var hello helloAnswer
	if err := l.ask(t.Context(), askHello, nil, &hello, nil); err != nil || hello.Node != "cp2" {
		t.Errorf("the next question: %v %v", hello, err)
	}
}

// agentOf is a real agent on a simulated node, and a link to it.
func agentOf(t *testing.T) (*world, *remoteLink) {
	t.Helper()
	c := newCluster(t, "cp1", "cp2")
	c.at = "cp1"
	conn, err := c.connect(nil, journal.Peer{Name: "cp2"})
	if err != nil {
		t.Fatal(err)
	}
	l := newRemoteLink("cp2", conn, func(Event) {}, 0)
	t.Cleanup(c.rest)
	return c.worlds["cp2"].world, l
}

func TestAnAgentRefusesAnotherVersion(t *testing.T) {
	for _, q := range []helloQuestion{{Protocol: protocol, Version: "v9"}, {Protocol: protocol + 1}} {
		w, l := agentOf(t)
		before := w.machine.Look()
		err := l.ask(t.Context(), askHello, q, nil, nil)
		var refused *RefusedError
		if !errors.As(err, &refused) || !strings.Contains(refused.Hint, "same etcdpod") {
			t.Errorf("it says %v", err)
		}
		if w.machine.Look() != before {
			t.Error("it changed something")
		}
	}
}

func TestAnAgentKeepsTheRulesWhateverItIsTold(t *testing.T) {
	_, l := agentOf(t)
	if err := l.ask(t.Context(), askHello, helloQuestion{Protocol: protocol, Workflow: "restore"}, nil, nil); err != nil {
		t.Fatal(err)
	}
	for _, question := range []string{askAdvance, askCommit, askSettle, askBack, askClose, askStaged, "nonsense"} {
		if err := l.ask(t.Context(), question, struct{}{}, nil, nil); err == nil || !strings.Contains(err.Error(), "no run was begun") {
			t.Errorf("%s: %v", question, err)
		}
	}
	if err := l.ask(t.Context(), askBegin, nil, nil, nil); err == nil {
		t.Error("it began what nobody had planned")
	}
	if err := l.ask(t.Context(), askSurvey, "nonsense", nil, nil); err == nil || !strings.Contains(err.Error(), "cannot understand") {
		t.Errorf("nonsense: %v", err)
	}
}

// A file without a run, of the wrong size or sum, is not taken; the connection goes on.
func TestAFileThatIsNotWantedIsReadAndDropped(t *testing.T) {
	_, l := agentOf(t)
	file := sent{Proof: op.Proof{SHA256: "00", SizeBytes: 5}}
	if err := l.ask(t.Context(), askReceive, file, nil, &body{from: strings.NewReader("12345"), size: 5}); err == nil || !strings.Contains(err.Error(), "no run was begun") {
		t.Errorf("it says %v", err)
	}
	var hello helloAnswer
	if err := l.ask(t.Context(), askHello, helloQuestion{Protocol: protocol}, &hello, nil); err != nil || hello.Node != "cp2" {
		t.Errorf("afterwards: %v %v", hello, err)
	}
}

func TestAFileOfTheWrongSumOrSizeIsNotKept(t *testing.T) {
	c := newCluster(t, "cp1", "cp2", "cp3")
	if err := c.restore("cp1"); err != nil {
		t.Fatal(err)
	}
	p := &part{participant: &participant{node: c.begin("cp2")}}
	if _, err := p.load(c.read("cp2").id); err != nil {
		t.Fatal(err)
	}
	before := c.worlds["cp2"].machine.Look()
	for name, says := range map[string]string{"12345{}\n": "SHA-256", "123": "ended after 3 of 5 bytes"} {
		in := strings.NewReader(name)
		err := p.receive(t.Context(), sent{Proof: op.Proof{SHA256: "00", SizeBytes: 5}}, in)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: it says %v", name, err)
		}
		if rest, _ := io.ReadAll(in); len(name) > 5 && string(rest) != "{}\n" {
			t.Errorf("the next message is %q", rest)
		}
	}
	if c.worlds["cp2"].machine.Look() != before {
		t.Error("something of it was kept")
	}
}

// An agent holds to the rules on which the transaction stands even when a coordinator is mistaken.
func TestANodeDoesNotWriteARecordThatWouldBeFalse(t *testing.T) {
	asked := map[string]int{}
	for _, s := range cutOffTogether(t) {
		a := s.read("cp2")
		if !a.begun() || a.end {
			continue
		}
		for question, may := range map[string]bool{
			askCommit: a.commit || a.commitAt > 0 && strings.Trim(a.steps[:a.commitAt], "f") == "",
			askSettle: a.commit,
			askBack:   !a.commit,
			askClose:  a.done(),
		} {
			c := s.fork()
			p := &participant{node: c.begin("cp2")}
			if _, err := p.load(a.id); err != nil {
				t.Fatal(err)
			}
			before := c.read("cp2")
			_, err := p.answer(t.Context(), question, json.RawMessage(`{"Cause":"a mistake"}`), nil)
			if (err == nil) != may {
				t.Errorf("%s; %s: %v", s.story, question, err)
			}
			if after := c.read("cp2"); err != nil && after.steps+after.coarse() != before.steps+before.coarse() {
				t.Errorf("%s; %s: it refused (%v), and wrote all the same", s.story, question, err)
			}
			asked[question]++
		}
	}
	if asked[askCommit] < 20 {
		t.Errorf("asked %v", asked)
	}
}
