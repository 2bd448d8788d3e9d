package etcd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
)

// FromDataDir is a snapshot file made from a stopped member's data directory.
type FromDataDir struct {
	Path           string
	SizeBytes      int64
	SHA256         string           // hex; of the whole file, as sha256sum prints it
	DataDir        *DataDir         // what it was made from
	Contents       *snapfile.Report // of the file itself, which has been proven
	Revision       int64            // with the log applied
	StorageVersion string           // the same as that of the db; empty before 3.6
	Applied        int              // raft entries that only the log had
	Caveats        []string         // see [DataDir.Caveats]
}

// SnapshotFromDataDir makes a snapshot file (new, mode 0600, with its SHA-256 at the end, on disk
// when it returns) from the data directory of a stopped member: its db, and on top of it every
// valid entry of the write-ahead log. etcd itself would apply only the entries that it knows are
// committed. With --force-new-cluster it cuts off the others, although a single-member etcd had
// acknowledged them: it does not sync its note of what is committed. The source is not changed.
// walDir is "" where it is member/wal. The errors are those of [Inspect], and [*HoleError]; after
// an error no file is left. progress, which may be nil, gets bytes, a rough measure.
func (a Apart) SnapshotFromDataDir(
	ctx context.Context, dir, walDir, out string, progress func(done, total int64),
) (*FromDataDir, error) {
	return a.snapshotFrom(ctx, dir, walDir, out, false, progress)
}

// SnapshotUpToHole is [Apart.SnapshotFromDataDir] for somebody who gives up what came after a hole.
func (a Apart) SnapshotUpToHole(
	ctx context.Context, dir, walDir, out string, progress func(done, total int64),
) (*FromDataDir, error) {
	return a.snapshotFrom(ctx, dir, walDir, out, true, progress)
}

func (a Apart) snapshotFrom(
	ctx context.Context, dir, walDir, out string, upToHole bool, progress func(done, total int64),
) (*FromDataDir, error) {
	unlock, err := lockShared(dir) // held throughout: no etcd can start meanwhile
	if err != nil {
		return nil, fmt.Errorf("cannot make a snapshot of the data directory %s: %w", dir, err)
	}
	defer unlock()
	d, err := inspect(ctx, dir, walDir)
	if err != nil {
		return nil, fmt.Errorf("cannot make a snapshot of the data directory %s: %w", dir, err)
	}
	if d.Hole != nil && !upToHole {
		return nil, fmt.Errorf("cannot make a snapshot of the data directory %s: %w", dir, &HoleError{*d.Hole})
	}
	if progress == nil {
		progress = func(int64, int64) {}
	}
	f, err := os.OpenFile(out, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot make a snapshot of the data directory %s: %w", dir, err)
	}
	made, err := a.writeSnapshot(ctx, d, f, progress)
	if err = errors.Join(err, f.Close()); err == nil {
		err = syncDir(filepath.Dir(out))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot make the snapshot %s of the data directory %s: %w", out, dir, err),
			os.Remove(out))
	}
	return made, nil
}

func (a Apart) writeSnapshot(
	ctx context.Context, d *DataDir, f *os.File, progress func(done, total int64),
) (*FromDataDir, error) {
	made := &FromDataDir{Path: f.Name(), DataDir: d, Revision: d.Contents.Revision,
		StorageVersion: d.Contents.StorageVersion, Applied: d.Pending()}
	// The open file: in a directory that others may write to, its name may lead to another one by
	// now.
	file := Apart(nil).descriptor(0, f)
	size := d.Contents.SizeBytes
	steps := meter{total: 2*size + int64(d.Pending()), report: progress}
	if err := copyFile(ctx, d.DB, f, &steps); err != nil {
		return nil, err
	}
	if d.Pending() > 0 {
		if err := d.reserve(f); err != nil {
			return nil, err
		}
		revision, err := a.do(ctx, job{Replay: d.replaying(a.descriptor(0, f))}, f)
		if err != nil {
			return nil, err
		}
		made.Revision = revision
		steps.add(int64(d.Pending()))
	}
	size, err := levelMetaPages(file)
	if err != nil {
		return nil, err
	}
	if made.SHA256, err = appendTrailer(ctx, f, size, &steps); err != nil {
		return nil, err
	}
	made.SizeBytes = size + sha256.Size
	if err := f.Sync(); err != nil {
		return nil, err
	}
	proven, err := snapfile.Check(ctx, file, snapfile.Options{})
	if err != nil {
		return nil, err
	}
	made.Contents = proven
	if proven.Revision != made.Revision || proven.StorageVersion != made.StorageVersion ||
		proven.ConsistentIndex != max(d.ConsistentIndex, d.LastIndex) {
		return nil, fmt.Errorf("the result is at revision %d, raft entry %d, storage version %q instead of %d, %d, %q",
			proven.Revision, proven.ConsistentIndex, proven.StorageVersion,
			made.Revision, d.LastIndex, made.StorageVersion)
	}
	made.Caveats = d.Caveats()
	return made, nil
}

