package oracle

import (
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/etcdpod/etcdpod/pki"
	"github.com/etcdpod/etcdpod/templates"
)

// read has etcdpod read the case as it would for kubeadm of a version.
func (c Case) read(version string) (*templates.Config, error) {
	o := templates.Options{Hostname: Hostname, DefaultAddress: DefaultAddress,
		AllowExperimentalAPI: c.V1, Join: c.Members != "", Cluster: c.ClusterFor(version)}
	flags := flag.NewFlagSet("", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&o.NodeName, "node-name", "", "")
	flags.StringVar(&o.AdvertiseAddress, "apiserver-advertise-address", "", "")
	flags.StringVar(&o.KubernetesVersion, "kubernetes-version", "", "")
	flags.StringVar(&o.ImageRepository, "image-repository", "", "")
	flags.StringVar(&o.CertificatesDir, "cert-dir", "", "")
	flags.StringVar(&o.PatchesDir, "patches", "", "")
	if err := flags.Parse(c.FlagsFor(version)); err != nil {
		return nil, err
	}
	return templates.Read(c.For(version), o)
}

// Render is what etcdpod makes of the case, but for certificates. An error says why it refuses.
func (c Case) Render(version string) (Outcome, error) {
	refused := Outcome{Refused: true}
	config, err := c.read(version)
	if err != nil {
		return refused, err
	}
	var o Outcome
	for _, f := range config.APIServerEtcdFlags() {
		o.APIServer += f.String() + "\n"
	}
	if config.External != nil {
		return o, nil
	}
	patches, err := c.patches(config.PatchesDir)
	if err != nil {
		return refused, err
	}
	manifest, err := config.EtcdManifest(patches, c.members())
	if err != nil {
		return refused, err
	}
	o.Manifest = string(manifest)
	return o, nil
}

func (c Case) members() []templates.Member {
	var all []templates.Member
	for m := range strings.SplitSeq(c.Members, ",") {
		if name, url, is := strings.Cut(m, "="); is {
			all = append(all, templates.Member{Name: name, PeerURL: url})
		}
	}
	return all
}

func (c Case) patches(dir string) (*templates.Patches, error) {
	switch dir {
	case "":
		return nil, nil
	case PatchesDir:
		return templates.ReadPatches(c.Patches)
	}
	return nil, fmt.Errorf("there is no directory %s", dir)
}

// PKI is what etcdpod takes from the case for certificates, and where it puts them; ""
// where it makes none.
func (c Case) PKI(version string) (dir string, config pki.Config, err error) {
	from, err := c.read(version)
	if err != nil || from.External != nil {
		return "", pki.Config{}, err
	}
	return from.CertificatesDir, pki.Config{
		NodeName: from.NodeName, AdvertiseAddress: from.AdvertiseAddress,
		ServerCertSANs: from.ServerCertSANs, PeerCertSANs: from.PeerCertSANs,
		Algorithm: pki.Algorithm(from.EncryptionAlgorithm), Validity: from.CertificateValidity,
		CAValidity: from.CACertificateValidity,
	}, nil
}

// Issue describes the certificates that etcdpod makes.
func Issue(dir string, issuer pki.Issuer) (string, error) {
	files, err := issue(issuer)
	if err != nil {
		return "", err
	}
	return Certificates(dir, files)
}

func issue(issuer pki.Issuer) (map[string]File, error) {
	files := map[string]File{}
	var ca pki.Authority
	for _, s := range pki.EtcdSpecs() {
		var pair pki.Pair
		var err error
		if s.IsCA() {
			pair, err = issuer.NewCA(s)
		} else {
			pair, err = issuer.Issue(s, ca)
		}
		if err != nil {
			return nil, err
		}
		files[s.CertFile()], files[s.KeyFile()] = File{pair.Cert, pki.CertMode}, File{pair.Key, pki.KeyMode}
		if s.IsCA() {
			if ca, err = pki.ParseAuthority(s.CertFile(), pair.Cert, s.KeyFile(), pair.Key); err != nil {
				return nil, err
			}
		}
	}
	return files, nil
}
