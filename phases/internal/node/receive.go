package node

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
)

// Receive writes size bytes of a stream into a file, 0600. The file gets its name when it is
// complete and durable, and has that SHA-256 (hex).
func Receive(
	ctx context.Context, fsys FS, name string, from io.Reader, size int64, sum string, progress func(done, total int64),
) error {
	temp := receiving(name)
	if err := fsys.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := fsys.Create(temp, nil, Mine(0o600)); err != nil {
		return err
	}
	if err := receive(ctx, fsys, temp, from, size, sum, progress); err != nil {
		return errors.Join(err, fsys.Remove(temp))
	}
	return Move(fsys, temp, name)
}

// receiving is the name of a file while it is received.
func receiving(name string) string { return path.Join(path.Dir(name), "."+path.Base(name)+".part") }

// DropReceived removes what an interrupted Receive may have left behind.
func DropReceived(fsys FS, name string) error {
	if err := fsys.Remove(receiving(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove %s: %w", receiving(name), err)
	}
	return nil
}

// syncEvery bounds the last sync of a large file: the sender takes a long silence for a broken
// connection. Bytes, a multiple of the buffer.
const syncEvery = 64 << 20

func receive(
	ctx context.Context, fsys FS, temp string, from io.Reader, size int64, sum string, progress func(done, total int64),
) error {
	hash := sha256.New()
	buffer := make([]byte, max(0, min(size, 1<<20)))
	for done := int64(0); done < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		part := buffer[:min(int64(len(buffer)), size-done)]
		n, err := io.ReadFull(from, part)
		if err != nil {
			return fmt.Errorf("it was cut off after %d of %d bytes: %w", done+int64(n), size, err)
		}
		_, _ = hash.Write(part) // never fails
		if err := fsys.Append(temp, part); err != nil {
			return err
		}
		done += int64(n)
		progress(done, size)
		if done%syncEvery == 0 {
			if err := fsys.Sync(temp); err != nil {
				return err
			}
		}
	}
	if got := fmt.Sprintf("%x", hash.Sum(nil)); got != sum {
		return fmt.Errorf("its SHA-256 is %s here, but %s at its source", got, sum)
	}
	return fsys.Sync(temp)
}
