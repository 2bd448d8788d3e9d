package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/etcdpod/etcdpod/manifests"
	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// Untold is the PauseImage of a runtime that does not tell what sandboxes are made from.
const Untold = "untold"

// Machine is a simulated control-plane node. Its kubelet and etcds act between any two steps of the
// etcdpod under test.
type Machine struct {
	*Disk
	ManifestDir string
	// CrashAt is the step at which the process under test dies; 0 is never.
	CrashAt int
	// KubeletStartedAt is the step before which somebody else starts the kubelet; 0 is never.
	KubeletStartedAt int
	// DeniedWith, if set, is the status with which the API server refuses whoever asks, readiness
	// included: 401 or 403.
	DeniedWith int
	// SickEtcd keeps an etcd on new data from ever serving.
	SickEtcd bool
	// SickLog keeps the write-ahead logs from being read.
	SickLog bool
	// StrayPods is how many pods this node's API server shows that no other node's does.
	StrayPods int64
	// Pairs are the certificates that programs read when they start, by program: paths without .crt
	// and .key.
	Pairs map[string][]string
	// Members are the members of the cluster that the node joins, or has joined; nil when there is
	// none.
	Members *Members
	// FailAt is a step that fails with FailWith, as on a full or broken disk.
	FailAt   int
	FailWith error
	// Late is how long the kubelet takes to notice that a manifest has changed.
	Late time.Duration
	// SickText keeps an API server whose manifest contains it from ever becoming ready. One whose
	// manifest contains CrashText exits at once, again and again.
	SickText, CrashText string
	// Homeless is what an etcd's manifest has that listens at an address which the node has no
	// more: it does not start.
	Homeless string
	// NoImages are images that are not on the node, and cannot be pulled: the kubelet cannot start
	// a pod of them. PauseImage is what sandboxes are made from; the runtime may leave it Untold.
	NoImages   []string
	PauseImage string
	// ToPull are images that are not on the node either, and can be pulled: nothing may be started
	// for which the registry would have to be asked first.
	ToPull []string
	// ImageTag is what kubeadm's ClusterConfiguration has as etcd's; empty: there is none.
	ImageTag string
	Exit     node.Exit // how containers ended; zero: with 1
	// Deaf is a kubelet that no API server answers: it ends no pod that it has started and whose
	// manifest has changed or is gone, and starts none in its place.
	Deaf bool
	// KillNew ends an etcd on new data as soon as the kubelet looks at it.
	KillNew bool
	// Before, if set, is called before each step.
	Before func(call string)
	// Meddled is set once somebody else may act on the node: see [Machine.Meddle].
	Meddled bool
	Named   string            // in what its API server writes
	Others  func() []*Machine // all nodes of the cluster, this one too; nil: it is alone

	Steps      int
	Calls      []string // the description of each step
	Violations []string // of the invariants that must hold after every step

	mu         sync.Mutex
	crashed    bool
	kubelet    bool
	containers []*container
	now        time.Time
	known      []string // names that the kubelet may find in ManifestDir
	oldDB      uint64   // the inode of the database that was there in the beginning
	oldAt      string   // where it was last found
	oldData    string
	issued     int  // number of certificates
	started    int  // number of containers, over all boots
	begins     bool // see Begins
	noKubelet  bool
	off        bool // see Off
	committed  func() bool
	views      map[string]*view // what the kubelet has read, by file name
	// The manifest of the pod that this kubelet last started, by file name.
	begun map[string]string

	meddle      func()
	meddleAt    int
	byHand      bool // an API server runs that nobody knows of
	byHandAcked bool
	byHandSince time.Time
	acked       []string // what API servers have acknowledged
	covered     []covered

	// idle is when the kubelet last looked and had nothing to do; nil if it had, or if something
	// other than the disk changed since.
	idle *seen
	// checked is when the names on the disk were last found correct.
	checked *seen
}

// view is what the kubelet knows about one manifest.
type view struct {
	data    string
	changed time.Time // when a change was first noticed; zero: it is up to date
}

type container struct {
	node.Container
	file       string            // in ManifestDir
	member     uint64            // etcd: the inode of its member directory
	generation string            // etcd: the first word in its database
	holds      map[string]string // certificates as they were when it started, by path
	manifest   string            // the text that it was started from
	wal        uint64            // etcd: the inode of its log
	acked      bool              // an API server: it has written
}

