package status

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/backup"
	"github.com/etcdpod/etcdpod/phases/certs"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/bind"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// healthy is what is seen of a healthy node, for a table's rows to change.
func healthy(t *testing.T) seen {
	t.Helper()
	f := crashtest.SeenFacts(t, "r1")
	f.Now, f.KubeletActive = time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC), true
	f.Live = &observe.Live{MemberID: 7, Leader: 7, Version: "3.6.5", SizeBytes: 100 << 20,
		InUseBytes: 50 << 20, QuotaBytes: 2 << 30, Members: []observe.Member{{ID: 7, Name: "cp1"}}}
	for _, m := range f.Manifests {
		f.Containers = append(f.Containers, node.Container{Name: m.Manifest.Name(),
			Pod: m.Manifest.Name() + "-cp1", Namespace: "kube-system", State: "running"})
	}
	return seen{
		facts: *f, quota: 2 << 30, maxAge: 24 * time.Hour, certs: []certs.Status{
			{Path: "/pki/server.crt", NotAfter: f.Now.AddDate(0, 6, 0), DaysLeft: 180},
		},
		backups: []backup.Entry{
			{Sidecar: backup.Sidecar{Path: "/b/new.db", TakenAt: f.Now.Add(-time.Hour)}, Whole: true},
			{Sidecar: backup.Sidecar{Path: "/b/old.db", TakenAt: f.Now.Add(-50 * time.Hour)}, Whole: true},
		},
	}
}

// lacks takes certificates away, the first of which etcd is reached with.
func lacks(s *seen, files ...string) {
	s.facts.Live, s.facts.LiveError = nil, fmt.Errorf("cannot query etcd: %w",
		&fs.PathError{Op: "cannot read", Path: files[0], Err: fs.ErrNotExist})
	s.facts.Obstacles = []observe.Obstacle{{Manifests: []string{"/m/etcd.yaml"}, What: "all of it", Fix: "put it back"}}
	for _, file := range files {
		s.certs = append(s.certs, certs.StatusOf(file, nil, fs.ErrNotExist, s.facts.Now))
	}
}

// usesEtcdsAt has the API server use these etcds.
func usesEtcdsAt(t *testing.T, s *seen, urls string) {
	t.Helper()
	for i, m := range s.facts.Manifests {
		if m.Manifest.Name() != "kube-apiserver" {
			continue
		}
		changed, err := m.Manifest.SetFlag("kube-apiserver", "etcd-servers", urls)
		if err != nil {
			t.Fatal(err)
		}
		s.facts.Manifests[i].Manifest = changed
	}
}

