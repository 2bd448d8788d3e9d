package observe

import (
	"encoding/json"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

func TestWhatTheAPIServerStoredIsReadInBothForms(t *testing.T) {
	pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "etcd-cp1"}, Spec: corev1.PodSpec{NodeName: "cp1"}}
	raw, err := pod.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	whole, err := (&runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: "v1", Kind: "Pod"}, Raw: raw}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	for name, stored := range map[string][]byte{"protobuf": append([]byte("k8s\x00"), whole...), "JSON": asJSON} {
		var read corev1.Pod
		if err := decodeStored(stored, &read); err != nil || read.Name != "etcd-cp1" || read.Spec.NodeName != "cp1" {
			t.Errorf("%s: %v, %+v", name, err, read)
		}
	}
	for _, unreadable := range []string{"", "k8s:enc:aescbc:v1:key1:\x01\x02", "k8s\x00\xff\xff", "text"} {
		if err := decodeStored([]byte(unreadable), &corev1.Pod{}); err == nil {
			t.Errorf("%q was read", unreadable)
		}
	}
}

func TestTheLogTellsWhenAPeerWasLost(t *testing.T) {
	const lost = `"msg":"peer became inactive (message send to peer failed)","peer-id":"91bc3c398fb3c146","error":"x"}`
	const made = `"msg":"peer became active","peer-id":"91bc3c398fb3c146"}`
	for line, want := range map[string]bool{
		`2026-08-01T02:00:00.123456789Z stderr F {"level":"warn","ts":"2026-08-01T04:00:00.1+0200",` + lost: true,
		`2026-08-01T02:00:00.123456789Z stderr F {"level":"info",` + made:                                   false,
		`{"level":"warn","ts":"2026-08-01T04:00:00.123456+0200","caller":"peer_status.go:66",` + lost:       true,
		`{"level":"info","ts":"2026-08-01T02:00:00.123456Z",` + made:                                        false,
		`{"log":"{\"level\":\"warn\",\"msg\":\"peer became inactive (message send to peer failed)\",` +
			`\"peer-id\":\"91bc3c398fb3c146\"}\n","stream":"stderr","time":"2026-08-01T02:00:00.1234Z"}`: true,
		"2026-08-01T02:00:00Z stderr F 2026-08-01T04:00:00.1+0200\twarn\trafthttp/peer_status.go:66\t" +
			"peer became inactive (message send to peer failed)\t" + `{"peer-id": "91bc3c398fb3c146"}`: true,
	} {
		id, at, gone := peerTurn(line)
		if id != 0x91bc3c398fb3c146 || gone != want || !at.Truncate(time.Second).Equal(
			time.Date(2026, 8, 1, 2, 0, 0, 0, time.UTC)) {
			t.Errorf("%s: %x, %v, %v", line, id, at, gone)
		}
	}
	for _, line := range []string{"", "x peer became tired", `{"msg":"peer became active"}`, `{` + made,
		`{"ts":"yesterday",` + lost} {
		if id, _, _ := peerTurn(line); id != 0 {
			t.Errorf("%q tells something", line)
		}
	}
}
