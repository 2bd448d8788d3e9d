package phases

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/manifests"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
)

// The crash matrix: a restore on a simulated node is stopped at every step, in every way, and settled by `resume` and in another pass by `rollback`,
// themselves stopped on the way. Wholly old or wholly new each time, and the invariants of sim hold after every step.

// scenario is one shape of a node.
type scenario struct {
	name    string
	options RestoreOptions
	prepare func(*sim.Disk)
	walDir  string
	noData  bool
}

func scenarios() []scenario {
	mounts := func(names ...string) func(*sim.Disk) {
		return func(d *sim.Disk) { d.Mounts = names }
	}
	return []scenario{
		{name: "one file system"},
		{name: "manifests on another mount", prepare: mounts("/etc")},
		{name: "no atomic exchange", prepare: func(d *sim.Disk) { d.NoExchange = true }},
		{name: "the data directory is a mount point", prepare: mounts("/var/lib/etcd")},
		{name: "the WAL elsewhere", walDir: "/var/lib/etcd-wal/wal"},
		{name: "the WAL elsewhere, no atomic exchange", walDir: "/var/lib/etcd-wal/wal", prepare: func(d *sim.Disk) { d.NoExchange = true }},
		{name: "the data directory is gone", noData: true},
		{name: "a new data directory", options: RestoreOptions{DataDir: "/var/lib/etcd-new"}},
		{name: "from a data directory", options: RestoreOptions{FromDataDir: "/backup/etcd"}},
	}
}

const testManifestDir = "/etc/kubernetes/manifests"

func podManifest(name, command, volumes string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata:\n  labels:\n    component: %[1]s\n  name: %[1]s\n  namespace: kube-system\nspec:\n  containers:\n  - command:\n    - %[1]s\n%[2]s    image: registry.k8s.io/%[1]s:3.6.5-0\n    name: %[1]s\n%[3]s", name, command, volumes)
}

// accessFlagsText are the flags by which etcd lets in those with a certificate, and nobody else.
func accessFlagsText() string {
	var b strings.Builder
	for _, flag := range []string{"client-cert-auth=true", "peer-client-cert-auth=true", "cert-file=server.crt", "key-file=server.key", "trusted-ca-file=ca.crt", "peer-cert-file=peer.crt", "peer-key-file=peer.key", "peer-trusted-ca-file=ca.crt"} {
		b.WriteString("    - --" + flag + "\n")
	}
	return b.String()
}

func (s scenario) etcdManifest() string {
	flags, mounts, volumes := accessFlagsText()+"    - --data-dir=/var/lib/etcd\n", "    volumeMounts:\n    - mountPath: /var/lib/etcd\n      name: etcd-data\n", "  volumes:\n  - hostPath:\n      path: /var/lib/etcd\n      type: DirectoryOrCreate\n    name: etcd-data\n"
	if s.walDir != "" {
		flags += "    - --wal-dir=" + s.walDir + "\n"
		mounts += "    - mountPath: " + path.Dir(s.walDir) + "\n      name: etcd-wal\n"
		volumes += "  - hostPath:\n      path: " + path.Dir(s.walDir) + "\n    name: etcd-wal\n"
	}
	return podManifest("etcd", flags, mounts+volumes)
}

// world is a simulated node with an etcdpod on it.
type world struct {
	t        *testing.T
	name     string
	scenario scenario
	machine  *sim.Machine
	node     *Node
	first    string // how it looked at first
}

func newWorld(t *testing.T, s scenario) *world {
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
	write(testManifestDir+"/etcd.yaml", s.etcdManifest())
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
	w := &world{t: t, name: "cp1", scenario: s}
	w.machine = sim.NewMachine(d, testManifestDir, "/var/lib/etcd", w.committed)
	w.first = w.machine.Look(journal.Home)
	w.restart()
	return w
}

// restart is a new process of etcdpod on the node.
func (w *world) restart() {
	w.node = &Node{host: w.machine.Host(), etcd: sim.Etcd{M: w.machine}, api: sim.APIServer{M: w.machine}, kubelet: node.KubeletConfig{StaticPodPath: testManifestDir}, name: w.name, command: []string{"etcdpod", "restore"}, emit: func(Event) {}, faults: w.faults()}
}

func (w *world) faults() faults {
	if w.node == nil {
		return faults{}
	}
	return w.node.faults
}

// committed looks for the record itself: it is asked after every step.
func (w *world) committed() bool {
	ids, _ := w.machine.ReadDir(journal.RunsDir)
	if len(ids) == 0 {
		return false
	}
	data, _ := w.machine.ReadFile(path.Join(journal.RunDir(ids[len(ids)-1]), "journal"))
	_, after, found := bytes.Cut(data, []byte(`{"kind":"commit"`))
	return found && bytes.Contains(after, []byte("\n"))
}

