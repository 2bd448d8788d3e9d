package templates

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/version"
	kubeadm "k8s.io/kubernetes/cmd/kubeadm/app/apis/kubeadm/v1"
)

// release is how kubeadm sets up etcd for a minor of Kubernetes.
type release struct {
	minor uint
	// The image's tag (kubeadm, constants: SupportedEtcdVersion).
	etcd string
	// Flags have their names since etcd 3.6, whatever the image's tag (kubeadm,
	// phases/etcd: getEtcdCommand).
	newNames bool
	gates    []string
}

// kubeadm's feature gates that matter to etcd.
const (
	publicKeysECDSA      = "PublicKeysECDSA"
	rootlessControlPlane = "RootlessControlPlane"
)

// releases are those of kubeadm's same minor, at its newest patch level; 1.33 is as kubeadm 1.34
// sets it up. Nothing else that matters differs between these minors.
var releases = []release{
	{minor: 33, etcd: "3.5.24-0", gates: gates134},
	{minor: 34, etcd: "3.6.5-0", gates: gates134},
	{minor: 35, etcd: "3.6.6-0", gates: []string{"ControlPlaneKubeletLocalMode",
		"NodeLocalCRISocket", publicKeysECDSA, rootlessControlPlane}},
	{minor: 36, etcd: "3.6.8-0", newNames: true,
		gates: []string{"NodeLocalCRISocket", publicKeysECDSA, rootlessControlPlane}},
	{minor: 37, etcd: "3.7.0-0", newNames: true, gates: []string{rootlessControlPlane}},
}

// Minors are the releases of Kubernetes that are known, the oldest first.
func Minors() []string {
	var minors []string
	for _, r := range releases {
		minors = append(minors, fmt.Sprintf("1.%d", r.minor))
	}
	return minors
}

// EtcdTag is the tag of etcd's image that kubeadm uses for a minor of Kubernetes, such as 1.37;
// empty: that is not known.
func EtcdTag(minor string) string {
	for _, r := range releases {
		if fmt.Sprintf("1.%d", r.minor) == minor {
			return r.etcd
		}
	}
	return ""
}

var gates134 = []string{"ControlPlaneKubeletLocalMode", "NodeLocalCRISocket",
	publicKeysECDSA, rootlessControlPlane, "WaitForAllControlPlaneComponents"}

// What kubeadm accepts as a version (kubeadm, util/version.go).
var (
	versionForm = regexp.MustCompile(`^v?(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)([-\w.+]*)?$`)
	labelForm   = regexp.MustCompile(`^(release/)?(latest|stable)(-1(\.([1-9]\d))?)?$`)
)

// setRelease finds the Kubernetes version. A label (kubeadm's default is one) gets what kubeadm
// makes of it offline: its own version.
func (c *Config) setRelease(s *sources) field.ErrorList {
	path, given := field.NewPath("kubernetesVersion"), s.cluster.KubernetesVersion
	newest := releases[len(releases)-1].minor
	if label := labelForm.FindStringSubmatch(given); label != nil {
		minor := cmp.Or(label[5], strconv.FormatUint(uint64(newest), 10))
		c.KubernetesVersion = "v1." + minor + ".0"
		c.Warnings = append(c.Warnings,
			fmt.Sprintf("kubernetesVersion %s is not looked up: etcd is set up as for Kubernetes 1.%s", given, minor))
	} else if versionForm.MatchString(given) {
		c.KubernetesVersion = "v" + strings.TrimPrefix(given, "v")
	}
	v, err := version.ParseSemantic(c.KubernetesVersion)
	if err != nil {
		return field.ErrorList{field.Invalid(path, given, "is not a release version, such as v1.37.2")}
	}
	oldest := releases[0].minor
	if d := s.docs[clusterKind]; d != nil && d.Version == kubeadm.SchemeGroupVersion.Version {
		// kubeadm reads v1 since 1.37, and sets up its own minor and the one before.
		oldest = newest - 1
	}
	for _, r := range releases {
		if v.Major() == 1 && r.minor == v.Minor() && r.minor >= oldest {
			c.release = r
			if oldest == newest-1 {
				c.release = releases[len(releases)-1]
			}
			c.setAlgorithm(&s.cluster)
			return validateGates(s.cluster.FeatureGates, c.release)
		}
	}
	return field.ErrorList{
		field.Invalid(path, given, fmt.Sprintf(
			"is outside Kubernetes 1.%d to 1.%d, for which kubeadm's etcd setup is known", oldest, newest)),
	}
}

// setAlgorithm lets the feature gate, which is older, override encryptionAlgorithm (kubeadm 1.36,
// apis/kubeadm: EncryptionAlgorithmType).
func (c *Config) setAlgorithm(cluster *kubeadm.ClusterConfiguration) {
	c.EncryptionAlgorithm = string(cluster.EncryptionAlgorithm)
	if on, is := cluster.FeatureGates[publicKeysECDSA]; is {
		c.EncryptionAlgorithm = string(kubeadm.EncryptionAlgorithmRSA2048)
		if on {
			c.EncryptionAlgorithm = string(kubeadm.EncryptionAlgorithmECDSAP256)
		}
	}
}

// setEtcd copies the settings of etcd, which have been validated.
func (c *Config) setEtcd(e *kubeadm.Etcd, repository string) {
	if x := e.External; x != nil {
		c.External = &External{Endpoints: x.Endpoints, CAFile: x.CAFile, CertFile: x.CertFile, KeyFile: x.KeyFile}
		return
	}
	c.DataDir, c.ServerCertSANs, c.PeerCertSANs = e.Local.DataDir, e.Local.ServerCertSANs, e.Local.PeerCertSANs
	c.etcdArgs, c.etcdEnvs = e.Local.ExtraArgs, e.Local.ExtraEnvs
	tag := cmp.Or(e.Local.ImageTag, c.release.etcd)
	c.EtcdImage = etcdImage(cmp.Or(e.Local.ImageRepository, repository), tag)

	v, err := version.ParseSemantic(tag)
	if !c.release.newNames {
		c.release.newNames = err == nil && v.AtLeast(version.MustParseSemantic("3.6.0"))
	}
	warn := func(format string, args ...any) {
		c.Warnings = append(c.Warnings, fmt.Sprintf("etcd.local.imageTag %s: ", tag)+fmt.Sprintf(format, args...))
	}
	switch {
	case err != nil && !c.release.newNames:
		warn("is not a version, so kubeadm 1.%d gives etcd flags that etcd 3.7 no longer has", c.release.minor)
	case err == nil && c.release.newNames && v.LessThan(version.MustParseSemantic("3.6.0-0")):
		warn("etcd %d.%d will not start: it does not have the flags that kubeadm 1.%d gives it",
			v.Major(), v.Minor(), c.release.minor)
	}
}

func etcdImage(repository, tag string) string { return repository + "/etcd:" + tag }
