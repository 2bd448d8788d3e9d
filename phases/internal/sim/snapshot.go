package sim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// savedMachine is what is saved of a machine: everything that its future depends on, except the
// process under test, which counts as killed, and what the test has planned for that process.
type savedMachine struct {
	ManifestDir string                `json:"manifestDir"`
	DeniedWith  int                   `json:"deniedWith,omitempty"`
	SickEtcd    bool                  `json:"sickEtcd,omitempty"`
	SickLog     bool                  `json:"sickLog,omitempty"`
	StrayPods   int64                 `json:"strayPods,omitempty"`
	Pairs       map[string][]string   `json:"pairs,omitempty"`
	Members     *Members              `json:"members,omitempty"`
	Late        time.Duration         `json:"late,omitempty"`
	SickText    string                `json:"sickText,omitempty"`
	CrashText   string                `json:"crashText,omitempty"`
	Violations  []string              `json:"violations,omitempty"`
	Kubelet     bool                  `json:"kubelet"`
	NoKubelet   bool                  `json:"noKubelet,omitempty"`
	Containers  []savedContainer      `json:"containers"`
	Views       map[string]savedView  `json:"views"`
	Now         time.Time             `json:"now"`
	Known       []string              `json:"known"`
	OldDB       uint64                `json:"oldDB,omitempty"`
	OldAt       string                `json:"oldAt,omitempty"`
	OldData     string                `json:"oldData,omitempty"`
	Issued      int                   `json:"issued,omitempty"`
	Started     int                   `json:"started"`
	Begins      bool                  `json:"begins,omitempty"`
	NoExchange  bool                  `json:"noExchange,omitempty"`
	NoDirSync   bool                  `json:"forgetDirSync,omitempty"`
	Disorderly  bool                  `json:"disorderly,omitempty"`
	Mounts      []string              `json:"mounts,omitempty"`
	Tree        tree                  `json:"tree"`
	Durable     tree                  `json:"durable,omitempty"` // absent: the same as the tree
	Pending     []change              `json:"pending,omitempty"`
	Inodes      map[uint64]savedInode `json:"inodes"`
	Locks       map[uint64]string     `json:"locks,omitempty"`
	Next        uint64                `json:"next"`
}

type savedInode struct {
	Dir     bool      `json:"dir,omitempty"`
	Attr    node.Attr `json:"attr"`
	Data    string    `json:"data,omitempty"`
	Durable *string   `json:"durable,omitempty"` // absent: the same as the data
}

type savedContainer struct {
	node.Container
	File       string            `json:"file"`
	Member     uint64            `json:"member,omitempty"`
	Generation string            `json:"generation,omitempty"`
	Holds      map[string]string `json:"holds,omitempty"`
	Manifest   string            `json:"manifest"`
}

type savedView struct {
	Data    string    `json:"data"`
	Changed time.Time `json:"changed,omitzero"`
}

// Save serializes the machine as it is now, as if the process under test had just been killed. See
// [LoadMachine].
func (m *Machine) Save() ([]byte, error) {
	s := savedMachine{
		ManifestDir: m.ManifestDir, DeniedWith: m.DeniedWith,
		SickEtcd: m.SickEtcd, SickLog: m.SickLog, StrayPods: m.StrayPods, Pairs: m.Pairs, Members: m.Members,
		Late: m.Late, SickText: m.SickText, CrashText: m.CrashText, Violations: m.Violations,
		Kubelet: m.kubelet, NoKubelet: m.noKubelet, Views: map[string]savedView{}, Now: m.now.UTC(), Known: m.known,
		OldDB: m.oldDB, OldAt: m.oldAt, OldData: m.oldData, Issued: m.issued, Started: m.started, Begins: m.begins,
		NoExchange: m.NoExchange, NoDirSync: m.ForgetDirSync, Disorderly: m.Disorderly, Mounts: m.Mounts,
		Tree: m.Disk.now, Pending: m.pending, Inodes: map[uint64]savedInode{}, Locks: maps.Clone(m.locks), Next: m.next,
	}
	maps.DeleteFunc(s.Locks, func(_ uint64, holder string) bool { return holder == self })
	if !maps.EqualFunc(m.Disk.now, m.saved, slices.Equal[[]entry]) {
		s.Durable = m.saved
	}
	for _, c := range m.containers {
		one := savedContainer{c.Container, c.file, c.member, c.generation, c.holds, c.manifest}
		one.CreatedAt = one.CreatedAt.UTC()
		s.Containers = append(s.Containers, one)
	}
	for name, v := range m.views {
		s.Views[name] = savedView{v.data, v.changed}
	}
	for ino, i := range m.inodes {
		if !utf8.Valid(i.data) || !utf8.Valid(i.durable) {
			return nil, fmt.Errorf("cannot save the inode %d: what it holds is no text", ino)
		}
		one := savedInode{Dir: i.dir, Attr: i.attr, Data: string(i.data)}
		if durable := string(i.durable); durable != one.Data {
			one.Durable = &durable
		}
		s.Inodes[ino] = one
	}
	return json.Marshal(s)
}

// LoadMachine restores a saved machine, on which no process of etcdpod runs. Its watchers are not
// saved: see [Machine.CommittedBy] and [Machine.Before]. A field that this version does not know is
// an error: a machine without it would not be the one that was saved.
func LoadMachine(saved []byte) (*Machine, error) {
	var s savedMachine
	in := json.NewDecoder(bytes.NewReader(saved))
	in.DisallowUnknownFields()
	if err := in.Decode(&s); err != nil {
		return nil, fmt.Errorf("cannot load a machine: %w", err)
	}
	m := &Machine{
		Disk: s.disk(), ManifestDir: s.ManifestDir, DeniedWith: s.DeniedWith,
		SickEtcd: s.SickEtcd, SickLog: s.SickLog, StrayPods: s.StrayPods, Pairs: s.Pairs,
		Members: s.Members, Late: s.Late, SickText: s.SickText, CrashText: s.CrashText, Violations: s.Violations,
		kubelet: s.Kubelet, noKubelet: s.NoKubelet, views: map[string]*view{}, begun: map[string]string{},
		now: s.Now, known: s.Known,
		oldDB: s.OldDB, oldAt: s.OldAt, oldData: s.OldData, issued: s.Issued, started: s.Started, begins: s.Begins,
		committed: func() bool { return false },
	}
	for _, c := range s.Containers {
		m.containers = append(m.containers, &container{c.Container,
			c.File, c.Member, c.Generation, c.Holds, c.Manifest, 0, false})
	}
	for name, v := range s.Views {
		m.views[name] = &view{v.Data, v.Changed}
	}
	m.Step = m.step
	return m, nil
}

func (s *savedMachine) disk() *Disk {
	d := &Disk{
		NoExchange: s.NoExchange, ForgetDirSync: s.NoDirSync,
		Disorderly: s.Disorderly, Mounts: s.Mounts, now: s.Tree, saved: s.Durable,
		pending: s.Pending, inodes: map[uint64]*inode{}, locks: s.Locks, next: s.Next,
	}
	if d.saved == nil {
		d.saved = d.now.clone()
	}
	if d.locks == nil {
		d.locks = map[uint64]string{}
	}
	for ino, i := range s.Inodes {
		one := &inode{dir: i.Dir, attr: i.Attr, data: []byte(i.Data)}
		one.durable = slices.Clip(one.data)
		if i.Durable != nil {
			one.durable = []byte(*i.Durable)
		}
		d.inodes[ino] = one
	}
	return d
}
