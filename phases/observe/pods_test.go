package observe

import (
	"context"
	"encoding/json"
	"strings"
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

// When etcd logs only warnings, a connection that it lost weeks ago may be there again since. By
// that date a person decides which member is dead.
func TestALogThatDoesNotSayWhatIsThereAgainTellsNoDate(t *testing.T) {
	at := time.Date(2026, 8, 21, 2, 0, 0, 0, time.UTC)
	line := func(ago time.Duration, level, text string) string {
		when := at.Add(-ago).Format(etcdsTime)
		return `{"level":"` + level + `","ts":"` + when + `",` + text + "}\n"
	}
	const peer = `"peer-id":"91bc3c398fb3c146"`
	lost := func(ago time.Duration) string {
		return line(ago, "warn", `"msg":"peer became inactive (message send to peer failed)",`+peer)
	}
	made := line(18*24*time.Hour, "info", `"msg":"peer became active",`+peer)
	compacted, slow := line(time.Minute, "info", `"msg":"finished"`), line(time.Minute, "warn", `"msg":"slow"`)
	const weeks = 20 * 24 * time.Hour
	for name, c := range map[string]struct {
		log  string
		want time.Duration // 0: nothing is said
	}{
		"lost, and not there again":        {lost(weeks) + compacted, weeks},
		"lost, while other things went on": {compacted + lost(weeks) + slow, weeks},
		"lost a moment ago":                {compacted + lost(time.Second), time.Second},
		"there again":                      {lost(weeks) + made + compacted, 0},
		"there again, and lost once more":  {lost(weeks) + made + lost(time.Hour) + compacted, time.Hour},
		"warnings only":                    {lost(weeks) + slow, 0},
		"a log that ended before":          {line(weeks, "info", `"msg":"x"`) + lost(weeks), 0},
		"a line that is being written":     {lost(time.Hour) + compacted + `{"level":"wa`, time.Hour},
		"nothing":                          {"", 0},
	} {
		got := lostIn(context.Background(), strings.NewReader(c.log), at)[0x91bc3c398fb3c146]
		if got.IsZero() != (c.want == 0) || c.want != 0 && !got.Equal(at.Add(-c.want)) {
			t.Errorf("%s: %v", name, got)
		}
	}
	for _, quoted := range []string{`{"log":"{\"level\":\"info\",\"ts\":\"x\"}\n"}`,
		"x F 2026\tinfo\tmvcc/index.go:214", `{"log":"2026\tinfo\tmvcc/index.go:214\n"}`,
		`x F {"level":"debug","ts":"x"}`} {
		worse := strings.NewReplacer("info", "warn", "debug", "error").Replace(quoted)
		if !wordy.MatchString(quoted) || wordy.MatchString(worse) {
			t.Errorf("%s: its level is not read", quoted)
		}
	}
	for flag, want := range map[string]bool{"": true, "log-level=info": true, "log-level=DEBUG": true,
		"log-level=warn": false, "log-level=error": false} {
		n, files := newNode(t, nil, "data-dir=/var/lib/etcd "+flag, "")
		pod, err := n.EtcdPod(files)
		if err != nil || logsMade(pod) != want {
			t.Errorf("%s: %v", flag, err)
		}
	}
}
