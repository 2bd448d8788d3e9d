package etcd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"go.etcd.io/bbolt"
	"go.etcd.io/raft/v3/raftpb"
	"golang.org/x/sys/unix"

	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// apartName makes this test binary the process in which etcd's own code works.
const apartName = "apart"

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == apartName {
		if err := ServeApart(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// apart is as package bind has it.
func apart(ctx context.Context, files []*os.File, in func(io.Writer) error) ([]byte, error) {
	out, err := node.Again(ctx, []string{apartName}, files, in)
	if crashed := (*node.CrashedError)(nil); errors.As(err, &crashed) {
		return nil, &EndedError{How: crashed.How, Said: crashed.Said}
	}
	return out, err
}

// leavesNothing fails unless a staging failed and left nothing.
func leavesNothing(t *testing.T, spec StageSpec, err error) {
	t.Helper()
	if err == nil {
		t.Fatal("staged")
	}
	if _, err := os.Lstat(spec.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is left", spec.Dir)
	}
	if strings.Contains(err.Error(), "goroutine") || strings.Contains(err.Error(), "\n") {
		t.Errorf("a trace: %q", err)
	}
}

// bbolt reads every page of a db in a goroutine of its own when it opens one. Whatever stands there
// by then, it is an error of the run, which goes back.
func TestASnapshotThatIsDamagedAfterItWasProvenIsAnError(t *testing.T) {
	t.Parallel()
	old := newServer(t, "a").start("3.7.3").await()
	old.put("/k", 300, 1000)
	saved := snapshotOf(t, old)
	proven := fileSHA256(t, saved.Path)
	data, err := os.ReadFile(saved.Path)
	if err != nil {
		t.Fatal(err)
	}
	pageSize := int(binary.LittleEndian.Uint32(data[metaAt+metaPageSize:]))
	for at := 2 * pageSize; at+pageSize <= len(data)-32; at += pageSize {
		binary.LittleEndian.PutUint16(data[at+8:], 0x40) // what kind of page it is: none
	}
	if err := os.WriteFile(saved.Path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Run("the file is not the proven one", func(t *testing.T) {
		spec := newServer(t, "b").spec(saved.Path, proven)
		spec.Apart, spec.BumpRevision = apart, 1000
		_, err := Stage(t.Context(), spec)
		leavesNothing(t, spec, err)
		if !errors.Is(err, ErrHashMismatch) {
			t.Error(err)
		}
	})
	t.Run("nothing tells which was proven", func(t *testing.T) {
		for _, bump := range []int64{0, 1000} {
			spec := newServer(t, "b").spec(saved.Path, "")
			spec.Apart, spec.SkipHashCheck, spec.BumpRevision = apart, true, bump
			_, err := Stage(t.Context(), spec)
			leavesNothing(t, spec, err)
			if bad := (*snapfile.Bad)(nil); !errors.As(err, &bad) {
				t.Errorf("bumped by %d, no verdict on the file: %v", bump, err)
			}
		}
	})
}

// The sizes end the room at a commit of the backend, between two, and at the write-ahead log.
func TestADiskThatFillsWhileDataIsStagedIsAnError(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	old := newServer(t, "a").start("3.7.3").await()
	old.put("/k", 300, 1000)
	tight, size := compacted(t, snapshotOf(t, old).Path)
	disk := t.TempDir()
	for pages := range int64(8) {
		room := size + pages*int64(os.Getpagesize())
		spec := newServer(t, "b").spec(tight, fileSHA256(t, tight))
		spec.Dir, spec.BumpRevision = filepath.Join(disk, "data"), 1000
		var mounted error
		spec.Apart = func(ctx context.Context, files []*os.File, in func(io.Writer) error) ([]byte, error) {
			runtime.LockOSThread() // never unlocked: thread and mount end together
			mounted = errors.Join(unix.Unshare(unix.CLONE_NEWNS),
				unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
				unix.Mount("tmpfs", disk, "tmpfs", 0, fmt.Sprintf("size=%d", room)))
			return apart(ctx, files, in)
		}
		_, staged := Stage(t.Context(), spec)
		if mounted != nil {
			t.Skipf("cannot have a mount of its own: %v", mounted)
		}
		if bad := (*snapfile.Bad)(nil); staged == nil || errors.As(staged, &bad) ||
			!strings.Contains(staged.Error(), syscall.ENOSPC.Error()) {
			t.Errorf("%d bytes of room: %v", room, staged)
		}
	}
}

// compacted returns a copy of a db without free pages, and its size: a commit must make it grow.
func compacted(t *testing.T, path string) (string, int64) {
	t.Helper()
	src, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "tight.db")
	dst, err := bbolt.Open(to, 0o600, &bbolt.Options{NoFreelistSync: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(bbolt.Compact(dst, src, 0), dst.Close(), src.Close()); err != nil {
		t.Fatal(err)
	}
	size, err := levelMetaPages(to)
	if err == nil {
		err = os.Truncate(to, size)
	}
	if err != nil {
		t.Fatal(err)
	}
	return to, size
}

func TestWhatIsDoneApartComesOutTheSame(t *testing.T) {
	t.Parallel()
	old := newServer(t, "a").start("3.6.16").await()
	old.put("/k", 100, 100)
	saved := snapshotOf(t, old)
	old.stop()
	for _, where := range []Apart{nil, apart} {
		spec := newServer(t, "b").spec(saved.Path, fileSHA256(t, saved.Path))
		spec.Apart, spec.BumpRevision = where, 1000
		staged, err := Stage(t.Context(), spec)
		if err != nil || staged.Revision != 1101 || staged.SHA256 != fileSHA256(t, saved.Path) {
			t.Errorf("%+v, %v", staged, err)
		}
		made, err := where.SnapshotFromDataDir(t.Context(), old.Dir, "", filepath.Join(t.TempDir(), "out.db"), nil)
		if err != nil || made.Contents.Keys != 100 || made.Revision != 101 {
			t.Errorf("%+v, %v", made, err)
		}
	}
	t.Run("an error of the library", func(t *testing.T) {
		spec := newServer(t, "b").spec(saved.Path, fileSHA256(t, saved.Path))
		spec.Apart, spec.PeerURLs = apart, []string{"http://127.0.0.1:1"}
		_, err := Stage(t.Context(), spec)
		leavesNothing(t, spec, err)
	})
	t.Run("a run that is interrupted", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		spec := newServer(t, "b").spec(saved.Path, fileSHA256(t, saved.Path))
		spec.Apart = func(ctx context.Context, files []*os.File, in func(io.Writer) error) ([]byte, error) {
			cancel()
			return apart(ctx, files, in)
		}
		_, err := Stage(ctx, spec)
		leavesNothing(t, spec, err)
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestHowAProcessEndedTellsWhatIsToBlame(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		ended EndedError
		bad   bool
		want  string
	}{
		{EndedError{"exit status 2", "panic: freepages: failed to get all reachable pages"}, true, "failed to get"},
		{EndedError{"exit status 2", "panic: cannot commit tx: write db: no space left on device"}, false, "no space"},
		{EndedError{"exit status 2", "unexpected fault address 0x7f0; fatal error: fault; " +
			"[signal SIGBUS: bus error code=0x2 addr=0x7f0 pc=0x5]"}, false, "the disk cannot be read"},
		{EndedError{"signal: killed", ""}, false, "signal: killed"},
	} {
		err := test.ended.verdict()
		if bad := (*snapfile.Bad)(nil); errors.As(err, &bad) != test.bad || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v", test.ended, err)
		}
	}
}

// The entries of a log may be many times what a machine has to spare: none waits in memory for the
// other process, nor in that one.
func TestEntriesGoToTheOtherProcessOneByOne(t *testing.T) {
	t.Parallel()
	const entries = 100
	var asked atomic.Int64
	j := job{Replay: &replaying{DB: "x", Entries: entries, next: func() (*raftpb.Entry, error) {
		e := &raftpb.Entry{}
		e.Data = make([]byte, 64<<10)
		asked.Add(1)
		return e, nil
	}}}
	out, in := io.Pipe()
	go func() { _ = in.CloseWithError(j.send(in)) }()
	got, err := receive(out)
	if err != nil || got.Replay.Entries != entries {
		t.Fatalf("%+v, %v", got.Replay, err)
	}
	for i := range int64(entries) {
		e, err := got.Replay.next()
		if err != nil || len(e.GetData()) != 64<<10 {
			t.Fatalf("entry %d: %d bytes, %v", i, len(e.GetData()), err)
		}
		if n := asked.Load(); n > i+2 {
			t.Fatalf("of entry %d: %d are on their way", i, n)
		}
	}
	if _, err := got.Replay.next(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last one: %v", err)
	}
}
