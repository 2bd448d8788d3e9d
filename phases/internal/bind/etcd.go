package bind

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// Etcd gives operations the real etcd: it turns host paths into real ones, and reads certificates
// when they are needed.
type Etcd struct {
	Dialer
	apart etcd.Apart
}

// NewEtcd reads files and certificates from the node. apart is where etcd's own code works on data;
// nil: in this process.
func NewEtcd(fs node.Reader, apart etcd.Apart) Etcd { return Etcd{NewDialer(fs), apart} }

// Dialer reaches etcds with the certificates on the node. Observers use it: it has nothing that
// would change a file.
type Dialer struct{ fs node.Reader }

// NewDialer reads certificates from the node's files.
func NewDialer(fs node.Reader) Dialer { return Dialer{fs} }

// Prove reads a whole snapshot and checks it; raw is a copy of a db, without a SHA-256 at its end.
// A [*snapfile.Bad] says what is wrong with it.
func (b Etcd) Prove(
	ctx context.Context, snapshot string, raw bool, progress func(done, total int64),
) (op.Proof, error) {
	r, err := snapfile.Check(ctx, b.fs.Real(snapshot), snapfile.Options{Raw: raw, Progress: progress})
	if err != nil {
		return op.Proof{}, err
	}
	return ProofOf(r), nil
}

// ProofOf is what a run keeps from a check.
func ProofOf(r *snapfile.Report) op.Proof {
	return op.Proof{SHA256: r.SHA256, SizeBytes: r.SizeBytes, Revision: r.Revision, Keys: r.Keys}
}

// Stage makes a data directory from a snapshot. dir and walDir must not exist yet; walDir may be
// empty.
func (b Etcd) Stage(
	ctx context.Context, s op.Staging, dir, walDir string, progress func(done, total int64),
) (op.Staged, error) {
	real, err := b.real(dir)
	if err != nil {
		return op.Staged{}, err
	}
	spec := etcd.StageSpec{
		Snapshot: b.fs.Real(s.Snapshot), SHA256: s.Proof.SHA256, SkipHashCheck: s.Proof.SHA256 == "", Dir: real,
		Name: s.Name, PeerURLs: s.PeerURLs, InitialCluster: s.InitialCluster, Token: s.Token,
		BumpRevision: max(s.MinBump, s.MinRevision-s.Proof.Revision), Progress: progress, Apart: b.apart,
	}
	if walDir != "" {
		if spec.WALDir, err = b.real(walDir); err != nil {
			return op.Staged{}, err
		}
	}
	staged, err := etcd.Stage(ctx, spec)
	if err != nil {
		return op.Staged{}, err
	}
	return op.Staged{ClusterID: staged.ClusterID, MemberID: staged.MemberID,
		Revision: staged.Revision, SHA256: staged.SHA256, SizeBytes: s.Proof.SizeBytes, Keys: s.Proof.Keys}, nil
}

// real resolves the links in a path whose last element need not exist yet.
func (b Etcd) real(path string) (string, error) {
	resolved, err := b.fs.Resolve(filepath.Dir(path))
	if err != nil {
		return "", fmt.Errorf("cannot find %s: %w", filepath.Dir(path), err)
	}
	return b.fs.Real(filepath.Join(resolved, filepath.Base(path))), nil
}

// SnapshotDataDir makes a snapshot of the data directory of a stopped etcd, and returns what the
// snapshot lacks, in sentences.
func (b Etcd) SnapshotDataDir(
	ctx context.Context, from op.SnapshotDataDir, progress func(done, total int64),
) ([]string, error) {
	walDir := from.WALDir
	if walDir != "" {
		walDir = b.fs.Real(walDir)
	}
	snapshot := b.apart.SnapshotFromDataDir
	if from.UpToHole {
		snapshot = b.apart.SnapshotUpToHole
	}
	made, err := snapshot(ctx, b.fs.Real(from.Dir), walDir, b.fs.Real(from.Snapshot), progress)
	if err != nil {
		return nil, err
	}
	return made.Caveats, nil
}

// Written counts the writes of clients in a write-ahead log.
func (b Etcd) Written(_ context.Context, walDir string) (int, error) {
	return etcd.Written(b.fs.Real(walDir))
}

// Dial connects with the certificates that are on the node now.
func (b Dialer) Dial(ctx context.Context, a op.Access) (*etcd.Client, error) {
	access, err := b.Access(a)
	if err != nil {
		return nil, err
	}
	return etcd.Dial(ctx, access)
}

