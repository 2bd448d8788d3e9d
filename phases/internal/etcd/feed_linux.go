package etcd

import (
	"cmp"
	"context"
	"net"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// A snapshot comes in 32 KiB parts. With room for many in flight, server and client do not wait for
// each other at each part.
const window = 4 << 20 // bytes in flight

// Waking up for every packet costs more than all work on the data, on the server, too. So the
// kernel is told to gather much before it wakes us (SO_RCVLOWAT, socket(7)): with 2 MiB a snapshot
// takes a tenth less time than with 256 KiB. The server can always send that much more, since it
// hears of what was read at each quarter of a window.
const (
	gathered = window / 2
	// ending is where gathering must end, since the last bytes would never be enough. At most a
	// window is received and not yet decoded, so more than the gathered amount is still to come.
	ending = 4 * window
)

// feed is the connection for one snapshot. Unlike the other connections it does not ask whether the
// server is alive: the answer would have too few bytes to wake us.
type feed struct {
	*grpc.ClientConn
	network string // empty: tcp
	socket  atomic.Pointer[net.TCPConn]
	mu      sync.Mutex
	level   int  // bytes for which the kernel wakes us
	slow    bool // too slow for gathering
}

func (c *Client) feed(endpoint string) (*feed, error) {
	at, err := parsePlace(endpoint)
	if err != nil {
		return nil, err
	}
	creds := insecure.NewCredentials()
	if c.tls != nil {
		creds = credentials.NewTLS(c.tls)
	}
	f := &feed{level: 1, network: at.network}
	var more []grpc.DialOption
	if at.network == "unix" && !at.secure {
		more = append(more, grpc.WithAuthority("localhost")) // a path is none
	}
	f.ClientConn, err = grpc.NewClient("passthrough:///"+at.at, append(more,
		grpc.WithTransportCredentials(creds), grpc.WithNoProxy(),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return f.dial(ctx, at.at) }),
		// TLS does its own read buffering.
		grpc.WithInitialWindowSize(window), grpc.WithInitialConnWindowSize(window), grpc.WithReadBufferSize(0))...)
	return f, err
}

func (f *feed) dial(ctx context.Context, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, cmp.Or(f.network, "tcp"), address)
	if tcp, ok := conn.(*net.TCPConn); ok {
		f.socket.Store(tcp)
	}
	return conn, err
}

// expect has the kernel gather incoming data while much is still to come. It only saves time: if it
// fails, everything works as before.
func (f *feed) expect(remaining uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	level := 1
	if remaining > ending && !f.slow {
		level = gathered
	}
	f.gather(level)
}

// hurry ends the gathering for good: everything that arrives is delivered, however little.
func (f *feed) hurry() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.slow = true
	f.gather(1)
}

func (f *feed) gather(level int) {
	socket := f.socket.Load()
	if level == f.level || socket == nil {
		return
	}
	f.level = level
	if raw, err := socket.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVLOWAT, level) })
	}
}
