package docs_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

// mounted says that /var/lib/etcd of each node is a file system of its own.
var mounted = os.Getenv("ETCDPOD_TEST_MOUNTED") != ""

// mount gives a node one before its etcd starts, in the layout that asks for it.
func mount(s *sandbox.Sandbox) error {
	if !mounted {
		return nil
	}
	disk := s.Path("/disk")
	if err := os.Mkdir(disk, 0o700); err != nil {
		return err
	}
	return syscall.Mount(disk, s.Path(sandbox.DataDir), "", syscall.MS_BIND, "")
}

// unmount lets the nodes' files be removed.
func unmount(nodes []*sandbox.Sandbox) (err error) {
	for _, n := range nodes {
		if mounted {
			err = errors.Join(err, syscall.Unmount(n.Path(sandbox.DataDir), syscall.MNT_DETACH))
		}
	}
	return err
}

// What the runbooks say of paths, and whatever else is typed, is true on a node whose /var/lib/etcd
// is a mount, too, as it usually is in production. The pages are followed once more in a mount
// namespace of their own, which goes with the process and its mounts.
func TestTheRunbooksAreTrueWhereTheDataIsAMount(t *testing.T) {
	if mounted {
		t.Skip("this is that run")
	}
	t.Parallel()
	program, err := os.Executable()
	must(t, err)
	cmd := exec.CommandContext(t.Context(), program, "-test.v", "-test.timeout", "30m",
		"-test.run", "^(TestRestoreOneNode|TestGoingBackInTime|TestInterrupted)$")
	cmd.Env = append(os.Environ(), "ETCDPOD_TEST_MOUNTED=1", "ETCDPOD="+binary)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Skipf("no mount namespace can be made here: %v", err)
	}
	if err != nil || strings.Count(string(out), "--- PASS: ") != 3 {
		t.Errorf("where the data is a mount: %v\n%s", err, out)
	}
}

// goesBack types the page's two commands that restore what the last run replaced. One names the
// place of this layout, and what it restores serves; of the other nothing is there.
func (s *story) goesBack(command string, sees ...string) {
	s.t.Helper()
	runs, err := os.ReadDir(s.Node("cp1").Path("/var/lib/etcdpod/runs"))
	must(s.t, err)
	s.run = runs[len(runs)-1].Name()
	here, elsewhere := "/var/lib/etcdpod/runs/"+anyRun+"/data", "/var/lib/etcd/.etcdpod-"+anyRun+"/data"
	if mounted {
		here, elsewhere = elsewhere, here
	}
	kept := strings.TrimSuffix(strings.ReplaceAll(here, anyRun, s.run), "/data")
	if _, out := s.try("cp1", "etcdpod prune --dry-run"); !strings.Contains(out, kept) {
		s.t.Errorf("%s is not among what is kept: %s", kept, out)
	}
	if code, out := s.try("cp1", command+elsewhere); code == 0 {
		s.t.Errorf("old data is at %s, too: %s", elsewhere, out)
	}
	s.typed[command+elsewhere] = true
	s.types("cp1", command+here, 0, sees...)
}

func TestRestoreOneNode(t *testing.T) {
	s := follow(t, "restore-one-node.md", "cp1")
	cp1 := s.Node("cp1")
	s.also("cp1", "etcdpod backup", 0)
	good := s.newest()
	s.spoils()
	s.types("cp1", "etcdpod status", 0)
	s.types("cp1", "etcdpod backups", 0)
	s.chooses("FILE="+anyFile, good)
	s.types("cp1", `etcdpod verify "$FILE"`, 0, "good")
	s.types("cp1", "etcdpod backup", 0)
	s.types("cp1", `etcdpod restore --dry-run "$FILE"`, 0)
	s.types("cp1", `etcdpod restore "$FILE"`, 0, "stage-data", "fence", "exchange-data", "release-etcd", "await-etcd",
		"commit point", "await-apiserver", "verify-restored", "Restored by run")
	s.wants(false, "cp1")
	s.types("cp1", "etcdpod prune --dry-run", 0, "Kept")
	s.types("cp1", "etcdpod runs", 0)
	s.goesBack("etcdpod restore --from-data-dir ", "Restored by run")
	s.wants(true, "cp1")

	// What is left of a dead machine is what this one has now.
	s.copiesStopped(cp1.Path("/mnt/old/var/lib/etcd"), cp1.Path("/root/db"))
	s.types("cp1", "etcdpod backup --from-data-dir /mnt/old/var/lib/etcd /root/old.db", 0)
	s.types("cp1", "etcdpod verify /root/old.db", 0, "good")
	s.types("cp1", "etcdpod restore /root/old.db", 0)
	s.wants(true, "cp1")
	s.also("cp1", `etcdpod restore "$FILE"`, 0)
	s.wants(false, "cp1")
	s.types("cp1", "etcdpod restore --from-data-dir /mnt/old/var/lib/etcd", 0)
	s.wants(true, "cp1")
	s.types("cp1", "etcdpod restore --skip-hash-check /root/db", 0)
	must(t, os.Mkdir(cp1.Path("/srv"), 0o755))
	s.types("cp1", `etcdpod restore --data-dir /srv/etcd "$FILE"`, 0)
	s.wants(false, "cp1")
	s.ends()
}

// copiesStopped copies cp1's data, and its database alone, while its etcd is stopped.
func (s *story) copiesStopped(dir, db string) {
	s.t.Helper()
	cp1 := s.Node("cp1")
	must(s.t, cp1.StopKubelet(s.ctx))
	must(s.t, cp1.Kill(s.ctx, "etcd"))
	s.eventually("etcd has ended", func() bool {
		c, found, err := cp1.Container(s.ctx, "etcd")
		must(s.t, err)
		return found && c.State == "exited"
	})
	must(s.t, os.MkdirAll(dir, 0o700))
	must(s.t, os.CopyFS(filepath.Join(dir, "member"), os.DirFS(cp1.Path("/var/lib/etcd/member"))))
	data, err := fs.ReadFile(os.DirFS(dir), "member/snap/db")
	must(s.t, err)
	must(s.t, os.WriteFile(db, data, 0o600))
	must(s.t, cp1.StartKubelet(s.ctx))
	s.wants(true, "cp1")
}
