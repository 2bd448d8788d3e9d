package members

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/bind"
	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/pki"
)

// How a joining node finds the members, and what it asks them. All of it works before the node has
// anything of etcd except its CA.

const (
	askMembers = 20 * time.Second // for all of them together
	dialMember = 3 * time.Second
)

// memberEndpoints are client URLs of members elsewhere, with their source: the command line,
// kubeadm's annotation of etcd's pods, the API server's manifest, or etcd's manifest.
func memberEndpoints(ctx context.Context, n *observe.Node, f *Facts) (endpoints []string, source string) {
	if len(n.Access.Endpoints) > 0 {
		return n.Access.Endpoints, "--endpoints"
	}
	annotated, err := n.AnnotatedURLs(ctx, n.AnyAPIServer())
	if err != nil {
		f.Join.Notes = append(f.Join.Notes, fmt.Sprintf("the API server was not queried for the members: %v", err))
	}
	var servers []string
	if m, c, ok := observe.Program(f.Manifests, "kube-apiserver"); ok {
		servers = observe.EtcdServers(m, c)
	}
	for _, found := range []struct {
		urls   []string
		source string
	}{
		{annotated, "the annotations of etcd's pods"},
		{servers, "the API server's manifest"},
		{initialMembers(f), "etcd's manifest"},
	} {
		if urls := f.elsewhere(found.urls); len(urls) > 0 {
			return urls, found.source
		}
	}
	return nil, ""
}

// elsewhere drops this node's own URLs.
func (f *Facts) elsewhere(urls []string) []string {
	own := observe.HostsOf(f.Init.Pod.ClientURLs)
	return slices.DeleteFunc(slices.Clone(urls), func(u string) bool {
		return observe.OnlyHere(u) || slices.Contains(own, observe.HostOf(u))
	})
}

// initialMembers are the client URLs of the members named in this node's etcd manifest, by
// kubeadm's convention: the host of the peer URL, and the port of this node's client URL.
func initialMembers(f *Facts) (urls []string) {
	m, container, ok := observe.Program(f.Manifests, "etcd")
	if !ok || len(f.Init.Pod.ClientURLs) == 0 {
		return nil
	}
	client, err := url.Parse(f.Init.Pod.ClientURLs[0])
	if err != nil {
		return nil
	}
	for _, peer := range observe.PeersIn(observe.FlagOf(m, container, "initial-cluster")) {
		urls = append(urls, client.Scheme+"://"+net.JoinHostPort(observe.HostOf(peer), client.Port()))
	}
	return urls
}

// observeCluster asks the members, and writes nothing: a client certificate that is yet to be made
// is made in memory and forgotten.
func observeCluster(ctx context.Context, n *observe.Node, f *Facts) {
	ctx, cancel := context.WithTimeout(ctx, askMembers)
	defer cancel()
	j := f.Join
	if j.Endpoints, j.Source = memberEndpoints(ctx, n, f); len(j.Endpoints) == 0 {
		j.Error = errors.New("nothing on this node names one")
		return
	}
	access, err := strangersAccess(n, f)
	if err != nil {
		j.Error = err
		return
	}
	if j.Cluster, j.Error = askCluster(ctx, access, j.Endpoints, f.Init.Pod.PeerURLs); j.Error != nil {
		return
	}
	for _, m := range j.Cluster.Members {
		if observe.ShareURL(m.PeerURLs, f.Init.Pod.PeerURLs) {
			j.Own = &m
		}
	}
	j.Through = through(n, f)
}

// strangersAccess is how a node that the members do not know yet asks them.
func strangersAccess(n *observe.Node, f *Facts) (etcd.Access, error) {
	if n.Access.Cert != "" {
		return n.Dialer().Access(n.Typed(op.Access{CACert: f.Init.certFile("etcd/ca.crt")}))
	}
	if f.Init.CertsError != nil {
		return etcd.Access{}, f.Init.CertsError
	}
	spec, err := pki.EtcdSpec(clientName)
	if err != nil {
		return etcd.Access{}, err
	}
	file := f.Init.certFile
	if !slices.ContainsFunc(f.Init.Certs.Issue, func(s pki.Spec) bool { return s.Name == spec.Name }) {
		return n.Dialer().Access(n.Typed(op.Access{CACert: file("etcd/ca.crt"),
			Cert: file(spec.CertFile()), Key: file(spec.KeyFile())}))
	}
	a, err := n.Dialer().Access(op.Access{CACert: file("etcd/ca.crt"), Key: file("etcd/ca.key")})
	if err != nil {
		return a, err
	}
	ca, err := pki.ParseAuthority(file("etcd/ca.crt"), a.CA, file("etcd/ca.key"), a.Key)
	if err != nil {
		return a, err
	}
	config := f.Init.PKI
	config.Algorithm = pki.ECDSAP256
	made, err := pki.Issuer{Config: config, Now: f.Now}.Issue(spec, ca)
	a.Cert, a.Key = made.Cert, made.Key
	return a, err
}

