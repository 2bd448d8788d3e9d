package phases

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"syscall"
	"testing"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
)

// world is a simulated node with an etcdpod on it.
type world struct {
	t       *testing.T
	name    string
	machine *sim.Machine
	node    *togetherNode // the process of etcdpod that runs now
	first   string        // how the machine looked before the run, etcdpod's own directory aside
	commit  sought
}

// testManifestDir is the static-pod directory of a simulated node.
const testManifestDir = "/etc/kubernetes/manifests"

// over puts an etcdpod on a machine; before is how that was before the run, if there is one already.
func over(t *testing.T, name string, machine, before *sim.Machine) *world {
	t.Helper()
	w := &world{t: t, name: name, machine: machine, first: before.Look(journal.Home)}
	machine.CommittedBy(func() bool { return false })
	w.restart()
	return w
}

// restart is a new process of etcdpod on the node.
func (w *world) restart() {
	made := mistakes{}
	if w.node != nil {
		made = w.node.faults
	}
	w.node = newNode(Parts{
		Host: w.machine.Host(), Etcd: sim.Etcd{M: w.machine}, API: sim.APIServer{M: w.machine},
		Certificates: sim.Certificates{M: w.machine}, Involved: involvedText,
		Command: []string{"etcdpod", "restore"}, Emit: func(Event) {},
	}, View{Config: node.KubeletConfig{StaticPodPath: testManifestDir}, Name: w.name})
	w.node.faults = made
}

// do carries a workflow out, without asking.
func (w *world) do(work Work) error {
	return w.node.Do(context.Background(), work, func(Plan) error { return nil })
}

// settle types one of the commands that end an open run.
func (w *world) settle(command string) error {
	if command == "rollback" {
		return w.node.Rollback(context.Background())
	}
	return w.node.Resume(context.Background())
}

// committed looks for the record itself: it is asked after every step.
func (w *world) committed() bool {
	ids, _ := w.machine.ReadDir(journal.RunsDir)
	if len(ids) == 0 {
		return false
	}
	data := w.machine.Peek(path.Join(journal.RunDir(ids[len(ids)-1]), journal.Name))
	at := w.commit.in(data, `{"kind":"commit"`)
	return at >= 0 && bytes.IndexByte(data[at:], '\n') >= 0
}

// began says whether there is a run.
func (w *world) began() bool {
	runs, _ := journal.List(w.machine.Disk)
	return len(runs) > 0
}

// look is what every command observes.
func (w *world) look(id string) (*Facts, error) {
	f := &Facts{
		Run: id, Node: w.name, ManifestDir: testManifestDir, Notes: map[string]string{},
		API: op.APIAccess{Kubeconfig: "/etc/kubernetes/admin.conf"},
	}
	names, err := w.machine.ReadDir(testManifestDir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if regular, err := node.IsRegular(w.machine.Disk, path.Join(testManifestDir, name)); err != nil || !regular {
			continue
		}
		data, err := w.machine.ReadFile(path.Join(testManifestDir, name))
		if err != nil {
			return nil, err
		}
		m, err := sim.Parse(string(data))
		if err != nil {
			return nil, err
		}
		file := ManifestFile{Path: path.Join(testManifestDir, name), Data: data, Attr: node.Attr{Mode: 0o600}, Manifest: m}
		f.Manifests = append(f.Manifests, file)
		if name == "etcd.yaml" {
			f.Etcd = w.etcdPod(file)
		}
	}
	return f, nil
}

// seenFacts are what every command observes of a healthy node, for a table's rows to change.
func seenFacts(t *testing.T, run string) *Facts {
	t.Helper()
	machine := shape{}.machine(t)
	f, err := over(t, "cp1", machine, machine).look(run)
	if err != nil {
		t.Fatal(err)
	}
	f.Etcd.Image = "registry.k8s.io/etcd:3.6.5-0"
	f.Live = &Live{Version: "3.6.5", Revision: 100, Members: []Member{{Name: "cp1"}}}
	f.Addresses = []string{"10.0.0.1"}
	return f
}

