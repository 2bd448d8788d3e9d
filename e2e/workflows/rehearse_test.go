package workflows

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

const (
	home           = "/var/lib/etcdpod"
	keptRehearsals = home + "/rehearsals.json"
)

// rehearsal is what `rehearse -o json` says.
type rehearsal struct {
	Outcome, Path string
	Etcd          struct {
		From, Version string
		NoNetwork     bool
	}
	Keys      int64
	Resources map[string]int64
	Needs     struct {
		Members          []struct{ Name string }
		CAs, Files       []struct{ Here bool }
		Checked          bool
		TokenKeys, Nodes []any
	}
	Previous *struct{ Keys int64 }
	Findings []struct{ Code string }
}

func (n *node) rehearses(code int, args ...string) (r rehearsal) {
	n.t.Helper()
	n.lastLine(n.want(code, append([]string{"rehearse", "-o", "json"}, args...)), &r)
	return r
}

// nothingIsRehearsed holds the node to having no scratch directory, and no process in one.
func (n *node) nothingIsRehearsed() {
	n.t.Helper()
	if left, _ := filepath.Glob(n.Path(home + "/.*")); len(left) > 0 {
		n.t.Errorf("%q are left", left)
	}
	cwds, err := filepath.Glob("/proc/[0-9]*/cwd")
	must(n.t, err)
	for _, cwd := range cwds {
		if at, err := os.Readlink(cwd); err == nil && strings.HasPrefix(at, n.Path(home)) {
			n.t.Errorf("%s still runs in %s", cwd, at)
		}
	}
}

func TestARehearsalTouchesNothingThatRuns(t *testing.T) {
	n := start(t, sandbox.Options{})
	b := n.backup()
	members := n.members()
	n.want(0, []string{"status"})
	must(t, os.WriteFile(n.Path(keptRehearsals), []byte("{}"), 0o600))
	pid := n.etcdProcess()
	n.untouchedBut([]string{keptRehearsals}, func() {
		r := n.rehearses(0, "latest")
		if r.Outcome != "ok" || r.Path != b.Path || r.Keys != b.Keys || r.Etcd.From != "node" ||
			r.Etcd.Version != n.EtcdVersion || !r.Needs.Checked || len(r.Needs.Members) != 1 || len(r.Findings) > 0 {
			t.Errorf("%+v", r)
		}
		for _, ca := range append(r.Needs.CAs, r.Needs.Files...) {
			if !ca.Here {
				t.Errorf("%+v", r.Needs)
			}
		}
		if os.Geteuid() == 0 && !r.Etcd.NoNetwork {
			t.Error("its etcd had a network")
		}
	})
	n.nothingIsRehearsed()
	if now := n.members(); fmt.Sprint(now) != fmt.Sprint(members) || n.etcdProcess() != pid {
		t.Errorf("the members were %q, and are %q", members, now)
	}
	n.want(0, []string{"status"}, "rehearsed", b.Path)
	n.want(0, []string{"status", "-o", "prometheus"}, "etcdpod_rehearsal_ok{", "etcdpod_rehearsal_restore_seconds{")

	// Half of a kind is gone.
	c, err := n.EtcdClient()
	must(t, err)
	_, err = c.Delete(n.ctx, "/registry/configmaps/", clientv3.WithPrefix())
	must(t, c.Close())
	must(t, err)
	n.backup()
	r := n.rehearses(6, "latest")
	if r.Outcome != "found" || r.Previous == nil || len(r.Findings) != 1 || r.Findings[0].Code != "rehearsal-shrunk" {
		t.Errorf("%+v", r)
	}
	n.want(6, []string{"status"}, "the rehearsal of", "at most half is left")
	n.rehearses(0, "latest")
	n.want(0, []string{"status"})
	n.want(4, []string{"rehearse", n.Path("/nowhere.db")}, "there is no such file")
	n.want(0, []string{"status"}) // a mistyped name says nothing of any backup
	n.want(5, []string{"rehearse", "latest", "--etcd", n.Path("/nowhere")}, "cannot start --etcd")
	n.want(2, []string{"rehearse", "latest", "--memory", "1"}, "512MiB")
	n.want(2, []string{"rehearse", "latest", "--dry-run"}, "no --dry-run")
	n.nothingIsRehearsed()
}

// Ctrl-C, or an end that etcdpod hears nothing of.
func TestARehearsalThatIsInterruptedLeavesNothing(t *testing.T) {
	n := start(t, sandbox.Options{NoAPIServer: true})
	n.backup()
	for _, how := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL} {
		cmd, err := n.EtcdpodCommand(n.ctx, "rehearse", "latest")
		must(t, err)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		must(t, cmd.Start())
		n.eventually("its etcd listens", func() bool {
			found, _ := filepath.Glob(n.Path(home + "/.etcdpod-rehearsal-*/client:1"))
			return len(found) > 0
		})
		must(t, cmd.Process.Signal(how))
		_ = cmd.Wait()
		if how != syscall.SIGKILL {
			// It may have been over by then.
			code, said := cmd.ProcessState.ExitCode(), strings.Contains(out.String(), "interrupted")
			if code != 0 && (code != 1 || !said) {
				t.Errorf("%v: it ended with %d:\n%s", how, code, out.String())
			}
			n.nothingIsRehearsed()
		}
	}
	n.want(0, []string{"rehearse", "latest"})
	n.nothingIsRehearsed()
	n.untouched(func() { n.done("status", "--max-backup-age", "none") })
}

func TestARehearsalNeedsNeitherRootNorKubernetes(t *testing.T) {
	n := start(t, sandbox.Options{NoAPIServer: true})
	b := n.backup()
	dir, err := os.MkdirTemp("", "rehearse")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	must(t, os.Chmod(dir, 0o755))
	for from, to := range map[string]string{os.Getenv("ETCDPOD"): "etcdpod", b.file: "one.db"} {
		data, err := os.ReadFile(from)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, to), data, 0o755))
	}
	scratch := filepath.Join(dir, "scratch")
	must(t, os.Mkdir(scratch, 0o700))
	ctx, cancel := context.WithTimeout(n.ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "etcdpod"), "rehearse", "-o", "json",
		filepath.Join(dir, "one.db"))
	cmd.Env = []string{"TMPDIR=" + scratch, "ETCD_DATA_DIR=" + n.Path(sandbox.DataDir)}
	if os.Geteuid() == 0 {
		const nobody = 65534
		must(t, os.Chown(scratch, nobody, nobody))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	out, err := cmd.Output()
	must(t, err)
	var r rehearsal
	must(t, json.Unmarshal(out, &r))
	if r.Outcome != "ok" || r.Keys != b.Keys || r.Etcd.From != "built-in" || r.Needs.Checked {
		t.Errorf("%+v", r)
	}
	if left, _ := os.ReadDir(scratch); len(left) > 0 {
		t.Errorf("%q are left", left)
	}
}
