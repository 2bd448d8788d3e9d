package sim

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"syscall"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// The calls that change something. The world can be stopped at each of their steps.

func (d *Disk) Create(name string, data []byte, attr node.Attr) error {
	if err := d.Step("create " + name); err != nil {
		return err
	}
	if err := d.noRoom(name); err != nil && len(data) > 0 {
		return err
	}
	i := &inode{attr: attr}
	if err := d.add("create", name, i); err != nil {
		return err
	}
	// The name exists before the data does: two steps.
	if err := d.Step("write " + name); err != nil {
		// The real one leaves no half-written file.
		if dir, gone := d.parent("create", name); gone == nil && !errors.Is(err, ErrCrashed) {
			d.change(unnamed(dir, path.Base(name)))
		}
		return err
	}
	i.data = bytes.Clone(data)
	d.wrote(name)
	return nil
}

func (d *Disk) Append(name string, data []byte) error {
	if err := d.Step("append " + name); err != nil {
		return err
	}
	if err := d.noRoom(name); err != nil {
		return err
	}
	if _, ok := d.find(d.now, name); !ok {
		if err := d.add("append", name, &inode{attr: node.Attr{Mode: 0o600}}); err != nil {
			return err
		}
	}
	_, i, err := d.must("append", name)
	if err != nil {
		return err
	}
	half := len(data) / 2
	i.data = append(i.data, data[:half]...)
	d.wrote(name)
	if err := d.Step("append the rest to " + name); err != nil {
		return err
	}
	i.data = append(i.data, data[half:]...)
	d.wrote(name)
	return nil
}

func (d *Disk) Allocate(name string, _ int64) error {
	if err := d.Step("allocate " + name); err != nil {
		return err
	}
	if err := d.noRoom(name); err != nil {
		return err
	}
	if d.reserved == nil {
		d.reserved = map[string]bool{}
	}
	d.reserved[name] = true
	if _, ok := d.find(d.now, name); ok {
		return nil
	}
	return d.add("allocate", name, &inode{attr: node.Attr{Mode: 0o600}})
}

func (d *Disk) Truncate(name string, size int64) error {
	if err := d.Step("truncate " + name); err != nil {
		return err
	}
	_, i, err := d.must("truncate", name)
	if err != nil {
		return err
	}
	if int64(len(i.data)) > size {
		i.data = slices.Clip(i.data[:size])
		d.wrote(name)
	}
	return nil
}

func (d *Disk) Mkdir(name string, attr node.Attr) error {
	if err := d.Step("mkdir " + name); err != nil {
		return err
	}
	if err := d.noRoom(name); err != nil {
		return err
	}
	return d.add("mkdir", name, &inode{dir: true, attr: attr})
}

func (d *Disk) SetAttr(name string, attr node.Attr) error {
	if err := d.Step("set attributes of " + name); err != nil {
		return err
	}
	_, i, err := d.must("chmod", name)
	if err == nil {
		i.attr = attr
	}
	return err
}

func (d *Disk) Rename(from, to string) error {
	if err := d.Step("rename " + from + " to " + to); err != nil {
		return err
	}
	if _, taken := d.find(d.now, to); taken {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: fs.ErrExist}
	}
	return d.move(from, to)
}

func (d *Disk) Replace(from, to string) error {
	if err := d.Step("rename " + from + " over " + to); err != nil {
		return err
	}
	return d.move(from, to)
}

func (d *Disk) move(from, to string) error {
	ino, _, err := d.must("rename", from)
	if err != nil {
		return err
	}
	a, b, err := d.parents(from, to)
	if err != nil {
		return err
	}
	d.change(unnamed(a, path.Base(from)), d.named(b, path.Base(to), ino))
	return nil
}

// parents returns the directories of two names, which must be on one mount; a mount point itself
// cannot be renamed.
func (d *Disk) parents(from, to string) (a, b uint64, err error) {
	if a, err = d.parent("rename", from); err != nil {
		return 0, 0, err
	}
	if b, err = d.parent("rename", to); err != nil {
		return 0, 0, err
	}
	switch {
	case d.mount(path.Dir(from)) != d.mount(path.Dir(to)):
		err = &os.LinkError{Op: "rename", Old: from, New: to, Err: syscall.EXDEV}
	case slices.Contains(d.Mounts, from) || slices.Contains(d.Mounts, to):
		err = &os.LinkError{Op: "rename", Old: from, New: to, Err: syscall.EBUSY}
	}
	return a, b, err
}

func (d *Disk) Exchange(x, y string) error {
	if err := d.Step("exchange " + x + " and " + y); err != nil {
		return err
	}
	if d.NoExchange {
		return node.ErrExchangeUnsupported
	}
	first, _, err := d.must("exchange", x)
	if err != nil {
		return err
	}
	second, _, err := d.must("exchange", y)
	if err != nil {
		return err
	}
	a, b, err := d.parents(x, y)
	if err != nil {
		return err
	}
	d.change(d.named(a, path.Base(x), second), d.named(b, path.Base(y), first))
	return nil
}

func (d *Disk) Remove(name string) error {
	if err := d.Step("remove " + name); err != nil {
		return err
	}
	ino, i, err := d.must("remove", name)
	if err != nil {
		return err
	}
	if i.dir && len(d.now[ino]) > 0 {
		return &fs.PathError{Op: "remove", Path: name, Err: syscall.ENOTEMPTY}
	}
	if slices.Contains(d.Mounts, name) {
		return &fs.PathError{Op: "remove", Path: name, Err: syscall.EBUSY}
	}
	dir, err := d.parent("remove", name)
	if err != nil {
		return err
	}
	d.change(unnamed(dir, path.Base(name)))
	return nil
}

// Sync makes a file's contents durable, but not its name; for a directory, the names in it.
func (d *Disk) Sync(name string) error {
	if err := d.Step("sync " + name); err != nil {
		return err
	}
	ino, i, err := d.must("sync", name)
	if err != nil {
		return err
	}
	if !i.dir {
		i.durable = slices.Clip(i.data)
		return nil
	}
	if d.ForgetDirSync {
		return nil
	}
	before := len(d.pending)
	if d.pending = d.flush(ino); len(d.pending) < before {
		d.moves++
	}
	return nil
}

// flush makes durable what a sync of a directory does, and returns what is still pending.
func (d *Disk) flush(dir uint64) (rest []change) {
	touched, due, found := map[uint64]bool{dir: true}, make([]bool, len(d.pending)), false
	for n, c := range slices.Backward(d.pending) {
		touches := slices.ContainsFunc(c.dirs(), func(in uint64) bool { return touched[in] })
		due[n] = touches || found && !d.Disorderly
		for _, in := range c.dirs() {
			touched[in] = touched[in] || touches
		}
		found = found || touches
	}
	for n, c := range d.pending {
		if due[n] {
			c.apply(d.saved)
		} else {
			rest = append(rest, c)
		}
	}
	return rest
}

// Lock takes a lock for etcdpod itself; the machine's etcds take theirs in open.
func (d *Disk) Lock(name string) (func() error, error) {
	ino, _, err := d.must("open", name)
	if err != nil {
		return nil, err
	}
	if holder, held := d.locks[ino]; held {
		return nil, fmt.Errorf("%s by %s: %w", name, holder, node.ErrLocked)
	}
	d.locks[ino] = self
	return func() error {
		if d.locks[ino] == self {
			delete(d.locks, ino)
		}
		return nil
	}, nil
}

// self holds the locks of the etcdpod under test.
const self = "etcdpod"