func (w *world) etcdPod(file ManifestFile) *EtcdPod {
	peer := []string{"https://" + w.name + ":2380"}
	pod := &EtcdPod{
		File: file, Container: "etcd", Name: w.name, Image: file.Manifest.Image("etcd"), DataVolume: "etcd-data",
		DataPath: "/var/lib/etcd", DataDir: "/var/lib/etcd", PeerURLs: peer, Peer: op.Access{Endpoints: peer},
		Access: op.Access{Endpoints: []string{"https://127.0.0.1:2379"}},
	}
	pod.WALDir, _ = file.Manifest.Flag("etcd", "wal-dir")
	return pod
}

// shape is one shape of a control-plane node on which etcd and the API server run; the zero value is kubeadm's own.
type shape struct {
	walDir  string // where the WAL is; empty: with the data
	noData  bool   // the data directory is gone
	prepare func(*sim.Disk)
}

// machine makes such a node. It has a snapshot in /backup.
func (s shape) machine(t *testing.T) *sim.Machine {
	t.Helper()
	d := sim.NewDisk()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	mkdir := func(name string) { must(node.MkdirAll(d, name, node.Attr{Mode: 0o755})) }
	write := func(name, data string) {
		mkdir(path.Dir(name))
		must(d.Create(name, []byte(data), node.Attr{Mode: 0o600}))
	}
	write(testManifestDir+"/etcd.yaml", etcdManifest(s.walDir))
	for _, c := range components()[1:] {
		write(testManifestDir+"/"+c+".yaml", podManifest(c, "", ""))
	}
	write("/backup/snapshot.db", "snapshot")
	mkdir("/var/lib")
	wal := "/var/lib/etcd/member/wal"
	if s.walDir != "" {
		wal = s.walDir
	}
	if !s.noData {
		write("/var/lib/etcd/member/snap/db", "old")
		write(wal+"/0.wal", "old")
	}
	if s.prepare != nil {
		s.prepare(d)
	}
	return sim.NewMachine(d, testManifestDir, "/var/lib/etcd", func() bool { return false })
}

// podManifest is that of a static pod that runs one program, with lines for its command and its volumes.
func podManifest(name, command, volumes string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata:\n  labels:\n    component: %[1]s\n  name: %[1]s\n"+
		"  namespace: kube-system\nspec:\n  containers:\n  - command:\n    - %[1]s\n%[2]s"+
		"    image: registry.k8s.io/%[1]s:3.6.5-0\n    name: %[1]s\n%[3]s", name, command, volumes)
}

// etcdManifest is etcd's; walDir is empty where the WAL is with the data.
func etcdManifest(walDir string) string {
	flags := accessFlagsText() + "    - --data-dir=/var/lib/etcd\n"
	mounts := "    volumeMounts:\n    - mountPath: /var/lib/etcd\n      name: etcd-data\n"
	volumes := "  volumes:\n  - hostPath:\n      path: /var/lib/etcd\n      type: DirectoryOrCreate\n    name: etcd-data\n"
	if walDir != "" {
		flags += "    - --wal-dir=" + walDir + "\n"
		mounts += "    - mountPath: " + path.Dir(walDir) + "\n      name: etcd-wal\n"
		volumes += "  - hostPath:\n      path: " + path.Dir(walDir) + "\n    name: etcd-wal\n"
	}
	return podManifest("etcd", flags, mounts+volumes)
}

// accessFlagsText are the flags by which etcd lets in those with a certificate, and nobody else.
func accessFlagsText() string {
	var b strings.Builder
	for _, flag := range []string{
		"client-cert-auth=true", "peer-client-cert-auth=true", "cert-file=server.crt", "key-file=server.key",
		"trusted-ca-file=ca.crt", "peer-cert-file=peer.crt", "peer-key-file=peer.key", "peer-trusted-ca-file=ca.crt",
	} {
		b.WriteString("    - --" + flag + "\n")
	}
	return b.String()
}

// crashCase is one workflow on one shape of a node: all that the crash matrix needs to know of it.
type crashCase struct {
	name string
	// machine makes the node on which nothing has happened yet.
	machine func(*testing.T) *sim.Machine
	// on says how the run goes and how it ends, on that machine; before is how the machine was before the run.
	on func(w *world, before *sim.Machine) subject
}

// subject is what is stopped, and how what comes out is judged.
type subject struct {
	run     func() error
	outcome func() (string, error) // "old" or "new", or what is wrong
	// votes is a run that may end new although it has gone back: etcd takes no vote away.
	votes bool
}

