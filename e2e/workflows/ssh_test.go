package workflows

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

// startWithSSH makes three control planes that a real ssh reaches.
func startWithSSH(t *testing.T) (*cluster, *sandbox.SSH) {
	t.Helper()
	if !sandbox.HasSSHD() {
		t.Skip("no sshd here: apt-get install openssh-server")
	}
	c := startTogether(t)
	ssh, err := c.RealSSH(c.ctx)
	must(t, err)
	t.Cleanup(func() { must(t, ssh.Remove()) })
	return c, ssh
}

// limited is the line of docs/ssh.md for authorized_keys: the key starts the agent, and no more.
func limited(t *testing.T, etcdpod string) string {
	t.Helper()
	return strings.Replace(documented(t, "command="), "/usr/local/bin/etcdpod", etcdpod, 1)
}

// documented returns the words before a key, or the whole line, of the line in docs/ssh.md that has
// a word in it.
func documented(t *testing.T, word string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/ssh.md")
	must(t, err)
	for _, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(line, "    ") && strings.Contains(line, word) {
			line, _, _ = strings.Cut(strings.TrimSpace(line), " ssh-ed25519")
			return line
		}
	}
	t.Fatalf("docs/ssh.md has no line with %q", word)
	return ""
}

func (c *cluster) etcdpodOf(name string) string {
	c.t.Helper()
	path, err := c.Command(c.ctx, name, "command -v etcdpod").Output()
	must(c.t, err)
	return strings.TrimSpace(string(path))
}

// A key that may start the agent, and nothing else, is enough for all that spans several nodes.
func TestAKeyThatMayStartTheAgentAloneIsEnough(t *testing.T) {
	c, ssh := startWithSSH(t)
	for _, n := range c.nodes {
		must(t, ssh.Authorize(n.Node, limited(t, c.etcdpodOf(n.Node))))
	}
	b := c.nodes[0].backup()
	before := c.states()
	by := fmt.Sprintf("--ssh-command %q ", ssh.Command)
	c.typed("cp1", "etcdpod status --nodes cp1,cp2,cp3 "+by, 6, "cp2", "3 of 3 nodes serve")
	c.typed("cp1", "etcdpod restore --yes --nodes cp1,cp2,cp3 "+by+b.file, 0, "Restored on 3 nodes")
	c.wantNew(b, before)
	for _, typed := range []string{"etcdpod prune --yes", "cat /etc/shadow", "rm -rf /"} {
		out, _ := c.Command(c.ctx, "cp1", ssh.Command+" cp2 "+typed+" </dev/null").CombinedOutput()
		if text := strings.TrimSpace(string(out)); text != "" && text != "{}" {
			t.Errorf("%s: %s", typed, text)
		}
	}
	if c.nodes[1].lastRun().State != "completed" {
		t.Error("the key pruned")
	}
}

// Another user, whom sudo lets start the agent and nothing else, is enough, too. Their account, the
// line in sudoers and etcdpod's place are seen by sshd alone.
func TestAUserWhomSudoLetsStartTheAgentAloneIsEnough(t *testing.T) {
	if _, err := exec.LookPath("sudo"); err != nil || os.Getuid() != 0 {
		t.Skip("only root can make a user, and sudo must be there: apt-get install sudo")
	}
	c, ssh := startWithSSH(t)
	must(t, os.Chmod(ssh.Dir, 0o755)) // sshd reads the keys as that user
	for name, line := range map[string]string{"passwd": "etcdpod:x:60001:60001::/:/bin/sh",
		"shadow": "etcdpod:*:19000::::::", "sudoers": documented(t, "NOPASSWD")} {
		text, err := os.ReadFile("/etc/" + name)
		must(t, err)
		with := strings.TrimSpace(string(text)) + "\n" + line + "\n"
		must(t, os.WriteFile(filepath.Join(ssh.Dir, name), []byte(with), 0o440))
	}
	must(t, os.Chmod(filepath.Join(ssh.Dir, "passwd"), 0o444))
	for _, n := range c.nodes {
		must(t, ssh.Reach(n.Node, fmt.Sprintf("unshare -m sh -ec '"+
			"for f in passwd shadow sudoers; do mount --bind %[1]s/$f /etc/$f; done\n"+
			"mount -t tmpfs none /usr/local/bin\ncp %[2]s /usr/local/bin/\nexec %[3]s'",
			ssh.Dir, c.etcdpodOf(n.Node), ssh.Daemon(n.Node))))
	}
	b := c.nodes[0].backup()
	before := c.states()
	c.typed("cp1", fmt.Sprintf("etcdpod restore --yes --nodes cp1,cp2,cp3 --ssh-command %q --remote-command %q %s",
		ssh.Command+" -l etcdpod", "sudo -n /usr/local/bin/etcdpod", b.file), 0, "Restored on 3 nodes")
	c.wantNew(b, before)
	for _, typed := range []string{"etcdpod prune --yes", "etcdpod agent --root /", "cat /etc/shadow"} {
		out, err := c.Command(c.ctx, "cp1", ssh.Command+" -l etcdpod cp2 sudo -n "+typed+" </dev/null").CombinedOutput()
		if err == nil || !strings.Contains(string(out), "a password is required") {
			t.Errorf("%s: %v %s", typed, err, out)
		}
	}
	c.typed("cp1", fmt.Sprintf("etcdpod status --nodes cp1,cp2 --ssh-command %q --remote-command %q",
		ssh.Command+" -l etcdpod", "sudo -n /bin/etcdpod"), 6, "a password is required", "the sudoers line")
}

