package sim

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// Etcd is the etcd of the simulated node, as operations use it.
type Etcd struct {
	M       *Machine
	Cluster []*Machine // all members of the restored cluster; empty: it is the only one
}

func (e Etcd) Prove(context.Context, string, bool, func(int64, int64)) (op.Proof, error) {
	return op.Proof{}, nil
}

// Stage writes what a restore writes, and leaves syncing to the caller.
func (e Etcd) Stage(_ context.Context, s op.Staging, dir, walDir string, _ func(int64, int64)) (op.Staged, error) {
	wal := path.Join(dir, "member/wal")
	if walDir != "" {
		wal = walDir
	}
	data := []byte("new " + s.Token)
	for _, d := range []string{dir, path.Join(dir, "member"), path.Join(dir, "member/snap"), wal} {
		if err := e.M.Mkdir(d, node.Attr{Mode: 0o755}); err != nil {
			return op.Staged{}, err
		}
	}
	for _, f := range []string{path.Join(dir, "member/snap/db"), path.Join(wal, "0.wal")} {
		if err := e.M.Create(f, data, node.Attr{Mode: 0o644}); err != nil {
			return op.Staged{}, err
		}
	}
	return op.Staged{ClusterID: cluster(data), MemberID: 7, Revision: s.MinRevision}, nil
}

func cluster(data []byte) uint64 {
	h := fnv.New64()
	_, _ = h.Write(beginning(data))
	return h.Sum64()
}

func (e Etcd) SnapshotDataDir(_ context.Context, from op.SnapshotDataDir, _ func(int64, int64)) ([]string, error) {
	return nil, e.M.Create(from.Snapshot, []byte("snapshot"), node.Mine(0o600))
}

// Save writes and syncs, as the real one does. No two snapshots are alike: each takes a second.
func (e Etcd) Save(ctx context.Context, a op.Access, snapshot string, _ func(int64, int64)) (op.Saved, error) {
	if err := (clock{e.M}).Sleep(ctx, time.Second); err != nil {
		return op.Saved{}, err
	}
	data := []byte("snapshot at " + e.M.now.String())
	if err := e.M.Create(snapshot, data, node.Mine(0o600)); err != nil {
		return op.Saved{}, err
	}
	for _, name := range []string{snapshot, path.Dir(snapshot)} {
		if err := e.M.Sync(name); err != nil {
			return op.Saved{}, errors.Join(err, e.M.Remove(snapshot))
		}
	}
	return op.Saved{Trailer: Sum(data), SizeBytes: int64(len(data)), EtcdVersion: "3.6.5", ClusterID: 1,
		Endpoint: a.Endpoints[0]}, nil
}

func (e Etcd) Examine(_ context.Context, snapshot string, _ func(int64, int64)) (op.Contents, error) {
	data, err := e.M.ReadFile(snapshot)
	return op.Contents{Proof: op.Proof{SHA256: Sum(data), SizeBytes: int64(len(data)), Revision: 5},
		Trailer: Sum(data), HashSteps: [][]byte{[]byte("step")}}, err
}

// Sum is the SHA-256 of a file's contents, in hex.
func Sum(data []byte) string { return fmt.Sprintf("%x", sha256.Sum256(data)) }

func (e Etcd) Serving(ctx context.Context, at op.Access, _ int64) (op.Answer, error) {
	if other := e.M.at(at.Endpoints); other != nil {
		return Etcd{M: other, Cluster: e.Cluster}.Serving(ctx, op.Access{}, 0)
	}
	c := e.M.running("etcd")
	if c == nil || e.M.Members != nil && len(e.M.Members.Hosts) > 0 && !e.M.quorum() {
		return op.Answer{}, errors.New("connection refused")
	}
	if c.generation == "new" && (e.M.SickEtcd || !e.quorum(c.generation)) {
		return op.Answer{}, errors.New("etcdserver: no leader")
	}
	if own := e.own(); own != nil && own.IsLearner {
		return op.Answer{}, errors.New("etcdserver: rpc not supported for learner")
	}
	snap, there := e.M.Disk.now.look(c.member, "snap")
	db, ok := e.M.Disk.now.look(snap, "db")
	if !there || !ok {
		return op.Answer{}, errors.New("the database was moved away under the etcd")
	}
	return op.Answer{ClusterID: cluster(e.M.inodes[db].data),
		MemberID: 7, Members: max(len(e.Cluster), 1), Revision: 1 << 60}, nil
}

// own is the node's member of the cluster that it joins; nil when it joins none.
func (e Etcd) own() *op.Member {
	if e.M.Members == nil {
		return nil
	}
	return e.M.Members.own()
}

