package docs_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/etcdpod/etcdpod/e2e/binaries"
)

func TestRehearseARestore(t *testing.T) {
	s := follow(t, "rehearse.md", "cp1")
	cp1 := s.Node("cp1")
	s.also("cp1", "etcdpod backup", 0)
	s.also("cp1", "etcdpod status", 0) // that there was no rehearsal is no finding
	s.types("cp1", "etcdpod rehearse latest", 0)
	const weekly = "30 3 * * 0  root  "
	s.also("cp1", "etcdpod rehearse --quiet latest", 0)
	s.typed[weekly+"/usr/local/bin/etcdpod rehearse --quiet latest >/dev/null"] = true
	data, err := os.ReadFile(s.newest())
	must(t, err)
	safe := cp1.Path("/mnt/safe")
	must(t, os.MkdirAll(safe, 0o700))
	must(t, os.WriteFile(filepath.Join(safe, "cp1.db"), data, 0o600))
	etcd, err := binaries.Etcd(s.ctx, binaries.Etcd36)
	must(t, err)
	s.words = []string{"/usr/local/bin/etcd", etcd, "/mnt/safe/cp1.db", filepath.Join(safe, "cp1.db")}
	s.types("cp1", "etcdpod rehearse --etcd /usr/local/bin/etcd /mnt/safe/cp1.db", 0)
	s.also("cp1", "etcdpod status", 0)
	must(t, os.Truncate(filepath.Join(safe, "cp1.db"), 9000))
	s.also("cp1", "etcdpod rehearse /mnt/safe/cp1.db", 4, "bad")
	s.also("cp1", "etcdpod status -o json", 6, "rehearsal-failed")
	s.ends()
}
