package etcd

import (
	"bytes"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
)

// A copy that is made while etcd writes has some pages of one moment and some of another. Whichever
// they are, it is refused, or what comes out is what the cluster held.
func TestACopyOfDifferentMomentsIsRefused(t *testing.T) {
	t.Parallel()
	all, _, truth := oneMember(t, (*server).stop)
	early, late, s := all[0], all[1], newScratch(t)
	a, b := early.files["snap/db"], late.files["snap/db"]
	const page = 4096
	pages := max(len(a), len(b)) / page
	r := rand.New(rand.NewPCG(4, 9))
	refused, good := 0, 0
	for try := range 300 {
		mixed := bytes.Clone(b)
		if len(a) > len(b) {
			mixed = append(mixed, a[len(b):]...)
		}
		from := r.IntN(pages)
		for p := range pages {
			// What a copy reads first is older: all up to a page, or any.
			if older := p < from; try%2 == 1 && r.IntN(2) == 0 || try%2 == 0 && older {
				if p*page < len(a) {
					copy(mixed[p*page:(p+1)*page], a[p*page:min(len(a), (p+1)*page)])
				}
			}
		}
		m := mutation{name: "a mixture", files: maps.Clone(late.files), of: late}
		m.files["snap/db"] = mixed
		m.put(t, s.dir, s.there)
		made, err := SnapshotFromDataDir(t.Context(), s.dir, "", s.out, nil)
		var bad *snapfile.Bad
		switch {
		case errors.As(err, &bad):
			refused++
			continue
		case err != nil:
			t.Fatalf("%d: %v", try, err)
		}
		good++
		if got := made.Contents; got.HashKV != truth[got.HashRevision] || made.Revision != late.last {
			t.Errorf("%d: revision %d, hash %d, and not %d at %d", try, made.Revision, got.HashKV,
				truth[got.HashRevision], late.last)
		}
		if err := os.Remove(s.out); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d pages; %d mixtures are refused, %d are good", pages, refused, good)
	if refused == 0 {
		t.Error("none is refused")
	}
}
