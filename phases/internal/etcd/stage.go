package etcd

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.etcd.io/etcd/server/v3/storage/schema"

	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
)

// ErrHashMismatch says that a snapshot file does not have the expected SHA-256.
var ErrHashMismatch = errors.New("its SHA-256 is not the expected one")

// ErrChanged says that a file was changed or replaced while it was read.
var ErrChanged = errors.New("it was changed or replaced while being read")

// StageSpec says what to build, and from what.
type StageSpec struct {
	Snapshot string // path of a file that has been proven
	SHA256   string // hex; of the whole file; "" only with SkipHashCheck
	// SkipHashCheck is for a file without a trailer, or with an unknown hash.
	SkipHashCheck bool

	Dir    string // data directory to create, mode 0700; its parent exists
	WALDir string // likewise; "" for member/wal in Dir

	Name           string   // of this member
	PeerURLs       []string // of this member
	InitialCluster string   // name=peerURL,… of all members, this one included
	// Initial cluster token: a fresh one each time keeps members of the old cluster away.
	Token string
	// Added to the snapshot's revision, and everything before is marked compacted; 0 does neither.
	BumpRevision int64

	Progress func(done, total int64) // bytes; may be nil
	Apart    Apart                   // where etcd's own code runs
}

// Staged is a data directory that an etcd can start on.
type Staged struct {
	ClusterID, MemberID uint64
	Revision            int64  // of the data, after the bump
	SHA256              string // hex; of the whole snapshot file, as read
}

// Stage builds the data directory of one member of a new cluster from a snapshot file, and returns
// when all of it is on disk. On failure it leaves nothing. It uses etcdutl's library without the
// library's own hash check, which rereads the whole copy after writing it. Instead the file is
// hashed while it is copied.
//
// The 3.7 library's tree starts on 3.5, 3.6 and 3.7 (there is a test): the library still writes the
// .snap file with the members in the v2 format, which 3.5 and 3.6 read, and keeps the snapshot's
// storage version in the db.
func Stage(ctx context.Context, spec StageSpec) (Staged, error) {
	staged, err := stage(ctx, spec)
	if err != nil {
		return Staged{}, fmt.Errorf("cannot stage %s in %s: %w", spec.Snapshot, spec.Dir, err)
	}
	return staged, nil
}

func stage(ctx context.Context, spec StageSpec) (staged Staged, err error) {
	if (spec.SHA256 == "") != spec.SkipHashCheck {
		return staged, errors.New("give either the expected SHA-256 or say that it is not to be checked")
	}
	if spec.BumpRevision < 0 {
		return staged, errors.New("a revision cannot be lowered")
	}
	if staged.ClusterID, staged.MemberID, err = spec.ids(); err != nil {
		return staged, err
	}
	for _, dir := range []string{spec.Dir, spec.WALDir} {
		if _, err := os.Lstat(dir); dir != "" && !errors.Is(err, fs.ErrNotExist) {
			return staged, fmt.Errorf("%s already exists", dir)
		}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, removeAll(spec.Dir, spec.WALDir))
		}
	}()
	src, _, err := snapfile.OpenPlain(spec.Snapshot)
	if err != nil {
		return staged, err
	}
	defer src.Close()
	before, err := src.Stat()
	if err != nil {
		return staged, err
	}
	var restored error
	copied, waitRestored := snapfile.Beside(func() {
		// By descriptor: the library reads the very file that is hashed here.
		apart := spec
		apart.Snapshot = spec.Apart.descriptor(0, src)
		staged.Revision, restored = spec.Apart.do(ctx, job{Restore: &apart}, src)
	})
	var hashed atomic.Int64
	_, waitHanded := snapfile.Beside(func() { handOver(src, dbPath(spec.Dir), &hashed, copied) })
	staged.SHA256, err = hashFile(ctx, src, before.Size(), func(done, total int64) {
		hashed.Store(done)
		if spec.Progress != nil {
			spec.Progress(done, total)
		}
	})
	waitRestored()
	waitHanded()
	if err != nil {
		return staged, err
	}
	// Before what the library says: of another file than the proven one it may say anything.
	if err := unchanged(src, spec.Snapshot, before); err != nil {
		return staged, err
	}
	if !spec.SkipHashCheck && !strings.EqualFold(staged.SHA256, spec.SHA256) {
		return staged, fmt.Errorf("%w: %s instead of %s", ErrHashMismatch, staged.SHA256, spec.SHA256)
	}
	if restored != nil {
		return staged, restored
	}
	return staged, spec.sync()
}

