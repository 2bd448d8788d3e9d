package sim

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Clone returns a copy of the machine on which no process of etcdpod runs, as if they had been
// killed. It does not copy the watchers.
func (m *Machine) Clone() *Machine {
	c := &Machine{
		Disk: m.Disk.clone(), ManifestDir: m.ManifestDir, SickEtcd: m.SickEtcd, SickLog: m.SickLog,
		StrayPods: m.StrayPods, Violations: slices.Clone(m.Violations),
		Pairs: m.Pairs, started: m.started, begins: m.begins,
		noKubelet: m.noKubelet, off: m.off, kubelet: m.kubelet, now: m.now, known: m.known, views: map[string]*view{},
		Late: m.Late, oldDB: m.oldDB, oldAt: m.oldAt, oldData: m.oldData, committed: m.committed,
		issued: m.issued, SickText: m.SickText, CrashText: m.CrashText,
		Deaf: m.Deaf, begun: maps.Clone(m.begun),
		ToPull: m.ToPull, ImageTag: m.ImageTag,
		NoImages: m.NoImages, PauseImage: m.PauseImage, Exit: m.Exit, KillNew: m.KillNew,
		DeniedWith: m.DeniedWith, Homeless: m.Homeless,
		Meddled: m.Meddled, Named: m.Named, byHand: m.byHand, byHandAcked: m.byHandAcked,
		byHandSince: m.byHandSince, acked: slices.Clone(m.acked), covered: slices.Clone(m.covered),
	}
	c.idle, c.checked = m.idle, m.checked
	for _, one := range m.containers {
		same := *one
		c.containers = append(c.containers, &same)
	}
	for name, one := range m.views {
		same := *one
		c.views[name] = &same
	}
	if m.Members != nil {
		same := *m.Members
		same.All = slices.Clone(m.Members.All)
		c.Members = &same
	}
	c.Disk.Step = c.step
	c.Unlock(self)
	return c
}

func (d *Disk) clone() *Disk {
	c := *d
	c.reserved = maps.Clone(d.reserved)
	c.now, c.saved, c.pending, c.locks = d.now.clone(), d.saved.clone(), slices.Clone(d.pending), maps.Clone(d.locks)
	c.inodes = make(map[uint64]*inode, len(d.inodes))
	same := make([]inode, 0, len(d.inodes)) // all in one allocation
	for ino, i := range d.inodes {
		same = append(same, *i)
		one := &same[len(same)-1]
		one.data = slices.Clip(i.data)
		c.inodes[ino] = one
	}
	return &c
}

// Peek returns a file's contents, which must not be changed; nil when there is no such file.
func (d *Disk) Peek(name string) []byte {
	if ino, ok := d.find(d.now, name); ok {
		return d.inodes[ino].data
	}
	return nil
}

// CommittedBy sets the function that says whether the run is past its commit point.
func (m *Machine) CommittedBy(committed func() bool) { m.committed = committed }

// Kill kills the process under test from outside. [Machine.Revive] lets another one run.
func (m *Machine) Kill() { m.crashed = true }

// Reboot is a power loss after which no process of etcdpod runs yet: see [Machine.Revive].
func (m *Machine) Reboot(mode CrashMode, random *rand.Rand) {
	m.Disk.PowerLoss(mode, random)
	m.containers, m.idle, m.kubelet, m.crashed = nil, nil, !m.noKubelet, true
	m.forget()
	m.byHand = false
	m.tick()
	m.check("boot")
}

// Serves says which data this node's API server serves: "old", "new" or nothing.
func (m *Machine) Serves() string {
	if etcd := m.running("etcd"); etcd != nil && m.running("kube-apiserver") != nil {
		return etcd.generation
	}
	return ""
}

// EtcdServes says which data an etcd runs on: "old", "new" or nothing.
func (m *Machine) EtcdServes() string {
	if etcd := m.running("etcd"); etcd != nil {
		return etcd.generation
	}
	return ""
}

// Runs names what is running.
func (m *Machine) Runs() string {
	names := make([]string, 0, 4)
	for _, c := range m.containers {
		if c.State == "running" {
			names = append(names, c.Name+" "+c.generation)
		}
	}
	slices.Sort(names)
	return strconv.FormatBool(m.kubelet) + " [" + strings.Join(names, " ") + "]"
}

// Digest sums up everything that a node's future depends on: what is on its disk, now and after a
// power loss, and what is running. content says what counts of a file.
func (m *Machine) Digest(content func(name string, data []byte) (string, []byte)) uint64 {
	h := fnv.New64a()
	fmt.Fprintln(h, m.Runs())
	if m.Members != nil && m.Members.Downgrade != "" {
		fmt.Fprintln(h, m.Members.Downgrade)
	}
	m.digest(h, "/", rootInode, content)
	for _, p := range m.pending {
		fmt.Fprintln(h, len(p))
	}
	return h.Sum64()
}

func (m *Machine) digest(h io.Writer, dir string, ino uint64, content func(string, []byte) (string, []byte)) {
	for _, e := range m.Disk.now[ino] {
		child := e.ino
		full, i := path.Join(dir, e.name), m.inodes[child]
		name, data := content(full, i.data)
		fmt.Fprintln(h, name, i.attr.Mode, child == m.oldDB)
		_, _ = h.Write(data)
		if !i.dir && name != "" && !bytes.Equal(i.data, i.durable) {
			fmt.Fprintln(h, len(i.durable))
		}
		if i.dir {
			m.digest(h, full, child, content)
		}
	}
}

// Off takes the machine out of service for good: nothing runs on it any more.
func (m *Machine) Off() {
	m.containers, m.idle, m.kubelet, m.crashed, m.off = nil, nil, false, true, true
}

// RunsFrom is the manifest that the running container with that name was started from; empty when
// none is running.
func (m *Machine) RunsFrom(name string) string {
	if c := m.running(name); c != nil {
		return c.manifest
	}
	return ""
}
