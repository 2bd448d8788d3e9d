package main

import (
	"context"
	"slices"
	"time"

	"github.com/etcdpod/etcdpod/e2e/binaries"
)

// statusRow measures how long a look at three nodes takes. etcdpod looks at their manifests,
// certificates and containers, too, and watches etcd for a second: so what it is to reach is a
// time, and no ratio.
func (b *bench) statusRow(ctx context.Context, o *outages) error {
	say("looking at three nodes")
	etcdctl, err := binaries.Etcdctl(ctx, binaries.Etcd37)
	if err != nil {
		return err
	}
	const pki = "/etc/kubernetes/pki/etcd/"
	client := []string{etcdctl, "--endpoints=https://127.0.0.1:2379", "--cacert=" + pki + "ca.crt",
		"--cert=" + pki + "healthcheck-client.crt", "--key=" + pki + "healthcheck-client.key", "endpoint"}
	timed := func(commands ...[]string) func(context.Context) (time.Duration, error) {
		return func(ctx context.Context) (time.Duration, error) {
			start := time.Now()
			for _, args := range commands {
				if _, err := o.first().Exec(ctx, args...); err != nil {
					return 0, err
				}
			}
			return time.Since(start), nil
		}
	}
	ours, theirs, err := pairs(ctx, b.pairs,
		timed([]string{"etcdpod", "status", "--nodes=cp1,cp2,cp3", "--max-backup-age=none"}),
		timed(slices.Concat(client, []string{"status", "--cluster"}),
			slices.Concat(client, []string{"hashkv", "--cluster"})))
	if err != nil {
		return err
	}
	r := newRow("3 nodes: `status --nodes`", "`etcdctl endpoint status --cluster`, then `endpoint hashkv --cluster`",
		inSeconds(ours), inSeconds(theirs))
	r.atMost("time", r.Ours, 2, "%.2f s")
	b.add(r)
	return nil
}

func inSeconds(all []time.Duration) (seconds []float64) {
	for _, took := range all {
		seconds = append(seconds, took.Seconds())
	}
	return seconds
}
