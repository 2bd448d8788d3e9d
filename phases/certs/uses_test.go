package certs

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/manifests"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// usesOf reads the certificates from two manifests; an empty one stands for none.
func usesOf(t *testing.T, etcd, apiServer string, there ...string) certUses {
	t.Helper()
	d := sim.NewDisk()
	for _, file := range there {
		if err := node.MkdirAll(d, file[:strings.LastIndex(file, "/")], node.Attr{Mode: 0o755}); err != nil {
			t.Fatal(err)
		}
		if err := d.Create(file, []byte("x"), node.Attr{Mode: 0o600}); err != nil {
			t.Fatal(err)
		}
	}
	n := &observe.Node{View: (&node.Host{FS: d}).View()}
	var files []observe.ManifestFile
	for name, flags := range map[string]string{"etcd": etcd, "kube-apiserver": apiServer} {
		if flags == "" {
			continue
		}
		var command strings.Builder
		for _, flag := range strings.Fields(flags) {
			fmt.Fprintf(&command, "    - --%s\n", flag)
		}
		text := crashtest.PodManifest(name, command.String(), "    volumeMounts:\n    - mountPath: /pki\n"+
			"      name: pki\n    - mountPath: /var/lib/etcd\n      name: data\n  volumes:\n  - hostPath:\n"+
			"      path: /host/pki\n    name: pki\n  - hostPath:\n      path: /var/lib/etcd\n    name: data\n")
		m, err := manifests.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, observe.ManifestFile{Path: crashtest.TestManifestDir + "/" + name + ".yaml",
			Data: []byte(text), Manifest: m})
	}
	pod, err := n.EtcdPod(files)
	if err != nil {
		t.Fatal(err)
	}
	return findUses(n, files, pod, pod == nil && n.TraceOfEtcd(files) != "")
}

// words are the uses, one per line.
func (u certUses) words() []string {
	var all []string
	for _, l := range u.leaves {
		all = append(all, strings.TrimSpace(fmt.Sprintf("%s %s of %s for %s at %s",
			l.name, l.leaf.CertFile, l.ca, strings.Join(l.leaf.Names.Strings(), ","), strings.Join(l.addresses, ","))))
	}
	for _, ca := range u.cas {
		all = append(all, fmt.Sprintf("CA %s %s %s", ca.name, ca.certFile, ca.keyFile))
	}
	slices.Sort(all)
	return all
}

func TestTheCertificatesAreThoseOfTheManifests(t *testing.T) {
	const (
		etcd = "data-dir=/var/lib/etcd cert-file=/pki/etcd/server.crt key-file=/pki/etcd/server.key " +
			"trusted-ca-file=/pki/etcd/ca.crt peer-cert-file=/pki/etcd/peer.crt peer-key-file=/pki/etcd/peer.key "
		urls = "listen-client-urls=https://127.0.0.1:2379,https://10.0.0.11:2379 " +
			"advertise-client-urls=https://10.0.0.11:2379 listen-peer-urls=https://10.0.0.11:2380 " +
			"initial-advertise-peer-urls=https://cp1.example:2380 "
		oneCA  = "peer-trusted-ca-file=/pki/etcd/ca.crt "
		health = "etcd-healthcheck-client /host/pki/etcd/healthcheck-client.crt of etcd-ca for  at"
	)
	for _, tt := range []struct {
		name, etcd, apiServer string
		there, want           []string
	}{
		{"kubeadm's etcd", etcd + urls + oneCA, "", nil, []string{
			"CA etcd-ca /host/pki/etcd/ca.crt /host/pki/etcd/ca.key", health,
			"etcd-peer /host/pki/etcd/peer.crt of etcd-ca for cp1.example at 10.0.0.11:2380",
			"etcd-server /host/pki/etcd/server.crt of etcd-ca for 10.0.0.11 at 127.0.0.1:2379,10.0.0.11:2379"}},
		{"peers have a CA of their own, and listeners are everywhere",
			etcd + "peer-trusted-ca-file=/pki/etcd/peer-ca.crt " +
				"listen-client-urls=https://0.0.0.0:2379,https://[::]:2379,http://127.0.0.1:2381 " +
				"listen-peer-urls=https://[::]:2380", "", nil, []string{
				"CA etcd-ca /host/pki/etcd/ca.crt /host/pki/etcd/ca.key",
				"CA etcd-peer-ca /host/pki/etcd/peer-ca.crt /host/pki/etcd/peer-ca.key", health,
				"etcd-peer /host/pki/etcd/peer.crt of etcd-peer-ca for  at [::1]:2380",
				"etcd-server /host/pki/etcd/server.crt of etcd-ca for  at 127.0.0.1:2379,[::1]:2379"}},
		{"plain HTTP", "data-dir=/var/lib/etcd listen-client-urls=http://127.0.0.1:2379", "", nil, nil},
		{"an API server with kubeadm's certificate", "",
			"etcd-servers=https://10.0.0.9:2379 etcd-certfile=/pki/apiserver-etcd-client.crt " +
				"etcd-cafile=/pki/etcd/ca.crt client-ca-file=/pki/ca.crt tls-cert-file=/pki/apiserver.crt " +
				"advertise-address=10.0.0.11", []string{"/etc/kubernetes/pki/etcd/server.crt"}, []string{
				"CA /etc/kubernetes/pki/etcd/ca.crt /etc/kubernetes/pki/etcd/ca.crt /etc/kubernetes/pki/etcd/ca.key",
				"CA ca /host/pki/ca.crt /host/pki/ca.key", "CA etcd-ca /host/pki/etcd/ca.crt /host/pki/etcd/ca.key",
				"apiserver /host/pki/apiserver.crt of ca for 10.0.0.11 at 127.0.0.1:6443",
				"apiserver-etcd-client /host/pki/apiserver-etcd-client.crt of etcd-ca for  at",
				"etcd-server /etc/kubernetes/pki/etcd/server.crt of /etc/kubernetes/pki/etcd/ca.crt for  at"}},
		{"an API server that uses the etcd of its own node, under the address that it advertises", "",
			"etcd-servers=https://10.0.0.12:2379,https://10.0.0.11:2379 advertise-address=10.0.0.11", nil, []string{
				"CA etcd-ca /etc/kubernetes/pki/etcd/ca.crt /etc/kubernetes/pki/etcd/ca.key",
				"etcd-peer /etc/kubernetes/pki/etcd/peer.crt of etcd-ca for  at",
				"etcd-server /etc/kubernetes/pki/etcd/server.crt of etcd-ca for  at"}},
		{"an API server with somebody's certificate", "",
			"etcd-servers=https://10.0.0.9:2379 client-ca-file=/pki/ca.crt tls-cert-file=/pki/bought.crt " +
				"advertise-address=fd00::1 secure-port=443", nil, []string{
				"apiserver /host/pki/bought.crt of  for fd00::1 at 127.0.0.1:443"}},
		{"manifests that are gone", "", "",
			[]string{"/etc/kubernetes/pki/etcd/server.crt", "/etc/kubernetes/pki/etcd/peer.key"}, []string{
				"CA etcd-ca /etc/kubernetes/pki/etcd/ca.crt /etc/kubernetes/pki/etcd/ca.key",
				"etcd-peer /etc/kubernetes/pki/etcd/peer.crt of etcd-ca for  at",
				"etcd-server /etc/kubernetes/pki/etcd/server.crt of etcd-ca for  at"}},
		{"nothing at all", "", "", nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := usesOf(t, tt.etcd, tt.apiServer, tt.there...).words(); !slices.Equal(got, tt.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
		})
	}
}
