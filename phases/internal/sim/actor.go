package sim

import (
	"bytes"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// Somebody else on the node: a person, configuration management, a mount unit. What they do is done
// between two steps of the etcdpod under test, fails never, and is durable at once. From then on
// API servers take a while to serve, and what they acknowledge is written to the data.

// Meddle lets somebody else act before a step of the process under test.
func (m *Machine) Meddle(at int, act func()) {
	m.Meddled, m.meddleAt, m.meddle = true, at, act
}

// Aside does something that is no step of the process under test.
func (m *Machine) Aside(act func()) {
	step, full := m.Step, m.Full
	m.Step, m.Full = func(string) error { return nil }, false
	act()
	m.Step, m.Full = step, full
	m.idle, m.checked = nil, nil
}

// apiBoot is how long an API server takes from its start until it serves.
const apiBoot = 2 * time.Second

// Wait lets time pass in which no etcdpod looks at the node.
func (m *Machine) Wait(d time.Duration) {
	m.tick()
	m.now = m.now.Add(d)
	m.tick()
	m.check("wait")
}

// Write writes a file as somebody else does, whether it is there or not.
func (m *Machine) Write(name, text string) {
	m.Aside(func() {
		if ino, there := m.find(m.Disk.now, name); there {
			i := m.inodes[ino]
			i.data, i.durable = []byte(text), []byte(text)
			m.wrote(name)
			return
		}
		_ = m.Create(name, []byte(text), node.Attr{Mode: 0o600})
		m.settleName(name)
	})
}

// TakeAway removes a file.
func (m *Machine) TakeAway(name string) {
	m.Aside(func() { _ = m.Disk.Remove(name); m.settleName(name) })
}

// settleName makes what was done to a name durable.
func (m *Machine) settleName(name string) {
	if ino, there := m.find(m.Disk.now, name); there && !m.inodes[ino].dir {
		m.inodes[ino].durable = slices.Clip(m.inodes[ino].data)
	}
	_ = m.Disk.Sync(path.Dir(name))
}

// StartKubelet starts it as a person does; StopKubelet stops it.
func (m *Machine) StartKubelet() {
	if !m.kubelet {
		m.forget()
		m.idle = nil
	}
	m.kubelet = true
	m.tick()
}

// StopKubelet stops it as a person does.
func (m *Machine) StopKubelet() { m.kubelet = false }

// KubeletRuns says whether it runs.
func (m *Machine) KubeletRuns() bool { return m.kubelet }

// StartByHand starts an API server that neither the kubelet nor the container runtime knows of;
// StopByHand ends it.
func (m *Machine) StartByHand() { m.byHand, m.byHandSince = true, m.now }

// StopByHand ends it.
func (m *Machine) StopByHand() { m.byHand = false }

// Swap exchanges two directories, as a person does with three times mv.
func (m *Machine) Swap(a, b string) {
	m.Aside(func() {
		_ = m.Disk.Exchange(a, b)
		m.settleName(a)
		m.settleName(b)
	})
}

// MountOver mounts another disk over a directory, with these files in it. What was there is hidden.
func (m *Machine) MountOver(dir string, files map[string]string) {
	m.Aside(func() {
		ino, there := m.find(m.Disk.now, dir)
		parent, _ := m.find(m.Disk.now, path.Dir(dir))
		if !there {
			return
		}
		root := m.next
		m.next++
		m.inodes[root] = &inode{dir: true, attr: m.inodes[ino].attr}
		m.covered = append(m.covered, covered{dir, ino, parent, path.Base(dir)})
		for _, t := range []tree{m.Disk.now, m.saved} {
			t.put(parent, path.Base(dir), root)
			t[root] = nil
		}
		m.moves++
		m.Mounts = append(slices.Clone(m.Mounts), dir)
		for _, name := range slices.Sorted(maps.Keys(files)) {
			_ = node.MkdirAll(m.Disk, path.Dir(name), node.Attr{Mode: 0o700})
			_ = m.Create(name, []byte(files[name]), node.Attr{Mode: 0o600})
			m.settleName(name)
		}
		m.settlePending()
	})
}

// Unmount takes the disk away that was mounted last, and returns what it holds.
func (m *Machine) Unmount() (held map[string]string) {
	held = map[string]string{}
	if len(m.covered) == 0 {
		return held
	}
	m.Aside(func() {
		c := m.covered[len(m.covered)-1]
		m.covered = m.covered[:len(m.covered)-1]
		root, _ := m.find(m.Disk.now, c.dir)
		m.gather(held, c.dir, root)
		m.settlePending()
		for _, t := range []tree{m.Disk.now, m.saved} {
			t.put(c.parent, c.name, c.ino)
		}
		m.moves++
		m.Mounts = slices.Clone(m.Mounts)
		if i := slices.Index(m.Mounts, c.dir); i >= 0 {
			m.Mounts = slices.Delete(m.Mounts, i, i+1)
		}
	})
	return held
}

func (m *Machine) settlePending() {
	for _, c := range m.pending {
		c.apply(m.saved)
	}
	m.pending = nil
}

// gather reads all files below a directory.
func (m *Machine) gather(all map[string]string, dir string, ino uint64) {
	for _, e := range m.Disk.now[ino] {
		name := path.Join(dir, e.name)
		if i := m.inodes[e.ino]; i.dir {
			m.gather(all, name, e.ino)
		} else {
			all[name] = string(i.data)
		}
	}
}

// Holds says where files are whose text contains something.
func (m *Machine) Holds(text string) (names []string) {
	all := map[string]string{}
	m.gather(all, "/", rootInode)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if strings.Contains(all[name], text) {
			names = append(names, name)
		}
	}
	return names
}

