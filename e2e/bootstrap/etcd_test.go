//go:build e2e

package bootstrap

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdpod/etcdpod/e2e/rig"
	"github.com/etcdpod/etcdpod/e2e/writer"
)

const pkiDir = "/etc/kubernetes/pki/"

func clientURL(n *rig.Node) string { return "https://" + n.Address + ":2379" }

// roots trust the CA of the cluster's etcd.
func (k *cluster) roots(n *rig.Node) *x509.CertPool {
	k.Helper()
	ca, err := n.ReadFile(pkiDir + "etcd/ca.crt")
	k.Must(err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	return pool
}

func (k *cluster) pair(n *rig.Node, base string) tls.Certificate {
	k.Helper()
	pair, err := tls.LoadX509KeyPair(n.Path(pkiDir+base+".crt"), n.Path(pkiDir+base+".key"))
	k.Must(err)
	return pair
}

// etcd is a client of the etcds of these nodes, with the certificates of the first.
func (k *cluster) etcd(nodes ...*rig.Node) *clientv3.Client {
	k.Helper()
	var endpoints []string
	for _, n := range nodes {
		endpoints = append(endpoints, clientURL(n))
	}
	c, err := clientv3.New(clientv3.Config{
		Endpoints: endpoints, DialTimeout: 5 * time.Second, DialKeepAliveTime: 2 * time.Second,
		DialKeepAliveTimeout: 2 * time.Second,
		TLS: &tls.Config{Certificates: []tls.Certificate{k.pair(nodes[0], "etcd/healthcheck-client")},
			RootCAs: k.roots(nodes[0]), MinVersion: tls.VersionTLS12},
	})
	k.Must(err)
	k.Cleanup(func() { _ = c.Close() })
	return c
}

// wantMembers holds the cluster to members of these nodes, all of which vote, and
// whose data is the same.
func (k *cluster) wantMembers(nodes ...*rig.Node) {
	k.Helper()
	var want []string
	for _, n := range nodes {
		want = append(want, fmt.Sprintf("%s at https://%s:2380", n.Name, n.Address))
	}
	slices.Sort(want)
	k.eventually("the members are "+strings.Join(want, ", "), func() error {
		ctx, cancel := context.WithTimeout(k.Ctx, 10*time.Second)
		defer cancel()
		var first *clientv3.HashKVResponse
		for _, n := range nodes {
			c := k.etcd(n)
			list, err := c.MemberList(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", n.Name, err)
			}
			var got []string
			for _, m := range list.Members {
				text := m.Name + " at " + strings.Join(m.PeerURLs, ",")
				if m.IsLearner {
					text += ", a learner"
				}
				got = append(got, text)
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				return fmt.Errorf("%s knows %q", n.Name, got)
			}
			at := int64(0)
			if first != nil {
				at = first.HashRevision
			}
			// Linearizable: this member has what the others have.
			if _, err := c.Get(ctx, "now"); err != nil {
				return fmt.Errorf("%s: %w", n.Name, err)
			}
			hash, err := c.HashKV(ctx, c.Endpoints()[0], at)
			if err != nil {
				return fmt.Errorf("%s: %w", n.Name, err)
			}
			if first == nil {
				first = hash
			}
			if hash.Hash != first.Hash || hash.CompactRevision != first.CompactRevision {
				return fmt.Errorf("%s has another hash than %s", n.Name, nodes[0].Name)
			}
		}
		return nil
	})
}

// strangers are those whom etcd must refuse, and one whom it must not, at both of its ports.
func (k *cluster) strangers(nodes ...*rig.Node) {
	k.Helper()
	n := nodes[0]
	cluster := k.pair(n, "etcd/ca")
	// One with addresses in it is good from those only.
	valid := k.pair(n, "etcd/healthcheck-client")
	for _, n := range nodes {
		for _, port := range []string{"2379", "2380"} {
			for _, who := range []struct {
				name    string
				shows   []tls.Certificate
				refused string
			}{
				{"one with a certificate", []tls.Certificate{valid}, ""},
				{"one without a certificate", nil, "certificate required"},
				{"one with a certificate of another CA", []tls.Certificate{k.issued(nil, time.Hour)}, "certificate"},
				{"one with a certificate of Kubernetes' CA",
					[]tls.Certificate{k.issued(k.authority("ca"), time.Hour)}, "certificate"},
				{"one with an expired certificate", []tls.Certificate{k.issued(&cluster, -time.Minute)}, "certificate"},
				{"one with a certificate of etcd's CA", []tls.Certificate{k.issued(&cluster, time.Hour)}, ""},
			} {
				err := k.ask(n, port, who.shows)
				switch {
				case who.refused == "" && err != nil:
					k.Errorf("%s is refused at %s:%s: %v", who.name, n.Name, port, err)
				case who.refused != "" && err == nil:
					k.Errorf("%s is let in at %s:%s", who.name, n.Name, port)
				case who.refused != "" && !strings.Contains(err.Error(), who.refused):
					k.Errorf("%s is refused at %s:%s by something else: %v", who.name, n.Name, port, err)
				}
			}
		}
	}
}

func (k *cluster) authority(base string) *tls.Certificate {
	k.Helper()
	pair := k.pair(k.node("cp1"), base)
	return &pair
}

// ask asks etcd for its version.
func (k *cluster) ask(n *rig.Node, port string, shows []tls.Certificate) error {
	k.Helper()
	config := &tls.Config{RootCAs: k.roots(n), MinVersion: tls.VersionTLS12,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if len(shows) == 0 {
				return &tls.Certificate{}, nil
			}
			return &shows[0], nil // whatever CAs the server says that it takes
		}}
	client := &http.Client{Timeout: 10 * time.Second,
		Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
	r, err := client.Get("https://" + n.Address + ":" + port + "/version")
	if err != nil {
		return err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	if r.StatusCode != http.StatusOK || !strings.Contains(string(text), "etcdserver") {
		return fmt.Errorf("%s: %s", r.Status, text)
	}
	return nil
}

// issued is a certificate of a client, which ends in that time. Without an authority it is its own.
func (k *cluster) issued(by *tls.Certificate, ends time.Duration) tls.Certificate {
	k.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	k.Must(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "stranger"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(ends),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	parent, signer := template, any(key)
	if by != nil {
		parent, signer = by.Leaf, by.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	k.Must(err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// writing begins to write through all of these nodes.
func (k *cluster) writing(nodes ...*rig.Node) *writer.Writer {
	k.Helper()
	w := writer.Begin(k.Ctx, k.etcd(nodes...))
	k.Cleanup(w.End)
	return w
}

// wantWritten ends the writing, and holds each member to all that was acknowledged.
func (k *cluster) wantWritten(w *writer.Writer, nodes ...*rig.Node) {
	k.Helper()
	w.End()
	if w.Acknowledged == 0 {
		k.Fatal("no write was acknowledged")
	}
	for _, n := range nodes {
		lost, err := w.LostIn(k.Patiently(), k.etcd(n))
		if k.Must(err); len(lost) > 0 {
			k.Fatalf("of %d acknowledged writes these are lost on %s: %v", w.Acknowledged, n.Name, lost)
		}
	}
	k.Logf("%d writes were acknowledged, and none is lost; the longest gap between two was %.2f s",
		w.Acknowledged, w.Gap.Seconds())
}
