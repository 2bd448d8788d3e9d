package together

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// ConnectBySSH starts an agent on another node over the operator's own ssh, or what stands in for
// it: it runs the ssh command's words, the host, then the remote command's words.
func ConnectBySSH(c *journal.Cluster, p journal.Peer) (io.ReadWriteCloser, error) {
	argv, err := node.SplitWords(c.SSHCommand)
	if err != nil || len(argv) == 0 {
		return nil, &engine.UsageError{Reason: fmt.Sprintf("cannot split %q into words", c.SSHCommand)}
	}
	remote, err := node.SplitWords(c.RemoteCommand)
	if err != nil || len(remote) == 0 {
		return nil, &engine.UsageError{Reason: fmt.Sprintf("cannot split %q into words", c.RemoteCommand)}
	}
	return node.Connect(append(append(append(argv, p.Host), remote...), "agent"))
}

// typedTo is what one would type to do by hand what connects to a node.
func typedTo(c *journal.Cluster, at journal.Peer) string {
	return fmt.Sprintf("%s %s %s agent", c.SSHCommand, at.Host, c.RemoteCommand)
}

// Reach is how this process reaches the other nodes of a run that is open: where it is not empty,
// instead of how the node on which the run was begun reached them.
type Reach struct{ SSHCommand, RemoteCommand string }

// Reaching says how to reach the other nodes of a run that is open.
func (n *Node) Reaching(r Reach) { n.reach = r }

// waitSaid is for how long a node may be silent before a person is told who is waited for.
const waitSaid = time.Second

// saysWaiting tells, after a while, that a node is waited for, until the returned function is
// called.
func (n *Node) saysWaiting(c *journal.Cluster, at journal.Peer, beat time.Duration) (stop func() bool) {
	if beat == 0 { // in tests nodes act one after another
		return func() bool { return true }
	}
	return time.AfterFunc(waitSaid, func() {
		n.Emit(engine.Event{Time: n.Host.Clock.Now().UTC(), Node: at.Name, Phase: "connect", State: engine.Noted,
			Together: true, Message: fmt.Sprintf("waiting up to %s for `%s`", silence(beat), typedTo(c, at))})
	}).Stop
}

// UnreachedError says that no agent could be started on a node.
type UnreachedError struct {
	At    journal.Peer
	Typed string // what starts the agent
	Cause error
}

func (e *UnreachedError) Error() string {
	return fmt.Sprintf("%s cannot be reached: `%s`: %v", e.At.Name, e.Typed, e.Cause)
}

func (e *UnreachedError) Unwrap() error { return e.Cause }

// Hint says what cures it, if it can be told.
func (e *UnreachedError) Hint() string {
	cure, _ := e.cure()
	return cure
}

// unreached makes an UnreachedError of how the connection ended before the agent's first answer.
// Any other error is the agent's own.
func unreached(c *journal.Cluster, at journal.Peer, err error) error {
	var cut *CutError
	if !errors.As(err, &cut) {
		return err
	}
	return &UnreachedError{At: at, Typed: typedTo(c, at), Cause: cut.Cause}
}

// sign is how ssh, sudo, a shell or an old etcdpod says what is wrong, and what cures it: %[1]s is
// the host, %[2]s the node.
type sign struct {
	says  []string
	code  int // or this exit code; 0: none
	cure  string
	alive bool // the machine answers
}

// signs are from OpenSSH 9, sudo 1.9, dash and bash; the first that fits counts.
var signs = []sign{
	{says: []string{"command not found"}, code: 127, alive: true,
		cure: "etcdpod is not on the PATH of an ssh session on %[2]s: give its path with --remote-command, such as " +
			"--remote-command /usr/local/bin/etcdpod; if it is not installed there, copy it: `scp \"$(command -v " +
			"etcdpod)\" %[1]s:/usr/local/bin/`"},
	{says: []string{"cannot execute", "Exec format error"}, code: 126, alive: true,
		cure: "what --remote-command (or the PATH) names on %[2]s cannot be executed by that user: check its mode, " +
			"and that it is built for that machine (`uname -m`)"},
	{says: []string{`unknown command "agent"`}, alive: true,
		cure: "what answers on %[2]s is an etcdpod without `agent`: install this version there (`etcdpod version`), " +
			"or give its path with --remote-command"},
	{says: []string{"REMOTE HOST IDENTIFICATION HAS CHANGED", "has changed and you have requested"}, alive: true,
		cure: "if %[2]s was rebuilt, remove its old host key: `ssh-keygen -R %[1]s`; `ssh -n %[1]s true` then asks " +
			"about the new one"},
	{says: []string{"Host key verification failed"}, alive: true,
		cure: "the host key of %[1]s is not known here: run `ssh -n %[1]s true` once, as the user who runs etcdpod " +
			"(root), and check the key"},
	{says: []string{"a password is required", "a terminal is required", "no tty present"}, alive: true,
		cure: "sudo on %[2]s asks for a password: allow `etcdpod agent` without one; " +
			"/usr/share/doc/etcdpod/docs/ssh.md has the sudoers line"},
	{says: []string{"is not allowed to execute", "is not in the sudoers file", "may not run sudo"}, alive: true,
		cure: "sudo on %[2]s does not allow that user `etcdpod agent`: " +
			"/usr/share/doc/etcdpod/docs/ssh.md has the sudoers line"},
	{says: []string{"Permission denied (", "Too many authentication failures", "Authentication failed"}, alive: true,
		cure: "`ssh -n %[1]s true` must work here without any prompt, as the user who runs etcdpod (root, under sudo " +
			"too): give that user a key that %[1]s accepts, or log in as another with --ssh-command \"ssh -l USER\"; " +
			"/usr/share/doc/etcdpod/docs/ssh.md has the details"},
	{says: []string{"must be run as root"}, alive: true,
		cure: "the user on %[2]s is not root: add --remote-command \"sudo -n etcdpod\""},
	{says: []string{"Could not resolve hostname"},
		cure: "make %[1]s resolvable here, in /etc/hosts or ~/.ssh/config (or give its address: --nodes " +
			"%[2]s=ADDRESS)"},
	{says: []string{"Connection refused"}, alive: true, cure: "start sshd on %[2]s, or give another port: " +
		"--ssh-command " +
		"\"ssh -p PORT\""},
}

