package observe

import (
	"path"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/pki"
)

// OwnAnswers says whether what answers is of the cluster of this node's etcd or, where no manifest
// runs one, of the API server's. A person may have given the URL of any other one, as of the one
// that has this node's events.
func (n *Node) OwnAnswers(f *Facts) bool {
	given := n.Access.Endpoints
	if len(given) == 0 || f.Live == nil {
		return true
	}
	if f.Etcd == nil {
		m, c, ok := Program(f.Manifests, "kube-apiserver")
		return !ok || slices.Contains(EtcdServers(m, c), given[0])
	}
	return slices.Contains(n.clientURLs(f.Etcd), given[0]) || slices.Contains(f.Etcd.ClientURLs, given[0]) ||
		op.ShareURL(f.Live.Members, []Member{{PeerURLs: f.Etcd.PeerURLs}})
}

// PublishedCAs are the fingerprints of the CAs that Kubernetes publishes in what etcd holds.
func PublishedCAs(r *snapfile.Report) (prints []string) {
	for _, name := range snapfile.CASamples() {
		for _, object := range r.Samples[name] {
			prints = append(prints, pki.CAsIn(object.Value)...)
		}
	}
	return prints
}

// HasCA says whether one of the CAs that data publishes is in a file of this node; told is false
// where nothing tells, because none can be read in the data, or no API server here names one.
func (f *Facts) HasCA(published []string) (has, told bool) {
	m, c, ok := Program(f.Manifests, "kube-apiserver")
	if !ok || len(published) == 0 || f.Fingerprints[HostFile(m, c, FlagOf(m, c, "client-ca-file"))] == "" {
		return false, false
	}
	for _, sum := range f.Fingerprints {
		has = has || slices.ContainsFunc(strings.Split(sum, ","), func(ca string) bool {
			return slices.Contains(published, ca)
		})
	}
	return has, true
}

// NameOf is the name of a member; empty where it is not in the list, or has none yet.
func NameOf(members []Member, id uint64) string {
	for _, m := range members {
		if uint64(m.ID) == id {
			return m.Name
		}
	}
	return ""
}

// OtherFiles are the files of which a backup knows fingerprints that this node's files do not have,
// sorted. A file that holds more by now, or a key that is in another file by now, is no other one.
// What the API server needs of its encryption configuration, [Node.Encryption] tells.
func OtherFiles(now, then map[string]string, encryption string) (differ []string) {
	var all []string
	for _, sum := range now {
		all = append(all, strings.Split(sum, ",")...)
	}
	for file, prints := range then {
		if file == encryption || configures(file) {
			continue
		}
		for sum := range strings.SplitSeq(prints, ",") {
			if !slices.Contains(all, sum) {
				differ = append(differ, file)
				break
			}
		}
	}
	slices.Sort(differ)
	return differ
}

// configures says whether a file is a configuration, and no certificate or key: the only one whose
// fingerprint is taken is that of encryption.
func configures(file string) bool {
	return slices.Contains([]string{".yaml", ".yml", ".json", ".conf", ".cfg"}, path.Ext(file))
}
