package backup

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// before are backups of cp1 when its etcd was in cluster 1, at revision 121 at last.
func before(t *testing.T, w *backupWorld) {
	t.Helper()
	for i, revision := range []int64{19, 121} {
		s := Sidecar{Node: "cp1", Revision: revision, ClusterID: "1", EtcdVersion: "3.6.5", SizeBytes: 4,
			TakenAt: time.Unix(1_600_000_000+int64(i), 0).UTC()}
		putBackup(t, w.Machine.Disk, DefaultDir+"/"+op.BackupName(s), s)
	}
}

const highest = DefaultDir + "/etcd-cp1-20200913T122641Z-r121.db"

// after is a backup that was taken later.
func after(t *testing.T, w *backupWorld, change func(*Sidecar)) {
	t.Helper()
	s := Sidecar{Node: "cp1", Revision: 10, ClusterID: "1", EtcdVersion: "3.6.5", SizeBytes: 4,
		TakenAt: time.Unix(1_700_000_000, 0).UTC()}
	change(&s)
	putBackup(t, w.Machine.Disk, DefaultDir+"/"+op.BackupName(s), s)
}

// ran is a completed run of this node that staged data of a cluster.
func ran(t *testing.T, w *backupWorld, workflow string, cluster uint64) {
	t.Helper()
	if err := begun(t, w, workflow, cluster).Append(journal.Record{Kind: journal.End}); err != nil {
		t.Fatal(err)
	}
}