// NewMachine makes a node that runs the manifests on the disk. dataDir holds the data that must
// never get lost; committed says whether a run is past its commit point.
func NewMachine(d *Disk, manifestDir, dataDir string, committed func() bool) *Machine {
	m := &Machine{Disk: d, ManifestDir: manifestDir, now: time.Unix(1_700_000_000, 0),
		committed: committed, kubelet: true, views: map[string]*view{}, begun: map[string]string{}}
	m.known, _ = d.ReadDir(manifestDir)
	if ino, i, err := d.must("open", path.Join(dataDir, "member/snap/db")); err == nil {
		m.oldDB, m.oldData = ino, string(i.data)
	}
	d.Settle()
	d.Step, d.watched = m.step, path.Clean(manifestDir)
	m.tick()
	return m
}

// Host is the node as the process under test sees it.
func (m *Machine) Host() *node.Host {
	return &node.Host{FS: m.Disk, Kubelet: kubelet{m}, Runtime: runtime{m}, Processes: processes{m}, Clock: clock{m}}
}

func (m *Machine) step(call string) error {
	if m.crashed {
		return ErrCrashed
	}
	if m.Before != nil {
		if m.Before(call); m.crashed {
			return ErrCrashed
		}
	}
	m.Steps++
	m.Calls = append(m.Calls, call)
	if m.Steps == m.CrashAt {
		m.crashed = true
		return ErrCrashed
	}
	if m.Steps == m.FailAt {
		return m.FailWith
	}
	if m.Steps == m.KubeletStartedAt {
		m.kubelet = true
	}
	if m.Steps == m.meddleAt && m.meddle != nil {
		if m.meddle(); m.crashed {
			return ErrCrashed
		}
	}
	m.tick()
	m.check(call)
	return nil
}

// Crashed says whether the process under test has died.
func (m *Machine) Crashed() bool { return m.crashed }

// Revive lets another process run on the node after the first one was killed.
func (m *Machine) Revive() {
	m.crashed, m.CrashAt, m.FailAt, m.KubeletStartedAt, m.Steps, m.Calls = false, 0, 0, 0, 0, nil
	m.meddle = nil
	m.Unlock(self)
	m.tick()
}

// PowerLoss stops everything, forgets what was not synced, and boots the node.
func (m *Machine) PowerLoss(mode CrashMode, random *rand.Rand) {
	m.Disk.PowerLoss(mode, random)
	m.containers, m.idle, m.byHand = nil, nil, false
	m.forget()
	m.kubelet = !m.noKubelet
	m.Revive()
	m.check("boot")
}

// forget is a kubelet that is started: it rereads all manifests, and knows no pods.
func (m *Machine) forget() { m.views, m.begun = map[string]*view{}, map[string]string{} }

func (m *Machine) violate(format string, args ...any) {
	m.Violations = append(m.Violations, fmt.Sprintf("step %d: ", m.Steps)+fmt.Sprintf(format, args...))
}

func (m *Machine) end(c *container) {
	m.idle = nil
	c.State = "exited"
	m.Unlock(c.ID)
}

func (m *Machine) start(file string) {
	text := m.views[file].data
	pod, err := Parse(text)
	if err != nil {
		m.violate("the kubelet found %s, which is no manifest: %v", file, err)
		return
	}
	if slices.Contains(m.NoImages, m.PauseImage) && m.PauseImage != "" ||
		slices.Contains(m.NoImages, pod.Image(pod.Containers()[0])) {
		return
	}
	if image := pod.Image(pod.Containers()[0]); slices.Contains(m.ToPull, image) {
		m.violate("the kubelet has to start %s, and would pull it first", image)
		return
	}
	c := &container{file: file, manifest: text}
	c.Name, c.Pod, c.Namespace, c.State = pod.Containers()[0], pod.Name()+"-cp1", pod.Namespace(), "running"
	c.PodUID, c.Image = Sum([]byte(text)), pod.Image(pod.Containers()[0])
	for _, old := range m.containers {
		if old.Name == c.Name && old.PodUID == c.PodUID {
			c.Attempt = old.Attempt + 1
		}
	}
	m.started++
	c.CreatedAt = m.now.Add(time.Duration(m.started))
	c.ID = fmt.Sprintf("%s-%d", c.Name, m.started)
	homeless := m.Homeless != "" && strings.Contains(text, m.Homeless)
	if !m.readPairs(c) || c.Name == "etcd" && (homeless || !m.open(c, pod)) {
		return
	}
	m.containers = append(m.containers, c)
}

