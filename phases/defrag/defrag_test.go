package defrag

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/etcdpod/etcdpod/e2e/binaries"
	"github.com/etcdpod/etcdpod/phases"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/node"
)

var names = []string{"m1", "m2", "m3"}

// enough makes a defragmentation long enough to be met in the middle.
func enough(t testing.TB, s *server) {
	t.Helper()
	for _, prefix := range []string{"/a/", "/b/"} {
		if err := s.fill(prefix, 20000, 500); err != nil {
			t.Fatal(err)
		}
	}
	s.empty("/a/")
}

// TestHelperCoordinator is a process of its own, which is killed.
func TestHelperCoordinator(t *testing.T) {
	endpoints := os.Getenv("DEFRAG_ENDPOINTS")
	if endpoints == "" {
		t.Skip("it is started by others")
	}
	var s []*server
	for at := range strings.SplitSeq(endpoints, ",") {
		s = append(s, &server{client: at})
	}
	_, err := pod(t, s...).defragments(t.Context(), Options{claim: 10 * time.Second})
	t.Fatal("it was to be killed", err)
}

// coordinator starts one in a process of its own.
func coordinator(t testing.TB, s *server) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run", "^TestHelperCoordinator$")
	cmd.Env = append(os.Environ(), "DEFRAG_ENDPOINTS="+s.client)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

func TestNeverTwoMembersAtOnceWhateverDies(t *testing.T) {
	for _, version := range binaries.EtcdVersions() {
		t.Run(version, func(t *testing.T) {
			all := start(t, version, names)
			enough(t, all[0])
			frozenInTheMiddle(t, all)
			done := oneByOne(t, all)
			if done != 3 {
				t.Fatalf("%d turns, not 3", done)
			}
			if version == binaries.EtcdVersions()[0] { // who coordinates does not know the version
				coordinatorKilled(t, all)
				done = oneByOne(t, all)
				if done != 7 {
					t.Fatalf("%d turns, not 7: one of the killed coordinator, and three of the next", done)
				}
				twoCoordinators(t, all)
				if done = oneByOne(t, all); done != 13 {
					t.Fatalf("%d turns, not 13", done)
				}
			}
		})
	}
}

// frozenInTheMiddle has a member stand still in its turn, when whoever asked it gives up.
func frozenInTheMiddle(t *testing.T, all []*server) {
	m := pod(t, all[0])
	d, err := Plan(t.Context(), m.Look, Options{giveUp: 2 * time.Second})
	if err != nil || d.Due() != 3 {
		t.Fatalf("%+v, %v", d, err)
	}
	first := all[d.at[d.next()]]
	frozen, ended := first.freezeWhenCopying(), make(chan error, 1)
	go func() { ended <- d.Carry(t.Context(), m.Engine()) }()
	select {
	case <-frozen:
	case err := <-ended:
		t.Fatal("it ended before anybody stood still: ", err)
	}
	m.hears(t, "the connection to "+first.name+" ended before its answer")
	m.hears(t, "waiting: "+first.name+" may be being defragmented")
	if others := ofOthers(t, all, first); others != 0 {
		t.Errorf("while %s stands still, the others have had %d turns", first.name, others)
	}
	if d.Interrupted() == "" || !strings.Contains(d.Left(), first.name+" goes on being defragmented") {
		t.Errorf("an interrupt says %q, and a second %q", d.Interrupted(), d.Left())
	}
	first.signal(syscall.SIGCONT)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	for _, one := range d.Report.Members {
		if one.State != defragmented || one.AfterBytes == 0 || one.AfterBytes >= one.SizeBytes || one.Seconds == 0 {
			t.Errorf("%+v", one)
		}
	}
	if d.Interrupted()+d.Left() != "" {
		t.Errorf("after all: %q", d.Interrupted()+d.Left())
	}
}

