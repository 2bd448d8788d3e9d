package defrag

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdpod/etcdpod/e2e/binaries"
	"github.com/etcdpod/etcdpod/phases"
	"github.com/etcdpod/etcdpod/phases/engine"
)

// patience allows for a busy machine, and only ends a hang.
const patience = 5 * time.Minute

// server is one real etcd. It listens at an address of this host alone that is no plain loopback,
// since where every host reaches itself no other member is looked for.
type server struct {
	t            testing.TB
	name, dir    string
	client, peer string
	cmd          *exec.Cmd
	exited       chan struct{}
	mu           sync.Mutex
	log          bytes.Buffer
}

func (s *server) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(p)
}

const testHost = "127.0.0.7"

// claimed are ports outside the kernel's range for outgoing connections, one block for each process
// and test; who listens on the first has the block.
func claimed(t testing.TB, n int) (ports []int) {
	t.Helper()
	const first, last, block = 10000, 30000, 10
	for i := range (last - first) / block {
		base := first + (os.Getpid()+i)*block%(last-first)
		claim, err := net.Listen("tcp", fmt.Sprintf("%s:%d", testHost, base))
		if err != nil {
			continue
		}
		t.Cleanup(func() { _ = claim.Close() })
		for j := range n {
			ports = append(ports, base+1+j)
		}
		return ports
	}
	t.Fatal("no ports are free")
	return nil
}

// start runs a cluster of real etcds.
func start(t testing.TB, version string, names []string, extra ...string) (all []*server) {
	t.Helper()
	binary, err := binaries.Etcd(t.Context(), version)
	if err != nil {
		t.Fatal(err)
	}
	ports, dir := claimed(t, 2*len(names)), t.TempDir()
	var initial []string
	for i, name := range names {
		s := &server{t: t, name: name, dir: filepath.Join(dir, name), client: url(ports[2*i]), peer: url(ports[2*i+1])}
		initial, all = append(initial, name+"="+s.peer), append(all, s)
	}
	for _, s := range all {
		s.run(binary, append([]string{"--initial-cluster", strings.Join(initial, ",")}, extra...)...)
	}
	for _, s := range all {
		s.await()
	}
	return all
}

func url(port int) string { return fmt.Sprintf("http://%s:%d", testHost, port) }

func (s *server) run(binary string, extra ...string) {
	s.t.Helper()
	s.cmd = exec.Command(binary, append([]string{"--name", s.name, "--data-dir", s.dir, "--log-level", "info",
		"--listen-client-urls", s.client, "--advertise-client-urls", s.client, "--listen-peer-urls", s.peer,
		"--initial-advertise-peer-urls", s.peer, "--unsafe-no-fsync",
		"--heartbeat-interval", "300", "--election-timeout", "3000"}, extra...)...)
	s.cmd.Stdout, s.cmd.Stderr, s.exited = s, s, make(chan struct{})
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	cmd, exited := s.cmd, s.exited
	go func() { _ = cmd.Wait(); close(exited) }()
	s.t.Cleanup(s.kill)
}

func (s *server) signal(sig os.Signal) { _ = s.cmd.Process.Signal(sig) }

func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	<-s.exited
}

func (s *server) v3() *clientv3.Client {
	s.t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{s.client}, Logger: zap.NewNop()})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	return c
}

func (s *server) await() {
	s.t.Helper()
	c := s.v3()
	eventually(s.t, func() error {
		ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Second)
		defer cancel()
		_, err := c.Get(ctx, "none")
		return err
	})
}

func eventually(t testing.TB, f func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for err := f(); err != nil; err = f() {
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// fill writes n keys of size bytes below a prefix. It returns what ended it early.
func (s *server) fill(prefix string, n, size int) error {
	c, value := s.v3(), strings.Repeat("v", size)
	for i := 0; i < n; {
		var ops []clientv3.Op
		for ; i < n && len(ops) < 100; i++ {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("%s%07d", prefix, i), value))
		}
		for { // on a busy machine etcd gives up on a request, and may do it all the same
			if _, err := c.Txn(s.t.Context()).Then(ops...).Commit(); err == nil {
				break
			} else if !errors.Is(err, rpctypes.ErrTimeout) {
				return err
			}
		}
	}
	return nil
}

