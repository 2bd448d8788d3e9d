package manifests

import (
	"testing"
	"time"
)

func TestWhatAPodNeedsToStart(t *testing.T) {
	m := parse(t, `apiVersion: v1
kind: Pod
metadata: {name: etcd}
spec:
  initContainers:
  - {name: first, image: busybox}
  containers:
  - name: etcd
    image: registry.example:5000/etcd@sha256:abc
    startupProbe: {initialDelaySeconds: 10, periodSeconds: 5, failureThreshold: 24}
    livenessProbe: {initialDelaySeconds: 1}
  - {name: a, image: "x:1", imagePullPolicy: Never, livenessProbe: {initialDelaySeconds: 5, failureThreshold: 8}}
  - {name: b, image: registry.example:5000/b}
  - {name: c, image: "c:latest"}
`)
	want := []ImageOf{
		{Container: "first", Image: "busybox", Pull: "Always"},
		{Container: "etcd", Image: "registry.example:5000/etcd@sha256:abc", Pull: "IfNotPresent"},
		{Container: "a", Image: "x:1", Pull: "Never"},
		{Container: "b", Image: "registry.example:5000/b", Pull: "Always"},
		{Container: "c", Image: "c:latest", Pull: "Always"},
	}
	got := m.Images()
	for i, w := range want {
		if len(got) != len(want) || got[i] != w {
			t.Fatalf("got %+v", got)
		}
	}
	for container, want := range map[string]struct {
		limit time.Duration
		probe string
	}{
		"etcd": {130 * time.Second, "startupProbe"}, "a": {85 * time.Second, "livenessProbe"}, "b": {}, "none": {},
	} {
		if limit, probe := m.StartLimit(container); limit != want.limit || probe != want.probe {
			t.Errorf("%s: %v by %q", container, limit, probe)
		}
	}
}
