package status

import (
	"context"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// judgeWho warns of members that cannot be told apart, have never started, or that nobody reaches.
func (s seen) judgeWho() (w found) {
	l, pod := s.facts.Live, s.facts.Etcd
	if l == nil || pod == nil {
		return nil
	}
	names := observe.MemberNames(l.Members)
	for i, m := range l.Members {
		same := func(o observe.Member) bool { return observe.Started(o) && o.Name == m.Name }
		if !slices.ContainsFunc(l.Members[:i], same) && slices.ContainsFunc(l.Members[i+1:], same) {
			var twins []string
			for j, o := range l.Members {
				if same(o) {
					twins = append(twins, names[j])
				}
			}
			w = append(w, finding.New(finding.MemberSameName, m.Name,
				"%d members share one name: %s; if one is left over from a node that was rebuilt, remove it: "+
					"`etcdpod remove ID`", len(twins), strings.Join(twins, ", ")))
		}
	}
	for _, m := range l.Members {
		counts := "counts for quorum, but holds nothing"
		if m.IsLearner {
			counts = "is a learner, but holds nothing"
		}
		if !observe.Started(m) {
			without := ""
			if s.noQuorum() {
				without = " (without a quorum etcd does not carry that out: see what to do next)"
			}
			w = append(w, finding.New(finding.MemberNeverStarted, m.ID.String(),
				"member %s at %s has never started: it %s; start it there, or run `etcdpod remove "+
					"%s`%s", m.ID, strings.Join(m.PeerURLs, ", "), counts, m.ID, without))
		}
		if observe.LocalPeer(m) {
			var peers, clients []string
			if uint64(m.ID) == l.MemberID {
				peers, clients = pod.PeerURLs, pod.ClientURLs
			}
			w = append(w, finding.New(finding.MemberLocalURL, observe.MemberName(m),
				"member %s is listed at %s, which no other node can reach: no node can join; %s",
				observe.MemberName(m), strings.Join(m.PeerURLs, ", "),
				observe.LocalPeerCure(m, peers, clients)))
		}
	}
	return w
}

// judgeManifests warns of what the manifests would do at the next start.
func (s seen) judgeManifests() (w found) {
	f := s.facts
	for _, said := range observe.Doubled(f.Manifests) {
		w = append(w, finding.New(finding.ManifestDoubled, f.ManifestDir,
			"%s: the kubelet runs only one of them, and perhaps another after its next start; move the copies out of "+
				"the directory", said))
	}
	for _, m := range observe.OtherEtcds(f.Manifests) {
		w = append(w, finding.New(finding.EtcdAnother, m.Path,
			"%s runs another etcd, %s: etcdpod does not back it up",
			m.Path, m.PodName()))
	}
	for _, said := range observe.Unresolved(f.Manifests) {
		w = append(w, finding.New(finding.ManifestUnresolved, f.ManifestDir, "%s", said))
	}
	pod := f.Etcd
	if pod == nil {
		return w
	}
	if pod.ForceNewCluster() {
		as, file := pod.Source("force-new-cluster", "")
		w = append(w, finding.New(finding.EtcdForceNewCluster, pod.File.Path,
			"%s starts etcd with --force-new-cluster: its next start would remove all other members; remove %s from "+
				"%s", pod.File.Path, as, file))
	}
	if s.kubeadms != "" {
		w = append(w, finding.New(finding.KubeadmDataDir, pod.DataPath,
			"etcd's data is in %s, but kubeadm's ClusterConfiguration says %s: the next `kubeadm upgrade` would "+
				"start etcd there, without this data; correct etcd.local.dataDir in the ConfigMap "+
				"kube-system/kubeadm-config", pod.DataPath, s.kubeadms))
	}
	return w
}

// askKubeadm is how long the API server may take to tell kubeadm's configuration.
const askKubeadm = 3 * time.Second

// otherDataDir is the data directory that the next `kubeadm upgrade` would render, if it is not the
// one that etcd uses. It is empty where the API server does not tell.
func otherDataDir(ctx context.Context, n *observe.Node, f *observe.Facts) string {
	if f.Etcd == nil || f.Live == nil || !observe.HasAPIServer(f) {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, askKubeadm)
	defer cancel()
	config, err := n.ClusterConfiguration(ctx, f.API)
	if err != nil || config.DataDir == "" {
		return ""
	}
	dir := path.Clean(config.DataDir)
	if resolved, err := n.Resolve(dir); dir == f.Etcd.DataPath || err == nil && resolved == f.Etcd.DataDir {
		return ""
	}
	return dir
}

// imageOf is the image of the program for which a pod is there, whatever stands beside it.
func imageOf(m observe.ManifestFile) string {
	for _, program := range observe.Components() {
		if container, ok := m.Manifest.Runs(program); ok {
			return m.Manifest.Image(container)
		}
	}
	for _, name := range m.Manifest.Containers() {
		if image := m.Manifest.Image(name); image != "" {
			return image
		}
	}
	return ""
}
