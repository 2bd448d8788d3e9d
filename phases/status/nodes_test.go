package status

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/backup"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// flagsOn are the flags of a node whose manifests have these besides what kubeadm gives each node.
func flagsOn(t *testing.T, name, address, etcd, server string) NodeStatus {
	t.Helper()
	machine := crashtest.Shape{}.Machine(t)
	w := crashtest.Alone(t, machine)
	w.Process.Look.Name = name
	lines := func(text string) string {
		var b strings.Builder
		for _, flag := range strings.Fields(text) {
			fmt.Fprintf(&b, "    - --%s\n", flag)
		}
		return b.String()
	}
	url := "https://" + address
	etcd = lines(fmt.Sprintf("name=%s initial-cluster=%[1]s=%[2]s:2380 initial-advertise-peer-urls=%[2]s:2380 "+
		"advertise-client-urls=%[2]s:2379 listen-client-urls=https://127.0.0.1:2379,%[2]s:2379 %[3]s", name, url, etcd))
	server = lines(fmt.Sprintf("advertise-address=%s etcd-servers=https://127.0.0.1:2379 %s", address, server))
	for program, command := range map[string]string{"etcd": etcd, "kube-apiserver": server} {
		file := crashtest.TestManifestDir + "/" + program + ".yaml"
		if err := w.Machine.Remove(file); err != nil {
			t.Fatal(err)
		}
		if err := w.Machine.Create(file, []byte(crashtest.PodManifest(program, command, "")),
			node.Attr{Mode: 0o600}); err != nil {
			t.Fatal(err)
		}
	}
	flags, err := flags(t.Context(), w.Process.Look)
	if err != nil {
		t.Fatal(err)
	}
	return NodeStatus{Node: name, Status: &Status{}, flags: flags}
}

// Each member's backup holds the whole cluster, so one of them will do.
func TestABackupOfOneMemberCountsForItsCluster(t *testing.T) {
	for _, test := range []struct {
		name            string
		cluster, backup string // of the member that has a backup, and of that backup
		codes           []finding.Code
		want            []string // whose lack of a backup is a warning
	}{
		{"new", "c1", "c1", nil, nil},
		{"old", "c1", "c1", []finding.Code{finding.BackupOld}, []string{"cp1", "cp2", "cp3"}},
		{"of another cluster's member", "c2", "c2", nil, []string{"cp2", "cp3"}},
		{"of another cluster", "c1", "c2", nil, []string{"cp2", "cp3"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			node := func(name, cluster string, newest *backup.Entry, codes ...finding.Code) NodeStatus {
				st := &Status{Member: &MemberStatus{ClusterID: cluster}, NewestBackup: newest}
				for _, code := range codes {
					st.Findings = append(st.Findings, finding.New(code, "/b", "of %s", name))
				}
				return NodeStatus{Node: name, Status: st}
			}
			has := &backup.Entry{Sidecar: backup.Sidecar{ClusterID: test.backup}}
			s := NodesStatus{Nodes: []NodeStatus{node("cp1", test.cluster, has, test.codes...),
				node("cp2", "c1", nil, finding.BackupMissing), node("cp3", "c1", nil, finding.BackupMissing)}}
			s.judge()
			var lacks []string
			for _, f := range s.Findings {
				if lacksBackup(f) {
					lacks = append(lacks, f.Node)
				}
			}
			if !slices.Equal(lacks, test.want) || len(s.Warnings) != len(s.Findings) {
				t.Errorf("%q lack a backup: %q", lacks, s.Warnings)
			}
		})
	}
}

func TestFlagsThatDifferBetweenTheNodesAreNamed(t *testing.T) {
	const all = "etcd-servers=https://10.0.0.1:2379,https://10.0.0.2:2379"
	for _, test := range []struct {
		name           string
		etcd1, server1 string
		etcd2, server2 string
		want           []string
	}{
		{"what names the node", "", "", "", "", nil},
		{"the same", "snapshot-count=10000", "v=2", "snapshot-count=10000", "v=2", nil},
		{"another value", "snapshot-count=10000", "", "snapshot-count=5000",
			"", []string{"etcd has different flags on the nodes: --snapshot-count is 10000 on cp1; 5000 on cp2"}},
		{"on one only", "", "", "", "feature-gates=X=true", []string{
			"kube-apiserver has different flags on the nodes: --feature-gates is X=true on cp2; not set on cp1",
		}},
		{"all members everywhere, in another order", "", all,
			"", "etcd-servers=https://10.0.0.2:2379,https://10.0.0.1:2379", nil},
		{"given twice", "", "issuer=a issuer=b", "", "issuer=a", []string{"--issuer is a on cp2; a b on cp1"}},
		{"other ports", "listen-peer-urls=https://10.0.0.1:2380", "", "listen-peer-urls=https://10.0.0.2:12380",
			"", []string{"--listen-peer-urls is https://10.0.0.1:2380 on cp1; https://10.0.0.2:12380 on cp2"}},
		{"the address of another node", "", "bind-address=10.0.0.1", "", "bind-address=10.0.0.1", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := NodesStatus{
				Nodes: []NodeStatus{flagsOn(t, "cp1", "10.0.0.1", test.etcd1, test.server1),
					flagsOn(t, "cp2", "10.0.0.2", test.etcd2, test.server2),
					{Node: "cp3", Error: "cp3 cannot be reached: no route to host"}},
			}
			s.judge()
			s.Warnings = slices.DeleteFunc(s.Warnings, func(w string) bool { return strings.HasPrefix(w, "cp3 ") })
			if len(s.Warnings) != len(test.want) {
				t.Fatalf("it says %q", s.Warnings)
			}
			for i, want := range test.want {
				if !strings.Contains(s.Warnings[i], want) {
					t.Errorf("%q is not in %q", want, s.Warnings[i])
				}
			}
		})
	}
}

// Hashing all that a large member holds makes its writes wait: in looking at nodes that never
// happens.
func TestOnlyMembersThatHashQuicklyAreComparedInPassing(t *testing.T) {
	node := func(cluster string, revision, inUse int64, learner bool) NodeStatus {
		return NodeStatus{Status: &Status{Member: &MemberStatus{
			ClusterID: cluster, Revision: revision, InUseBytes: inUse, Learner: learner,
		}}}
	}
	const much = 8<<20 + 1
	got := revisionsToHash([]NodeStatus{
		node("small", 12, 8<<20, false), node("small", 10, 1<<20, false), node("small", 3, 1<<20, true),
		node("large", 7, 1<<20, false), node("large", 8, much, false), {Error: "cannot be reached"},
	})
	if want := map[string]int64{"small": 10}; !maps.Equal(got, want) {
		t.Errorf("hashed at %v, want %v", got, want)
	}
	large := NodesStatus{Nodes: []NodeStatus{node("a", 7, much, false), node("b", 7, much, false)}}
	large.judge()
	if len(large.Findings) == 0 || large.Findings[0].Code != finding.ClustersDiffer {
		t.Errorf("two large clusters pass for one: %v", large.Warnings)
	}
}
