package bind

import (
	"context"

	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// Private is an etcd that is started for a look at its data alone: only this process reaches it.
type Private struct {
	// Alone says that it has no network.
	Alone bool

	dir   string
	child *node.Child
}

// ErrAuth says that an etcd asks for a user.
var ErrAuth = etcd.ErrAuth

// BuiltIn is the release of the etcd that this program has in it.
func BuiltIn() string { return etcd.BuiltIn }

// StagePrivate makes the data of a private etcd from a proven snapshot; both are real paths. Only a
// token that nobody used before keeps it from ever being taken for another one.
func StagePrivate(
	ctx context.Context, apart []string, dir, token, snapshot, sha256 string, progress func(done, total int64),
) error {
	spec := etcd.PrivateSpec(dir, token)
	spec.Snapshot, spec.SHA256, spec.Progress, spec.Apart = snapshot, sha256, progress, Apart(apart)
	_, err := etcd.Stage(ctx, spec)
	return err
}

// StartPrivate starts one on what was staged in dir: a program, or this one with the arguments with
// which it does [ServeApart].
func StartPrivate(dir, program string, apart []string, memory, file int64) (*Private, error) {
	c := node.Confined{Argv: append([]string{program}, etcd.PrivateFlags()...), Dir: dir, Memory: memory, File: file}
	if program == "" {
		c.Argv, c.In = append([]string{"/proc/self/exe"}, apart...), etcd.PrivateJob
	}
	child, err := node.Confine(c)
	if err != nil {
		return nil, err
	}
	return &Private{Alone: child.Alone, dir: dir, child: child}, nil
}

// Client connects to it once it serves. done gives the connection up. Only ctx bounds the time.
func (p *Private) Client(ctx context.Context) (c *etcd.Client, done func(), err error) {
	return etcd.Private(ctx, p.dir, p.child.Ended)
}

// Kill ends it, and returns when it and all that it has started are gone.
func (p *Private) Kill() { p.child.Kill() }

// Gone says whether it has ended by itself, and how.
func (p *Private) Gone() (gone bool, how, said string) {
	select {
	case <-p.child.Ended:
		return true, p.child.How(), p.child.Said()
	default:
		return false, "", p.child.Said()
	}
}
