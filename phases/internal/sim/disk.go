// Package sim is a simulated control-plane node for the crash tests: a file system that forgets what was not synced, a kubelet, a container runtime
// and etcds that behave like the real ones where it matters, and a count of steps at which the world can be stopped.
// Only tests import it.
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

// inode is one file or directory. Names and the directory tree are kept in [tree].
type inode struct {
	dir           bool
	data, durable []byte // nothing within them is ever overwritten, so that they may share their bytes, also with a clone's
	attr          node.Attr
}

// tree is the names: for each directory's inode the names in it.
type tree map[uint64]map[string]uint64

func (t tree) clone() tree {
	c := tree{}
	for ino, names := range t {
		c[ino] = maps.Clone(names)
	}
	return c
}

// change is one metadata operation that is not durable yet. Changes become durable in order, as in the journal of ext4 or XFS: a sync of a
// directory makes everything up to its last change durable, and a crash keeps some prefix of the rest.
type change struct {
	dirs  []uint64
	apply func(tree)
}

const rootInode = 1

// Disk is a simulated file system. It implements [node.FS].
type Disk struct {
	// Step is asked before each changing call, with the words of the call; its error is returned in its place.
	Step func(call string) error
	// NoExchange makes the file system one without RENAME_EXCHANGE.
	NoExchange bool
	// ForgetDirSync makes syncs of directories do nothing: a deliberate fault.
	ForgetDirSync bool
	// Disorderly is a file system that keeps no order beyond what it must: a sync of a directory makes durable what was
	// done in it, with all that came before in the directories that this touches, and nothing else, as Btrfs does.
	Disorderly bool
	// Mounts are mount points: a rename from below one to the outside fails.
	Mounts []string

	now     tree
	saved   tree
	pending []change
	inodes  map[uint64]*inode
	locks   map[uint64]string // inode → holder
	next    uint64
}

// NewDisk makes an empty file system.
func NewDisk() *Disk {
	return &Disk{
		Step: func(string) error { return nil }, now: tree{rootInode: {}}, saved: tree{rootInode: {}},
		inodes: map[uint64]*inode{rootInode: {dir: true, attr: node.Attr{Mode: 0o755}}}, locks: map[uint64]string{}, next: rootInode + 1,
	}
}

// Settle makes everything durable.
func (d *Disk) Settle() {
	d.saved, d.pending = d.now.clone(), nil
	for _, i := range d.inodes {
		i.durable = slices.Clip(i.data)
	}
}

// CrashMode is what a power loss leaves of what was not synced.
type CrashMode int

// The modes.
const (
	DropUnsynced CrashMode = iota
	KeepUnsynced
	MixUnsynced // some prefix of the names' changes, and of each file the old data or the new
)

// PowerLoss forgets what was not synced, and every lock.
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
	for _, ino := range slices.Sorted(maps.Keys(d.inodes)) {
		i := d.inodes[ino]
		if mode == MixUnsynced && random.IntN(2) == 0 {
			i.durable = slices.Clip(i.data)
		}
		i.data = i.durable
	}
	d.locks = map[uint64]string{}
}

// Unlock ends the locks of one holder, as the end of its process does.
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
		next, ok := t[ino][part]
		if !ok {
			return 0, false
		}
		ino = next
	}
	return ino, true
}

// parent returns the inode of the directory that a name is in.
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

func (d *Disk) change(apply func(tree), dirs ...uint64) {
	apply(d.now)
	d.pending = append(d.pending, change{dirs, apply})
}

func (d *Disk) add(op, name string, i *inode) error {
	dir, err := d.parent(op, name)
	if err != nil {
		return err
	}
	base := path.Base(name)
	if _, taken := d.now[dir][base]; taken {
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrExist}
	}
	ino := d.next
	d.next++
	d.inodes[ino] = i
	d.change(func(t tree) {
		t[dir][base] = ino
		if i.dir && t[ino] == nil {
			t[ino] = map[string]uint64{}
		}
	}, dir, ino)
	return nil
}

func (d *Disk) Real(name string) string                  { return name }
func (d *Disk) Resolve(name string) (string, error)      { return path.Clean(name), nil }
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

func (d *Disk) Lstat(name string) (node.Stat, error) {
	ino, i, err := d.must("lstat", name)
	if err != nil {
		return node.Stat{}, err
	}
	st := node.Stat{Mode: i.attr.Mode, Size: int64(len(i.data)), UID: i.attr.UID, GID: i.attr.GID, Ino: ino, Dev: d.mount(name), Mount: d.mount(name), ModTime: time.Unix(0, 0)}
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
	return slices.Sorted(maps.Keys(d.now[ino])), nil
}
