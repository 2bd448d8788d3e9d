package sim

import (
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/etcdpod/etcdpod/manifests"
)

// What the kubelet does, and what must be true, between any two steps. Most steps change nothing
// that this depends on: then it is skipped.

// seen marks which changes of the disk have been seen.
type seen struct{ moves, writes uint64 }

// look returns the current mark.
func (d *Disk) look() *seen { return &seen{d.moves, d.writes} }

// still says whether nothing has changed since.
func (s *seen) still(d *Disk) bool { return s != nil && s.moves == d.moves && s.writes == d.writes }

// tick lets the kubelet do its work: it stops what no longer has a manifest, and starts what has
// one.
func (m *Machine) tick() {
	if !m.kubelet || m.CrashText == "" && !m.KillNew && m.idle.still(m.Disk) {
		return
	}
	idle := m.look()
	names, _ := m.ReadDir(m.ManifestDir)
	names = slices.DeleteFunc(names, func(n string) bool { return strings.HasPrefix(n, ".") })
	for _, name := range names {
		if !m.read(name) {
			idle = nil
		}
	}
	for _, c := range m.containers {
		if c.State != "running" {
			continue
		}
		crashes := m.CrashText != "" && strings.Contains(c.manifest, m.CrashText) || m.KillNew && c.generation == "new"
		stays := slices.Contains(names, c.file) && c.manifest == m.views[c.file].data
		if stays {
			m.begun[c.file] = c.manifest
		}
		if !stays && !m.Deaf || crashes {
			m.end(c)
			idle = nil
		}
	}
	for _, name := range names {
		if !slices.ContainsFunc(m.containers, func(c *container) bool {
			return c.file == name && c.State == "running"
		}) && m.mayStart(name) {
			m.start(name)
			idle = nil
		}
	}
	m.idle = idle
}

// mayStart says whether the kubelet starts a pod from a file: not in place of another one that it
// has not ended.
func (m *Machine) mayStart(file string) bool {
	text := m.views[file].data
	if had, has := m.begun[file]; m.Deaf && has && had != text {
		return false
	}
	m.begun[file] = text
	return true
}

// read lets the kubelet notice what is in a file, perhaps late. It says whether the kubelet already
// knew the contents.
func (m *Machine) read(name string) bool {
	data := m.Peek(path.Join(m.ManifestDir, name))
	v := m.views[name]
	switch {
	case v == nil:
		m.views[name] = &view{data: string(data)}
	case v.data == string(data):
		v.changed = time.Time{}
		return true
	case v.changed.IsZero() && m.Late > 0:
		v.changed = m.now
	case m.now.Sub(v.changed) >= m.Late:
		m.views[name] = &view{data: string(data)}
	}
	return false
}

// parsed caches manifests by their text: the same few are started again and again. What Parse
// returns is never changed.
var parsed sync.Map

// Parse is [manifests.Parse] with a cache.
func Parse(text string) (*manifests.Manifest, error) {
	if pod, known := parsed.Load(text); known {
		return pod.(*manifests.Manifest), nil
	}
	pod, err := manifests.Parse([]byte(text))
	if err == nil {
		parsed.Store(text, pod)
	}
	return pod, err
}

// check checks what must be true of the node after every step.
func (m *Machine) check(call string) {
	etcd, api := m.running("etcd"), m.running("kube-apiserver")
	moves := strings.HasPrefix(call, "exchange ") || strings.HasPrefix(call, "rename ")
	if etcd != nil && moves && strings.Contains(call, "/member") {
		m.violate("%s, while an etcd runs", call)
	}
	if m.Meddled {
		m.acknowledge(etcd, api)
	} else if etcd != nil && api != nil {
		switch committed := m.committed(); {
		case etcd.generation == "new" && !committed:
			m.violate("an API server writes to the new data before the commit point")
		case etcd.generation == "old" && committed:
			m.violate("an API server writes to the old data behind the commit point")
		}
	}
	m.checkMembers()
	before := len(m.Violations)
	if !m.checked.still(m.Disk) {
		m.checkNames()
	}
	if m.oldDB != 0 {
		old := m.inodes[m.oldDB]
		if string(old.data) != m.oldData {
			m.violate("the old data is gone")
		}
		if string(old.durable) != m.oldData {
			m.violate("after a power loss the old data is gone")
		}
	}
	if len(m.Violations) > before {
		m.checked = nil // report it again after each step
	}
}

// checkNames checks what depends on names alone.
func (m *Machine) checkNames() {
	m.checked = m.look()
	names, _ := m.ReadDir(m.ManifestDir)
	for _, name := range names {
		if !strings.HasPrefix(name, ".") && !slices.Contains(m.known, name) {
			m.violate("the kubelet would run %s", name)
		}
	}
	if m.oldDB == 0 {
		return
	}
	if !m.hasOldDB(m.Disk.now) {
		m.violate("the old data has no name any more")
	}
	if !m.hasOldDB(m.saved) {
		m.violate("after a power loss the old data has no name any more")
	}
}

// hasOldDB first looks where it found the database last: few steps move it.
func (m *Machine) hasOldDB(t tree) bool {
	if ino, ok := m.find(t, m.oldAt); ok && ino == m.oldDB {
		return true
	}
	at, ok := t.search(rootInode, m.oldDB)
	for _, c := range m.covered {
		if _, below := t.search(c.ino, m.oldDB); below {
			return true
		}
	}
	m.oldAt = at
	return ok
}
