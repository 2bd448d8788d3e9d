package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdpod/etcdpod/e2e/binaries"
)

// bareEtcd is an etcd of one member by itself, without TLS, on loopback.
type bareEtcd struct {
	*clientv3.Client
	cmd *exec.Cmd
}

// startEtcd starts an etcd and returns when it answered a linearizable read, and the time from exec
// until then. It ends with this process.
func startEtcd(ctx context.Context, binary, dataDir string, flags ...string) (*bareEtcd, time.Duration, error) {
	client, peer, err := freeURLs()
	if err != nil {
		return nil, 0, err
	}
	start := time.Now()
	e, err := launch(ctx, binary, dataDir, client, append([]string{"--listen-peer-urls=" + peer,
		"--initial-advertise-peer-urls=" + peer, "--initial-cluster=default=" + peer}, flags...)...)
	if err != nil {
		return nil, 0, err
	}
	if err := e.await(ctx); err != nil {
		return nil, 0, errors.Join(err, e.stop())
	}
	return e, time.Since(start), nil
}

// launch starts an etcd that ends with this process; its log is beside its data.
func launch(ctx context.Context, binary, dataDir, client string, flags ...string) (*bareEtcd, error) {
	log, err := os.Create(dataDir + ".log")
	if err != nil {
		return nil, err
	}
	defer log.Close()
	e := new(bareEtcd)
	e.Client, err = clientv3.New(clientv3.Config{Endpoints: []string{client},
		Logger: zap.NewNop(), DialTimeout: time.Second})
	if err != nil {
		return nil, err
	}
	e.cmd = exec.CommandContext(ctx, binary, append([]string{"--data-dir=" + dataDir,
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client}, flags...)...)
	e.cmd.Stdout, e.cmd.Stderr = log, log
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := e.cmd.Start(); err != nil {
		return nil, errors.Join(err, e.Client.Close())
	}
	return e, nil
}

// await returns when a linearizable read was answered. It asks once the port is open: a client that
// was refused waits before it tries again.
func (e *bareEtcd) await(ctx context.Context) error {
	for {
		conn, err := net.Dial("tcp", e.Endpoints()[0][len("http://"):])
		if err == nil {
			conn.Close()
			if _, err = e.Get(ctx, "/health"); err == nil {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("etcd does not answer (see %s): %w", e.cmd.Stdout.(*os.File).Name(), err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (e *bareEtcd) stop() error {
	err := errors.Join(e.Client.Close(), e.cmd.Process.Kill())
	_ = e.cmd.Wait() // it was killed
	return err
}

func freeURLs() (client, peer string, err error) { return freeURLsAt("127.0.0.1") }

func freeURLsAt(host string) (client, peer string, err error) {
	urls := make([]string, 2)
	for i := range urls {
		l, err := net.Listen("tcp", host+":0")
		if err != nil {
			return "", "", err
		}
		defer l.Close()
		urls[i] = "http://" + l.Addr().String()
	}
	return urls[0], urls[1], nil
}

// makeSnapshot returns a snapshot of an etcd with so many bytes of objects. It is made once and
// kept: the next run uses it again.
func makeSnapshot(ctx context.Context, dir, version string, size int64) (string, error) {
	file := filepath.Join(dir, fmt.Sprintf("objects-%d-%s.db", size, version))
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	say("making %d MB of objects", size/megabyte)
	binary, err := binaries.Etcd(ctx, version)
	if err != nil {
		return "", err
	}
	etcdctl, err := binaries.Etcdctl(ctx, version)
	if err != nil {
		return "", err
	}
	data := filepath.Join(dir, "making")
	defer removeAll(data)
	e, _, err := startEtcd(ctx, binary, data, "--unsafe-no-fsync", "--quota-backend-bytes=8589934592")
	if err != nil {
		return "", err
	}
	defer e.stop()
	if _, err := load(ctx, e.Client, newGenerator("bench", 1), size); err != nil {
		return "", err
	}
	if _, _, err := measure(ctx, exec.CommandContext(ctx, etcdctl,
		"--endpoints="+e.Endpoints()[0], "snapshot", "save", file+".new")); err != nil {
		return "", err
	}
	return file, os.Rename(file+".new", file)
}

// removeAll removes what a measurement made. Should that fail, the next one has a little less room.
func removeAll(paths ...string) {
	for _, path := range paths {
		_ = os.RemoveAll(path)
		_ = os.Remove(path + ".log")
	}
}
