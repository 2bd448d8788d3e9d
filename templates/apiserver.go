package templates

import (
	"path"
	"slices"
	"strings"

	kubeadm "k8s.io/kubernetes/cmd/kubeadm/app/apis/kubeadm/v1"
)

// APIServerEtcdFlags returns the API server's flags for etcd, --etcd-…, in kubeadm's order
// (kubeadm, phases/controlplane: getAPIServerCommand).
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

// AsksAPIServerFor says whether kubeadm would write more than a default for a flag, without dashes:
// the configuration names the flag, or etcd runs elsewhere.
func (c *Config) AsksAPIServerFor(flag string) bool {
	return c.External != nil || slices.ContainsFunc(c.apiServerArgs, func(a kubeadm.Arg) bool { return a.Name == flag })
}