// coordinatorKilled kills who asked a member that stands still in its turn, and starts another.
func coordinatorKilled(t *testing.T, all []*server) {
	d, err := Plan(t.Context(), pod(t, all[0]).Look, Options{})
	if err != nil {
		t.Fatal(err)
	}
	first := all[d.at[d.next()]]
	before := ofOthers(t, all, first)
	frozen := first.freezeWhenCopying()
	cmd := coordinator(t, all[0])
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	select {
	case <-frozen:
	case err := <-exited:
		t.Fatal("it ended before anybody stood still: ", err)
	}
	_ = cmd.Process.Kill()
	<-exited

	other := all[0]
	if other == first {
		other = all[1]
	}
	m := pod(t, other)
	ended := make(chan error, 1)
	go func() {
		next, err := m.defragments(t.Context(), Options{claim: 10 * time.Second})
		if err == nil {
			for _, one := range next.Report.Members {
				if one.State != defragmented {
					err = errors.Join(err, fmt.Errorf("%+v", one))
				}
			}
		}
		ended <- err
	}()
	m.hears(t, "may be being defragmented")
	if others := ofOthers(t, all, first); others != before {
		t.Errorf("while %s stands still, the others had %d turns, and have had %d", first.name, before, others)
	}
	first.signal(syscall.SIGCONT)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

// twoCoordinators starts two at the same time, on machines that share nothing.
func twoCoordinators(t *testing.T, all []*server) {
	ended, one, other := make(chan error, 2), pod(t, all[0]), pod(t, all[1])
	for _, m := range []*machine{one, other} {
		go func() {
			d, err := m.defragments(t.Context(), Options{})
			if err == nil && d.Due() != 0 {
				err = fmt.Errorf("%+v", d.Report)
			}
			ended <- err
		}()
	}
	if err := errors.Join(<-ended, <-ended); err != nil {
		t.Fatal(err)
	}
	const waits = "another `etcdpod defrag` of this cluster has the lock"
	if one.said(waits) == other.said(waits) {
		t.Errorf("one waits for the other, and not: %q, %q", one.notes, other.notes)
	}
}

func TestALockThatEndedIsTakenAgainBeforeTheNextTurn(t *testing.T) {
	all := start(t, "3.5.35", []string{"m1"})
	m := pod(t, all[0])
	d, err := Plan(t.Context(), m.Look, Options{Wait: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	mine, theirs := &lock{d: d}, &lock{d: d}
	if err := mine.take(t.Context()); err != nil || !mine.held {
		t.Fatal(err)
	}
	if again, err := mine.sure(t.Context()); again || err != nil {
		t.Fatal(again, err)
	}
	var refused *engine.RefusedError
	if err := theirs.take(t.Context()); !errors.As(err, &refused) || theirs.held {
		t.Errorf("both have it: %v", err)
	}
	mine.release(t.Context()) // as if it had ended, of which its owner hears nothing
	mine.renewed = mine.renewed.Add(-mine.ttl)
	if again, err := mine.sure(t.Context()); !again || err != nil || !m.said("is taken again") {
		t.Errorf("%v, %v, %q", again, err, m.notes)
	}
	if err := theirs.take(t.Context()); !errors.As(err, &refused) {
		t.Errorf("both have it: %v", err)
	}
}

func TestWhoLostTheLockNeitherKeepsNorEndsSomebodyElses(t *testing.T) {
	all := start(t, "3.6.16", []string{"m1"})
	m := pod(t, all[0])
	d, err := Plan(t.Context(), m.Look, Options{Wait: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	mine, theirs := &lock{d: d}, &lock{d: d}
	if err := mine.take(t.Context()); err != nil {
		t.Fatal(err)
	}
	mine.release(t.Context()) // as if it had ended, of which its owner hears nothing
	for theirs.ttl = mine.ttl; theirs.ttl == mine.ttl; {
		if err := theirs.take(t.Context()); err != nil {
			t.Fatal(err)
		}
		if theirs.ttl == mine.ttl { // one in sixty
			theirs.release(t.Context())
		}
	}
	for name, ago := range map[string]time.Duration{
		"that is sure to have ended": mine.ttl, "that may not have ended": 0,
	} {
		mine.renewed = m.Look.Clock.Now().Add(-ago)
		mine.keep(t.Context(), -1)
		if err := mine.renew(t.Context(), -1); err == nil {
			t.Errorf("a lock %s is renewed, and is somebody else's", name)
		}
		mine.renewed = m.Look.Clock.Now().Add(-ago)
		mine.release(t.Context())
		var refused *engine.RefusedError
		if err := (&lock{d: d}).take(t.Context()); !errors.As(err, &refused) {
			t.Errorf("a lock %s was released, and was somebody else's: %v", name, err)
		}
	}
}

func TestAnInterruptWaitsForTheMemberThatIsUnderWay(t *testing.T) {
	all := start(t, "3.6.16", names)
	enough(t, all[0])
	m := pod(t, all[0])
	d, err := Plan(t.Context(), m.Look, Options{})
	if err != nil {
		t.Fatal(err)
	}
	first := all[d.at[d.next()]]
	frozen, ended := first.freezeWhenCopying(), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { ended <- d.Carry(ctx, m.Engine()) }()
	<-frozen
	cancel()
	first.signal(syscall.SIGCONT)
	err = <-ended
	if err == nil || !strings.Contains(err.Error(), "interrupted; defragmented: "+first.name+"; not: ") {
		t.Errorf("%v", err)
	}
	if n := oneByOne(t, all); n != 1 {
		t.Errorf("%d turns", n)
	}
	// The lock was released: nobody has to wait for its end.
	enormous, _ := ParseReclaim("1GiB")
	d, err = Plan(t.Context(), m.Look, Options{Wait: time.Second, MinReclaim: enormous})
	if err == nil {
		err = d.Carry(t.Context(), m.Engine())
	}
	if err != nil || d.Due() != 0 {
		t.Errorf("%+v, %v", d.Report, err)
	}
}

// alarms are those of a cluster.
func alarms(t testing.TB, s *server) int {
	t.Helper()
	r, err := s.v3().AlarmList(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return len(r.Alarms)
}

func TestAClusterThatWasFullWritesAgain(t *testing.T) {
	for _, version := range binaries.EtcdVersions() {
		t.Run(version, func(t *testing.T) {
			all := start(t, version, names, "--quota-backend-bytes", fmt.Sprint(16<<20))
			full := all[0].fill("/a/", 1_000_000, 1000)
			if full == nil || !strings.Contains(full.Error(), "space") {
				t.Fatal("it does not get full:", full)
			}
			_, err := pb.NewMaintenanceClient(all[1].v3().ActiveConnection()).Alarm(t.Context(),
				&pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: 0xdead, Alarm: pb.AlarmType_NOSPACE})
			if err != nil || alarms(t, all[0]) < 2 {
				t.Fatal(err)
			}

			m := pod(t, all[2])
			d, err := m.defragments(t.Context(), Options{})
			if err == nil || !strings.Contains(err.Error(), "etcd still takes no writes") ||
				!strings.Contains(engine.Hint(err), "the API server compacts") || alarms(t, all[0]) < 2 || d.Disarmed {
				t.Errorf("with all of it in use: %v", err)
			}
			if oneByOne(t, all) != 3 {
				t.Errorf("%+v", d.Report)
			}

			all[0].empty("/a/")
			if m = pod(t, all[2]); m.said("disarmed") {
				t.Error("it says too much")
			}
			if d, err = m.defragments(t.Context(), Options{}); err != nil || !d.Disarmed || alarms(t, all[0]) != 0 {
				t.Errorf("%+v, %v", d, err)
			}
			if !m.said("dead, which is no member any more") || !m.said("no lock can be had") {
				t.Errorf("%q", m.notes)
			}
			for _, one := range d.Report.Members {
				if one.QuotaBytes != 16<<20 || one.State != defragmented || one.AfterBytes > 2<<20 {
					t.Errorf("%+v", one)
				}
			}
			if err := all[1].fill("/b/", 10, 10); err != nil {
				t.Errorf("it takes no writes: %v", err)
			}
			if version == binaries.EtcdVersions()[1] {
				fullWithOneDown(t, all)
			}
		})
	}
}

// fullWithOneDown has the others cured all the same, and the alarm stay: nobody knows how large the
// one that is down is.
func fullWithOneDown(t *testing.T, all []*server) {
	_, err := pb.NewMaintenanceClient(all[0].v3().ActiveConnection()).Alarm(t.Context(),
		&pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: 0xdead, Alarm: pb.AlarmType_NOSPACE})
	if err != nil {
		t.Fatal(err)
	}
	all[2].kill()
	d, err := pod(t, all[0]).defragments(t.Context(), Options{})
	if err == nil || !strings.Contains(err.Error(), "m3 does not answer") || alarms(t, all[0]) != 1 {
		t.Fatalf("%+v, %v", d, err)
	}
	for _, m := range d.Report.Members {
		if want := map[bool]string{true: passedOver, false: defragmented}[m.Name == "m3"]; m.State != want {
			t.Errorf("%+v", m)
		}
	}
}

func TestWhoIsPassedOverAndWhatIsRefused(t *testing.T) {
	all := start(t, "3.7.3", names, "--quota-backend-bytes", fmt.Sprint(64<<20))
	m := pod(t, all[0])
	reasons := func(o Options) string {
		t.Helper()
		d, err := Plan(t.Context(), m.Look, o)
		if err != nil {
			return err.Error()
		}
		var said []string
		for _, one := range d.Report.Members {
			said = append(said, one.Name+" "+one.State+" "+one.Reason)
		}
		return strings.Join(said, "; ")
	}
	rule, err := ParseRule("dbQuotaUsage > 0.8 || dbQuota != 64*MiB")
	if err != nil {
		t.Fatal(err)
	}
	if got := reasons(Options{When: rule}); strings.Count(got, "passed-over the rule is false: dbSize=") != 3 ||
		strings.Count(got, "dbQuota=67108864") != 3 {
		t.Error(got)
	}
	enormous, _ := ParseReclaim("1GiB")
	if got := reasons(Options{MinReclaim: enormous}); strings.Count(got, "--min-reclaim is 1GiB") != 3 {
		t.Error(got)
	}
	if got := reasons(Options{Nodes: []string{"m2"}}); !strings.Contains(got, "m2 due ;") ||
		strings.Count(got, "not among the given ones") != 2 {
		t.Error(got)
	}
	if got := reasons(Options{Nodes: []string{"m4"}}); !strings.Contains(got, "there is no member on a node m4") {
		t.Error(got)
	}
	zero, _ := ParseRule("dbSize % (dbQuota - 64*MiB) == 1")
	if got := reasons(Options{When: zero}); !strings.Contains(got, "--when") {
		t.Error(got)
	}
	if n := len(turns(t, all)); n != 0 {
		t.Errorf("%d turns", n)
	}

	all[2].kill()
	eventually(t, func() error { // the one that is down may have been the leader
		if got := reasons(Options{}); !strings.Contains(got, "m3 is down, and one more would not serve") {
			return errors.New(got)
		}
		return nil
	})
	all[1].kill()
	if got := reasons(Options{}); !strings.Contains(got, "no quorum answers") {
		t.Error(got)
	}
}

// backup is a snapshot of a member's data.
func (s *server) backup() string {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "backup.db")
	text, err := s.v3().Snapshot(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	to, err := os.Create(file)
	if err == nil {
		_, err = io.Copy(to, text)
	}
	if err = errors.Join(err, to.Close()); err != nil {
		s.t.Fatal(err)
	}
	return file
}

func TestABackupTellsHowLargeADatabaseBecomes(t *testing.T) {
	all := start(t, "3.7.3", []string{"m1"})
	enough(t, all[0])
	file := all[0].backup()
	d, err := pod(t, all[0]).defragments(t.Context(), Options{Backup: file})
	if err != nil {
		t.Fatal(err)
	}
	m := d.Report.Members[0]
	if off := m.AfterBytes - m.PredictedBytes; m.PredictedFrom != "backup" || max(off, -off) > m.AfterBytes/10 {
		t.Errorf("%+v", m)
	}
	if err := os.Truncate(file, 10000); err != nil {
		t.Fatal(err)
	}
	if _, err := Plan(t.Context(), pod(t, all[0]).Look, Options{Backup: file}); !engine.IsBadSnapshot(err) {
		t.Errorf("of a damaged one: %v", err)
	}
}

func TestALearnerIsPassedOver(t *testing.T) {
	all := start(t, "3.6.16", []string{"m1"})
	ports := claimed(t, 2)
	learner := &server{t: t, name: "m2", dir: filepath.Join(t.TempDir(), "m2"), client: url(ports[0]),
		peer: url(ports[1])}
	if _, err := all[0].v3().MemberAddAsLearner(t.Context(), []string{learner.peer}); err != nil {
		t.Fatal(err)
	}
	d, err := Plan(t.Context(), pod(t, all[0]).Look, Options{})
	if err != nil || d.Due() != 1 || d.Report.Members[0].Reason != "it has never started" {
		t.Errorf("%+v, %v", d, err)
	}
	binary, err := binaries.Etcd(t.Context(), "3.6.16")
	if err != nil {
		t.Fatal(err)
	}
	learner.run(binary, "--initial-cluster", fmt.Sprintf("m1=%s,m2=%s", all[0].peer, learner.peer),
		"--initial-cluster-state", "existing")
	eventually(t, func() error {
		d, err := Plan(t.Context(), pod(t, all[0]).Look, Options{})
		if err == nil && (d.Due() != 1 || d.Report.Members[1].Reason != "it is a learner") {
			err = fmt.Errorf("%+v", d.Report)
		}
		return err
	})
}

// tight is a disk that is nearly full.
type tight struct{ node.Reader }

func (tight) Free(string) (uint64, error) { return 1 << 20, nil }

const manifest = `apiVersion: v1
kind: Pod
metadata: {name: etcd, namespace: kube-system}
spec:
  hostNetwork: true
  containers:
  - name: etcd
    image: registry.k8s.io/etcd:3.6.16-0
    command: [etcd, --name=m1, --data-dir=/var/lib/etcd, --listen-client-urls=%[1]s, --advertise-client-urls=%[1]s,
      --initial-advertise-peer-urls=%[2]s, --listen-peer-urls=%[2]s, --listen-metrics-urls=%[3]s]
    volumeMounts: [{mountPath: /var/lib/etcd, name: etcd-data}]
  volumes:
  - {name: etcd-data, hostPath: {path: /var/lib/etcd, type: DirectoryOrCreate}}
`

// TestANodeKnowsItsOwnEntriesAndMetrics has an etcd that serves clients without HTTP, as with
// --listen-client-http-urls, and its metrics elsewhere.
func TestANodeKnowsItsOwnEntriesAndMetrics(t *testing.T) {
	root, ports := t.TempDir(), claimed(t, 4)
	metrics, dir := url(ports[2]), filepath.Join(root, "var/lib/etcd")
	all := []*server{{t: t, name: "m1", dir: dir, client: url(ports[0]), peer: url(ports[1])}}
	binary, err := binaries.Etcd(t.Context(), "3.6.16")
	if err == nil {
		err = os.MkdirAll(filepath.Dir(dir), 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	all[0].run(binary, "--initial-cluster", "m1="+all[0].peer, "--listen-metrics-urls", metrics,
		"--listen-client-http-urls", url(ports[3]))
	all[0].await()
	enough(t, all[0])
	_, err = Plan(t.Context(), pod(t, all[0]).Look, Options{})
	var refused *engine.RefusedError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "cannot see whether m1 is being defragmented") {
		t.Errorf("where nothing shows it: %v", err)
	}

	dir = filepath.Join(root, "etc/kubernetes/manifests")
	text := fmt.Sprintf(manifest, all[0].client, all[0].peer, metrics)
	err = errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "etcd.yaml"), []byte(text), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	here, err := phases.Open(phases.Config{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	d, err := Plan(t.Context(), here.Look, Options{})
	if err != nil {
		t.Fatal(err)
	}
	one := d.Report.Members[0]
	if one.PredictedFrom != "entries" || one.State != due || len(d.Notes) != 0 {
		t.Fatalf("%+v, %q", one, d.Notes)
	}
	roomy := here.Look.FS
	here.Look.FS = tight{roomy}
	if _, err := Plan(t.Context(), here.Look, Options{}); !errors.As(err, &refused) ||
		!strings.Contains(err.Error(), "has 1.0 MiB free, and the new database needs") {
		t.Errorf("without room: %v", err)
	}
	here.Look.FS = roomy
	if err := d.Carry(t.Context(), here.Engine()); err != nil {
		t.Fatal(err)
	}
	one = d.Report.Members[0]
	if off := one.AfterBytes - one.PredictedBytes; one.State != defragmented || max(off, -off) > one.AfterBytes/10 {
		t.Errorf("%+v", one)
	}
}

func TestALongStallIsWarnedOf(t *testing.T) {
	const size = 12 << 30
	m := Member{Name: "cp1", SizeBytes: size, InUseBytes: size, State: due}
	m.predict(0, "", 1)
	if m.StallSeconds < longStall || m.PredictedFrom != "in-use" {
		t.Fatalf("%+v", m)
	}
	if text := stalls([]Member{m}); !strings.Contains(strings.Join(text, ""), "livenessProbe.failureThreshold") {
		t.Errorf("%q", text)
	}
	m.SizeBytes, m.InUseBytes = 1<<30, 1<<30
	if m.predict(0, "", 1); len(stalls([]Member{m})) != 0 {
		t.Error("for a second")
	}
}
