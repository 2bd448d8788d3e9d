package crashtest

import (
	"slices"
	"testing"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// neverOpen are the kinds that are in no journal: a backup changes nothing on the node, and writes
// none.
func neverOpen() []string {
	return []string{"end-backup", "keep-backup", "open-backup", "prove-backup", "reach-targets", "save-snapshot",
		"seal-backup", "ship-backup"}
}

// newSince are the kinds that no stored version had: their runs are stored with the next version.
func newSince() []string {
	return []string{"admit-newcomer", "await-answer", "await-cluster-version", "await-downgraded", "await-others",
		"await-serving", "await-storage-version", "await-version", "cancel-downgrade", "drop-unsealed",
		"enable-downgrade", "end-pod", "exchange-both", "exchange-contents", "give-up-reserve", "hold-downgrade",
		"name-newcomer", "pull-image", "put-back-manifest", "remove-member", "see-manifest", "see-newcomer",
		"set-image-tag", "set-peer-urls", "stop-member", "take-backup", "unseal-snapshot", "write-manifest"}
}

// neverUndone are the kinds whose operations are all past the commit point.
func neverUndone() []string {
	return []string{"release-leases", "set-data-directory", "verify-restored"}
}

// A kind that is in no stored run could change its meaning unnoticed. A kind that this version
// renamed is in none: then this version must store its own runs, too.
func TestTheStoredRunsHoldEveryKindOfOperation(t *testing.T) {
	seen := map[string]map[journal.Progress]bool{}
	for _, file := range storedFiles(t) {
		r := readStoredRuns(t, file)
		for i := range r.Machines {
			state := openState(t, r.machine(t, i))
			if state == nil {
				continue
			}
			for _, step := range state.Steps {
				if seen[step.Kind] == nil {
					seen[step.Kind] = map[journal.Progress]bool{}
				}
				seen[step.Kind][step.Progress] = true
			}
		}
	}
	for _, kind := range op.Kinds() {
		if slices.Contains(newSince(), kind) {
			continue
		}
		want := []journal.Progress{journal.Pending, journal.Doing, journal.Done}
		if !slices.Contains(neverUndone(), kind) {
			want = append(want, journal.Undoing, journal.Reverted)
		}
		for _, progress := range want {
			if there := seen[kind][progress]; there == slices.Contains(neverOpen(), kind) {
				t.Errorf("that a stored run has %s with the progress %d is %v: if the kind is new, add it to newSince",
					kind, progress, there)
			}
		}
		if slices.Contains(neverUndone(), kind) && (seen[kind][journal.Undoing] || seen[kind][journal.Reverted]) {
			t.Errorf("%s is undone, and is listed as one that never is", kind)
		}
	}
}
