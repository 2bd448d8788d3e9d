package observe

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/internal/etcd"
)

// ClientURL is where others reach a member: the first URL it advertises that is not loopback, else
// the first. It is empty for a member that has never started, which advertises none.
func ClientURL(m etcd.Member) string {
	for _, u := range m.ClientURLs {
		if !Loopback(HostOf(u)) {
			return u
		}
	}
	if len(m.ClientURLs) > 0 {
		return m.ClientURLs[0]
	}
	return ""
}

// Serves says whether one of the servers is this etcd.
func (p *EtcdPod) Serves(servers []string) bool {
	return slices.ContainsFunc(servers, func(s string) bool {
		return Loopback(HostOf(s)) || slices.Contains(p.ClientURLs, s)
	})
}

// EtcdServersFlag is the API server's flag that names its etcds, without the dashes.
const EtcdServersFlag = "etcd-servers"

// EtcdServers are the etcds that an API server uses. The flag accumulates: if it is given twice,
// both count (pflag's StringSlice).
func EtcdServers(m ManifestFile, container string) (servers []string) {
	for _, value := range FlagsOf(m, container, EtcdServersFlag) {
		servers = append(servers, SplitList(value)...)
	}
	return servers
}

// FromHere are the URLs at which this host reaches a listener of etcd, the surest first. A listener
// on all addresses is reached over both loopback addresses: either family may be switched off, and
// a socket on :: takes both. So is localhost, which may mean either. A socket's path is one in the
// container, and is reached where a volume mounts it from. None: it cannot be reached from here.
func (n *Node) FromHere(pod *EtcdPod, raw string) []string {
	u, err := url.Parse(raw)
	if err != nil {
		return nil
	}
	switch u.Scheme {
	case "unix", "unixs":
		if host := HostFile(pod.File, pod.Container, u.Path); u.Host == "" && host != "" {
			return []string{u.Scheme + "://" + n.FS.Real(host)}
		}
		return nil
	case "http", "https":
	default:
		return nil
	}
	var all []string
	for _, host := range hostsFromHere(u.Hostname()) {
		at := *u
		if at.Host = host; u.Port() != "" {
			at.Host = net.JoinHostPort(host, u.Port())
		} else if strings.Contains(host, ":") {
			at.Host = "[" + host + "]"
		}
		all = append(all, at.String())
	}
	return all
}

// hostsFromHere are the hosts that reach what listens at an address of this host; an empty one
// means all addresses.
func hostsFromHere(host string) []string {
	ip := net.ParseIP(host)
	switch {
	case host == "" || host == "0.0.0.0":
		return []string{"127.0.0.1", "::1"}
	case ip != nil && ip.IsUnspecified():
		return []string{"::1", "127.0.0.1"}
	case ip == nil && Loopback(host):
		return []string{"127.0.0.1", "::1", host}
	}
	return []string{host}
}

// Loopback says whether a host name or address is this host's loopback.
func Loopback(host string) bool {
	name := strings.TrimSuffix(strings.ToLower(host), ".")
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback() || strings.HasSuffix(name, ".localhost") || slices.Contains(hostsFile, name)
}

// hostsFile are the names that distributions give loopback in /etc/hosts.
var hostsFile = []string{"localhost", "localhost.localdomain", "localhost4", "localhost4.localdomain4", "localhost6",
	"localhost6.localdomain6", "ip6-localhost", "ip6-loopback"}

// DialAddress is where package net dials a URL of etcd: host:port, or the path of a socket.
func DialAddress(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	if u.Scheme == "unix" || u.Scheme == "unixs" {
		return u.Path
	}
	return net.JoinHostPort(u.Hostname(), u.Port())
}

// Secure says whether a URL of etcd is one with TLS.
func Secure(raw string) bool {
	return strings.HasPrefix(raw, "https://") || strings.HasPrefix(raw, "unixs://")
}

// OnlyHere says whether a URL leads every host to itself. Other addresses of 127.0.0.0/8 are
// chosen, by somebody who knows why.
func OnlyHere(url string) bool {
	host := HostOf(url)
	if ip := net.ParseIP(host); ip != nil {
		return ip.IsUnspecified() || ip.Equal(net.IPv6loopback) || ip.String() == "127.0.0.1"
	}
	return host == "" || Loopback(host)
}

// LocalPeer says whether a member's peer URLs lead every other node to itself: etcd's default,
// which stays in its data until somebody changes it there.
func LocalPeer(m Member) bool {
	return len(m.PeerURLs) > 0 && !slices.ContainsFunc(m.PeerURLs, func(url string) bool { return !OnlyHere(url) })
}

// LocalPeerCure is what to type so that others reach such a member: at the first of the peer URLs
// that lead to it, else at the host of one of its client URLs, else at one that the person must
// know.
func LocalPeerCure(m Member, peers, clients []string) string {
	at := ""
	if i := slices.IndexFunc(peers, func(url string) bool { return !OnlyHere(url) }); i >= 0 {
		at = peers[i]
	} else {
		host, port := "ADDRESS", "2380"
		if own, err := url.Parse(m.PeerURLs[0]); err == nil && own.Port() != "" {
			port = own.Port()
		}
		if i := slices.IndexFunc(clients, func(url string) bool { return !OnlyHere(url) }); i >= 0 {
			host = HostOf(clients[i])
		}
		at = "https://" + net.JoinHostPort(host, port)
	}
	return fmt.Sprintf("set that node's real address: run `etcdpod members set-peer-url %s %s` there", m.ID, at)
}

// HostOf is the host in a URL, without the port.
func HostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// HostsOf applies [HostOf] to each URL.
func HostsOf(urls []string) []string {
	var hosts []string
	for _, u := range urls {
		hosts = append(hosts, HostOf(u))
	}
	return hosts
}

// NamesIn are the names of the members in --initial-cluster.
func NamesIn(initialCluster string) (names []string) {
	for _, pair := range SplitList(initialCluster) {
		if i := strings.LastIndex(pair, "="); i > 0 && !slices.Contains(names, pair[:i]) {
			names = append(names, pair[:i])
		}
	}
	return names
}

// PeersIn are the peer URLs in --initial-cluster, a list of NAME=URL. Names may contain =, but URLs
// begin with their scheme.
func PeersIn(initialCluster string) (urls []string) {
	for _, pair := range SplitList(initialCluster) {
		if i := strings.LastIndex(pair, "="); i > 0 {
			urls = append(urls, pair[i+1:])
		}
	}
	return urls
}
