package rig

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/etcdpod/etcdpod/e2e/rig/internal/boot"
)

// sshDir has everything that a node's sshd and ssh need. They neither read nor write the host's
// /etc/ssh and /root/.ssh: a node has its own /etc, and its own root, whose home is [boot.Home].
const sshDir = "/etc/ssh"

// sshFiles sets up ssh on a node: root of any node can log in to any other by name, with the
// cluster's key and without a prompt.
func (n *Node) sshFiles(ctx context.Context) error {
	for path, file := range map[string]struct {
		text string
		mode os.FileMode
	}{
		sshDir + "/sshd_config": {n.sshdConfig(), 0o644},
		sshDir + "/ssh_config":  {sshConfig, 0o644},
		// On the host root may be locked, and sshd would refuse it.
		"/etc/passwd": {"root:*:0:0:root:" + boot.Home +
			":/bin/bash\nsshd:*:65533:65534:sshd:/run/sshd:/usr/sbin/nologin\n", 0o644},
		"/etc/shadow": {"root:*:::::::\nsshd:*:::::::\n", 0o600},
	} {
		if err := n.writeEtc(path, file.text, file.mode); err != nil {
			return err
		}
	}
	home := n.Path(boot.Home)
	if err := os.MkdirAll(home, 0o700); err != nil {
		return err
	}
	key := n.etc(sshDir + "/ssh_host_ed25519_key")
	if err := makeKey(ctx, key); err != nil {
		return err
	}
	secret, err := os.ReadFile(n.cluster.key())
	if err != nil {
		return err
	}
	public, err := os.ReadFile(n.cluster.key() + ".pub")
	if err != nil {
		return err
	}
	return errors.Join(n.writeEtc(sshDir+"/cluster_key", string(secret), 0o600),
		n.writeEtc(sshDir+"/authorized_keys", string(public), 0o644))
}

// acquaint gives every node the names, addresses and host keys of all. For a running node it writes
// through the node's own view: the layers below an overlay must not change while it is mounted.
func (c *Cluster) acquaint() error {
	hosts, known := "127.0.0.1 localhost\n", ""
	for _, n := range c.Nodes {
		key, err := os.ReadFile(n.etc(sshDir + "/ssh_host_ed25519_key.pub"))
		if err != nil {
			return err
		}
		hosts += n.Address + " " + n.Name + "\n"
		known += n.Name + "," + n.Address + " " + strings.TrimSpace(string(key)) + "\n"
	}
	for _, n := range c.Nodes {
		if err := errors.Join(n.writeEtc("/etc/hosts", hosts, 0o644),
			n.writeEtc(sshDir+"/ssh_known_hosts", known, 0o644)); err != nil {
			return err
		}
	}
	return nil
}

// etc returns the host's path of a file that the node has written, or was given, below /etc.
func (n *Node) etc(path string) string {
	return filepath.Join(n.Dir, boot.Etc, strings.TrimPrefix(path, "/etc/"))
}

func (n *Node) writeEtc(path, text string, mode os.FileMode) error {
	if n.Running() {
		path = fmt.Sprintf("/proc/%d/root%s", n.PID, path)
	} else {
		path = n.etc(path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), mode)
}

// key is the private key that root uses between nodes.
func (c *Cluster) key() string { return filepath.Join(c.Dir, "ssh_key") }

func makeKey(ctx context.Context, path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if out, err := exec.CommandContext(ctx, "ssh-keygen", "-q",
		"-t", "ed25519", "-N", "", "-C", "", "-f", path).CombinedOutput(); err != nil {
		return fmt.Errorf("cannot make the key %s: %w: %s", path, err, out)
	}
	return nil
}

// sshdConfig gives a session the PATH of everything else on the node: with etcdpod, and the
// rig's systemctl first.
func (n *Node) sshdConfig() string {
	return `ListenAddress ` + n.Address + `
HostKey ` + sshDir + `/ssh_host_ed25519_key
AuthorizedKeysFile ` + sshDir + `/authorized_keys
AuthenticationMethods publickey
PermitRootLogin prohibit-password
UsePAM no
UseDNS no
PrintMotd no
PrintLastLog no
MaxStartups 100
MaxSessions 100
PidFile none
Subsystem sftp internal-sftp
SetEnv PATH=` + n.cluster.path() + `
`
}

const sshConfig = `Host *
  User root
  IdentityFile ` + sshDir + `/cluster_key
  IdentitiesOnly yes
  BatchMode yes
  StrictHostKeyChecking yes
  UpdateHostKeys no
  ConnectTimeout 5
`
