package manifests

import (
	"reflect"
	"testing"
)

const mounted = `apiVersion: v1
kind: Pod
metadata: {name: etcd}
spec:
  hostNetwork: yes
  initContainers:
  - name: prepare
    command: [etcd, --name=not-this]
    volumeMounts:
    - {name: data, mountPath: /prepare}
  containers:
  - name: etcd
    env:
    - {name: A, value: first}
    - {name: A, value: second}
    - name: POD_IP
      valueFrom: {fieldRef: {fieldPath: status.podIP}}
    - name: EMPTY
    volumeMounts:
    - {name: data, mountPath: /var/lib/etcd/}
    - {name: data, mountPath: /var/lib/etcd/wal, subPath: wals/a, mountPropagation: HostToContainer}
    - {name: scratch, mountPath: /var/lib/etcd/tmp}
    - {name: pki, mountPath: /pki, readOnly: true}
    - {name: data, mountPath: /expr, subPathExpr: $(POD_IP)}
    - {name: root, mountPath: /}
  volumes:
  - {name: data, hostPath: {path: /srv/etcd, type: DirectoryOrCreate}}
  - {name: scratch, emptyDir: {}}
  - {name: pki, hostPath: {path: /etc/kubernetes/pki/etcd}}
  - {name: root, hostPath: {path: /opt/rootfs}}
`

func TestAPathInAContainerLeadsToThePathOnTheNode(t *testing.T) {
	m := parse(t, mounted)
	for _, tt := range []struct {
		name, path, want string
		ok               bool
	}{
		{"the mount itself", "/var/lib/etcd", "/srv/etcd", true},
		{"a file below", "/var/lib/etcd/member/snap/db", "/srv/etcd/member/snap/db", true},
		{"the innermost mount counts, with its sub path", "/var/lib/etcd/wal/0.wal", "/srv/etcd/wals/a/0.wal", true},
		{"a path with dots", "/var/lib/etcd/wal/../member/", "/srv/etcd/member", true},
		{"a name that only begins like a mount", "/var/lib/etcd2", "/opt/rootfs/var/lib/etcd2", true},
		{"a volume of another kind", "/var/lib/etcd/tmp/x", "", false},
		{"a sub path that is an expression", "/expr/x", "", false},
		{"a relative path", "var/lib/etcd", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, ok := m.HostPathOf("etcd", tt.path); got != tt.want || ok != tt.ok {
				t.Errorf("got %q, %v", got, ok)
			}
		})
	}
	if got, ok := m.HostPathOf("nobody", "/"); ok {
		t.Errorf("a container that is not there has %q", got)
	}
}

func TestHostPathsComeWithTheirMountsInAllContainers(t *testing.T) {
	got := parse(t, mounted).HostPaths()
	if len(got) != 3 || got[0].Volume != "data" || got[0].Path != "/srv/etcd" ||
		got[0].Type != "DirectoryOrCreate" || got[2].Path != "/opt/rootfs" {
		t.Fatalf("got %+v", got)
	}
	want := []Mount{
		{Container: "prepare", Path: "/prepare", volume: "data"},
		{Container: "etcd", Path: "/var/lib/etcd/", volume: "data"},
		{Container: "etcd", Path: "/var/lib/etcd/wal", SubPath: "wals/a",
			Propagation: "HostToContainer", volume: "data"},
		{Container: "etcd", Path: "/expr", volume: "data", expression: true},
	}
	if !reflect.DeepEqual(got[0].Mounts, want) {
		t.Errorf("got %+v", got[0].Mounts)
	}
	if m := got[1].Mounts; len(m) != 1 || !m[0].ReadOnly {
		t.Errorf("got %+v", m)
	}
}

func TestTheEnvironmentIsReadWhereItIsLiteral(t *testing.T) {
	m := parse(t, mounted)
	for _, tt := range []struct {
		name, value   string
		ok, elsewhere bool
	}{
		{"A", "second", true, false},
		{"EMPTY", "", true, false},
		{"POD_IP", "", false, true},
		{"MISSING", "", false, false},
	} {
		value, ok := m.Env("etcd", tt.name)
		if elsewhere := m.EnvFromElsewhere("etcd", tt.name); value != tt.value ||
			ok != tt.ok || elsewhere != tt.elsewhere {
			t.Errorf("%s is %q, %v, from elsewhere %v", tt.name, value, ok, elsewhere)
		}
	}
	if !m.HostNetwork() {
		t.Error("hostNetwork: yes is true to the kubelet")
	}
	if _, ok := m.Runs("etcd"); ok {
		t.Error("an init container counts as running etcd")
	}
}
