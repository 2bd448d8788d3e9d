package etcd

import (
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestASnapshotIsHashedWhileItIsWritten(t *testing.T) {
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
			if info.Mode().Perm() != 0o600 || info.Size() != saved.SizeBytes || done != saved.SizeBytes || total != done {
				t.Errorf("mode %v, size %d; told %d, progress %d of %d", info.Mode(), info.Size(), saved.SizeBytes, done, total)
			}
			if sum := fileSHA256(t, path); sum != saved.SHA256 {
				t.Errorf("SHA256 %s, the file's is %s", saved.SHA256, sum)
			}
			want := map[string]string{"3.5.35": "", "3.6.16": "3.6.0", "3.7.3": "3.7.0"}[version]
			if saved.StorageVersion != want {
				t.Errorf("storage version %q, want %q", saved.StorageVersion, want)
			}
			if _, err := Save(t.Context(), s.client(), path, nil); !errors.Is(err, fs.ErrExist) {
				t.Errorf("saved over a file that is there: %v", err)
			}
		})
	}
}

func TestTheTrailerIsFoundHoweverTheStreamIsCut(t *testing.T) {
	t.Parallel()
	data := make([]byte, 4096)
	for i := range data {
		data[i] = byte(i * 7)
	}
	sum := sha256.Sum256(data)
	good := append(append([]byte(nil), data...), sum[:]...)
	flipped := append([]byte(nil), good...)
	flipped[100] ^= 1
	for _, test := range []struct {
		name string
		data []byte
		step int
		ok   bool
	}{
		{"in one part", good, len(good), true},
		{"the trailer in its own part", good, 4096, true},
		{"the trailer in two parts", good, 4100, true},
		{"byte by byte", good, 1, true},
		{"in parts of 31 bytes", good, 31, true},
		{"with a flipped bit", flipped, 500, false},
		{"without a trailer", data, 500, false},
		{"cut in the trailer", good[:4110], 500, false},
		{"empty", nil, 1, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			f, err := os.Create(filepath.Join(t.TempDir(), "f"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			w := trailerWriter{f: f, sum: hash.Hash(sha256.New()), flushed: func(int64) {}}
			for rest := test.data; len(rest) > 0; {
				n := min(test.step, len(rest))
				if err := w.write(rest[:n]); err != nil {
					t.Fatal(err)
				}
				rest = rest[n:]
			}
			_, file, err := w.finish()
			if (err == nil) != test.ok {
				t.Fatalf("finish: %v", err)
			}
			if test.ok && file != fileSHA256(t, f.Name()) {
				t.Errorf("hash of the whole file: %s", file)
			}
		})
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
	proxy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	_, address, _ := strings.Cut(s.Endpoint, "//")
	go func() { // forwards the first 200 kB of each answer, and keeps the connection open
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
			go func() { _, _ = io.CopyN(in, out, 200_000) }()
		}
	}()
	c, err := Dial(t.Context(), Access{Endpoints: []string{"http://" + proxy.Addr().String()}, StallTimeout: 500 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	path := filepath.Join(t.TempDir(), "snap.db")
	if _, err := Save(t.Context(), c, path, nil); err == nil || !strings.Contains(err.Error(), "etcd sent nothing for 500ms") {
		t.Errorf("save: %v", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file is left: %v", err)
	}
}
