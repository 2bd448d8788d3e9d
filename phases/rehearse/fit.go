package rehearse

import (
	"maps"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/pki"
)

// fit holds the CAs and keys that the restored cluster needs against the files of this node, where
// an API server runs here.
func (r *rehearsal) fit(e observe.Encryption, api bool) {
	n, f := &r.Needs, r.facts
	n.Checked = api
	var now []string
	for _, sum := range f.Fingerprints {
		now = append(now, strings.Split(sum, ",")...)
	}
	for _, ca := range unique(observe.PublishedCAs(r.source.report)) {
		n.CAs = append(n.CAs, Need{ca, slices.Contains(now, ca)})
	}
	var ids []string
	for _, object := range r.source.report.Samples[snapfile.TokenSamples] {
		ids = append(ids, pki.TokenKeysIn(object.Value)...)
	}
	for _, id := range unique(ids) {
		n.TokenKeys = append(n.TokenKeys, Need{id, slices.Contains(e.TokenKeys, id)})
	}
	if s := r.source.sidecar; s != nil {
		others := observe.OtherFiles(f.Fingerprints, s.Fingerprints, e.File)
		for _, file := range slices.Sorted(maps.Keys(s.Fingerprints)) {
			n.Files = append(n.Files, Need{file, api && !slices.Contains(others, file)})
		}
		if api && len(others) > 0 {
			r.found(finding.RehearsalOtherFiles, others[0], "the backup was taken with other files than this node has "+
				"(%s): what is restored here is useless until they are put back", strings.Join(others, ", "))
			return
		}
	}
	r.judgeFit(api, e)
}

// judgeFit is for a snapshot of which no sidecar tells the files.
func (r *rehearsal) judgeFit(api bool, e observe.Encryption) {
	here := func(all []Need) bool { return slices.ContainsFunc(all, func(n Need) bool { return n.Here }) }
	if !api {
		return
	}
	if cas := r.Needs.CAs; len(cas) > 0 && !here(cas) && r.facts.Fingerprints[e.ClientCA] != "" {
		r.found(finding.RehearsalOtherFiles, cas[0].Name, "the CA in the snapshot is not one of this node's: the "+
			"snapshot is of another cluster, or older than the CA's replacement")
	}
	if keys := r.Needs.TokenKeys; len(keys) > 0 && len(e.TokenKeys) > 0 && !here(keys) {
		r.found(finding.RehearsalOtherFiles, keys[0].Name, "the tokens of service accounts in the snapshot were "+
			"signed with a key that none of the API server's --service-account-key-file holds")
	}
}

func unique(words []string) []string {
	slices.Sort(words)
	return slices.Compact(words)
}
