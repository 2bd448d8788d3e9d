package etcd

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
)

func TestASnapshotIsWrittenAsItCame(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, "a").start(version).await()
			s.put("/registry/pods/default/p", 500, 2000)
			path := filepath.Join(t.TempDir(), "snap.db")
			var done, total int64
			saved, err := Save(t.Context(), s.client(), path, func(d, of int64) { done, total = d, of })
			if err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().Perm() != 0o600 || info.Size() != saved.SizeBytes ||
				done != saved.SizeBytes || total != done {
				t.Errorf("mode %v, size %d; told %d, progress %d of %d",
					info.Mode(), info.Size(), saved.SizeBytes, done, total)
			}
			if r, err := snapfile.Check(t.Context(), path, snapfile.Options{}); err != nil || r.Keys != 500 {
				t.Errorf("it is not good: %v", err)
			}
			if _, err := Save(t.Context(), s.client(), path, nil); !errors.Is(err, fs.ErrExist) {
				t.Errorf("saved over a file that is there: %v", err)
			}
		})
	}
}

// forward copies from one connection to the other, changing the data.
func forward(to, from net.Conn, change func([]byte) []byte) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if _, failed := to.Write(change(buf[:n])); failed != nil || err != nil {
			return
		}
	}
}

func TestDamageOnTheWayIsFoundInTheFile(t *testing.T) {
	t.Parallel()
	s := newServer(t, "a").start("3.6.16").await()
	s.put("/registry/pods/default/p", 500, 2000)
	path := filepath.Join(t.TempDir(), "snap.db")
	c, err := Dial(t.Context(), Access{Endpoints: []string{proxied(t, s, func(to, from net.Conn) {
		forward(to, from, func(b []byte) []byte {
			return bytes.ReplaceAll(b, []byte("/default/p"), []byte("/defaulT/p"))
		})
	})}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := Save(t.Context(), c, path, nil); err != nil {
		t.Fatal(err)
	}
	var bad *snapfile.Bad
	if _, err := snapfile.Check(t.Context(), path, snapfile.Options{}); !errors.As(err, &bad) ||
		bad.Check != snapfile.CheckTrailer {
		t.Errorf("check: %v", err)
	}
}

func TestAStreamThatIsCutIsNoSnapshot(t *testing.T) {
	t.Parallel()
	s := newServer(t, "a").start("3.7.3").await()
	s.put("/k", 200, 5000)
	path := filepath.Join(t.TempDir(), "snap.db")
	c, err := Dial(t.Context(), Access{Endpoints: []string{proxied(t, s, func(to, from net.Conn) {
		_, _ = io.CopyN(to, from, 200_000)
		to.Close()
	})}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = Save(t.Context(), c, path, nil)
	t.Log(err)
	if err == nil {
		t.Error("200 kB of 1 MB passed for a snapshot")
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file is left: %v", err)
	}
}

// proxied returns the URL of a proxy before a server. answer passes on what the server sends.
func proxied(t *testing.T, s *server, answer func(to, from net.Conn)) string {
	t.Helper()
	proxy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { proxy.Close() })
	_, address, _ := strings.Cut(s.Endpoint, "//")
	go func() {
		for {
			in, err := proxy.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", address)
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(out, in) }()
			go answer(in, out)
		}
	}()
	return "http://" + proxy.Addr().String()
}

func TestAStreamThatIsSlowDoesNotStall(t *testing.T) {
	t.Parallel()
	s := newServer(t, "a").start("3.7.3").await()
	s.put("/k", 5000, 5000)
	slow := proxied(t, s, func(to, from net.Conn) {
		// Longer than the timeout, and with far less data in it than the kernel gathers.
		for range 40 {
			_, _ = io.CopyN(to, from, 32<<10)
			time.Sleep(200 * time.Millisecond)
		}
		_, _ = io.Copy(to, from)
	})
	c, err := Dial(t.Context(), Access{Endpoints: []string{slow}, StallTimeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	path := filepath.Join(t.TempDir(), "snap.db")
	if saved, err := Save(t.Context(), c, path, nil); err != nil || saved.SizeBytes < ending {
		t.Errorf("save: %v, %d bytes", err, saved.SizeBytes)
	}
}

func TestAFailedSaveLeavesNoFile(t *testing.T) {
	t.Parallel()
	s := newServer(t, "a").start("3.7.3").await()
	c := s.client()
	s.kill()
	path := filepath.Join(t.TempDir(), "snap.db")
	if _, err := Save(t.Context(), c, path, nil); err == nil {
		t.Fatal("saved a snapshot of an etcd that is dead")
	} else {
		t.Log(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file is left: %v", err)
	}
}

func TestAStreamThatStallsIsGivenUp(t *testing.T) {
	t.Parallel()
	s := newServer(t, "a").start("3.7.3").await()
	s.put("/k", 200, 5000)
	// The connection stays open.
	stalling := proxied(t, s, func(to, from net.Conn) { _, _ = io.CopyN(to, from, 200_000) })
	c, err := Dial(t.Context(), Access{Endpoints: []string{stalling}, StallTimeout: 500 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	path := filepath.Join(t.TempDir(), "snap.db")
	if _, err := Save(t.Context(), c, path, nil); err == nil ||
		!strings.Contains(err.Error(), "etcd sent nothing for 500ms") {
		t.Errorf("save: %v", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file is left: %v", err)
	}
}
