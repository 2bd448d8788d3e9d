package restore

import (
	"errors"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/backup"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

func TestWhatDoesNotFitTheNodesFilesIsRefused(t *testing.T) {
	with := func(file, sum string) *backup.Sidecar {
		return &backup.Sidecar{Fingerprints: map[string]string{file: sum}}
	}
	for name, c := range map[string]struct {
		change func(*Facts)
		says   string
	}{
		"nothing tells":             {func(*Facts) {}, ""},
		"the CA of the node":        {func(f *Facts) { f.Snapshot.CAs = []string{"X", "A"} }, ""},
		"a CA in a bundle by now":   {func(f *Facts) { f.Snapshot.CAs = []string{"B"} }, ""},
		"another CA":                {func(f *Facts) { f.Snapshot.CAs = []string{"X"} }, "not one of this node's"},
		"a token of the first key":  {func(f *Facts) { f.Snapshot.TokenKeys = []string{"k1"} }, ""},
		"one token of another key":  {func(f *Facts) { f.Snapshot.TokenKeys = []string{"k9", "k2"} }, ""},
		"all tokens of another key": {func(f *Facts) { f.Snapshot.TokenKeys = []string{"k9"} }, "accept none of them"},
		"the files of then":         {func(f *Facts) { f.Snapshot.Sidecar = with("/pki/ca.crt", "A") }, ""},
		"a key in another file now": {func(f *Facts) { f.Snapshot.Sidecar = with("/pki/sa-old.pub", "S") }, ""},
		"another key than then":     {func(f *Facts) { f.Snapshot.Sidecar = with("/pki/sa.pub", "Z") }, "/pki/sa.pub"},
		"another CA, and a sidecar": {func(f *Facts) {
			f.Snapshot.CAs, f.Snapshot.Sidecar = []string{"X"}, with("/pki/ca.crt", "A")
		}, ""},
		"another CA, and a sidecar of who knows whose data": {func(f *Facts) {
			f.Snapshot.CAs, f.Snapshot.Sidecar = []string{"X"}, &backup.Sidecar{Source: "/mnt/old"}
		}, "not one of this node's"},
		"the CA could not be read": {func(f *Facts) {
			f.Snapshot.CAs = []string{"X"}
			delete(f.Fingerprints, "/pki/ca.crt")
		}, ""},
		"the keys could not be read": {func(f *Facts) {
			f.Snapshot.TokenKeys, f.Encryption.TokenKeys = []string{"k9"}, nil
		}, ""},
		"a rewritten encryption configuration": {func(f *Facts) {
			f.Encryption.File = "/pki/enc"
			f.Snapshot.Sidecar = with("/pki/enc", "Z")
			f.Snapshot.Sidecar.Fingerprints["/old/encryption.yaml"] = "Y"
		}, ""},
		"a key of another secret": {func(f *Facts) { f.Encryption.Wrong = []string{"the key k"} }, "cannot decrypt"},
		"another CA, and a lost key": {func(f *Facts) {
			f.Snapshot.CAs, f.Encryption.Missing = []string{"X"}, []string{"k8s:enc:aescbc:v1:k:"}
		}, "certificates issued then are not accepted here; the snapshot holds values encrypted as k8s:enc:"},
	} {
		t.Run(name, func(t *testing.T) {
			f := &Facts{Facts: crashtest.SeenFacts(t, "run"), Snapshot: &SnapshotFacts{}}
			f.Fingerprints = map[string]string{"/pki/ca.crt": "A,B", "/pki/sa.pub": "S"}
			f.Encryption.TokenKeys, f.Encryption.ClientCA = []string{"k1", "k2"}, "/pki/ca.crt"
			c.change(f)
			o := restorer{}
			var refused *engine.RefusedError
			err := o.checkFits(f)
			if errors.As(err, &refused) != (c.says != "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v", err)
			}
			if err != nil {
				if !strings.Contains(engine.Hint(err), "--other-pki") {
					t.Errorf("the hint is %q", engine.Hint(err))
				}
				o.OtherPKI = true
				if err := o.checkFits(f); err != nil {
					t.Errorf("--other-pki: %v", err)
				}
			}
		})
	}
}

func TestAnAPIServerThatNothingRemovesIsNamedAfterTheRestore(t *testing.T) {
	f := &Facts{Facts: crashtest.SeenFacts(t, "run"), Snapshot: &SnapshotFacts{DeadAPIServers: []string{"10.9.8.7"}}}
	ops, err := restorer{}.verifyRestored().Plan(t.Context(), f)
	if err != nil || len(ops) != 1 {
		t.Fatalf("%v, %v", ops, err)
	}
	verify, ok := ops[0].(*op.VerifyRestored)
	if !ok || len(verify.Warnings) != 1 || verify.Warnings[0].Code != finding.APIServerDead ||
		!strings.Contains(verify.Warnings[0].Text, "etcdctl del /registry/masterleases/10.9.8.7") {
		t.Errorf("%+v", ops[0])
	}
}

func TestANewDataDirectoryIsJudgedByWhereItsLinksLead(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"manifests", "data/etcd", "wal", "free", "links", "var/lib/etcdpod/runs"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	f := &Facts{Facts: crashtest.SeenFacts(t, "run")}
	f.ManifestDir, f.Etcd.DataDir, f.Etcd.WALDir = "/manifests", "/data/etcd", "/wal"
	n := &observe.Node{View: node.View{FS: node.OS(root)}}
	for to, want := range map[string]string{
		"manifests": "the kubelet runs every file there", "data/etcd": "it is inside the current data directory",
		"data": "the current data directory is inside it", "wal": "inside the directory of etcd's log", "free": "",
		"var/lib/etcdpod": "etcdpod keeps its runs there", "var/lib/etcdpod/runs": "etcdpod keeps its runs there",
	} {
		link := filepath.Join(root, "links", path.Base(to))
		if err := os.Symlink("../"+to, link); err != nil {
			t.Fatal(err)
		}
		dirs := []string{"/" + to, "/links/" + path.Base(to)}
		if to != "data" {
			dirs = append(dirs, "/"+to+"/new", "/links/"+path.Base(to)+"/new")
		}
		for _, dir := range dirs {
			why, err := dirOdd(n, f, dir)
			// Above the root of this test, somebody else may be able to write.
			if err != nil || want == "" && strings.Contains(why, "inside") || !strings.Contains(why, want) {
				t.Errorf("%s: %q, %v", dir, why, err)
			}
		}
	}
}
