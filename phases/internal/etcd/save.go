package etcd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Saved is a snapshot that was written to a file.
type Saved struct {
	Path           string
	SizeBytes      int64  // of the file, its 32 bytes of trailer included
	Trailer        string // hex; the SHA-256 that etcd sent at the end, as it came
	StorageVersion string // as the server tells it, such as 3.6.0; empty on 3.5
	Endpoint       string // the member that the snapshot was taken from
}

// Endpoint returns the endpoint that [Save] takes the snapshot from: the first that answered.
func (c *Client) Endpoint() string { return c.first }

// Save streams a snapshot of one member into a new file (mode 0600; fs.ErrExist if the name is
// taken). It has begun to write it back, but does not wait until it is on disk: whoever keeps the
// file syncs it, and can prove it in the meantime. That is not done here: the SHA-256 that etcd
// sends at the end lies in the file, and [snapfile.Check] holds it against what the file gives
// back, which finds what was damaged on the way as well as what the disk damaged. On any failure
// the file is removed. progress, which may be nil, is called with bytes. The time is bounded by
// ctx, and a stream that sends nothing for the stall timeout is given up.
func Save(ctx context.Context, c *Client, path string, progress func(done, total int64)) (Saved, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return Saved{}, fmt.Errorf("cannot save a snapshot: %w", err)
	}
	saved, err := c.stream(ctx, f, progress)
	err = errors.Join(err, f.Close())
	if err != nil {
		return Saved{}, errors.Join(fmt.Errorf("cannot save a snapshot of %s to %s: %w", c.first, path, err),
			os.Remove(path))
	}
	saved.Path = path
	return saved, nil
}

func (c *Client) stream(ctx context.Context, f *os.File, progress func(done, total int64)) (Saved, error) {
	if err := c.probe(ctx, c.first); err != nil {
		return Saved{}, errors.New(c.reason(err))
	}
	flush := flusher(f)
	size := int64(0)
	var last []byte // of what came, as long as a trailer
	s := newSpool(func(piece []byte) error {
		last = append(last, piece[max(0, len(piece)-sha256.Size):]...)
		last = last[max(0, len(last)-sha256.Size):]
		n, err := f.Write(piece)
		size += int64(n)
		flush(size)
		return err
	})
	saved, err := c.receive(ctx, s.write, progress)
	if failed := s.finish(); failed != nil {
		err = failed // and what was received had nowhere to go
	}
	if err == nil && size%512 != sha256.Size {
		err = fmt.Errorf("etcd sent %d bytes, which is not a db and a trailer of 32: the stream was "+
			"cut, or the server is older than 3.2", size)
	}
	saved.SizeBytes, saved.Trailer = size, hex.EncodeToString(last)
	return saved, err
}

// receive hands on what comes, until all has come.
func (c *Client) receive(
	ctx context.Context, write func([]byte) error, progress func(done, total int64),
) (Saved, error) {
	feed, err := c.feed(c.first)
	if err != nil {
		return Saved{}, err
	}
	defer feed.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stall := c.access.StallTimeout
	stalled := fmt.Errorf("etcd sent nothing for %s", stall)
	watchdog := time.AfterFunc(stall, func() { cancel(stalled) })
	defer watchdog.Stop()
	impatience := time.AfterFunc(stall/2, feed.hurry)
	defer impatience.Stop()

	fail := func(err error) error {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return c.explain(c.first, 0, err)
	}
	stream, err := parts(ctx, feed.ClientConn)
	if err != nil {
		return Saved{}, fail(err)
	}
	saved, received := Saved{Endpoint: c.first}, int64(0)
	p := new(part)
	defer p.release()
	for {
		err := stream.RecvMsg(p)
		if errors.Is(err, io.EOF) {
			return saved, nil
		}
		if err != nil {
			return Saved{}, fail(err)
		}
		watchdog.Reset(stall)
		impatience.Reset(stall / 2)
		feed.expect(p.remaining)
		if p.version != "" {
			saved.StorageVersion = p.version
		}
		for _, b := range p.blob {
			if err := write(b); err != nil {
				return Saved{}, err
			}
			received += int64(len(b))
		}
		if progress != nil {
			progress(received, received+int64(p.remaining))
		}
	}
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
