package target

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// remote is a directory of a machine that is reached by SFTP.
type remote struct {
	URL
	dir    string
	conn   *ssh.Client
	client *sftp.Client
}

func dialSFTP(ctx context.Context, u URL) (*remote, error) {
	r := &remote{URL: u, dir: u.Path}
	if home, ok := strings.CutPrefix(u.Path, "/~/"); ok {
		r.dir = home
	}
	conn, err := r.connect(ctx)
	if err != nil {
		return nil, r.fails("reach", "", within(ctx, err))
	}
	r.conn = conn
	// More than one packet is under way only where that can be: what follows a failed write is not
	// there.
	if r.client, err = sftp.NewClient(conn, sftp.UseConcurrentReads(true)); err != nil {
		return nil, errors.Join(r.fails("reach", "", within(ctx, err)), conn.Close())
	}
	return r, nil
}

// until lets an operation end with its context: a request that waits for a server that says nothing
// ends with the connection only.
func (r *remote) until(ctx context.Context) (stop func()) {
	ended := context.AfterFunc(ctx, func() { _ = r.conn.Close() })
	return func() { ended() }
}

func (r *remote) Put(ctx context.Context, name string, from io.Reader) error {
	defer r.until(ctx)()
	err := checkName(name)
	if err == nil {
		err = r.put(name, from)
	}
	return r.fails("write", name, within(ctx, err))
}

func (r *remote) put(name string, from io.Reader) error {
	to := path.Join(r.dir, name)
	if _, err := r.client.Lstat(to); err == nil {
		return ErrExists
	}
	if err := r.directories(path.Dir(name)); err != nil {
		return err
	}
	part := path.Join(path.Dir(to), partPrefix+path.Base(to)+"-"+rand.Text()[:12])
	sent, err := r.write(part, from)
	if err == nil {
		var st os.FileInfo
		if st, err = r.client.Lstat(part); err == nil && st.Size() != sent {
			err = errors.New("the server has written less than was sent")
		}
	}
	if err == nil {
		err = r.name(part, to)
	}
	if err != nil {
		_ = r.client.Remove(part) // the next Sweep does it otherwise
	}
	return err
}

// directories makes what is missing of a directory below the target, which must be there: where it
// is missing, something is not mounted.
func (r *remote) directories(below string) error {
	st, err := r.client.Stat(r.dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !st.IsDir() {
		return ErrNoPlace
	}
	at := r.dir
	for _, element := range elements(below) {
		if err != nil {
			return err
		}
		at = path.Join(at, element)
		st, err = r.client.Lstat(at)
		if errors.Is(err, fs.ErrNotExist) {
			if err = r.client.Mkdir(at); err == nil {
				err = r.client.Chmod(at, 0o700)
				continue
			}
			if now, there := r.client.Lstat(at); there == nil { // somebody else was quicker
				st, err = now, nil
			}
		}
		if err == nil && !st.IsDir() {
			err = errors.New(at + " is not a directory")
		}
	}
	return err
}

func (r *remote) write(part string, from io.Reader) (sent int64, err error) {
	f, err := r.client.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return 0, err
	}
	if err = f.Chmod(0o600); err == nil {
		sent, err = f.ReadFromWithConcurrency(from, 16)
	}
	if _, knows := r.client.HasExtension("fsync@openssh.com"); knows && err == nil {
		err = f.Sync()
	}
	return sent, cmp.Or(err, f.Close())
}

// name gives what was written its name, and replaces nothing: a hard link never does. A rename must
// not, by the protocol, but some servers do it all the same; so it comes second.
func (r *remote) name(part, to string) error {
	if _, knows := r.client.HasExtension("hardlink@openssh.com"); knows {
		err := r.client.Link(part, to)
		if err == nil {
			return r.client.Remove(part)
		}
		if _, there := r.client.Lstat(to); there == nil {
			return ErrExists
		}
	}
	if _, err := r.client.Lstat(to); err == nil {
		return ErrExists
	}
	err := r.client.Rename(part, to)
	if _, there := r.client.Lstat(part); err != nil && there == nil {
		if _, there := r.client.Lstat(to); there == nil {
			return ErrExists
		}
	}
	return err
}

func (r *remote) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if err := checkName(name); err != nil {
		return nil, r.fails("read", name, err)
	}
	stop := r.until(ctx)
	at := path.Join(r.dir, name)
	st, err := r.client.Lstat(at)
	if err == nil && !st.Mode().IsRegular() {
		err = errors.New("it is not a regular file")
	}
	var f *sftp.File
	if err == nil {
		f, err = r.client.Open(at)
	}
	if err != nil {
		stop()
		return nil, r.fails("read", name, within(ctx, err))
	}
	return reading{ending{f, stop}, func(err error) error { return r.fails("read", name, within(ctx, err)) }}, nil
}

