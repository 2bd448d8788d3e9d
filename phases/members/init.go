package members

import (
	"context"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/etcdpod/etcdpod/phases/certs"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/pki"
)

// InitOptions are the options of `init`. Empty ones take kubeadm's defaults.
type InitOptions struct {
	observe.KubeadmOptions

	WaitTimeout time.Duration // for etcd to serve; 0: as kubeadm's configuration says, 4 minutes
}

// Init is the workflow that makes this node the first member of a cluster, from its certificates to
// an etcd that serves. It keeps what is already there and good.
func Init(o InitOptions) workflow {
	return workflow{Name: "init", Options: o.Check, Phases: o.phases(), Observe: o.observer("")}
}

// InitPhase is the workflow of one phase of Init, for use beside kubeadm.
func InitPhase(o InitOptions, phase string) (workflow, error) { return o.only(phase) }

type (
	phase = engine.Phase[*Facts]
	// workflow makes this node a member.
	workflow = engine.Workflow[*observe.Node, *Facts]
)

// Facts are what init and join depend on.
type Facts struct {
	*observe.Facts
	Init *InitFacts
	Join *JoinFacts // nil for the first member of a cluster
}

// InitPhases are init's phases in order.
func InitPhases() []phase { return InitOptions{}.phases() }

func (o InitOptions) phases() []phase {
	return []phase{
		o.preflight(),
		o.certs(),
		o.renderEtcd(),
		o.awaitEtcd(), // the commit point is at its end
		o.wire(),
	}
}

// only is the workflow of one phase.
func (o InitOptions) only(name string) (workflow, error) {
	i := slices.IndexFunc(o.phases(), func(p phase) bool { return p.Name == name })
	if i < 0 {
		return workflow{}, &engine.UsageError{Reason: fmt.Sprintf("init has no phase %q", name)}
	}
	p := o.phases()[i]
	// A run of one phase is done when it has ended or, if it waits for the API server, when that is
	// ready.
	if p.Commit = false; name == "wire-apiserver" {
		p.Commit = true
	}
	return workflow{Name: "init", Options: o.Check, Phases: []phase{p}, Observe: o.observer(name)}, nil
}

// certs makes the missing certificates. All keys and certificates are made in the run's folder
// before any is put in place.
func (o InitOptions) certs() phase {
	return phase{Name: "certs",
		Short: "create etcd's missing certificates, and the API server's client certificate", Found: foundCerts,
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			if f.Init.External {
				return nil, nil
			}
			if err := certs.Refused(f.Init.CertsError); err != nil {
				return nil, err
			}
			issue := f.Init.Certs.Issue
			if len(issue) == 0 {
				return nil, nil
			}
			// On its own, this phase has no preflight before it.
			if err := certs.CheckClock(f.Facts); err != nil {
				return nil, err
			}
			ops := []op.Op{&op.MakeDirectory{Path: journal.NewCerts(f.Run), Attr: node.Mine(0o700)}}
			for _, spec := range issue {
				ops = append(ops, &op.IssueCertificate{
					Issuance: certs.NewIssuance(f.Run, f.Init.PKI, f.Init.CertificatesDir, issue, spec),
					To:       path.Join(journal.NewCerts(f.Run), spec.Name),
				})
			}
			for _, dir := range f.Init.MissingCertDirs {
				ops = append(ops, &op.MakeDirectory{Path: dir, Attr: node.Mine(pki.DirMode)})
			}
			for _, spec := range issue {
				ops = append(ops, &op.PutCertificate{
					Name: spec.Name, From: path.Join(journal.NewCerts(f.Run), spec.Name),
					To:   f.Init.certFile(spec.Base),
					Attr: [2]node.Attr{node.Mine(pki.CertMode), node.Mine(pki.KeyMode)},
				})
			}
			return ops, nil
		}}
}

func foundCerts(f *Facts) []string {
	if f.Init.External {
		return []string{"etcd is external: its certificates are created where it runs"}
	}
	var found []string
	for _, spec := range f.Init.Certs.Keep {
		found = append(found, fmt.Sprintf("%s exists and is good: left unchanged", f.Init.certFile(spec.CertFile())))
	}
	return found
}

