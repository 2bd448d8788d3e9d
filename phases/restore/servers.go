package restore

import (
	"fmt"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// rewireAPIServer edits an API server's manifest for the restored cluster. In --etcd-servers,
// entries that name old members missing from the new cluster give way to its members; any other
// entry, a load balancer's or localhost, stays.
func (o restorer) rewireAPIServer(f *Facts, m observe.ManifestFile, put *op.PutBackManifest) error {
	servers, container := o.rewired(m)
	if servers == nil {
		return nil
	}
	edited, err := m.Manifest.SetFlagOnce(container, observe.EtcdServersFlag, strings.Join(servers, ","))
	if err != nil {
		return fmt.Errorf("cannot switch the API server of %s to the restored members: %w", f.Node, err)
	}
	put.Data = edited.Bytes()
	return nil
}

// rewired returns the new --etcd-servers; nil when it stays the same.
func (o restorer) rewired(m observe.ManifestFile) (servers []string, container string) {
	if o.Shared == nil || m.Manifest == nil {
		return nil, ""
	}
	container, ok := m.Manifest.Runs("kube-apiserver")
	if !ok {
		return nil, ""
	}
	current := observe.EtcdServers(m, container)
	gone := func(entry string) bool {
		return slices.Contains(o.Shared.OldHosts, observe.HostOf(entry)) &&
			!slices.Contains(observe.HostsOf(o.Shared.ClientURLs), observe.HostOf(entry))
	}
	if !slices.ContainsFunc(current, gone) {
		return nil, ""
	}
	for _, entry := range current {
		if !gone(entry) {
			servers = append(servers, entry)
		}
	}
	for _, member := range o.Shared.ClientURLs {
		if !slices.Contains(observe.HostsOf(servers), observe.HostOf(member)) {
			servers = append(servers, member)
		}
	}
	return servers, container
}

// foundServers reports what the API server will use, if that changes.
func (o restorer) foundServers(f *Facts) (found []string) {
	for _, m := range f.Manifests {
		if !observe.IsAPIServer(m) || o.Shared == nil {
			continue
		}
		if servers, _ := o.rewired(m); servers != nil {
			found = append(found, "--etcd-servers becomes "+strings.Join(servers, ","))
		}
	}
	return found
}

// warnedOfServers says what looks wrong in what the API server will use.
func (o restorer) warnedOfServers(f *Facts) (warned []finding.Finding) {
	for _, m := range f.Manifests {
		if !observe.IsAPIServer(m) || o.Shared == nil {
			continue
		}
		container, _ := m.Manifest.Runs("kube-apiserver")
		for _, entry := range observe.EtcdServers(m, container) {
			if host := observe.HostOf(entry); !observe.Loopback(host) &&
				!slices.Contains(observe.HostsOf(o.Shared.ClientURLs), host) &&
				!slices.Contains(o.Shared.OldHosts, host) {
				warned = append(warned, finding.New(finding.ClustersDiffer, entry, "--etcd-servers names %s, which is "+
					"not a member: make sure that it leads to the members of the restored cluster", entry))
			}
		}
	}
	return warned
}
