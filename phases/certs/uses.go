package certs

import (
	"crypto/x509"
	"net"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/pki"
)

// certUse is a certificate that a program of this node uses.
type certUse struct {
	name      string // kubeadm's, where it has one
	ca        string // the name of the CA that signed it; empty if unknown
	program   string // that uses it: etcd, kube-apiserver; empty: a person's, or nobody's
	port      string // where it is served: client, peer, secure; empty for clients
	leaf      pki.Leaf
	addresses []string // host:port, or a socket's path, at which the program serves it on this node
	// Further ways to such an address.
	also map[string][]string
	show op.Access // the client certificate to show there
}

// certAuthority is a CA that programs of this node trust.
type certAuthority struct {
	name              string // kubeadm's, where it has one
	certFile, keyFile string // host paths; kubeadm keeps the key beside the certificate
}

// certUses are all certificates that matter to etcd and to the API server here.
type certUses struct {
	leaves []certUse
	cas    []certAuthority
}

// authority notes a CA, once for each file, and returns its name.
func (u *certUses) authority(name, file string) string {
	if file == "" {
		return ""
	}
	for _, ca := range u.cas {
		if ca.certFile == file {
			return ca.name
		}
	}
	if slices.ContainsFunc(u.cas, func(ca certAuthority) bool { return ca.name == name }) {
		name = file
	}
	u.cas = append(u.cas, certAuthority{name, file, strings.TrimSuffix(file, path.Ext(file)) + ".key"})
	return name
}

func (u *certUses) add(use certUse, caName, caFile string) {
	if use.leaf.CertFile == "" {
		return
	}
	use.leaf.CAFile, use.ca = caFile, u.authority(caName, caFile)
	u.leaves = append(u.leaves, use)
}

func (u *certUses) has(certFile string) bool {
	return slices.ContainsFunc(u.leaves, func(use certUse) bool { return use.leaf.CertFile == certFile })
}

var (
	forClients = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	forServers = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
)

// findUses reads the manifests, and adds the files that kubeadm has written. If etcd's manifest is
// missing or unreliable, they are all that tells what it uses. oughtToRun says that an etcd is
// missed.
func findUses(n *observe.Node, files []observe.ManifestFile, pod *observe.EtcdPod, oughtToRun bool) certUses {
	var u certUses
	if pod != nil {
		etcdCerts(n, &u, pod)
	}
	apiServerCerts(&u, files)
	kubeadmCerts(n, &u, oughtToRun)
	if _, _, runs := observe.Program(files, "kube-apiserver"); !runs {
		kubeadmLeafUses(n, &u)
	}
	return u
}

func etcdCerts(n *observe.Node, u *certUses, pod *observe.EtcdPod) {
	// etcd's own gateway dials the client port with the server's certificate, and peers dial each
	// other with theirs: both are client certificates too.
	both := append(slices.Clone(forServers), forClients...)
	server := certUse{
		name: "etcd-server", program: "etcd", port: "client",
		show: pod.Access,
		leaf: pki.Leaf{CertFile: pod.SettingFile(observe.ClientSecurity, "cert-file"),
			KeyFile: pod.SettingFile(observe.ClientSecurity, "key-file"), Usages: both, Names: namesIn(pod.ClientURLs)},
	}
	server.addresses, server.also = addressesOf(n, pod, "listen-client-urls")
	u.add(server, "etcd-ca", pod.TrustedCA)
	peer := certUse{
		name: "etcd-peer", program: "etcd", port: "peer", show: pod.Peer,
		leaf: pki.Leaf{CertFile: pod.SettingFile(observe.PeerSecurity, "peer-cert-file"),
			KeyFile: pod.SettingFile(observe.PeerSecurity, "peer-key-file"),
			Usages:  both, Names: namesIn(pod.PeerURLs)},
	}
	peer.addresses, peer.also = addressesOf(n, pod, "listen-peer-urls")
	u.add(peer, "etcd-peer-ca", pod.SettingFile(observe.PeerSecurity, "peer-trusted-ca-file"))
	// kubeadm's layout.
	if health, ok := strings.CutSuffix(server.leaf.CertFile, "/server.crt"); ok {
		u.add(certUse{name: "etcd-healthcheck-client", leaf: pki.Leaf{CertFile: health + "/healthcheck-client.crt",
			KeyFile: health + "/healthcheck-client.key", Usages: forClients}}, "etcd-ca", pod.TrustedCA)
	}
}

