package target

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// Mark is the file that makes a directory a target. Where it is missing, a share is not mounted:
// what was written then would lie below the mount, on the node's own disk.
const Mark = "etcdpod-target"

const markText = "etcdpod sends backups to this directory. Without this file it takes the directory for one\n" +
	"on which nothing is mounted, and sends nothing.\n"

// file is a directory of this host.
type file struct {
	URL
	fs node.FS
}

// step is how much is written at once, bytes.
const step = 1 << 20

// syncEvery bounds the last sync of a large file. Bytes, a multiple of step.
const syncEvery = 64 << 20

// root opens the directory, and holds it to being the right one.
func (f file) root() (*node.Held, error) {
	held, err := f.fs.Hold(f.Path)
	if err != nil {
		return nil, err
	}
	if st, err := f.fs.Lstat(path.Join(held.Dir, Mark)); err != nil || !st.Mode.IsRegular() {
		_ = held.Close()
		return nil, ErrNoPlace
	}
	return held, nil
}

// in opens the directory of an object, never through a link below the target's own. Where it is
// missing it is made, if asked.
func (f file) in(name string, create bool) (*node.Held, error) {
	held, err := f.root()
	for _, element := range elements(path.Dir(name)) {
		if err != nil {
			return nil, err
		}
		var next *node.Held
		next, err = f.below(held.Dir, element, create)
		if failed := held.Close(); err == nil {
			err = failed
		}
		held = next
	}
	return held, err
}

func (f file) below(dir, element string, create bool) (*node.Held, error) {
	at := path.Join(dir, element)
	st, err := f.fs.Lstat(at)
	if errors.Is(err, fs.ErrNotExist) && create {
		if err = f.fs.Mkdir(at, node.Mine(0o700)); errors.Is(err, fs.ErrExist) {
			err = nil
		}
		if err == nil {
			err = f.fs.Sync(dir)
		}
		if err == nil {
			st, err = f.fs.Lstat(at)
		}
	}
	if err == nil && !st.Mode.IsDir() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, err
	}
	return f.fs.Hold(at)
}

func elements(dir string) []string {
	if dir == "." || dir == "" {
		return nil
	}
	return strings.Split(dir, "/")
}

func (f file) Put(ctx context.Context, name string, r io.Reader) error {
	if err := checkName(name); err != nil {
		return f.fails("write", name, err)
	}
	held, err := f.in(name, true)
	if err == nil {
		err = errors.Join(f.put(ctx, held.Dir, path.Base(name), r), held.Close())
	}
	return f.fails("write", name, within(ctx, err))
}

func (f file) put(ctx context.Context, dir, base string, r io.Reader) error {
	to := path.Join(dir, base)
	if _, err := f.fs.Lstat(to); err == nil {
		return ErrExists
	}
	// Nobody can know the name beforehand.
	part := path.Join(dir, partPrefix+base+"-"+rand.Text()[:12])
	if err := f.fs.Create(part, nil, node.Mine(0o600)); err != nil {
		return err
	}
	err := f.fill(ctx, part, r)
	if err == nil {
		err = f.fs.Rename(part, to)
	}
	if err != nil {
		return errors.Join(err, ignoreMissing(f.fs.Remove(part)))
	}
	return f.fs.Sync(dir)
}

func (f file) fill(ctx context.Context, part string, r io.Reader) error {
	buffer, since := make([]byte, step), 0
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := chunk(r, buffer)
		if n > 0 {
			if err := f.fs.Append(part, buffer[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return f.fs.Sync(part)
		}
		if err != nil {
			return err
		}
		if since += n; since >= syncEvery {
			since = 0
			if err := f.fs.Sync(part); err != nil {
				return err
			}
		}
	}
}

func (f file) Open(_ context.Context, name string) (io.ReadCloser, error) {
	if err := checkName(name); err != nil {
		return nil, f.fails("read", name, err)
	}
	held, err := f.in(name, false)
	if err != nil {
		return nil, f.fails("read", name, err)
	}
	defer func() { _ = held.Close() }()
	at := path.Join(held.Dir, path.Base(name))
	st, err := f.fs.Lstat(at)
	if err == nil && !st.Mode.IsRegular() {
		err = errors.New("it is not a regular file")
	}
	if err != nil {
		return nil, f.fails("read", name, err)
	}
	stream, err := f.fs.Open(at)
	if err != nil {
		return nil, f.fails("read", name, err)
	}
	return reading{stream, func(err error) error { return f.fails("read", name, err) }}, nil
}

func (f file) List(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		found, err := f.list(ctx, prefix, func(base string) bool {
			return !strings.HasPrefix(base, ".") && base != Mark
		})
		for _, o := range found {
			if err == nil && !yield(o, nil) {
				return
			}
		}
		if err != nil {
			yield(Object{}, f.fails("list", "", within(ctx, err)))
		}
	}
}

