package phases

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
)

// cluster is several simulated nodes, with an etcdpod on each, that reach each other.
type cluster struct {
	t      *testing.T
	worlds map[string]*world
	names  []string
	cut    map[string]bool // nodes that cannot be reached
	quorum bool
}

func newCluster(t *testing.T, names ...string) *cluster {
	t.Helper()
	c := &cluster{t: t, worlds: map[string]*world{}, names: names, cut: map[string]bool{}}
	for _, name := range names {
		w := newWorld(t, scenario{name: name})
		w.name = name
		c.worlds[name] = w
		c.restart(name)
	}
	return c
}

// restart is a new process of etcdpod on a node.
func (c *cluster) restart(name string) {
	w := c.worlds[name]
	w.restart()
	n := w.node
	n.name, n.oneByOne, n.connect = name, true, c.connect
	n.etcd = sim.Etcd{M: w.machine, Members: len(c.names)}
	n.gather = func(ctx context.Context, id string) (*Facts, error) { return w.facts(ctx, n, id) }
}

func (c *cluster) connect(_ *journal.Cluster, at journal.Peer) (io.ReadWriteCloser, error) {
	if c.cut[at.Name] {
		return nil, errors.New("no route to host")
	}
	c.restart(at.Name)
	here, there := net.Pipe()
	go func() {
		_ = c.worlds[at.Name].node.agent(context.Background(), there, there, 0)
		_ = there.Close()
	}()
	return here, nil
}

func (c *cluster) restore(at string) error {
	c.restart(at)
	var peers []journal.Peer
	for _, name := range c.names {
		peers = append(peers, journal.Peer{Name: name, Host: name})
	}
	o := TogetherOptions{Nodes: peers, Restore: RestoreOptions{StopTimeout: time.Minute}}
	return c.worlds[at].node.RestoreTogether(context.Background(), o, func(TogetherPlan) error { return nil })
}

// verdict says whether all nodes are wholly old, or all wholly new.
func (c *cluster) verdict() (string, error) {
	var all []string
	for _, name := range c.names {
		v, err := c.worlds[name].verdict()
		if err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, v)
	}
	for _, v := range all {
		if v != all[0] {
			return "", fmt.Errorf("some nodes are old and some new: %s", strings.Join(all, " "))
		}
	}
	return all[0], nil
}

func TestARestoreOfThreeNodesEndsNewOnAll(t *testing.T) {
	c := newCluster(t, "cp1", "cp2", "cp3")
	if err := c.restore("cp1"); err != nil {
		t.Fatal(err)
	}
	if v, err := c.verdict(); v != "new" || err != nil {
		t.Fatalf("%s %v", v, err)
	}
	for _, name := range c.names {
		runs, err := c.worlds[name].node.runs()
		if err != nil || len(runs) != 1 || runs[0].State != "completed" {
			t.Errorf("%s: %v %+v", name, err, runs)
		}
		if ids, _ := c.worlds[name].machine.ReadDir(journal.RunsDir); !strings.HasPrefix(path.Base(ids[0]), "2023") {
			t.Error(ids)
		}
	}
}
