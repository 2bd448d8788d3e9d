package members

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/manifests"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// move puts an address in the place of others: of the one that changed, and of any at which every
// host reaches itself. Where several nodes move at once, the addresses of the others follow, too.
type move struct {
	old    []string
	new    string
	others []swap

	// All members, with the peer URLs that they are to have, for --initial-cluster; nil: only what
	// it names already follows.
	cluster []op.Member
}

// swap is what another node's address was, and is.
type swap struct{ Old, New string }

// String is the change in words.
func (m move) String() string {
	var all []string
	if len(m.old) > 0 {
		all = append(all, fmt.Sprintf("%s for %s", m.new, strings.Join(m.old, ", ")))
	}
	for _, s := range m.others {
		all = append(all, fmt.Sprintf("%s for %s", s.New, s.Old))
	}
	return strings.Join(all, "; ")
}

// gives says whether a host is one of those that make room.
func (m move) gives(host string) bool {
	return slices.ContainsFunc(m.old, func(old string) bool { return sameAddress(host, old) })
}

// elsewhere is the move without the hosts that lead every host to itself: whatever listens there,
// or is reached there from this node, goes on so.
func (m move) elsewhere() move {
	m.old = slices.DeleteFunc(slices.Clone(m.old), onlyHere)
	return m
}

func onlyHere(host string) bool { return observe.OnlyHere("https://" + net.JoinHostPort(host, "1")) }

// becomes is what a host is after the move; empty: the same.
func (m move) becomes(host string) string {
	if m.gives(host) {
		return m.new
	}
	for _, s := range m.others {
		if sameAddress(s.Old, host) {
			return s.New
		}
	}
	return ""
}

// url is a URL after the move.
func (m move) url(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return raw
	}
	host := m.becomes(u.Hostname())
	if host == "" {
		return raw
	}
	if port := u.Port(); port != "" {
		u.Host = net.JoinHostPort(host, port)
	} else if u.Host = host; strings.Contains(host, ":") {
		u.Host = "[" + host + "]"
	}
	return u.String()
}

// urls is a list of URLs after the move, each once.
func (m move) urls(all []string) (moved []string) {
	for _, one := range all {
		if one = m.url(one); !slices.Contains(moved, one) {
			moved = append(moved, one)
		}
	}
	return moved
}

// sameAddress says whether two hosts are one, however an address is written.
func sameAddress(a, b string) bool {
	x, y := net.ParseIP(a), net.ParseIP(b)
	if x == nil || y == nil {
		return strings.EqualFold(a, b)
	}
	return x.Equal(y)
}

// initialCluster is --initial-cluster after the move: this one's URLs follow, and those of others
// that move. Where all members are known, each is in it: an etcd that loses its data then finds out
// that it is a member, instead of beginning a cluster of its own.
func (m move) initialCluster(value, name string, peers []string) string {
	theirs := m
	theirs.old, theirs.new = nil, ""
	var pairs []string
	for _, pair := range observe.SplitList(value) {
		at := strings.LastIndex(pair, "=")
		switch {
		case at <= 0:
		case pair[:at] == name:
			pair = pair[:at+1] + m.url(pair[at+1:])
		default:
			pair = pair[:at+1] + theirs.url(pair[at+1:])
		}
		pairs = append(pairs, pair)
	}
	if value == "" || m.cluster == nil {
		return strings.Join(pairs, ",")
	}
	var all []string
	for _, p := range peers {
		all = append(all, name+"="+p)
	}
	for _, one := range m.cluster {
		for _, p := range one.PeerURLs {
			if pair := one.Name + "=" + p; one.Name != "" && one.Name != name && !slices.Contains(all, pair) {
				all = append(all, pair)
			}
		}
	}
	kept := slices.DeleteFunc(pairs, func(pair string) bool { return !slices.Contains(all, pair) })
	for _, pair := range all { // what is there already keeps its place
		if !slices.Contains(kept, pair) {
			kept = append(kept, pair)
		}
	}
	return strings.Join(kept, ",")
}

