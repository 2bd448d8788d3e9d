package manifests

import (
	"strings"
	"testing"
)

func TestWhatTheKubeletCannotRunIsNoPod(t *testing.T) {
	const head = "apiVersion: v1\nkind: Pod\n"
	for name, c := range map[string]struct {
		text string
		want bool
	}{
		"a pod":                    {head + "metadata: {name: etcd}\n", true},
		"a pod in JSON":            {"\n {\"kind\": \"Pod\", \"apiVersion\": \"v1\"}", true},
		"a pod with an anchor":     {"x: &a [1]\n" + head + "y: *a\n", true},
		"a pod before a Service":   {head + "---\nkind: Service\n", true},
		"a README":                 {"# etcd.yaml is kubeadm's. Do not touch: etcd runs from it.\n", false},
		"prose":                    {"Ask Eve before you change etcd here: she knows.\n", false},
		"no YAML":                  {"kind: Pod\n  etcd: [", false},
		"a Deployment":             {"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: etcd}\n", false},
		"a pod of another version": {"apiVersion: v2\nkind: Pod\nspec: {containers: [{name: etcd}]}\n", false},
		"a pod in a list":          {"apiVersion: v1\nkind: List\nitems: [{kind: Pod}]\n", false},
		"nothing":                  {"", false},
		"bytes of a database":      {"\x00\x01etcd\xff\xfe", false},
		"a hundred thousand lists": {"etcd: " + strings.Repeat("[", 100_000), false},
	} {
		if got := MayBePod([]byte(c.text)); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
		if _, pod := Decoded([]byte(c.text)); pod && !c.want {
			t.Errorf("%s is decoded as a pod", name)
		}
	}
}

func TestTheContainerThatRunsEtcdIsFoundBesideOthers(t *testing.T) {
	const plain = "  - name: etcd\n    image: etcd:1\n    command: [etcd, --name=cp1]\n"
	for name, c := range map[string]struct {
		containers, want string // empty: none
	}{
		"a sidecar in front": {"  - name: shipper\n    image: logs:1\n    command: [fluent-bit]\n" + plain, "etcd"},
		"a sidecar that mentions it": {"  - name: saver\n    image: saver:1\n" +
			"    command: [sh, -c, 'while :; do echo etcd is well; done']\n" + plain, "etcd"},
		"a sidecar that mentions it, and an image that says what to run": {"  - name: saver\n    image: saver:1\n" +
			"    command: [sh, -c, 'echo etcd']\n  - name: etcd\n    image: etcd:1\n    args: [--name=cp1]\n", "etcd"},
		"a proxy in front": {"  - name: proxy\n    image: etcd:1\n    command: [etcd, grpc-proxy, start]\n" + plain,
			"etcd"},
		"a proxy": {"  - name: etcd\n    image: etcd:1\n" +
			"    command: [/usr/bin/etcd, grpc-proxy, start]\n", ""},
		"a gateway": {"  - name: etcd\n    image: etcd:1\n    args: [gateway, start]\n", ""},
		"a proxy in a shell": {"  - name: etcd\n    image: etcd:1\n" +
			"    command: [sh, -c, 'exec etcd grpc-proxy start']\n", ""},
		"an etcd of that name": {"  - name: etcd\n    image: etcd:1\n" +
			"    command: [etcd, --name, gateway]\n", "etcd"},
		"a shell that says the word": {"  - name: etcd\n    image: etcd:1\n" +
			"    command: [sh, -c, 'echo behind a gateway; exec etcd']\n", "etcd"},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := Parse([]byte("apiVersion: v1\nkind: Pod\nmetadata:\n  name: etcd\n  labels: {component: etcd}\n" +
				"spec:\n  containers:\n" + c.containers))
			if err != nil {
				t.Fatal(err)
			}
			if got, ok := m.Runs("etcd"); ok != (c.want != "") || ok && got != c.want {
				t.Errorf("%q, %v", got, ok)
			}
		})
	}
}
