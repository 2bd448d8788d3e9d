package node_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

func TestProcessesThatUseADirectoryAreFound(t *testing.T) {
	root := t.TempDir()
	f := node.OS(root)
	for _, dir := range []string{"/etcd/member/snap", "/etcd/member/wal", "/other/member"} {
		ok(t, node.MkdirAll(f, dir, node.Mine(0o700)))
	}
	for _, path := range []string{"/etcd/member/snap/db", "/etcd/member/wal/0.wal", "/other/member/file"} {
		ok(t, f.Create(path, make([]byte, 4096), node.Mine(0o600)))
	}
	etcd, other := filepath.Join(root, "etcd"), filepath.Join(root, "other")
	ok(t, os.WriteFile(filepath.Join(root, "etcd.conf"), []byte("name: x\ndata-dir: "+etcd+"\n"), 0o600))
	ok(t, os.Symlink(etcd, filepath.Join(root, "link")))
	elsewhere := filepath.Join(other, "member/file")
	for _, c := range []struct {
		name      string
		how, path string
		argv      []string
		env       string
		want      bool
	}{
		{"a file held open", "open", etcd + "/member/snap/db", nil, "", true},
		{"a WAL held open", "open", etcd + "/member/wal/0.wal", nil, "", true},
		{"a directory held open", "open", etcd + "/member", nil, "", true},
		{"a file mapped and closed", "map", etcd + "/member/snap/db", nil, "", true},
		{"a file of another directory", "open", elsewhere, nil, "", false},
		{"an etcd with the flag", "open", elsewhere,
			[]string{"/usr/local/bin/etcd", "--name", "a", "--data-dir=" + etcd}, "", true},
		{"an etcd with the flag in two words and a link", "open",
			elsewhere, []string{"etcd", "-data-dir", root + "/link/"}, "", true},
		{"an etcd whose WAL is there", "open", elsewhere,
			[]string{"etcd", "--data-dir=" + other, "--wal-dir=" + etcd}, "", true},
		{"an etcd with a configuration file", "open", elsewhere,
			[]string{"etcd", "--config-file", root + "/etcd.conf"}, "", true},
		{"an etcd with a variable", "open", elsewhere, []string{"etcd"}, "ETCD_DATA_DIR=" + etcd, true},
		{"an etcd elsewhere", "open", elsewhere, []string{"etcd", "--data-dir=" + other}, "", false},
		{"another program with such a flag", "open", elsewhere, []string{"etcdctl", "--data-dir=" + etcd}, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if name, value, set := strings.Cut(c.env, "="); set {
				t.Setenv(name, value)
			}
			pid, end := holder(t, c.how, c.path, c.argv...)
			found, err := node.Proc(f).Using(t.Context(), "/etcd")
			ok(t, err)
			if c.want != (len(found) == 1 && found[0].PID == pid) || (!c.want && len(found) > 0) {
				t.Errorf("found %+v, the process is %d", found, pid)
			}
			end()
			found, err = node.Proc(f).Using(t.Context(), "/etcd")
			ok(t, err)
			if len(found) > 0 {
				t.Errorf("found %+v after its end", found)
			}
		})
	}
}

func TestAnEtcdInAContainerIsFoundByWhatItSees(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	root := t.TempDir()
	f := node.OS(root)
	for _, dir := range []string{"/host", "/seen", "/other"} {
		ok(t, node.MkdirAll(f, dir, node.Mine(0o700)))
	}
	ok(t, f.Create("/other/file", nil, node.Mine(0o600)))
	seen := filepath.Join(root, "seen")
	ready, done, ended := make(chan int, 1), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		inOwnMounts(t, func() {
			if err := syscall.Mount(filepath.Join(root, "host"), seen, "", syscall.MS_BIND, ""); err != nil {
				t.Errorf("cannot mount: %v", err)
			}
			pid, end := holder(t, "open", filepath.Join(root, "other/file"), "etcd", "--data-dir="+seen)
			ready <- pid
			<-done
			end()
		})
	}()
	var pid int
	select {
	case pid = <-ready:
	case <-ended:
		t.Skip("cannot have mounts of its own")
	}
	defer func() { close(done); <-ended }()
	found, err := node.Proc(f).Using(t.Context(), "/host")
	ok(t, err)
	if len(found) != 1 || found[0].PID != pid || found[0].Command != "etcd --data-dir="+seen {
		t.Errorf("found %+v, the process is %d", found, pid)
	}
	if found, err = node.Proc(f).Using(t.Context(), "/seen"); err != nil || len(found) > 0 {
		t.Errorf("the directory of that name here is said to be used by %+v, %v", found, err)
	}
}

func TestADirectoryThatIsNotThereIsNotUsed(t *testing.T) {
	for _, dir := range []string{"/none", "/none/below"} {
		found, err := node.Proc(node.OS(t.TempDir())).Using(t.Context(), dir)
		if err != nil || len(found) > 0 {
			t.Errorf("found %+v, %v", found, err)
		}
	}
}

func BenchmarkUsing(b *testing.B) {
	p := node.Proc(node.OS(b.TempDir()))
	for b.Loop() {
		if _, err := p.Using(b.Context(), "/"); err != nil {
			b.Fatal(err)
		}
	}
}

func TestThisProcessDoesNotCount(t *testing.T) {
	root := t.TempDir()
	f := node.OS(root)
	ok(t, f.Create("/db", nil, node.Mine(0o600)))
	held, err := os.Open(filepath.Join(root, "db"))
	ok(t, err)
	defer held.Close()
	found, err := node.Proc(f).Using(t.Context(), "/")
	if err != nil || len(found) > 0 {
		t.Errorf("found %+v, %v", found, err)
	}
}
