package workflows

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

// looked is what these tests need of `status -o json`.
type looked struct {
	Quorum struct {
		Voters, Serve, MayLose int
		Text                   string
	}
	Pace *struct {
		Seconds       float64
		Fsync, Commit struct{ Count int64 }
		Peers         []struct {
			Name           string
			ConnectSeconds float64
		}
		SinceStart struct{ Fsync struct{ Count int64 } }
	}
	Member struct {
		Compared *struct {
			HashKV      string
			Members     int
			NotCompared []string
		}
	}
	Findings []struct{ Code, Severity, Subject, Text string }
	Next     string
}

func (n *node) looks(code int, args ...string) (l looked) {
	n.t.Helper()
	out := n.want(code, append([]string{"status", "-o", "json"}, args...))
	must(n.t, json.Unmarshal([]byte(out.Stdout), &l))
	return l
}

func (l looked) codes() (all []string) {
	for _, f := range l.Findings {
		all = append(all, f.Code)
	}
	return all
}

func TestAHealthyEtcdIsWatchedAndNothingIsFound(t *testing.T) {
	n := start(t, sandbox.Options{})
	l := n.looks(0, "--max-backup-age", "none")
	if p := l.Pace; p == nil || p.Seconds < 1 || p.SinceStart.Fsync.Count == 0 || len(p.Peers) != 0 {
		t.Errorf("it was watched: %+v", p)
	}
	if l.Quorum.Voters != 1 || l.Quorum.Serve != 1 || l.Quorum.MayLose != 0 || l.Member.Compared != nil {
		t.Errorf("%+v", l)
	}
	n.want(0, []string{"status", "--max-backup-age", "none"}, "the only member serves", "since etcd's start")
	metrics := n.want(0, []string{"status", "-o", "prometheus", "--max-backup-age", "none"})
	for _, name := range []string{"watched_seconds", "etcd_fsyncs", "etcd_commits", "etcd_leader_changes",
		"etcd_members_serving", "etcd_members_may_be_lost"} {
		if !strings.Contains(metrics.Stdout, "etcdpod_"+name+"{") {
			t.Errorf("there is no metric %s:\n%s", name, metrics.Stdout)
		}
	}
}

// Each look of --watch but the first is about the time since the one before, so that nothing in
// between is missed.
func TestWhoWatchesMissesNothing(t *testing.T) {
	n := start(t, sandbox.Options{NoAPIServer: true})
	cmd, err := n.EtcdpodCommand(n.ctx, "status", "--watch", "-o", "json", "--max-backup-age", "none")
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	var before looked
	for look := range 3 {
		if !lines.Scan() {
			t.Fatalf("after %d looks: %v", look, lines.Err())
		}
		var l looked
		must(t, json.Unmarshal(lines.Bytes(), &l))
		if l.Pace == nil {
			t.Fatalf("look %d does not tell how fast etcd is: %s", look, lines.Text())
		}
		if look > 0 {
			added := l.Pace.SinceStart.Fsync.Count - before.Pace.SinceStart.Fsync.Count
			if l.Pace.Fsync.Count != added || added == 0 || l.Pace.Seconds < 5 {
				t.Errorf("in %.1f s there were %d fsyncs, and since the last look %d", l.Pace.Seconds,
					l.Pace.Fsync.Count, added)
			}
		}
		before = l
		n.put("/registry/configmaps/default/written", fmt.Sprint(look)) // before the next look
	}
	must(t, cmd.Process.Signal(os.Interrupt))
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// A member whose process is stopped has a port that accepts connections: its etcd and the others'
// notice it, and who only opens connections does not.
func TestStatusNamesAMemberThatHangsAndWhatTheNextLossDoes(t *testing.T) {
	c := startTogether(t)
	first, third := c.nodes[0], c.nodes[2]
	l := first.looks(0, "--max-backup-age", "none")
	if l.Quorum.Text != "3 of 3 members serve; one may be lost" || l.Pace == nil || len(l.Pace.Peers) != 2 ||
		l.Pace.Peers[0].ConnectSeconds <= 0 {
		t.Errorf("%+v", l)
	}
	// In the sandbox the nodes have other ports, so their flags differ.
	nodes := c.typed("cp1", "etcdpod status --max-backup-age none --nodes cp1,cp2,cp3", 6)
	if !strings.Contains(nodes, "\n  3 of 3 members serve; one may be lost\n") {
		t.Errorf("of all nodes it says:\n%s", nodes)
	}
	third.frozen()
	first.eventually("status notices it", func() bool { // a process stops a little later
		result := first.run("status", "-o", "json", "--max-backup-age", "none")
		l = looked{}
		must(t, json.Unmarshal([]byte(result.Stdout), &l))
		return slices.Contains(l.codes(), "member-silent")
	})
	if l.Quorum.Serve != 2 || l.Quorum.MayLose != 0 ||
		!strings.Contains(l.Next, "crictl stop") {
		t.Errorf("%+v", l)
	}
	i := slices.Index(l.codes(), "member-silent")
	if f := l.Findings[max(0, i)]; f.Subject != "cp3" || f.Severity != "critical" ||
		!strings.Contains(f.Text, "accepts connections") {
		t.Errorf("%+v", f)
	}
}

// Nobody but a fault of the disk, or a hand, changes what etcd held at a revision that has passed.
func TestDataThatWasChangedSinceABackupIsFound(t *testing.T) {
	n := start(t, sandbox.Options{NoAPIServer: true})
	n.put("/registry/configmaps/default/changed", "as it was written")
	b := n.backup()
	if l := n.looks(0); len(l.Findings) > 0 {
		t.Fatalf("%+v", l)
	}
	stopEtcd(n)
	n.spoil("as it was written")
	must(t, n.StartKubelet(n.ctx))
	n.ready()
	l := n.looks(6)
	if !slices.Equal(l.codes(), []string{"etcd-changed"}) || l.Findings[0].Subject != b.Path ||
		!strings.Contains(l.Next, fmt.Sprintf("etcdpod verify %s", b.Path)) {
		t.Errorf("%+v", l)
	}
}

func TestAFullDatabaseIsToldFromAFragmentedOne(t *testing.T) {
	n := create(t, sandbox.Options{NoAPIServer: true})
	t.Parallel()
	const quota = 40 << 20
	n.editEtcd("    - --name=", fmt.Sprintf("    - --quota-backend-bytes=%d\n    - --name=", quota))
	must(t, n.Start(n.ctx))
	var at, size int64
	for i := 0; size < quota*82/100; i++ { // etcd decides how much of the file is free
		n.put(fmt.Sprintf("/registry/configmaps/default/large-%d", i), strings.Repeat("x", 256<<10))
		n.etcd(func(c *clientv3.Client) error {
			st, err := c.Status(n.ctx, n.ClientURL())
			if err == nil {
				size = st.DbSizeInUse
			}
			return err
		})
	}
	n.names(fault{"a full database", nil, "etcd-quota", "% of its quota of 40.0 MiB", "Delete what is not needed", nil})
	n.etcd(func(c *clientv3.Client) error {
		r, err := c.Delete(n.ctx, "/registry/configmaps/default/large-", clientv3.WithPrefix())
		if err == nil {
			at = r.Header.Revision
		}
		return err
	})
	n.etcd(func(c *clientv3.Client) error {
		_, err := c.Compact(n.ctx, at, clientv3.WithCompactPhysical())
		return err
	})
	n.names(fault{"a fragmented one", nil, "etcd-fragmented", "% of its quota of 40.0 MiB, but only", "etcdpod defrag",
		nil})
}
