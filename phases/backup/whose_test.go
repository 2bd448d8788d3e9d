package backup

import (
	"context"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/manifests"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// The sidecar of data that a person names says of this node what is true of the data, and no more.
func TestASidecarDescribesTheDataAndNotWhoLookedAtIt(t *testing.T) {
	server, err := manifests.Parse([]byte("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n" +
		"  - {name: a, command: [kube-apiserver, --client-ca-file=/pki/ca.crt],\n" +
		"     volumeMounts: [{name: p, mountPath: /pki}]}\n" +
		"  volumes:\n  - {name: p, hostPath: {path: /pki}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	n := &observe.Node{View: (&node.Host{FS: node.OS(t.TempDir())}).View()}
	for name, c := range map[string]struct {
		dir       string
		cluster   uint64
		member    string
		published []string
		node      string
		own       bool
	}{
		"this cluster's CA, somewhere":            {"/mnt/old", 7, "cp1", []string{"A"}, "cp1", true},
		"another member's of this cluster":        {"/mnt/old", 1, "cp2", []string{"A"}, "cp2", true},
		"another cluster's":                       {"/mnt/old", 7, "other", []string{"X"}, "other", false},
		"another cluster's with the same id":      {"/mnt/old", 1, "cp1", []string{"X"}, "cp1", false},
		"another cluster's, in this etcd's place": {"/var/lib/etcd", 7, "cp1", []string{"X"}, "cp1", false},
		"sealed, in this etcd's place":            {"/var/lib/etcd", 7, "", nil, "node", true},
		"sealed, of the cluster that serves":      {"/mnt/old", 1, "cp1", nil, "cp1", true},
		"sealed, of another one":                  {"/mnt/old", 7, "cp1", nil, "cp1", false},
		"sealed, of a member without a name":      {"/mnt/old", 7, "", nil, "unknown", false},
	} {
		f := backupFacts(t)
		f.Node, f.Live = "node", &observe.Live{ClusterID: 1}
		f.Manifests = []observe.ManifestFile{{Manifest: server}}
		f.Fingerprints = map[string]string{"/pki/ca.crt": "A", "/pki/sa.pub": "S"}
		f.whoseData(n, c.dir, &observe.Stopped{ClusterID: c.cluster, MemberID: 5,
			Members: []observe.Member{{ID: 4, Name: "x"}, {ID: 5, Name: c.member}}}, c.published)
		plan, err := Workflow(Options{FromDataDir: c.dir}).Planned(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		var said []string
		for _, found := range plan.Phases[0].Findings {
			if found.Code == finding.BackupOfAnother {
				said = append(said, found.Text)
			}
		}
		s := plan.Phases[0].Ops()[0].(*op.OpenBackup).Sidecar
		if s.Node != c.node || (len(s.Fingerprints) > 0) != c.own || len(said) > 0 == c.own ||
			!c.own && !strings.Contains(said[0], "the data in "+c.dir) {
			t.Errorf("%s: %+v, %q", name, s, said)
		}
	}
}

// Where somebody has put what is of something else says nothing about this node's own backups.
func TestThePlaceOfABackupOfSomethingElseIsNotRemembered(t *testing.T) {
	for another, want := range map[string]string{"": "/backups", "the data in /mnt/old": ""} {
		w := newBackupWorld(t, backupCase{options: Options{Dir: "/backups"}})
		flow := w.workflow(w.options)
		look := flow.Observe
		flow.Observe = func(ctx context.Context, n *observe.Node, id string) (*Facts, error) {
			f, err := look(ctx, n, id)
			if err == nil {
				f.Another = another
			}
			return f, err
		}
		_, err := Take(t.Context(), w.Process.Node, flow.On(w.Process.Look), func(engine.Plan) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		if last, err := op.ReadLastBackup(w.Machine.Disk, journal.Home); err != nil || last.Dir != want {
			t.Errorf("%q: %+v, %v", another, last, err)
		}
	}
}
