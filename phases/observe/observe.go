package observe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/manifests"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/bind"
	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// Observe gathers what every workflow needs to know about the node. It changes nothing. An error
// may say that etcd's manifest cannot be relied on.
func (n *Node) Observe(ctx context.Context, id string) (*Facts, error) {
	f := n.ObserveAround(ctx, id)
	if err := cmp.Or(f.ManifestsError, f.EtcdError, f.FingerprintsError); err != nil {
		return nil, err
	}
	if n.onePod(f.ManifestDir) {
		return nil, engine.Refuse("set the kubelet's staticPodPath to a directory with that file in it, and restart "+
			"the kubelet", "the kubelet takes its static pods from the single file %s, and not from a directory, in "+
			"which etcdpod could replace them", f.ManifestDir)
	}
	return f, nil
}

// ObserveAround is Observe for who needs an etcd that answers, and not its manifest, nor any other
// file of the node.
func (n *Node) ObserveAround(ctx context.Context, id string) *Facts {
	f := &Facts{Run: id, Now: n.Clock.Now().UTC(),
		ManifestDir: n.Config.StaticPodPath, StaticPodURL: n.Config.StaticPodURL}
	f.Manifests, f.ManifestsError = n.Manifests(ctx, f.ManifestDir)
	f.Elsewhere = n.Elsewhere(f.Manifests)
	f.Etcd, f.EtcdError = n.EtcdPod(f.Manifests)
	f.Node = n.NameOf(f.Etcd)
	if open, err := engine.OpenRun(n.FS); err == nil {
		f.OpenRun = open.ID
	}
	f.API, f.Kubeconfigs = n.Administrators(f.Manifests)
	f.Addresses = Addresses(f.Manifests)
	f.KubeletActive, f.KubeletError = n.Kubelet.Running(ctx)
	f.Containers, f.RuntimeError = n.Runtime.Containers(ctx)
	f.Fingerprints, f.FingerprintsError = n.Fingerprints(f)
	if f.Etcd != nil {
		f.Live, f.LiveError = n.Live(ctx, f.Etcd)
		n.ObserveUse(f)
	}
	n.ObserveStarts(ctx, f)
	return f
}

// Manifests reads what the kubelet runs: every file whose name does not begin with a dot, whatever
// its extension, or a single file (kubelet, pkg/kubelet/config/file.go). What the containers know
// and the files do not say, such as the pod's address, is filled in.
func (n *Node) Manifests(ctx context.Context, dir string) ([]ManifestFile, error) {
	names, err := n.FS.ReadDir(dir)
	if n.onePod(dir) {
		names, dir, err = []string{path.Base(dir)}, path.Dir(dir), nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, engine.RefuseKind(fmt.Errorf("cannot read the static-pod directory: %w", err))
	}
	var files []ManifestFile
	appended := n.kubeletsNode()
	for _, name := range names {
		file := path.Join(dir, name)
		if strings.HasPrefix(name, ".") {
			continue
		}
		if regular, err := node.IsRegular(n.FS, file); err == nil && !regular {
			continue // the kubelet skips directories
		}
		st, err := n.FS.Lstat(file)
		m := ManifestFile{Path: file, Attr: st.Attr(), Link: st.Mode&fs.ModeSymlink != 0, Error: err, node: appended}
		if err == nil {
			m.Data, m.Error = n.FS.ReadFile(file)
		}
		if m.Error == nil {
			m.Manifest, m.Error = manifests.Parse(m.Data)
		}
		files = append(files, m)
	}
	files = n.resolved(ctx, files)
	for i := range files {
		n.configure(&files[i])
	}
	return files, nil
}

// onePod says whether the kubelet was given a single manifest instead of a directory.
func (n *Node) onePod(file string) bool {
	if one, err := node.IsRegular(n.FS, file); err != nil || !one {
		return false
	}
	data, err := n.FS.ReadFile(file)
	return err == nil && manifests.MayBePod(data)
}

// FlagOf returns a flag's value, with the container's variables expanded.
func FlagOf(m ManifestFile, container, name string) string {
	value, _ := m.Manifest.Flag(container, name)
	value, _ = m.Manifest.Expand(container, value)
	return value
}

// FlagsOf returns all values of a flag that may be given more than once, as
// --service-account-key-file.
func FlagsOf(m ManifestFile, container, name string) (values []string) {
	for _, f := range m.Manifest.Flags(container) {
		if f.Name == name {
			value, _ := m.Manifest.Expand(container, f.Value)
			values = append(values, value)
		}
	}
	return values
}

// HostFile translates a path in a container into one on the host; empty when there is none.
func HostFile(m ManifestFile, container, file string) string {
	if file == "" {
		return ""
	}
	host, ok := m.Manifest.HostPathOf(container, file)
	if !ok {
		return ""
	}
	return host
}