// empty deletes what is below a prefix, and compacts.
func (s *server) empty(prefix string) {
	s.t.Helper()
	c := s.v3()
	eventually(s.t, func() error {
		r, err := c.Delete(s.t.Context(), prefix, clientv3.WithPrefix())
		if err == nil {
			_, err = c.Compact(s.t.Context(), r.Header.Revision, clientv3.WithCompactPhysical())
		}
		if errors.Is(err, rpctypes.ErrCompacted) { // at the first attempt, of which nobody heard
			err = nil
		}
		return err
	})
}

// turn is one defragmentation of a member, as its log has it; to is zero while it goes on.
type turn struct {
	member   string
	from, to time.Time
}

// turns are all of a cluster.
func turns(t testing.TB, all []*server) (found []turn) {
	t.Helper()
	for _, s := range all {
		s.mu.Lock()
		log := s.log.String()
		s.mu.Unlock()
		var open []turn
		for line := range strings.Lines(log) {
			var e struct{ TS, Msg string }
			if json.Unmarshal([]byte(line), &e) != nil {
				continue
			}
			at, _ := time.Parse("2006-01-02T15:04:05.999999Z0700", e.TS)
			switch e.Msg {
			case "defragmenting":
				open = append(open, turn{member: s.name, from: at})
			case "finished defragmenting directory":
				open[len(open)-1].to = at
			}
		}
		found = append(found, open...)
	}
	return found
}

// oneByOne reports members that were defragmented at the same time, and returns how many turns
// there were.
func oneByOne(t testing.TB, all []*server) int {
	t.Helper()
	found := turns(t, all)
	for i, a := range found {
		if a.from.IsZero() || a.to.IsZero() {
			t.Errorf("%s: from %v to %v", a.member, a.from, a.to)
		}
		for _, b := range found[i+1:] {
			if a.from.Before(b.to) && b.from.Before(a.to) {
				t.Errorf("%s from %v to %v, and %s from %v to %v", a.member, a.from, a.to, b.member, b.from, b.to)
			}
		}
	}
	return len(found)
}

// ofOthers counts the turns that other members than one have begun.
func ofOthers(t testing.TB, all []*server, one *server) (n int) {
	t.Helper()
	for _, turn := range turns(t, all) {
		if turn.member != one.name {
			n++
		}
	}
	return n
}

// copying says whether a member has begun to write its new database.
func (s *server) copying() bool {
	found, _ := filepath.Glob(filepath.Join(s.dir, "member", "snap", "db.tmp.*"))
	return len(found) > 0
}

// freezeWhenCopying stops the process in the middle of its turn, and closes the channel then.
func (s *server) freezeWhenCopying() <-chan struct{} {
	frozen := make(chan struct{})
	go func() {
		for s.t.Context().Err() == nil {
			if s.copying() {
				s.signal(syscall.SIGSTOP)
				close(frozen)
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	return frozen
}

// machine is a machine with nothing of Kubernetes on it, as a pod is, that reaches etcd only at
// endpoints.
type machine struct {
	*phases.Node
	mu    sync.Mutex
	notes []string
	heard chan struct{} // gets one for each note, as far as it has room
}

func pod(t testing.TB, servers ...*server) *machine {
	t.Helper()
	return at(t, t.TempDir(), servers...)
}

func at(t testing.TB, root string, servers ...*server) *machine {
	t.Helper()
	m := &machine{heard: make(chan struct{}, 1000)}
	config := phases.Config{Root: root, Emit: m.note}
	for _, s := range servers {
		config.Endpoints = append(config.Endpoints, s.client)
	}
	var err error
	if m.Node, err = phases.Open(config); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *machine) note(e engine.Event) {
	m.mu.Lock()
	m.notes = append(m.notes, string(e.State)+" "+e.Operation+e.Message)
	m.mu.Unlock()
	select {
	case m.heard <- struct{}{}:
	default:
	}
}

func (m *machine) said(text string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Contains(strings.Join(m.notes, "\n"), text)
}

// hears waits until something is said.
func (m *machine) hears(t testing.TB, text string) {
	t.Helper()
	deadline := time.After(patience)
	for !m.said(text) {
		select {
		case <-m.heard:
		case <-deadline:
			m.mu.Lock()
			defer m.mu.Unlock()
			t.Fatalf("nobody said %q, but:\n%s", text, strings.Join(m.notes, "\n"))
		}
	}
}

// defragments plans and carries out.
func (m *machine) defragments(ctx context.Context, o Options) (*Defrag, error) {
	d, err := Plan(ctx, m.Look, o)
	if err != nil {
		return nil, err
	}
	return d, d.Carry(ctx, m.Engine())
}
