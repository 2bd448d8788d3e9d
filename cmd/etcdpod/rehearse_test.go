package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/rehearse"
)

func TestARehearsalReadsWell(t *testing.T) {
	ca := strings.Repeat("0123456789abcdef", 4)
	good := rehearse.Report{Path: "/var/lib/etcdpod/backups/etcd-cp1-20260801T020000Z-r81234.db", Outcome: rehearse.OK,
		TakenAt: day(-1), SizeBytes: 40 << 20, Revision: 81234, Keys: 5120,
		Resources: map[string]int64{"pods": 310, "secrets": 12},
		Etcd:      &rehearse.Etcd{From: "node", Version: "3.6.5", DataVersion: "3.6.5", NoNetwork: true},
		Encrypted: []rehearse.Encrypted{{Resource: "secrets", Provider: "k8s:enc:aescbc:v1:key1:", Objects: 12,
			Readable: "yes"}},
		Needs: rehearse.Needs{Checked: true, Members: []rehearse.Need{{Name: "cp1", Here: true}, {Name: "cp2"}, {}},
			Nodes: []string{"cp1", "worker"}, CAs: []rehearse.Need{{Name: ca, Here: true}},
			TokenKeys: []rehearse.Need{{Name: ca[1:] + "_"}},
			Files:     []rehearse.Need{{Name: "/pki/ca.crt", Here: true}}},
		Previous:     &rehearse.Previous{At: day(-8), Path: "/old.db", Revision: 80000, Keys: 5100},
		StageSeconds: 1.4, LoadSeconds: 1, RestoreSeconds: 2.4}
	found := rehearse.Report{Path: "/one.db", Outcome: rehearse.Found, SizeBytes: 9, RestoreSeconds: 1,
		Etcd: &rehearse.Etcd{From: "built-in", Version: "3.7.3"}, Needs: rehearse.Needs{
			Nodes: strings.Fields(strings.Repeat("a ", 30)), Members: []rehearse.Need{{Name: "cp1"}}},
		Findings: []engine.Finding{{Code: "rehearsal-shrunk", Severity: "warning", Text: "at most half is left"},
			{Code: "rehearsal-other-etcd", Severity: "info", Text: "the data is of etcd 3.6.0"}}}
	for name, r := range map[string]*rehearse.Report{"rehearsal": &good, "rehearsal-found": &found} {
		b := page{width: 100}
		writeRehearsal(&b, r, now)
		golden(t, filepath.Join("testdata", "text-"+name+".golden"), b.String())
	}
}

func TestASizeIsReadAndWrittenWithItsUnit(t *testing.T) {
	for text, want := range map[string]int64{"1GiB": 1 << 30, "512MiB": 512 << 20, "1.5GiB": 3 << 29,
		"64KiB": 64 << 10} {
		var v size
		if err := v.Set(text); err != nil || int64(v) != want {
			t.Errorf("%s is %d, %v", text, v, err)
		}
		again := size(0)
		if err := again.Set(v.String()); err != nil || again != v {
			t.Errorf("%s is written as %s", text, v.String())
		}
	}
	for _, text := range []string{"", "1", "GiB", "-1GiB", "0MiB", "1TB", "NaNGiB", "InfGiB", "99999999999999GiB"} {
		var v size
		if err := v.Set(text); err == nil {
			t.Errorf("%q is %d", text, v)
		}
	}
}

func TestWhatWasRehearsedIsInTheStatus(t *testing.T) {
	for outcome, want := range map[rehearse.Outcome]string{
		rehearse.OK: "takes about 2.4s", rehearse.Failed: "it failed", rehearse.Bad: "it failed",
		rehearse.Found: "something was found; a restore takes about 2.4s",
	} {
		b := rehearse.Brief{At: day(-2), Path: "/b.db", Outcome: outcome, RestoreSeconds: 2.4}
		if text := rehearsedText(&b, now); !strings.Contains(text, want) || !strings.Contains(text, "48 h ago") &&
			!strings.Contains(text, "2 days ago") {
			t.Errorf("%s: %q", outcome, text)
		}
	}
}
