package restore

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// releaseEtcd starts etcd on one node after another; docs/failure-model.md says why.
func (o restorer) releaseEtcd() phase {
	return phase{Name: "release-etcd", Short: "start etcd, and nothing else, on the new data", InTurn: true,
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			if !o.restores(f) {
				return nil, nil
			}
			put := o.put(f, f.Etcd.File)
			put.Alone, put.Reserve, put.Pod = true, true, f.Etcd.File.Manifest.Name()
			if o.DataDir != "" {
				m, err := f.Etcd.File.Manifest.SetHostPath(f.Etcd.DataVolume, o.DataDir)
				if err != nil {
					return nil, fmt.Errorf("cannot repoint %s to %s: %w", f.Etcd.File.Path, o.DataDir, err)
				}
				put.Data = m.Bytes()
			}
			ops := []op.Op{put, &op.StartKubelet{}}
			if o.Shared != nil {
				alone := o.alone(f)
				ops = append(ops, &op.AwaitPeer{Alone: &alone, Peer: f.Etcd.Peer,
					Limit: o.waitLimit(f.Snapshot.Proof.SizeBytes), Watched: f.watched("etcd")})
			}
			return ops, nil
		}}
}

func (o restorer) put(f *Facts, m observe.ManifestFile) *op.PutBackManifest {
	return &op.PutBackManifest{Fence: o.fenceOf(f), File: op.File{Path: m.Path, Data: m.Data, Attr: m.Attr}}
}

// watched is what a wait for a program watches.
func (f *Facts) watched(program string) op.Watched { return observe.Watched(f.Manifests, program) }

func (o restorer) alone(f *Facts) op.Alone {
	return op.Alone{Fence: o.fenceOf(f), Manifest: f.Etcd.File.Path, Pod: f.Etcd.File.Manifest.Name()}
}

func (o restorer) awaitEtcd() phase {
	return phase{Name: "await-etcd", Short: "wait until the restored etcd serves",
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			if !o.restores(f) {
				return nil, nil
			}
			alone := o.alone(f)
			return []op.Op{
				&op.AwaitAnswer{Alone: &alone, Access: f.Etcd.Access,
					Receipt: receiptPath(f), Limit: o.waitLimit(f.Snapshot.Proof.SizeBytes),
					Watched: f.watched("etcd")},
				&op.DisarmAlarms{Access: f.Etcd.Access},
			}, nil
		}}
}

func (o restorer) compareMembers() phase {
	return phase{Name: "compare-members", Short: "compare what etcd serves with the staged data", Commit: true,
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			if !o.restores(f) {
				return nil, nil
			}
			return []op.Op{&op.CompareMembers{Alone: o.alone(f),
				Access: f.Etcd.Access, Receipt: receiptPath(f), Members: o.Shared.members()}}, nil
		}}
}

func (o restorer) releaseAPIServer() phase {
	return phase{Name: "release-apiserver", Short: "start the API server",
		Found: o.foundServers, Findings: o.warnedOfServers,
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			ops := o.dropUnsealed(f) // every node has staged it
			if o.rejoins(f) {
				return ops, nil
			}
			if o.restores(f) {
				ops = append(ops, &op.GiveUpReserve{Manifest: f.Etcd.File.Path, Kept: parked(f, f.Etcd.File)})
			}
			for _, m := range o.otherEtcds(f) { // the API server may need them to start
				ops = append(ops, o.put(f, m))
			}
			for _, m := range o.fenced(f) {
				if !observe.IsAPIServer(m) {
					continue
				}
				put := o.put(f, m)
				if err := o.rewireAPIServer(f, m, put); err != nil {
					return nil, err
				}
				ops = append(ops, put)
			}
			return ops, nil
		}}
}

func (o restorer) awaitAPIServer() phase {
	return phase{Name: "await-apiserver", Short: "wait until the API server is ready", Optional: true,
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			if !observe.HasAPIServer(f.Facts) || o.rejoins(f) {
				return nil, nil
			}
			return []op.Op{&op.AwaitAPIServer{API: f.API, Limit: o.waitLimit(f.Snapshot.Proof.SizeBytes),
				Watched: f.watched("kube-apiserver")}}, nil
		}}
}