// OldMember is the directory that now holds the data from before; empty when that is hidden.
func (m *Machine) OldMember() string {
	at, ok := m.Disk.now.search(rootInode, m.oldDB)
	if !ok {
		return ""
	}
	return "/" + path.Dir(path.Dir(at))
}

// covered is a directory under a mount.
type covered struct {
	dir         string
	ino, parent uint64
	name        string
}

// noRoom is what a full disk answers to whoever wants room that was not reserved.
func (d *Disk) noRoom(name string) error {
	if !d.Full || d.reserved[name] || d.FullBelow != "" && !strings.HasPrefix(name, d.FullBelow) {
		return nil
	}
	return syscall.ENOSPC
}

// Acked are the writes that API servers have acknowledged, each as it stands in the data.
func (m *Machine) Acked() []string { return slices.Clone(m.acked) }

// acknowledge lets API servers that have come up write, once each, to the data of all members.
func (m *Machine) acknowledge(etcd, api *container) {
	// What a member writes that has joined, the others hold.
	if etcd == nil || etcd.generation != "new" || m.Members != nil {
		return
	}
	byContainer := api != nil && !api.acked && m.now.Sub(api.CreatedAt) >= apiBoot
	byHand := m.byHand && !m.byHandAcked && m.now.Sub(m.byHandSince) >= apiBoot
	if !byContainer && !byHand {
		return
	}
	all := []*Machine{m}
	if m.Others != nil {
		all = m.Others()
	}
	var running []*Machine
	for _, one := range all {
		if c := one.running("etcd"); c != nil && c.generation == "new" {
			running = append(running, one)
		}
	}
	if 2*len(running) <= len(all) {
		return
	}
	if byContainer {
		api.acked = true
	}
	m.byHandAcked = m.byHandAcked || byHand
	write := fmt.Sprintf("\nwrite %d of %s", len(m.acked)+1, m.Named)
	m.acked = append(m.acked, write)
	for _, one := range running {
		one.replicate(one.running("etcd"), write)
	}
}

// replicate adds a write to an etcd's database and log; etcd syncs its log before it answers.
func (m *Machine) replicate(etcd *container, write string) {
	snap, _ := m.Disk.now.look(etcd.member, "snap")
	db, _ := m.Disk.now.look(snap, "db")
	for _, ino := range []uint64{db, etcd.wal} {
		if i := m.inodes[ino]; i != nil {
			i.data = append(bytes.Clone(i.data), write...)
			i.durable = i.data
		}
	}
}

// beginning is a database without what was written to it since it was made.
func beginning(data []byte) []byte {
	first, _, _ := bytes.Cut(data, []byte("\n"))
	return first
}

// EtcdData is what the running etcd holds.
func (m *Machine) EtcdData() string {
	c := m.running("etcd")
	if c == nil {
		return ""
	}
	snap, _ := m.Disk.now.look(c.member, "snap")
	db, _ := m.Disk.now.look(snap, "db")
	if i := m.inodes[db]; i != nil {
		return string(i.data)
	}
	return ""
}

// EndPods ends all that the kubelet has started, as a person does who has stopped it.
func (m *Machine) EndPods() {
	for _, c := range m.containers {
		if c.State == "running" {
			m.end(c)
		}
	}
}

// HalfExchanged says whether a database lies with the log of another: that is so between two
// renames of an exchange.
func (m *Machine) HalfExchanged(db, log string) bool {
	return !bytes.Equal(m.Peek(db), m.Peek(log))
}
