package defrag

import (
	"context"
	"path"

	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
)

// What a defragmentation takes, as measured on a machine of two cores: it writes what is in use,
// and goes through the whole file.
const (
	secondsPerGiBInUse  = 6.0
	secondsPerGiBOfFile = 1.3
	gibibyte            = 1 << 30
)

// Beyond longStall a person must know what the kubelet does after about probeKills: the probe of
// kubeadm's manifest asks /livez every 10 s, waits 15 s for it, and fails at the eighth time
// (kubeadm, app/util/staticpod/utils.go).
const (
	longStall  = 60.0
	probeKills = 120
)

// paceFrom is how long a turn must have been expected to take, in seconds, for its length to tell
// how long the next ones take.
const paceFrom = 1.0

// stallOf is about how long a member's clients wait. pace is how the members before compared with
// what was predicted for them; 1 when there were none.
func stallOf(size, kept int64, pace float64) float64 {
	return pace * (secondsPerGiBInUse*float64(kept) + secondsPerGiBOfFile*float64(size)) / gibibyte
}

// sizeOfEntries is how large this node's own database becomes: the other members have the same
// entries. 0: this node has none, or it cannot be read.
func (c *cluster) sizeOfEntries(ctx context.Context) int64 {
	pod := c.Pod()
	if pod == nil || c.Silent(c.Own()) != nil {
		return 0
	}
	size, err := snapfile.Packed(ctx, c.node.FS.Real(path.Join(pod.DataDir, snapDir, "db")))
	if err != nil {
		return 0
	}
	return size
}

// snapDir is where etcd makes the new file, beside the old one.
const snapDir = "member/snap"

// predict fills in what is expected of a member.
func (m *Member) predict(entries int64, from string, pace float64) {
	m.PredictedBytes, m.PredictedFrom = m.InUseBytes, "in-use"
	if entries > 0 {
		m.PredictedBytes, m.PredictedFrom = entries, from
	}
	m.PredictedBytes = min(m.PredictedBytes, m.SizeBytes)
	m.StallSeconds = stallOf(m.SizeBytes, m.PredictedBytes, pace)
}

// gain is by how much a member is expected to become smaller.
func (m *Member) gain() int64 { return m.SizeBytes - m.PredictedBytes }
