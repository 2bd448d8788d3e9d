package templates

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// rendered returns the Pod of a manifest.
func rendered(t *testing.T, c *Config, members []Member) corev1.Pod {
	t.Helper()
	text, err := c.EtcdManifest(nil, members)
	if err != nil {
		t.Fatal(err)
	}
	var pod corev1.Pod
	if err := yaml.UnmarshalStrict(text, &pod); err != nil {
		t.Fatal(err)
	}
	return pod
}

func TestAMemberThatJoinsKnowsAllMembers(t *testing.T) {
	c := mustRead(t, ofCluster, host)
	command := rendered(t, c, nil).Spec.Containers[0].Command
	if !slices.Contains(command, "--initial-cluster=cp1=https://10.0.0.11:2380") ||
		strings.Contains(strings.Join(command, " "), "initial-cluster-state") {
		t.Errorf("the first is started with %v", command)
	}
	command = rendered(t, c,
		[]Member{{"cp2", "https://10.0.0.12:2380"}, {"cp1", "https://10.0.0.11:2380"}}).Spec.Containers[0].Command
	if !slices.Contains(command, "--initial-cluster=cp2=https://10.0.0.12:2380,cp1=https://10.0.0.11:2380") ||
		!slices.Contains(command, "--initial-cluster-state=existing") {
		t.Errorf("the second is started with %v", command)
	}
}

func TestFlagsAreThoseOfTheEtcdThatKubeadmTakesItFor(t *testing.T) {
	const old, now = "--experimental-initial-corrupt-check=true", "--feature-gates=InitialCorruptCheck=true"
	for _, tt := range []struct{ kubernetes, tag, want string }{
		{"1.33.13", "", old}, {"1.34.4", "", now}, {"1.37.2", "", now},
		{"1.34.4", "3.5.24-0", old}, {"1.35.4", "3.6.0", now}, {"1.35.4", "3.6.0-0", old}, {"1.35.4", "latest", old},
		{"1.36.3", "3.5.24-0", now}, {"1.37.2", "latest", now},
	} {
		c := mustRead(t, fmt.Sprintf("%skind: ClusterConfiguration\nkubernetesVersion: %s\n"+
			"etcd: {local: {imageTag: '%s'}}\n", beta, tt.kubernetes, tt.tag), host)
		if command := rendered(t, c, nil).Spec.Containers[0].Command; !slices.Contains(command, tt.want) {
			t.Errorf("Kubernetes %s, etcd %s: got %v, want %s", tt.kubernetes, tt.tag, command, tt.want)
		}
	}
}

func TestAnExternalEtcdHasNoManifest(t *testing.T) {
	c := mustRead(t,
		ofCluster+"etcd: {external: {endpoints: ['https://e:2379'], caFile: /ca, certFile: '', keyFile: ''}}\n", host)
	if _, err := c.EtcdManifest(nil, nil); err == nil || c.EtcdImage != "" || c.DataDir != "" {
		t.Errorf("got %v, %+v", err, c)
	}
}

func TestTheAPIServerAsksTheEtcdBesideIt(t *testing.T) {
	const pki = "--etcd-cafile=/etc/kubernetes/pki/etcd/ca.crt " +
		"--etcd-certfile=/etc/kubernetes/pki/apiserver-etcd-client.crt " +
		"--etcd-keyfile=/etc/kubernetes/pki/apiserver-etcd-client.key "
	for _, tt := range []struct{ name, text, address, want string }{
		{"IPv4", "", "10.0.0.11", pki + "--etcd-servers=https://127.0.0.1:2379"},
		{"IPv6", "", "fd00::11", pki + "--etcd-servers=https://[::1]:2379"},
		{"where etcd is said to be",
			"etcd: {local: {extraArgs: [{name: advertise-client-urls, value: 'https://a:1'}]}}\n",
			"10.0.0.11", pki + "--etcd-servers=https://a:1"},
		{"as a person has it",
			"apiServer: {extraArgs: [{name: etcd-servers, value: 'https://b:1'}, {name: v, value: '2'}, {name: " +
				"etcd-prefix, value: /p}]}\n", "10.0.0.11", pki + "--etcd-servers=https://b:1 --etcd-prefix=/p"},
		{"several elsewhere", "etcd: {external: {endpoints: ['https://a:1', 'https://b:2'], caFile: /ca, " +
			"certFile: /crt, keyFile: /key}}\n", "10.0.0.11",
			"--etcd-cafile=/ca --etcd-certfile=/crt --etcd-keyfile=/key --etcd-servers=https://a:1,https://b:2"},
		{"elsewhere, without TLS",
			"etcd: {external: {endpoints: ['http://a:1'], caFile: '', certFile: '', keyFile: ''}}\n",
			"10.0.0.11", "--etcd-servers=http://a:1"},
	} {
		c := mustRead(t, ofCluster+tt.text, Options{Hostname: "cp1", DefaultAddress: tt.address})
		var flags []string
		for _, f := range c.APIServerEtcdFlags() {
			flags = append(flags, f.String())
		}
		if got := strings.Join(flags, " "); got != tt.want {
			t.Errorf("%s: got  %s\nwant %s", tt.name, got, tt.want)
		}
	}
}

func TestKubeadmFindsTheMemberByItsAnnotation(t *testing.T) {
	c := mustRead(t, ofCluster+"etcd: {local: {extraArgs: [{name: advertise-client-urls, value: 'https://a:1'}]}}\n",
		Options{Hostname: "cp1", DefaultAddress: "fd00::11"})
	if got := rendered(t, c, nil).Annotations[AnnotationClientURLs]; got != "https://[fd00::11]:2379" ||
		got != c.ClientURL() {
		t.Errorf("got %s", got)
	}
}
