package members

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/manifests"
	"github.com/etcdpod/etcdpod/phases/certs"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/pki"
	"github.com/etcdpod/etcdpod/templates"
)

// JoinFacts are what `join` depends on besides InitFacts.
type JoinFacts struct {
	Notes     []string      // for a person
	Endpoints []string      // where it looked for the members
	Source    string        // what named them
	Cluster   *ClusterFacts // nil when no member could be asked; Error says why
	Error     error
	Own       *MemberFacts // the member at this node's peer URL; nil when there is none
	Through   op.Access    // how operations reach the voting members
}

// ClusterFacts are what the members say about their cluster.
type ClusterFacts struct {
	ID          uint64
	Members     []MemberFacts
	QuorumError error // why a read that needs a quorum fails
	Alarms      []string
}

// MemberFacts are what is known about a member.
type MemberFacts struct {
	observe.Member
	ClientURLs []string
	Version    string
	SizeBytes  int64
	Applied    uint64 // the last raft entry that it has applied
	Error      error  // why it does not answer
	// It does not answer, but serves its peers. Only a removal asks.
	ServesPeers bool
}

// size is the size of the largest database.
func (c *ClusterFacts) size() (most int64) {
	for _, m := range c.Members {
		most = max(most, m.SizeBytes)
	}
	return most
}

// without is the cluster as it will be once a member has left.
func (j *JoinFacts) without(gone op.ID) {
	j.Cluster.Members = slices.DeleteFunc(slices.Clone(j.Cluster.Members),
		func(m MemberFacts) bool { return m.ID == gone })
	if j.Own != nil && j.Own.ID == gone {
		j.Own = nil
	}
}

// others are all members except this node's.
func (j *JoinFacts) others() []observe.Member {
	var others []observe.Member
	for _, m := range j.Cluster.Members {
		if j.Own == nil || m.ID != j.Own.ID {
			others = append(others, m.Member)
		}
	}
	return others
}

// observer gathers only what the given phases need. certs needs files alone; add-learner and
// render-etcd need the members, and no kubelet.
func (o JoinOptions) observer(phase string) func(context.Context, *observe.Node, string) (*Facts, error) {
	return func(ctx context.Context, n *observe.Node, id string) (*Facts, error) {
		own := *n
		// --endpoints names the members elsewhere, not this node's.
		own.Access = observe.AccessFlags{}
		whole := phase == "" || phase == "preflight"
		asks := whole || !slices.Contains([]string{"certs", "add-learner", "render-etcd"}, phase)
		look := own.Observe
		if !asks {
			look = own.ObserveFiles
		}
		seen, err := look(ctx, id)
		if err != nil {
			return nil, err
		}
		f := &Facts{Facts: seen, Join: &JoinFacts{}}
		c, err := o.read(ctx, &own, f)
		if err != nil {
			return nil, err
		}
		f.Node, f.Init = c.NodeName, initFactsOf(c, phase == "")
		if f.Init.External {
			return f, nil
		}
		if f.Init.Certs, f.Init.CertsError = planCerts(&own, f); slices.ContainsFunc(f.Init.Certs.Issue,
			pki.Spec.IsCA) {
			f.Init.CertsError = errNoCA()
		}
		if phase == "certs" {
			return f, nil
		}
		if err := o.observeMember(ctx, n, f, c); err != nil {
			return nil, err
		}
		observeWiring(ctx, &own, f, c)
		// A member that votes and does not serve may have been emptied.
		mute := f.Join.Own != nil && !f.Join.Own.IsLearner && f.Live == nil && asks
		if f.Init.There == nil || mute {
			observeData(ctx, &own, f)
		}
		if whole {
			observeStart(ctx, &own, f)
		}
		return f, nil
	}
}

// errNoCA refuses a missing CA: one made here would not be the cluster's.
func errNoCA() error {
	return &pki.Problem{
		Kind: pki.Missing, What: "the CA of the cluster's etcd, etcd/ca.crt, is missing",
		Fix: "copy etcd/ca.crt and etcd/ca.key from another control plane; `kubeadm join --control-plane " +
			"--certificate-key …` does that after `kubeadm init --upload-certs`",
	}
}