// reserve takes the room that the replay may need, so that a full disk is found out here: etcd's
// own code writes from goroutines of its own, where its giving up would end the program.
func (d *DataDir) reserve(f *os.File) error {
	const more = 64 << 20 // what the pages around what is written take
	need := d.Contents.SizeBytes + more
	for _, e := range d.log.entries {
		need += 2 * int64(len(e.Data))
	}
	err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, need)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil // that file system cannot promise room
	}
	if err != nil {
		return fmt.Errorf("not enough space to apply the log: %d MiB needed: %w", need>>20, err)
	}
	return nil
}

// Caveats says, in full sentences, what a snapshot made from this one member's files may lack, or
// may hold although no client was told so.
func (d *DataDir) Caveats() []string {
	var c []string
	switch {
	case d.Hole != nil:
		c = append(c, fmt.Sprintf("Raft entry %d is missing: %s. Everything before that is in the snapshot; what was "+
			"written later is lost.", d.Hole.First, d.Hole.Reason))
	case d.Damage != nil && d.Damage.Cut:
		c = append(c, fmt.Sprintf("The log's last record, in %v, was left out: it is a write that never finished, so "+
			"it was never acknowledged; or the file was truncated, and later writes are lost.", d.Damage))
	case d.Damage != nil:
		c = append(c, fmt.Sprintf("The log's last record, in %v, was left out: it is a write that never finished, so "+
			"it was never acknowledged.", d.Damage))
	}
	if d.Removed {
		c = append(c, "The member had been removed from its cluster, so the data may be old.")
	}
	if d.Voters > 1 && d.Follower {
		c = append(c, fmt.Sprintf("The member was a follower in a cluster of %d: the others may have acknowledged "+
			"writes that it had not received.", d.Voters))
	} else if d.Voters > 1 {
		c = append(c, fmt.Sprintf("The member was one of %d: if another one became leader later, it acknowledged "+
			"writes that are not here.", d.Voters))
	}
	if beyond := int64(d.LastIndex) - int64(d.CommitIndex); d.Voters > 1 && beyond > 0 {
		c = append(c, fmt.Sprintf("The last %d raft entries were not yet known to be committed: they are in the "+
			"snapshot, but may never have been acknowledged to clients.", beyond))
	}
	return c
}

// copyFile copies path into f, sharing blocks where the file system can.
func copyFile(ctx context.Context, path string, f *os.File, steps *meter) error {
	src, _, err := snapfile.OpenPlain(path)
	if err != nil {
		return err
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return err
	}
	if unix.IoctlFileClone(int(f.Fd()), int(src.Fd())) == nil {
		steps.add(info.Size())
		return nil
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.CopyN(f, src, 64<<20) // copy_file_range, in the kernel
		steps.add(n)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// appendTrailer cuts the file to size, appends the SHA-256 of the rest, and returns
// that of the whole file.
func appendTrailer(ctx context.Context, f *os.File, size int64, steps *meter) (string, error) {
	if err := f.Truncate(size); err != nil {
		return "", err
	}
	sum, buf := sha256.New(), make([]byte, 1<<20)
	for at := int64(0); at < size; {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		n, err := f.ReadAt(buf[:min(int64(len(buf)), size-at)], at)
		if err != nil {
			return "", err
		}
		sum.Write(buf[:n])
		steps.add(int64(n))
		at += int64(n)
	}
	trailer := sum.Sum(nil)
	if _, err := f.WriteAt(trailer, size); err != nil {
		return "", err
	}
	sum.Write(trailer)
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// meter adds up progress.
type meter struct {
	done, total int64
	report      func(done, total int64)
}

func (m *meter) add(n int64) {
	m.done = min(m.done+n, m.total)
	m.report(m.done, m.total)
}
