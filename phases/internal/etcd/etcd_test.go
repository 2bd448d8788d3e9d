package etcd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdpod/etcdpod/e2e/binaries"
)

var versions = binaries.EtcdVersions()

// etcdBinary returns the path of a real etcd: the one in ETCDPOD_TEST_ETCD_3_7_3 (say), else one
// built from the module proxy.
func etcdBinary(t testing.TB, version string) string {
	t.Helper()
	if path := os.Getenv("ETCDPOD_TEST_ETCD_" + strings.ReplaceAll(version, ".", "_")); path != "" {
		return path
	}
	path, err := binaries.Etcd(t.Context(), version)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// server is one real etcd process of a cluster.
type server struct {
	t        testing.TB
	cmd      *exec.Cmd
	exited   chan struct{}
	log      *strings.Builder
	logLock  sync.Mutex
	Name     string
	Dir      string
	Endpoint string // client URL
	PeerURL  string
}

func (s *server) Write(p []byte) (int, error) {
	s.logLock.Lock()
	defer s.logLock.Unlock()
	return s.log.Write(p)
}

// patience allows for a busy machine, and only ends a hang.
const patience = 5 * time.Minute

// claimURLs returns two http URLs that stay free for this test. Their ports lie outside the
// kernel's range for outgoing connections, which could take a free port before etcd does, or while
// etcd is down. They are two of a block of ten: whoever listens on its first port, which is
// otherwise unused, has the block, as in package sandbox.
func claimURLs(t testing.TB) (client, peer string) {
	t.Helper()
	const first, last, block = 10000, 30000, 10
	for i := range (last - first) / block {
		base := first + (os.Getpid()+i)*block%(last-first)
		claim, err := net.Listen("tcp", address(base))
		if err != nil {
			continue
		}
		if isFree(base+1) && isFree(base+2) {
			t.Cleanup(func() { _ = claim.Close() })
			return "http://" + address(base+1), "http://" + address(base+2)
		}
		_ = claim.Close()
	}
	t.Fatal("no ports are free")
	return "", ""
}

func address(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

func isFree(port int) bool {
	l, err := net.Listen("tcp", address(port))
	return err == nil && l.Close() == nil
}

// newServer describes a member that is not running yet. Its data directory is
// below a temporary one.
func newServer(t testing.TB, name string) *server {
	client, peer := claimURLs(t)
	return &server{t: t, Name: name, Dir: filepath.Join(t.TempDir(), name), Endpoint: client, PeerURL: peer}
}

// start runs the member with the given version and extra flags; without
// --initial-cluster flags it is alone.
func (s *server) start(version string, extra ...string) *server {
	s.t.Helper()
	args := []string{
		"--name", s.Name, "--data-dir", s.Dir, "--listen-client-urls",
		s.Endpoint, "--advertise-client-urls", s.Endpoint,
		"--listen-peer-urls", s.PeerURL, "--initial-advertise-peer-urls", s.PeerURL, "--log-level", "warn",
	}
	if !strings.Contains(strings.Join(extra, " "), "--initial-cluster") {
		args = append(args, "--initial-cluster", s.Name+"="+s.PeerURL)
	}
	s.cmd, s.log, s.exited = exec.Command(etcdBinary(s.t, version), append(args, extra...)...),
		new(strings.Builder), make(chan struct{})
	s.cmd.Stdout, s.cmd.Stderr = s, s
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	cmd, exited := s.cmd, s.exited
	go func() { _ = cmd.Wait(); close(exited) }()
	s.t.Cleanup(s.kill)
	return s
}

// await returns when the member serves.
func (s *server) await() *server {
	s.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		select {
		case <-s.exited:
			s.t.Fatalf("etcd ended:\n%s", s.output())
		default:
		}
		c, err := Dial(s.t.Context(), Access{Endpoints: []string{s.Endpoint}})
		if err != nil {
			continue
		}
		err = c.Ready(s.t.Context())
		_ = c.Close()
		if err == nil {
			return s
		}
	}
	s.t.Fatalf("etcd does not become ready:\n%s", s.output())
	return nil
}

func (s *server) output() string {
	s.logLock.Lock()
	defer s.logLock.Unlock()
	log := s.log.String()
	return log[max(0, len(log)-4000):]
}

// kill ends the member with SIGKILL, as abruptly as a power loss.
func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	<-s.exited
}

// stop ends the member gracefully.
func (s *server) stop() {
	_ = s.cmd.Process.Signal(os.Interrupt)
	<-s.exited
}

func (s *server) client() *Client {
	s.t.Helper()
	c, err := Dial(s.t.Context(), Access{Endpoints: []string{s.Endpoint}, DialTimeout: patience, CallTimeout: patience})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	return c
}

// put writes n keys of size bytes below prefix, and returns when all are acknowledged.
func (s *server) put(prefix string, n, size int) {
	s.t.Helper()
	c, value := s.client(), strings.Repeat("x", size)
	const writers = 32
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := w; i < n; i += writers {
				key := fmt.Sprintf("%s%06d", prefix, i)
				if err := putOnce(s.t.Context(), c.v3, key, fmt.Sprint(i, value)); err != nil {
					s.t.Errorf("cannot put: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// putOnce writes a key exactly once. On a busy disk etcd gives up waiting after seven seconds, and
// what it gave up on may have been written.
func putOnce(ctx context.Context, c *clientv3.Client, key, value string) error {
	before, err := c.Get(ctx, key, clientv3.WithSerializable())
	if err != nil {
		return err
	}
	var revision int64 // 0: there is no such key
	if len(before.Kvs) > 0 {
		revision = before.Kvs[0].ModRevision
	}
	_, err = c.Put(ctx, key, value)
	for deadline := time.Now().Add(patience); errors.Is(err, rpctypes.ErrTimeout) && time.Now().Before(deadline); {
		_, err = c.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", revision)).
			Then(clientv3.OpPut(key, value)).Commit()
	}
	return err
}

// contents returns all keys with their values, in one string for each.
func (s *server) contents() map[string]string {
	s.t.Helper()
	r, err := s.client().v3.Get(s.t.Context(), "", clientv3.WithPrefix())
	if err != nil {
		s.t.Fatal(err)
	}
	all := map[string]string{}
	for _, kv := range r.Kvs {
		all[string(kv.Key)] = string(kv.Value)
	}
	return all
}

func fileSHA256(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