// ids computes the library's ids in advance: they are hashes of the peer URLs and the token.
func (s StageSpec) ids() (cluster, member uint64, err error) {
	urls, err := types.NewURLsMap(s.InitialCluster)
	if err != nil {
		return 0, 0, fmt.Errorf("the initial cluster %q is not of the form name=URL,…: %w", s.InitialCluster, err)
	}
	c, err := membership.NewClusterFromURLsMap(quiet(), s.Token, urls)
	if err != nil {
		return 0, 0, err
	}
	m := c.MemberByName(s.Name)
	if m == nil {
		return 0, 0, fmt.Errorf("the initial cluster %q does not name the member %q", s.InitialCluster, s.Name)
	}
	return uint64(c.ID()), uint64(m.ID), nil
}

// restore runs the library, and returns the revision of what it made. It ignores a bump without the
// mark, and the mark without a bump, so it gets both or neither. It adds the bump to the last
// entry's revision, which a compaction may have passed.
func (s StageSpec) restore() (revision int64, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = gone(p)
		}
	}()
	bump := s.BumpRevision
	if bump > 0 {
		last, current, err := revisions(s.Snapshot)
		if err != nil {
			return 0, err
		}
		bump += current - last
	}
	err = snapshot.NewV3(quiet()).Restore(snapshot.RestoreConfig{
		SnapshotPath: s.Snapshot, SkipHashCheck: true, OutputDataDir: s.Dir, OutputWALDir: s.WALDir,
		Name: s.Name, PeerURLs: s.PeerURLs, InitialCluster: s.InitialCluster, InitialClusterToken: s.Token,
		RevisionBump: uint64(bump), MarkCompacted: bump > 0,
	})
	if err != nil {
		return 0, err
	}
	_, revision, err = revisions(dbPath(s.Dir))
	return revision, err
}

func hashFile(ctx context.Context, f *os.File, size int64, progress func(done, total int64)) (string, error) {
	sum, buf := sha256.New(), make([]byte, 1<<20)
	for done := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		n, err := f.Read(buf)
		sum.Write(buf[:n])
		done += int64(n)
		if n > 0 {
			progress(done, size)
		}
		if errors.Is(err, io.EOF) {
			return hex.EncodeToString(sum.Sum(nil)), nil
		}
		if err != nil {
			return "", err
		}
	}
}

// unchanged compares the open file, and the file that now has the name, with the first look: what
// was hashed is what the library read.
func unchanged(f *os.File, path string, before os.FileInfo) error {
	same, err := f.Stat()
	if err != nil {
		return err
	}
	named, err := os.Stat(path)
	if err != nil {
		return ErrChanged
	}
	for _, now := range []os.FileInfo{same, named} {
		if !os.SameFile(before, now) || before.Size() != now.Size() || !before.ModTime().Equal(now.ModTime()) ||
			changed(before) != changed(now) {
			return ErrChanged
		}
	}
	return nil
}

// changed is when the file was last changed: unlike the time of the last write, nobody can set it.
func changed(f os.FileInfo) syscall.Timespec { return f.Sys().(*syscall.Stat_t).Ctim }

// revisions returns the revision of a db's last entry, and the revision that an etcd starts with on
// it: that of the last compaction, if it removed the last entries because they were deletions
// (mvcc/kvstore.go, restore).
func revisions(path string) (last, current int64, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = gone(p)
		}
	}()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return 0, 0, err
	}
	err = db.View(func(tx *bbolt.Tx) error {
		keys, meta := tx.Bucket(schema.Key.Name()), tx.Bucket(schema.Meta.Name())
		if keys == nil || meta == nil {
			return errors.New("the db lacks etcd's buckets")
		}
		k, _ := keys.Cursor().Last()
		last = mainRevision(k)
		current = max(1, last, mainRevision(meta.Get(schema.ScheduledCompactKeyName)),
			mainRevision(meta.Get(schema.FinishedCompactKeyName)))
		return nil
	})
	return last, current, errors.Join(err, db.Close())
}

// mainRevision decodes the first half of a revision as stored by etcd.
func mainRevision(b []byte) int64 {
	if len(b) < 8 {
		return 0
	}
	return int64(binary.BigEndian.Uint64(b))
}

// sync makes every file and name of the tree durable, from the leaves up, including the
// names in the parent.
func (s StageSpec) sync() error {
	var dirs []string
	for _, root := range []string{s.Dir, s.WALDir} {
		if root == "" {
			continue
		}
		err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.Type().IsRegular() {
				err = syncFile(path)
			} else if err == nil && e.IsDir() {
				dirs = append(dirs, path)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	for i := len(dirs) - 1; i >= 0; i-- {
		if err := syncDir(dirs[i]); err != nil {
			return err
		}
	}
	if s.WALDir != "" {
		if err := syncDir(filepath.Dir(s.WALDir)); err != nil {
			return err
		}
	}
	return syncDir(filepath.Dir(s.Dir))
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// removeAll removes what a failed staging made.
func removeAll(dirs ...string) error {
	var errs []error
	for _, d := range dirs {
		if d != "" {
			errs = append(errs, os.RemoveAll(d))
		}
	}
	return errors.Join(errs...)
}
