package etcd

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The test reads back from the kernel what it was told.
func TestTheKernelGathersWhileThereIsMuchToCome(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f := &feed{level: 1}
	f.expect(1 << 30) // before there is a connection
	conn, err := f.dial(t.Context(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, step := range []struct {
		remaining uint64
		want      int
	}{{0, 1}, {1 << 40, gathered}, {ending + 1, gathered}, {ending, 1}, {0, 1}} {
		f.expect(step.remaining)
		raw, err := f.socket.Load().SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		level := 0
		if err := raw.Control(func(fd uintptr) {
			level, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVLOWAT)
		}); err != nil {
			t.Fatal(err)
		}
		if err != nil || level != step.want {
			t.Errorf("with %d bytes to come, it wakes us for %d (%v), and not %d",
				step.remaining, level, err, step.want)
		}
	}
}

// TestALargeSnapshotComesWholeHoweverSlowlyItIsTaken fills everything on the way, over and over,
// while the kernel gathers.
func TestALargeSnapshotComesWholeHoweverSlowlyItIsTaken(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, "a").start(version).await()
			s.put("/k", 700, 100_000)
			c := s.client()
			var total, received, n int64
			_, err := c.receive(t.Context(), func(p []byte) error {
				received += int64(len(p))
				if n++; n%64 == 0 {
					time.Sleep(20 * time.Millisecond) // a window arrives in less
				}
				return nil
			}, func(_, of int64) { total = max(total, of) })
			if err != nil || received < ending+10*window || received%512 != 32 || total != received {
				t.Errorf("%d bytes of %d came: %v", received, total, err)
			}
		})
	}
}
