package crashtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/phases/together"
)

// TestPKI is where a simulated node has its certificates. Simulated programs read them once, when
// they start, and do not start if certificate and key do not match.
const TestPKI = "/etc/kubernetes/pki/"

func init() {
	journal.Remember()
	// Little lives long here, and much is made: collecting it takes a fifth of the time.
	debug.SetGCPercent(400)
}

// Node is a simulated node with an etcdpod on it.
type Node struct {
	T       *testing.T
	Name    string
	Machine *sim.Machine
	Process *together.Node // the running process of etcdpod
	First   string         // how the machine looked before the run, without etcdpod's own directory
	commit  Sought

	interrupted context.Context // of the commands that are typed; nil: nothing interrupts them
}

// Context is that of a command that is typed on the node.
func (w *Node) Context() context.Context {
	if w.interrupted == nil {
		return context.Background()
	}
	return w.interrupted
}

// TestManifestDir is the static-pod directory of a simulated node.
const TestManifestDir = "/etc/kubernetes/manifests"

// Over puts an etcdpod on a machine; before is how the machine was before the run, if there is one
// already.
func Over(t *testing.T, name string, machine, before *sim.Machine) *Node {
	t.Helper()
	w := &Node{T: t, Name: name, Machine: machine, First: before.Look(journal.Home)}
	machine.CommittedBy(func() bool { return false })
	w.Restart()
	return w
}

// Restart starts a new process of etcdpod on the node.
func (w *Node) Restart() {
	made := engine.Mistakes{}
	if w.Process != nil {
		made = w.Process.Faults
	}
	w.Process = together.NewNode(engine.Parts{
		Host: w.Machine.Host(), Etcd: sim.Etcd{M: w.Machine}, API: sim.APIServer{M: w.Machine},
		Certificates: sim.Certificates{M: w.Machine}, Involved: observe.InvolvedText,
		Command: []string{"etcdpod"}, Emit: func(engine.Event) {},
	}, observe.Node{Config: node.KubeletConfig{StaticPodPath: TestManifestDir}, Name: w.Name})
	w.Process.Faults = made
}

// Do carries out a workflow without asking.
func (w *Node) Do(work engine.Work) error {
	return w.Process.Do(w.Context(), work, func(engine.Plan) error { return nil })
}

// Settle types one of the commands that end an open run.
func (w *Node) Settle(command string) error {
	if command == "rollback" {
		return w.Process.Rollback(w.Context())
	}
	return w.Process.Resume(w.Context())
}

// Committed searches the journal's text for the record, because it is asked after every step.
func (w *Node) Committed() bool {
	ids, _ := w.Machine.ReadDir(journal.RunsDir)
	if len(ids) == 0 {
		return false
	}
	data := w.Machine.Peek(path.Join(journal.RunDir(ids[len(ids)-1]), journal.Name))
	at := w.commit.In(data, `{"kind":"commit"`)
	return at >= 0 && bytes.IndexByte(data[at:], '\n') >= 0
}

// Began says whether there is a run.
func (w *Node) Began() bool {
	runs, _ := journal.List(w.Machine.Disk)
	return len(runs) > 0
}

// Violated says what went wrong at any step until now; nil if nothing did.
func (w *Node) Violated() error {
	if v := w.Machine.Violations; len(v) > 0 {
		return errors.New(strings.Join(v, "\n"))
	}
	return nil
}

// Ended returns how the machine looks, without journals, or else what went wrong until now.
func (w *Node) Ended() (string, error) {
	look := w.Machine.Look(journal.Home) // the kubelet notices, and may start what must not run
	return look, w.Violated()
}

// noKeyLeft checks that no key is in the folder of an ended run, or in any journal.
func (w *Node) noKeyLeft() error {
	if file := w.Machine.Holding(journal.Home, "key new"); file != "" {
		return fmt.Errorf("a key lies about: %s is %q", file, w.Machine.Peek(file))
	}
	return nil
}

// Observe observes what every workflow does.
func (w *Node) Observe(id string) (*observe.Facts, error) {
	f := &observe.Facts{
		Run: id, Node: w.Name, ManifestDir: TestManifestDir, Notes: map[string]string{},
		API: op.APIAccess{Kubeconfig: "/etc/kubernetes/admin.conf"},
	}
	names, err := w.Machine.ReadDir(TestManifestDir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if regular, err := node.IsRegular(w.Machine.Disk, path.Join(TestManifestDir, name)); err != nil || !regular {
			continue
		}
		data, err := w.Machine.ReadFile(path.Join(TestManifestDir, name))
		if err != nil {
			return nil, err
		}
		m, err := sim.Parse(string(data))
		if err != nil {
			return nil, err
		}
		file := observe.ManifestFile{Path: path.Join(TestManifestDir, name),
			Data: data, Attr: node.Attr{Mode: 0o600}, Manifest: m}
		f.Manifests = append(f.Manifests, file)
		if name == "etcd.yaml" {
			f.Etcd = w.etcdPod(file)
		}
	}
	w.Process.Look.ObserveStarts(context.Background(), f)
	return f, nil
}

