package phases

import (
	"context"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/templates"
)

// wire has the API server of this node use the new etcd. In a first bootstrap kubeadm writes its manifest afterwards, and nothing is to be done.
func (o InitOptions) wire() memberPhase {
	p := wireAPIServer(func(f *factsOfMember) *Facts { return f.Facts }, func(f *factsOfMember) EtcdFlags { return f.Init.Wish }, 0)
	plan, found := p.Plan, p.Found
	p.Found = func(f *factsOfMember) []string { return append(found(f), foundOtherwise(f)...) }
	p.Plan = func(ctx context.Context, f *factsOfMember) ([]op.Op, error) {
		if err := checkWiring(f); err != nil {
			return nil, err
		}
		return plan(ctx, f)
	}
	return p
}

// checkWiring: an API server that uses another cluster would lose all its objects from sight.
func checkWiring(f *factsOfMember) error {
	m, container, ok := program(f.Manifests, "kube-apiserver")
	if !ok {
		return nil
	}
	now := etcdFlagsOf(m, container).Servers
	wanted := slices.ContainsFunc(now, func(s string) bool { return slices.Contains(f.Init.Wish.Servers, s) })
	if len(now) == 0 || wanted || f.Init.Wired || f.Init.Pod != nil && f.Init.Pod.serves(now) {
		return checkWiredFiles(f, m, container)
	}
	return refuse("leave it as it is with --skip-phases wire-apiserver; `etcdpod apiserver set` changes it, and looks at both clusters before it does",
		"the API server of this node uses other etcds than the configuration says, and would see none of their objects any more: %s has --etcd-servers=%s", m.Path, strings.Join(now, ","))
}

// checkWiredFiles: behind the commit point an API server that does not find its files would only stay down.
func checkWiredFiles(f *factsOfMember, m ManifestFile, container string) error {
	now := etcdFlagsOf(m, container)
	after := now.with(f.Init.Wish)
	for i, flag := range after.named() {
		if file := *flag.file; file != *now.named()[i].file && hostFile(m, container, file) == "" {
			return refuse("mount it, as kubeadm does; or leave the API server as it is with --skip-phases wire-apiserver", "the API server of this node would not find its file --%s=%s: no volume of %s mounts it from the node", flag.name, file, m.Path)
		}
	}
	return nil
}

// observeWiring looks at how the API server of this node reaches etcd now, and decides what is to be otherwise.
func (n *View) observeWiring(ctx context.Context, f *factsOfMember, c *templates.Config) {
	f.Init.Wired = n.wired(ctx, f)
	f.Init.Kubeadms = EtcdFlags{}
	for _, flag := range c.APIServerEtcdFlags() {
		f.Init.Kubeadms.set(flag.Name, flag.Value)
	}
	f.Init.Wish = wish(f, c.AsksAPIServerFor)
}

// wired says whether the API server, with the flags that it has, reaches the cluster of the etcd on this node, and no other.
func (n *View) wired(ctx context.Context, f *factsOfMember) bool {
	m, container, ok := program(f.Manifests, "kube-apiserver")
	if !ok || f.Live == nil {
		return false
	}
	flags, reaches := etcdFlagsOf(m, container), false
	if len(n.wrongFiles(m, container, flags)) > 0 {
		return false // we might find what it does not
	}
	for _, a := range n.ask(ctx, m, container, flags) {
		if a.ClusterID != 0 && a.ClusterID != f.Live.ClusterID {
			return false
		}
		reaches = reaches || a.Error == nil && !a.Learner // which serves nobody
	}
	return reaches
}

// wish is what kubeadm would write; but what works already is somebody's, perhaps by `apiserver set`, and stays, unless the configuration asks for something else by name. Where
// etcd cannot be asked, a list of several that names this etcd was made by somebody who wants all of them, and one that names what it advertises by one who set it.
func wish(f *factsOfMember, asked func(flag string) bool) EtcdFlags {
	e := f.Init.Kubeadms
	m, container, ok := program(f.Manifests, "kube-apiserver")
	if !ok {
		return e
	}
	for _, flag := range e.named() {
		if f.Init.Wired && !asked(flag.name) {
			*flag.file = ""
		}
	}
	now := etcdFlagsOf(m, container).Servers
	own := f.Init.Pod != nil && (len(now) > 1 && f.Init.Pod.serves(now) || len(now) == 1 && slices.Contains(f.Init.Pod.ClientURLs, now[0]))
	if (own || f.Init.Wired) && !asked(etcdServersFlag) {
		e.Servers = nil
	}
	return e
}

// foundOtherwise says of what stays how kubeadm has it.
func foundOtherwise(f *factsOfMember) []string {
	m, container, ok := program(f.Manifests, "kube-apiserver")
	if !ok {
		return nil
	}
	var found []string
	for _, d := range etcdFlagsOf(m, container).with(f.Init.Wish).differences(f.Init.Kubeadms) {
		found = append(found, "it stays so: "+d)
	}
	return found
}
