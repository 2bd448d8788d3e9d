// Package sim is a simulated control-plane node for the crash tests: a file system that forgets
// what was not synced; a kubelet, a container runtime and etcds that behave like the real ones
// where it matters; and a count of steps at which the world can be stopped. Only tests import it.
package sim

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// ErrCrashed is what everything returns once the simulated process is dead.
var ErrCrashed = errors.New("simulated crash")

// inode is one file or directory. [tree] holds the names and the directory tree.
type inode struct {
	dir bool
	// Their bytes are never overwritten, so the two can share them, and so can a clone.
	data, durable []byte
	attr          node.Attr
}

// change is one metadata operation that is not durable yet. Changes become durable in order, as in
// the journal of ext4 or XFS: a sync of a directory makes everything up to its last change durable,
// and a crash keeps some prefix of the rest.
type change []edit

// edit gives a name in a directory to an inode, or removes the name. It is plain data, so that a
// disk can be saved together with what it would still forget.
type edit struct {
	Dir  uint64 `json:"dir"`
	Name string `json:"name"`
	Ino  uint64 `json:"ino,omitempty"`  // 0: the name is removed
	Tree bool   `json:"tree,omitempty"` // the inode is a directory
}

func unnamed(dir uint64, name string) edit { return edit{Dir: dir, Name: name} }

func (d *Disk) named(dir uint64, name string, ino uint64) edit {
	return edit{dir, name, ino, d.inodes[ino].dir}
}

func (c change) apply(t tree) {
	for _, e := range c {
		if e.Ino == 0 {
			t.drop(e.Dir, e.Name)
			continue
		}
		t.put(e.Dir, e.Name, e.Ino)
		if _, known := t[e.Ino]; e.Tree && !known {
			t[e.Ino] = nil
		}
	}
}

// dirs are the directories that the change concerns: those whose names it changes, and one that it
// makes.
func (c change) dirs() (all []uint64) {
	for _, e := range c {
		all = append(all, e.Dir)
	}
	if len(c) == 1 && c[0].Ino != 0 {
		all = append(all, c[0].Ino)
	}
	return all
}

const rootInode = 1

// Disk is a simulated file system. It implements [node.FS].
type Disk struct {
	// Step is called before each changing call, with a description of the call; if it returns an
	// error, the call returns that instead.
	Step func(call string) error
	// NoExchange makes this a file system without RENAME_EXCHANGE.
	NoExchange bool
	// ForgetDirSync makes syncs of directories do nothing: a deliberate fault.
	ForgetDirSync bool
	// Disorderly makes this a file system that keeps no more order than it must, as Btrfs: a sync
	// of a directory makes durable what was done in it, with everything before that in the
	// directories involved, and nothing else.
	Disorderly bool
	// Mounts are mount points: a rename from below one to the outside fails.
	Mounts []string
	// Full is a disk on which nothing can be made or grow, except what has reserved its room;
	// FullBelow, if set, is where.
	Full      bool
	FullBelow string

	reserved map[string]bool // files with room of their own
	now      tree
	saved    tree
	moves    uint64 // counts changes to now and saved: if it is unchanged, so are they
	writes   uint64 // counts the changes to contents of files in the watched directory
	watched  string
	pending  []change
	inodes   map[uint64]*inode
	locks    map[uint64]string // inode → holder
	next     uint64
}

// NewDisk makes an empty file system.
func NewDisk() *Disk {
	return &Disk{
		Step: func(string) error { return nil }, now: tree{rootInode: nil}, saved: tree{rootInode: nil},
		inodes: map[uint64]*inode{rootInode: {dir: true, attr: node.Attr{Mode: 0o755}}},
		locks:  map[uint64]string{}, next: rootInode + 1,
	}
}

// Settle makes everything durable.
func (d *Disk) Settle() {
	d.saved, d.pending = d.now.clone(), nil
	d.moves++
	for _, i := range d.inodes {
		i.durable = slices.Clip(i.data)
	}
}

// CrashMode is what a power loss leaves of what was not synced.
type CrashMode int

// What a power loss leaves.
const (
	DropUnsynced CrashMode = iota
	KeepUnsynced
	MixUnsynced // some prefix of the changes to names, and each file's old or new data
)

// PowerLoss forgets what was not synced, and all locks.
func (d *Disk) PowerLoss(mode CrashMode, random *rand.Rand) {
	keep := 0
	switch mode {
	case KeepUnsynced:
		d.Settle()
	case MixUnsynced:
		keep = random.IntN(len(d.pending) + 1)
	}
	for _, c := range d.pending[:keep] {
		c.apply(d.saved)
	}
	d.now, d.pending = d.saved.clone(), nil
	d.moves++
	d.writes++
	for _, ino := range slices.Sorted(maps.Keys(d.inodes)) {
		i := d.inodes[ino]
		if mode == MixUnsynced && random.IntN(2) == 0 {
			i.durable = slices.Clip(i.data)
		}
		i.data = i.durable
	}
	d.locks = map[uint64]string{}
}