// SeenFacts are what every workflow observes on a healthy node, for a table's rows to change.
func SeenFacts(t *testing.T, run string) *observe.Facts {
	t.Helper()
	machine := Shape{}.Machine(t)
	f, err := Alone(t, machine).Observe(run)
	if err != nil {
		t.Fatal(err)
	}
	f.Etcd.Image = "registry.k8s.io/etcd:3.6.5-0"
	f.Live = &observe.Live{Version: "3.6.5", Revision: 100, Members: []observe.Member{{Name: "cp1"}}}
	f.Addresses = []string{"10.0.0.1"}
	return f
}

func (w *Node) etcdPod(file observe.ManifestFile) *observe.EtcdPod {
	peer := []string{"https://" + w.Name + ":2380"}
	pod := &observe.EtcdPod{
		File: file, Container: "etcd", Name: w.Name, Image: file.Manifest.Image("etcd"), DataVolume: "etcd-data",
		DataPath: "/var/lib/etcd", DataDir: "/var/lib/etcd", PeerURLs: peer, Peer: op.Access{Endpoints: peer},
		Access: op.Access{Endpoints: []string{"https://127.0.0.1:2379"}},
	}
	pod.WALDir, _ = file.Manifest.Flag("etcd", "wal-dir")
	return pod
}

// Shape is one shape of a control-plane node that runs etcd and the API server; the zero value is
// kubeadm's.
type Shape struct {
	WalDir  string // where the WAL is; empty: with the data
	NoData  bool   // the data directory is gone
	Prepare func(*sim.Disk)
}

// Machine makes such a node. It has a snapshot in /backup.
func (s Shape) Machine(t *testing.T) *sim.Machine {
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
	write(TestManifestDir+"/etcd.yaml", EtcdManifest(s.WalDir))
	for _, c := range observe.Components()[1:] {
		write(TestManifestDir+"/"+c+".yaml", PodManifest(c, "", ""))
	}
	write("/backup/snapshot.db", "snapshot")
	mkdir("/var/lib")
	wal := "/var/lib/etcd/member/wal"
	if s.WalDir != "" {
		wal = s.WalDir
	}
	if !s.NoData {
		write("/var/lib/etcd/member/snap/db", "old")
		write(wal+"/0.wal", "old")
	}
	if s.Prepare != nil {
		s.Prepare(d)
	}
	return sim.NewMachine(d, TestManifestDir, "/var/lib/etcd", func() bool { return false })
}

// PodManifest is the manifest of a static pod that runs one program, with lines for its command and
// its volumes.
func PodManifest(name, command, volumes string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata:\n  labels:\n    component: %[1]s\n  name: %[1]s\n"+
		"  namespace: kube-system\nspec:\n  containers:\n  - command:\n    - %[1]s\n%[2]s"+
		"    image: registry.k8s.io/%[1]s:3.6.5-0\n    name: %[1]s\n%[3]s", name, command, volumes)
}

// EtcdManifest is etcd's manifest; walDir is empty when the WAL is with the data.
func EtcdManifest(walDir string) string {
	flags := accessFlagsText() + "    - --data-dir=/var/lib/etcd\n"
	mounts := "    volumeMounts:\n    - mountPath: /var/lib/etcd\n      name: etcd-data\n"
	volumes := "  volumes:\n  - hostPath:\n      path: /var/lib/etcd\n" +
		"      type: DirectoryOrCreate\n    name: etcd-data\n"
	if walDir != "" {
		flags += "    - --wal-dir=" + walDir + "\n"
		mounts += "    - mountPath: " + path.Dir(walDir) + "\n      name: etcd-wal\n"
		volumes += "  - hostPath:\n      path: " + path.Dir(walDir) + "\n    name: etcd-wal\n"
	}
	return PodManifest("etcd", flags, mounts+volumes)
}

// accessFlagsText are the flags with which etcd lets in only clients and peers that have a
// certificate.
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

// Sought is a journal that was searched for a record.
type Sought struct {
	journal []byte
	at      int // where the record is; -1: nowhere
}

// In finds where such a record begins in a journal. It is asked after every step, so it does not
// search again what it has searched before.
func (s *Sought) In(now []byte, record string) int {
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
