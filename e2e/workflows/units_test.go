package workflows

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/e2e/sandbox"
	"github.com/etcdpod/etcdpod/e2e/systemd"
)

// program writes a program that is etcdpod on this node, whoever starts it and with whatever
// environment.
func (n *node) program() string {
	n.t.Helper()
	cmd, err := n.EtcdpodCommand(n.ctx)
	must(n.t, err)
	text := "#!/bin/sh\nexec"
	for _, word := range cmd.Args {
		text += " '" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	file := n.Path("/etcdpod")
	must(n.t, os.WriteFile(file, []byte(text+` "$@"`+"\n"), 0o700))
	return file
}

// service runs what the service in a unit runs, as systemd does: in its directory, without a
// terminal, and with nothing in the environment. Its restrictions are left out.
func (n *node) service(unit string) (code int, output string) {
	n.t.Helper()
	words, err := systemd.Command(unit)
	must(n.t, err)
	cmd := exec.CommandContext(n.ctx, words[0], words[1:]...)
	cmd.Env = []string{}
	cmd.Dir = "/"
	if dir := systemd.Setting(unit, "WorkingDirectory"); dir != "" {
		cmd.Dir = dir
	}
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		n.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

func TestWhatTheTimersRunWorksWithNothingInItsEnvironment(t *testing.T) {
	n := start(t, sandbox.Options{})
	program := n.program()
	etcdpod, err := n.EtcdpodCommand(n.ctx)
	must(t, err)
	unit := func(args ...string) string {
		t.Helper()
		args = append([]string{"units", "systemd", args[0], "--only", "service", "--binary", program}, args[1:]...)
		out, err := exec.CommandContext(n.ctx, etcdpod.Path, args...).Output()
		must(t, err)
		return string(out)
	}

	const dir = "/srv/a place"
	if code, out := n.service(unit("backup", "--", "--dir", dir)); code != 0 || len(n.files(dir)) != 2 {
		t.Errorf("the backup's service ends with %d, and %s has %q:\n%s", code, dir, n.files(dir), out)
	}
	for range 3 {
		n.change()
		if code, out := n.service(unit("backup", "--", "--keep=2")); code != 0 {
			t.Errorf("the backup's service ends with %d:\n%s", code, out)
		}
	}
	kept, err := filepath.Glob(n.Path("/var/lib/etcdpod/backups/etcd-*.db"))
	must(t, err)
	if len(kept) != 2 {
		t.Errorf("of three backups, these were to be two: %q", kept)
	}
	for _, file := range kept {
		n.verify(0, file)
	}

	// By the rule there is nothing to do; without it there is.
	if code, out := n.service(unit("defrag")); code != 0 || !strings.Contains(out, "the rule is false") {
		t.Errorf("the service that defragments ends with %d:\n%s", code, out)
	}
	code, out := n.service(unit("defrag", "--", "--min-reclaim=0%"))
	if code != 0 || !strings.Contains(out, "defragmented") {
		t.Errorf("without the rule it ends with %d:\n%s", code, out)
	}
	n.metrics(unit)
}

// metrics has the service of status write its file, and fail to.
func (n *node) metrics(unit func(...string) string) {
	n.t.Helper()
	collector := n.t.TempDir()
	read := func() string {
		n.t.Helper()
		data, err := os.ReadFile(filepath.Join(collector, "etcdpod.prom"))
		must(n.t, err)
		return string(data)
	}
	service := unit("status", "--textfile-dir", collector)
	code, out := n.service(service)
	if code != 0 && code != 6 || out != "" || !strings.Contains(read(), "etcdpod_etcd_up{") {
		n.t.Errorf("the service of status ends with %d:\n%s%s", code, out, read())
	}
	must(n.t, os.WriteFile(filepath.Join(collector, "etcdpod.prom"), []byte("old"), 0o600))
	n.service(service)
	good := read()
	if good == "old" {
		n.t.Errorf("the old metrics are still there")
	}

	// One that fails in the middle replaces nothing, and its unit fails.
	fails := filepath.Join(n.t.TempDir(), "etcdpod")
	must(n.t, os.WriteFile(fails, []byte("#!/bin/sh\necho 'etcdpod_run_open{'\nexit 1\n"), 0o700))
	binary, err := systemd.Command(service)
	must(n.t, err)
	binary[2] = fails + " " + strings.SplitN(binary[2], " ", 2)[1]
	cmd := exec.CommandContext(context.Background(), binary[0], binary[1:]...)
	cmd.Dir = collector
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != 1 || read() != good {
		n.t.Errorf("a status that fails (%v) has written\n%s", err, read())
	}
}