func apiServerCerts(u *certUses, files []observe.ManifestFile) {
	m, c, ok := observe.Program(files, "kube-apiserver")
	if !ok {
		return
	}
	file := func(flag string) string { return observe.HostFile(m, c, observe.FlagOf(m, c, flag)) }
	use := func(name, certFlag, keyFlag string, usages []x509.ExtKeyUsage) certUse {
		return certUse{name: name, program: "kube-apiserver",
			leaf: pki.Leaf{CertFile: file(certFlag), KeyFile: file(keyFlag), Usages: usages}}
	}
	clusterCA := file("client-ca-file")
	u.add(use("apiserver-etcd-client", "etcd-certfile", "etcd-keyfile", forClients), "etcd-ca", file("etcd-cafile"))
	u.add(use("apiserver-kubelet-client", "kubelet-client-certificate", "kubelet-client-key", forClients),
		"ca", clusterCA)
	u.add(use("front-proxy-client", "proxy-client-cert-file", "proxy-client-key-file", forClients),
		"front-proxy-ca", file("requestheader-client-ca-file"))
	serving := use("apiserver", "tls-cert-file", "tls-private-key-file", forServers)
	serving.port = "secure"
	if at := observe.APIServerAddresses(m, c); len(at) > 0 {
		serving.addresses, serving.also = at[:1], map[string][]string{at[0]: at[1:]}
	}
	if advertised := observe.FlagOf(m, c, "advertise-address"); advertised != "" {
		serving.leaf.Names = namesIn([]string{"https://" + net.JoinHostPort(advertised, "6443")})
	}
	// Not kubeadm's file: any CA may have signed what clients see.
	if serving.leaf.CertFile != path.Join(path.Dir(clusterCA), "apiserver.crt") {
		clusterCA = ""
	}
	u.add(serving, "ca", clusterCA)
}

// kubeadmCerts adds etcd's certificates that exist although no manifest names them, and those that
// etcd needs where it ought to run.
func kubeadmCerts(n *observe.Node, u *certUses, oughtToRun bool) {
	for _, s := range pki.EtcdSpecs() {
		needed := oughtToRun && etcdNeeds(s.Base)
		if s.IsCA() || u.has(inPKI(s.CertFile())) ||
			!n.Exists(inPKI(s.CertFile())) && !n.Exists(inPKI(s.KeyFile())) && !needed {
			continue
		}
		ca, err := pki.EtcdSpec(s.CA)
		if err != nil {
			continue
		}
		use := certUse{name: s.Name, leaf: pki.Leaf{CertFile: inPKI(s.CertFile()), KeyFile: inPKI(s.KeyFile()),
			Usages: s.Usages}}
		if needed {
			use.program = "etcd"
		}
		u.add(use, ca.Name, inPKI(ca.CertFile()))
	}
}

// addressesOf are where etcd's listeners with TLS are reached from this host, without duplicates;
// and the other ways to each of them.
func addressesOf(n *observe.Node, pod *observe.EtcdPod, setting string) (all []string, also map[string][]string) {
	also = map[string][]string{}
	for _, raw := range observe.SplitList(pod.Setting("", setting)) {
		var ways []string
		for _, url := range n.FromHere(pod, raw) {
			if observe.Secure(url) {
				ways = append(ways, observe.DialAddress(url))
			}
		}
		if len(ways) > 0 && !slices.Contains(all, ways[0]) {
			all, also[ways[0]] = append(all, ways[0]), ways[1:]
		}
	}
	return all, also
}

// namesIn are the hosts that others dial, which a certificate must name.
func namesIn(urls []string) pki.Names {
	var names pki.Names
	for _, raw := range urls {
		u, err := url.Parse(raw)
		if err != nil || u.Scheme != "https" || u.Hostname() == "" {
			continue
		}
		if ip := net.ParseIP(u.Hostname()); ip != nil {
			names.IPs = append(names.IPs, ip)
		} else {
			names.DNS = append(names.DNS, u.Hostname())
		}
	}
	return names
}
