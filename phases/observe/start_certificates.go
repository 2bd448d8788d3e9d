package observe

import (
	"slices"

	"github.com/etcdpod/etcdpod/pki"
)

// ObserveCertificates finds those in use that would keep etcd and the API server from working
// together again, or etcdpod from seeing it: connections that are open outlast a certificate, new
// ones are not made.
func (n *Node) ObserveCertificates(f *Facts) {
	f.Certificates = nil
	look := func(m ManifestFile, cert, key, ca, renewal string, but ...pki.Kind) {
		leaf := pki.Leaf{CertFile: cert, Cert: n.content(cert), KeyFile: key, Key: n.content(key),
			CAFile: ca, CA: n.content(ca)}
		if leaf.Cert == nil || leaf.Key == nil {
			return // what is missing is said elsewhere
		}
		for _, p := range leaf.Check(n.Clock.Now()) {
			if p.Kind == pki.Expired {
				p.Fix = "renew it: `" + renewal + "`"
			}
			if !slices.Contains(but, p.Kind) {
				f.Certificates = append(f.Certificates, Obstacle{Manifests: []string{m.Path}, What: p.What, Fix: p.Fix,
					Certificate: cert})
			}
		}
	}
	const renewal = "etcdpod certs renew"
	api, c, serves := Program(f.Manifests, "kube-apiserver")
	together := serves && OnThisHost(EtcdServers(api, c)) // it may use another
	file := func(flag string) string {
		if !serves {
			return ""
		}
		return HostFile(api, c, FlagOf(api, c, flag))
	}
	trusted := ""
	if pod := f.Etcd; pod != nil {
		theirs := ""
		if together {
			theirs = file("etcd-cafile")
		}
		look(pod.File, pod.SettingFile(ClientSecurity, "cert-file"), pod.SettingFile(ClientSecurity, "key-file"),
			theirs, renewal)
		but := []pki.Kind{}
		if len(PeersIn(pod.Setting("", "initial-cluster"))) < 2 && (f.Live == nil || len(f.Live.Members) < 2) {
			but = append(but, pki.Expired, pki.NotYetValid) // nobody else sees it
		}
		look(pod.File, pod.SettingFile(PeerSecurity, "peer-cert-file"), pod.SettingFile(PeerSecurity, "peer-key-file"),
			"", renewal, but...)
		if together && pod.Setting(ClientSecurity, "client-cert-auth") == "true" {
			trusted = pod.TrustedCA
		}
	}
	if serves {
		look(api, file("etcd-certfile"), file("etcd-keyfile"), trusted, renewal)
		look(api, file("tls-cert-file"), file("tls-private-key-file"), "",
			"kubeadm certs renew apiserver")
	}
}

// content is what is in a file of the host; nil if there is none, or it cannot be read.
func (n *Node) content(file string) []byte {
	if file == "" {
		return nil
	}
	data, err := n.FS.ReadFile(file)
	if err != nil {
		return nil
	}
	return data
}
