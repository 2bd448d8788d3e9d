package templates

import (
	"cmp"
	"fmt"
	"maps"
	urls "net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kubeadm "k8s.io/kubernetes/cmd/kubeadm/app/apis/kubeadm/v1"
	netutils "k8s.io/utils/net"
)

// The rules are kubeadm's (apis/kubeadm/validation), as far as they matter to etcd.

func validateNode(c *Config, node nodeSource) field.ErrorList {
	var errs field.ErrorList
	name := field.NewPath("nodeRegistration", "name")
	if c.NodeName == "" {
		errs = append(errs, field.Required(name, "is not set, and this host has no name"))
	} else {
		for _, reason := range validation.IsDNS1123Subdomain(c.NodeName) {
			errs = append(errs, field.Invalid(name, c.NodeName, "is not a node name: "+reason))
		}
	}
	if p := node.endpoint.BindPort; p < 1 || p > 65535 {
		errs = append(errs, field.Invalid(node.endpointPath.Child("bindPort"), p, "is not a port"))
	}
	return errs
}

func validateCluster(c *kubeadm.ClusterConfiguration) field.ErrorList {
	errs := absolute(c.CertificatesDir, field.NewPath("certificatesDir"))
	algorithms := []kubeadm.EncryptionAlgorithmType{
		kubeadm.EncryptionAlgorithmECDSAP256, kubeadm.EncryptionAlgorithmECDSAP384,
		kubeadm.EncryptionAlgorithmRSA2048, kubeadm.EncryptionAlgorithmRSA3072, kubeadm.EncryptionAlgorithmRSA4096,
	}
	if !slices.Contains(algorithms, c.EncryptionAlgorithm) {
		errs = append(errs, field.NotSupported(field.NewPath("encryptionAlgorithm"), c.EncryptionAlgorithm, algorithms))
	}
	for _, p := range []struct {
		name string
		is   *metav1.Duration
	}{
		{"certificateValidityPeriod", c.CertificateValidityPeriod},
		{"caCertificateValidityPeriod", c.CACertificateValidityPeriod},
	} {
		if p.is.Duration <= 0 { // kubeadm makes such certificates; etcd refuses them
			errs = append(errs, field.Invalid(field.NewPath(p.name),
				p.is.Duration.String(), "would let certificates expire before they are used"))
		}
	}
	errs = append(errs, validateArgs(c.APIServer.ExtraArgs, field.NewPath("apiServer", "extraArgs"))...)
	return append(errs, validateEtcd(&c.Etcd, c.ImageRepository, field.NewPath("etcd"))...)
}

// validateGates checks feature gates against kubeadm's for that minor of Kubernetes.
func validateGates(gates map[string]bool, of release) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("featureGates")
	for _, name := range slices.Sorted(maps.Keys(gates)) {
		switch {
		case !slices.Contains(of.gates, name):
			errs = append(errs, field.Forbidden(path.Child(name),
				fmt.Sprintf("kubeadm 1.%d has no such feature gate", of.minor)))
		case name == rootlessControlPlane && gates[name]:
			// kubeadm creates users, and puts ids that are free on this host into the manifest.
			errs = append(errs, field.Forbidden(path.Child(name), "etcdpod does not run etcd as another user"))
		}
	}
	return errs
}

func validateEtcd(e *kubeadm.Etcd, repository string, etcd *field.Path) field.ErrorList {
	if e.Local != nil && e.External != nil {
		return field.ErrorList{field.Forbidden(etcd, "local and external exclude each other")}
	}
	if e.External != nil {
		return validateExternal(e.External, etcd.Child("external"))
	}
	local := etcd.Child("local")
	errs := absolute(e.Local.DataDir, local.Child("dataDir"))
	errs = append(errs, validateSANs(e.Local.ServerCertSANs, local.Child("serverCertSANs"))...)
	errs = append(errs, validateSANs(e.Local.PeerCertSANs, local.Child("peerCertSANs"))...)
	errs = append(errs, validateArgs(e.Local.ExtraArgs, local.Child("extraArgs"))...)
	if !reference().MatchString(etcdImage(repository, "tag")) {
		errs = append(errs, field.Invalid(field.NewPath("imageRepository"), repository, "is not an image repository"))
	}
	if r := e.Local.ImageRepository; r != "" && !reference().MatchString(etcdImage(r, "tag")) {
		errs = append(errs, field.Invalid(local.Child("imageRepository"), r, "is not an image repository"))
	}
	// kubeadm does not check this; no container runtime accepts it.
	if t := e.Local.ImageTag; t != "" && !reference().MatchString(etcdImage("r", t)) {
		errs = append(errs, field.Invalid(local.Child("imageTag"), t, "is not an image tag"))
	}
	return errs
}

