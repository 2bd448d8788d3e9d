package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
)

// Unreachable says that no etcd answers at any endpoint, and why.
type Unreachable struct {
	Endpoints []string
	Reason    string // of the first endpoint
}

func (e *Unreachable) Error() string {
	return fmt.Sprintf("cannot reach etcd at %s: %s", strings.Join(e.Endpoints, ", "), e.Reason)
}

// firstReachable probes all endpoints at once and returns the first, in the given order, that
// accepts a connection.
func (c *Client) firstReachable(ctx context.Context) (string, error) {
	failures, waits := make([]error, len(c.access.Endpoints)), make([]func(), len(c.access.Endpoints))
	for i, e := range c.access.Endpoints {
		_, waits[i] = snapfile.Beside(func() { failures[i] = c.probe(ctx, e) })
	}
	var reason error
	for i, e := range c.access.Endpoints {
		if waits[i](); failures[i] == nil {
			return e, nil
		}
		if reason == nil {
			reason = failures[i]
		}
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return "", ctx.Err()
	}
	return "", &Unreachable{Endpoints: c.access.Endpoints, Reason: c.reason(reason)}
}

// probe connects to one endpoint as a client would. gRPC itself keeps trying until its time is up,
// and then reports only that.
func (c *Client) probe(ctx context.Context, endpoint string) error {
	ctx, cancel := context.WithTimeout(ctx, c.access.DialTimeout)
	defer cancel()
	at, err := parsePlace(endpoint)
	if err != nil {
		return err
	}
	raw, err := at.dial(ctx)
	if err != nil {
		return err
	}
	defer raw.Close()
	if c.tls == nil {
		return nil
	}
	deadline, _ := ctx.Deadline()
	if err := raw.SetDeadline(deadline); err != nil {
		return err
	}
	conf := c.tls.Clone()
	if conf.ServerName == "" {
		conf.ServerName = at.name
	}
	conf.NextProtos = []string{"h2"}
	conn := tls.Client(raw, conf)
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	// In TLS 1.3 the server judges the client's certificate after the client's handshake is
	// complete. Its first byte (HTTP/2's settings) or its alert shows the result.
	_, err = conn.Read(make([]byte, 1))
	return err
}

// reason explains a failure to connect in one plain sentence.
func (c *Client) reason(err error) string {
	var (
		invalid   x509.CertificateInvalidError
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		remote    *net.OpError
		header    tls.RecordHeaderError
		netErr    net.Error
	)
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && time.Now().After(invalid.Cert.NotAfter):
		return "the server's certificate has expired, on " + invalid.Cert.NotAfter.UTC().Format(time.RFC3339)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the server's certificate is not valid before " + invalid.Cert.NotBefore.UTC().Format(time.RFC3339)
	case errors.As(err, &authority):
		return "the server's certificate is not signed by the given CA"
	case errors.As(err, &host):
		return "the server's certificate is not valid for " + host.Host
	case errors.As(err, &remote) && remote.Op == "remote error": // an alert, as crypto/tls words it
		return "the server rejects the client certificate: " + strings.TrimPrefix(remote.Err.Error(), "tls: ")
	case errors.As(err, &header):
		return "the server does not speak TLS there"
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return "the server closes the connection at once: it may not speak TLS there"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused: nothing listens there"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded),
		errors.As(err, &netErr) && netErr.Timeout():
		return fmt.Sprintf("no answer within %s", c.access.DialTimeout)
	}
	return err.Error()
}

// explain turns a call's error into a plain one. An endpoint "" stands for all of them.
func (c *Client) explain(endpoint string, limit time.Duration, err error) error {
	if errors.Is(err, context.Canceled) {
		return context.Canceled
	}
	code, text := codes.Unknown, err.Error()
	var known rpctypes.EtcdError
	if s, ok := status.FromError(err); ok {
		code, text = s.Code(), s.Message()
	} else if errors.As(err, &known) {
		code, text = known.Code(), known.Error()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		code = codes.DeadlineExceeded
	}
	if code == codes.Unavailable || code == codes.DeadlineExceeded {
		if down := c.down(endpoint); down != nil {
			return down
		}
	}
	text = strings.TrimPrefix(text, "etcdserver: ")
	if code == codes.DeadlineExceeded && limit > 0 {
		text = fmt.Sprintf("etcd did not answer within %s", limit)
	} else if code == codes.DeadlineExceeded {
		text = "etcd did not answer in time"
	}
	return &CallError{Text: text, err: err}
}

// down probes again, since the connection's own errors say little. It returns nil if the
// connection is not to blame.
func (c *Client) down(endpoint string) error {
	ctx, cancel := context.WithTimeout(context.Background(), c.access.DialTimeout)
	defer cancel()
	if endpoint == "" {
		if _, err := c.firstReachable(ctx); err != nil {
			return err
		}
		return nil
	}
	if err := c.probe(ctx, endpoint); err != nil {
		return &Unreachable{Endpoints: []string{endpoint}, Reason: c.reason(err)}
	}
	return nil
}

// CallError is etcd's refusal of a call, without gRPC's wrapping. It unwraps to
// the library's error.
type CallError struct {
	Text string
	err  error
}

func (e *CallError) Error() string { return e.Text }
func (e *CallError) Unwrap() error { return e.err }
