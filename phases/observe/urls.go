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

// FromHere parses the URL of a listener on this host as this host dials it: a listener on all
// addresses, 0.0.0.0 or ::, over the loopback address of that family.
func FromHere(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, err
	}
	switch u.Hostname() {
	case "0.0.0.0":
		u.Host = net.JoinHostPort("127.0.0.1", u.Port())
	case "::":
		u.Host = net.JoinHostPort("::1", u.Port())
	}
	return u, nil
}

// Loopback says whether a host name or address is this host's loopback.
func Loopback(host string) bool {
	return host == "localhost" || host == "::1" || strings.HasPrefix(host, "127.")
}

// LocalPeer says whether a member's peer URLs lead every other node to itself: etcd's default, which
// stays in its data until somebody changes it there. Other addresses of 127.0.0.0/8 are chosen, by
// somebody who knows why.
func LocalPeer(m Member) bool {
	return len(m.PeerURLs) > 0 && !slices.ContainsFunc(HostsOf(m.PeerURLs), func(host string) bool {
		return !slices.Contains([]string{"localhost", "127.0.0.1", "::1"}, host)
	})
}

// LocalPeerCure is what to type so that others reach such a member. Its new URL has the scheme of
// another peer's, and the first of the hosts that others reach.
func LocalPeerCure(m Member, like string, hosts []string) string {
	host, port, scheme := "ADDRESS", "2380", "https"
	if i := slices.IndexFunc(hosts, func(h string) bool { return h != "" && !Loopback(h) }); i >= 0 {
		host = hosts[i]
	}
	if u, err := url.Parse(m.PeerURLs[0]); err == nil && u.Port() != "" {
		port = u.Port()
	}
	if u, err := url.Parse(like); err == nil && u.Scheme != "" {
		scheme = u.Scheme
	}
	return fmt.Sprintf("let etcd tell the address of that node: type `etcdctl member update %s --peer-urls=%s://%s`",
		m.ID, scheme, net.JoinHostPort(host, port))
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
