package templates

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// host is what the machine reports about itself.
var host = Options{Hostname: "cp1", DefaultAddress: "10.0.0.11"}

const (
	beta      = "apiVersion: kubeadm.k8s.io/v1beta4\n"
	ofCluster = beta + "kind: ClusterConfiguration\nkubernetesVersion: v1.37.2\n"
	ofJoin    = beta + "kind: JoinConfiguration\ncontrolPlane: {}\n"
)

func mustRead(t *testing.T, text string, o Options) *Config {
	t.Helper()
	var data []byte
	if text != "" {
		data = []byte(text)
	}
	c, err := Read(data, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// refused reads what must be refused, and expects each of the words in the error.
func refused(t *testing.T, text string, o Options, words ...string) {
	t.Helper()
	var data []byte
	if text != "" {
		data = []byte(text)
	}
	c, err := Read(data, o)
	if err == nil {
		t.Fatalf("taken: %+v", c)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("got %q, want %q in it", err, w)
		}
	}
}

func TestWhatIsWrongIsNamedWithItsDocumentAndLine(t *testing.T) {
	const two = beta + "kind: InitConfiguration\n---\n" + ofCluster // the second begins on line 4
	for _, tt := range []struct{ name, text, want string }{
		{"an unknown field", two + "etcd:\n  local:\n    imageTagg: x\n",
			"line 9: ClusterConfiguration: etcd.local.imageTagg: kubeadm.k8s.io/v1beta4 has no such field"},
		{"an unknown field of an item",
			two + "etcd:\n  local:\n    extraArgs:\n    - {name: a, value: b}\n    - name: c\n      valeu: d\n",
			"line 12: ClusterConfiguration: etcd.local.extraArgs[1].valeu: "},
		{"a field in other letters", two + "Etcd: {}\n", "line 7: ClusterConfiguration: Etcd: "},
		{"a field of v1", two + "etcd: {local: {extraArgs: [{name: a, value: b, mergeMethod: append}]}}\n",
			"line 7: ClusterConfiguration: etcd.local.extraArgs[0].mergeMethod: "},
		{"an unknown field of what is not used", two + "---\n" + beta + "kind: ResetConfiguration\nforse: true\n",
			"line 10: ResetConfiguration: forse: "},
		{"a key twice", two + "etcd:\n  local:\n    dataDir: /a\n    dataDir: /b\n",
			"line 10: ClusterConfiguration: duplicate key dataDir; the first is on line 9"},
		{"a number for a string",
			two + "etcd:\n  local:\n    extraArgs:\n    - name: a\n      value: 'x'\n    - name: b\n      value: 10\n",
			"line 13: ClusterConfiguration: etcd.local.extraArgs.value: is of type number, but must be string"},
		{"a yes for a string",
			two + "etcd:\n  local:\n    extraArgs:\n    - {name: a, value: 'yes'}\n    - {name: a, value: yes}\n",
			"line 11: ClusterConfiguration: etcd.local.extraArgs.value: is of type bool, but must be string"},
		{"a string for a list", two + "etcd:\n  local:\n    serverCertSANs: a\n",
			"line 9: ClusterConfiguration: etcd.local.serverCertSANs: is of type string, but must be a list"},
		{"no duration", two + "# c\ncertificateValidityPeriod: 1y\n",
			`line 8: ClusterConfiguration: time: unknown unit "y" in duration "1y"`},
		{"no YAML", two + "etcd: [\n", "line 7: "},
		{"a tab", two + "etcd:\n\tlocal: {}\n", "line 8: "},
		{"an unknown kind", two + "---\n" + beta + "kind: ClusterStatus\n",
			"line 9: ClusterStatus: kubeadm has no such kind"},
		{"an old version", two + "---\napiVersion: kubeadm.k8s.io/v1beta3\nkind: JoinConfiguration\n",
			"line 8: JoinConfiguration: kubeadm.k8s.io/v1beta3 is an old API"},
		{"a version that never was", two + "---\napiVersion: kubeadm.k8s.io/v7\nkind: JoinConfiguration\n",
			"line 8: JoinConfiguration: kubeadm has no API kubeadm.k8s.io/v7"},
		{"no kind", two + "---\n\n" + beta, "line 9: apiVersion and kind do not identify the document"},
		{"a kind twice", two + "---\n" + ofCluster,
			"line 8: ClusterConfiguration: appears twice; the first is on line 4"},
		{"a document in the line that separates", two + "--- {}\n", "line 7: kubeadm accepts only a comment after " +
			"the --- between two documents"},
		{"nothing after the last separator", two + "---\n---\n", "line 8: apiVersion and kind do not identify the " +
			"document"},
		{"a document after dots", two + "...\n" + beta, "line 4: ClusterConfiguration: it contains the start of " +
			"another document"},
		{"a relative path", two + "etcd: {local: {dataDir: etcd}}\n",
			`line 7: ClusterConfiguration: etcd.local.dataDir: "etcd" is not an absolute path`},
		{"a relative path of what is not there", two + "certificatesDir: pki\n",
			`line 7: ClusterConfiguration: certificatesDir: "pki" is not an absolute path`},
		{"no name", two + "etcd:\n  local:\n    peerCertSANs:\n    - a\n    - under_score\n",
			"line 11: ClusterConfiguration: etcd.local.peerCertSANs[1]: "},
		{"an argument without a name", two + "etcd:\n  local:\n    extraArgs:\n    - value: a\n",
			"line 10: ClusterConfiguration: etcd.local.extraArgs[0].name: "},
		{"local and external", two +
			"etcd:\n  local: {}\n  external: {endpoints: ['https://e:2379'], caFile: '', certFile: '', keyFile: ''}\n",
			"line 7: ClusterConfiguration: etcd: local and external exclude each other"},
		{"no algorithm", two + "encryptionAlgorithm: RSA-1024\n",
			`line 7: ClusterConfiguration: encryptionAlgorithm: "RSA-1024" is not among the supported values: `},
		{"no time at all", two + "certificateValidityPeriod: 0s\n",
			`line 7: ClusterConfiguration: certificateValidityPeriod: "0s" would let certificates expire`},
		{"a gate that is gone", two + "featureGates:\n  PublicKeysECDSA: true\n",
			"line 8: ClusterConfiguration: featureGates.PublicKeysECDSA: kubeadm 1.37 has no such feature gate"},
		{"no repository", two + "imageRepository: https://r.example.org\n",
			`line 7: ClusterConfiguration: imageRepository: "https://r.example.org" is not an image repository`},
		{"no tag", two + "etcd:\n  local:\n    imageTag: 3.7.0+1\n",
			`line 9: ClusterConfiguration: etcd.local.imageTag: "3.7.0+1" is not an image tag`},
		{"no port", beta + "kind: InitConfiguration\nlocalAPIEndpoint:\n  bindPort: 65536\n",
			"line 4: InitConfiguration: localAPIEndpoint.bindPort: 65536 is not a port"},
		{"no address", beta + "kind: InitConfiguration\nlocalAPIEndpoint:\n  advertiseAddress: cp1.example.org\n",
			`line 4: InitConfiguration: localAPIEndpoint.advertiseAddress: "cp1.example.org" is not an IP address`},
		{"is not a node name", beta + "kind: InitConfiguration\nnodeRegistration:\n  name: cp_1\n",
			`line 4: InitConfiguration: nodeRegistration.name: "cp_1" is not a node name`},
		{"a version not known", beta + "kind: ClusterConfiguration\nkubernetesVersion: 1.38.0\n",
			`line 3: ClusterConfiguration: kubernetesVersion: "1.38.0" is outside Kubernetes 1.33 to 1.37`},
		{"no version", beta + "kind: ClusterConfiguration\nkubernetesVersion: ci/latest\n",
			`line 3: ClusterConfiguration: kubernetesVersion: "ci/latest" is not a release version`},
		{"an endpoint without TLS", two + "etcd:\n  external:\n    endpoints:\n    - https://e1:2379\n" +
			"    - http://e2:2379\n    caFile: /ca\n    certFile: ''\n    keyFile: ''\n",
			`line 11: ClusterConfiguration: etcd.external.endpoints[1]: "http://e2:2379" does not begin with https://`},
		{"another file than kubeadm's", "apiVersion: v1\nkind: Pod\n", "line 1: apiVersion and kind do not identify " +
			"the document"},
		{"only another group's", "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n",
			"the file has neither InitConfiguration nor ClusterConfiguration"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			refused(t, tt.text, host, tt.want)
			refused(t, strings.ReplaceAll(tt.text, "\n", "\r\n"), host, tt.want)
		})
	}
}

