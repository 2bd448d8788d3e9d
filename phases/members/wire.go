package members

import (
	"context"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/apiserver"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/templates"
)

// wire makes this node's API server use the new etcd. In a first bootstrap kubeadm writes its
// manifest afterwards, and there is nothing to do.
func (o InitOptions) wire() phase {
	p := apiserver.Wire(func(f *Facts) *observe.Facts { return f.Facts },
		func(f *Facts) apiserver.EtcdFlags { return f.Init.Wish }, 0)
	plan, found := p.Plan, p.Found
	p.Found = func(f *Facts) []string { return append(found(f), foundOtherwise(f)...) }
	p.Plan = func(ctx context.Context, f *Facts) ([]op.Op, error) {
		if err := checkWiring(f); err != nil {
			return nil, err
		}
		return plan(ctx, f)
	}
	return p
}

// checkWiring refuses to move an API server away from another cluster: it would lose sight of all
// its objects.
func checkWiring(f *Facts) error {
	m, container, ok := observe.Program(f.Manifests, "kube-apiserver")
	if !ok {
		return nil
	}
	now := apiserver.EtcdFlagsOf(m, container).Servers
	wanted := slices.ContainsFunc(now, func(s string) bool { return slices.Contains(f.Init.Wish.Servers, s) })
	if len(now) == 0 || wanted || f.Init.Wired || f.Init.Pod != nil && f.Init.Pod.Serves(now) {
		return checkWiredFiles(f, m, container)
	}
	return engine.Refuse("leave it unchanged with --skip-phases wire-apiserver; `etcdpod apiserver set` changes it, "+
		"after checking both clusters",
		"this node's API server uses other etcds than the configuration says, and would no longer see any of their "+
			"objects: %s has --etcd-servers=%s", m.Path, strings.Join(now, ","))
}

// checkWiredFiles refuses files that the API server would not find: after the commit point it would
// only stay down.
func checkWiredFiles(f *Facts, m observe.ManifestFile, container string) error {
	now := apiserver.EtcdFlagsOf(m, container)
	after := now.With(f.Init.Wish)
	for i, flag := range after.Named() {
		if file := *flag.File; file != *now.Named()[i].File && observe.HostFile(m, container, file) == "" {
			return engine.Refuse("mount it, as kubeadm does; or leave the API server unchanged with --skip-phases "+
				"wire-apiserver",
				"this node's API server would not find its file --%s=%s: no volume of %s mounts it from the node",
				flag.Name, file, m.Path)
		}
	}
	return nil
}

// observeWiring examines how this node's API server reaches etcd now, and decides what must change.
func observeWiring(ctx context.Context, n *observe.Node, f *Facts, c *templates.Config) {
	f.Init.Wired = wired(ctx, n, f)
	f.Init.Kubeadms = apiserver.EtcdFlags{}
	for _, flag := range c.APIServerEtcdFlags() {
		f.Init.Kubeadms.Set(flag.Name, flag.Value)
	}
	f.Init.Wish = wish(f, c.AsksAPIServerFor)
}

// wired says whether the API server, with its current flags, reaches the cluster of this node's
// etcd, and no other.
func wired(ctx context.Context, n *observe.Node, f *Facts) bool {
	m, container, ok := observe.Program(f.Manifests, "kube-apiserver")
	if !ok || f.Live == nil {
		return false
	}
	flags, reaches := apiserver.EtcdFlagsOf(m, container), false
	if len(apiserver.WrongFiles(n, m, container, flags)) > 0 {
		return false // we might find files that the API server does not
	}
	for _, a := range apiserver.Ask(ctx, n, m, container, flags) {
		if a.ClusterID != 0 && a.ClusterID != f.Live.ClusterID {
			return false
		}
		reaches = reaches || a.Error == nil && !a.Learner // a learner serves nobody
	}
	return reaches
}

// wish is what kubeadm would write. But what already works was set on purpose, perhaps by
// `apiserver set`, and stays unless the configuration explicitly asks for something else. If etcd
// cannot be asked, two settings are assumed to be deliberate: a list of several servers that
// includes this etcd, and the single URL that it advertises.
func wish(f *Facts, asked func(flag string) bool) apiserver.EtcdFlags {
	e := f.Init.Kubeadms
	m, container, ok := observe.Program(f.Manifests, "kube-apiserver")
	if !ok {
		return e
	}
	for _, flag := range e.Named() {
		if f.Init.Wired && !asked(flag.Name) {
			*flag.File = ""
		}
	}
	now := apiserver.EtcdFlagsOf(m, container).Servers
	own := f.Init.Pod != nil &&
		(len(now) > 1 && f.Init.Pod.Serves(now) || len(now) == 1 && slices.Contains(f.Init.Pod.ClientURLs, now[0]))
	if (own || f.Init.Wired) && !asked(observe.EtcdServersFlag) {
		e.Servers = nil
	}
	return e
}

// foundOtherwise reports where the flags that stay differ from kubeadm's.
func foundOtherwise(f *Facts) []string {
	m, container, ok := observe.Program(f.Manifests, "kube-apiserver")
	if !ok {
		return nil
	}
	var found []string
	for _, d := range apiserver.EtcdFlagsOf(m, container).With(f.Init.Wish).Differences(f.Init.Kubeadms) {
		found = append(found, "it is left unchanged: "+d)
	}
	return found
}