// ending does something more when a stream is closed.
type ending struct {
	io.ReadCloser
	then func()
}

func (e ending) Close() error {
	defer e.then()
	return e.ReadCloser.Close()
}

func (r *remote) List(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		defer r.until(ctx)()
		found, err := r.list(prefix, func(base string) bool { return !strings.HasPrefix(base, ".") })
		for _, o := range found {
			if err == nil && !yield(o, nil) {
				return
			}
		}
		if err != nil {
			yield(Object{}, r.fails("list", "", within(ctx, err)))
		}
	}
}

func (r *remote) list(prefix string, is func(base string) bool) (found []Object, err error) {
	if st, err := r.client.Stat(r.dir); errors.Is(err, fs.ErrNotExist) || err == nil && !st.IsDir() {
		return nil, ErrNoPlace
	}
	err = r.walk("", prefix, is, &found)
	slices.SortFunc(found, func(a, b Object) int { return strings.Compare(a.Name, b.Name) })
	return found, err
}

func (r *remote) walk(below, prefix string, is func(base string) bool, found *[]Object) error {
	entries, err := r.client.ReadDir(path.Join(r.dir, below))
	if errors.Is(err, fs.ErrNotExist) && below != "" { // deleted since
		return nil
	}
	for _, e := range entries {
		if err != nil {
			return err
		}
		name, hidden := path.Join(below, e.Name()), strings.HasPrefix(e.Name(), ".")
		switch {
		case e.IsDir() && !hidden && (strings.HasPrefix(prefix, name+"/") || strings.HasPrefix(name+"/", prefix)):
			err = r.walk(name, prefix, is, found)
		case e.Mode().IsRegular() && is(e.Name()) && (hidden || strings.HasPrefix(name, prefix)):
			*found = append(*found, Object{Name: name, Size: e.Size(), Modified: e.ModTime().UTC()})
		}
	}
	return err
}

func (r *remote) Delete(ctx context.Context, name string) error {
	defer r.until(ctx)()
	err := checkName(name)
	if err == nil {
		err = r.remove(name)
	}
	return r.fails("delete", name, within(ctx, err))
}

func (r *remote) remove(name string) error {
	at := path.Join(r.dir, name)
	st, err := r.client.Lstat(at)
	if err == nil && !st.Mode().IsRegular() {
		err = errors.New("it is not a regular file")
	}
	if err == nil {
		err = r.client.Remove(at)
	}
	return err
}

func (r *remote) Sweep(ctx context.Context, prefix string, before time.Time) error {
	defer r.until(ctx)()
	left, err := r.list(prefix, func(base string) bool { return strings.HasPrefix(base, partPrefix) })
	for _, o := range left {
		dir, base := path.Split(o.Name)
		meant := dir + strings.TrimPrefix(base, partPrefix)
		if err == nil && strings.HasPrefix(meant, prefix) && o.Modified.Before(before) {
			err = ignoreMissing(r.remove(o.Name))
		}
	}
	return r.fails("tidy up", "", within(ctx, err))
}

// Create makes the directory; the one above it must be there.
func (r *remote) Create(ctx context.Context) error {
	defer r.until(ctx)()
	st, err := r.client.Stat(r.dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err = r.client.Mkdir(r.dir); err == nil {
			err = r.client.Chmod(r.dir, 0o700)
		}
	case err == nil && !st.IsDir():
		err = errors.New("it is not a directory")
	}
	return r.fails("set up", "", within(ctx, err))
}

func (r *remote) Close() error {
	err := r.client.Close()
	_ = r.conn.Close() // it may have ended with the client
	return err
}

// fails puts an error into words.
func (r *remote) fails(doing, name string, err error) error {
	if err == nil || errors.As(err, new(*Error)) {
		return err
	}
	e := &Error{Doing: doing, Name: name, At: r.String(), Why: err.Error(), Cause: err}
	var status *sftp.StatusError
	switch {
	case errors.Is(err, ErrExists):
		e.Kind, e.Why = ErrExists, "the name is taken, and nothing is ever overwritten"
	case errors.Is(err, ErrNoPlace):
		e.Kind, e.Why = ErrNoPlace, "there is no such directory"
		e.Do = "mount it there, correct the URL, or make it with `etcdpod target check --create`"
	case errors.Is(err, fs.ErrNotExist):
		e.Kind, e.Why = ErrNotExist, "it is not there"
	case errors.Is(err, fs.ErrPermission):
		e.Kind, e.Why = ErrDenied, "the server does not allow it"
		e.Do = "see who may write to that directory there"
	case errors.As(err, &status):
		e.Why = "the server answers: " + status.Error()
		e.Do = "see whether its disk is full, or mounted read-only"
	case errors.Is(err, sftp.ErrSSHFxConnectionLost), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		e.Why, e.Do = "the connection was cut off", "try again"
	}
	return e
}
