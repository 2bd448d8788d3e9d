package observe

import (
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
