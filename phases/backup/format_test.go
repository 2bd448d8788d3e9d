package backup

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.uber.org/zap"

	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// The commands of docs/backup-format.md, typed as they stand there: age is built from its module,
// zstd and ssh-keygen are those of this machine, and etcd's own code reads what comes out.
func TestThePageGetsTheDataBackWithoutEtcdpod(t *testing.T) {
	for _, program := range []string{"bash", "zstd", "ssh-keygen", "sha256sum"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed", program)
		}
	}
	bin := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", filepath.Join(bin, "age"),
		"filippo.io/age/cmd/age").CombinedOutput(); err != nil {
		t.Fatalf("cannot build age: %v\n%s", err, out)
	}
	page, err := os.ReadFile("../../docs/backup-format.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(page), "```sh\n")
	block, _, found := strings.Cut(block, "```")
	if !found {
		t.Fatal("the page has no commands")
	}
	k := sealSnapshot(t, sealedName, goodSnapshot(t), nil)
	script := strings.ReplaceAll(block, "NAME.db.zst.age", sealedName)
	shell := exec.Command("bash", "-euo", "pipefail", "-c", script)
	shell.Dir, shell.Env = k.dir, append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	out, err := shell.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var s op.SidecarFile
	if err := json.Unmarshal(get(t, op.SidecarOf(k.file)), &s); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Good \"etcdpod-backup\" signature for cp1", s.SHA256, s.Sealed.SHA256} {
		if !strings.Contains(string(out), want) {
			t.Errorf("nothing says %q:\n%s", want, out)
		}
	}
	restored := filepath.Join(k.dir, "snapshot.db")
	status, err := snapshot.NewV3(zap.NewNop()).Status(restored)
	if err != nil || status.Revision != s.Revision || string(get(t, restored)) != string(k.plain) {
		t.Errorf("%+v, %v", status, err)
	}
	if err := snapshot.NewV3(zap.NewNop()).Restore(snapshot.RestoreConfig{SnapshotPath: restored, Name: "cp1",
		OutputDataDir: filepath.Join(k.dir, "data"), PeerURLs: []string{"http://127.0.0.1:2380"},
		InitialCluster: "cp1=http://127.0.0.1:2380", InitialClusterToken: "x"}); err != nil {
		t.Error(err)
	}
}
