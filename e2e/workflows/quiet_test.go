package workflows

import (
	"os"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

// quiet runs etcdpod with --quiet, and holds what it writes, wholly.
func (n *node) quiet(code int, stdout, stderr string, args ...string) {
	n.t.Helper()
	args = append(args, "--quiet")
	r := n.want(code, args)
	if r.Stdout != stdout || stderr == "" && r.Stderr != "" || !strings.Contains(r.Stderr, stderr) {
		n.t.Errorf("%q writes %q, and on standard error %q", args, r.Stdout, r.Stderr)
	}
}

// A cron job mails whatever a command writes.
func TestQuietWritesWhatAScriptUsesAndNothingElse(t *testing.T) {
	n := start(t, sandbox.Options{})
	file := n.Path("/srv/b.db")
	must(t, os.MkdirAll(n.Path("/srv"), 0o755))
	n.quiet(0, "/srv/b.db\n", "", "backup", file)
	n.quiet(0, "", "", "verify", file)
	n.quiet(0, "", "", "status")
	n.quiet(0, "", "", "certs", "check")
	n.quiet(0, "", "", "restore", "--dry-run", file)
	n.quiet(0, "", "etcdpod: warning: also restart the kubelets of the workers", "restore", "--yes", file)
	n.quiet(0, n.lastRun().ID+"\n", "", "runs")
	n.ready()

	n.quiet(5, "", "never replaces", "backup", file)
	must(t, os.Truncate(file, 5000))
	n.quiet(4, "", "etcdpod: critical: "+file+" is bad: ", "verify", file)
	n.quiet(2, "", "cannot be combined", "status", "--verbose")
	r := n.done("backup", "-q", "-o", "json", n.Path("/srv/c.db"))
	if lines := strings.Split(strings.TrimSpace(r.Stdout), "\n"); len(lines) != 1 || r.Stderr != "" {
		t.Errorf("in JSON it writes %q, and on standard error %q", lines, r.Stderr)
	}
	must(t, os.Remove(n.Path(pkiDir+"etcd/server.crt")))
	n.quiet(6, "", "etcdpod: critical: /etc/kubernetes/pki/etcd/server.crt is missing", "certs", "check")
}
