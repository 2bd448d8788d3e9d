package workflows

import (
	"os"
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdpod/etcdpod/e2e/binaries"
	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

// Its etcd starts on the empty directory, and ends as soon as the leader speaks to it.
func TestAMemberOfThreeThatWasEmptiedIsSentTheWayBackAtOnce(t *testing.T) {
	first := founder(t, binaries.Etcd36)
	second, third := first.newcomer(1), first.newcomer(2)
	second.done(second.typed("--yes")...)
	third.done(third.typed("--yes")...)
	must(t, third.StopKubelet(third.ctx))
	must(t, third.Kill(third.ctx, "etcd"))
	third.eventually("etcd has ended", func() bool { return len(third.running()) == 0 })
	must(t, os.RemoveAll(third.DataPath()+"/member"))
	must(t, third.StartKubelet(third.ctx))
	third.eventually("etcd was started on nothing", func() bool {
		c, found, err := third.Container(third.ctx, "etcd")
		must(t, err)
		return found && c.State == "exited" && c.Attempt > 1
	})
	third.want(5, third.typed("--yes"), "votes, and", "etcdctl member remove", "move away what is in "+sandbox.DataDir)

	// The way back that it names.
	third.reset(true)
	first.etcd(func(c *clientv3.Client) error {
		r, err := c.MemberList(first.ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(r.Members, func(m *pb.Member) bool { return m.Name == third.Node })
		_, err = c.MemberRemove(first.ctx, r.Members[i].ID)
		return err
	})
	third.done(third.typed("--yes")...)
	first.wantMembers(first, second.node, third.node)
}

func TestAPeerURLThatLeadsEverybodyToItselfIsNamedAndCured(t *testing.T) {
	first := founder(t, binaries.Etcd36)
	j := first.newcomer(1)
	at := func(url string) {
		first.etcd(func(c *clientv3.Client) error {
			r, err := c.MemberList(first.ctx)
			if err == nil {
				_, err = c.MemberUpdate(first.ctx, r.Members[0].ID, []string{url})
			}
			return err
		})
	}
	at("http://localhost:2380")
	j.want(5, j.typed("--yes"), "is known at http://localhost:2380, where no other node reaches it",
		"etcdctl member update")
	first.want(6, []string{"status"}, "is known at http://localhost:2380", "--peer-urls="+
		strings.TrimSuffix(first.PeerURL(), "/"))
	at(first.PeerURL())
	j.done(j.typed("--yes")...)
	j.wantJoined()
}

// `etcdctl member add` on a cluster of one is the classic way to lose a quorum.
func TestAClusterThatWaitsForAMemberThatNeverStartedIsRestored(t *testing.T) {
	n := start(t, sandbox.Options{NoAPIServer: true})
	b := n.backup()
	n.change()
	before := n.state()
	n.etcd(func(c *clientv3.Client) error {
		_, err := c.MemberAdd(n.ctx, []string{"https://127.0.0.99:2380"})
		return err
	})
	id := ""
	n.untouched(func() {
		r := n.want(5, []string{"restore", b.file, "--yes"}, "one not started yet at https://127.0.0.99:2380", "--lost ")
		_, rest, _ := strings.Cut(r.Stdout+r.Stderr, "--lost ")
		id = strings.TrimRight(strings.Fields(rest)[0], ".)`")
	})
	n.want(6, []string{"status"}, "has never started", "etcdctl member remove "+id)
	n.done("restore", b.file, "--yes", "--lost", id)
	n.wantNew(b, before)
}
