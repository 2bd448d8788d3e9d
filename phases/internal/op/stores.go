package op

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"
)

// Stores are the places that backups are sent to, by their URLs.
type Stores interface {
	Dial(ctx context.Context, url string) (Store, error)
}

// StoreReader is a place that backups are sent to, as far as it can be looked at.
type StoreReader interface {
	String() string // without what is secret
	// List is whole only if it ends without an error.
	List(ctx context.Context, prefix string) iter.Seq2[Object, error]
	// Open wraps [ErrNoObject] if nothing has that name.
	Open(ctx context.Context, name string) (io.ReadCloser, error)
	Close() error
}

// Store is a place that backups are sent to. What it holds is no part of the host: nothing there is
// undone.
type Store interface {
	StoreReader
	// Put writes what has no name before it is whole; it wraps [ErrObjectExists] if the name is
	// taken.
	Put(ctx context.Context, name string, r io.Reader) error
	// Delete wraps [ErrObjectLocked] if the store keeps it for a time.
	Delete(ctx context.Context, name string) error
	// Sweep removes what writes under such names left without a name before that time.
	Sweep(ctx context.Context, prefix string, before time.Time) error
}

// Object is what a store tells of what it holds.
type Object struct {
	Name     string
	Size     int64 // bytes
	Modified time.Time
}

// What a store may answer.
var (
	ErrNoObject     = errors.New("nothing has that name")
	ErrObjectExists = errors.New("the name is taken")
	ErrObjectLocked = errors.New("the store keeps it")
)