// quorum says whether most of the members run on data of that generation; of a cluster that goes
// on, whether most run.
func (e Etcd) quorum(generation string) bool {
	if e.M.Members != nil {
		return e.M.quorum()
	}
	running := 0
	for _, m := range e.Cluster {
		if c := m.running("etcd"); c != nil && c.generation == generation {
			running++
		}
	}
	return 2*running > len(e.Cluster) || len(e.Cluster) == 0
}

func (e Etcd) HashStaged(_ context.Context, db string, _ func(int64, int64)) (uint32, error) {
	data, err := e.M.ReadFile(db)
	return uint32(cluster(data)), err
}

func (e Etcd) HashKV(context.Context, op.Access, int64) (uint32, int64, error) {
	c := e.M.running("etcd")
	if c == nil {
		return 0, 0, errors.New("connection refused")
	}
	return uint32(cluster([]byte(c.generation))), 1, nil
}

func (e Etcd) PeerServes(context.Context, op.Access) error {
	if e.M.running("etcd") == nil {
		return errors.New("connection refused")
	}
	return nil
}

// Written counts what [Machine.acknowledge] has written to a log.
func (e Etcd) Written(_ context.Context, walDir string) (int, error) {
	if e.M.SickLog {
		return 0, errors.New("input/output error")
	}
	data, err := e.M.ReadFile(path.Join(walDir, "0.wal"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	return strings.Count(string(data), "\nwrite "), err
}

func (e Etcd) Listening(context.Context, string) bool { return false }

func (e Etcd) DisarmAlarms(context.Context, op.Access) (int, error) {
	return 0, e.M.step("disarm alarms")
}

// elsewhere says whether an API server uses members on other nodes, which always run.
func (m *Machine) elsewhere(manifest string) bool {
	_, servers, _ := strings.Cut(manifest, "--etcd-servers=")
	servers, _, _ = strings.Cut(servers, "\n")
	return m.Members != nil && m.quorum() && slices.ContainsFunc(strings.Split(servers, ","), func(url string) bool {
		return url != "" && !strings.HasPrefix(url, "https://127.0.0.1:") && !strings.Contains(url, m.Members.Name+":")
	})
}

// APIServer is the API server of the simulated node.
type APIServer struct{ M *Machine }

func (a APIServer) Ready(context.Context, op.APIAccess) error {
	c := a.M.running("kube-apiserver")
	switch {
	case c == nil || a.M.running("etcd") == nil && !a.M.elsewhere(c.manifest),
		a.M.CrashText != "" && strings.Contains(c.manifest, a.M.CrashText):
		return errors.New("connection refused")
	case a.M.SickText != "" && strings.Contains(c.manifest, a.M.SickText):
		return errors.New("the API server answered 500 to GET /readyz: etcd failed")
	case a.M.DeniedWith != 0:
		return &op.DeniedError{Status: a.M.DeniedWith, Kubeconfigs: []string{"/etc/kubernetes/admin.conf"}, Text: "no"}
	}
	return nil
}

func (a APIServer) Counts(ctx context.Context, access op.APIAccess, _ int64) ([]op.Count, error) {
	return []op.Count{{Resource: "pods", Objects: 1 + a.M.StrayPods}}, a.Ready(ctx, access)
}

func (a APIServer) Revision(ctx context.Context, access op.APIAccess) (int64, error) {
	return 1 << 60, a.Ready(ctx, access)
}

func (a APIServer) Nodes(context.Context, op.APIAccess) ([]string, error) {
	if a.M.DeniedWith != 0 {
		return nil, &op.DeniedError{Status: a.M.DeniedWith, Text: "no"}
	}
	return []string{"cp1"}, nil
}

func (a APIServer) ReleaseLease(context.Context, op.APIAccess, string, string) error {
	return a.M.step("release a lease")
}

func (a APIServer) DataDir(context.Context, op.APIAccess) (string, error) { return "", nil }

func (a APIServer) SetDataDir(context.Context, op.APIAccess, string) error { return nil }

func (a APIServer) ImageTag(ctx context.Context, access op.APIAccess) (string, bool, error) {
	return a.M.ImageTag, a.M.ImageTag != "", a.Ready(ctx, access)
}

func (a APIServer) SetImageTag(ctx context.Context, access op.APIAccess, tag string) error {
	if err := a.M.step("set the image's tag"); err != nil {
		return err
	}
	if err := a.Ready(ctx, access); err != nil {
		return err
	}
	a.M.ImageTag = tag
	return nil
}