// open is etcd's start: it locks its database and reads it and the WAL.
func (m *Machine) open(c *container, pod *manifests.Manifest) bool {
	flag, _ := pod.Flag("etcd", "data-dir")
	dir, _ := pod.HostPathOf("etcd", flag)
	if state, _ := pod.Flag("etcd", "initial-cluster-state"); state == "existing" {
		members, _ := pod.Flag("etcd", "initial-cluster")
		if !m.enrol(dir, members) {
			return false
		}
	} else if m.Members != nil && m.Members.Out {
		return false // the others tell it, and it exits
	} else if m.begins {
		m.join(dir, "new member")
	}
	member, _ := m.find(m.Disk.now, path.Join(dir, "member"))
	ino, db, err := m.must("open", path.Join(dir, "member/snap/db"))
	if err != nil {
		// If there was no data from the start, an etcd without data loses nothing.
		if m.oldDB != 0 && !m.Meddled {
			m.violate("an etcd was started on %s, where there is no data: it begins a new cluster", dir)
		}
		return false
	}
	if holder, held := m.locks[ino]; held {
		if m.Meddled { // it waits for the lock
			return false
		}
		m.violate("an etcd was started on %s while %s holds its database", dir, holder)
		return false
	}
	walDir := path.Join(dir, "member/wal")
	if flag, ok := pod.Flag("etcd", "wal-dir"); ok {
		walDir, _ = pod.HostPathOf("etcd", flag)
	}
	c.wal, _ = m.find(m.Disk.now, path.Join(walDir, "0.wal"))
	wal, err := m.ReadFile(path.Join(walDir, "0.wal"))
	if err != nil || string(wal) != string(db.data) {
		m.violate("an etcd was started on %s with the database of %q and the WAL of %q", dir, db.data, wal)
		return false
	}
	m.locks[ino] = c.ID
	c.member = member
	c.generation, _, _ = strings.Cut(string(db.data), " ")
	return true
}

// join gives an etcd its data at its first start. One that joins a cluster gets everything from the
// leader. Empty directories are no data.
func (m *Machine) join(dir, content string) {
	at, ok := m.find(m.Disk.now, dir)
	member, there := m.Disk.now.look(at, "member")
	if there && m.holdsFiles(member) || !ok {
		return
	}
	made := func(i *inode) uint64 {
		i.attr = node.Attr{Mode: 0o700}
		i.durable = slices.Clip(i.data)
		m.inodes[m.next] = i
		m.next++
		return m.next - 1
	}
	member = made(&inode{dir: true})
	snap, wal := made(&inode{dir: true}), made(&inode{dir: true})
	db, log := made(&inode{data: []byte(content)}), made(&inode{data: []byte(content)})
	m.change(
		m.named(at, "member", member), m.named(member, "snap", snap), m.named(member, "wal", wal),
		m.named(snap, "db", db), m.named(wal, "0.wal", log),
	)
	if m.Members == nil {
		return
	}
	// The others count on what it has acknowledged: it has synced that, names and all.
	synced := len(m.pending) - 1
	m.pending[synced].apply(m.saved)
	m.pending = slices.Clip(m.pending[:synced])
}

func (m *Machine) holdsFiles(dir uint64) bool {
	return slices.ContainsFunc(m.Disk.now[dir], func(e entry) bool {
		return !m.inodes[e.ino].dir || m.holdsFiles(e.ino)
	})
}

func (m *Machine) running(name string) *container {
	for _, c := range m.containers {
		if c.Name == name && c.State == "running" {
			return c
		}
	}
	return nil
}

// Look describes the node for comparison: what is running, and every file outside the directories
// in except.
func (m *Machine) Look(except ...string) string {
	m.tick()
	m.check("look")
	var b strings.Builder
	fmt.Fprintf(&b, "kubelet %v\n", m.kubelet)
	var runs []string
	for _, c := range m.containers {
		if c.State == "running" {
			runs = append(runs, fmt.Sprintf("runs %s %s\n", c.Name, c.generation))
		}
	}
	slices.Sort(runs)
	b.WriteString(strings.Join(runs, ""))
	m.list(&b, "/", rootInode, except)
	return b.String()
}

