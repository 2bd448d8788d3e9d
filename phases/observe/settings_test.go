package observe

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/manifests"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/node"
)

const inTheFile = `name: cp1
data-dir: /var/lib/etcd
listen-client-urls: https://127.0.0.1:2379
listen-peer-urls: https://192.0.2.7:2380
quota-backend-bytes: 8589934592
client-transport-security: {cert-file: /pki/server.crt, key-file: /pki/server.key}
peer-transport-security: {cert-file: /pki/peer.crt, key-file: /pki/peer.key}
`

// Wherever etcd takes its settings from, what keeps it from starting again is found in them, and
// named there.
func TestSettingsAreReadFromWhereEtcdTakesThem(t *testing.T) {
	for name, c := range map[string]struct {
		flags     string
		env       map[string]string
		as, where string
	}{
		"flags": {flags: "data-dir=/var/lib/etcd listen-peer-urls=https://192.0.2.7:2380 cert-file=/pki/server.crt " +
			"peer-cert-file=/pki/peer.crt peer-key-file=/pki/peer.key quota-backend-bytes=8589934592",
			as: "--quota-backend-bytes=1", where: "/m/etcd.yaml"},
		"the environment": {flags: "data-dir=/var/lib/etcd", env: map[string]string{
			"ETCD_LISTEN_PEER_URLS": "https://192.0.2.7:2380", "ETCD_CERT_FILE": "/pki/server.crt",
			"ETCD_PEER_CERT_FILE": "/pki/peer.crt", "ETCD_PEER_KEY_FILE": "/pki/peer.key",
			"ETCD_QUOTA_BACKEND_BYTES": "8589934592"}, as: "ETCD_QUOTA_BACKEND_BYTES=1", where: "/m/etcd.yaml"},
		"a configuration file": {flags: "config-file=/pki/etcd.yml quota-backend-bytes=7",
			as: "quota-backend-bytes: 1", where: "/host/pki/etcd.yml"},
		"one that the environment names": {flags: "name=x", env: map[string]string{"ETCD_CONFIG_FILE": "/pki/etcd.yml"},
			as: "quota-backend-bytes: 1", where: "/host/pki/etcd.yml"},
	} {
		t.Run(name, func(t *testing.T) {
			n, files := newNode(t, map[string]string{"/host/pki/etcd.yml": inTheFile, "/host/pki/server.crt": "x",
				"/host/pki/server.key": "x", "/host/pki/peer.crt": "x"}, c.flags, "")
			for name, value := range c.env {
				files[0].Data = []byte(strings.Replace(string(files[0].Data), "    volumeMounts:",
					"    env: [{name: "+name+", value: '"+value+"'}]\n    volumeMounts:", 1))
				files[0].Data = []byte(strings.Replace(string(files[0].Data), "}]\n    env: [{", "}, {", 1))
			}
			var err error
			files[0].Data = []byte(strings.Replace(string(files[0].Data), "spec:\n", "spec:\n  hostNetwork: true\n", 1))
			if files[0].Manifest, err = manifests.Parse(files[0].Data); err != nil {
				t.Fatalf("%v\n%s", err, files[0].Data)
			}
			n.configure(&files[0])
			pod, err := n.EtcdPod(files)
			if err != nil {
				t.Fatal(err)
			}
			if pod.Quota() != 8589934592 {
				t.Errorf("the quota is %d", pod.Quota())
			}
			if as, where := pod.Source(QuotaSetting, "1"); as != c.as || where != c.where {
				t.Errorf("the quota is set by %s in %s", as, where)
			}
			said := n.missingFiles(&Facts{Manifests: files})
			if len(said) != 1 || !slices.Equal(said[0].Missing, []string{"/host/pki/peer.key"}) {
				t.Errorf("missing: %+v", said)
			}
			dead := DeadAddresses(t.Context(), files)
			if len(dead) != 1 || !strings.Contains(dead[0].What, "192.0.2.7") ||
				!strings.Contains(dead[0].What, "set in "+c.where+":") {
				t.Errorf("addresses: %+v", dead)
			}
			if got := pod.CertificateFiles(); !slices.Contains(got, "/host/pki/server.crt") ||
				!slices.Contains(got, "/host/pki/peer.crt") {
				t.Errorf("certificates: %v", got)
			}
		})
	}
}

func TestAConfigurationFileThatIsGoneIsNamed(t *testing.T) {
	n, files := newNode(t, nil, "config-file=/pki/etcd.yml", "")
	n.configure(&files[0])
	if _, err := n.EtcdPod(files); err == nil ||
		!strings.Contains(err.Error(), "configuration file /host/pki/etcd.yml does not exist: /m/etcd.yaml names it") {
		t.Error(err)
	}
	if said := n.missingFiles(&Facts{Manifests: files}); len(said) != 1 {
		t.Errorf("missing: %+v", said)
	}
}

// What a shell is told to run cannot be read, and must not count as nothing.
func TestOfAnEtcdThatAShellStartsNothingUntrueIsSaid(t *testing.T) {
	n, _ := newNode(t, nil, "data-dir=/var/lib/etcd", "")
	shell := podFile(t, "etcd.yaml", "etcd", "sh, -c, 'exec etcd --data-dir=/var/lib/etcd'")
	if _, err := n.EtcdPod([]ManifestFile{shell}); err == nil ||
		!strings.Contains(err.Error(), shell.Path+" starts etcd through a shell") ||
		!strings.Contains(engine.Hint(err), "start etcd itself") {
		t.Error(err)
	}
}

