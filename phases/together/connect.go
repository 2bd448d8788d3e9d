package together

import (
	"fmt"
	"io"

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