// Unlock releases all locks of one holder, as the end of its process does.
func (d *Disk) Unlock(holder string) {
	maps.DeleteFunc(d.locks, func(_ uint64, h string) bool { return h == holder })
}

func (d *Disk) find(t tree, name string) (uint64, bool) {
	ino := uint64(rootInode)
	for name != "" {
		var part string
		if part, name, _ = strings.Cut(name, "/"); part == "" {
			continue
		}
		next, ok := t.look(ino, part)
		if !ok {
			return 0, false
		}
		ino = next
	}
	return ino, true
}

// parent returns the inode of a name's directory.
func (d *Disk) parent(op, name string) (uint64, error) {
	ino, ok := d.find(d.now, path.Dir(name))
	if !ok || !d.inodes[ino].dir {
		return 0, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return ino, nil
}

func (d *Disk) must(op, name string) (uint64, *inode, error) {
	ino, ok := d.find(d.now, name)
	if !ok {
		return 0, nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return ino, d.inodes[ino], nil
}

func (d *Disk) change(edits ...edit) {
	c := change(edits)
	c.apply(d.now)
	d.moves++
	d.pending = append(d.pending, c)
}

func (d *Disk) add(op, name string, i *inode) error {
	dir, err := d.parent(op, name)
	if err != nil {
		return err
	}
	base := path.Base(name)
	if _, taken := d.now.look(dir, base); taken {
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrExist}
	}
	ino := d.next
	d.next++
	d.inodes[ino] = i
	d.change(d.named(dir, base, ino))
	return nil
}

// Resolve fails as that of a real disk does: there are no links, but the directory must be there.
func (d *Disk) Resolve(name string) (string, error) {
	name = path.Clean(name)
	if _, there := d.find(d.now, path.Dir(name)); !there {
		return "", &fs.PathError{Op: "resolve", Path: name, Err: fs.ErrNotExist}
	}
	return name, nil
}

func (d *Disk) Real(name string) string                  { return name }
func (d *Disk) Free(string) (uint64, error)              { return 1 << 40, nil }
func (d *Disk) FilesystemID(name string) (string, error) { return fmt.Sprint(d.mount(name)), nil }

func (d *Disk) mount(name string) uint64 {
	best := uint64(0)
	for i, m := range d.Mounts {
		if name == m || strings.HasPrefix(name, m+"/") {
			best = uint64(i) + 1
		}
	}
	return best
}

func (d *Disk) Open(name string) (io.ReadCloser, error) {
	data, err := d.ReadFile(name)
	return io.NopCloser(bytes.NewReader(data)), err
}

func (d *Disk) ReadFile(name string) ([]byte, error) {
	_, i, err := d.must("open", name)
	if err != nil {
		return nil, err
	}
	if i.dir {
		return nil, &fs.PathError{Op: "read", Path: name, Err: syscall.EISDIR}
	}
	return bytes.Clone(i.data), nil
}

// ReadPlain is ReadFile: the simulated disk has no links.
func (d *Disk) ReadPlain(name string, _ int64) ([]byte, node.Stat, error) {
	data, err := d.ReadFile(name)
	if err != nil {
		return nil, node.Stat{}, err
	}
	st, err := d.Lstat(name)
	return data, st, err
}

// Hold keeps the name: nobody else moves directories here.
func (d *Disk) Hold(dir string) (*node.Held, error) {
	if _, err := d.ReadDir(dir); err != nil {
		return nil, err
	}
	return &node.Held{Dir: dir, Close: func() error { return nil }}, nil
}

func (d *Disk) Lstat(name string) (node.Stat, error) {
	ino, i, err := d.must("lstat", name)
	if err != nil {
		return node.Stat{}, err
	}
	st := node.Stat{Mode: i.attr.Mode, Size: int64(len(i.data)),
		UID: i.attr.UID, GID: i.attr.GID, Ino: ino, Dev: d.mount(name), Mount: d.mount(name), ModTime: time.Unix(0, 0)}
	if i.dir {
		st.Mode |= fs.ModeDir
	}
	return st, nil
}

func (d *Disk) ReadDir(name string) ([]string, error) {
	ino, i, err := d.must("open", name)
	if err != nil {
		return nil, err
	}
	if !i.dir {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: syscall.ENOTDIR}
	}
	var names []string
	for _, e := range d.now[ino] {
		names = append(names, e.name)
	}
	return names, nil
}

// wrote counts a change of a file's contents.
func (d *Disk) wrote(name string) {
	if path.Dir(name) == d.watched {
		d.writes++
	}
}
