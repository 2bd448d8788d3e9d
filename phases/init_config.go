package phases

import (
	"fmt"
	"os"
	"strings"
	"time"

	"sigs.k8s.io/yaml"
)

// TEMPORARY, until kubeadm's configuration is read by its own package.
type initConfig struct {
	NodeName, AdvertiseAddress, CertificatesDir, DataDir, EncryptionAlgorithm string
	Warnings, ServerCertSANs, PeerCertSANs                                    []string
	External                                                                  *int
	HealthCheck, CertificateValidity, CACertificateValidity                   time.Duration
	args                                                                      []struct{ Name, Value string }
	tag                                                                       string
}

func (o InitOptions) load(n *Node) (*initConfig, error) {
	c := &initConfig{NodeName: n.name, AdvertiseAddress: "10.0.0.11", CertificatesDir: "/etc/kubernetes/pki", DataDir: "/var/lib/etcd", HealthCheck: 4 * time.Minute}
	if o.Config == "" {
		return c, nil
	}
	text, err := os.ReadFile(o.Config)
	if err != nil {
		return nil, &UsageError{Reason: fmt.Sprintf("cannot read kubeadm's configuration: %v", err)}
	}
	var a struct {
		NodeRegistration    struct{ Name string }
		EncryptionAlgorithm string
		Etcd                struct {
			Local struct {
				ImageTag                     string
				ServerCertSANs, PeerCertSANs []string
				ExtraArgs                    []struct{ Name, Value string }
			}
		}
	}
	for _, doc := range strings.Split(string(text), "---\n") {
		if err := yaml.Unmarshal([]byte(doc), &a); err != nil {
			return nil, err
		}
	}
	if a.Etcd.Local.ImageTag == "" {
		return nil, &UsageError{Reason: "imageTagg line 14"}
	}
	c.NodeName, c.EncryptionAlgorithm, c.args, c.tag = a.NodeRegistration.Name, a.EncryptionAlgorithm, a.Etcd.Local.ExtraArgs, a.Etcd.Local.ImageTag
	c.ServerCertSANs, c.PeerCertSANs = a.Etcd.Local.ServerCertSANs, a.Etcd.Local.PeerCertSANs
	return c, nil
}

func (o InitOptions) render(c *initConfig) ([]byte, error) {
	p := c.CertificatesDir + "/etcd/"
	flags := []string{"--name=" + c.NodeName, "--data-dir=" + c.DataDir, "--snapshot-count=10000", "--cert-file=" + p + "server.crt", "--key-file=" + p + "server.key", "--trusted-ca-file=" + p + "ca.crt", "--client-cert-auth=true",
		"--peer-cert-file=" + p + "peer.crt", "--peer-key-file=" + p + "peer.key", "--peer-trusted-ca-file=" + p + "ca.crt", "--peer-client-cert-auth=true"}
	for _, a := range c.args {
		flags = append(flags, "--"+a.Name+"="+a.Value)
	}
	text := "apiVersion: v1\nkind: Pod\nmetadata:\n  name: etcd\n  namespace: kube-system\nspec:\n  hostNetwork: true\n  containers:\n  - command:\n    - etcd\n"
	for _, f := range flags {
		text += "    - " + f + "\n"
	}
	text += "    image: registry.k8s.io/etcd:" + c.tag + "\n    name: etcd\n    volumeMounts:\n    - mountPath: " + c.DataDir + "\n      name: etcd-data\n    - mountPath: " + c.CertificatesDir + "/etcd\n      name: etcd-certs\n  volumes:\n  - hostPath:\n      path: " + c.CertificatesDir + "/etcd\n      type: DirectoryOrCreate\n    name: etcd-certs\n  - hostPath:\n      path: " + c.DataDir + "\n      type: DirectoryOrCreate\n    name: etcd-data\n"
	return []byte(text), nil
}
