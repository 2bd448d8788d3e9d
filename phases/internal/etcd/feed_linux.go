package etcd

import (
	"context"
	"net"
	"net/url"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// A snapshot flows in 32 KiB parts. With room for many of them on the way, server and client do not
// wait for each other at each.
const window = 4 << 20 // bytes under way

// Being woken for every packet costs more than all that is done with the data, and the server pays
// for it as well. So the kernel is told to gather much before it wakes anybody (SO_RCVLOWAT,
// socket(7)): with 2 MiB a snapshot comes in a tenth less time than with 256 KiB. The server may
// always send that much more, since it is told of what was read by the quarter of a window.
const (
	gathered = window / 2
	// ending is where that must end, as the last bytes would never be enough. What was received and
	// not yet decoded is at most a window, so this leaves more to come than what is gathered.
	ending = 4 * window
)

// feed is the connection that one snapshot comes over. It does not ask whether the server is alive,
// as the other connections do: the answer would be too few bytes to be read.
type feed struct {
	*grpc.ClientConn
	socket atomic.Pointer[net.TCPConn]
	mu     sync.Mutex
	level  int  // bytes for which the kernel wakes us
	slow   bool // too slow for gathering
}

func (c *Client) feed(endpoint string) (*feed, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil, err
	}
	creds := insecure.NewCredentials()
	if c.tls != nil {
		creds = credentials.NewTLS(c.tls)
	}
	f := &feed{level: 1}
	f.ClientConn, err = grpc.NewClient("passthrough:///"+u.Host,
		grpc.WithTransportCredentials(creds), grpc.WithContextDialer(f.dial),
		// TLS buffers what it reads itself.
		grpc.WithInitialWindowSize(window), grpc.WithInitialConnWindowSize(window), grpc.WithReadBufferSize(0))
	return f, err
}

func (f *feed) dial(ctx context.Context, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if tcp, ok := conn.(*net.TCPConn); ok {
		f.socket.Store(tcp)
	}
	return conn, err
}

// expect has the kernel gather what comes, as long as there is much to come. It saves time only:
// where it fails, all goes on as before.
func (f *feed) expect(remaining uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	level := 1
	if remaining > ending && !f.slow {
		level = gathered
	}
	f.gather(level)
}

// hurry ends the gathering for good: what has come is handed over, however little it is.
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
