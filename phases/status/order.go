package status

import (
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
)

// ranks are what comes before all else that is critical, the first of it first: what explains the
// rest, then what serves nobody, then data that may be wrong, then what will stop etcd soon, and
// then what the next loss would do.
var ranks = [][]finding.Code{
	{finding.RunOpen, finding.RunUnderWay, finding.RunUnreadable, finding.NotControlPlane, finding.NodeUnreachable},
	{finding.EtcdNoQuorum, finding.EtcdUnreachable, finding.EtcdManifestMissing, finding.EtcdManifestUnusable,
		finding.EtcdEmptied, finding.EtcdDataMissing, finding.ManifestDirUnreadable, finding.KubeletStopped,
		finding.ContainerMissing, finding.ContainerStopped, finding.ContainerRestarts, finding.APIServerManifestMissing,
		finding.APIServerNotReady},
	{finding.ClustersDiffer, finding.MembersDiffer, finding.EtcdFellBack, finding.EtcdChanged},
	{finding.EtcdAlarm, finding.DiskFull},
	{finding.MemberSilent, finding.MemberBehind},
}

// rank is where a finding stands: lower ones come first.
func rank(f finding.Finding) int {
	if f.Code == finding.EtcdAlarm && strings.HasPrefix(f.Subject, "CORRUPT") {
		f.Code = finding.MembersDiffer
	}
	for i, codes := range ranks {
		if slices.Contains(codes, f.Code) {
			return i
		}
	}
	at := map[finding.Severity]int{finding.Critical: 0, finding.Warning: 1, finding.Info: 2}
	return len(ranks) + at[f.Severity]
}

// inOrder puts what kills first before the rest. What stands alike keeps its order.
func inOrder(all found) {
	slices.SortStableFunc(all, func(a, b finding.Finding) int { return rank(a) - rank(b) })
}
