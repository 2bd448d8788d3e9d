package bind

import (
	"context"
	"errors"
	"io"
	"iter"

	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/internal/target"
)

// Stores are the real places that backups are sent to. Directories are host paths.
type Stores struct{ disk node.FS }

// NewStores returns them.
func NewStores(disk node.FS) Stores { return Stores{disk} }

// Dial reaches the place at a URL.
func (s Stores) Dial(ctx context.Context, url string) (op.Store, error) {
	u, err := target.Parse(url)
	if err != nil {
		return nil, err
	}
	to, err := target.Dial(ctx, u, s.disk)
	if err != nil {
		return nil, err
	}
	return store{to, u.String()}, nil
}

// TargetReport is what a check of a target has found.
type TargetReport = target.Report

// Check tries what backups need of a target, and what it can do beyond; create makes it first where
// it is not there.
func (s Stores) Check(ctx context.Context, url string, create bool) (TargetReport, error) {
	u, err := target.Parse(url)
	if err != nil {
		return TargetReport{}, err
	}
	return target.Check(ctx, u, s.disk, create), nil
}

// CheckTarget refuses what is no URL of a target, or holds something secret.
func CheckTarget(url string) error {
	_, err := target.Parse(url)
	return err
}

// TargetName is a URL without its options.
func TargetName(url string) string {
	u, err := target.Parse(url)
	if err != nil {
		return ""
	}
	return u.String()
}

// IsTarget says whether a word is meant as the URL of a target, or of something in one.
func IsTarget(word string) bool { return target.IsURL(word) }

// Unusable says whether a target cannot be used until somebody does something about it there: it
// is not set up, or does not allow it.
func Unusable(err error) bool {
	return errors.Is(err, target.ErrNoPlace) || errors.Is(err, target.ErrDenied)
}

// store gives a target the words of operations.
type store struct {
	target.Store
	name string
}

func (s store) String() string { return s.name }

func (s store) List(ctx context.Context, prefix string) iter.Seq2[op.Object, error] {
	return func(yield func(op.Object, error) bool) {
		for o, err := range s.Store.List(ctx, prefix) {
			if !yield(op.Object(o), kindly(err)) {
				return
			}
		}
	}
}

func (s store) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	r, err := s.Store.Open(ctx, name)
	return r, kindly(err)
}

func (s store) Put(ctx context.Context, name string, r io.Reader) error {
	return kindly(s.Store.Put(ctx, name, r))
}

func (s store) Delete(ctx context.Context, name string) error {
	return kindly(s.Store.Delete(ctx, name))
}

// kindly has an error be of op's kind, too.
func kindly(err error) error {
	for theirs, ours := range map[error]error{target.ErrExists: op.ErrObjectExists, target.ErrNotExist: op.ErrNoObject,
		target.ErrLocked: op.ErrObjectLocked} {
		if errors.Is(err, theirs) {
			return &kindError{err, ours}
		}
	}
	return err
}

type kindError struct {
	error
	kind error
}

func (e *kindError) Is(kind error) bool { return kind == e.kind }
func (e *kindError) Unwrap() error      { return e.error }
