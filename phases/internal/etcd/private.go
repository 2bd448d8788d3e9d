package etcd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/api/v3/version"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/config"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3rpc"
	"go.etcd.io/etcd/server/v3/features"
	"go.uber.org/zap"
)

// A private etcd serves nobody but the process that started it, for a look at its data: its client
// and its peer URL are sockets in its working directory, which nobody else can enter. etcd before
// 3.7 wants a port in the name of a socket, too.
const (
	privateName   = "rehearsal"
	privateClient = "unix://client:1"
	privatePeer   = "unix://peer:1"
	privateData   = "data" // below its working directory
	// It need not wait for anybody to elect itself. Milliseconds.
	privateHeartbeat, privateElection = 20, 200
)

// PrivateSpec is what to stage for a private etcd whose working directory is dir: a cluster of its
// own that no other member can know.
func PrivateSpec(dir, token string) StageSpec {
	return StageSpec{Dir: filepath.Join(dir, privateData), Name: privateName, PeerURLs: []string{privatePeer},
		InitialCluster: privateName + "=" + privatePeer, Token: token}
}

// PrivateFlags are the flags of an etcd of any release for it.
func PrivateFlags() []string {
	return []string{"--name=" + privateName, "--data-dir=" + privateData,
		"--listen-client-urls=" + privateClient, "--advertise-client-urls=" + privateClient,
		"--listen-peer-urls=" + privatePeer, "--initial-advertise-peer-urls=" + privatePeer,
		"--initial-cluster=" + privateName + "=" + privatePeer,
		fmt.Sprintf("--heartbeat-interval=%d", privateHeartbeat),
		fmt.Sprintf("--election-timeout=%d", privateElection), "--log-level=warn"}
}

// PrivateJob writes what has [ServeApart] be that etcd itself, until it is killed.
func PrivateJob(w io.Writer) error { return job{Private: true}.send(w) }

// BuiltIn is the release of etcd that this program has in it.
var BuiltIn = version.Version

// servePrivately is a private etcd: etcd's own server with what it has by default, and without the
// rest of the program that has flags, a gateway and a port for peers.
func servePrivately() error {
	urls, err := types.NewURLsMap(privateName + "=" + privatePeer)
	if err != nil {
		return err
	}
	client, err := types.NewURLs([]string{privateClient})
	if err != nil {
		return err
	}
	at, err := parsePlace(privateClient)
	if err != nil {
		return err
	}
	logs := zap.NewProductionConfig() // to standard error
	logs.Level = zap.NewAtomicLevelAt(zap.WarnLevel)
	log, err := logs.Build()
	if err != nil {
		return err
	}
	// As server/embed has it: what is 0 there is left out.
	s, err := etcdserver.NewServer(config.ServerConfig{
		Name: privateName, DataDir: privateData, ClientURLs: client, PeerURLs: urls[privateName],
		InitialPeerURLsMap: urls, InitialClusterToken: privateName, NewCluster: true, Logger: log,
		SnapshotCount:          etcdserver.DefaultSnapshotCount,
		SnapshotCatchUpEntries: etcdserver.DefaultSnapshotCatchUpEntries,
		MaxSnapFiles:           5, MaxWALFiles: 5,
		TickMs: privateHeartbeat, ElectionTicks: privateElection / privateHeartbeat,
		InitialElectionTickAdvance: true, PreVote: true, StrictReconfigCheck: true, MaxTxnOps: 128,
		MaxRequestBytes: 1536 << 10, MaxConcurrentStreams: math.MaxUint32, AuthToken: "simple", BcryptCost: 10,
		TokenTTL: 300, MaxLearners: 1, DowngradeCheckTime: 5 * time.Second, V2Deprecation: config.V2DeprDefault,
		WarningApplyDuration: 100 * time.Millisecond, WarningUnaryRequestDuration: 300 * time.Millisecond,
		ServerFeatureGate: features.NewDefaultServerFeatureGate(privateName, log), Metrics: "basic",
	})
	if err != nil {
		return err
	}
	s.Start()
	<-s.ReadyNotify()
	listener, err := net.Listen(at.network, at.at)
	if err != nil {
		return err
	}
	return v3rpc.Server(s, nil, nil).Serve(listener)
}

// ErrAuth says that etcd asks for a user: authentication is on in its data.
var ErrAuth = errors.New("authentication is on in the data, as it never is in those of Kubernetes: etcd " +
	"lets nobody read them without a password")

// ErrEnded says that an etcd that was waited for has ended.
var ErrEnded = errors.New("etcd ended before it served")

// Private connects to the private etcd in a directory, once it serves; ended is closed if it ends.
// done gives the connection up. Only ctx bounds the time.
func Private(ctx context.Context, dir string, ended <-chan struct{}) (c *Client, done func(), err error) {
	// The path of a socket must be short, and dir need not be.
	held, err := os.Open(dir)
	if err != nil {
		return nil, nil, err
	}
	_, socket, _ := strings.Cut(privateClient, "//")
	at := fmt.Sprintf("unix:///proc/self/fd/%d/%s", held.Fd(), socket)
	const often = 20 * time.Millisecond
	for {
		c, err := Dial(ctx, Access{Endpoints: []string{at}})
		if err == nil {
			if err = c.Ready(ctx); err == nil {
				return c, func() { _, _ = c.Close(), held.Close() }, nil
			}
			_ = c.Close()
		}
		if errors.Is(err, rpctypes.ErrUserEmpty) {
			return nil, nil, errors.Join(ErrAuth, held.Close())
		}
		select {
		case <-ctx.Done():
			return nil, nil, errors.Join(ctx.Err(), held.Close())
		case <-ended:
			return nil, nil, errors.Join(ErrEnded, held.Close())
		case <-time.After(often):
		}
	}
}