func TestAllThatIsWrongIsTold(t *testing.T) {
	_, err := Read([]byte(ofCluster+"etcd: {local: {dataDir: x, imageTag: '+'}}\n---\n"+
		beta+"kind: InitConfiguration\nnodeRegistration: {name: _}\n"), host)
	many, is := err.(interface{ Unwrap() []error })
	if !is || len(many.Unwrap()) != 3 {
		t.Fatalf("got %v, want three errors", err)
	}
	for _, err := range many.Unwrap() {
		var invalid *InvalidError
		if !errors.As(err, &invalid) || invalid.Line == 0 || invalid.Kind == "" || invalid.Field == "" {
			t.Errorf("got %#v, want its kind, line and field", err)
		}
	}
}

func TestWithoutAFileKubeadmsDefaultsAreTaken(t *testing.T) {
	c := mustRead(t, "", host)
	if c.NodeName != "cp1" || c.AdvertiseAddress != "10.0.0.11" ||
		c.CertificatesDir != "/etc/kubernetes/pki" || c.DataDir != "/var/lib/etcd" || c.External != nil ||
		c.EtcdImage != "registry.k8s.io/etcd:3.7.0-0" || c.EncryptionAlgorithm != "RSA-2048" ||
		c.HealthCheck != 4*time.Minute || c.EtcdAPICall != 2*time.Minute ||
		c.CertificateValidity != 365*24*time.Hour || c.CACertificateValidity != 3650*24*time.Hour ||
		c.PatchesDir != "" {
		t.Errorf("got %+v", c)
	}
	if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "stable-1 is not looked up") {
		t.Errorf("warned %q", c.Warnings)
	}
}

