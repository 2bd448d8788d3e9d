package target

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// Report is what a check of a target has tried, and what the target can do. The JSON names are
// stable.
type Report struct {
	Target string `json:"target"`
	OK     bool   `json:"ok"` // backups can be sent there, and read from there
	Steps  []Step `json:"steps"`
	Can    Can    `json:"can"`
}

// Step is one thing that was tried.
type Step struct {
	Name    string  `json:"name" values:"set-up,list,write,write-parts,read-back,write-once,list-again,delete,gone"`
	OK      bool    `json:"ok"`
	Why     string  `json:"why,omitempty"` // it did not go well
	Do      string  `json:"do,omitempty"`
	Seconds float64 `json:"seconds"`

	err error
}

// Can is what a target can do beyond what backups need.
type Can struct {
	// It refuses a second write of a name itself: of two that write at once, one wins.
	WriteOnce bool `json:"writeOnce"`
	// It can keep what was written from being deleted for a time.
	ObjectLock bool `json:"objectLock"`
	// It keeps the versions of an object.
	Versions bool `json:"versions"`
	// The strong checksum that it computes and keeps; empty: none, or none that is told.
	Checksum string `json:"checksum,omitempty"`
}

// able is a store that tells what it can do; name is of an object that is there.
type able interface {
	can(ctx context.Context, name string) Can
}

// parted is a store that sends large objects in parts of so many bytes.
type parted interface {
	parts() int
}

func (*s3) parts() int    { return partSize }
func (*azure) parts() int { return blockSize }

// check is a check under way.
type check struct {
	Report
	made  URL // as it was given
	url   URL // with which it is tried
	disk  node.FS
	store Store
}

// Check tries everything that backups need of a target, and leaves nothing behind.
func Check(ctx context.Context, u URL, disk node.FS, create bool) Report {
	c := &check{made: u, disk: disk, Report: Report{Target: u.String()}}
	u.options = maps.Clone(u.options)
	u.options.Del("lock-days") // what is tried must be deleted again
	u.options.Del("lock-mode")
	c.url = u
	c.run(ctx, create)
	if c.store != nil {
		_ = c.store.Close()
	}
	c.OK = len(c.Steps) > 0
	for _, s := range c.Steps {
		c.OK = c.OK && s.OK
	}
	return c.Report
}

// Err is why the target cannot be used; nil: it can.
func (r Report) Err() error {
	for _, s := range r.Steps {
		if !s.OK {
			return s.err
		}
	}
	return nil
}

func (c *check) run(ctx context.Context, create bool) {
	var err error
	if c.store, err = Dial(ctx, c.url, c.disk); err != nil {
		c.try("list", func() error { return err })
		return
	}
	if create && !c.try("set-up", func() error { return c.create(ctx) }) {
		return
	}
	if !c.try("list", func() error { return drain(ctx, c.store, "") }) {
		return
	}
	small := map[string][]byte{"etcdpod-check-" + rand.Text()[:12]: []byte("etcdpod target check\n")}
	if !c.write(ctx, "write", small) {
		return
	}
	p, ok := c.store.(parted)
	if !ok {
		return
	}
	large := bytes.Repeat([]byte("etcdpod target check\n"), p.parts()/21+2)
	c.write(ctx, "write-parts", map[string][]byte{"etcdpod-check-" + rand.Text()[:12]: large})
}

func (c *check) create(ctx context.Context) error {
	s, err := Dial(ctx, c.made, c.disk)
	if err == nil {
		err = errors.Join(s.Create(ctx), s.Close())
	}
	return err
}

// write writes one object, tries everything with it, and deletes it.
func (c *check) write(ctx context.Context, step string, what map[string][]byte) bool {
	for name, data := range what {
		written := c.try(step, func() error { return c.store.Put(ctx, name, bytes.NewReader(data)) })
		good := written && c.try("read-back", func() error { return c.readBack(ctx, name, data) })
		if good && step == "write" {
			good = c.try("write-once", func() error { return c.again(ctx, name) })
			if a, tells := c.store.(able); tells {
				c.Can = a.can(ctx, name)
			}
		}
		good = good && c.try("list-again", func() error { return c.listed(ctx, name, true) })
		if !written { // it may be there all the same
			_ = c.store.Delete(context.WithoutCancel(ctx), name)
			return false
		}
		// Also after an interrupt: nothing is to be left.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		deleted := c.try("delete", func() error { return c.store.Delete(ctx, name) })
		if !good || !deleted || !c.try("gone", func() error { return c.listed(ctx, name, false) }) {
			return false
		}
	}
	return true
}

func (c *check) try(name string, do func() error) bool {
	began := time.Now()
	err := do()
	s := Step{Name: name, OK: err == nil, Seconds: time.Since(began).Seconds(), err: err}
	if err != nil {
		s.Why = err.Error()
		if knows := (*Error)(nil); errors.As(err, &knows) {
			s.Do = knows.Do
		}
	}
	c.Steps = append(c.Steps, s)
	return s.OK
}

// readBack reads over a connection of its own, as a restore would.
func (c *check) readBack(ctx context.Context, name string, want []byte) error {
	s, err := Dial(ctx, c.url, c.disk)
	if err != nil {
		return err
	}
	defer s.Close()
	r, err := s.Open(ctx, name)
	if err != nil {
		return err
	}
	defer r.Close()
	got, err := io.ReadAll(io.LimitReader(r, int64(len(want))+1))
	if err == nil && !bytes.Equal(got, want) {
		err = &Error{Doing: "read", Name: name, At: c.Target,
			Why: fmt.Sprintf("%d bytes were written, and %d others came back", len(want), len(got)),
			Do:  "do not use this target: it does not keep what it is given"}
	}
	return err
}

// again writes the same name once more, which must be refused.
func (c *check) again(ctx context.Context, name string) error {
	err := c.store.Put(ctx, name, bytes.NewReader([]byte("second\n")))
	if errors.Is(err, ErrExists) {
		return nil
	}
	if err == nil {
		err = &Error{Doing: "write", Name: name, At: c.Target, Kind: ErrDenied,
			Why: "a second write of the same name was not refused", Do: "do not use this target"}
	}
	return err
}

func (c *check) listed(ctx context.Context, name string, want bool) error {
	found := false
	for o, err := range c.store.List(ctx, name) {
		if err != nil {
			return err
		}
		found = found || o.Name == name
	}
	switch {
	case want && !found:
		return &Error{Doing: "list", At: c.Target, Why: name + " was written, and is not listed",
			Do: "do not use this target: what is not listed is neither found nor kept by rule"}
	case !want && found:
		return &Error{Doing: "delete", Name: name, At: c.Target, Why: "it is still listed"}
	}
	return nil
}

// drain reads a list to its end.
func drain(ctx context.Context, s Store, prefix string) error {
	for _, err := range s.List(ctx, prefix) {
		if err != nil {
			return err
		}
	}
	return nil
}

func (file) can(context.Context, string) Can { return Can{WriteOnce: true} }

func (r *remote) can(context.Context, string) Can {
	_, links := r.client.HasExtension("hardlink@openssh.com")
	return Can{WriteOnce: links}
}

func (a *azure) can(ctx context.Context, _ string) (can Can) {
	can.WriteOnce = true
	p, err := a.client.GetProperties(ctx, nil)
	if err != nil {
		return can
	}
	is := func(b *bool) bool { return b != nil && *b }
	can.ObjectLock = is(p.HasImmutabilityPolicy) || is(p.IsImmutableStorageWithVersioningEnabled)
	can.Versions = is(p.IsImmutableStorageWithVersioningEnabled)
	return can
}
