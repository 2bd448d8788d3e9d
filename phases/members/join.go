package members

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/etcdpod/etcdpod/phases/apiserver"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/pki"
)

// JoinOptions are the options of `join`. The cluster determines the Kubernetes version, the image
// repository and the certificates directory.
type JoinOptions struct {
	InitOptions

	gone op.ID // of a member that leaves before; 0: none does
}

// Join is the workflow that adds this node to a cluster as a member, from its certificates to an
// etcd that votes and serves. It continues with a member that an earlier try left half-way.
func Join(o JoinOptions) workflow {
	return workflow{Name: "join", Options: o.Check, Phases: o.phases(), Observe: o.observer("")}
}

// JoinPhase is the workflow of one phase of Join, for use beside kubeadm.
func JoinPhase(o JoinOptions, phase string) (workflow, error) { return o.only(phase) }

// JoinPhases are join's phases in order.
func JoinPhases() []phase { return JoinOptions{}.phases() }

func (o JoinOptions) phases() []phase {
	return []phase{
		o.preflight(),
		o.certs(),
		o.addLearner(),
		o.renderEtcd(),
		o.awaitStarted(),
		o.promoteLearner(), // the commit point is at its end
		o.awaitEtcd(),
		o.wire(),
	}
}

// only is the workflow of one phase.
func (o JoinOptions) only(name string) (workflow, error) {
	i := slices.IndexFunc(o.phases(), func(p phase) bool { return p.Name == name })
	if i < 0 {
		return workflow{}, &engine.UsageError{Reason: fmt.Sprintf("join has no phase %q", name)}
	}
	p := o.phases()[i]
	// A run of one phase is done when it has ended; wire-apiserver waits for the API server.
	p.Commit = p.Name == "wire-apiserver"
	return workflow{Name: "join", Options: o.Check, Phases: []phase{p}, Observe: o.observer(name)}, nil
}

// limit is how long etcd, and the members elsewhere, may take.
func (o JoinOptions) limit(f *Facts) time.Duration {
	if o.WaitTimeout > 0 {
		return o.WaitTimeout
	}
	return f.Init.HealthCheck
}

// addLearner adds the node to the cluster as a learner. It has no vote, so the quorum does not
// change.
func (o JoinOptions) addLearner() phase {
	return phase{Name: "add-learner", Short: "add this node to the cluster as a learner, without a vote",
		Found: foundLearner, Findings: warnedLearner,
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			if err := o.checkStep(f); err != nil {
				return nil, err
			}
			at, err := f.standing()
			if err != nil || at == halfway || at == votes {
				return nil, err
			}
			if err := checkAdds(f); err != nil {
				return nil, err
			}
			add := &op.AddLearner{Enrolment: o.enrolment(f), Others: f.Join.others()}
			if at == stale {
				add.Stale = f.Join.Own.ID
			}
			return []op.Op{add}, nil
		}}
}

// enrolment is how the run identifies this node's member.
func (o JoinOptions) enrolment(f *Facts) op.Enrolment {
	e := op.Enrolment{Access: f.Join.Through, PeerURLs: f.Init.Pod.PeerURLs,
		Receipt: journal.Enrolled(f.Run), Limit: o.limit(f)}
	if at, err := f.standing(); err == nil && at == halfway {
		e.Was = f.Join.Own.ID
	}
	return e
}

func foundLearner(f *Facts) []string {
	if at, err := f.standing(); err != nil || at != votes {
		return nil
	}
	return []string{fmt.Sprintf("this node is already a voting member: %s", f.Join.Own.ID)}
}

// warnedLearner says what an earlier join has left.
func warnedLearner(f *Facts) []finding.Finding {
	at, err := f.standing()
	own := f.Join.Own
	switch {
	case err == nil && at == stale:
		return []finding.Finding{finding.New(finding.LearnerLeft, own.ID.String(), "an earlier attempt left the "+
			"learner %s at %s, but its data is not on this node: it is removed and added again", own.ID,
			own.PeerURLs[0])}
	case err == nil && at == halfway:
		return []finding.Finding{finding.New(finding.LearnerLeft, own.ID.String(), "an earlier attempt added the "+
			"learner %s at %s: this run continues with it", own.ID, own.PeerURLs[0])}
	}
	return nil
}

