package restore

import (
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/pki"
)

// What comes along in a snapshot must fit the node's files: an API server that trusts another CA,
// or does not have the key of a token or of a value, cannot use it.

const otherFiles = "first put back the files that belong to the backup (or add --other-pki, if you know that they " +
	"were renewed since)"

// checkFits says everything that does not fit at once: --other-pki overrides all of it.
func (o restorer) checkFits(f *Facts) error {
	var reasons, hints []string
	for _, check := range []func(*Facts) error{o.checkFingerprints, o.checkCluster, o.checkEncryption} {
		if err := check(f); err != nil {
			reasons, hints = append(reasons, err.Error()), append(hints, engine.Hint(err))
		}
	}
	if reasons == nil {
		return nil
	}
	return engine.Refuse(strings.Join(hints, "; "), "%s", strings.Join(reasons, "; "))
}

// checkFingerprints holds the files of the backup against the node's. A file that holds more by
// now, as a bundle of CAs, or a key that is in another file by now, is no difference. What the API
// server needs of its encryption configuration, checkEncryption looks at: that it was written anew
// says nothing.
func (o restorer) checkFingerprints(f *Facts) error {
	if f.Snapshot.Sidecar == nil || o.OtherPKI {
		return nil
	}
	differ := observe.OtherFiles(f.Fingerprints, f.Snapshot.Sidecar.Fingerprints, f.Encryption.File)
	if len(differ) == 0 {
		return nil
	}
	return engine.Refuse(otherFiles,
		"the backup was taken with other files than this node has, and its objects are useless with these: %s",
		strings.Join(differ, ", "))
}

// telling keeps what tells whether a node's files fit.
func (s *SnapshotFacts) telling(r *snapfile.Report) {
	s.CAs = append(s.CAs, observe.PublishedCAs(r)...)
	for _, object := range r.Samples[snapfile.TokenSamples] {
		s.TokenKeys = append(s.TokenKeys, pki.TokenKeysIn(object.Value)...)
	}
}

// fitNotes say what could not be looked at, and what the snapshot brings along.
func (f *Facts) fitNotes() (notes []finding.Finding) {
	notes = f.OtherPrefix()
	if prefixes := strings.Join(f.Encryption.Untried, ", "); prefixes != "" {
		notes = append(notes, finding.New(finding.EncryptionUntried, prefixes, "no value of %s could be tried: only "+
			"the API server can tell whether its key is right", prefixes))
	}
	for _, why := range f.Encryption.Unasked {
		notes = append(notes, finding.New(finding.EncryptionUntried, "",
			"%s. Only the API server will show whether it can decrypt what the snapshot holds", why))
	}
	for _, address := range f.Snapshot.DeadAPIServers {
		notes = append(notes, finding.New(finding.APIServerDead, address, "the snapshot registers an API server at "+
			"%s, and nothing removes it: the Service kubernetes sends clients there. Remove it afterwards with "+
			"`etcdctl del /registry/masterleases/%s`", address, address))
	}
	return notes
}

// checkCluster holds what stands in the snapshot itself against the node's files, where no sidecar
// tells: there is none, or it is of data that nothing showed to be of the node's cluster.
func (o restorer) checkCluster(f *Facts) error {
	if f.Snapshot.Sidecar != nil && len(f.Snapshot.Sidecar.Fingerprints) > 0 || o.OtherPKI {
		return nil
	}
	known := false
	var now []string
	for _, sum := range f.Fingerprints {
		now = append(now, strings.Split(sum, ",")...)
	}
	for _, ca := range f.Snapshot.CAs {
		known = known || slices.Contains(now, ca)
	}
	if len(f.Snapshot.CAs) > 0 && f.Fingerprints[f.Encryption.ClientCA] != "" && !known {
		return engine.Refuse(otherFiles,
			"the CA in the snapshot is not one of this node's: the snapshot is of another cluster, or older than the "+
				"CA's replacement, and certificates issued then are not accepted here")
	}
	known = false
	for _, id := range f.Snapshot.TokenKeys {
		known = known || slices.Contains(f.Encryption.TokenKeys, id)
	}
	if len(f.Snapshot.TokenKeys) == 0 || len(f.Encryption.TokenKeys) == 0 || known {
		return nil
	}
	return engine.Refuse(otherFiles, "the tokens of service accounts in the snapshot were signed with a key that none "+
		"of the API server's --service-account-key-file holds: it would accept none of them")
}