// etcd is etcd's manifest after the move.
func (m move) etcd(pod *observe.EtcdPod) (edited *manifests.Manifest, err error) {
	e := &rewriting{file: pod.File, container: pod.Container, manifest: pod.File.Manifest, pod: pod}
	clients, peers := m.urls(pod.ClientURLs), m.urls(pod.PeerURLs)
	e.set("advertise-client-urls", strings.Join(clients, ","))
	e.set("initial-advertise-peer-urls", strings.Join(peers, ","))
	if as, _ := pod.Source("initial-cluster", ""); !strings.HasPrefix(as, "--") {
		m.cluster = nil // it is not this manifest's to complete
	}
	e.set("initial-cluster", m.initialCluster(pod.Setting("", "initial-cluster"), pod.Name, peers))
	for _, l := range []struct {
		name       string
		advertised []string
	}{{"listen-client-urls", clients}, {"listen-peer-urls", peers}, {"listen-metrics-urls", nil}} {
		at := observe.SplitList(pod.Setting("", l.name))
		at = m.elsewhere().urls(at)
		for _, u := range l.advertised { // at loopback it may be needed by others as well
			if !observe.Listens(at, u) {
				at = append(at, u)
			}
		}
		e.set(l.name, strings.Join(at, ","))
	}
	e.annotate(etcdAnnotation, strings.Join(clients, ","))
	e.probe(m)
	return e.manifest, e.err
}

const (
	etcdAnnotation = "kubeadm.kubernetes.io/etcd.advertise-client-urls"
	apiAnnotation  = "kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint"
)

// apiServer is the API server's manifest after the move.
func (m move) apiServer(file observe.ManifestFile, container string) (*manifests.Manifest, error) {
	m = m.elsewhere()
	e := &rewriting{file: file, container: container, manifest: file.Manifest}
	servers := observe.EtcdServers(file, container)
	if moved := m.urls(servers); !slices.Equal(servers, moved) {
		e.set(observe.EtcdServersFlag, strings.Join(moved, ","))
	}
	for _, name := range []string{"advertise-address", "bind-address"} {
		if m.gives(observe.FlagOf(file, container, name)) {
			e.set(name, m.new)
		}
	}
	at, _ := file.Manifest.Annotation(apiAnnotation)
	if host, port, err := net.SplitHostPort(at); err == nil && m.gives(host) {
		e.annotate(apiAnnotation, net.JoinHostPort(m.new, port))
	}
	e.probe(m)
	return e.manifest, e.err
}

// rewriting edits a manifest until something cannot be edited.
type rewriting struct {
	file      observe.ManifestFile
	container string
	manifest  *manifests.Manifest
	pod       *observe.EtcdPod // nil: it is not etcd's
	err       error
}

// set gives a flag another value, if that is another one. A setting that comes from elsewhere is
// not this manifest's to change.
func (e *rewriting) set(name, value string) {
	now := observe.FlagOf(e.file, e.container, name)
	if e.pod != nil {
		now = e.pod.Setting("", name)
	}
	if e.err != nil || slices.Equal(observe.SplitList(now), observe.SplitList(value)) {
		return
	}
	if e.pod != nil {
		if as, file := e.pod.Source(name, ""); !strings.HasPrefix(as, "--") {
			e.err = engine.Refuse(fmt.Sprintf("set it to %s there by hand, and run the command again", value),
				"cannot put the new address in place: etcd takes it from %s in %s", as, file)
			return
		}
	}
	if written, _ := e.file.Manifest.Flag(e.container, name); strings.Contains(written, "$(") {
		e.err = engine.Refuse(fmt.Sprintf("set it to %s there by hand, and run the command again", value),
			"cannot put the new address into --%s of %s: its value comes from a variable", name, e.file.Path)
		return
	}
	edited, err := e.manifest.SetFlagOnce(e.container, name, value)
	e.take(edited, err)
}

func (e *rewriting) annotate(key, value string) {
	if now, ok := e.manifest.Annotation(key); e.err == nil && ok && now != value {
		edited, err := e.manifest.SetAnnotation(key, value)
		e.take(edited, err)
	}
}

func (e *rewriting) probe(m move) {
	for _, old := range m.elsewhere().old {
		if e.err == nil {
			edited, err := e.manifest.SetProbeHosts(old, m.new)
			e.take(edited, err)
		}
	}
}

func (e *rewriting) take(edited *manifests.Manifest, err error) {
	if err != nil {
		e.err = engine.Refuse("edit the file by hand, and run the command again",
			"cannot put the new address into %s: %v", e.file.Path, err)
		return
	}
	e.manifest = edited
}