// Access reads the certificates.
func (b Dialer) Access(a op.Access) (etcd.Access, error) {
	access := etcd.Access{Endpoints: a.Endpoints, Others: a.Others, Name: a.Name}
	for _, file := range []struct {
		path string
		to   *[]byte
	}{{a.CACert, &access.CA}, {a.Cert, &access.Cert}, {a.Key, &access.Key}} {
		if file.path == "" {
			continue
		}
		data, err := b.ReadFile(a, file.path)
		if known := (*fs.PathError)(nil); errors.As(err, &known) { // its path may be below the root
			return access, &fs.PathError{Op: "cannot read", Path: file.path, Err: known.Err}
		}
		if err != nil {
			return access, fmt.Errorf("cannot read %s: %w", file.path, err)
		}
		*file.to = data
	}
	return access, nil
}

// ReadFile reads a file that an Access names: a path of this process if the operator typed it, else
// a host path.
func (b Dialer) ReadFile(a op.Access, path string) ([]byte, error) {
	if a.Typed {
		return os.ReadFile(path)
	}
	return b.fs.ReadFile(path)
}

// Served returns the certificates that the program at an address, host:port, presents, as PEM.
func (b Dialer) Served(ctx context.Context, address string, a op.Access) ([]byte, error) {
	read := func(name string) []byte {
		data, err := b.ReadFile(a, name)
		if err != nil {
			return nil // the client certificate only spares the server a log line
		}
		return data
	}
	return node.Served(ctx, address, read(a.Cert), read(a.Key))
}

// Serving returns the etcd that answers a linearizable read at the first endpoint. Its keys are
// counted as of revision at, 0 for now.
func (b Etcd) Serving(ctx context.Context, a op.Access, at int64) (op.Answer, error) {
	c, err := b.Dial(ctx, a)
	if err != nil {
		return op.Answer{}, err
	}
	defer c.Close()
	if err := c.Ready(ctx); err != nil {
		return op.Answer{}, err
	}
	status := c.Status(ctx)[0]
	if status.Err != nil {
		return op.Answer{}, status.Err
	}
	members, err := c.Members(ctx)
	if err != nil {
		return op.Answer{}, err
	}
	keys, err := c.CountAt(ctx, "", at)
	if err != nil {
		return op.Answer{}, err
	}
	return op.Answer{ClusterID: status.ClusterID, MemberID: status.MemberID,
		Revision: status.Revision, Members: len(members), Keys: keys}, nil
}

// DisarmAlarms returns how many alarms it disarmed.
func (b Etcd) DisarmAlarms(ctx context.Context, a op.Access) (int, error) {
	c, err := b.Dial(ctx, a)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	alarms, err := c.Disarm(ctx)
	return len(alarms), err
}

// Save needs no quorum: a member that has lost its peers can still be backed up.
func (b Etcd) Save(
	ctx context.Context, a op.Access, snapshot string, progress func(done, total int64),
) (op.Saved, error) {
	real, err := b.real(snapshot)
	if err != nil {
		return op.Saved{}, err
	}
	c, err := b.Dial(ctx, a)
	if err != nil {
		return op.Saved{}, err
	}
	defer c.Close()
	saved, err := etcd.Save(ctx, c, real, progress)
	if err != nil {
		return op.Saved{}, err
	}
	s := op.Saved{Trailer: saved.Trailer, SizeBytes: saved.SizeBytes, Endpoint: saved.Endpoint}
	for _, status := range c.Status(ctx) {
		if status.Endpoint == saved.Endpoint {
			s.EtcdVersion, s.ClusterID, err = status.Version, status.ClusterID, status.Err
		}
	}
	return s, err
}

// Examine checks a snapshot as [Etcd.Prove] does, and says what is in it; it drops the file from
// the page cache.
func (b Etcd) Examine(ctx context.Context, snapshot string, progress func(done, total int64)) (op.Contents, error) {
	r, err := snapfile.Check(ctx, b.fs.Real(snapshot), snapfile.Options{Drop: true, Progress: progress})
	if err != nil {
		return op.Contents{}, err
	}
	return op.Contents{Proof: ProofOf(r), Trailer: r.Trailer, CompactRevision: r.CompactRevision,
		HashKV: r.HashKV, StorageVersion: r.StorageVersion, HashSteps: r.Steps, Members: MembersOf(r.Members)}, nil
}