// renderEtcd writes etcd's manifest. On its own it needs neither kubelet nor certificates; in the
// whole workflow the kubelet runs, and starts etcd at once.
func (o InitOptions) renderEtcd() phase {
	return phase{Name: "render-etcd",
		Short: "write etcd's manifest, as kubeadm renders it, and create the data directory", Found: foundManifest,
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			if f.Init.External {
				return nil, nil
			}
			if err := checkRendered(f); err != nil {
				return nil, err
			}
			var ops []op.Op
			if f.Init.There == nil && f.Init.Whole {
				ops = append(ops, &op.KeepKubelet{})
			}
			for _, dir := range f.Init.MissingDataDirs {
				ops = append(ops, &op.MakeDirectory{Path: dir, Attr: node.Mine(0o755)})
			}
			if !f.Init.DataDirExists || f.Init.There == nil {
				ops = append(ops, f.claimData())
			}
			if f.Init.There != nil {
				return ops, nil
			}
			for _, dir := range f.Init.MissingManifestDirs {
				mode := node.Mine(0o755)
				if dir == path.Dir(f.Init.ManifestPath) {
					// As kubeadm makes it (kubeadm, util/staticpod: WriteStaticPodToDisk).
					mode = node.Mine(0o700)
				}
				ops = append(ops, &op.MakeDirectory{Path: dir, Attr: mode})
			}
			return append(ops, &op.WriteManifest{
				File: op.File{Path: f.Init.ManifestPath, Data: f.Init.Rendered, Attr: node.Mine(0o600)},
				Pod:  f.etcdsPod(), Timeout: endTimeout}), nil
		}}
}

func foundManifest(f *Facts) []string {
	switch {
	case f.Init.External:
		return []string{"etcd is external: no member is created here"}
	case f.Init.There != nil:
		return []string{f.Init.ManifestPath + " is already what would be written: left unchanged"}
	}
	return nil
}

// claimData makes the data directory as kubeadm does: 0700, and only if it is not there (kubeadm,
// util/etcd: CreateDataDirectory).
func (f *Facts) claimData() *op.ClaimData {
	return &op.ClaimData{Dir: f.Init.DataDir, Attr: node.Mine(0o700),
		Keep: path.Join(f.Init.KeepData, "member"), Pod: f.etcdsPod(), Timeout: endTimeout,
		Receipt: journal.Claimed(f.Run), Begins: f.Join == nil}
}

// endTimeout is how long etcd may take to stop when the run goes back.
const endTimeout = time.Minute

// etcdsPod is the pod that the kubelet makes from the rendered manifest; empty if a single phase
// runs, which knows of no kubelet.
func (f *Facts) etcdsPod() op.Pod {
	if !f.Init.Whole {
		return op.Pod{}
	}
	return observe.PodOf(f.Manifests, f.Init.Pod.File, f.Init.Pod.Container)
}

// watched is the etcd of the rendered manifest, for those who wait for it.
func (f *Facts) watched() op.Watched {
	return observe.WatchedIn(f.Manifests, f.Init.Pod.File, f.Init.Pod.Container)
}

// awaitEtcd ends with the commit point: from then on clients may have been promised writes.
func (o InitOptions) awaitEtcd() phase {
	return phase{Name: "await-etcd", Short: "wait until etcd serves", Commit: true, Found: foundServing,
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			if f.Init.External || f.Live != nil && f.Init.There != nil {
				return nil, nil
			}
			if !f.Init.Whole {
				if err := checkAlone(f); err != nil {
					return nil, err
				}
			}
			limit := o.WaitTimeout
			if limit == 0 {
				limit = f.Init.HealthCheck
			}
			return []op.Op{&op.AwaitAnswer{Access: f.Init.Access, Limit: limit, Watched: f.watched()}}, nil
		}}
}

// checkAlone refuses unless other phases, or kubeadm, have made what this phase needs.
func checkAlone(f *Facts) error {
	if f.Init.There == nil {
		return engine.Refuse("run `etcdpod init phase render-etcd`", "%s does not exist: nothing starts etcd",
			f.Init.ManifestPath)
	}
	return checkKubelet(f)
}

func foundServing(f *Facts) []string {
	if f.Live == nil || f.Init.There == nil {
		return nil
	}
	return []string{fmt.Sprintf("etcd %s already serves, with %d members", f.Live.Version, len(f.Live.Members))}
}
