// Package target is the places that backups are sent to: a directory, S3 and what speaks it, Azure
// Blob Storage, and SFTP. It knows no backup and no format: names, and bytes.
package target

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"path"
	"strings"
	"time"
)

// Store is one place. Names are relative, with slashes. A store may be used by one goroutine only.
type Store interface {
	// Put writes a new object: [ErrExists] if the name is taken, whoever is quicker. Until it
	// returns nil nobody sees the name, or it is reported as not written though it may be there.
	Put(ctx context.Context, name string, r io.Reader) error
	Open(ctx context.Context, name string) (io.ReadCloser, error)
	// List lists the objects whose names begin with prefix, sorted by name. After an error it ends:
	// what came before is not the whole list.
	List(ctx context.Context, prefix string) iter.Seq2[Object, error]
	// Delete deletes an object for good: [ErrLocked] if the store keeps it.
	Delete(ctx context.Context, name string) error
	// Sweep removes what writes under such names left when they were cut off before that time, and
	// which has no name yet.
	Sweep(ctx context.Context, prefix string, before time.Time) error
	// Create makes the place itself, where it is not there: the mark, the bucket, the container.
	Create(ctx context.Context) error
	Close() error
}

// Object is what is known of an object without reading it.
type Object struct {
	Name     string
	Size     int64 // bytes
	Modified time.Time
}

// What an operation of a store may end with; errors.Is finds it.
var (
	ErrExists   = errors.New("the name is taken")
	ErrNotExist = errors.New("it is not there")
	ErrLocked   = errors.New("the store keeps it")
	ErrDenied   = errors.New("it is not allowed")
	// ErrNoPlace says that the place itself is not there, or not mounted.
	ErrNoPlace = errors.New("the place is not there")
)

// Error is an operation that failed: what cannot be done, to what, why, and what to do.
type Error struct {
	Doing string // "write", "read"
	Name  string // of the object; empty: it is about the whole target
	At    string // the target, without anything secret
	Why   string
	Do    string // empty: nothing is known that would help
	Kind  error  // one of the above; nil: none of them
	Cause error  // for errors.Is; its text is not shown
}

func (e *Error) Error() string {
	what := e.At
	if e.Name != "" {
		what = e.Name + " in " + e.At
	}
	return fmt.Sprintf("cannot %s %s: %s", e.Doing, what, e.Why)
}

// Hint says what to do.
func (e *Error) Hint() string { return e.Do }

// Is finds the kind of the failure.
func (e *Error) Is(kind error) bool { return e.Kind != nil && e.Kind == kind }

func (e *Error) Unwrap() error { return e.Cause }

// partPrefix begins the names of files that are being written, where a store has no other way to
// hide them.
const partPrefix = ".etcdpod-part-"

// checkName refuses names that would lead elsewhere, or be hidden.
func checkName(name string) error {
	if name == "" || path.IsAbs(name) || path.Clean(name) != name || strings.ContainsAny(name, "\x00\\\n\r") {
		return fmt.Errorf("%q is no name of an object", name)
	}
	for _, element := range strings.Split(name, "/") {
		if strings.HasPrefix(element, ".") {
			return fmt.Errorf("%q is no name of an object: it is hidden", name)
		}
	}
	return nil
}

// within makes an operation end with its context, and reports how it ended by that, if it did.
func within(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// chunk fills a buffer. Unlike with [io.ReadFull] a stream that was cut off is told from one that
// has ended: only the latter is io.EOF.
func chunk(r io.Reader, buffer []byte) (n int, err error) {
	for n < len(buffer) && err == nil {
		var more int
		more, err = r.Read(buffer[n:])
		n += more
	}
	return n, err
}

// reading is a stream whose errors are put into words.
type reading struct {
	io.ReadCloser
	words func(error) error
}

func (r reading) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = r.words(err)
	}
	return n, err
}

// scrubbed leaves out of a text what must not be shown.
func scrubbed(text string, secrets []string) string {
	for _, secret := range secrets {
		if len(secret) >= 4 {
			text = strings.ReplaceAll(text, secret, "…")
		}
	}
	return text
}