// renderEtcd is init's, with all members in --initial-cluster. If the run goes back, the new member
// leaves the cluster before its etcd is stopped.
func (o JoinOptions) renderEtcd() phase {
	p := o.InitOptions.renderEtcd()
	first := p.Plan
	p.Plan = func(ctx context.Context, f *Facts) ([]op.Op, error) {
		// The manifest names the members, and if the cluster cannot be asked, they are unknown.
		if !f.Init.Whole {
			if err := engine.Passes(f, checkReached, checkName); err != nil {
				return nil, err
			}
		}
		at, err := f.standing()
		if err == nil && !f.Init.Whole && at != halfway && at != votes {
			err = engine.Refuse("run `etcdpod join phase add-learner` first",
				"the cluster does not know this node yet")
		}
		if err != nil {
			return nil, err
		}
		ops, err := first(ctx, f)
		for _, planned := range ops {
			if place, ok := planned.(*op.WriteManifest); ok && f.Init.Whole && at != votes {
				e := o.enrolment(f)
				place.Enrolment = &e
			}
		}
		return ops, err
	}
	return p
}

func (o JoinOptions) awaitStarted() phase {
	return phase{Name: "await-started", Short: "wait until etcd has started as a member of that cluster",
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			if f.Live != nil {
				return nil, nil
			}
			if err := o.checkStep(f); err != nil {
				return nil, err
			}
			if !f.Init.Whole {
				if err := checkAlone(f); err != nil {
					return nil, err
				}
			}
			return []op.Op{&op.AwaitAnswer{Access: f.Init.Access,
				ClusterID: op.ID(f.Join.Cluster.ID), Learner: true, Limit: o.limit(f),
				Watched: f.watched()}}, nil
		}}
}

// promoteLearner ends with the commit point: the member votes. Until then the cluster is unchanged
// for everybody else, and a learner can be removed without a trace. From then on the others count
// on the vote: of two members, both are the quorum, and one of the others may be stopped because
// this one is there. Going back would mean removing a voter, which is a separate decision with its
// own command. One instant remains: the process may die after the members have agreed on the vote
// but before the commit record is written. `resume` then finds the vote and goes on; `rollback`
// removes the member before its etcd is stopped. That is safe: it is the very member that this run
// added, by its id; what it holds, a quorum without it holds too; and etcd refuses if the others
// would not be a quorum.
func (o JoinOptions) promoteLearner() phase {
	return phase{Name: "promote-learner", Short: "promote this node's member once it has caught up with the leader",
		Commit: true,
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			if err := o.checkStep(f); err != nil {
				return nil, err
			}
			at, err := f.standing()
			switch {
			case err != nil || at == votes:
				return nil, err
			case at != halfway && !f.Init.Whole:
				return nil, engine.Refuse("run `etcdpod join phase add-learner` first",
					"the cluster does not know this node yet")
			}
			return []op.Op{&op.PromoteLearner{Enrolment: o.enrolment(f), Watched: f.watched()}}, nil
		}}
}

// awaitEtcd comes after the commit point: only a voting member answers reads that need a quorum.
func (o JoinOptions) awaitEtcd() phase {
	return phase{Name: "await-etcd", Short: "wait until etcd serves on this node", Found: foundServing,
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			if f.Live != nil {
				return nil, nil
			}
			if !f.Init.Whole {
				if err := checkAlone(f); err != nil {
					return nil, err
				}
			}
			return []op.Op{&op.AwaitAnswer{Access: f.Init.Access, Limit: o.limit(f), Watched: f.watched()}}, nil
		}}
}

