package main

import "context"

// rehearseRow measures how long a rehearsal takes. Nobody else has one: what it is held against
// only restores. So what it is to reach is a time, for 1.2 GB.
func (b *bench) rehearseRow(ctx context.Context, f *files) error {
	say("rehearse")
	ours, theirs, err := pairs(ctx, b.pairs, f.warmed(func(ctx context.Context) (cost, error) {
		c, _, err := f.etcdpod(ctx, "rehearse", f.snapshot)
		return c, err
	}), f.warmed(f.restore))
	if err != nil {
		return err
	}
	const goal, gigabytes = 15, 1.2
	r := newRow("`rehearse`: restore, start etcd, and look at all of it", "`etcdutl snapshot restore` alone",
		walls(ours), walls(theirs))
	r.atMost("time", r.Ours, goal*max(1, float64(b.report.SnapshotBytes)/(gigabytes*1e9)), "%.1f s")
	r.OursMemory, r.TheirsMemory = memory(ours), memory(theirs)
	b.add(r)
	return nil
}
