package etcd

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"net/url"
	"os"
	"slices"
	"syscall"
	"time"

	"google.golang.org/grpc"

	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
)

// place is where a URL of etcd leads (etcd, client/pkg/types/urls.go).
type place struct {
	network, at string // for package net
	name        string // that a certificate there must bear; empty for a socket, which has none
	secure      bool
}

func parsePlace(raw string) (place, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
	case (u.Scheme == "https" || u.Scheme == "http") && u.Hostname() != "":
		return place{"tcp", u.Host, u.Hostname(), u.Scheme == "https"}, nil
	case (u.Scheme == "unixs" || u.Scheme == "unix") && u.Host+u.Path != "":
		return place{"unix", u.Host + u.Path, "", u.Scheme == "unixs"}, nil
	}
	return place{}, errors.New("not a URL of the form https://host:port")
}

// CheckURL says why a URL is none at which an etcd can be reached.
func CheckURL(raw string) error {
	_, err := parsePlace(raw)
	return err
}

// CheckFile says why a file of an [Access], a path of this process, cannot be read. The error is a
// *fs.PathError.
func CheckFile(path string) error {
	_, err := os.ReadFile(path)
	return err
}

func (p place) dial(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, p.network, p.at)
}

// direct is for every connection to etcd: none goes through a proxy, whatever the environment says.
// The library verifies a server by the URL; name, unless it is empty, takes precedence.
func direct(name string) []grpc.DialOption {
	options := []grpc.DialOption{grpc.WithNoProxy()}
	if name != "" {
		options = append(options, grpc.WithAuthority(name))
	}
	return options
}

// hesitation is how long a member's better URL may take to answer after a worse one has.
const hesitation = 300 * time.Millisecond

// settled is the access narrowed to one URL of the member: the first that answers.
func (a Access) settled(ctx context.Context) (Access, error) {
	urls := slices.Concat(a.Endpoints[:min(1, len(a.Endpoints))], a.Others)
	if len(urls) == 0 || len(a.Endpoints) > 1 && len(a.Others) == 0 {
		return a, nil // of several members each is to be asked
	}
	trying, cancel := context.WithCancel(ctx)
	defer cancel()
	tries, done := make([]attempt, len(urls)), make(chan int, len(urls))
	waits := make([]func(), len(urls))
	for i, raw := range urls {
		_, waits[i] = snapfile.Beside(func() {
			defer func() { done <- i }()
			tries[i].name, tries[i].reason, tries[i].err = a.try(trying, raw)
		})
	}
	var late <-chan time.Time
	for ended := 0; ended < len(urls); {
		hurried := false
		select {
		case i := <-done:
			waits[i]()
			tries[i].ended = true
			if ended++; tries[i].err == nil && late == nil {
				late = time.After(hesitation)
			}
		case <-late:
			hurried = true
		}
		for i := range tries {
			if !tries[i].ended && !hurried {
				break
			}
			if tries[i].ended && tries[i].err == nil {
				a.Endpoints, a.Others, a.Name = urls[i:i+1], nil, tries[i].name
				return a, nil
			}
		}
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return a, ctx.Err()
	}
	return a, &Unreachable{Endpoints: urls, Reason: telling(tries)}
}

// attempt is what came of trying one URL.
type attempt struct {
	ended  bool
	name   string // under which the certificate was accepted; empty: that in the URL
	err    error
	reason string
}

// telling is the reason that says most: a port where nothing listens says least.
func telling(tries []attempt) string {
	for _, t := range tries {
		if !errors.Is(t.err, syscall.ECONNREFUSED) {
			return t.reason
		}
	}
	return tries[0].reason
}

// try connects to one URL: under the name in it and, where the certificate there is not for that,
// under the known one, which it returns.
func (a Access) try(ctx context.Context, raw string) (name, reason string, err error) {
	known := a.Name
	for _, name := range slices.Compact([]string{"", known}) {
		one := a
		one.Endpoints, one.Others, one.Name = []string{raw}, nil, name
		c := &Client{access: one}
		if c.tls, err = one.tlsConfig(); err != nil {
			return "", err.Error(), err
		}
		var host x509.HostnameError
		if err = c.probe(ctx, raw); err == nil {
			return name, "", nil
		}
		if reason == "" {
			reason = c.reason(err)
		}
		if !errors.As(err, &host) {
			break
		}
	}
	return "", reason, err
}