func TestStatusSaysWhatIsWrongAndWhatToDo(t *testing.T) {
	cases := []struct {
		name     string
		change   func(*seen)
		warnings []string // a part of each
		next     string   // a part
	}{
		{"all is well", func(*seen) {}, nil, "nothing"},
		{"a run is open", func(s *seen) { s.open = engine.RunSummary{ID: "r1", State: "open", Phase: "fence"} },
			[]string{"r1"}, "etcdpod resume"},
		{"a run is past its commit point", func(s *seen) {
			s.open = engine.RunSummary{ID: "r1", State: "open", Committed: true}
		}, []string{"r1"}, "cannot be rolled back"},
		{"a run goes back", func(s *seen) { s.open = engine.RunSummary{ID: "r1", State: "open", Aborted: true} },
			[]string{"r1"}, "etcdpod rollback"},
		{"a run cannot be read", func(s *seen) {
			s.open = engine.RunSummary{ID: "r1", State: "damaged", Error: "bad line", Path: "/runs/r1"}
		}, []string{"bad line"}, "/runs/r1"},
		{"the kubelet is stopped", func(s *seen) { s.facts.KubeletActive = false },
			[]string{"kubelet is not running"}, "start the kubelet"},
		{"the kubelet cannot be asked", func(s *seen) {
			s.facts.KubeletActive, s.facts.KubeletError = false, errors.New("no systemd")
		}, []string{"no systemd"}, "see the warnings"},
		{"the runtime cannot be asked", func(s *seen) {
			s.facts.Containers, s.facts.RuntimeError = nil, errors.New("no socket")
		}, []string{"no socket"}, "see the warnings"},
		{"no manifest runs etcd", func(s *seen) { s.facts.Etcd, s.facts.Live = nil, nil },
			[]string{"no manifest in"}, "put etcd's manifest"},
		{"the API server uses etcds on other machines", func(s *seen) {
			s.facts.Etcd, s.facts.Live = nil, nil
			usesEtcdsAt(t, s, "https://etcd1:2379,https://etcd2:2379")
		}, nil, NothingToDo},
		{"a run has removed the member of this node", func(s *seen) {
			s.facts.Etcd, s.facts.Live = nil, nil
			s.departed, s.beside = &observe.Departure{Run: "r9", Data: "/var/lib/etcd"}, "https://127.0.0.1:2379"
		}, []string{"no etcd runs on this node any more: its member was removed from the cluster by run r9"},
			"run `kubeadm reset` here; or, to bring it back as a new member, move away what is in " +
				"/var/lib/etcd; then run `etcdpod join` here"},
		{"what runs etcd here is not known", func(s *seen) {
			s.facts.Etcd, s.facts.Live = nil, nil
			s.trace, s.beside = "the API server uses https://127.0.0.1:2379", "https://127.0.0.1:2379"
		}, []string{"no manifest in"}, "find out what runs the etcd at https://127.0.0.1:2379"},
		{"two manifests run etcd", func(s *seen) {
			s.facts.EtcdError = engine.Refuse("the kubelet "+
				"runs every file in that directory, whatever its name: move one of "+
				"them out", "two manifests run etcd: a and b")
		}, []string{"two manifests"}, "the kubelet runs every file in that directory, whatever its name: move one of " +
			"them out"},
		{"etcd is down, with a backup", func(s *seen) {
			s.facts.Live, s.facts.LiveError = nil, errors.New("connection refused")
		}, []string{"connection refused"}, "etcdpod restore /b/new.db --dry-run"},
		{"etcd is down, and the newest backup is odd", func(s *seen) {
			s.facts.Live, s.facts.LiveError, s.backups[0].Whole = nil, errors.New("connection refused"), false
		}, []string{"connection refused", "50 hours old"}, "etcdpod restore /b/old.db --dry-run"},
		{"the newest backup is dated in the future", func(s *seen) {
			s.backups[0].TakenAt = s.facts.Now.AddDate(70, 0, 0)
		}, []string{"50 hours old"}, "etcdpod backup"},
		{"all backups are dated in the future", func(s *seen) {
			s.backups = s.backups[:1]
			s.backups[0].TakenAt = s.facts.Now.AddDate(70, 0, 0)
		}, []string{"is not known: /b/new.db is dated in the future"}, "etcdpod backup"},
		{"others may have written the newest backup", func(s *seen) {
			s.backups[0].Code, s.backups[0].Revision = finding.BackupForeign, 1<<50
		}, []string{"50 hours old"}, "etcdpod backup"},
		{"others may have written all backups", func(s *seen) {
			s.backups = s.backups[:1]
			s.backups[0].Code, s.backups[0].Note = finding.BackupForeign, "others may have written it"
		}, []string{"counts: /b/new.db: others may have written it"}, "etcdpod backup"},
		{"etcd is down, without a backup", func(s *seen) {
			s.facts.Live, s.facts.LiveError, s.backups = nil, errors.New("connection refused"), nil
		}, []string{"connection refused", "no backup"}, "etcdpod backup --from-data-dir /var/lib/etcd"},
		{"etcd does not answer, and runs, without a backup", func(s *seen) {
			s.facts.Live, s.facts.LiveError, s.facts.DataInUse, s.backups = nil, errors.New("no answer"), true, nil
		}, []string{"no answer", "no backup"}, "an etcd is using /var/lib/etcd but does not answer"},
		{"etcd is down, and a kubeconfig has expired", func(s *seen) {
			s.facts.Live, s.facts.LiveError = nil, errors.New("connection refused")
			s.certs = append(s.certs, certs.Status{Path: "/etc/kubernetes/admin.conf", DaysLeft: -1,
				Problem: "it expired", NotAfter: s.facts.Now})
		}, []string{"connection refused", "admin.conf: it expired"}, "etcdpod restore /b/new.db --dry-run"},
		{"no kubeconfig is accepted", func(s *seen) {
			s.denied = &op.DeniedError{Status: 401, Kubeconfigs: []string{"/etc/kubernetes/admin.conf"}, Text: "no"}
		}, []string{"does not accept /etc/kubernetes/admin.conf (401)"}, "see the warnings"},
		{"etcd is down, and its certificate has expired", func(s *seen) {
			s.facts.Live, s.facts.LiveError = nil, errors.New("bad certificate")
			s.certs[0].DaysLeft, s.certs[0].Problem = -1, "it expired"
		}, []string{"bad certificate", "it expired"}, "renew the certificates"},
		{"no quorum", func(s *seen) { s.facts.LiveError, s.facts.Live.Leader = errors.New("timed out"), 0 },
			[]string{"no quorum: it has no leader, although something answers"}, "see the warnings"},
		{"no quorum, since members do not answer", func(s *seen) {
			s.facts.LiveError, s.facts.Live.Leader = errors.New("timed out"), 0
			s.silent = []observe.Member{{ID: 8, Name: "cp2", PeerURLs: []string{"https://cp2:2380"}},
				{ID: 9, Name: "cp3", PeerURLs: []string{"https://cp3:2380"}}}
			s.facts.Live.Members = append(s.facts.Live.Members, s.silent...)
		}, []string{"no quorum and serves nobody: of its 3 members, these do not answer: cp2 (https://cp2:2380), " +
			"cp3 (https://cp3:2380)"},
			"start one of cp2, cp3: etcd then serves again, and nothing is lost; only if their disks are destroyed, " +
				"run `etcdpod backup`, then `etcdpod restore --dry-run --nodes cp1 --lost cp2,cp3 FILE` with its " +
				"FILE: /usr/share/doc/etcdpod/docs/runbooks/quorum-lost.md"},
		{"no quorum, since a member was added that never started", func(s *seen) {
			s.facts.LiveError, s.facts.Live.Leader = errors.New("timed out"), 0
			s.facts.Live.Members = append(s.facts.Live.Members,
				observe.Member{ID: 0xabc, PeerURLs: []string{"https://cp2:2380"}})
		}, []string{"of its 2 members, these have never started: abc", "without a quorum etcd does not carry that out"},
			"start abc (https://cp2:2380): etcd then serves again, and nothing is lost; if that " +
				"cannot be done, run `etcdpod backup`, then `etcdpod restore --dry-run --nodes cp1 --lost abc FILE`"},
		{"a run has stopped everything", func(s *seen) {
			s.open = engine.RunSummary{ID: "r1", State: "open", Phase: "exchange-data"}
			s.facts.Etcd, s.facts.Live, s.facts.LiveError = nil, nil, errors.New("connection refused")
			s.facts.KubeletActive, s.facts.Containers = false, nil
			s.silent = []observe.Member{{ID: 8, Name: "cp2", PeerURLs: []string{"https://cp2:2380"}}}
		}, []string{"r1"}, "etcdpod resume"},
		{"a run that cannot be read explains nothing", func(s *seen) {
			s.open = engine.RunSummary{ID: "r1", State: "damaged", Error: "bad line", Path: "/runs/r1"}
			s.facts.KubeletActive = false
		}, []string{"bad line", "kubelet is not running"}, "/runs/r1"},
		{"a member elsewhere does not answer", func(s *seen) {
			s.silent = []observe.Member{{ID: 8, Name: "cp2", PeerURLs: []string{"https://cp2:2380"}}}
		}, []string{"member cp2 does not answer at https://cp2:2380"},
			"start what does not answer: cp2; run `etcdpod status` there for " +
				"details; if it is gone for good, run `etcdpod remove cp2`, then join another node: " +
				"/usr/share/doc/etcdpod/docs/runbooks/one-node-lost.md"},
		{"plain HTTP", func(s *seen) { s.facts.Etcd.Access = op.Access{Endpoints: []string{"http://127.0.0.1:2379"}} },
			[]string{"plain HTTP"}, "see the warnings"},
		{"plain HTTP at one of two", func(s *seen) {
			s.listeners = []listener{{url: "https://127.0.0.1:2379"}, {url: "http://10.0.0.11:2379", open: true}}
		}, []string{"etcd answers over plain HTTP at http://10.0.0.11:2379"}, "see the warnings"},
		{"a stranger is answered", func(s *seen) {
			s.listeners = []listener{{url: "https://127.0.0.1:2379", open: true}}
		}, []string{"etcd answers at https://127.0.0.1:2379 without requiring a client certificate"}, "see the " +
			"warnings"},
		{"a stranger is refused", func(s *seen) { s.listeners = []listener{{url: "https://127.0.0.1:2379"}} },
			nil, "nothing"},
		{"an alarm", func(s *seen) { s.facts.Live.Alarms = []string{"NOSPACE of member 7"} },
			[]string{"NOSPACE"}, "run `etcdpod defrag`"},
		{"another alarm", func(s *seen) { s.facts.Live.Alarms = []string{"CORRUPT of member 7"} },
			[]string{"CORRUPT"}, "run `etcdpod backup` on each member"},
		{"the quota is nearly used up", func(s *seen) {
			s.facts.Live.InUseBytes, s.facts.Live.SizeBytes = 1700<<20, 1800<<20
		}, []string{"83% of its quota"}, "see the warnings"},
		{"the file is nearly at the quota, with little in use",
			func(s *seen) { s.facts.Live.SizeBytes = 1800 << 20 }, []string{"etcdpod defrag"}, "see the warnings"},
		{"an etcd that does not tell its quota", func(s *seen) { s.facts.Live.QuotaBytes, s.quota = 0, 110<<20 },
			[]string{"90% of its quota of 110.0 MiB"}, "see the warnings"},
		{"an API server that nothing removes", func(s *seen) {
			s.facts.Live.DeadAPIServers = []observe.DeadAPIServer{{Address: "10.9.8.7"}}
		}, []string{"without a lease, so nothing removes it: the Service kubernetes sends clients there. If no API " +
			"server runs there, remove it with `etcdctl del /registry/masterleases/10.9.8.7`"}, "see the warnings"},
		{"an API server that something removes too late", func(s *seen) {
			s.facts.Live.DeadAPIServers = []observe.DeadAPIServer{{Address: "10.9.8.6", For: time.Hour}}
		}, []string{"with a lease of 1h0m0s, longer than any API server uses"}, "see the warnings"},
		{"a CA file that etcd has not read", func(s *seen) {
			s.unread = []unreadCA{{"/etc/kubernetes/pki/etcd/ca.crt", "etcd"}}
		}, []string{"/etc/kubernetes/pki/etcd/ca.crt was last modified after etcd started, which reads it only then"},
			"see the warnings"},
		{"a member that holds something else", func(s *seen) {
			s.agreement = &observe.Agreement{Differ: []string{"cp2"}, Unasked: []string{"cp3: a learner"}}
		}, []string{"cp2 differ from the others"}, "run `etcdpod backup` on each member before anything else"},
		{"members that were not compared", func(s *seen) { s.agreement = &observe.Agreement{TooLarge: "2000 MiB"} },
			[]string{"could not check whether all members hold the same data: 2000 MiB"}, "see the warnings"},
		{"no backup", func(s *seen) { s.backups = nil }, []string{"no backup"}, "etcdpod backup"},
		{"an old backup", func(s *seen) { s.backups = s.backups[1:] }, []string{"50 hours old"}, "etcdpod backup"},
		{"a backup that is older than it may be, and not by hours", func(s *seen) {
			s.backups[0].TakenAt, s.maxAge = s.facts.Now.Add(-90*time.Minute), time.Hour
		}, []string{"90 min old"}, "etcdpod backup"},
		{"an old backup that is young enough", func(s *seen) {
			s.backups, s.maxAge = s.backups[1:], 51*time.Hour
		}, nil, "nothing"},
		{"no backup is meant to be taken here", func(s *seen) { s.backups, s.maxAge = nil, 0 }, nil, "nothing"},
		{"none is meant to be taken here, and none can be listed", func(s *seen) {
			s.backups, s.backupErr, s.maxAge = nil, errors.New("no such directory"), 0
		}, nil, "nothing"},
		{"none is meant to be taken here, and etcd fell back below one", func(s *seen) {
			s.maxAge, s.behind = 0, &backup.Held{Path: "/b/old.db", Revision: 1000}
		}, []string{"at revision 1000"}, "if data was lost, see what restoring that backup would do: run `etcdpod " +
			"restore /b/old.db"},
		{"etcd fell back below a backup, and the directory of backups cannot be read", func(s *seen) {
			s.backups, s.backupErr, s.backupDir = nil, errors.New("cannot read /nfs"), "/nfs"
			s.behind = &backup.Held{Path: "/b/old.db", Revision: 1000}
		}, []string{"at revision 1000", "cannot read /nfs"}, "restore /b/old.db"},
		{"etcd fell back below a backup, which is old", func(s *seen) {
			s.backups, s.behind = s.backups[1:], &backup.Held{Path: "/b/old.db", Revision: 1000}
		}, []string{"at revision 1000", "is 50 hours old"}, "restore /b/old.db"},
		{"etcd is down, and had lost its data before", func(s *seen) {
			s.facts.Live, s.facts.LiveError = nil, errors.New("connection refused")
			s.backups[0].Behind = &backup.Held{Path: "/b/old.db", Revision: 1000}
		}, []string{"connection refused"}, "etcdpod restore /b/old.db --dry-run"},
		{"a certificate that expires soon", func(s *seen) {
			s.certs[0].DaysLeft, s.certs[0].Problem = 10, "it expires in 10 days"
		}, []string{"10 days"}, "renew the certificates"},
		{"a CA and what it signed expire soon", func(s *seen) {
			s.certs[0].DaysLeft, s.certs[0].Problem = 10, "it expires in 10 days"
			s.certs = append(s.certs, ending(t, s.facts.Now, 10))
		}, []string{"server.crt: it expires", "ca.crt: it expires"}, "a new CA is needed"},
		{"a CA expires soon, and what it signed has expired", func(s *seen) {
			s.certs[0].DaysLeft, s.certs[0].Problem = -1, "it expired"
			s.certs = append(s.certs, ending(t, s.facts.Now, 10))
		}, []string{"server.crt: it expired", "ca.crt: it expires"}, "renew the certificates"},
		{"a CA and what it signed have expired", func(s *seen) {
			s.facts.Live, s.facts.LiveError = nil, errors.New("bad certificate")
			s.certs[0].DaysLeft, s.certs[0].Problem, s.certs[0].Code = -1, "it expired", finding.CertificateExpired
			s.certs = append(s.certs, ending(t, s.facts.Now, -1))
		}, []string{"bad certificate", "server.crt: it expired", "ca.crt: it expired"}, "a new CA is needed"},
		{"the API server has no container", func(s *seen) { s.facts.Containers = s.facts.Containers[:1] },
			[]string{"kube-apiserver of", "kube-controller-manager of", "kube-scheduler of"}, "see the warnings"},
		{"a container has exited", func(s *seen) {
			s.facts.Containers[1].State = "exited"
			s.facts.Containers[1].Attempt = 4
		}, []string{"its container has exited after 4 restarts"}, "see the warnings"},
		{"a container has exited once", func(s *seen) {
			s.facts.Containers[1].State, s.facts.Containers[1].Attempt = "exited", 1
		}, []string{"its container has exited after 1 restart"}, "see the warnings"},
		{"an image is gone", func(s *seen) {
			s.facts.Obstacles = []observe.Obstacle{
				{What: "the image x is not on this node", Fix: "pull it: `crictl pull x`"}}
		}, []string{"the image x is not on this node"}, "crictl pull x"},
		{"certificates of etcd are missing, each of which is said once", func(s *seen) {
			lacks(s, "/pki/ca.crt", "/pki/server.crt")
			s.facts.Obstacles[0].Missing = []string{"/pki/server.crt", "/pki/ca.crt"}
		}, []string{"certificate /pki/ca.crt: it is missing", "certificate /pki/server.crt: it is missing"},
			"put it back"},
		{"a certificate of etcd and a key are missing", func(s *seen) {
			lacks(s, "/pki/ca.crt")
			s.facts.Obstacles[0].Missing = []string{"/pki/ca.crt", "/pki/server.key"}
		}, []string{"/m/etcd.yaml needs files that do not exist: /pki/server.key",
			"certificate /pki/ca.crt: it is missing"}, "put it back"},
		{"a key is missing, without which etcd cannot be asked", func(s *seen) {
			lacks(s, "/pki/ca.crt")
			s.certs, s.facts.Obstacles = s.certs[:1], nil
		}, []string{"cannot read /pki/ca.crt"}, "etcdpod restore"},
		{"nobody could look for the images", func(s *seen) {
			s.facts.Doubts = []observe.Obstacle{{Unasked: true, What: "could not check whether all images are here"},
				{What: "the registry is asked at every start"}}
		}, []string{"could not check whether all images are here"}, "see the warnings"},
		{"a container has exited, and its log tells why", func(s *seen) {
			s.facts.Containers[1].State, s.facts.Containers[1].ID = "exited", "7f"
			s.ended = map[string]ended{"7f": {why: "its disk is full (x): free some space", do: "free some space"}}
		}, []string{"its container has exited: its disk is full (x): free some space"}, "see the warnings"},
		{"etcd is down, and its log tells why", func(s *seen) {
			s.facts.Live, s.facts.LiveError = nil, errors.New("connection refused")
			s.facts.Containers[0].ID, s.facts.Containers[0].Attempt = "7f", 3
			s.ended = map[string]ended{"7f": {why: "its disk is full (x): free some space", do: "free some space"}}
		}, []string{"keeps exiting: its container has been started 4 times: its disk is full", "connection " +
			"refused"},
			"free some space"},
		{"the kubelet's certificate has expired, which is said once", func(s *seen) {
			s.certs = append(s.certs, certs.Status{Path: "/etc/kubernetes/kubelet.conf", DaysLeft: -1,
				Problem: "it expired", NotAfter: s.facts.Now})
			s.facts.Obstacles = []observe.Obstacle{{Kubelet: true, Certificate: "/etc/kubernetes/kubelet.conf",
				What: "the kubelet would not start: its certificate expired", Fix: "make another"}}
		}, []string{"the kubelet would not start"}, "make another"},
		{"etcd's data was emptied, and no log tells", func(s *seen) {
			s.facts.Live, s.facts.LiveError = nil, errors.New("connection refused")
			s.data.emptied = &observe.Member{ID: 0x2a, Name: "cp1", PeerURLs: []string{"https://10.0.0.1:2380"}}
		}, []string{"connection refused", "the cluster knows this node as member 2a at https://10.0.0.1:2380, but " +
			"/var/lib/etcd holds none of its data"}, "etcdpod remove 2a"},
		{"etcd is down, without a backup, and its log is elsewhere", func(s *seen) {
			s.facts.Live, s.facts.LiveError, s.backups = nil, errors.New("connection refused"), nil
			s.facts.Etcd.WALDir = "/wal"
		}, []string{"connection refused", "no backup"},
			"`etcdpod backup --from-data-dir /var/lib/etcd --from-wal-dir /wal`"},
		{"etcd is down, without data and without a backup", func(s *seen) {
			s.facts.Live, s.facts.LiveError, s.backups = nil, errors.New("connection refused"), nil
			s.data.nothing = true
		}, []string{"connection refused", "etcd's data directory /var/lib/etcd holds no data", "no backup"},
			"mount it at /var/lib/etcd; if it is in another directory, correct --data-dir in " +
				"/etc/kubernetes/manifests/etcd.yaml; if it is lost, look for a backup that was kept elsewhere"},
		{"etcd is down, without data, with a backup", func(s *seen) {
			s.facts.Live, s.facts.LiveError, s.data.nothing = nil, errors.New("connection refused"), true
		}, []string{"connection refused", "holds no data"},
			"if it is lost, see what restoring the newest backup would do: `etcdpod restore /b/new.db --dry-run`"},
		{"etcd is down, without its db", func(s *seen) {
			s.facts.Live, s.facts.LiveError = nil, errors.New("connection refused")
			s.data.log = &etcd.LogAlone{Whole: true}
		}, []string{"connection refused", "the db of etcd is missing from its data directory /var/lib/etcd; its log " +
			"is there, and whole"}, "start etcd: it makes its db anew from its log, and nothing is lost. Do not empty"},
		{"etcd is down, without its db and the beginning of its log", func(s *seen) {
			s.facts.Live, s.facts.LiveError = nil, errors.New("connection refused")
			s.data.log = &etcd.LogAlone{}
		}, []string{"connection refused", "its log does not go back to the beginning"},
			"put it back; if it is lost, see what restoring the newest backup would do: `etcdpod restore /b/new.db"},
		{"etcd is down, without data, and its log tells why", func(s *seen) {
			s.facts.Live, s.facts.LiveError, s.data.nothing = nil, errors.New("connection refused"), true
			s.facts.Containers[0].ID, s.facts.Containers[0].Attempt = "7f", 3
			s.ended = map[string]ended{"7f": {why: "it was emptied", do: "remove the member"}}
		}, []string{"keeps exiting", "connection refused", "holds no data"}, "remove the member"},
		{"a run has moved etcd's data", func(s *seen) {
			s.open = engine.RunSummary{ID: "r1", State: "open", Phase: "exchange-data"}
			s.facts.Live, s.facts.LiveError, s.data.nothing = nil, errors.New("connection refused"), true
		}, []string{"r1"}, "etcdpod resume"},
		{"the disk of etcd's data is full", func(s *seen) {
			s.facts.Live, s.facts.LiveError = nil, errors.New("connection refused")
			s.data.room = map[string]uint64{"/var/lib/etcd": 3 << 20, "/wal": 1 << 30}
		}, []string{"connection refused", "the file system of /var/lib/etcd has only 3.0 MiB left"},
			"free some space on the file system of /var/lib/etcd"},
		{"the disk of etcd's data is nearly full, and etcd serves", func(s *seen) {
			s.data.room = map[string]uint64{"/wal": 3 << 20}
		}, []string{"the file system of /wal has only 3.0 MiB left"}, "see the warnings"},
		{"a manifest cannot be read", func(s *seen) {
			s.facts.Manifests = append(s.facts.Manifests,
				observe.ManifestFile{Path: "/m/x.yaml", Error: errors.New("line 3")})
		}, []string{"/m/x.yaml is not a readable manifest: line 3"}, "see the warnings"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := healthy(t)
			c.change(&s)
			st := s.status()
			if len(st.Warnings) != len(c.warnings) || !strings.Contains(st.Next, c.next) {
				t.Fatalf("%q; next %q", st.Warnings, st.Next)
			}
			for i, want := range c.warnings {
				if !strings.Contains(st.Warnings[i], want) {
					t.Errorf("%q is not in %q", want, st.Warnings[i])
				}
			}
		})
	}
}