func (m *Machine) list(b *strings.Builder, dir string, ino uint64, except []string) {
	for _, e := range m.Disk.now[ino] {
		full, child := path.Join(dir, e.name), e.ino
		if slices.Contains(except, full) {
			continue
		}
		i := m.inodes[child]
		fmt.Fprintf(b, "%s %v %q\n", full, i.attr, i.data)
		if i.dir {
			m.list(b, full, child, except)
		}
	}
}

// Holding is a file below a directory that holds a text; empty: none does.
func (m *Machine) Holding(dir, text string) string {
	ino, ok := m.Disk.find(m.Disk.now, dir)
	if !ok {
		return ""
	}
	return m.holding(dir, ino, []byte(text))
}

func (m *Machine) holding(dir string, ino uint64, text []byte) string {
	for _, e := range m.Disk.now[ino] {
		full, i := dir+"/"+e.name, m.inodes[e.ino]
		if bytes.Contains(i.data, text) {
			return full
		}
		if i.dir {
			if found := m.holding(full, e.ino, text); found != "" {
				return found
			}
		}
	}
	return ""
}

type kubelet struct{ m *Machine }

func (k kubelet) Running(context.Context) (bool, error) { return k.m.kubelet, nil }

func (k kubelet) Stop(context.Context) error {
	if err := k.m.step("stop the kubelet"); err != nil {
		return err
	}
	k.m.kubelet = false
	return nil
}

func (k kubelet) Start(context.Context) error {
	if err := k.m.step("start the kubelet"); err != nil {
		return err
	}
	k.m.StartKubelet()
	return nil
}

type runtime struct{ m *Machine }

func (r runtime) Containers(context.Context) ([]node.Container, error) {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	if r.m.crashed {
		return nil, ErrCrashed
	}
	var all []node.Container
	for _, c := range r.m.containers {
		all = append(all, c.Container)
	}
	return all, nil
}

func (r runtime) StopContainer(_ context.Context, id string, _ time.Duration) error {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	if err := r.m.step("stop the container " + id); err != nil {
		return err
	}
	for _, c := range r.m.containers {
		if c.ID == id {
			r.m.end(c)
		}
	}
	return nil
}

func (r runtime) RemoveContainer(context.Context, string) error { return nil }

func (r runtime) Image(_ context.Context, name string) (node.Image, error) {
	return node.Image{Present: !slices.Contains(r.m.NoImages, name) && !slices.Contains(r.m.ToPull, name),
		Tags: []string{name}}, nil
}

func (r runtime) Pull(_ context.Context, name string, _ time.Duration, _ func(time.Duration)) error {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	if err := r.m.step("pull the image " + name); err != nil {
		return err
	}
	if slices.Contains(r.m.NoImages, name) {
		return errors.New("manifest unknown")
	}
	r.m.ToPull = slices.DeleteFunc(slices.Clone(r.m.ToPull), func(one string) bool { return one == name })
	return nil
}

func (r runtime) SandboxImage(context.Context) (string, error) {
	switch r.m.PauseImage {
	case "":
		return "pause", nil
	case Untold:
		return "", nil
	}
	return r.m.PauseImage, nil
}

func (r runtime) Exit(_ context.Context, id string) (node.Exit, bool, error) {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	if !slices.ContainsFunc(r.m.containers, func(c *container) bool { return c.ID == id && c.State == "exited" }) {
		return node.Exit{}, false, nil
	}
	exit := r.m.Exit
	if exit == (node.Exit{}) {
		exit = node.Exit{Code: 1, Reason: "Error"}
	}
	return exit, true, nil
}

func (r runtime) LogFile(context.Context, string) (string, error) { return "", nil }

type processes struct{ m *Machine }

func (p processes) Using(_ context.Context, dir string) ([]node.Process, error) {
	member, ok := p.m.find(p.m.Disk.now, path.Join(dir, "member"))
	for _, c := range p.m.containers {
		if ok && c.State == "running" && c.member == member {
			return []node.Process{{PID: 1, Command: "etcd"}}, nil
		}
	}
	return nil, nil
}

type clock struct{ m *Machine }

func (c clock) Now() time.Time { return c.m.now }

func (c clock) Sleep(ctx context.Context, d time.Duration) error {
	if c.m.crashed {
		return ErrCrashed
	}
	c.m.now = c.m.now.Add(d)
	c.m.tick()
	return ctx.Err()
}
