package restore

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/together"
)

// agentOf is a real agent on a simulated node, and a link to it.
func agentOf(t *testing.T) (*crashtest.Node, *together.RemoteLink) {
	t.Helper()
	c := newCluster(t, "cp1", "cp2")
	c.At = "cp1"
	conn, err := c.Connect(nil, journal.Peer{Name: "cp2"})
	if err != nil {
		t.Fatal(err)
	}
	l := together.NewRemoteLink("cp2", conn, func(engine.Event) {}, 0)
	t.Cleanup(c.Rest)
	return c.Nodes["cp2"], l
}

func TestAnAgentRefusesAnotherVersion(t *testing.T) {
	for _, q := range []together.HelloQuestion{
		{Protocol: together.Protocol, Version: "v9"}, {Protocol: together.Protocol + 1},
	} {
		w, l := agentOf(t)
		before := w.Machine.Look()
		err := l.Ask(t.Context(), together.AskHello, q, nil, nil)
		var refused *engine.RefusedError
		if !errors.As(err, &refused) || !strings.Contains(refused.Hint, "same etcdpod") {
			t.Errorf("it says %v", err)
		}
		if w.Machine.Look() != before {
			t.Error("it changed something")
		}
	}
}

func TestAnAgentKeepsTheRulesWhateverItIsTold(t *testing.T) {
	_, l := agentOf(t)
	if err := l.Ask(t.Context(), together.AskHello,
		together.HelloQuestion{Protocol: together.Protocol, Workflow: "restore"}, nil, nil); err != nil {
		t.Fatal(err)
	}
	for _, question := range []string{
		together.AskAdvance, together.AskCommit, together.AskSettle,
		together.AskBack, together.AskClose, askStaged, "nonsense",
	} {
		if err := l.Ask(t.Context(), question, struct{}{}, nil, nil); err == nil ||
			!strings.Contains(err.Error(), "no run was begun") {
			t.Errorf("%s: %v", question, err)
		}
	}
	if err := l.Ask(t.Context(), together.AskBegin, nil, nil, nil); err == nil {
		t.Error("it began what nobody had planned")
	}
	if err := l.Ask(t.Context(), askSurvey, "nonsense", nil, nil); err == nil ||
		!strings.Contains(err.Error(), "cannot understand") {
		t.Errorf("nonsense: %v", err)
	}
}

// A file without a run, or of the wrong size or sum, is refused; the connection stays usable.
func TestAFileThatIsNotWantedIsReadAndDropped(t *testing.T) {
	_, l := agentOf(t)
	file := sent{Proof: op.Proof{SHA256: "00", SizeBytes: 5}}
	if err := l.Ask(t.Context(), askReceive, file, nil, &together.Body{From: strings.NewReader("12345"),
		Size: 5}); err == nil || !strings.Contains(err.Error(), "no run was begun") {
		t.Errorf("it says %v", err)
	}
	var hello together.HelloAnswer
	if err := l.Ask(t.Context(), together.AskHello, together.HelloQuestion{Protocol: together.Protocol},
		&hello, nil); err != nil || hello.Node != "cp2" {
		t.Errorf("afterwards: %v %v", hello, err)
	}
}

func TestAFileOfTheWrongSumOrSizeIsNotKept(t *testing.T) {
	c := newCluster(t, "cp1", "cp2", "cp3")
	if err := c.Run("cp1"); err != nil {
		t.Fatal(err)
	}
	p := &part{Participant: &together.Participant{Node: c.Begin("cp2")}}
	if _, err := p.Load(c.Read("cp2").ID); err != nil {
		t.Fatal(err)
	}
	before := c.Nodes["cp2"].Machine.Look()
	for name, says := range map[string]string{"12345{}\n": "SHA-256", "123": "cut off after 3 of 5 bytes"} {
		in := strings.NewReader(name)
		err := p.receive(t.Context(), sent{Proof: op.Proof{SHA256: "00", SizeBytes: 5}}, in)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: it says %v", name, err)
		}
		if rest, _ := io.ReadAll(in); len(name) > 5 && string(rest) != "{}\n" {
			t.Errorf("the next message is %q", rest)
		}
	}
	if c.Nodes["cp2"].Machine.Look() != before {
		t.Error("something of it was kept")
	}
}

// An agent keeps the rules that the transaction relies on even when the coordinator is wrong.
func TestANodeDoesNotWriteARecordThatWouldBeFalse(t *testing.T) {
	asked := map[string]int{}
	for _, s := range cutOffTogether(t) {
		a := s.Read("cp2")
		if !a.Begun() || a.End {
			continue
		}
		for question, may := range map[string]bool{
			together.AskCommit: a.Commit || a.CommitAt > 0 && strings.Trim(a.Steps[:a.CommitAt], "f") == "",
			together.AskSettle: a.Commit,
			together.AskBack:   !a.Commit,
			together.AskClose:  a.Done(),
		} {
			c := s.Fork()
			p := &together.Participant{Node: c.Begin("cp2")}
			if _, err := p.Load(a.ID); err != nil {
				t.Fatal(err)
			}
			before := c.Read("cp2")
			_, err := p.Answer(t.Context(), question, json.RawMessage(`{"Cause":"a mistake"}`), nil)
			if (err == nil) != may {
				t.Errorf("%s; %s: %v", s.Story, question, err)
			}
			if after := c.Read("cp2"); err != nil && after.Steps+after.Coarse() != before.Steps+before.Coarse() {
				t.Errorf("%s; %s: it refused (%v), and wrote all the same", s.Story, question, err)
			}
			asked[question]++
		}
	}
	if asked[together.AskCommit] < 20 {
		t.Errorf("asked %v", asked)
	}
}