// fresh makes the node anew.
func (c crashCase) fresh(t *testing.T) (*world, subject) {
	t.Helper()
	machine := c.machine(t)
	w := over(t, "cp1", machine, machine)
	return w, c.on(w, machine)
}

// stoppedAnywhere stops a run at every step, in every way, and settles it by `resume` and in another pass by `rollback`, themselves
// stopped on the way: wholly old or wholly new each time, the invariants of sim hold after every step, and a power loss takes nothing
// back of what is settled.
func stoppedAnywhere(t *testing.T, cases []crashCase) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			count := map[string]int{}
			for _, how := range crashes() {
				for _, recovery := range []string{"resume", "rollback"} {
					c.matrix(t, how, recovery, count)
				}
			}
			t.Logf("%d cases, %d of them ended old and %d new", count["old"]+count["new"], count["old"], count["new"])
			if count["old"] == 0 || count["new"] == 0 {
				t.Error("the matrix proves nothing: all cases ended alike")
			}
		})
	}
}

// matrix stops one run at every step in one way, and recoveries from it, too.
func (c crashCase) matrix(t *testing.T, how crash, recovery string, count map[string]int) {
	for at, call := range c.calls(t) {
		for _, again := range how.times(at+1, call) {
			s := stop{at: at + 1, again: again, how: how, recovery: recovery}
			w, sub := c.fresh(t)
			outcome, err := w.play(sub, s)
			if err != nil {
				t.Fatalf("%s (%s): %v", s, call, err)
			}
			count[outcome]++
		}
	}
}

// calls are the steps of the run that nothing stops.
func (c crashCase) calls(t *testing.T) []string {
	t.Helper()
	w, sub := c.fresh(t)
	if err := sub.run(); err != nil {
		t.Fatalf("the run that nothing stops: %v", err)
	}
	calls := w.machine.Calls
	if outcome, err := sub.outcome(); outcome != "new" || err != nil {
		t.Fatalf("the run that nothing stops ended %s: %v", outcome, err)
	}
	return calls
}

// crash is one way to end a process.
type crash struct {
	name  string
	after func(*world, int)
	// again ends the recovery, soon after its beginning; nil: it is ended anywhere, in any of the ways.
	again func(*world, int)
}

func crashes() []crash {
	power := func(mode sim.CrashMode) func(*world, int) {
		return func(w *world, step int) { w.machine.PowerLoss(mode, rand.New(rand.NewPCG(1, uint64(step)))) }
	}
	kill := func(w *world, _ int) { w.machine.Revive() }
	return []crash{
		{name: "SIGKILL", after: kill},
		{name: "power loss, unsynced dropped", after: power(sim.DropUnsynced)},
		{name: "power loss, unsynced mixed", after: power(sim.MixUnsynced)},
		// A kill leaves unsynced what was under way. The recovery finds it there, as if it were durable.
		{name: "SIGKILL, and a power loss in the recovery", after: kill, again: power(sim.DropUnsynced)},
	}
}

// These are the steps of a recovery behind its first record, which as a rule says that the operation in doubt is done.
// By then what it read in the journal is durable: a power loss takes back nothing that was decided.
const earlyFrom, earlyUntil = 11, 14

// times are the steps at which the recovery is stopped, too. Two of three are, at steps that shift with the first, so that over the
// whole matrix each is met; 0: it is not. Where something was about to be synced, and was not, the power is lost at every step around
// the first record.
func (c crash) times(at int, call string) (steps []int) {
	const most = 149 // no recovery has more steps
	switch {
	case c.again != nil && strings.HasPrefix(call, "sync "):
		for step := earlyFrom; step <= earlyUntil; step++ {
			steps = append(steps, step)
		}
		return steps
	case c.again != nil:
		return []int{earlyFrom + at%(earlyUntil-earlyFrom+1)}
	case at%3 > 0:
		return []int{1 + (at*7)%most}
	}
	return []int{0}
}

func (c crash) afterRecovery(w *world, step int) {
	if c.again != nil {
		c.again(w, step)
		return
	}
	c.after(w, step)
}

// stop is a run that is stopped at one step, and a recovery that may be stopped, too.
type stop struct {
	at, again int // steps; again 0: the recovery is left alone
	how       crash
	recovery  string
}