// APIServerAddresses are where this node reaches the API server of a manifest, as host:port, the
// surest first. An address that it advertises to others may not lead back from here.
func APIServerAddresses(m ManifestFile, container string) []string {
	// k8s.io/kubernetes, pkg/kubeapiserver/options: NewSecureServingOptions.
	port := cmp.Or(FlagOf(m, container, "secure-port"), "6443")
	var all []string
	for _, host := range append(hostsFromHere(FlagOf(m, container, "bind-address")),
		FlagOf(m, container, "advertise-address")) {
		if at := net.JoinHostPort(host, port); host != "" && !slices.Contains(all, at) {
			all = append(all, at)
		}
	}
	return all
}

// Addresses are the addresses under which this node's API server may have registered itself.
func Addresses(files []ManifestFile) []string {
	var all []string
	if m, c, ok := Program(files, "kube-apiserver"); ok {
		all = append(all, FlagOf(m, c, "advertise-address"))
	}
	return append(all, ownAddresses()...)
}

// OnThisHost says whether one of the URLs is of this host, as far as it names an address.
func OnThisHost(urls []string) bool {
	own := ownAddresses()
	return slices.ContainsFunc(HostsOf(urls), func(host string) bool {
		return Loopback(host) || slices.Contains(own, host)
	})
}

// ownAddresses are those of this host's interfaces.
func ownAddresses() (all []string) {
	found, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range found {
		if ip, ok := a.(*net.IPNet); ok {
			all = append(all, ip.IP.String())
		}
	}
	return all
}

// masterLeases is where API servers register themselves: k8s.io/kubernetes,
// pkg/controlplane/reconcilers.
const masterLeases = "/registry/masterleases/"

// registeredNodes is where nodes are stored, under their historical name: k8s.io/kubernetes,
// pkg/registry/core/node.
const registeredNodes = "/registry/minions/"

// Live asks this node's etcd, with a quorum, what it is and who its members are, for at most 15 s.
// The error says why it is not serving.
func (n *Node) Live(ctx context.Context, pod *EtcdPod) (*Live, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	c, err := n.Dialer().Dial(ctx, pod.Access)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.Ready(ctx); err != nil {
		return nil, err
	}
	s := c.Status(ctx)[0]
	if s.Err != nil {
		return nil, s.Err
	}
	members, err := c.Members(ctx)
	if err != nil {
		return nil, err
	}
	live := liveOf(s, members)
	alarms, err := c.Alarms(ctx)
	if err != nil {
		return nil, err
	}
	for _, a := range alarms {
		live.Alarms = append(live.Alarms, fmt.Sprintf("%s of member %x", a.Name, a.MemberID))
	}
	servers, err := c.Entries(ctx, masterLeases, false)
	if err != nil {
		return nil, err
	}
	live.register(servers)
	live.Nodes, err = c.Keys(ctx, registeredNodes)
	return live, err
}

// longestLease is more than any API server gives its entry: 15 s, which it renews each 10 s
// (k8s.io/kubernetes, pkg/controlplane/reconcilers). The entry of one that is dead is soon gone.
const longestLease = time.Minute

// register tells API servers that live from entries that no API server keeps alive. Those came with
// a restore of leases that were lost, or by hand.
func (l *Live) register(servers []etcd.Entry) {
	for _, s := range servers {
		if s.Leased && s.For <= longestLease {
			l.APIServers = append(l.APIServers, s.Name)
		} else {
			l.DeadAPIServers = append(l.DeadAPIServers, DeadAPIServer{Address: s.Name, For: s.For})
		}
	}
}

// liveOf combines an etcd's own status and its members.
func liveOf(s etcd.Status, members []etcd.Member) *Live {
	return &Live{
		ClusterID: s.ClusterID, MemberID: s.MemberID, Revision: s.Revision,
		Version: s.Version, StorageVersion: s.StorageVersion,
		SizeBytes: s.SizeBytes, InUseBytes: s.InUseBytes, QuotaBytes: s.QuotaBytes,
		Leader: s.Leader, Learner: s.Learner, Members: bind.MembersOf(members),
		Committed: s.RaftIndex, Applied: s.RaftApplied, Downgrade: s.Downgrade,
	}
}

// Fingerprints returns the SHA-256, by host path, of the files without which a snapshot is useless
// on another machine, and why it has not got that of some.
func (n *Node) Fingerprints(f *Facts) (map[string]string, error) {
	var files []string
	if m, c, ok := Program(f.Manifests, "kube-apiserver"); ok {
		for _, flag := range []string{
			"client-ca-file", "etcd-cafile", "requestheader-client-ca-file", "encryption-provider-config",
		} {
			files = append(files, HostFile(m, c, FlagOf(m, c, flag)))
		}
		for _, value := range FlagsOf(m, c, "service-account-key-file") {
			files = append(files, HostFile(m, c, value))
		}
	}
	if f.Etcd != nil {
		files = append(files, f.Etcd.TrustedCA)
	}
	slices.Sort(files)
	prints := map[string]string{}
	var unread []error
	for _, file := range slices.Compact(files) {
		if file == "" {
			continue
		}
		data, err := n.FS.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			unread = append(unread, fmt.Errorf("cannot read %s: %w", file, err))
			continue
		}
		prints[file] = fingerprint(data)
	}
	return prints, errors.Join(unread...)
}