// wire is init's. It leaves an API server alone that names members of the cluster: somebody chose
// those.
func (o JoinOptions) wire() phase {
	p := o.InitOptions.wire()
	plan, found := p.Plan, p.Found
	p.Plan = func(ctx context.Context, f *Facts) ([]op.Op, error) {
		if f.usesMembers() {
			return nil, nil
		}
		return plan(ctx, f)
	}
	p.Found = func(f *Facts) []string {
		if f.usesMembers() {
			return []string{
				"this node's API server uses other members of the cluster, and keeps doing so; `etcdpod apiserver " +
					"set` changes that",
			}
		}
		return found(f)
	}
	return p
}

// usesMembers says whether this node's API server names members elsewhere, and not this one.
func (f *Facts) usesMembers() bool {
	m, container, ok := observe.Program(f.Manifests, "kube-apiserver")
	if !ok || f.Join.Cluster == nil || f.Init.Pod.Serves(apiserver.EtcdFlagsOf(m, container).Servers) {
		return false
	}
	return slices.ContainsFunc(f.Join.Cluster.Members, func(member MemberFacts) bool {
		return slices.ContainsFunc(member.ClientURLs, func(url string) bool {
			return slices.Contains(apiserver.EtcdFlagsOf(m, container).Servers, url)
		})
	})
}

// standing is this node's membership, according to the cluster and to the node's files.
type standing int

const (
	absent standing = iota // the cluster has no member at this node's peer URL
	// It has a learner there that had started, but none of its data is left: if etcd started again
	// under that id, it would lack data that the leader believes it has.
	stale
	halfway // it has a learner there that has yet to start, or whose data is here
	votes   // it has a voting member there
)

// standing refuses what only a person can judge.
func (f *Facts) standing() (standing, error) {
	own, i := f.Join.Own, f.Init
	data := slices.Contains(i.DataNames, "member")
	const moved = "move away the data directory %s, which is useless now"
	if why := f.emptied(); why != "" {
		return absent, engine.Refuse(f.wayBack(), "member %s at %s is a voting member, but "+
			"%s", own.ID, own.PeerURLs[0], why)
	}
	switch {
	case own == nil && i.There != nil:
		return absent, engine.Refuse("move it out of the directory, and move the data directory away",
			"%s exists, but the cluster has no member at %s: it was removed, or belongs to another cluster",
			i.ManifestPath, i.Pod.PeerURLs[0])
	case own == nil && data:
		return absent, engine.Refuse(fmt.Sprintf(moved, i.DataDir),
			"the data directory %s holds an etcd's data, but the cluster has no member at %s",
			i.DataDir, i.Pod.PeerURLs[0])
	case own == nil:
		return absent, nil
	case own.Name != "" && own.Name != i.Pod.Name:
		return absent, engine.Refuse("use that name with --node-name, or remove that member",
			"the member at %s is named %s, not %s", own.PeerURLs[0], own.Name, i.Pod.Name)
	case i.There == nil && data && i.DataError != nil:
		return absent, engine.Refuse(fmt.Sprintf(moved, i.DataDir),
			"the data directory %s holds an etcd's data that cannot be read: %v", i.DataDir, i.DataError)
	case i.There == nil && data && i.DataOwner != nil &&
		(i.DataOwner.ClusterID != f.Join.Cluster.ID || i.DataOwner.MemberID != uint64(own.ID)):
		return absent, engine.Refuse(fmt.Sprintf(moved, i.DataDir),
			"the data directory %s holds data of member %x of cluster %x, not of %s of %x",
			i.DataDir, i.DataOwner.MemberID, i.DataOwner.ClusterID, own.ID, f.Join.Cluster.ID)
	case own.Name == "" || data:
		if own.IsLearner {
			return halfway, nil
		}
		return votes, nil
	case !own.IsLearner:
		return absent, engine.Refuse(f.wayBack(), "member %s at %s is a voting member, but its data is not on this "+
			"node",
			own.ID, own.PeerURLs[0])
	case i.There != nil:
		return absent, engine.Refuse("move it out of the directory and stop that etcd",
			"%s runs the learner %s, but its data is not in %s", i.ManifestPath, own.ID, i.DataDir)
	}
	return stale, nil
}

