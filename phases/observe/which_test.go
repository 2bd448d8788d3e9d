package observe

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/manifests"
	"github.com/etcdpod/etcdpod/phases/engine"
)

// podFile is a file in the static-pod directory.
func podFile(t *testing.T, name, pod, command string) ManifestFile {
	t.Helper()
	text := fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata:\n  name: %s\n  namespace: kube-system\nspec:\n"+
		"  containers:\n  - name: %s\n    image: x:1\n    command: [%s]\n", pod, pod, command)
	m, err := manifests.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return ManifestFile{Path: "/m/" + name, Data: []byte(text), Manifest: m}
}

func TestOfSeveralEtcdsTheOneOfTheAPIServerIsLookedAfter(t *testing.T) {
	const (
		main     = "etcd, '--listen-client-urls=https://127.0.0.1:2379,https://10.0.0.11:2379'"
		events   = "etcd, '--listen-client-urls=https://127.0.0.1:2382'"
		anywhere = "etcd, '--listen-client-urls=https://0.0.0.0:2382'"
		proxy    = "etcd, grpc-proxy, start, '--listen-addr=127.0.0.1:2379'"
		servers  = "kube-apiserver, '--etcd-servers=https://127.0.0.1:2379', " +
			"'--etcd-servers-overrides=/events#https://127.0.0.1:2382'"
	)
	api := podFile(t, "kube-apiserver.yaml", "kube-apiserver", servers)
	second := podFile(t, "etcd-events.yaml", "etcd-events", events)
	first := podFile(t, "etcd.yaml", "etcd", main)
	copied := podFile(t, "etcd.yaml.bak", "etcd", main)
	for name, c := range map[string]struct {
		files       []ManifestFile
		own, others string // names of files
		refused     string // to look after any
		doubled     string // refuses changes
	}{
		"one":        {files: []ManifestFile{first, api}, own: "etcd.yaml"},
		"for events": {files: []ManifestFile{second, first, api}, own: "etcd.yaml", others: "etcd-events.yaml"},
		"for events, and the cluster's is gone": {files: []ManifestFile{second, api},
			others: "etcd-events.yaml"},
		"for events, under the name that is kubeadm's": {own: "main.yaml", others: "etcd.yaml", files: []ManifestFile{
			podFile(t, "etcd.yaml", "etcd", anywhere), podFile(t, "main.yaml", "main", main), api}},
		"the API server names several, each in a flag of its own": {own: "etcd.yaml", others: "etcd-events.yaml",
			files: []ManifestFile{podFile(t, "etcd-events.yaml", "etcd-events", events), first,
				podFile(t, "kube-apiserver.yaml", "kube-apiserver", "kube-apiserver, "+
					"'--etcd-servers=https://127.0.0.1:2379', '--etcd-servers=https://10.0.0.12:2379'")}},
		"no API server, and kubeadm's name": {files: []ManifestFile{second, first}, own: "etcd.yaml",
			others: "etcd-events.yaml"},
		"nothing tells": {files: []ManifestFile{second, podFile(t, "x.yaml", "x", main)},
			refused: "2 manifests run etcd, and nothing shows which of them is the cluster's: /m/etcd-events.yaml, " +
				"/m/x.yaml"},
		"an API server that uses neither": {own: "etcd.yaml", others: "etcd-events.yaml", files: []ManifestFile{
			second, first, podFile(t, "kube-apiserver.yaml", "kube-apiserver",
				"kube-apiserver, '--etcd-servers=https://10.9.9.9:2379'")}},
		"a copy": {files: []ManifestFile{copied, first, api}, own: "etcd.yaml",
			doubled: "2 files claim the pod kube-system/etcd: /m/etcd.yaml.bak, /m/etcd.yaml"},
		"a copy of the API server's": {own: "etcd.yaml", files: []ManifestFile{first, api,
			podFile(t, "kube-apiserver.yaml.1", "kube-apiserver", servers)},
			doubled: "2 files claim the pod kube-system/kube-apiserver"},
		"a copy of another name, at the same address": {own: "etcd.yaml", others: "etcd2.yaml", files: []ManifestFile{
			first, podFile(t, "etcd2.yaml", "etcd2", main), api}, doubled: "2 manifests run etcd"},
		"two of a pod that is not the control plane's": {own: "etcd.yaml", files: []ManifestFile{first, api,
			podFile(t, "a.yaml", "dns", "coredns"), podFile(t, "b.yaml", "dns", "coredns")}},
		"a proxy": {own: "etcd.yaml", files: []ManifestFile{
			podFile(t, "a-proxy.yaml", "proxy", proxy), first, api}},
		"only a proxy": {files: []ManifestFile{podFile(t, "etcd.yaml", "etcd", proxy), api}},
	} {
		t.Run(name, func(t *testing.T) {
			own := ""
			if m, _, ok := Program(c.files, "etcd"); ok {
				own = path.Base(m.Path)
				if err := checkOneEtcd(c.files, m); fmt.Sprint(err) != c.refused && (err != nil || c.refused != "") {
					t.Errorf("refused: %v", err)
				}
			}
			if c.refused == "" && own != c.own {
				t.Errorf("looks after %q", own)
			}
			var others []string
			for _, m := range OtherEtcds(c.files) {
				others = append(others, path.Base(m.Path))
			}
			if c.refused == "" && strings.Join(others, " ") != c.others {
				t.Errorf("the others are %q", others)
			}
			err := (&Facts{Manifests: c.files}).CheckDoubled()
			var refused *engine.RefusedError
			if (c.doubled != "") != errors.As(err, &refused) ||
				err != nil && !strings.Contains(err.Error(), c.doubled) {
				t.Errorf("changes: %v", err)
			}
		})
	}
}

func TestAnEtcdThatThrowsOutTheOthersIsRecognized(t *testing.T) {
	for command, want := range map[string]bool{
		"etcd, --force-new-cluster":                                      true,
		"etcd, '--force-new-cluster=true'":                               true,
		"etcd, '--force-new-cluster=false'":                              false,
		"etcd, --name, a":                                                false,
		"etcd]\n    env: [{name: ETCD_FORCE_NEW_CLUSTER, value: 'true'}": true,
	} {
		pod := &EtcdPod{File: podFile(t, "etcd.yaml", "etcd", command), Container: "etcd"}
		if pod.ForceNewCluster() != want || (pod.CheckForced() != nil) != want {
			t.Errorf("%s: %v", command, !want)
		}
	}
	pod := &EtcdPod{File: podFile(t, "etcd.yaml", "etcd", "etcd")}
	pod.File.config = map[string]any{"force-new-cluster": true}
	if !pod.ForceNewCluster() {
		t.Error("it is in the configuration file")
	}
}
