package docs_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"golang.org/x/crypto/ssh"
)

// keysOf puts recipients and a key that signs on a node, and returns where the identity is, which
// somebody has brought there for a restore, and the list of trusted keys, which is on no node.
func (s *story) keysOf(on string) (identity, trust string) {
	s.t.Helper()
	dir := s.t.TempDir()
	id, err := age.GenerateX25519Identity()
	must(s.t, err)
	public, private, err := ed25519.GenerateKey(rand.Reader)
	must(s.t, err)
	block, err := ssh.MarshalPrivateKey(private, "")
	must(s.t, err)
	key, err := ssh.NewPublicKey(public)
	must(s.t, err)
	identity, trust = "/root/etcd-backups.txt", filepath.Join(dir, "allowed_signers")
	must(s.t, os.MkdirAll(s.Node(on).Path("/etc/etcdpod"), 0o755))
	for name, data := range map[string][]byte{
		s.Node(on).Path(identity): []byte(id.String() + "\n"),
		trust:                     append([]byte(on+" "), ssh.MarshalAuthorizedKey(key)...),
		s.Node(on).Path("/etc/etcdpod/recipients"): []byte(id.Recipient().String() + "\n"),
		s.Node(on).Path("/etc/etcdpod/sign.key"):   pem.EncodeToMemory(block),
	} {
		must(s.t, os.WriteFile(name, data, 0o600))
	}
	return identity, trust
}

// plain are the files of the nodes, backups or not, in which the snapshot itself lies.
func (s *story) plain() (found []string) {
	s.t.Helper()
	for _, n := range s.Nodes {
		must(s.t, filepath.WalkDir(n.Path("/var/lib/etcdpod"), func(name string, _ os.DirEntry, err error) error {
			if strings.HasSuffix(name, ".db") || strings.HasSuffix(name, ".part") {
				found = append(found, name)
			}
			if errors.Is(err, fs.ErrNotExist) { // it has had no run yet
				return nil
			}
			return err
		}))
	}
	return found
}

// An encrypted backup is taken on one node, is good, and comes back on three: on none does the
// snapshot itself lie about afterwards.
func TestAnEncryptedBackupComesBackOnThreeNodes(t *testing.T) {
	s := follow(t, "backups.md")
	identity, trust := s.keysOf("cp1")
	s.types("cp1", "etcdpod backup --encrypt-to /etc/etcdpod/recipients --keep 14", 0)
	if found := s.plain(); len(found) > 0 {
		t.Errorf("%q", found)
	}
	files, err := filepath.Glob(s.Node("cp1").Path("/var/lib/etcdpod/backups/*.db.zst.age"))
	must(t, err)
	if len(files) != 1 {
		t.Fatalf("there are %q", files)
	}
	file := files[0]
	tries := func(code int, command string, sees ...string) {
		t.Helper()
		got, out := s.try("cp1", command)
		if got != code {
			t.Fatalf("%q ends with %d, not %d:\n%s", command, got, code, out)
		}
		for _, text := range sees {
			if !strings.Contains(out, text) {
				t.Errorf("%q does not say %q:\n%s", command, text, out)
			}
		}
	}
	tries(0, "etcdpod backups", ".db.zst.age", "this node")
	tries(0, "etcdpod status --max-backup-age 26h")
	tries(0, fmt.Sprintf("etcdpod verify --trust %s %s", trust, file), "was not looked at", "cp1, SHA256:")
	tries(0, fmt.Sprintf("etcdpod verify --trust %s --identity %s %s", trust, identity, file), "good", "keys")
	tries(4, fmt.Sprintf("etcdpod verify --identity %s %s", identity, file), "signature check")

	s.spoils()
	all := "etcdpod restore --nodes cp1,cp2,cp3 "
	tries(5, all+file, "is encrypted to age1", "--identity")
	tries(0, fmt.Sprintf("%s--dry-run --identity %s %s", all, identity, file), "Nothing was changed")
	s.wants(true, "cp1", "cp2", "cp3")
	tries(0, fmt.Sprintf("%s--identity %s %s", all, identity, file), "Restored on 3 nodes")
	s.wants(false, "cp1", "cp2", "cp3")
	if found := s.plain(); len(found) > 0 {
		t.Errorf("after the restore there are %q", found)
	}
}
