package crashtest

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
)

// savedEndsAsTheOriginal shows that saving and loading a node does not change it: without that,
// stored runs prove nothing. It compares the two after every step of a run and, at every tenth,
// again after a command has settled both, half of them after a power loss.
func savedEndsAsTheOriginal(t *testing.T, c Case) {
	for at := 1; ; at++ {
		w, sub := c.Fresh(t)
		original := w.Machine
		before := original.Clone()
		original.CrashAt = at
		err := sub.Run()
		if !original.Crashed() {
			if err != nil {
				t.Fatal(err)
			}
			return
		}
		original.Revive()
		copied, err := sim.LoadMachine(Saved(t, original)[0])
		if err != nil {
			t.Fatal(err)
		}
		settlers := []settler{c.loaded(t, before, original), c.loaded(t, before, copied)}
		same(t, at, original, copied)
		if at%10 > 0 {
			continue // settling takes longer than everything else
		}
		for _, s := range settlers {
			if at%20 == 0 {
				s.Machine.PowerLoss(sim.MixUnsynced, rand.New(rand.NewPCG(1, uint64(at))))
			}
			var refused *engine.RefusedError
			if err := s.Settle([]string{"resume", "rollback"}[at%3%2]); err != nil && !errors.As(err, &refused) {
				t.Fatalf("step %d: %v", at, err)
			}
		}
		same(t, at, original, copied)
	}
}

func same(t *testing.T, at int, a, b *sim.Machine) {
	t.Helper()
	whole := func(name string, data []byte) (string, []byte) { return name, data }
	if all := Saved(t, a, b); a.Look() != b.Look() || !bytes.Equal(all[0], all[1]) {
		t.Fatalf("step %d: they differ:\n%s\n%s", at, all[0], all[1])
	}
	if a.Digest(whole) != b.Digest(whole) {
		t.Fatalf("step %d: they will differ", at)
	}
}
