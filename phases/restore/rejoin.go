package restore

import (
	"context"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// What `restore --rejoin` does on the nodes that join the restored cluster afterwards: their old
// data is moved aside while they are fenced, and once the restored member serves they are added one
// by one.

// moveAside moves the old data to where the exchange would have kept it.
func (o restorer) moveAside(f *Facts) []op.Op {
	attr := f.Data.Attr
	attr.Mode = 0o700
	ops := o.makeDirectories(f)
	aside := func(from, dir string) {
		ops = append(ops, &op.MakeDirectory{Path: dir, Attr: attr},
			&op.MoveAside{Fence: o.fenceOf(f), From: from, To: path.Join(dir, path.Base(from))})
	}
	if f.Data.DirExists {
		aside(path.Join(f.Etcd.DataDir, "member"), stagedDir(f))
	}
	switch {
	case f.Data.WALMount:
		ops = append(ops, &op.MakeDirectory{Path: stagedWALDir(f), Attr: attr}, o.exchangeWALInside(f))
	case f.Etcd.WALDir != "":
		aside(f.Etcd.WALDir, stagedWALDir(f))
	}
	return ops
}

// rejoin adds the node to the cluster that the restored member serves, gives it a vote when it has
// caught up, and then lets its API server run.
func (o restorer) rejoin() phase {
	return phase{Name: "rejoin", Short: "join the other nodes to the restored member, one after the other",
		InTurn: true,
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			if !o.rejoins(f) {
				return nil, nil
			}
			limit := o.waitLimit(f.Snapshot.Proof.SizeBytes)
			through := f.Etcd.Access.At(o.Shared.Through...)
			put, earlier, err := o.putJoining(f)
			if err != nil {
				return nil, err
			}
			put.Joining.Access, put.Joining.Limit = through, limit
			as := op.Enrolment{Access: through, PeerURLs: f.Etcd.PeerURLs,
				Receipt: journal.Enrolled(f.Run), Limit: limit}
			ops := []op.Op{&op.AddLearner{Enrolment: as, Earlier: earlier}, put, &op.StartKubelet{},
				&op.PromoteLearner{Enrolment: as, Watched: f.watched("etcd")}}
			rest, err := o.putRest(f, limit)
			return append(ops, rest...), err
		}}
}

// putJoining writes etcd's manifest as kubeadm renders it for a joining member: with all members
// present by then, and itself. It also returns those that are to join before.
func (o restorer) putJoining(f *Facts) (put *op.PutBackManifest, earlier []op.Member, err error) {
	members := slices.Clone(o.Shared.Members)
	for _, m := range o.Shared.Rejoin {
		members = append(members, m)
		if m.Name == f.Etcd.Name {
			break
		}
		earlier = append(earlier, op.Member{Name: m.Name, PeerURLs: m.PeerURLs})
	}
	m, err := f.Etcd.File.Manifest.SetFlag(f.Etcd.Container, "initial-cluster", initialCluster(members))
	if err == nil {
		m, err = m.SetFlag(f.Etcd.Container, "initial-cluster-state", "existing")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("cannot join %s: %w", f.Etcd.File.Path, err)
	}
	put = o.put(f, f.Etcd.File)
	put.Data, put.Joining = m.Bytes(), &op.Joining{Planned: initialCluster(members)}
	return put, earlier, nil
}

// putRest puts the API server's manifest back, and the others once it is ready.
func (o restorer) putRest(f *Facts, limit time.Duration) ([]op.Op, error) {
	var first, last []op.Op
	for _, m := range o.otherEtcds(f) {
		first = append(first, o.put(f, m))
	}
	for _, m := range o.fenced(f) {
		switch {
		case o.isEtcd(f, m):
		case observe.IsAPIServer(m):
			put := o.put(f, m)
			if err := o.rewireAPIServer(f, m, put); err != nil {
				return nil, err
			}
			first = append(first, put, &op.AwaitAPIServer{API: f.API, Limit: limit,
				Watched: f.watched("kube-apiserver")})
		default:
			last = append(last, o.put(f, m))
		}
	}
	return append(first, last...), nil
}