// initFactsOf takes the facts that the configuration holds.
func initFactsOf(c *templates.Config, whole bool) *InitFacts {
	return &InitFacts{
		Warnings: c.Warnings, External: c.External != nil, HealthCheck: c.HealthCheck,
		CertificatesDir: c.CertificatesDir, DataDir: c.DataDir, Whole: whole,
		PKI: certs.PKIConfig(c),
	}
}

// read reads kubeadm's configuration. The cluster itself knows best how its etcd is configured, if
// its API server answers.
func (o JoinOptions) read(ctx context.Context, n *observe.Node, f *Facts) (*templates.Config, error) {
	var kept []byte // nil if the cluster's configuration is unknown
	text, err := n.KeptConfiguration(ctx, n.AnyAPIServer())
	if err == nil {
		kept = []byte(text)
	} else {
		f.Join.Notes = append(f.Join.Notes, fmt.Sprintf("etcd's configuration comes from the file alone: %v", err))
	}
	c, wrong := o.KubeadmOptions.Read(n, true, kept)
	var usage *engine.UsageError
	if errors.As(wrong, &usage) && err != nil && o.Config == "" {
		usage.Hint = fmt.Sprintf("%s; the cluster's own configuration is not known: %v", usage.Hint, err)
	}
	return c, wrong
}

// observeMember examines the cluster, and what this node has of its member.
func (o JoinOptions) observeMember(ctx context.Context, n *observe.Node, f *Facts, c *templates.Config) error {
	patches, err := observe.ReadPatches(c.PatchesDir)
	if err != nil {
		return err
	}
	if patches != nil {
		f.Init.Warnings = append(f.Init.Warnings, patches.Ignored...)
	}
	own := *n
	own.Access = observe.AccessFlags{}
	render := func(members []templates.Member) error {
		if f.Init.Rendered, err = c.EtcdManifest(patches, members); err != nil {
			return &engine.UsageError{Reason: fmt.Sprintf("cannot render etcd's manifest: %v", err)}
		}
		return observeManifest(&own, f)
	}
	self := templates.Member{Name: c.NodeName, PeerURL: c.PeerURL()}
	// The first rendering tells where etcd will be reached.
	if err := render([]templates.Member{self}); err != nil {
		return err
	}
	observeCluster(ctx, n, f)
	if f.Join.Cluster == nil {
		return nil
	}
	f.Join.without(o.gone)
	selves := membersRendered([]observe.Member{{Name: c.NodeName, PeerURLs: f.Init.Pod.PeerURLs}})
	if err := render(append(membersRendered(f.Join.others()), selves...)); err != nil {
		return err
	}
	return f.Init.keepManifest()
}

// membersRendered are the members for --initial-cluster, as kubeadm names them.
func membersRendered(members []observe.Member) []templates.Member {
	var all []templates.Member
	for _, m := range members {
		name := m.Name
		if name == "" {
			name = m.ID.String()
		}
		for _, url := range m.PeerURLs { // etcd starts only if it is given all of them
			all = append(all, templates.Member{Name: name, PeerURL: url})
		}
	}
	return all
}

// keepManifest keeps the existing manifest if it differs from the rendered one only in
// --initial-cluster. The order of the members there means nothing, and an etcd that has data
// ignores the flag.
func (i *InitFacts) keepManifest() error {
	if i.There == nil {
		return nil
	}
	there, err := manifests.Parse(i.There)
	if err != nil {
		return nil // checkManifest says how it differs
	}
	was, _ := there.Flag(i.Pod.Container, "initial-cluster")
	wanted, _ := i.Pod.File.Manifest.Flag(i.Pod.Container, "initial-cluster")
	if !slices.Contains(i.DataNames, "member") && !sameMembers(was, wanted) {
		return nil
	}
	same, err := there.SetFlag(i.Pod.Container, "initial-cluster", wanted)
	if err == nil && string(same.Bytes()) == string(i.Rendered) {
		i.Rendered = i.There
	}
	return nil
}

func sameMembers(a, b string) bool {
	sorted := func(s string) []string { return slices.Sorted(slices.Values(strings.Split(s, ","))) }
	return slices.Equal(sorted(a), sorted(b))
}