// emptied says why this node's member cannot go on although it has started and votes: its data is
// not what the cluster believes it to have. etcd would start on an empty directory, and end again
// as soon as the leader speaks to it, or begin a cluster of its own. It is empty where nothing is
// wrong, or where a running etcd keeps its data from being read.
func (f *Facts) emptied() string {
	own, i := f.Join.Own, f.Init
	if own == nil || own.IsLearner || !observe.Started(own.Member) {
		return ""
	}
	of := func(member, cluster uint64) bool { return member == uint64(own.ID) && cluster == f.Join.Cluster.ID }
	// A first member that was emptied begins anew under its old ids, which come from its manifest.
	// Without the emptying it would know the others: they could not be added without it.
	alone := func(all []observe.Member) bool {
		return len(all) == 1 && all[0].ID == own.ID && len(f.Join.Cluster.Members) > 1
	}
	var inUse *engine.RefusedError
	switch owner := i.DataOwner; {
	case f.Live != nil && f.Live.ClusterID != 0 && !of(f.Live.MemberID, f.Live.ClusterID):
		return fmt.Sprintf("etcd on this node serves another cluster: it is member %x of cluster %x, not of "+
			"%x", f.Live.MemberID, f.Live.ClusterID, f.Join.Cluster.ID)
	case f.Live != nil && alone(f.Live.Members):
		return "etcd on this node serves a separate cluster, with itself as the only member: its data directory was " +
			"emptied, and it started over"
	case f.Live != nil || errors.As(i.DataError, &inUse):
		return ""
	case i.DataError != nil:
		return fmt.Sprintf("its data in %s cannot be read: %v", i.DataDir, i.DataError)
	case owner == nil:
		return ""
	case !of(owner.MemberID, owner.ClusterID):
		return fmt.Sprintf("%s holds data of member %x of cluster %x, not of %x",
			i.DataDir, owner.MemberID, owner.ClusterID, f.Join.Cluster.ID)
	case !slices.ContainsFunc(owner.Members, func(m observe.Member) bool { return m.ID == own.ID }):
		return fmt.Sprintf("%s holds none of the cluster's data: it was emptied", i.DataDir)
	case alone(owner.Members):
		return fmt.Sprintf("%s holds a separate cluster: it was emptied, and etcd started over", i.DataDir)
	}
	return ""
}

// wayBack is how a member that has lost its data comes back: as a new one. Under its old id it
// would lack what the leader believes it to have.
func (f *Facts) wayBack() string {
	i := f.Init
	first := fmt.Sprintf("move away what is in %s", i.DataDir)
	if i.There != nil {
		first = fmt.Sprintf("move %s out of its directory, wait until etcd has exited, and move away what is in %s",
			i.ManifestPath, i.DataDir)
	}
	return fmt.Sprintf("if its data is lost, bring it back as a new member: %s; run `etcdpod remove %s` on "+
		"another member, then `etcdpod join` here again", first, f.Join.Own.ID)
}

// checkStep makes the checks that a phase which talks to the members needs when it runs on its own.
func (o JoinOptions) checkStep(f *Facts) error {
	if f.Init.Whole {
		return nil // preflight has checked
	}
	if err := engine.Passes(f, o.checkCerts, checkReached, checkHasQuorum, checkName); err != nil {
		return err
	}
	if slices.ContainsFunc(f.Init.Certs.Issue, func(s pki.Spec) bool { return s.Name == clientName }) &&
		!f.Join.Through.Typed {
		return engine.Refuse("run `etcdpod join phase certs` first", "there is no %s to present to the members",
			f.Init.certFile("etcd/healthcheck-client.crt"))
	}
	return nil
}