func TestFlagsTakeTheFilesPlace(t *testing.T) {
	o := Options{
		Hostname: "other", DefaultAddress: "10.9.9.9", NodeName: "CP7",
		AdvertiseAddress: "fd00::7", KubernetesVersion: "1.35.4",
		ImageRepository: "r.example.org/k8s", CertificatesDir: "/srv/pki", PatchesDir: "/srv/patches",
	}
	c := mustRead(t, "", o)
	if c.NodeName != "cp7" || c.AdvertiseAddress != "fd00::7" ||
		c.KubernetesVersion != "v1.35.4" || c.EtcdImage != "r.example.org/k8s/etcd:3.6.6-0" ||
		c.CertificatesDir != "/srv/pki" || c.PatchesDir != "/srv/patches" {
		t.Errorf("got %+v", c)
	}
	refused(t, ofCluster, o, "--apiserver-advertise-address, --patches, --kubernetes-version, --image-repository, "+
		"--cert-dir cannot be combined with a configuration file")
	if c := mustRead(t, ofCluster+"---\n"+beta+"kind: InitConfiguration\nnodeRegistration: {name: cp1}\n",
		Options{NodeName: "cp7", DefaultAddress: "10.0.0.11"}); c.NodeName != "cp7" {
		t.Errorf("the name is %s: --node-name wins over the file", c.NodeName)
	}
}

func TestTheAddressIsTheHostsWhereNoneIsGiven(t *testing.T) {
	for _, tt := range []struct{ given, host, want, refused string }{
		{"", "10.0.0.11", "10.0.0.11", ""},
		{"0.0.0.0", "10.0.0.11", "10.0.0.11", ""},
		{"::", "fd00::11", "fd00::11", ""},
		{"10.0.0.12", "10.0.0.11", "10.0.0.12", ""},
		{"010.000.0.12", "", "10.0.0.12", ""},
		{"FD00:0:0::12", "", "fd00::12", ""},
		{"", "", "", "this host has no default route"},
		{"127.0.0.1", "10.0.0.11", "", `"127.0.0.1" cannot be reached from other nodes`},
		{"fe80::1", "10.0.0.11", "", `"fe80::1" cannot be reached from other nodes`},
	} {
		o := Options{Hostname: "cp1", DefaultAddress: tt.host, AdvertiseAddress: tt.given, KubernetesVersion: "1.37.2"}
		if tt.refused != "" {
			refused(t, "", o, tt.refused)
		} else if c := mustRead(t, "", o); c.AdvertiseAddress != tt.want {
			t.Errorf("of %q on a host with %q: got %s, want %s", tt.given, tt.host, c.AdvertiseAddress, tt.want)
		}
	}
}