// sshFailed is ssh's exit code for its own failures. Any other one is the remote command's: the
// machine answers. That holds for ssh alone: timeout(1) around it, and other programs, have codes
// of their own.
const sshFailed = 255

// cure says what to do, and whether the machine is known to be there.
func (e *UnreachedError) cure() (what string, alive bool) {
	text, code := e.Cause.Error(), -1
	var ended *node.EndedError
	if errors.As(e.Cause, &ended) {
		code = ended.Code
	}
	var stranger *strangerError
	switch {
	case errors.Is(e.Cause, node.ErrNoProgram), errors.Is(e.Cause, fs.ErrNotExist):
		return "install an ssh client on this node, or give another command with --ssh-command", true
	case errors.As(e.Cause, &stranger):
		return fmt.Sprintf("check what `%s` prints here: only etcdpod may write to standard output (a shell profile "+
			"there?)",
			e.Typed), true
	}
	for _, s := range signs {
		fits := s.code != 0 && s.code == code
		for _, say := range s.says {
			fits = fits || strings.Contains(text, say)
		}
		if fits {
			return fmt.Sprintf(s.cure, e.At.Host, e.At.Name), s.alive
		}
	}
	if code >= 0 && code != sshFailed {
		return fmt.Sprintf("`%s` exited with %d: run it here to see what it is that ran; if that is not etcdpod "+
			"on %s, give its path there with --remote-command", e.Typed, code, e.At.Name), e.bySSH()
	}
	return fmt.Sprintf("start %s, or fix the connection: `ssh -n %s true` must work here without any prompt",
		e.At.Name, e.At.Host), false
}

// bySSH says whether it is ssh itself that was run.
func (e *UnreachedError) bySSH() bool {
	program, _, _ := strings.Cut(e.Typed, " ")
	return path.Base(program) == "ssh"
}

// kind is the same for all nodes that the same cures.
func (e *UnreachedError) kind() string {
	anywhere := *e
	anywhere.At, anywhere.Typed = journal.Peer{}, ""
	cure, _ := anywhere.cure()
	return cure
}

// connect starts an agent on another node.
func (n *Node) connect(c *journal.Cluster, at journal.Peer) (link, time.Duration, error) {
	conn, err := n.Connect(c, at)
	if err != nil && engine.Hint(err) == "" && !errors.As(err, new(*engine.UsageError)) {
		err = &CutError{err}
	}
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", at.Name, err)
	}
	beat := heartbeat
	if n.OneByOne {
		beat = 0
	}
	return NewRemoteLink(at.Name, conn, n.Emit, beat), beat, nil
}

// greet asks a node the first question, and tells why it does not answer.
func (n *Node) greet(
	ctx context.Context, c *journal.Cluster, at journal.Peer, p *Peer, hello HelloQuestion,
) (answer HelloAnswer, err error) {
	if p.Here {
		return Query[HelloAnswer](ctx, p, AskHello, hello)
	}
	var beat time.Duration
	if p.Link, beat, err = n.connect(c, at); err != nil {
		return answer, unreached(c, at, err)
	}
	stop := n.saysWaiting(c, at, beat)
	defer stop()
	if beat > 0 { // an agent that does not answer yet does not give up either when it is told to
		defer context.AfterFunc(ctx, func() { _ = p.Link.Close() })()
	}
	answer, err = Query[HelloAnswer](ctx, p, AskHello, hello)
	if err != nil && ctx.Err() != nil {
		return answer, ctx.Err()
	}
	return answer, unreached(c, at, err)
}