// A second etcd is told from the cluster's by its configuration file, too.
func TestASecondEtcdMayBeInAConfigurationFile(t *testing.T) {
	n, files := newNode(t, map[string]string{"/host/pki/etcd.yml": "listen-client-urls: https://127.0.0.1:2382\n"},
		"config-file=/pki/etcd.yml", "etcd-servers=https://127.0.0.1:2379")
	n.configure(&files[0])
	main := podFile(t, "main.yaml", "main", "etcd, '--listen-client-urls=https://127.0.0.1:2379'")
	if m, _, ok := Program(append(files, main), "etcd"); !ok || m.Path != main.Path {
		t.Errorf("%s is looked after", m.Path)
	}
}

// An etcd that has ended, of an image whose name and tags tell nothing, has logged its version.
func TestAnEtcdThatHasEndedLoggedItsVersion(t *testing.T) {
	const image = "registry.local/etcd@sha256:ab"
	for name, c := range map[string]struct{ log, image, want string }{
		"json": {`2026-11-29T10:00:00Z stderr F {"level":"info","msg":"starting an etcd server",` +
			`"etcd-version":"3.6.16","git-sha":"x"}`, image, "3.6.16"},
		"console": {"2026-11-29T10:00:00Z stderr F info\tstarting\t{\"etcd-version\": \"3.5.9\"}",
			image, "3.5.9"},
		"another image":      {`{"etcd-version":"3.6.16"}`, "registry.local/etcd@sha256:cd", ""},
		"a log that was cut": {`2026-11-29T10:00:00Z stderr F {"level":"info","msg":"compacted"}`, image, ""},
	} {
		n, files := newNode(t, map[string]string{"/var/log/pods/kube-system_etcd-cp1_7/etcd/2.log": c.log + "\n"},
			"data-dir=/var/lib/etcd", "")
		f := &Facts{Manifests: files, Containers: []node.Container{{Name: "etcd", Pod: "etcd-cp1", PodUID: "7",
			Namespace: "kube-system", State: "exited", Attempt: 2, Image: c.image}}}
		f.Etcd = &EtcdPod{File: files[0], Container: "etcd", Image: image}
		if f.Etcd.runsAs = n.loggedVersion(t.Context(), f); f.EtcdVersion() != c.want {
			t.Errorf("%s: %q", name, f.EtcdVersion())
		}
	}
}

// What agents and other commands read is what the container has, without asking for it.
func TestManifestsAreReadWithWhatTheirContainersKnow(t *testing.T) {
	n, files := newNode(t, nil, "data-dir=/var/lib/etcd listen-client-urls=https://$(POD_IP):2379", "")
	text := strings.Replace(string(files[0].Data), "    volumeMounts:",
		"    env: [{name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]\n    volumeMounts:", 1)
	n.Runtime = told{containers: []node.Container{{ID: "7", Name: "etcd", Pod: "etcd-cp1", Namespace: "kube-system"}}}
	n.Environment = func(context.Context, string) (map[string]string, error) {
		return map[string]string{"POD_IP": "10.0.0.11"}, nil
	}
	if err := os.MkdirAll(n.FS.Real("/m"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(n.FS.Real("/m/etcd.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	all, err := n.Manifests(t.Context(), "/m")
	if err != nil {
		t.Fatal(err)
	}
	pod, err := n.EtcdPod(all)
	if err != nil || pod.Setting("", "listen-client-urls") != "https://10.0.0.11:2379" {
		t.Errorf("%+v, %v", pod, err)
	}
}

// The kubelet may be given one file instead of a directory.
func TestASingleStaticPodIsRead(t *testing.T) {
	text := podFile(t, "etcd.yaml", "etcd", "etcd, --data-dir=/var/lib/etcd").Data
	n, _ := newNode(t, map[string]string{"/m/etcd.yaml": string(text), "/m/other.yaml": "x"}, "", "")
	got, err := n.Manifests(t.Context(), "/m/etcd.yaml")
	if err != nil || len(got) != 1 || got[0].Path != "/m/etcd.yaml" || got[0].Manifest == nil {
		t.Errorf("%+v, %v", got, err)
	}
}

// One file that cannot be read, as where the kubelet has made a directory in its place, must not
// hide the others.
func TestWhatCanBeReadOfTheFilesOfACluster(t *testing.T) {
	n, files := newNode(t, map[string]string{"/host/pki/ca.crt": "x", "/host/pki/enc.yaml/made": "by the kubelet"},
		"data-dir=/var/lib/etcd", "client-ca-file=/pki/ca.crt encryption-provider-config=/pki/enc.yaml")
	prints, err := n.Fingerprints(&Facts{Manifests: files})
	if prints["/host/pki/ca.crt"] == "" || len(prints) != 1 || err == nil ||
		!strings.Contains(err.Error(), "cannot read /host/pki/enc.yaml") {
		t.Errorf("%v, %v", prints, err)
	}
}