func TestTheExperimentalAPIIsTakenOnlyWhereItIsAllowed(t *testing.T) {
	text := strings.ReplaceAll(ofCluster, "v1beta4", "v1") +
		"etcd: {local: {extraArgs: [{name: feature-gates, value: ',A=true', mergeMethod: append}]}}\n"
	refused(t, text, host, "line 1: ClusterConfiguration: kubeadm.k8s.io/v1 is experimental")
	allowed := host
	allowed.AllowExperimentalAPI = true
	mustRead(t, text, allowed)
	older := mustRead(t, strings.ReplaceAll(text, "1.37.2", "1.36.3"), allowed)
	if older.EtcdImage != "registry.k8s.io/etcd:3.7.0-0" {
		t.Errorf("for 1.36 the image is %s: only kubeadm 1.37 reads v1, and it gives 1.36 its own etcd",
			older.EtcdImage)
	}
	refused(t, strings.ReplaceAll(text, "1.37.2", "1.35.4"), allowed, `"v1.35.4" is outside Kubernetes 1.36 to 1.37`)
	refused(t, strings.ReplaceAll(text, "append", "merge"), allowed,
		"line 4: ClusterConfiguration: etcd.local.extraArgs[0].mergeMethod: ")
}

func TestAMemberThatJoinsIsSetUpAsTheClusterIs(t *testing.T) {
	o := Options{Join: true, Hostname: "cp2", DefaultAddress: "10.0.0.12"}
	refused(t, ofJoin, o, "the configuration of etcd in this cluster is unknown")
	refused(t, ofCluster, o, "the file has no JoinConfiguration")
	refused(t, ofCluster+"---\n"+beta+"kind: JoinConfiguration\n",
		o, "line 5: JoinConfiguration: controlPlane: is missing")

	c := mustRead(t, ofCluster+"---\n"+beta+"kind: JoinConfiguration\n"+
		"controlPlane: {localAPIEndpoint: {advertiseAddress: 10.0.0.22}}\nnodeRegistration: {name: second}\n"+
		"timeouts: {controlPlaneComponentHealthCheck: 1m}\npatches: {directory: /p}\n", o)
	if c.NodeName != "second" || c.AdvertiseAddress != "10.0.0.22" ||
		c.HealthCheck != time.Minute || c.PatchesDir != "/p" {
		t.Errorf("got %+v", c)
	}

	o.Cluster = []byte(ofCluster + "etcd: {local: {dataDir: /srv/kept}}\n")
	c = mustRead(t, ofJoin+"---\n"+ofCluster+"---\n"+beta+
		"kind: InitConfiguration\nnodeRegistration: {name: first}\n", o)
	if c.DataDir != "/srv/kept" || c.NodeName != "cp2" {
		t.Errorf("got %+v", c)
	}
	if len(c.Warnings) != 2 ||
		!strings.HasPrefix(c.Warnings[0], "line 5: the file's ClusterConfiguration is ignored in favour of the one "+
			"stored in the cluster") ||
		!strings.HasPrefix(c.Warnings[1], "line 9: the InitConfiguration is ignored, since this is about a joining "+
			"member") {
		t.Errorf("warned %q", c.Warnings)
	}
	o.AdvertiseAddress = "10.0.0.32"
	if c = mustRead(t, "", o); c.AdvertiseAddress != "10.0.0.32" {
		t.Errorf("got %+v", c)
	}
	o.CertificatesDir = "/srv/pki"
	refused(t, "", o, "--cert-dir is up to the cluster, not to the joining member")
	o.CertificatesDir, o.Cluster = "", []byte(ofCluster+"etcd: {local: {dataDir: kept}}\n")
	refused(t, "", o, `the cluster's ClusterConfiguration: etcd.local.dataDir: "kept" is not an absolute path`)
	o.Cluster = []byte("")
	refused(t, "", o, "cannot use the configuration stored in the cluster: there is no ClusterConfiguration")
}

