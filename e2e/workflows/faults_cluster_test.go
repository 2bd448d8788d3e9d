package workflows

import (
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdpod/etcdpod/e2e/binaries"
	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

func TestNothingIsFoundInAHealthyClusterOfFive(t *testing.T) {
	c := startNodes(t, sandbox.Options{EtcdBinary: etcdBinary(t, binaries.Etcd36), NoAPIServer: true},
		"cp1", "cp2", "cp3", "cp4", "cp5")
	for _, n := range c.nodes {
		l := n.looks(0, "--max-backup-age", "none")
		if l.Quorum.Text != "5 of 5 members serve; two may be lost" || l.Pace == nil || len(l.Pace.Peers) != 4 {
			t.Errorf("%s: %+v", n.Node, l)
		}
	}
}

// TestPlantedFaultsOfAClusterAreNamedWithWhatToDo plants one after the other in a cluster of three.
func TestPlantedFaultsOfAClusterAreNamedWithWhatToDo(t *testing.T) {
	c := startNodes(t, sandbox.Options{EtcdBinary: etcdBinary(t, binaries.Etcd36), NoAPIServer: true},
		"cp1", "cp2", "cp3")
	for _, f := range c.faults() {
		back := f.plant(c.nodes[0])
		f.on.names(f.fault)
		back()
		for _, n := range c.nodes {
			n.well()
		}
	}
	c.saysOfAll("node-unreachable", "No route to host", func() { must(t, c.PowerOff("cp3")) })
}

// faultOf is one that a node names.
type faultOf struct {
	on *node
	fault
}

func (c *cluster) faults() []faultOf {
	first, second, third := c.nodes[0], c.nodes[1], c.nodes[2]
	down := func(nodes ...*node) func(*node) func() {
		return func(*node) func() {
			for _, n := range nodes {
				stopEtcd(n)
			}
			return func() {
				for _, n := range nodes {
					must(c.t, n.StartKubelet(c.ctx))
				}
				for _, n := range nodes {
					must(c.t, n.WaitEtcd(c.ctx))
				}
			}
		}
	}
	return []faultOf{
		{first, fault{"a member is down", down(third), "member-silent", "member cp3 does not answer at",
			"start what does not answer: cp3", nil}},
		{third, fault{"its own etcd is down", down(third), "kubelet-stopped", "the kubelet is not running",
			"systemctl start kubelet", nil}},
		{first, fault{"the quorum is lost", down(second, third), "etcd-no-quorum",
			"etcd has no quorum and serves nobody: of its 3 members, these do not answer: cp", "start one of ", nil}},
		{first, fault{"a member that never started", c.added(false), "member-never-started",
			"counts for quorum, but holds nothing", "etcdpod remove ", nil}},
		{second, fault{"a learner that never started", c.added(true), "member-never-started",
			"is a learner, but holds nothing", "etcdpod remove ", nil}},
		{second, fault{"a member that leads the others to themselves", func(*node) func() {
			real := third.PeerURL()
			c.at(real, "http://localhost:2380")
			return func() { c.at("http://localhost:2380", real) }
		}, "member-local-url", "member cp3 is listed at http://localhost:2380", "etcdpod members set-peer-url ", nil}},
	}
}

// added adds a member that never starts.
func (c *cluster) added(learner bool) func(*node) func() {
	return func(n *node) func() {
		var id uint64
		n.eventually("the member is added", func() bool { // not while one is just connected
			n.etcd(func(e *clientv3.Client) error {
				add := e.MemberAdd
				if learner {
					add = e.MemberAddAsLearner
				}
				r, err := add(n.ctx, []string{"https://127.0.0.99:2380"})
				if err == nil {
					id = r.Member.ID
				}
				return ignore(err, "unhealthy cluster")
			})
			return id != 0
		})
		return func() {
			n.etcd(func(e *clientv3.Client) error { _, err := e.MemberRemove(n.ctx, id); return err })
		}
	}
}

// ignore leaves out an error that will pass.
func ignore(err error, passes string) error {
	if err != nil && strings.Contains(err.Error(), passes) {
		return nil
	}
	return err
}

// at lists the member that is at one peer URL at another.
func (c *cluster) at(old, url string) {
	c.nodes[0].etcd(func(e *clientv3.Client) error {
		r, err := e.MemberList(c.ctx)
		if err != nil {
			return err
		}
		for _, m := range r.Members {
			if slices.Contains(m.PeerURLs, old) {
				_, err = e.MemberUpdate(c.ctx, m.ID, []string{url})
				return err
			}
		}
		return errors.New("no member is at " + old)
	})
}

// saysOfAll holds `status` of all three nodes to what was planted.
func (c *cluster) saysOfAll(code, says string, plant func()) {
	c.t.Helper()
	plant()
	out := c.typed("cp1", "etcdpod status -o json --max-backup-age none --nodes cp1,cp2,cp3", 6)
	if !strings.Contains(out, `"code":"`+code+`"`) || !strings.Contains(out, says) {
		c.t.Errorf("%s with %q is not in %s", code, says, out)
	}
}

// A leader that gets its processor only now and then is named, whoever leads.
func TestALeaderThatIsStarvedIsNamed(t *testing.T) {
	c := startNodes(t, sandbox.Options{EtcdBinary: etcdBinary(t, binaries.Etcd36), NoAPIServer: true},
		"cp1", "cp2", "cp3")
	first := c.nodes[0]
	first.eventually("the leader is named", func() bool {
		leader := c.nodes[slices.IndexFunc(c.nodes, func(n *node) bool { return n.Node == c.leads() })]
		stop := leader.stutters()
		defer stop()
		var l looked
		decode(t, leader.run("status", "-o", "json", "--max-backup-age", "none").Stdout, &l)
		const silent = "the leader sent no heartbeat for 0.2 s or longer"
		for _, f := range l.Findings {
			if f.Code == "etcd-starved" && strings.Contains(f.Text, silent) {
				if !strings.Contains(l.Next, "iostat -x 1") || !strings.Contains(f.Text, "`top`") {
					t.Errorf("%+v; next: %s", f, l.Next)
				}
				return true
			}
		}
		t.Logf("%+v", l)
		return false
	})
}

// stutters has a node's etcd run for a fifth of the time.
func (n *node) stutters() (stop func()) {
	n.t.Helper()
	pid, end, ended := n.etcdProcess(), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			for _, step := range []struct {
				signal syscall.Signal
				time   time.Duration
			}{{syscall.SIGSTOP, 240 * time.Millisecond}, {syscall.SIGCONT, 60 * time.Millisecond}} {
				_ = syscall.Kill(pid, step.signal) // when the test has failed, it may be gone
				select {
				case <-end:
					_ = syscall.Kill(pid, syscall.SIGCONT)
					return
				case <-time.After(step.time):
				}
			}
		}
	}()
	return func() { close(end); <-ended }
}