// restartComponents lets the rest of what the fence took out run. The controller-manager and the
// scheduler start fresh against a ready API server: with no crash-loop back-off, and with no memory
// of the state that was discarded.
func (o restorer) restartComponents() phase {
	return phase{Name: "restart-components",
		Short: "start the controller-manager, the scheduler and everything else that was stopped", InTurn: true,
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			if o.rejoins(f) {
				return nil, nil
			}
			var ops []op.Op
			if leases := o.leases(f); len(leases) > 0 {
				ops = append(ops, &op.ReleaseLeases{API: f.API, Leases: leases})
			}
			for _, m := range o.fenced(f) {
				if !observe.IsAPIServer(m) && !o.isEtcd(f, m) {
					ops = append(ops, o.put(f, m))
				}
			}
			if o.DataDir != "" && observe.HasAPIServer(f.Facts) && o.Shared.leads(f.Node) {
				ops = append(ops, &op.SetDataDir{API: f.API, DataDir: o.DataDir})
			}
			return ops, nil
		}}
}

// otherEtcds are the manifests that the fence takes out, and that the API server may need to start
// although their data is not restored: an etcd for events, or a proxy.
func (o restorer) otherEtcds(f *Facts) []observe.ManifestFile {
	all := observe.OtherEtcds(o.fenced(f))
	for _, m := range o.fenced(f) {
		if _, etcd := m.Manifest.Runs("etcd"); !etcd && m.Manifest.Proxies() && !observe.IsAPIServer(m) {
			all = append(all, m)
		}
	}
	return all
}

// isEtcd says whether a manifest runs an etcd, which is then back before the API server.
func (o restorer) isEtcd(f *Facts, m observe.ManifestFile) bool {
	return f.Etcd != nil && m.Path == f.Etcd.File.Path ||
		slices.ContainsFunc(o.otherEtcds(f), func(other observe.ManifestFile) bool { return other.Path == m.Path })
}

// leases are the leader leases of the components that the fence stopped. Where control planes run
// elsewhere, their components may rightly hold the leases.
func (o restorer) leases(f *Facts) []string {
	if !observe.HasAPIServer(f.Facts) || o.APIServersStopped || !o.Shared.leads(f.Node) {
		return nil
	}
	var leases []string
	for _, name := range []string{"kube-controller-manager", "kube-scheduler"} {
		m, c, ok := observe.Program(o.fenced(f), name)
		if !ok {
			continue
		}
		namespace := cmp.Or(observe.FlagOf(m, c, "leader-elect-resource-namespace"), "kube-system")
		leases = append(leases, namespace+"/"+cmp.Or(observe.FlagOf(m, c, "leader-elect-resource-name"), name))
	}
	return leases
}

func (o restorer) verifyRestored() phase {
	return phase{Name: "verify-restored", Short: "read the objects back through the API server",
		Found: foundReader, Findings: warnedOfReader,
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			if !observe.HasAPIServer(f.Facts) {
				return nil, nil
			}
			api := f.API
			api.Unreadable = slices.Sorted(maps.Keys(f.Encryption.Unread))
			return []op.Op{&op.VerifyRestored{API: api, Expected: f.Snapshot.Resources,
				Nodes: f.nodesBefore(), Second: !o.Shared.leads(f.Node),
				Warnings: append(unreadNotes(f.Encryption), f.fitNotes()...),
				Watched:  f.watched("kube-apiserver")}}, nil
		}}
}

// foundReader says with which kubeconfig the objects are read back.
func foundReader(f *Facts) []string {
	if !observe.HasAPIServer(f.Facts) || f.API.Kubeconfig == "" {
		return nil
	}
	return []string{"read back with " + f.API.Kubeconfig}
}

// warnedOfReader says which kubeconfigs cannot be used for that, and whether none can.
func warnedOfReader(f *Facts) (warned []finding.Finding) {
	if !observe.HasAPIServer(f.Facts) || f.API.Kubeconfig == "" {
		return nil
	}
	for _, k := range f.Kubeconfigs {
		if k.Problem != "" {
			warned = append(warned, finding.New(finding.KubeconfigUnusable, k.Path, "cannot use %s: %s",
				k.Path, k.Problem))
		}
	}
	if len(f.Kubeconfigs) > 0 && f.Snapshot != nil && f.Snapshot.NoAdmins &&
		!slices.ContainsFunc(f.Kubeconfigs, func(k observe.Kubeconfig) bool {
			return k.Problem == "" && !k.NeedsBinding
		}) {
		warned = append(warned, finding.New(finding.ObjectsNotReadBack, f.API.Kubeconfig, "the snapshot has no "+
			"ClusterRoleBinding kubeadm:cluster-admins, so %s will have no rights and cannot read anything back: "+
			"`kubeadm init phase kubeconfig super-admin` creates a kubeconfig that does not need it", f.API.Kubeconfig))
	}
	return warned
}
