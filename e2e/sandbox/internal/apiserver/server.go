// Package apiserver is a stand-in for kube-apiserver: a small part of the Kubernetes API, stored in
// a real etcd, which it reaches with the flags in kubeadm's manifest.
//
// It stands in for: TLS with the manifest's certificates, client certificates, /livez, /readyz and
// /version, discovery, lists in pages, reads, creates, updates and deletes of a fixed table of
// resources, at the keys where kube-apiserver has them; the refusal to serve before etcd answers;
// the master lease in etcd; the namespaces made at startup. It does not stand in for: authorization
// (any certificate of the client CA may do anything), admission, defaults, validation, watches,
// caches, compaction, protobuf (values are JSON; others cannot be decoded) or encryption at rest.
package apiserver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdpod/etcdpod/e2e/sandbox/internal/etcdconn"
)

// startLimit is how long kube-apiserver tries to reach etcd before it exits.
const startLimit = 20 * time.Second

type flags struct {
	advertise, certFile, keyFile, clientCA             string
	etcdServers, etcdCA, etcdCert, etcdKey, etcdPrefix string
	port                                               int
}

func parse(args []string) (*flags, error) {
	f, set := &flags{}, flag.NewFlagSet("kube-apiserver", flag.ContinueOnError)
	set.StringVar(&f.advertise, "advertise-address", "127.0.0.1", "")
	set.StringVar(&f.certFile, "tls-cert-file", "", "")
	set.StringVar(&f.keyFile, "tls-private-key-file", "", "")
	set.StringVar(&f.clientCA, "client-ca-file", "", "")
	set.StringVar(&f.etcdServers, "etcd-servers", "", "")
	set.StringVar(&f.etcdCA, "etcd-cafile", "", "")
	set.StringVar(&f.etcdCert, "etcd-certfile", "", "")
	set.StringVar(&f.etcdKey, "etcd-keyfile", "", "")
	set.StringVar(&f.etcdPrefix, "etcd-prefix", "/registry", "")
	set.IntVar(&f.port, "secure-port", 6443, "")
	return f, set.Parse(only(set, args))
}

// only keeps the flags that this stand-in knows: the real one has many more.
func only(set *flag.FlagSet, args []string) []string {
	var known []string
	for i := 0; i < len(args); i++ {
		name, _, hasValue := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		if set.Lookup(name) == nil {
			continue
		}
		known = append(known, args[i])
		if !hasValue && i+1 < len(args) {
			i++
			known = append(known, args[i])
		}
	}
	return known
}

type server struct {
	*flags
	etcd    *clientv3.Client
	clients *x509.CertPool
}

// Run serves the API with kube-apiserver's flags until ctx ends.
func Run(ctx context.Context, args []string, logger *log.Logger) error {
	f, err := parse(args)
	if err != nil {
		return err
	}
	s := &server{flags: f}
	if s.etcd, err = etcdconn.Open(etcdconn.Options{
		Endpoints: strings.Split(f.etcdServers, ","), CA: f.etcdCA, Cert: f.etcdCert, Key: f.etcdKey}); err != nil {
		return err
	}
	defer s.etcd.Close()
	if err := s.awaitEtcd(ctx); err != nil {
		return fmt.Errorf("cannot reach etcd: %w", err)
	}
	if err := s.bootstrap(ctx); err != nil {
		return err
	}
	config, err := s.tls()
	if err != nil {
		return err
	}
	// net/http logs refused handshakes: they are the client's problem, and only noise here.
	web := &http.Server{Handler: s.authenticated(s.routes()), TLSConfig: config,
		ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: 10 * time.Second}
	defer context.AfterFunc(ctx, func() { web.Close() })()
	ended := make(chan error, 2)
	for _, host := range s.hosts() {
		listener, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(s.port)))
		if err != nil {
			return err
		}
		go func() { ended <- web.ServeTLS(listener, "", "") }()
	}
	go s.keepMasterLease(ctx, logger)
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// hosts are the addresses to listen on: kube-apiserver listens on all, which would be
// reachable from outside.
func (s *server) hosts() []string {
	if s.advertise == "127.0.0.1" {
		return []string{s.advertise}
	}
	return []string{"127.0.0.1", s.advertise}
}

func (s *server) tls() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(s.certFile, s.keyFile)
	if err != nil {
		return nil, err
	}
	clients, err := etcdconn.Pool(s.clientCA)
	if err != nil {
		return nil, err
	}
	s.clients = clients
	// As in kube-apiserver it is not the handshake that fails with a bad certificate, but the
	// request.
	return &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert}, nil
}

func (s *server) awaitEtcd(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		err := s.ping(ctx, time.Second)
		if err == nil || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// ping makes the same linearizable read as kube-apiserver's health check.
func (s *server) ping(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	_, err := s.etcd.Get(ctx, s.etcdPrefix+"/health")
	return err
}

// bootstrap creates the system's namespaces where they are missing.
func (s *server) bootstrap(ctx context.Context) error {
	for _, name := range []string{"default", "kube-system", "kube-public", "kube-node-lease"} {
		key := s.etcdPrefix + "/namespaces/" + name
		value, err := json.Marshal(stamped(map[string]any{
			"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name},
			"status": map[string]any{"phase": "Active"},
		}))
		if err != nil {
			return err
		}
		if _, err := s.etcd.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
			Then(clientv3.OpPut(key, string(value))).Commit(); err != nil {
			return fmt.Errorf("cannot create namespace %s: %w", name, err)
		}
	}
	return nil
}

// keepMasterLease keeps this server's address in etcd, 15 s at a time, as kube-apiserver's
// lease reconciler does.
func (s *server) keepMasterLease(ctx context.Context, logger *log.Logger) {
	for {
		if err := s.renewMasterLease(ctx); err != nil && ctx.Err() == nil {
			logger.Printf("cannot renew the master lease: %v", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(10 * time.Second):
		}
	}
}

func (s *server) renewMasterLease(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	lease, err := s.etcd.Grant(ctx, 15)
	if err != nil {
		return err
	}
	value, err := json.Marshal(map[string]any{"kind": "Endpoints", "apiVersion": "v1", "metadata": map[string]any{},
		"subsets": []any{map[string]any{"addresses": []any{map[string]any{"ip": s.advertise}}}}})
	if err != nil {
		return err
	}
	_, err = s.etcd.Put(ctx, s.etcdPrefix+"/masterleases/"+s.advertise, string(value), clientv3.WithLease(lease.ID))
	return err
}
