package manifests

import (
	"strings"
	"testing"
)

func TestTheProbesFollowAnAddress(t *testing.T) {
	text := `apiVersion: v1
kind: Pod
metadata: {name: kube-apiserver}
spec:
  containers:
  - name: kube-apiserver
    command: [kube-apiserver, --advertise-address=10.0.0.1]
    livenessProbe:
      httpGet:
        host: 10.0.0.1 # where it is asked
        path: /livez
    readinessProbe: {httpGet: {host: "10.0.0.1", path: /readyz}}
    startupProbe: {tcpSocket: {host: 10.0.0.1, port: 1}}
  - name: other
    livenessProbe: {httpGet: {host: 10.0.0.11}}
    startupProbe: {exec: {command: [true]}}
`
	m, err := parse(t, text).SetProbeHosts("10.0.0.1", "10.0.0.2")
	if err != nil {
		t.Fatal(err)
	}
	want := strings.ReplaceAll(text, "host: 10.0.0.1 #", `host: "10.0.0.2" #`)
	want = strings.ReplaceAll(want, `host: "10.0.0.1"`, `host: "10.0.0.2"`)
	want = strings.ReplaceAll(want, "host: 10.0.0.1, port", `host: "10.0.0.2", port`)
	if got := string(m.Bytes()); got != want {
		t.Errorf("it is\n%s", got)
	}
	if same, err := m.SetProbeHosts("10.0.0.1", "10.0.0.3"); err != nil || string(same.Bytes()) != want {
		t.Errorf("%v:\n%s", err, same.Bytes())
	}
	shared := strings.Replace(text, "livenessProbe:\n      httpGet:", "livenessProbe:\n      httpGet: &h", 1)
	if left, err := parse(t, shared).SetProbeHosts("10.0.0.1", "10.0.0.2"); err != nil ||
		!strings.Contains(string(left.Bytes()), "host: 10.0.0.1 #") {
		t.Errorf("what is shared: %v", err)
	}
}