// through is how operations reach the members: through all that vote and answer, so that one of
// them may fail. The certificate exists by then.
func through(n *observe.Node, f *Facts) op.Access {
	var urls []string
	for _, m := range f.Join.Cluster.Members {
		if !m.IsLearner && m.Error == nil && (f.Join.Own == nil || m.ID != f.Join.Own.ID) {
			urls = append(urls, m.ClientURLs...)
		}
	}
	if len(urls) == 0 {
		urls = f.Join.Endpoints
	}
	client := f.Init.certFile("etcd/healthcheck-client")
	return n.Typed(op.Access{Endpoints: urls, CACert: f.Init.certFile("etcd/ca.crt"),
		Cert: client + ".crt", Key: client + ".key"})
}

// askCluster gets the members from the first endpoint that answers, and asks each of them. own are
// the peer URLs of the asking node, which is not asked itself.
func askCluster(ctx context.Context, access etcd.Access, endpoints, own []string) (*ClusterFacts, error) {
	access.DialTimeout = dialMember
	members, err := firstMembers(ctx, access, endpoints)
	if err != nil {
		return nil, err
	}
	var urls []string
	for _, m := range members {
		if !m.IsLearner && !observe.ShareURL(m.PeerURLs, own) {
			urls = append(urls, m.ClientURLs...)
		}
	}
	if len(urls) == 0 {
		urls = endpoints
	}
	access.Endpoints = urls
	c, err := etcd.Dial(ctx, access)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	all := &ClusterFacts{}
	if all.QuorumError = c.Ready(ctx); all.QuorumError == nil {
		if members, err = c.Members(ctx); err != nil {
			return nil, err
		}
		alarms, err := c.Alarms(ctx)
		if err != nil {
			return nil, err
		}
		for _, a := range alarms {
			all.Alarms = append(all.Alarms, fmt.Sprintf("%s of member %x", a.Name, a.MemberID))
		}
	}
	return all, all.take(members, append(c.Status(ctx), askLearners(ctx, access, members, own)...))
}

// askLearners asks the members without a vote, each by itself: they say how they are, and serve
// nothing else.
func askLearners(ctx context.Context, access etcd.Access, members []etcd.Member, own []string) (said []etcd.Status) {
	for _, m := range members {
		if !m.IsLearner || observe.ShareURL(m.PeerURLs, own) || len(m.ClientURLs) == 0 {
			continue
		}
		access.Endpoints = m.ClientURLs
		c, err := etcd.Dial(ctx, access)
		if err != nil {
			said = append(said, etcd.Status{Endpoint: m.ClientURLs[0], Err: err})
			continue
		}
		said = append(said, c.Status(ctx)...)
		_ = c.Close()
	}
	return said
}

// askPeers looks which of the members that do not answer clients serve their peers: those run.
func (c *ClusterFacts) askPeers(ctx context.Context, access etcd.Access) {
	engine.Concurrently(len(c.Members), func(i int) {
		m, access := &c.Members[i], access
		if m.Error == nil || !observe.Started(m.Member) {
			return
		}
		for _, url := range m.PeerURLs {
			access.Endpoints = []string{url}
			known, err := etcd.PeerMembers(ctx, access)
			m.ServesPeers = m.ServesPeers || err == nil &&
				slices.ContainsFunc(known, func(one etcd.Member) bool { return one.ID == uint64(m.ID) })
		}
	})
}

func firstMembers(ctx context.Context, access etcd.Access, endpoints []string) ([]etcd.Member, error) {
	var errs []error
	for _, e := range endpoints {
		access.Endpoints = []string{e}
		c, err := etcd.Dial(ctx, access)
		if err == nil {
			var members []etcd.Member
			members, err = c.OwnMembers(ctx)
			_ = c.Close()
			if err == nil {
				return members, nil
			}
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// take collects what the members say about themselves.
func (c *ClusterFacts) take(members []etcd.Member, said []etcd.Status) error {
	for _, m := range members {
		one := MemberFacts{Member: bind.MembersOf([]etcd.Member{m})[0],
			ClientURLs: m.ClientURLs, Error: errors.New("it has not started yet")}
		if observe.Started(one.Member) {
			one.Error = errors.New("it was not queried")
		}
		for _, s := range said {
			switch {
			case !slices.Contains(m.ClientURLs, s.Endpoint):
			case s.Err != nil:
				one.Error = s.Err
			case c.ID != 0 && s.ClusterID != c.ID:
				return fmt.Errorf("%s is in cluster %x, but others are in %x", s.Endpoint, s.ClusterID, c.ID)
			case s.MemberID != m.ID:
				one.Error = fmt.Errorf("another member, %x, answers at %s", s.MemberID, s.Endpoint)
			default:
				c.ID, one.Version, one.SizeBytes, one.Error = s.ClusterID, s.Version, s.SizeBytes, nil
				one.Applied = s.RaftApplied
			}
			if one.Error == nil {
				break
			}
		}
		c.Members = append(c.Members, one)
	}
	if c.ID == 0 {
		return errors.New("no member says which cluster it belongs to")
	}
	return nil
}
