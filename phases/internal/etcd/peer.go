package etcd

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
)

// peerTimeout bounds one question to a peer port, unless the access has a bound for each call: a
// member that does not serve its peers yet accepts the connection, but does not answer.
const peerTimeout = 2 * time.Second

// mostPeer bounds an answer, in bytes.
const mostPeer = 1 << 20

// PeerURLs reads URLs at which members are to reach one, with the rules that etcd itself has for
// them.
func PeerURLs(raw []string) ([]string, error) {
	urls, err := types.NewURLs(raw)
	if err != nil {
		return nil, err
	}
	return urls.StringSlice(), nil
}

// PeerServes returns nil when the first endpoint, a peer URL, or another of that member's, answers
// /version, which etcd's peer handler does as soon as it serves at all (etcd,
// server/embed/etcd.go, and etcdserver/api/etcdhttp/peer.go).
func PeerServes(ctx context.Context, a Access) error {
	_, err := a.askPeers(ctx, append(a.Endpoints[:1:1], a.Others...), "/version")
	return err
}

// PeerHangs says whether the member at the first endpoint, a peer URL, accepts connections and then
// says nothing, however often it is asked: its process is stopped, or stuck. One that answers
// something else than it should does not hang.
func PeerHangs(ctx context.Context, a Access) bool {
	const tries, limit = 2, 3 * time.Second // a busy machine is slow to answer
	a.CallTimeout = limit
	for range tries {
		var timeout net.Error
		err := PeerServes(ctx, a)
		if err == nil || !errors.As(err, &timeout) || !timeout.Timeout() || ctx.Err() != nil {
			return false
		}
	}
	return true
}

// PeerMembers asks the members at peer URLs, the endpoints, who is one: the first that answers. A
// member asks the same when it joins.
func PeerMembers(ctx context.Context, a Access) ([]Member, error) {
	text, err := a.askPeers(ctx, a.Endpoints, "/members")
	if err != nil {
		return nil, err
	}
	var told []membership.Member
	if err := json.Unmarshal(text, &told); err != nil {
		return nil, fmt.Errorf("cannot read which members a peer knows: %w", err)
	}
	members := make([]Member, len(told))
	for i, m := range told {
		members[i] = Member{ID: uint64(m.ID), Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs,
			IsLearner: m.IsLearner}
	}
	return members, nil
}

// askPeers returns what the first of some peer URLs answers.
func (a Access) askPeers(ctx context.Context, urls []string, path string) (text []byte, err error) {
	var first error
	for _, raw := range urls {
		text, err = a.askPeer(ctx, raw, "", path)
		var host x509.HostnameError
		if errors.As(err, &host) && a.Name != "" {
			text, err = a.askPeer(ctx, raw, a.Name, path)
		}
		if err == nil {
			return text, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

func (a Access) askPeer(ctx context.Context, raw, name, path string) ([]byte, error) {
	status, text, err := a.get(ctx, raw, name, path)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%s answers %d %s", raw, status, http.StatusText(status))
	}
	return text, err
}

// get makes a request over HTTP, of a member's peer port or of its client port.
func (a Access) get(ctx context.Context, raw, name, path string) (status int, text []byte, err error) {
	at, err := parsePlace(raw)
	if err != nil {
		return 0, nil, err
	}
	a.Endpoints, a.Name = []string{raw}, name
	conf, err := a.tlsConfig()
	if err != nil {
		return 0, nil, err
	}
	client := &http.Client{Timeout: cmp.Or(a.CallTimeout, peerTimeout), Transport: &http.Transport{
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
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, to+path, nil)
	if err != nil {
		return 0, nil, err
	}
	r, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer r.Body.Close()
	text, err = io.ReadAll(io.LimitReader(r.Body, mostPeer))
	return r.StatusCode, text, err
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

// triesToReach are for one whose answer was late because this machine was busy.
const triesToReach = 3

// Reached is how long it takes to open a connection to a URL, which is once there and back: the
// least of a few attempts, unless the first was quick enough. It is 0 where nothing accepts one.
func Reached(ctx context.Context, raw string, enough time.Duration) (least time.Duration) {
	at, err := parsePlace(raw)
	if err != nil {
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, figuresTimeout)
	defer cancel()
	for range triesToReach {
		began := time.Now()
		conn, err := at.dial(ctx)
		if err != nil {
			return least
		}
		took := time.Since(began)
		_ = conn.Close() // nothing was sent
		if least == 0 || took < least {
			least = took
		}
		if least <= enough {
			break
		}
	}
	return least
}
