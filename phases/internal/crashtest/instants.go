package crashtest

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"strings"

	"github.com/etcdpod/etcdpod/phases/internal/sim"
	"github.com/etcdpod/etcdpod/phases/together"
)

// A command on several nodes is a series of instants: a record that is about to be written or was
// just made durable, a question, an answer. Misfortunes strike nodes at instants.

// misfortune strikes one node at one instant of a command.
type misfortune struct {
	at   int    // the instant; 0: never
	node string // the node that it strikes
	how  how
}

type how string

const (
	killed     how = "SIGKILL"
	rebooted   how = "reboot"
	mixed      how = "reboot, unsynced mixed"
	cutOnce    how = "a lost connection"
	cutForLong how = "a network that is cut"
	meddled    how = "somebody else"
)

func (m misfortune) String() string {
	return fmt.Sprintf("%s of %s at instant %d", m.how, m.node, m.at)
}

// wire counts the questions and answers on one connection.
type wire struct {
	net.Conn
	c    *Cluster
	node string
	done <-chan struct{} // on the coordinator's side: closed when the agent has ended
}

// Read reports a lost connection only once the agent has ended, so that nodes still act one after
// another.
func (w wire) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if err != nil && w.done != nil {
		<-w.done
	}
	return n, err
}

func (w wire) Write(b []byte) (n int, err error) {
	defer func() {
		if err != nil && w.done != nil {
			<-w.done
		}
	}()
	switch {
	case bytes.HasPrefix(b, []byte(`{"ask"`)):
		asked := question(b)
		if a := w.c.agents[w.node]; a != nil {
			a.greeted = asked != together.AskHello
		}
		w.c.instant(w.node, true, asked) // struck here, the question is lost
	case bytes.HasPrefix(b, []byte(`{"answer"`)), bytes.HasPrefix(b, []byte(`{"error"`)):
		w.c.instant(w.node, true, "answer") // struck here, it is done, and the answer is lost
	}
	return w.Conn.Write(b)
}

// before is called before each step of each node.
func (c *Cluster) before(name, call string) {
	c.check()
	if isRecord(call) {
		what, _, _ := strings.Cut(call, " ")
		c.instant(name, false, what)
		if c.Seen != nil {
			c.Seen(c)
		}
	}
	delete(c.digests, name)
	delete(c.coarse, name)
}

// isRecord says whether a record is about to be written, or was just made durable.
func isRecord(call string) bool {
	return strings.HasSuffix(call, "/journal") &&
		(strings.HasPrefix(call, "append /") || strings.HasPrefix(call, "sync "))
}

// question is the name of the question that begins a line.
func question(line []byte) string { return string(bytes.SplitN(line, []byte(`"`), 5)[3]) }

// ear counts the questions that an agent has heard.
type ear struct {
	net.Conn
	c       *Cluster
	node    string
	hearing string // a question that is not complete yet
}

func (e *ear) Read(b []byte) (int, error) {
	n, err := e.Conn.Read(b)
	if bytes.HasPrefix(b[:n], []byte(`{"ask"`)) {
		e.hearing = question(b[:n])
	}
	if e.hearing != "" && bytes.HasSuffix(b[:n], []byte("\n")) {
		e.c.instant(e.node, true, "heard: "+e.hearing) // struck here, its answer is lost
		e.hearing = ""
	}
	return n, err
}

// mark is an instant of a command, and how it looks from afar.
type mark struct {
	misfortune        // what could strike the node then
	word       bool   // it was a message
	look       uint64 // the same for all instants that look alike
}

// instant counts an instant, and lets happen what is planned for it. what is one word for what is
// said or done.
func (c *Cluster) instant(node string, word bool, what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Instants++
	c.whose = append(c.whose, node)
	c.words = append(c.words, word)
	if c.marks != nil {
		h := fnv.New64a()
		fmt.Fprintln(h, c.Far(), c.Command, node, what, c.hit.node, c.hit.how)
		c.marks(mark{misfortune{at: c.Instants, node: node}, word, h.Sum64()})
	}
	for _, m := range c.strikes {
		if m.at == c.Instants {
			c.strike(m)
		}
	}
}

func (c *Cluster) strike(f misfortune) {
	if f.how == meddled {
		clear(c.digests)
		clear(c.coarse)
		c.meddle()
		return
	}
	a := c.agents[f.node]
	if a != nil && !a.greeted { // it could not be reached
		c.Apart = true
	}
	c.hit = f
	delete(c.digests, f.node)
	delete(c.coarse, f.node)
	m := c.Nodes[f.node].Machine
	switch f.how {
	case killed:
		m.Kill()
	case rebooted:
		m.Reboot(sim.DropUnsynced, nil)
	case mixed:
		m.Reboot(sim.MixUnsynced, rand.New(rand.NewPCG(1, uint64(f.at))))
	case cutForLong:
		c.cut[f.node], c.Apart = true, true
	}
	if a != nil {
		a.drop()
	}
}
