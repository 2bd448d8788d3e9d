// Package etcd talks to etcd: to a running one over client/v3, and to the files of a stopped one
// through etcd's own packages. It is the only package that imports etcd modules. Paths are real
// paths, as the operating system sees them. It prints nothing.
package etcd

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/grpclog"
)

// gRPC would log its connection errors to standard error.
func init() { grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard)) }

// Defaults of [Access].
const (
	DefaultDialTimeout  = 5 * time.Second
	DefaultCallTimeout  = 10 * time.Second
	DefaultStallTimeout = 30 * time.Second
)

// Access is how to reach an etcd.
type Access struct {
	Endpoints []string // client URLs, all with TLS or all without: https, http, unixs, unix
	CA        []byte   // PEM; CAs that verify the servers' certificates
	Cert, Key []byte   // PEM; the client certificate and its key; both or neither
	// Others are further URLs of the very member at the first endpoint, which are tried, all at
	// once, where that does not answer. Only one of them is then used.
	Others []string
	// Name is one that the servers' certificates are for, for addresses that they are not for.
	Name string

	// Bounds one attempt to connect; 0 is DefaultDialTimeout.
	DialTimeout time.Duration
	// Bounds each call except snapshots, hashes and counts, which the caller's context bounds; 0
	// is DefaultCallTimeout.
	CallTimeout time.Duration
	// Bounds the time between two parts of a snapshot; 0 is DefaultStallTimeout.
	StallTimeout time.Duration
}

// Client is a connection to one etcd cluster. Its methods may be called concurrently.
type Client struct {
	access Access
	tls    *tls.Config // nil for http endpoints
	first  string      // an endpoint that answered when the client was made
	v3     *clientv3.Client
}

// Dial connects, and proves that at least one endpoint accepts the connection and both sides accept
// the certificates. If none does, the error is an [*Unreachable].
func Dial(ctx context.Context, access Access) (*Client, error) {
	access.DialTimeout = cmp.Or(access.DialTimeout, DefaultDialTimeout)
	access.CallTimeout = cmp.Or(access.CallTimeout, DefaultCallTimeout)
	access.StallTimeout = cmp.Or(access.StallTimeout, DefaultStallTimeout)
	if len(access.Others) > 0 || access.Name != "" {
		var err error
		if access, err = access.settled(ctx); err != nil {
			return nil, err
		}
	}
	conf, err := access.tlsConfig()
	if err != nil {
		return nil, err
	}
	c := &Client{access: access, tls: conf}
	if c.first, err = c.firstReachable(ctx); err != nil {
		return nil, err
	}
	// Every call tries the first endpoint first, so it must be one that answers.
	endpoints := []string{c.first}
	for _, e := range access.Endpoints {
		if e != c.first {
			endpoints = append(endpoints, e)
		}
	}
	name := access.Name
	if conf == nil {
		name = ""
	}
	c.v3, err = clientv3.New(clientv3.Config{
		Endpoints: endpoints, TLS: conf, Logger: zap.NewNop(),
		DialTimeout: access.DialTimeout, DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 10 * time.Second,
		MaxCallRecvMsgSize: 1 << 30, DialOptions: direct(name),
	})
	if err != nil {
		return nil, fmt.Errorf("cannot connect to etcd: %w", err)
	}
	return c, nil
}

// Close ends the connection.
func (c *Client) Close() error {
	if err := c.v3.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("cannot close the connection to etcd: %w", err)
	}
	return nil
}

// Endpoints returns the client's endpoints.
func (c *Client) Endpoints() []string { return append([]string(nil), c.access.Endpoints...) }

func (a Access) tlsConfig() (*tls.Config, error) {
	if len(a.Endpoints) == 0 {
		return nil, errors.New("cannot connect to etcd: no endpoint is known")
	}
	secure := map[bool]bool{}
	for _, e := range a.Endpoints {
		at, err := parsePlace(e)
		if err != nil {
			return nil, fmt.Errorf("cannot connect to etcd at %q: %w", e, err)
		}
		secure[at.secure] = true
	}
	if len(secure) > 1 {
		return nil, errors.New("cannot connect to etcd: some endpoints are https and some http")
	}
	if secure[false] {
		return nil, nil
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: a.Name}
	if len(a.CA) > 0 {
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(a.CA) {
			return nil, errors.New("cannot connect to etcd: the CA holds no PEM certificate")
		}
	}
	if len(a.Cert) > 0 || len(a.Key) > 0 {
		pair, err := tls.X509KeyPair(a.Cert, a.Key)
		if err != nil {
			return nil, fmt.Errorf("cannot use the client certificate for etcd: %w", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return conf, nil
}

// call runs one request under the call timeout and turns its error into one plain sentence that
// begins with what could not be done. With a limit of 0, ctx bounds the time.
func call[T any](
	ctx context.Context, c *Client, limit time.Duration, what, endpoint string, f func(context.Context) (T, error),
) (T, error) {
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	v, err := f(ctx)
	if err != nil {
		return v, fmt.Errorf("cannot %s: %w", what, c.explain(endpoint, limit, err))
	}
	return v, nil
}