// begun is such a run, still open.
func begun(t *testing.T, w *backupWorld, workflow string, cluster uint64) *journal.Journal {
	t.Helper()
	dir := journal.RunDir("20260101T000000Z-" + workflow + "-0001")
	receipt, err := json.Marshal(op.Staged{ClusterID: cluster})
	if err == nil {
		err = node.MkdirAll(w.Machine.Disk, dir, node.Mine(0o700))
	}
	if err == nil {
		err = w.Machine.Disk.Create(dir+"/staged.json", receipt, node.Mine(0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Create(w.Machine.Disk, node.WallClock(), dir, journal.Run{ID: "x", Workflow: workflow})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// An etcd that was emptied is red until a person says that it is meant to be so, however many
// backups were taken of it since.
func TestAnEtcdThatLostItsDataIsToldByTheBackupsFromBefore(t *testing.T) {
	behind := &op.Behind{Path: highest, Revision: 121, ClusterID: "1"}
	own := map[string]string{"/ca": "A"}
	for _, c := range []struct {
		name     string
		cluster  uint64
		revision int64
		prepare  func(*backupWorld)
		says     string // empty: nothing is wrong
	}{
		{"it is as it was", 1, 121, func(*backupWorld) {}, ""},
		{"it began anew", 1, 10, func(*backupWorld) {}, "etcd is at revision 10, but " + highest},
		{"it began anew, and a backup was taken since", 1, 22, func(w *backupWorld) {
			after(t, w, func(s *Sidecar) { s.Behind = behind })
		}, "etcd is at revision 22, but " + highest},
		{"it began anew, and has overtaken what it was", 1, 500, func(w *backupWorld) {
			after(t, w, func(s *Sidecar) { s.Behind = behind })
		}, "has lost data, or was put back, since " + highest},
		{"it began anew, and a person has moved away what was before", 1, 500, func(w *backupWorld) {
			after(t, w, func(s *Sidecar) { s.Behind = &op.Behind{Path: "/moved.db", Revision: 121} })
		}, ""},
		{"a backup of an old data directory was taken since", 1, 500, func(w *backupWorld) {
			after(t, w, func(s *Sidecar) { s.EtcdVersion, s.ClusterID = "", "7" })
		}, ""},
		{"it is another cluster", 2, 500, func(*backupWorld) {}, "is a member of cluster 2, but " + highest},
		{"a restore began that cluster", 2, 500, func(w *backupWorld) { ran(t, w, "restore", 2) }, ""},
		{"a restore began that cluster after it had lost data", 2, 500, func(w *backupWorld) {
			after(t, w, func(s *Sidecar) { s.Behind = behind })
			ran(t, w, "restore", 2)
		}, ""},
		{"a restore began another one, and then it lost its data", 2, 500, func(w *backupWorld) {
			ran(t, w, "restore", 3)
		}, "is a member of cluster 2"},
		{"a restore began that cluster, below what was before", 2, 50, func(w *backupWorld) {
			ran(t, w, "restore", 2)
		}, "etcd is at revision 50"},
		{"a restore that is open has begun that cluster", 2, 500, func(w *backupWorld) {
			begun(t, w, "restore", 2)
		}, ""},
		{"a restore has gone back", 2, 500, func(w *backupWorld) {
			if err := begun(t, w, "restore", 2).Append(journal.Record{Kind: journal.Abort, Error: "x"}); err != nil {
				t.Fatal(err)
			}
		}, "is a member of cluster 2"},
		{"nobody can read what a run did", 2, 500, func(w *backupWorld) {
			name := journal.RunDir("20260101T000000Z-restore-0002")
			if err := node.MkdirAll(w.Machine.Disk, name, node.Mine(0o700)); err != nil {
				t.Fatal(err)
			}
			if err := w.Machine.Disk.Create(name+"/journal", []byte("{x}\n{y}\n"), node.Mine(0o600)); err != nil {
				t.Fatal(err)
			}
		}, ""},
		{"data of another cluster was looked into, which has a higher revision", 1, 130, func(w *backupWorld) {
			after(t, w, func(s *Sidecar) {
				s.EtcdVersion, s.ClusterID, s.Revision, s.Fingerprints = "", "7", 900000, own
			})
		}, ""},
		{"its own data was backed up while it was stopped, and then it began anew", 1, 130, func(w *backupWorld) {
			after(t, w, func(s *Sidecar) { s.EtcdVersion, s.Revision, s.Fingerprints = "", 900, own })
		}, "etcd is at revision 130, but "},
		{"data of a cluster with the same peer URLs was looked into, whose files are others", 1, 130,
			func(w *backupWorld) {
				after(t, w, func(s *Sidecar) { s.EtcdVersion, s.Revision, s.Source = "", 900, "/mnt/old" })
			}, ""},
		{"an older version has backed up another etcd of this node", 1, 130, func(w *backupWorld) {
			after(t, w, func(s *Sidecar) {
				s.ClusterID, s.Revision, s.Fingerprints, s.Members = "7", 133, own, peerAt("https://10.0.0.1:2382")
			})
		}, ""},
		{"that one's backup is what an older version said to be lost", 1, 130, func(w *backupWorld) {
			var events string
			after(t, w, func(s *Sidecar) {
				s.ClusterID, s.Revision, s.Fingerprints, s.Members = "7", 133, own, peerAt("https://10.0.0.1:2382")
				events = DefaultDir + "/" + op.BackupName(*s)
			})
			after(t, w, func(s *Sidecar) {
				s.Fingerprints, s.Behind = own, &op.Behind{Path: events, Revision: 133, ClusterID: "7"}
			})
		}, ""},
		{"it began anew as another cluster, at the same URL", 2, 130, func(w *backupWorld) {
			after(t, w, func(s *Sidecar) {
				s.Revision, s.Fingerprints, s.Members = 125, own, peerAt("https://10.0.0.1:2380")
			})
		}, "is a member of cluster 2, but "},
		{"it began anew as another cluster, at another URL", 2, 130, func(w *backupWorld) {
			after(t, w, func(s *Sidecar) {
				s.Revision, s.Fingerprints, s.Members = 125, own, peerAt("https://10.0.0.9:2380")
				s.Source = "https://127.0.0.1:2379"
			})
		}, "is a member of cluster 2, but "},
		{"a renewal explains nothing", 2, 500, func(w *backupWorld) { ran(t, w, "renew", 2) }, "cluster 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newBackupWorld(t, backupCases()[0])
			before(t, w)
			c.prepare(w)
			f := backupFacts(t)
			f.Live = &observe.Live{ClusterID: c.cluster, Revision: c.revision, Version: "3.6.5",
				Members: peerAt("https://10.0.0.1:2380")}
			f.Fingerprints = own
			sign(t, w, highest, f.Fingerprints) // a restore keeps the CAs
			f.lookBack(t.Context(), w.Process.Look)
			plan, err := Workflow(Options{Dir: "/backups", Keep: 1}).Planned(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			said := slices.DeleteFunc(slices.Clone(plan.Phases[0].Findings), func(f engine.Finding) bool {
				return f.Code != finding.EtcdFellBack
			})
			if len(said) > 0 != (c.says != "") || len(said) > 0 && !strings.Contains(said[0].Text, c.says) {
				t.Errorf("%v", said)
			}
			if (f.Backup.Behind != nil) != (c.says != "") {
				t.Errorf("%+v", f.Backup.Behind)
			}
		})
	}
}

// peerAt is a cluster of one member.
func peerAt(url string) []observe.Member {
	return []observe.Member{{ID: 1, Name: "cp1", PeerURLs: []string{url}}}
}

// sign puts fingerprints into a sidecar.
func sign(t *testing.T, w *backupWorld, file string, prints map[string]string) {
	t.Helper()
	s, _, err := op.ReadSidecar(w.Machine.Disk, op.SidecarOf(file))
	if err != nil {
		t.Fatal(err)
	}
	s.Fingerprints = prints
	if err := w.Machine.Disk.Remove(op.SidecarOf(file)); err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(s)
	if err == nil {
		err = w.Machine.Disk.Create(op.SidecarOf(file), body, node.Mine(0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// The backup of an etcd that lost its data is made and kept, says so in its sidecar and in its
// result, and deletes nothing, whatever it was told to keep.
func TestTheBackupOfAnEtcdThatLostItsDataDeletesNothing(t *testing.T) {
	w := newBackupWorld(t, backupCase{options: Options{Dir: "/backups", Keep: 1}})
	behind := op.Behind{Path: "/mnt/r121.db", Revision: 121, ClusterID: "1"}
	flow := w.workflow(w.options)
	look := flow.Observe
	flow.Observe = func(ctx context.Context, n *observe.Node, id string) (*Facts, error) {
		f, err := look(ctx, n, id)
		if err == nil {
			f.Backup.Behind = &behind
		}
		return f, err
	}
	made, err := Take(t.Context(), w.Process.Node, flow.On(w.Process.Look), func(engine.Plan) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	grave := made.Grave()
	if len(grave) != 1 || grave[0].Code != finding.EtcdFellBack || grave[0].Subject != behind.Path {
		t.Errorf("%+v", made.Findings)
	}
	s, _, err := op.ReadSidecar(w.Machine.Disk, op.SidecarOf(made.Path))
	if err != nil || s.Behind == nil || *s.Behind != behind {
		t.Errorf("the sidecar: %+v, %v", s.Behind, err)
	}
	if whole, err := w.backups(); err != nil || whole != 4 {
		t.Errorf("%d backups are left, not 4: %v", whole, err)
	}
}

// What a member held before it went wrong may be all that is right: nothing of it is deleted,
// however many backups are taken of it since.
func TestTheBackupOfAMemberThatMayBeWrongDeletesNothing(t *testing.T) {
	differs := &observe.Agreement{Differ: []string{"cp1"}, Own: true}
	for _, c := range []struct {
		name      string
		agreement *observe.Agreement
		alarms    []string
		grave     finding.Code // empty: nothing is
		left      int
	}{
		{"it holds what the others do", &observe.Agreement{}, nil, "", 1},
		{"it does not", differs, nil, finding.MembersDiffer, 4},
		{"another one does not", &observe.Agreement{Differ: []string{"cp3"}}, nil, finding.MembersDiffer, 1},
		{"etcd says so itself, and nobody has compared them", nil, []string{"CORRUPT of member 1"}, finding.EtcdAlarm,
			4},
		{"etcd does not know which one it is", nil, []string{"CORRUPT of member 0"}, finding.EtcdAlarm, 4},
		{"etcd says so of another one", nil, []string{"CORRUPT of member 31"}, finding.EtcdAlarm, 1},
		{"it is only full", nil, []string{"NOSPACE of member 1"}, "", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newBackupWorld(t, backupCase{options: Options{Dir: "/backups", Keep: 1}})
			flow := w.workflow(w.options)
			look := flow.Observe
			flow.Observe = func(ctx context.Context, n *observe.Node, id string) (*Facts, error) {
				f, err := look(ctx, n, id)
				if err == nil {
					f.Live = &observe.Live{MemberID: 1, Alarms: c.alarms}
					f.Agreement = c.agreement
				}
				return f, err
			}
			made, err := Take(t.Context(), w.Process.Node, flow.On(w.Process.Look),
				func(engine.Plan) error { return nil })
			if err != nil {
				t.Fatal(err)
			}
			grave := made.Grave()
			if len(grave) > 0 != (c.grave != "") || len(grave) > 0 && grave[0].Code != c.grave {
				t.Errorf("%+v", made.Findings)
			}
			if whole, err := w.backups(); err != nil || whole != c.left {
				t.Errorf("%d backups are left, not %d: %v", whole, c.left, err)
			}
		})
	}
}
