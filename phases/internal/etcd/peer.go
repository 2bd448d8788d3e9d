package etcd

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// peerTimeout bounds one question to a peer port: a member that does not serve its peers yet
// accepts the connection, but does not answer.
const peerTimeout = 2 * time.Second

// PeerServes returns nil when the first endpoint, a peer URL, or another of that member's, answers
// /version, which etcd's peer handler does as soon as it serves at all (etcd,
// server/embed/etcd.go, and etcdserver/api/etcdhttp/peer.go).
func PeerServes(ctx context.Context, a Access) error {
	var first error
	for _, raw := range append(a.Endpoints[:1:1], a.Others...) {
		err := a.peerServes(ctx, raw, "")
		var host x509.HostnameError
		if errors.As(err, &host) && a.Name != "" {
			err = a.peerServes(ctx, raw, a.Name)
		}
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	return first
}

func (a Access) peerServes(ctx context.Context, raw, name string) error {
	at, err := parsePlace(raw)
	if err != nil {
		return err
	}
	a.Endpoints, a.Name = []string{raw}, name
	conf, err := a.tlsConfig()
	if err != nil {
		return err
	}
	client := &http.Client{Timeout: peerTimeout, Transport: &http.Transport{
		Proxy: nil, // never through one, whatever the environment says
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return at.dial(ctx)
		},
		TLSClientConfig: conf, DisableKeepAlives: true,
	}}
	to := "http://" + at.at
	switch {
	case at.network == "unix" && at.secure:
		to = "https://localhost"
	case at.network == "unix":
		to = "http://localhost"
	case at.secure:
		to = "https://" + at.at
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, to+"/version", nil)
	if err != nil {
		return err
	}
	r, err := client.Do(req)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", raw, r.Status)
	}
	return nil
}

// Listening says whether anything accepts connections at a URL.
func Listening(ctx context.Context, raw string) bool {
	at, err := parsePlace(raw)
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	conn, err := at.dial(ctx)
	if err != nil {
		return false
	}
	_ = conn.Close() // nothing was sent
	return true
}
