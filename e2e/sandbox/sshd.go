package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// SSH is a real ssh to control planes, with keys, host keys and an authorized_keys of its own. Each
// connection gets an sshd of its own over a pipe, as whoever runs the test: no port, and no daemon.
type SSH struct {
	Dir     string
	Command string // reaches the node that follows it
	planes  *ControlPlanes
}

const sshd = "/usr/sbin/sshd" // it wants to be called by its whole path

// HasSSHD says whether this machine has an sshd and its client.
func HasSSHD() bool {
	_, client := exec.LookPath("ssh")
	_, server := os.Stat(sshd)
	return client == nil && server == nil
}

// RealSSH makes ssh to the control planes. The one key that all accept may do everything:
// [SSH.Authorize] limits it.
func (c *ControlPlanes) RealSSH(ctx context.Context) (*SSH, error) {
	client, err := exec.LookPath("ssh") // by its path: on a node's PATH is what stands in for it
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "ep-ssh")
	if err != nil {
		return nil, err
	}
	s := &SSH{Dir: dir, Command: client + " -F " + filepath.Join(dir, "config"), planes: c}
	if os.Getuid() == 0 { // where it separates its privileges
		err = os.MkdirAll("/run/sshd", 0o755)
	}
	config := fmt.Sprintf("BatchMode yes\nIdentitiesOnly yes\nIdentityFile %[1]s/user\nUserKnownHostsFile "+
		"%[1]s/known_hosts\nGlobalKnownHostsFile none\nStrictHostKeyChecking yes\nUpdateHostKeys no\n", dir)
	err = errors.Join(err, s.makeKey(ctx, "user"))
	for _, n := range c.Nodes {
		config += fmt.Sprintf("Host %[1]s\n  ProxyCommand %[2]s/reach-%[1]s\n", n.Node, dir)
		err = errors.Join(err, s.makeKey(ctx, "host-"+n.Node), s.Authorize(n.Node, ""),
			s.serve(n.Node), s.Reach(n.Node, s.Daemon(n.Node)))
	}
	err = errors.Join(err, s.write("config", config), s.Know())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot prepare ssh: %w", err), s.Remove())
	}
	return s, nil
}

// Daemon is the command that serves one connection to a node.
func (s *SSH) Daemon(node string) string {
	return sshd + " -i -f " + filepath.Join(s.Dir, "sshd-"+node)
}

func (s *SSH) serve(node string) error {
	return s.write("sshd-"+node, fmt.Sprintf("HostKey %[1]s/host-%[2]s\nAuthorizedKeysFile %[1]s/keys-%[2]s\n"+
		"AuthenticationMethods publickey\nPermitRootLogin yes\nStrictModes no\nUsePAM no\nPidFile none\n"+
		"PrintMotd no\nSetEnv PATH=%[3]s:%[4]s\n",
		s.Dir, node, filepath.Join(s.planes.dir, node), os.Getenv("PATH")))
}

// Reach has a node reached by a shell command, such as one that never answers.
func (s *SSH) Reach(node, command string) error {
	return os.WriteFile(filepath.Join(s.Dir, "reach-"+node), []byte("#!/bin/sh\nexec "+command+"\n"), 0o755)
}

// Authorize limits what the key may do on a node, by options as authorized_keys has them.
func (s *SSH) Authorize(node, options string) error {
	key, err := os.ReadFile(filepath.Join(s.Dir, "user.pub"))
	return errors.Join(err, os.WriteFile(filepath.Join(s.Dir, "keys-"+node),
		[]byte(strings.TrimSpace(options+" "+string(key))+"\n"), 0o644))
}

// Know has the client know the host keys of all nodes, except some.
func (s *SSH) Know(except ...string) error {
	text := ""
	for _, n := range s.planes.Nodes {
		key, err := os.ReadFile(filepath.Join(s.Dir, "host-"+n.Node+".pub"))
		if err != nil {
			return err
		}
		if !slices.Contains(except, n.Node) {
			text += n.Node + " " + string(key)
		}
	}
	return s.write("known_hosts", text)
}

func (s *SSH) write(name, text string) error {
	return os.WriteFile(filepath.Join(s.Dir, name), []byte(text), 0o600)
}

func (s *SSH) makeKey(ctx context.Context, name string) error {
	out, err := exec.CommandContext(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f",
		filepath.Join(s.Dir, name)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// Remove removes the keys.
func (s *SSH) Remove() error { return os.RemoveAll(s.Dir) }