// list lists files by their names below the target, without links.
func (f file) list(ctx context.Context, prefix string, is func(base string) bool) (found []Object, err error) {
	held, err := f.root()
	if err != nil {
		return nil, err
	}
	if err = f.walk(ctx, held.Dir, "", prefix, is, &found); err == nil {
		err = held.Close()
	} else {
		_ = held.Close()
	}
	slices.SortFunc(found, func(a, b Object) int { return strings.Compare(a.Name, b.Name) })
	return found, err
}

func (f file) walk(
	ctx context.Context, dir, below, prefix string, is func(base string) bool, found *[]Object,
) error {
	names, err := f.fs.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, base := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		name := path.Join(below, base)
		st, err := f.fs.Lstat(path.Join(dir, base))
		if errors.Is(err, fs.ErrNotExist) { // deleted since
			continue
		}
		if err != nil {
			return err
		}
		hidden := strings.HasPrefix(base, ".")
		switch {
		case st.Mode.IsDir() && !hidden && (strings.HasPrefix(prefix, name+"/") || strings.HasPrefix(name+"/", prefix)):
			held, err := f.fs.Hold(path.Join(dir, base))
			if err != nil {
				return err
			}
			if err := errors.Join(f.walk(ctx, held.Dir, name, prefix, is, found), held.Close()); err != nil {
				return err
			}
		case st.Mode.IsRegular() && is(base) && (hidden || strings.HasPrefix(name, prefix)):
			*found = append(*found, Object{Name: name, Size: st.Size, Modified: st.ModTime.UTC()})
		}
	}
	return nil
}

func (f file) Delete(_ context.Context, name string) error {
	if err := checkName(name); err != nil {
		return f.fails("delete", name, err)
	}
	return f.fails("delete", name, f.remove(name))
}

func (f file) remove(name string) error {
	held, err := f.in(name, false)
	if err != nil {
		return err
	}
	at := path.Join(held.Dir, path.Base(name))
	st, err := f.fs.Lstat(at)
	if err == nil && !st.Mode.IsRegular() {
		err = errors.New("it is not a regular file")
	}
	if err == nil {
		err = f.fs.Remove(at)
	}
	if err == nil {
		err = f.fs.Sync(held.Dir)
	}
	return errors.Join(err, held.Close())
}

func (f file) Sweep(ctx context.Context, prefix string, before time.Time) error {
	left, err := f.list(ctx, prefix, func(base string) bool { return strings.HasPrefix(base, partPrefix) })
	for _, o := range left {
		dir, base := path.Split(o.Name)
		meant := dir + strings.TrimPrefix(base, partPrefix)
		if err == nil && strings.HasPrefix(meant, prefix) && o.Modified.Before(before) {
			err = ignoreMissing(f.remove(o.Name))
		}
	}
	return f.fails("tidy up", "", within(ctx, err))
}

// Create makes the mark in a directory that is there: one that is missing may be a mount that is.
func (f file) Create(context.Context) error {
	held, err := f.fs.Hold(f.Path)
	if err != nil {
		return f.fails("set up", "", err)
	}
	err = f.fs.Create(path.Join(held.Dir, Mark), []byte(markText), node.Mine(0o644))
	if errors.Is(err, fs.ErrExist) {
		return f.fails("set up", "", held.Close())
	}
	if err == nil {
		err = f.fs.Sync(path.Join(held.Dir, Mark))
	}
	if err == nil {
		err = f.fs.Sync(held.Dir)
	}
	return f.fails("set up", "", errors.Join(err, held.Close()))
}

func (file) Close() error { return nil }

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// fails puts an error into words.
func (f file) fails(doing, name string, err error) error {
	if err == nil || errors.As(err, new(*Error)) {
		return err
	}
	e := &Error{Doing: doing, Name: name, At: f.String(), Why: plainly(err), Cause: err}
	switch {
	case errors.Is(err, ErrExists), errors.Is(err, fs.ErrExist):
		e.Kind, e.Why = ErrExists, "the name is taken, and nothing is ever overwritten"
	case errors.Is(err, ErrNoPlace):
		e.Kind, e.Why = ErrNoPlace, fmt.Sprintf("the directory lacks the file %s: either nothing is mounted there, or "+
			"it was never set up", Mark)
		e.Do = fmt.Sprintf("mount it; or, if it is the right directory, run `etcdpod target check --create %s`", f)
	case errors.Is(err, fs.ErrNotExist) && (name == "" || !f.isThere()):
		e.Kind, e.Why = ErrNoPlace, "the directory does not exist"
		e.Do = "mount it, or make it"
	case errors.Is(err, fs.ErrNotExist):
		e.Kind, e.Why = ErrNotExist, "it is not there"
	case errors.Is(err, fs.ErrPermission):
		e.Kind, e.Do = ErrDenied, "see who may write there, and whether it is mounted read-only"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		e.Do = "make room there, or keep fewer backups"
	}
	return e
}

func (f file) isThere() bool {
	st, err := f.fs.Lstat(f.Path)
	return err == nil && !st.Mode.IsRegular()
}

// plainly is an error without the path of the open directory, which tells nobody anything.
func plainly(err error) string {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err.Error()
	}
	var number syscall.Errno
	if errors.As(err, &number) {
		return number.Error()
	}
	return err.Error()
}