func (s stop) String() string {
	return fmt.Sprintf("%s at step %d, %s stopped at %d", s.how.name, s.at, s.recovery, s.again)
}

// play stops a run, settles it, and returns what came out.
func (w *world) play(sub subject, s stop) (outcome string, err error) {
	w.machine.CrashAt = s.at
	if err := sub.run(); !w.machine.Crashed() {
		return "", errors.Join(errNotStopped, err)
	}
	s.how.after(w, s.at)
	committed, began := w.committed(), w.began()
	if err := w.settleStopped(s); err != nil {
		return "", err
	}
	if outcome, err = sub.outcome(); err != nil {
		return "", err
	}
	want := "old"
	if committed || s.recovery == "resume" && began || sub.votes && outcome == "new" {
		want = "new"
	}
	if outcome != want {
		return "", fmt.Errorf("it ended %s, and not %s", outcome, want)
	}
	return outcome, w.lasts(outcome, sub.outcome)
}

// settleStopped types the recovery, which is stopped as well, and then once more; and then `resume`: past the commit point nothing else
// is of use.
func (w *world) settleStopped(s stop) error {
	var refused *RefusedError
	for i, command := range []string{s.recovery, s.recovery, "resume"} {
		w.restart()
		if i == 0 {
			w.machine.CrashAt = s.again
		}
		err := w.settle(command)
		if w.machine.Crashed() {
			s.how.afterRecovery(w, s.again)
			continue
		}
		if w.machine.CrashAt = 0; err != nil && !errors.As(err, &refused) {
			return err
		}
	}
	return nil
}

// lasts takes the power away when everything is settled, and with it all that was never synced: it stays as it is, and nothing is
// open again.
func (w *world) lasts(outcome string, verdict func() (string, error)) error {
	w.machine.PowerLoss(sim.DropUnsynced, nil)
	runs, err := journal.List(w.machine.Disk)
	if err != nil {
		return err
	}
	for _, r := range runs {
		if r.State != nil && !r.State.Ended {
			return fmt.Errorf("it was settled, and the run %s is open again after a power loss", r.ID)
		}
	}
	if again, err := verdict(); err != nil || again != outcome {
		return fmt.Errorf("it ended %s, and is %s after a power loss: %w", outcome, again, err)
	}
	return nil
}

// failedAnywhere has every step of a run fail once, as on a full disk: before the commit point everything is taken back by itself; what
// stays open the next command settles.
func failedAnywhere(t *testing.T, cases []crashCase) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for at, call := range c.calls(t) {
				w, sub := c.fresh(t)
				w.machine.FailAt, w.machine.FailWith = at+1, errNoSpace
				err := sub.run()
				if isOpen(err) {
					w.restart()
					if err = w.settle("resume"); isOpen(err) {
						t.Fatalf("step %d (%s) failed once, and the run stays open: %v", at+1, call, err)
					}
				}
				outcome, wrong := sub.outcome()
				voted := sub.votes && outcome == "new"
				if wrong != nil || (err == nil) != (outcome == "new") && !voted {
					t.Fatalf("step %d (%s) failed: it ended %s with %v: %v", at+1, call, outcome, err, wrong)
				}
			}
		})
	}
}

var (
	errNoSpace    = syscall.ENOSPC
	errNotStopped = errors.New("it was not stopped")
)

func isOpen(err error) bool {
	var open *OpenRunError
	return errors.As(err, &open)
}

func isRolledBack(err error) bool {
	var back *RolledBackError
	return errors.As(err, &back)
}

// sought is a journal in which a record was looked for.
type sought struct {
	journal []byte
	at      int // where it is; -1: nowhere
}

// in finds where in a journal such a record begins. It is asked after every step: what was looked
// through already, and is still there, is not looked through again.
func (s *sought) in(now []byte, record string) int {
	from := 0
	if len(s.journal) > 0 && len(now) >= len(s.journal) && &now[0] == &s.journal[0] {
		if s.at >= 0 {
			return s.at
		}
		from = max(0, len(s.journal)-len(record))
	}
	s.journal, s.at = now, bytes.Index(now[from:], []byte(record))
	if s.at >= 0 {
		s.at += from
	}
	return s.at
}
