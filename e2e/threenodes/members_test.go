//go:build e2e

package threenodes

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdpod/etcdpod/e2e/rig"
)

// member is what one etcd says of itself.
type member struct {
	Node     string
	Cluster  uint64
	ID       uint64
	Members  []uint64 // of all that it knows, sorted
	Revision int64
	Hash     uint32 // of all keys, at the revision at which it was asked for
	Compact  int64  // the revision from which on the hash is
}

// etcds is a client of each node's etcd alone: none is asked in another's place.
type etcds struct {
	nodes   []*rig.Node
	clients []*clientv3.Client
}

func dialEtcds(nodes []*rig.Node) (*etcds, error) {
	const pki = "/etc/kubernetes/pki/etcd/"
	e := &etcds{nodes: nodes}
	for _, n := range nodes {
		pair, err := tls.LoadX509KeyPair(n.Path(pki+"healthcheck-client.crt"), n.Path(pki+"healthcheck-client.key"))
		if err != nil {
			return nil, errors.Join(err, e.close())
		}
		ca, err := n.ReadFile(pki + "ca.crt")
		if err != nil {
			return nil, errors.Join(err, e.close())
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(ca)
		client, err := clientv3.New(clientv3.Config{
			Endpoints: []string{"https://" + n.Address + ":2379"}, DialTimeout: 5 * time.Second,
			TLS: &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, MinVersion: tls.VersionTLS12},
		})
		if err != nil {
			return nil, errors.Join(err, e.close())
		}
		e.clients = append(e.clients, client)
	}
	return e, nil
}

func (e *etcds) close() error {
	var errs []error
	for _, c := range e.clients {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// members asks every member, and takes the hash of each at one revision.
func (e *etcds) members(ctx context.Context) ([]member, error) {
	var all []member
	for i, c := range e.clients {
		name, endpoint := e.nodes[i].Name, c.Endpoints()[0]
		status, err := c.Status(ctx, endpoint)
		if err != nil {
			return nil, fmt.Errorf("the etcd of %s does not answer: %w", name, err)
		}
		list, err := c.MemberList(ctx)
		if err != nil {
			return nil, fmt.Errorf("the etcd of %s has no members to tell: %w", name, err)
		}
		m := member{Node: name, Cluster: status.Header.ClusterId, ID: status.Header.MemberId}
		for _, other := range list.Members {
			if other.IsLearner {
				return nil, fmt.Errorf("as the etcd of %s has it, %s does not vote", name, other.Name)
			}
			m.Members = append(m.Members, other.ID)
		}
		slices.Sort(m.Members)
		all = append(all, m)
	}
	// Linearizable: every member that takes part has this revision, or will.
	at, err := e.clients[0].Get(ctx, "revision")
	if err != nil {
		return nil, fmt.Errorf("etcd has no quorum: %w", err)
	}
	for i, c := range e.clients {
		if _, err := c.Get(ctx, "revision"); err != nil { // now this one has it
			return nil, fmt.Errorf("the etcd of %s is behind: %w", all[i].Node, err)
		}
		hash, err := c.HashKV(ctx, c.Endpoints()[0], at.Header.Revision)
		if err != nil {
			return nil, fmt.Errorf("the etcd of %s has no hash: %w", all[i].Node, err)
		}
		all[i].Revision, all[i].Hash, all[i].Compact = at.Header.Revision, hash.Hash, hash.CompactRevision
	}
	return all, nil
}

// agree says in what the members differ. Compaction does not come to all at the same instant, and
// errors of the moment are the caller's to wait out.
func agree(all []member) error {
	first := all[0]
	for _, m := range all {
		switch {
		case m.Cluster != first.Cluster:
			return fmt.Errorf("two clusters: %s is in %x, %s in %x", first.Node, first.Cluster, m.Node, m.Cluster)
		case !slices.Equal(m.Members, first.Members) || len(m.Members) != len(all):
			return fmt.Errorf("%s has the members %x, %s has %x", first.Node, first.Members, m.Node, m.Members)
		case !slices.Contains(m.Members, m.ID):
			return fmt.Errorf("%s is %x, which is none of %x", m.Node, m.ID, m.Members)
		case m.Hash != first.Hash || m.Compact != first.Compact:
			return fmt.Errorf("at revision %d %s has hash %x since %d, %s has %x since %d",
				m.Revision, first.Node, first.Hash, first.Compact, m.Node, m.Hash, m.Compact)
		}
	}
	ids := []uint64{}
	for _, m := range all {
		ids = append(ids, m.ID)
	}
	slices.Sort(ids)
	if !slices.Equal(ids, first.Members) {
		return fmt.Errorf("the members that answer are %x, and the cluster has %x", ids, first.Members)
	}
	return nil
}
