package observe

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/bind"
	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// HostPath returns a path that the operator typed as a host path. With --root it must lie below the
// root.
func (n *Node) HostPath(typed string) (string, error) {
	abs, err := filepath.Abs(typed)
	if err != nil {
		return "", fmt.Errorf("cannot find %s: %w", typed, err)
	}
	root := n.FS.Real("/")
	if root == "/" {
		return abs, nil
	}
	below, err := filepath.Rel(root, abs)
	if err != nil || below == ".." || strings.HasPrefix(below, "../") {
		hint := fmt.Sprintf("give a path below %s, as the shell sees it; a file from elsewhere must be copied there "+
			"first", root)
		if n.Exists(abs) {
			hint = "give it as the shell sees it: " + n.FS.Real(abs)
		}
		return "", &engine.UsageError{Reason: fmt.Sprintf("%s is not below the root %s", typed, root), Hint: hint}
	}
	return "/" + below, nil
}

// Node is what observers see of the control-plane node that etcdpod runs on, and of the cluster
// around it. Nothing can be changed through it.
type Node struct {
	node.View
	Etcd Asked
	API  interface {
		Ready(ctx context.Context, a op.APIAccess) error
	}
	Config node.KubeletConfig // of the kubelet
	Name   string             // of the host
	Access AccessFlags
	Emit   func(engine.Event) // reports the progress of a long observation
}

// Asked are the questions to etcd whose answers change nothing.
type Asked interface {
	// Listening says whether anything accepts connections at a URL.
	Listening(ctx context.Context, url string) bool
	// Serving returns the etcd that answers a linearizable read at the first endpoint. Its keys are
	// counted as of revision at, 0 for now.
	Serving(ctx context.Context, a op.Access, at int64) (op.Answer, error)
	// HashKV returns the first endpoint's own hash of the keys up to a revision, and the revision
	// that it is compacted to.
	HashKV(ctx context.Context, a op.Access, revision int64) (hash uint32, compacted int64, err error)
	// Downgrading is the version that a downgrade goes to which has not ended; empty: none.
	Downgrading(ctx context.Context, a op.Access) (string, error)
	// ValidateDowngrade asks whether etcd would let a downgrade to a version such as 3.6.0 begin.
	ValidateDowngrade(ctx context.Context, a op.Access, target string) error
}

// AccessFlags are what the command line says about how to reach etcd. Certificates are paths of
// this process.
type AccessFlags struct {
	Endpoints         []string
	CACert, Cert, Key string
}

// Check refuses what is not a URL, and files that are not there: what etcd is like cannot be seen
// with them.
func (a AccessFlags) Check() error {
	for _, raw := range a.Endpoints {
		if err := etcd.CheckURL(raw); err != nil {
			return &engine.UsageError{Reason: fmt.Sprintf("--endpoints %q: %v", raw, err),
				Hint: "give it as --endpoints https://10.0.0.11:2379,https://10.0.0.12:2379"}
		}
	}
	for _, f := range []struct{ flag, path string }{{"cacert", a.CACert}, {"cert", a.Cert}, {"key", a.Key}} {
		if f.path == "" {
			continue
		}
		switch err, path := etcd.CheckFile(f.path), (*fs.PathError)(nil); {
		case errors.Is(err, fs.ErrPermission):
			return err
		case errors.As(err, &path):
			return &engine.UsageError{Reason: fmt.Sprintf("cannot read --%s %s: %v", f.flag, f.path, path.Err),
				Hint: "correct --" + f.flag + ", or the variable that stands for it"}
		}
	}
	return nil
}

// Dialer reaches the etcd on this node, and others, with this node's certificates.
func (n *Node) Dialer() bind.Dialer { return bind.NewDialer(n.FS) }
