package status

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// An etcd whose member was removed would exit at once, again and again.
func TestTheManifestOfARemovedMemberIsNotToBePutBack(t *testing.T) {
	for name, c := range map[string]struct {
		later    func(*testing.T, *crashtest.Node)
		departed bool
	}{
		"a finished removal":                     {func(*testing.T, *crashtest.Node) {}, true},
		"a later run has worked on its manifest": {func(t *testing.T, w *crashtest.Node) { joined(t, w) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := crashtest.Alone(t, crashtest.Shape{}.Machine(t))
			run := w.Removed()
			c.later(t, w)
			st, err := Of(t.Context(), w.Process.Look, Options{MaxBackupAge: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			var codes []finding.Code
			for _, f := range st.Findings {
				codes = append(codes, f.Code)
			}
			if slices.Contains(codes, finding.EtcdDeparted) != c.departed ||
				slices.Contains(codes, finding.EtcdManifestMissing) == c.departed {
				t.Errorf("it finds %q", st.Warnings)
			}
			if slices.Contains(codes, finding.BackupMissing) == c.departed || st.WithoutEtcd() != c.departed {
				t.Errorf("without etcd: %v; it finds %q", st.WithoutEtcd(), codes)
			}
			all := strings.Join(st.Warnings, "\n")
			if c.departed && (!strings.Contains(all, run) || !strings.Contains(st.Next, "kubeadm reset") ||
				!strings.Contains(st.Next, "move away what is in /var/lib/etcd") || strings.Contains(st.Next, "put ")) {
				t.Errorf("it says %q, and next %q", st.Warnings, st.Next)
			}
		})
	}
}

// joined leaves a finished run that has put etcd's manifest back, which was taken away later.
func joined(t *testing.T, w *crashtest.Node) {
	t.Helper()
	const id = "20231115T221320Z-join-0002"
	host := w.Machine.Host()
	make := &op.MakeDirectory{Path: crashtest.TestManifestDir + "/etcd.yaml"}
	body, err := op.Encode(make)
	if err == nil {
		err = node.MkdirAll(host.FS, journal.RunDir(id), node.Mine(0o700))
	}
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Create(host.FS, host.Clock, journal.RunDir(id), journal.Run{ID: id, Workflow: "join",
		Node: w.Name, Plan: []journal.Step{{Phase: "x", Kind: op.Kind(make), Op: body}}})
	for _, r := range []journal.Record{{Kind: journal.Start, Op: body}, {Kind: journal.Finish}, {Kind: journal.End}} {
		if err == nil {
			err = j.Append(r)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}
