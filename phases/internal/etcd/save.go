package etcd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"time"
)

// ErrTrailer says that a snapshot's last 32 bytes are not the SHA-256 of what comes before them.
var ErrTrailer = errors.New("the SHA-256 at its end does not match its contents")

// Saved is a snapshot that was written to a file.
type Saved struct {
	Path           string
	SizeBytes      int64  // of the file, its 32 bytes of trailer included
	SHA256         string // hex; of the whole file, as sha256sum prints it
	DataSHA256     string // hex; of the db in it, which is what the trailer holds
	StorageVersion string // as the server tells it, such as 3.6.0; empty on 3.5
	Endpoint       string // the member that the snapshot was taken from
}

// Endpoint returns the endpoint that [Save] takes the snapshot from: the first that answered.
func (c *Client) Endpoint() string { return c.first }

// Save streams a snapshot of one member into a new file (mode 0600; fs.ErrExist if the name is taken). It has begun to write it back, but does not wait until it is on disk:
// whoever keeps the file syncs it, and can prove it in the meantime.
// It is hashed while it is written and compared with the trailer that the server sends: nothing is read twice. On any failure the file is removed.
// progress, which may be nil, is called with bytes. The time is bounded by ctx, and a stream that sends nothing for the stall timeout is given up.
func Save(ctx context.Context, c *Client, path string, progress func(done, total int64)) (Saved, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return Saved{}, fmt.Errorf("cannot save a snapshot: %w", err)
	}
	saved, err := c.stream(ctx, f, progress)
	err = errors.Join(err, f.Close())
	if err != nil {
		return Saved{}, errors.Join(fmt.Errorf("cannot save a snapshot of %s to %s: %w", c.first, path, err), os.Remove(path))
	}
	saved.Path = path
	return saved, nil
}

func (c *Client) stream(ctx context.Context, f *os.File, progress func(done, total int64)) (Saved, error) {
	if err := c.probe(ctx, c.first); err != nil {
		return Saved{}, errors.New(c.reason(err))
	}
	w := trailerWriter{f: f, sum: sha256.New(), flushed: flusher(f)}
	s := newSpool(w.write)
	saved, err := c.receive(ctx, s.write, progress)
	if failed := s.finish(); failed != nil {
		err = failed // and what was received had nowhere to go
	}
	if err != nil {
		return Saved{}, err
	}
	saved.SizeBytes = w.size
	saved.DataSHA256, saved.SHA256, err = w.finish()
	return saved, err
}

// receive hands on what comes, until all has come.
func (c *Client) receive(ctx context.Context, write func([]byte) error, progress func(done, total int64)) (Saved, error) {
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
	for {
		err := stream.RecvMsg(p)
		if errors.Is(err, io.EOF) {
			return saved, nil
		}
		if err != nil {
			return Saved{}, fail(err)
		}
		watchdog.Reset(stall)
		feed.expect(p.remaining)
		if p.version != "" {
			saved.StorageVersion = p.version
		}
		if err := write(p.blob); err != nil {
			return Saved{}, err
		}
		received += int64(len(p.blob))
		if progress != nil {
			progress(received, received+int64(p.remaining))
		}
	}
}

// trailerWriter writes and hashes a stream whose last 32 bytes are not part of what they are the hash of. Where the stream ends is known only at its end.
type trailerWriter struct {
	f       *os.File
	sum     hash.Hash // of all but held
	held    [sha256.Size]byte
	size    int64            // written so far, held included
	flushed func(size int64) // told how much was written
}

func (w *trailerWriter) write(p []byte) error {
	if _, err := w.f.Write(p); err != nil {
		return err
	}
	held := w.held[:min(w.size, sha256.Size)]
	w.size += int64(len(p))
	if len(p) >= sha256.Size {
		w.sum.Write(held)
		w.sum.Write(p[:len(p)-sha256.Size])
		copy(w.held[:], p[len(p)-sha256.Size:])
	} else {
		tail := append(append([]byte(nil), held...), p...)
		over := max(0, len(tail)-sha256.Size)
		w.sum.Write(tail[:over])
		copy(w.held[:], tail[over:])
	}
	w.flushed(w.size)
	return nil
}

// finish compares the trailer and returns the hashes of the data and of the whole file.
func (w *trailerWriter) finish() (data, file string, err error) {
	if w.size%512 != sha256.Size {
		return "", "", fmt.Errorf("etcd sent %d bytes, which is not a db and a trailer of 32: the stream was cut, or the server is older than 3.2", w.size)
	}
	sum := w.sum.Sum(nil)
	if !bytes.Equal(sum, w.held[:]) {
		return "", "", ErrTrailer
	}
	w.sum.Write(w.held[:])
	return hex.EncodeToString(sum), hex.EncodeToString(w.sum.Sum(nil)), nil
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
