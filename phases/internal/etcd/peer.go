package etcd

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"
)

// peerTimeout bounds one question to a peer port: a member that does not serve its peers yet
// accepts the connection, but does not answer.
const peerTimeout = 2 * time.Second

// PeerServes returns nil when the first endpoint, a peer URL, answers /version, which
// etcd's peer handler does as soon as it serves at all (etcd, server/embed/etcd.go,
// and etcdserver/api/etcdhttp/peer.go).
func PeerServes(ctx context.Context, a Access) error {
	conf, err := a.tlsConfig()
	if err != nil {
		return err
	}
	client := &http.Client{
		Timeout: peerTimeout, Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.Endpoints[0]+"/version", nil)
	if err != nil {
		return err
	}
	r, err := client.Do(req)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", a.Endpoints[0], r.Status)
	}
	return nil
}

// Listening says whether anything accepts connections at a URL.
func Listening(ctx context.Context, raw string) bool {
	u, err := url.Parse(raw)
	if err != nil {
		return false
	}
	conn, err := (&net.Dialer{Timeout: peerTimeout}).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return false
	}
	_ = conn.Close() // nothing was sent
	return true
}