// Each way in which ssh fails is told by ssh's own words, with what cures it, before anything is
// touched; and where a run is open, the nodes that are there are not proposed as lost.
func TestWhatKeepsSSHFromANodeIsSaid(t *testing.T) {
	c, ssh := startWithSSH(t)
	b := c.nodes[0].backup()
	before := c.states()
	by := fmt.Sprintf("--ssh-command %q ", ssh.Command)
	status := "etcdpod status --nodes cp1,cp2,cp3 " + by
	restore := "etcdpod restore --yes --nodes cp1,cp2,cp3 " + by
	must(t, ssh.Know("cp2"))
	c.typed("cp1", status, 6, "cp2 cannot be reached", "Host key verification failed", "Next: the host key of cp2")
	c.typed("cp1", restore+b.file, 1, "Host key verification failed", "run `ssh -n cp2 true` once")
	must(t, ssh.Know())
	must(t, os.WriteFile(filepath.Join(ssh.Dir, "keys-cp2"), nil, 0o600))
	c.typed("cp1", restore+b.file, 1, "Permission denied (publickey)", "a key that cp2 accepts")
	must(t, ssh.Authorize("cp2", ""))
	c.typed("cp1", restore+"--remote-command etcdpodd "+b.file, 1, "etcdpodd", "not found", "--remote-command", "scp")
	must(t, ssh.Reach("cp2", "sleep 1000"))
	c.typed("cp1", status, 6, "cp2: note: waiting up to 21s for `", "nothing was heard for 21s", "Next: start cp2")
	must(t, ssh.Reach("cp2", ssh.Daemon("cp2")))
	c.typed("cp2", "etcdpod runs", 0, "Nothing has been run")

	c.killCoordinator("exchange-data", "cp2", b)
	c.nodes[1].eventually("the agent has noticed", func() bool { return c.nodes[1].run("prune", "--yes").Code == 3 })
	c.typed("cp2", "etcdpod runs", 0, "restore --yes --nodes cp1,cp2,cp3")
	// The agents end the operations that they have begun, so where each stands differs.
	said := c.typed("cp2", status, 6, "Next: run `etcdpod resume`")
	open := regexp.MustCompile(`is open: it stopped in [^\n]*`).FindAllString(said, -1)
	if len(open) != 1 || strings.Count(said, "  ! ") > 3 {
		t.Errorf("the open run is not the one thing that is said:\n%s", said)
	}
	for _, name := range []string{"cp1", "cp2", "cp3"} {
		if !strings.Contains(strings.Join(open, ""), name) {
			t.Errorf("where the run stopped on %s is not said:\n%s", name, said)
		}
	}
	// The way from here is another than that from the node on which it was begun.
	must(t, os.WriteFile(filepath.Join(ssh.Dir, "keys-cp1"), nil, 0o600))
	out, err := c.Command(c.ctx, "cp2", "ETCDPOD_SSH_COMMAND='"+ssh.Command+"' etcdpod resume").CombinedOutput()
	if err == nil || strings.Contains(string(out), "--lost") ||
		!strings.Contains(string(out), "hint: `ssh -n cp1 true` must work here") {
		t.Errorf("resume says %v\n%s", err, out)
	}
	must(t, ssh.Authorize("cp1", ""))
	c.typed("cp2", "etcdpod resume "+by, 0, "Finished")
	c.wantNew(b, before)
}