// reference is the grammar of github.com/distribution/reference, which kubeadm checks images
// against. Compiling it takes a tenth of the program's start-up time.
var reference = sync.OnceValue(func() *regexp.Regexp {
	const (
		label     = `(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])`
		domain    = `(?:` + label + `(?:\.` + label + `)*|\[(?:[a-fA-F0-9:]+)\])(?::[0-9]+)?`
		component = `[a-z0-9]+(?:(?:[._]|__|[-]+)[a-z0-9]+)*`
		tag       = `[\w][\w.-]{0,127}`
		digest    = `[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[[:xdigit:]]{32,}`
	)
	return regexp.MustCompile(`^(?:` + domain + `/)?` + component +
		`(?:/` + component + `)*(?::` + tag + `)?(?:@` + digest + `)?$`)
})

func validateExternal(e *kubeadm.ExternalEtcd, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if (e.CertFile == "") != (e.KeyFile == "") {
		errs = append(errs, field.Forbidden(path, "certFile and keyFile must be given together"))
	}
	if e.CertFile != "" && e.KeyFile != "" && e.CAFile == "" {
		errs = append(errs, field.Forbidden(path, "certFile and keyFile also need caFile"))
	}
	if len(e.Endpoints) == 0 {
		errs = append(errs, field.Required(path.Child("endpoints"), "there must be at least one"))
	}
	tls := cmp.Or(e.CAFile, e.CertFile, e.KeyFile) != ""
	for i, raw := range e.Endpoints {
		errs = append(errs, validateURL(raw, tls, path.Child("endpoints").Index(i))...)
	}
	for i, raw := range e.HTTPEndpoints {
		errs = append(errs, validateURL(raw, false, path.Child("httpEndpoints").Index(i))...)
	}
	for _, f := range []Flag{{"caFile", e.CAFile}, {"certFile", e.CertFile}, {"keyFile", e.KeyFile}} {
		if f.Value != "" {
			errs = append(errs, absolute(f.Value, path.Child(f.Name))...)
		}
	}
	return errs
}

func validateURL(raw string, https bool, path *field.Path) field.ErrorList {
	u, err := urls.Parse(raw)
	switch {
	case err != nil:
		return field.ErrorList{field.Invalid(path, raw, "is not a URL: "+err.Error())}
	case https && u.Scheme != "https":
		return field.ErrorList{field.Invalid(path, raw, "does not begin with https://")}
	case u.Scheme == "":
		return field.ErrorList{field.Invalid(path, raw, "begins with neither https:// nor http://")}
	}
	return nil
}

func validateSANs(names []string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, name := range names {
		if len(validation.IsDNS1123Subdomain(name)) > 0 && len(validation.IsWildcardDNS1123Subdomain(name)) > 0 &&
			netutils.ParseIPSloppy(name) == nil {
			errs = append(errs, field.Invalid(path.Index(i),
				name, "is neither an IP address nor a DNS name, in lower case, which may begin with *."))
		}
	}
	return errs
}

func validateArgs(args []kubeadm.Arg, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, arg := range args {
		if arg.Name == "" {
			errs = append(errs, field.Required(path.Index(i).Child("name"), "every argument needs one"))
		}
		methods := []kubeadm.ArgMergeMethod{kubeadm.ArgMergeMethodAppend, kubeadm.ArgMergeMethodPrepend}
		if arg.MergeMethod != "" && !slices.Contains(methods, arg.MergeMethod) {
			errs = append(errs, field.NotSupported(path.Index(i).Child("mergeMethod"), arg.MergeMethod, methods))
		}
	}
	return errs
}

func absolute(p string, at *field.Path) field.ErrorList {
	if path.IsAbs(p) && !strings.ContainsRune(p, 0) {
		return nil
	}
	return field.ErrorList{field.Invalid(at, p, "is not an absolute path")}
}