// facts observes the simulated node as gather would the real one.
func (w *world) facts(_ context.Context, _ *Node, id string) (*Facts, error) {
	f := &Facts{Run: id, Node: w.name, ManifestDir: testManifestDir, API: op.APIAccess{Kubeconfig: "/etc/kubernetes/admin.conf"}, KnownRevision: 5, notes: map[string]string{}, Snapshot: &SnapshotFacts{Path: "/backup/snapshot.db", Proof: op.Proof{SHA256: sim.Sum([]byte("snapshot")), SizeBytes: 8}}}
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
		m, err := manifests.Parse(data)
		if err != nil {
			return nil, err
		}
		file := ManifestFile{Path: path.Join(testManifestDir, name), Data: data, Attr: node.Attr{Mode: 0o600}, Manifest: m}
		f.Manifests = append(f.Manifests, file)
		if name == "etcd.yaml" {
			f.Etcd = &EtcdPod{File: file, Container: "etcd", Name: w.name, Image: m.Image("etcd"), DataVolume: "etcd-data", DataPath: "/var/lib/etcd", DataDir: "/var/lib/etcd", WALDir: w.scenario.walDir, PeerURLs: []string{"https://" + w.name + ":2380"}, Peer: op.Access{Endpoints: []string{"https://" + w.name + ":2380"}}, Access: op.Access{Endpoints: []string{"https://127.0.0.1:2379"}}}
		}
	}
	f.Data = DataFacts{DirExists: !w.scenario.noData && w.scenario.options.DataDir == "", StageIn: journal.RunDir(id), Free: 1 << 40, RunFree: 1 << 40, Attr: node.Attr{Mode: 0o700}}
	if len(w.machine.Mounts) > 0 && w.machine.Mounts[0] == "/var/lib/etcd" {
		f.Data.StageIn = "/var/lib/etcd/.etcdpod-" + id
	}
	if w.scenario.walDir != "" {
		f.Data.WALStageIn = journal.RunDir(id)
	}
	return f, nil
}

func (w *world) restore() error {
	o := w.scenario.options
	o.StopTimeout = time.Minute
	restore := Restore(o)
	restore.observe = w.facts
	return w.node.Do(context.Background(), restore, func(Plan) error { return nil })
}

func (w *world) settle(command string) error {
	if command == "rollback" {
		return w.node.Rollback(context.Background())
	}
	return w.node.Resume(context.Background())
}

// verdict says whether the node is wholly old or wholly new, and what is wrong otherwise.
func (w *world) verdict() (string, error) {
	look := w.machine.Look(journal.Home)
	if v := w.machine.Violations; len(v) > 0 {
		return "", fmt.Errorf("%s", strings.Join(v, "\n"))
	}
	if look == w.first {
		return "old", nil
	}
	for _, want := range []string{"kubelet true", "runs etcd new", "runs kube-apiserver ", "runs kube-controller-manager ", "runs kube-scheduler "} {
		if !strings.Contains(look, want+"\n") {
			return "", fmt.Errorf("neither old nor new: no %q in\n%s", want, look)
		}
	}
	for _, m := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
		name := testManifestDir + "/" + m + ".yaml"
		now, err := w.machine.ReadFile(name)
		if err != nil {
			return "", err
		}
		if !strings.Contains(w.first, fmt.Sprintf("%q", now)) && !(m == "etcd" && w.scenario.options.DataDir != "" && strings.Contains(string(now), w.scenario.options.DataDir)) {
			return "", fmt.Errorf("neither old nor new: %s was changed", name)
		}
	}
	if strings.Contains(look, "etcdpod-kept") || strings.Contains(look, "manifests/.") {
		return "", fmt.Errorf("something was left in the static-pod directory:\n%s", look)
	}
	return "new", nil
}

