package rig

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Balancer is a TCP load balancer in front of API servers, as in the Kubernetes documentation: it
// forwards connections to the ready ones in turn.
type Balancer struct {
	listener net.Listener
	backends []*backend
	next     atomic.Uint32
	stop     context.CancelFunc
	running  sync.WaitGroup
}

// backend is one API server.
type backend struct {
	address string
	ready   atomic.Bool
}

const (
	checkEvery = 200 * time.Millisecond
	checkLimit = time.Second
)

// Balance puts a balancer at the cluster's address, in front of these nodes' API servers, which
// need not run yet, until Close.
func (c *Cluster) Balance(nodes ...*Node) (*Balancer, error) {
	l, err := net.Listen("tcp", c.Endpoint())
	if err != nil {
		return nil, fmt.Errorf("cannot balance %s: %w", c.Name, err)
	}
	ctx, stop := context.WithCancel(context.Background())
	b := &Balancer{listener: l, stop: stop}
	for _, n := range nodes {
		one := &backend{address: n.Address + ":6443"}
		b.backends = append(b.backends, one)
		b.running.Go(func() { one.watch(ctx) })
	}
	b.running.Go(func() { b.accept(ctx) })
	return b, nil
}

// Close removes the balancer, and closes all connections through it.
func (b *Balancer) Close() error {
	b.stop()
	err := b.listener.Close()
	b.running.Wait()
	return err
}

// watch keeps asking the API server whether it is ready.
func (b *backend) watch(ctx context.Context) {
	client := &http.Client{Timeout: checkLimit, Transport: &http.Transport{
		// A balancer knows no CA.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true,
	}}
	for ctx.Err() == nil {
		r, err := client.Get("https://" + b.address + "/readyz")
		b.ready.Store(err == nil && r.StatusCode == http.StatusOK)
		if err == nil {
			r.Body.Close()
		}
		select {
		case <-ctx.Done():
		case <-time.After(checkEvery):
		}
	}
}

func (b *Balancer) accept(ctx context.Context) {
	for {
		client, err := b.listener.Accept()
		if err != nil {
			return // closed
		}
		b.running.Go(func() { b.serve(ctx, client) })
	}
}

// serve forwards one connection, or closes it if no API server is ready.
func (b *Balancer) serve(ctx context.Context, client net.Conn) {
	defer client.Close()
	server := b.dial(ctx)
	if server == nil {
		return
	}
	defer server.Close()
	defer context.AfterFunc(ctx, func() { client.Close(); server.Close() })()
	ended := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
		b.running.Go(func() {
			_, _ = io.Copy(way[1], way[0]) // closing the connection tells the other end
			ended <- struct{}{}
		})
	}
	<-ended
}

func (b *Balancer) dial(ctx context.Context) net.Conn {
	first := int(b.next.Add(1))
	for i := range b.backends {
		one := b.backends[(first+i)%len(b.backends)]
		if !one.ready.Load() {
			continue
		}
		dialer := net.Dialer{Timeout: checkLimit}
		if server, err := dialer.DialContext(ctx, "tcp", one.address); err == nil {
			return server
		}
	}
	return nil
}
