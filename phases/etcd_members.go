package phases

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// What a restore on several nodes asks of etcd besides.

func (b boundEtcd) HashStaged(ctx context.Context, db string, progress func(done, total int64)) (uint32, error) {
	r, err := snapfile.Check(ctx, b.fs.Real(db), snapfile.Options{Raw: true, Progress: progress})
	if err != nil {
		return 0, err
	}
	return r.HashKV, nil
}

func (b boundEtcd) HashKV(ctx context.Context, a op.Access, revision int64) (hash uint32, compacted int64, err error) {
	c, err := b.dial(ctx, a)
	if err != nil {
		return 0, 0, err
	}
	defer c.Close()
	h, err := c.HashKV(ctx, a.Endpoints[0], revision)
	return h.Hash, h.CompactRevision, err
}

// peerTimeout bounds one question to a peer port: a member that does not serve its peers yet accepts the connection, and answers nothing.
const peerTimeout = 2 * time.Second

// PeerServes asks for /version, which etcd's peer handler answers as soon as it serves at all (etcd, server/embed/etcd.go, and etcdserver/api/etcdhttp/peer.go).
func (b boundEtcd) PeerServes(ctx context.Context, a op.Access) error {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if a.CACert != "" {
		pem, err := b.readFile(a, a.CACert)
		if err != nil {
			return fmt.Errorf("cannot read %s: %w", a.CACert, err)
		}
		conf.RootCAs = x509.NewCertPool()
		conf.RootCAs.AppendCertsFromPEM(pem)
	}
	if a.Cert != "" {
		cert, err := b.readFile(a, a.Cert)
		if err != nil {
			return fmt.Errorf("cannot read %s: %w", a.Cert, err)
		}
		key, err := b.readFile(a, a.Key)
		if err != nil {
			return fmt.Errorf("cannot read %s: %w", a.Key, err)
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return fmt.Errorf("cannot use %s: %w", a.Cert, err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	client := &http.Client{Timeout: peerTimeout, Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}}
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

func (b boundEtcd) Listening(ctx context.Context, raw string) bool {
	u, err := url.Parse(raw)
	if err != nil {
		return false
	}
	conn, err := (&net.Dialer{Timeout: peerTimeout}).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return false
	}
	_ = conn.Close() // nothing was said
	return true
}

func (b boundEtcd) AddLearner(ctx context.Context, a op.Access, peerURLs []string) error {
	return b.with(ctx, a, func(c *etcd.Client) error { return c.AddLearner(ctx, peerURLs) })
}

func (b boundEtcd) PromoteLearner(ctx context.Context, a op.Access, peerURL string) error {
	return b.with(ctx, a, func(c *etcd.Client) error { return c.PromoteLearner(ctx, peerURL) })
}

func (b boundEtcd) RemoveLearner(ctx context.Context, a op.Access, peerURL string) error {
	return b.with(ctx, a, func(c *etcd.Client) error { return c.RemoveLearner(ctx, peerURL) })
}

func (b boundEtcd) with(ctx context.Context, a op.Access, do func(*etcd.Client) error) error {
	c, err := b.dial(ctx, a)
	if err != nil {
		return err
	}
	defer c.Close()
	return do(c)
}