// crash is one way to end a process.
type crash struct {
	name  string
	after func(*world, int)
	// again ends the recovery, soon after its beginning; nil: it is ended as the process was, anywhere.
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
const earlyFrom, earlyUntil = 12, 15

// next is the step at which the recovery is stopped, too: two of three are, at steps that shift with the first, so that
// over the whole matrix each is met; 0: it is not.
func (c crash) next(at, of int) int {
	switch {
	case c.again != nil:
		return earlyFrom + at%(earlyUntil-earlyFrom+1)
	case at%3 > 0:
		return 1 + (at*7)%of
	}
	return 0
}

// times is next, for who stops the recovery more than once. Where something was about to be synced, and was not, the power
// is lost at every one of these steps.
func (c crash) times(at int, call string, of int) (steps []int) {
	if c.again == nil || !strings.HasPrefix(call, "sync ") {
		return []int{c.next(at, of)}
	}
	for step := earlyFrom; step <= earlyUntil; step++ {
		steps = append(steps, step)
	}
	return steps
}

func (c crash) afterRecovery(w *world, step int) {
	if c.again != nil {
		c.again(w, step)
		return
	}
	c.after(w, step)
}

// lasts takes the power away when everything is settled, and with it all that was never synced: it stays as it is, and
// nothing is open again.
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
		return fmt.Errorf("it ended %s, and is %s after a power loss: %v", outcome, again, err)
	}
	return nil
}

// case is a restore that is stopped at one step, and a recovery that may be stopped, too.
type stop struct {
	at, again int // steps; again 0: the recovery is left alone
	how       crash
	recovery  string
}

func (s stop) String() string {
	return fmt.Sprintf("%s at step %d, %s stopped at %d", s.how.name, s.at, s.recovery, s.again)
}

// play runs one case and returns what came out; stopped is false when the restore has fewer steps than that.
func (w *world) play(s stop) (outcome string, stopped bool, err error) {
	w.machine.CrashAt = s.at
	err = w.restore()
	if !w.machine.Crashed() {
		return "", false, err
	}
	call := w.machine.Calls[len(w.machine.Calls)-1]
	s.how.after(w, s.at)
	committed := w.committed()
	outcome, err = w.recover(s)
	if err != nil {
		return "", true, fmt.Errorf("stopped at %q: %w", call, err)
	}
	if s.recovery == "rollback" && !committed && outcome != "old" {
		return "", true, fmt.Errorf("stopped at %q: rollback ended with everything new", call)
	}
	if s.recovery == "rollback" && committed && outcome != "new" {
		return "", true, fmt.Errorf("stopped at %q: rolled back past the commit point", call)
	}
	if s.recovery == "resume" && outcome == "old" && w.began() {
		return "", true, fmt.Errorf("stopped at %q: resume ended with everything old", call)
	}
	return outcome, true, nil
}

func (w *world) began() bool {
	runs, _ := journal.List(w.machine.Disk)
	return len(runs) > 0
}

// settleAgain types the recovery, which is stopped as well, and then once more.
func (w *world) settleAgain(s stop) error {
	w.restart()
	w.machine.CrashAt = s.again
	_ = w.settle(s.recovery)
	if w.machine.Crashed() {
		s.how.afterRecovery(w, s.again)
		w.restart()
	}
	w.machine.CrashAt = 0
	return w.settle(s.recovery)
}

func (w *world) recover(s stop) (string, error) {
	err := w.settleAgain(s)
	var refused *RefusedError
	switch {
	case errors.As(err, &refused) && w.committed() && s.recovery == "rollback":
		if err := w.settle("resume"); err != nil {
			var none *RefusedError
			if !errors.As(err, &none) {
				return "", fmt.Errorf("resume past the commit point: %w", err)
			}
		}
	case errors.As(err, &refused): // nothing was open any more
	case err != nil:
		return "", err
	}
	outcome, err := w.verdict()
	if err != nil {
		return "", err
	}
	return outcome, w.lasts(outcome, w.verdict)
}

func TestARestoreStoppedAnywhereEndsWhollyOldOrWhollyNew(t *testing.T) {
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			count := map[string]int{}
			for _, how := range crashes() {
				for _, recovery := range []string{"resume", "rollback"} {
					matrix(t, s, how, recovery, count)
				}
			}
			t.Logf("%d cases, %d of them ended old and %d new", count["old"]+count["new"], count["old"], count["new"])
			if count["old"] == 0 || count["new"] == 0 {
				t.Error("the matrix proves nothing: all cases ended alike")
			}
		})
	}
}

// matrix stops a restore at every step, and recoveries from it, too.
func matrix(t *testing.T, s scenario, how crash, recovery string, count map[string]int) {
	whole := newWorld(t, s)
	if err := whole.restore(); err != nil {
		t.Fatalf("the restore that nothing stops: %v", err)
	}
	for i, call := range whole.machine.Calls {
		for _, again := range how.times(i+1, call, 149) {
			c := stop{at: i + 1, again: again, how: how, recovery: recovery}
			outcome, stopped, err := newWorld(t, s).play(c)
			if err != nil || !stopped {
				t.Fatalf("%s: %v", c, err)
			}
			count[outcome]++
		}
	}
}