func TestAMemberIsAskedAtAllItsPeerPorts(t *testing.T) {
	here, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	open, closed := "https://"+here.Addr().String(), "https://127.0.0.1:1"
	n := observe.Node{Etcd: bind.Etcd{}}
	got := n.Silent(t.Context(), &observe.Live{MemberID: 1, Members: []observe.Member{
		{ID: 1, Name: "own", PeerURLs: []string{closed}}, {ID: 2, Name: "dead", PeerURLs: []string{closed}},
		{ID: 3, Name: "one of two", PeerURLs: []string{closed, open}},
	}})
	if len(got) != 1 || got[0].Name != "dead" {
		t.Errorf("got %+v", got)
	}
	if got := n.Silent(t.Context(), nil); got != nil {
		t.Errorf("nothing is known, and it names %+v", got)
	}
}

func TestStatusDescribesTheMemberAndTheNewestContainers(t *testing.T) {
	s := healthy(t)
	old := s.facts.Containers[0]
	old.State, old.CreatedAt = "exited", s.facts.Now
	s.facts.Containers = append(s.facts.Containers, old)
	st := s.status()
	if m := st.Member; m == nil || m.ID != "7" || !m.Leader || m.QuotaBytes != 2<<30 || m.Name != "cp1" {
		t.Errorf("%+v", st.Member)
	}
	if len(st.Manifests) != 4 || len(st.Manifests[0].Containers) != 1 ||
		st.Manifests[0].Containers[0].State != "running" {
		t.Errorf("%+v", st.Manifests)
	}
	if st.NewestBackup == nil || st.NewestBackup.Path != "/b/new.db" || len(st.Warnings) != 0 {
		t.Errorf("%+v %q", st.NewestBackup, st.Warnings)
	}
}

// deadRuntime is a container runtime that does not answer.
type deadRuntime struct{ node.Runtime }

func (deadRuntime) Containers(context.Context) ([]node.Container, error) {
	return nil, errors.New("cannot reach the container runtime")
}

func TestStatusWorksWhenEverythingIsDown(t *testing.T) {
	machine := crashtest.Shape{}.Machine(t)
	w := crashtest.Alone(t, machine)
	w.Process.Look.Access = observe.AccessFlags{Endpoints: []string{"https://127.0.0.1:1"}}
	w.Process.Host.Runtime = deadRuntime{}
	w.Process.Look.View = w.Process.Host.View()
	if err := w.Process.Host.Kubelet.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	st, err := Of(t.Context(), w.Process.Look, Options{MaxBackupAge: 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if st.Kubelet != "stopped" || st.Runtime != "cannot reach the container runtime" ||
		st.Problem == "" || st.Member != nil || len(st.Manifests) != 4 || st.Next != "start the kubelet" {
		t.Errorf("%+v", st)
	}
	if len(st.Warnings) != 5 { // the kubelet, the runtime, etcd, no kubeconfig, no backup
		t.Errorf("%q", st.Warnings)
	}
}
