package restore

import (
	"testing"
	"time"
)

// What was typed for one node is what is to be typed for several.
func TestTheCommandForSeveralNodesKeepsWhatWasTyped(t *testing.T) {
	for want, o := range map[string]Options{
		"etcdpod restore --nodes cp1,cp2=10.0.0.12 /b/x.db": {File: "/b/x.db", StopTimeout: 30 * time.Second},
		"etcdpod restore --nodes cp1,cp2=10.0.0.12 --skip-hash-check --bump-revision 7 --data-dir /srv/etcd " +
			"--stop-timeout 1m0s --wait-timeout 5m0s --api-servers-stopped --other-pki '/b/it'\\''s.db'": {
			File: "/b/it's.db", SkipHashCheck: true, Bump: 7, DataDir: "/srv/etcd", StopTimeout: time.Minute,
			WaitTimeout: 5 * time.Minute, APIServersStopped: true, OtherPKI: true},
		"etcdpod restore --nodes cp1,cp2=10.0.0.12 --from-data-dir /old --from-wal-dir /wal --up-to-hole": {
			FromDataDir: "/old", FromWALDir: "/wal", UpToHole: true},
	} {
		if got := o.onNodes([]string{"cp1", "cp2=10.0.0.12"}, nil); got != want {
			t.Errorf("%s\nand not\n%s", got, want)
		}
	}
}
