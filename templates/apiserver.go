package templates

import (
	"path"
	"slices"
	"strings"

	kubeadm "k8s.io/kubernetes/cmd/kubeadm/app/apis/kubeadm/v1"
)

// APIServerEtcdFlags are the API server's flags for etcd, --etcd-…, in the order in which kubeadm
// writes them (kubeadm, phases/controlplane: getAPIServerCommand).
func (c *Config) APIServerEtcdFlags() []Flag {
	var base []Flag
	if x := c.External; x != nil {
		base = append(base, Flag{"etcd-servers", strings.Join(x.Endpoints, ",")})
		if x.CAFile != "" {
			base = append(base, Flag{"etcd-cafile", x.CAFile})
		}
		if x.CertFile != "" && x.KeyFile != "" {
			base = append(base, Flag{"etcd-certfile", x.CertFile}, Flag{"etcd-keyfile", x.KeyFile})
		}
	} else {
		servers := url(c.localhost(), clientPort)
		if arg, is := lastOf(c.etcdArgs, "advertise-client-urls"); is {
			servers = mergedValue(servers, arg)
		}
		base = []Flag{
			{"etcd-servers", servers},
			{"etcd-cafile", path.Join(c.CertificatesDir, "etcd/ca.crt")},
			{"etcd-certfile", path.Join(c.CertificatesDir, "apiserver-etcd-client.crt")},
			{"etcd-keyfile", path.Join(c.CertificatesDir, "apiserver-etcd-client.key")},
		}
	}
	ofEtcd := slices.DeleteFunc(slices.Clone(c.apiServerArgs), func(a kubeadm.Arg) bool {
		return !strings.HasPrefix(a.Name, "etcd-")
	})
	return merged(base, ofEtcd)
}

// AsksAPIServerFor says whether the configuration names a flag of the API server itself, without
// dashes, or where etcd runs elsewhere: what kubeadm would write for it is more than a default.
func (c *Config) AsksAPIServerFor(flag string) bool {
	return c.External != nil || slices.ContainsFunc(c.apiServerArgs, func(a kubeadm.Arg) bool { return a.Name == flag })
}