func TestDocumentsOfOtherGroupsArePassedOver(t *testing.T) {
	c := mustRead(t, "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nfailSwapOff: maybe\n---\n"+
		ofCluster+"--- # c\n\napiVersion: example.org/v1\nkind: Thing\na: 1\na: 2\n---\n"+
		"apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n", host)
	if !slices.Equal(c.Warnings, []string{"line 10: a document of example.org/v1, kind Thing, is ignored"}) {
		t.Errorf("warned %q", c.Warnings)
	}
}

func TestAMergeKeyIsNoKeyThatIsThereTwice(t *testing.T) {
	c := mustRead(t,
		ofCluster+"etcd:\n  local:\n    extraArgs:\n    - &a {name: a, value: x}\n    - <<: *a\n      name: b\n", host)
	if got := merged(nil, c.etcdArgs); !slices.Equal(got, []Flag{{"a", "x"}, {"b", "x"}}) {
		t.Errorf("got %v", got)
	}
}

func TestEtcdIsThatOfTheKubernetesVersion(t *testing.T) {
	for _, tt := range []struct{ version, image, warning string }{
		{"1.33.13", "3.5.24-0", ""},
		{"v1.34.4", "3.6.5-0", ""},
		{"v1.35.0-rc.1", "3.6.6-0", ""},
		{"1.36.3", "3.6.8-0", ""},
		{"v1.37.2+build", "3.7.0-0", ""},
		{"stable-1.36", "3.6.8-0",
			"kubernetesVersion stable-1.36 is not looked up: etcd is set up as for Kubernetes 1.36"},
		{"release/stable-1", "3.7.0-0", "as for Kubernetes 1.37"},
		{"latest", "3.7.0-0", "as for Kubernetes 1.37"},
	} {
		c := mustRead(t, beta+"kind: ClusterConfiguration\nkubernetesVersion: "+tt.version+"\n", host)
		if c.EtcdImage != "registry.k8s.io/etcd:"+tt.image {
			t.Errorf("%s: the image is %s", tt.version, c.EtcdImage)
		}
		if got := strings.Join(c.Warnings, "\n"); tt.warning == "" && got != "" || !strings.Contains(got, tt.warning) {
			t.Errorf("%s: warned %q, want %q", tt.version, got, tt.warning)
		}
	}
}

func TestWhatEtcdOrKubeadmWouldComplainOfIsWarnedOf(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"etcd: {local: {imageTag: 3.5.24-0}}\n",
			"etcd.local.imageTag 3.5.24-0: etcd 3.5 will not start: it does not " +
				"have the flags that kubeadm 1.37 gives it"},
		{"certificateValidityPeriod: 10000h\n",
			"certificateValidityPeriod: 10000h0m0s is more than the recommended 8760h0m0s"},
		{"caCertificateValidityPeriod: 100h\n",
			"certificateValidityPeriod: 8760h0m0s is more than caCertificateValidityPeriod, 100h0m0s"},
		{"caCertificateValidityPeriod: 100000h\n",
			"caCertificateValidityPeriod: 100000h0m0s is more than the recommended 87600h0m0s"},
	} {
		if c := mustRead(t, ofCluster+tt.text, host); !slices.Equal(c.Warnings, []string{tt.want}) {
			t.Errorf("%s: warned %q", tt.text, c.Warnings)
		}
	}
	c := mustRead(t, strings.Replace(ofCluster, "1.37.2", "1.35.4", 1)+"etcd: {local: {imageTag: mine}}\n", host)
	if want := "etcd.local.imageTag mine: is not a version, so kubeadm 1.35 gives etcd flags that etcd 3.7 no longer " +
		"has"; !slices.Equal(c.Warnings, []string{want}) {
		t.Errorf("warned %q", c.Warnings)
	}
}

func TestAJoinConfigurationAloneIsToldWhereItBelongs(t *testing.T) {
	_, err := Read([]byte(beta+"kind: JoinConfiguration\ncontrolPlane: {}\n"), host)
	var invalid *InvalidError
	if !errors.As(err, &invalid) || !strings.Contains(invalid.Hint(), "`etcdpod join`") ||
		!strings.Contains(invalid.Hint(), "InitConfiguration") {
		t.Errorf("%v, hint %q", err, invalid.Hint())
	}
}
