package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/etcdpod/etcdpod/e2e/leash"
	"github.com/etcdpod/etcdpod/e2e/sandbox/internal/proc"
)

// ControlPlanes are several nodes of one cluster, which reach each other
// through a stand-in for ssh.
type ControlPlanes struct {
	Nodes []*Sandbox // in the order of joining
	dir   string     // a folder for each node with the programs on its PATH
}

// NewControlPlanes makes the named nodes and starts them in turn, each joining the cluster of those
// before. The third and later nodes cost five seconds each: etcd waits that long.
func NewControlPlanes(ctx context.Context, o Options, names ...string) (*ControlPlanes, error) {
	dir, err := os.MkdirTemp("", "ep-bin")
	if err != nil {
		return nil, err
	}
	c := &ControlPlanes{dir: dir}
	for i, name := range names {
		o.Node, o.Address = name, fmt.Sprintf("127.0.0.%d", i+2)
		if i > 0 {
			o.Join = c.Nodes[i-1]
		}
		if err := c.add(ctx, o); err != nil {
			return nil, errors.Join(fmt.Errorf("cannot make the control plane %s: %w", name, err), c.Destroy())
		}
	}
	return c, nil
}

func (c *ControlPlanes) add(ctx context.Context, o Options) error {
	s, err := New(o)
	if err != nil {
		return err
	}
	c.Nodes = append(c.Nodes, s)
	if err := c.writePrograms(s); err != nil {
		return err
	}
	return s.Start(ctx)
}

// writePrograms writes what is on a node's PATH: this node's etcdpod, systemctl for its kubelet,
// and ssh to the others.
func (c *ControlPlanes) writePrograms(s *Sandbox) error {
	dir := filepath.Join(c.dir, s.Node)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	etcdpod, err := s.EtcdpodCommand(context.Background())
	if err != nil {
		return err
	}
	mark := "export " + quote(proc.Environ(nil, s.Root)) + "\n"
	for name, script := range map[string]string{
		"etcdpod": mark + "exec " + quote(etcdpod.Args) + ` "$@"`,
		"systemctl": `case "$*" in
"stop kubelet") ` + s.KubeletStopCommand() + ` ;;
"start kubelet") ` + s.KubeletStartCommand() + ` ;;
*) echo "systemctl $*: not on this node" >&2; exit 4 ;;
esac`,
		"ssh": `node=$1; shift
if ! test -d ` + quote([]string{c.dir}) + `/"$node" || test -e ` + quote([]string{c.dir}) + `/"$node"/down; then
	echo "ssh: connect to host $node port 22: No route to host" >&2
	exit 255
fi
PATH=` + quote([]string{c.dir}) + `/"$node":$PATH exec sh -c "$*"`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// Command prepares a shell command line as if typed on the named node. Its paths are paths of this
// machine, except those that etcdpod takes as host paths.
func (c *ControlPlanes) Command(ctx context.Context, node, line string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	cmd.Env = append(os.Environ(), "PATH="+filepath.Join(c.dir, node)+":"+os.Getenv("PATH"))
	return cmd
}

// Node returns the named node.
func (c *ControlPlanes) Node(name string) *Sandbox {
	for _, s := range c.Nodes {
		if s.Node == name {
			return s
		}
	}
	panic("no node is named " + name + ": there are " + strings.Join(c.names(), ", "))
}

func (c *ControlPlanes) names() (names []string) {
	for _, s := range c.Nodes {
		names = append(names, s.Node)
	}
	return names
}

// PowerOff kills everything on a node at once, and lets no more connections reach it.
func (c *ControlPlanes) PowerOff(name string) error {
	return errors.Join(os.WriteFile(c.downFile(name), nil, 0o644), c.Node(name).Crash())
}

// PowerOn starts the runtime and the kubelet of a node that is off. It does not wait
// for the control plane.
func (c *ControlPlanes) PowerOn(ctx context.Context, name string) error {
	return errors.Join(os.Remove(c.downFile(name)), c.Node(name).Reboot(ctx))
}

func (c *ControlPlanes) downFile(name string) string { return filepath.Join(c.dir, name, "down") }

// WaitReady waits until every node's etcd and API server serve.
func (c *ControlPlanes) WaitReady(ctx context.Context) error {
	for _, s := range c.Nodes {
		if err := s.WaitReady(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.Node, err)
		}
	}
	return nil
}

// Destroy ends and removes all nodes.
func (c *ControlPlanes) Destroy() error {
	errs := []error{os.RemoveAll(c.dir)}
	for _, s := range c.Nodes {
		errs = append(errs, s.Destroy())
	}
	return errors.Join(errs...)
}

// Progress is an event that `-o json` writes for a run on several nodes.
type Progress struct{ Node, Phase, Operation, State string }

// KillWhen runs a command line on a node, which must be one command with `-o json`, and kills it
// with SIGKILL at the first event for which the condition holds. The command is on a leash, so it
// cannot write or see another event first. The agents that it started on other nodes stay. It is an
// error if the command ends before.
func (c *ControlPlanes) KillWhen(ctx context.Context, node, line string, now func(Progress) bool) error {
	cmd := c.Command(ctx, node, "exec "+line)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	killed, wrong := false, error(nil)
	err := leash.Run(cmd, &cmd.Stdout, func(line string) {
		var p Progress
		if err := json.Unmarshal([]byte(line), &p); err != nil {
			wrong = errors.Join(wrong, fmt.Errorf("%q is no event: %w", line, err))
		} else if !killed && now(p) {
			killed = cmd.Process.Kill() == nil
		}
	})
	if wrong != nil || !killed || cmd.ProcessState.ExitCode() != -1 {
		return fmt.Errorf("%q ended before it was to be killed: %w: %s", line, errors.Join(wrong, err), stderr.String())
	}
	return c.Node(node).AwaitCommands(ctx)
}
