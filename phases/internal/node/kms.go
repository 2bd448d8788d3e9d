package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	v1 "k8s.io/kms/apis/v1beta1"
	v2 "k8s.io/kms/apis/v2"
)

// SealedKey is a key that a KMS plugin has sealed, with what the plugin said of it.
type SealedKey struct {
	Version     string // of the plugin's interface: v1 or v2
	Sealed      []byte
	KeyID       string
	Annotations map[string][]byte
}

// ErrForeignKey says that a KMS plugin is well, and cannot open a key.
var ErrForeignKey = errors.New("it cannot open the key")

// OpenKey asks the KMS plugin at a socket, a host path of f or the name of an abstract socket, to
// open a key. Any error but [ErrForeignKey] says that it could not be asked.
func OpenKey(ctx context.Context, f Reader, socket string, wait time.Duration, k SealedKey) ([]byte, error) {
	wait = max(time.Second, min(wait, callWait))
	limited, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	dial := func(ctx context.Context) (net.Conn, error) {
		if strings.HasPrefix(socket, "@") {
			conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
			return conn, reason(err)
		}
		return dialSocket(ctx, f, socket)
	}
	// At the first call gRPC would wait for a socket that is not there.
	first, err := dial(limited)
	if err != nil {
		return nil, err
	}
	_ = first.Close()
	conn, err := grpc.NewClient("passthrough:///localhost", grpc.WithNoProxy(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx) }))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	ask := openSecond
	if k.Version == "v1" {
		ask = openFirst
	}
	key, err := ask(limited, conn, k)
	if ctx.Err() == nil && gone(err) {
		return nil, fmt.Errorf("it has not answered after %s", wait)
	}
	return key, err
}

// gone says whether an answer stayed away. The plugin's side of a time limit may end first.
func gone(err error) bool {
	return slices.Contains([]codes.Code{codes.DeadlineExceeded, codes.Canceled}, status.Code(err))
}

func openSecond(ctx context.Context, conn *grpc.ClientConn, k SealedKey) ([]byte, error) {
	plugin := v2.NewKeyManagementServiceClient(conn)
	answer, err := plugin.Decrypt(ctx, &v2.DecryptRequest{Ciphertext: k.Sealed, Uid: "etcdpod", KeyId: k.KeyID,
		Annotations: k.Annotations})
	if err == nil || gone(err) {
		return answer.GetPlaintext(), err
	}
	health, asked := plugin.Status(ctx, &v2.StatusRequest{})
	return nil, refusal(err, asked == nil && health.Healthz == "ok")
}

// openFirst asks a plugin of KMS v1. Whether that is well shows only by what it seals and opens:
// the API server's own health check does the same.
func openFirst(ctx context.Context, conn *grpc.ClientConn, k SealedKey) ([]byte, error) {
	const version = "v1beta1"
	plugin := v1.NewKeyManagementServiceClient(conn)
	answer, err := plugin.Decrypt(ctx, &v1.DecryptRequest{Version: version, Cipher: k.Sealed})
	if err == nil || gone(err) {
		return answer.GetPlain(), err
	}
	sealed, asked := plugin.Encrypt(ctx, &v1.EncryptRequest{Version: version, Plain: []byte("ping")})
	if asked == nil {
		_, asked = plugin.Decrypt(ctx, &v1.DecryptRequest{Version: version, Cipher: sealed.Cipher})
	}
	return nil, refusal(err, asked == nil)
}

// refusal tells a plugin that has other keys from one that cannot reach what holds its keys.
func refusal(err error, well bool) error {
	why := status.Convert(err).Message()
	if !well {
		return fmt.Errorf("it is unhealthy: %s", why)
	}
	return fmt.Errorf("%w: %s", ErrForeignKey, why)
}
