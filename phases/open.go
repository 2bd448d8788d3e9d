package phases

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// Config is what the command line says of the node. Everything else is found on the node itself.
type Config struct {
	Root      string // below which all host paths are; "/" as a rule
	CRISocket string // unix:///…; empty: from the kubelet's configuration
	// Commands that stop, start and tell of the kubelet, split as a shell would; empty: systemctl.
	KubeletStop, KubeletStart, KubeletStatus string
	// How etcd is reached; empty: from the manifests. Certificates are paths of this process.
	Endpoints          []string
	CACert, Cert, Key  string
	Version            string   // of etcdpod
	Command            []string // as typed
	Emit               func(Event)
	KubeletStopTimeout time.Duration // 0: 30 s
}

// Open looks at the node's configuration. It fails when the kubelet's configuration cannot be read.
func Open(c Config) (*Node, error) {
	root, err := os.Stat(c.Root)
	if err == nil && !root.IsDir() {
		err = fmt.Errorf("%s: %w", c.Root, syscall.ENOTDIR)
	}
	if err != nil { // below it, a node on which nothing is would be found, and told of
		return nil, refuse("correct --root, or make the directory", "cannot look for a node: %v", err)
	}
	disk := node.OS(c.Root)
	kubelet, err := node.ReadKubeletConfig(disk)
	if err != nil {
		return nil, refuseKind(err)
	}
	if c.CRISocket != "" {
		kubelet.RuntimeEndpoint = c.CRISocket
	}
	name, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("cannot tell this host's name: %w", err)
	}
	for _, file := range []*string{&c.CACert, &c.Cert, &c.Key} {
		if *file == "" {
			continue
		}
		if *file, err = filepath.Abs(*file); err != nil { // the journal keeps them for whoever resumes, from wherever
			return nil, fmt.Errorf("cannot find %s: %w", *file, err)
		}
	}
	if c.Emit == nil {
		c.Emit = func(Event) {}
	}
	if c.KubeletStopTimeout == 0 {
		c.KubeletStopTimeout = 30 * time.Second
	}
	commands := node.Commands{Stop: c.KubeletStop, Start: c.KubeletStart, Status: c.KubeletStatus, Wait: c.KubeletStopTimeout}
	host := &node.Host{FS: disk, Kubelet: node.Service(node.Run, commands), Runtime: node.CRI(kubelet.RuntimeEndpoint, disk), Processes: node.Proc(disk), Clock: node.WallClock()}
	return &Node{
		host: host, etcd: etcdOf(disk), api: apiServerOf(disk), certs: boundCerts{disk, host.Clock}, name: name, version: c.Version, command: c.Command, emit: c.Emit,
		kubelet: kubelet, access: accessFlags{c.Endpoints, c.CACert, c.Cert, c.Key}, connect: connectBySSH,
	}, nil
}

// connectBySSH starts an agent on another node by the operator's own ssh, or what stands for it: the command's words, the host, the remote command's words.
func connectBySSH(c *journal.Cluster, p journal.Peer) (io.ReadWriteCloser, error) {
	argv, err := node.SplitWords(c.SSHCommand)
	if err != nil || len(argv) == 0 {
		return nil, &UsageError{Reason: fmt.Sprintf("cannot split %q into words", c.SSHCommand)}
	}
	remote, err := node.SplitWords(c.RemoteCommand)
	if err != nil || len(remote) == 0 {
		return nil, &UsageError{Reason: fmt.Sprintf("cannot split %q into words", c.RemoteCommand)}
	}
	return node.Connect(append(append(append(argv, p.Host), remote...), "agent"))
}
