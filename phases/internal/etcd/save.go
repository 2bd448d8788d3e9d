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

// Saved is a snapshot written to a file.
type Saved struct {
	Path      string
	SizeBytes int64  // of the file, including the trailer of 32 bytes
	Trailer   string // hex; the SHA-256 that etcd sent at the end, as received
	Endpoint  string // the member that sent the snapshot
}

// Endpoint returns the endpoint that [Save] uses: the first that answered.
func (c *Client) Endpoint() string { return c.first }

// Save streams a snapshot of one member into a new file (mode 0600; fs.ErrExist if the name is
// taken). It starts writeback, but does not wait for the disk: the caller syncs the file, and can
// prove it meanwhile. It does not check the hash: the file ends with the SHA-256 that etcd sent,
// and [snapfile.Check] compares that with what it reads back, so it finds damage from the network
// as well as from the disk. On any failure the file is removed. progress, which may be nil, gets
// bytes. ctx bounds the time, and a stream that sends nothing for the stall timeout fails.
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
	var last []byte // the last bytes received, as many as a trailer has
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
		err = failed // the disk's error counts: what was received had nowhere to go
	}
	if err == nil && size%512 != sha256.Size {
		err = fmt.Errorf("etcd sent %d bytes, which is not a db with a 32-byte trailer: the stream was cut off, or "+
			"the server is older than 3.2", size)
	}
	saved.SizeBytes, saved.Trailer = size, hex.EncodeToString(last)
	return saved, err
}

// receive passes on what arrives, until everything has.
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
