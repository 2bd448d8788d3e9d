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

// onlyHere says whether a URL leads every host to itself. Other addresses of 127.0.0.0/8 are
// chosen, by somebody who knows why.
func onlyHere(url string) bool {
	return slices.Contains([]string{"localhost", "127.0.0.1", "::1", ""}, HostOf(url))
}

// LocalPeer says whether a member's peer URLs lead every other node to itself: etcd's default,
// which stays in its data until somebody changes it there.
func LocalPeer(m Member) bool {
	return len(m.PeerURLs) > 0 && !slices.ContainsFunc(m.PeerURLs, func(url string) bool { return !onlyHere(url) })
}

// LocalPeerCure is what to type so that others reach such a member: at the first of the peer URLs
// that lead to it, else at the host of one of its client URLs, else at one that the person must
// know.
func LocalPeerCure(m Member, peers, clients []string) string {
	at := ""
	if i := slices.IndexFunc(peers, func(url string) bool { return !onlyHere(url) }); i >= 0 {
		at = peers[i]
	} else {
		host, port := "ADDRESS", "2380"
		if own, err := url.Parse(m.PeerURLs[0]); err == nil && own.Port() != "" {
			port = own.Port()
		}
		if i := slices.IndexFunc(clients, func(url string) bool { return !onlyHere(url) }); i >= 0 {
			host = HostOf(clients[i])
		}
		at = "https://" + net.JoinHostPort(host, port)
	}
	return fmt.Sprintf("let etcd tell the address of that node: type `etcdctl member update %s --peer-urls=%s`",
		m.ID, at)
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
