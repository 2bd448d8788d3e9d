package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/status"
)

// Ctrl-C, like SIGTERM, has three meanings: the first goes back, or past the commit point stops;
// the second says where that is; only the third ends the program as it is. People type it twice.

// outliving is a command without a run that has begun what nothing can stop: an interrupt has it
// end after that, and a second one ends it at once.
type outliving interface {
	Interrupted() string // what the first one does; empty: nothing is under way
	Left() string        // what the second one leaves; empty: nothing is under way
}

// goesOn says what an interrupt is to look at from now on.
func (s *session) goesOn(under outliving) {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.under = under
}

func (s *session) outliving() outliving {
	s.lock.Lock()
	defer s.lock.Unlock()
	return s.under
}

// heed gives interrupts their meanings while a command runs. The third calls leave with the exit
// code.
func (s *session) heed(interrupts <-chan os.Signal, cancel context.CancelFunc, leave func(code int)) {
	<-interrupts
	s.tell(s.onFirst())
	cancel()
	<-interrupts
	if under := s.outliving(); under != nil && under.Left() != "" {
		s.hush()
		s.tell("etcdpod: interrupted twice. " + under.Left())
		leave(exitFailed)
		return
	}
	s.tell(s.onSecond())
	<-interrupts
	leave(s.leaves())
}

// ours is the open run that this process carries out; without an id: none.
func (s *session) ours() engine.RunSummary {
	s.lock.Lock()
	node, id := s.node, s.runID
	s.lock.Unlock()
	if node == nil || id == "" {
		return engine.RunSummary{}
	}
	if open, err := engine.OpenRun(node.Look.FS); err == nil && open.ID == id {
		return open
	}
	return engine.RunSummary{}
}

func (s *session) onFirst() string {
	if under := s.outliving(); under != nil {
		return under.Interrupted()
	}
	run := s.ours()
	switch {
	case run.ID == "":
		return "" // nothing is begun, or it is over: the end says so at once
	case run.Committed:
		return "Interrupted past the commit point: nothing is undone, and the run stays open. Finish it with " +
			"`etcdpod resume`."
	case run.Aborted:
		return "Interrupted: already undoing everything, and continuing; " + s.backTakes(run) + "."
	}
	return "Interrupted: undoing everything; " + s.backTakes(run) + "."
}

func (s *session) backTakes(run engine.RunSummary) string {
	return "this takes about " + engine.Roughly(engine.WayBack(s.node.Look.FS, run))
}

func (s *session) onSecond() string {
	run := s.ours()
	if run.ID == "" {
		return "Interrupted again: still stopping cleanly. A third Ctrl-C will not wait for that."
	}
	does, then := "still undoing everything, now: ", "rollback"
	switch {
	case run.Committed:
		does, then = "it stops after this operation: ", "resume"
	case !run.Aborted:
		does = "everything is undone after this operation: "
	}
	return fmt.Sprintf("Interrupted again: %s%s. A third Ctrl-C kills etcdpod now and leaves the node as it is (%s), "+
		"with the run open until you run `etcdpod %s`.", does, run.Operation, s.standing(), then)
}

// leaves says what a third interrupt leaves behind, and returns the exit code.
func (s *session) leaves() int {
	run := s.ours()
	s.hush()
	if run.ID == "" {
		s.tell("etcdpod: interrupted three times, stopped without waiting")
		return exitFailed
	}
	s.tell("Stopped without waiting. The node is left as it is: " + s.standing() + ".")
	return s.report(context.Background(), &engine.OpenRunError{Run: run, Cause: &engine.InterruptedError{}})
}

// hush ends the display, so that what is written last stays. An event that is just being shown is
// not waited for long.
func (s *session) hush() {
	s.lock.Lock()
	show := s.shows
	s.shows = nil
	s.lock.Unlock()
	if show == nil {
		return
	}
	closed := make(chan struct{})
	go func() {
		show.close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(time.Second):
	}
}

// standing is what runs on the node; who interrupts does not wait long for it.
func (s *session) standing() string {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	return status.Standing(ctx, s.node.Look)
}

// tell writes something between the events that are shown.
func (s *session) tell(text string) {
	if text == "" {
		return
	}
	s.lock.Lock()
	show := s.shows
	s.lock.Unlock()
	text = strings.TrimSuffix(wrapped("", visible(text), 0, s.width()), "\n")
	if show == nil {
		fmt.Fprintln(s.stderr, text)
		return
	}
	show.say(text)
}
