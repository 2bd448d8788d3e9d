package members

import (
	"context"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// server is an API server, and what names its etcds.
type server struct {
	APIServer
	addresses []string // at which it may have registered itself
	uses      []string // --etcd-servers
}

// place says which node each member is on, and which API servers use it: as this node's manifests
// say, and as the API server stored the pods and nodes, which any member that answers has.
func (r *roster) place(ctx context.Context, l *Listing) {
	var etcds []observe.StoredPod
	var servers []server
	var living []string
	known := false // which API servers live
	if way, ok := r.anyVoter(); ok {
		// What cannot be read is not known.
		_ = r.with(ctx, way, func(ctx context.Context, c *etcd.Client) error {
			etcds, _ = observe.StoredPods(ctx, c, "etcd", !r.quorum)
			stored, _ := observe.StoredPods(ctx, c, "kube-apiserver", !r.quorum)
			servers = serversIn(stored)
			r.placeMembers(ctx, c, l, etcds)
			if r.quorum { // leases do not end without one
				var err error
				living, err = observe.LivingAPIServers(ctx, c)
				known = err == nil
			}
			return nil
		})
	}
	if r.own >= 0 && l.Members[r.own].Node == "" {
		l.Members[r.own].Node = r.pod.Name
	}
	servers = r.withOwn(servers, l)
	for i := range servers {
		living = servers[i].register(living, known)
	}
	for _, s := range servers {
		used := false
		for i := range l.Members {
			if e := &l.Members[i]; s.usesMember(*e) {
				e.APIServers, used = append(e.APIServers, s.APIServer), true
			}
		}
		if !used {
			l.OtherAPIServers = append(l.OtherAPIServers, s.APIServer)
		}
	}
	for _, address := range living { // of no API server that is known by its pod
		alive := true
		l.OtherAPIServers = append(l.OtherAPIServers,
			APIServer{Node: l.nodeAt(address), Address: address, Alive: &alive})
	}
}

// placeMembers finds the nodes of the members: by etcd's pods, or where a node has the name and the
// address of the member.
func (r *roster) placeMembers(ctx context.Context, c *etcd.Client, l *Listing, etcds []observe.StoredPod) {
	for _, p := range etcds {
		if i := r.podOf(p); i >= 0 {
			l.Members[i].Node = p.Node
		}
	}
	for i := range l.Members {
		e := &l.Members[i]
		if e.Node != "" || e.Name == "" {
			continue
		}
		addresses, err := observe.StoredAddresses(ctx, c, e.Name, !r.quorum)
		hosts := observe.HostsOf(slices.Concat(e.PeerURLs, e.ClientURLs))
		if err == nil && slices.ContainsFunc(addresses, func(a string) bool { return slices.Contains(hosts, a) }) {
			e.Node = e.Name
		}
	}
}

// nodeAt is the node of a member at an address, if one is known.
func (l *Listing) nodeAt(address string) string {
	for _, e := range l.Members {
		if slices.Contains(observe.HostsOf(slices.Concat(e.PeerURLs, e.ClientURLs)), address) {
			return e.Node
		}
	}
	return ""
}

// onlyNamed is the one member of that name; -1 when none or several have it.
func onlyNamed(members []etcd.Member, name string) int {
	is := func(m etcd.Member) bool { return m.Name != "" && m.Name == name }
	i := slices.IndexFunc(members, is)
	if i < 0 || slices.ContainsFunc(members[i+1:], is) {
		return -1
	}
	return i
}

func serversIn(pods []observe.StoredPod) (all []server) {
	for _, p := range pods {
		all = append(all, serverIn(p.Node, p.File, p.Container, p.Addresses))
	}
	return all
}

func serverIn(node string, m observe.ManifestFile, container string, addresses []string) server {
	s := server{APIServer: APIServer{Node: node}, addresses: addresses,
		uses: observe.EtcdServers(m, container)}
	if advertised := observe.FlagOf(m, container, "advertise-address"); advertised != "" {
		s.addresses = append([]string{advertised}, s.addresses...)
	}
	return s
}

// withOwn puts the API server in this node's manifest in the place of what is stored of it.
func (r *roster) withOwn(servers []server, l *Listing) []server {
	m, c, ok := observe.Program(r.files, "kube-apiserver")
	if !ok {
		return servers
	}
	name := l.nodeName()
	if name == "" {
		name = r.node.Name
	}
	servers = slices.DeleteFunc(servers, func(s server) bool { return s.Node == name })
	return append([]server{serverIn(name, m, c, nil)}, servers...)
}

// register looks for an API server among those that live, and returns the others.
func (s *server) register(living []string, known bool) []string {
	i := slices.IndexFunc(living, func(address string) bool { return slices.Contains(s.addresses, address) })
	if known {
		alive := i >= 0
		s.Alive = &alive
	}
	if i < 0 {
		return living
	}
	s.Address = living[i]
	return slices.Delete(slices.Clone(living), i, i+1)
}

// usesMember says whether an API server uses a member, at one of its client URLs or over loopback.
func (s server) usesMember(e Entry) bool {
	return slices.ContainsFunc(s.uses, func(at string) bool {
		if observe.OnlyHere(at) {
			return e.Node != "" && e.Node == s.Node
		}
		return slices.Contains(e.ClientURLs, strings.TrimSuffix(at, "/"))
	})
}
