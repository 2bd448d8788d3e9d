// Package etcdconn connects to etcd for everything in the sandbox.
package etcdconn

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// Options are the paths on this machine in the API server's etcd flags; they may be empty.
type Options struct {
	Endpoints     []string
	CA, Cert, Key string
}

// Open makes a client. It reconnects within a second, where gRPC would wait for up to two minutes:
// etcd comes and goes here.
func Open(o Options) (*clientv3.Client, error) {
	config := clientv3.Config{
		Endpoints: o.Endpoints, Logger: zap.NewNop(),
		DialTimeout: 2 * time.Second, DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 20 * time.Second,
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.5, MaxDelay: time.Second},
			MinConnectTimeout: 2 * time.Second,
		})},
	}
	if o.CA != "" || o.Cert != "" {
		config.TLS = &tls.Config{}
	}
	if o.CA != "" {
		roots, err := Pool(o.CA)
		if err != nil {
			return nil, err
		}
		config.TLS.RootCAs = roots
	}
	if o.Cert != "" {
		pair, err := tls.LoadX509KeyPair(o.Cert, o.Key)
		if err != nil {
			return nil, err
		}
		config.TLS.Certificates = []tls.Certificate{pair}
	}
	return clientv3.New(config)
}

// Pool reads the certificates of a PEM file.
func Pool(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	certs := x509.NewCertPool()
	if !certs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate in %s", path)
	}
	return certs, nil
}
