package restore

import (
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// checkEncryption refuses what the API server could not read. Where a key is lost, a person may
// decide to restore the rest.
func (o restorer) checkEncryption(f *Facts) error {
	if f.Encryption.Error != nil {
		return engine.Refuse("correct the file, or the flag in the API server's manifest: the API server would not "+
			"start with it either", "cannot determine whether the API server can decrypt the snapshot: %v",
			f.Encryption.Error)
	}
	cannot := f.Encryption.Cannot()
	if len(cannot) == 0 || o.OtherPKI {
		return nil
	}
	return engine.Refuse(cannot[0].Hint+"; if that is not possible, --other-pki restores everything, and nobody can "+
		"read these objects", "%s", cannot[0].Reason)
}

// unreadNotes are for whoever has decided that.
func unreadNotes(e Encryption) (notes []finding.Finding) {
	for _, cannot := range e.Cannot() {
		notes = append(notes, finding.New(finding.EncryptionUnread, e.File, "%s", cannot.Reason))
	}
	return notes
}

// unreadable are the objects that are restored in vain, counted.
func unreadable(e Encryption) []string {
	if len(e.Unread) == 0 {
		return nil
	}
	var words []string
	for _, name := range heaviest(e.Unread, func(n int64) int64 { return n }) {
		words = append(words, observe.Counted(name, e.Unread[name]))
	}
	return []string{"what the API server cannot read (" + observe.Few(words) + "): it cannot list these kinds of " +
		"objects, and may not become ready, until they are deleted from etcd"}
}
