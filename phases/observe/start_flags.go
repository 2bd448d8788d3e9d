package observe

import (
	"fmt"
	"slices"
	"strings"
)

// The flags of etcd 3.5, 3.6 and 3.7, as its own binaries take them (3.5.35, 3.6.16, 3.7.3).

// etcdFlags are in all three, or differ between patch releases.
func etcdFlags() []string {
	return strings.Fields("advertise-client-urls auth-token auth-token-ttl auto-compaction-mode " +
		"auto-compaction-retention auto-tls backend-batch-interval backend-batch-limit " +
		"backend-bbolt-freelist-type bcrypt-cost cert-file cipher-suites " +
		"client-cert-allowed-cn client-cert-allowed-hostname client-cert-auth " +
		"client-cert-file client-crl-file client-key-file config-file cors data-dir " +
		"discovery-fallback discovery-srv discovery-srv-name election-timeout " +
		"enable-grpc-gateway enable-log-rotation enable-pprof force-new-cluster " +
		"grpc-keepalive-interval grpc-keepalive-min-time grpc-keepalive-timeout " +
		"heartbeat-interval host-whitelist initial-advertise-peer-urls initial-cluster " +
		"initial-cluster-state initial-cluster-token initial-election-tick-advance key-file " +
		"listen-client-http-urls listen-client-urls listen-metrics-urls listen-peer-urls " +
		"log-level log-outputs log-rotation-config-json logger max-concurrent-streams " +
		"max-request-bytes max-snapshots max-txn-ops max-wals metrics name peer-auto-tls " +
		"peer-cert-allowed-cn peer-cert-allowed-hostname peer-cert-file peer-client-cert-auth " +
		"peer-client-cert-file peer-client-key-file peer-crl-file peer-key-file " +
		"peer-trusted-ca-file pre-vote quota-backend-bytes raft-read-timeout " +
		"raft-write-timeout self-signed-cert-validity snapshot-count socket-reuse-address " +
		"socket-reuse-port strict-reconfig-check tls-max-version tls-min-version " +
		"trusted-ca-file unsafe-no-fsync v2-deprecation version wal-dir " +
		"warning-unary-request-duration")
}

// flagsSince36 are not in 3.5.
func flagsSince36() []string {
	return strings.Fields("bootstrap-defrag-threshold-megabytes compact-hash-check-time compaction-batch-limit " +
		"compaction-sleep-interval corrupt-check-time discovery-cacert discovery-cert " +
		"discovery-dial-timeout discovery-endpoints discovery-insecure-skip-tls-verify " +
		"discovery-insecure-transport discovery-keepalive-time discovery-keepalive-timeout " +
		"discovery-key discovery-password discovery-request-timeout discovery-token " +
		"discovery-user distributed-tracing-address distributed-tracing-instance-id " +
		"distributed-tracing-sampling-rate distributed-tracing-service-name " +
		"downgrade-check-time enable-distributed-tracing feature-gates log-format " +
		"max-learners memory-mlock peer-skip-client-san-verification snapshot-catchup-entries " +
		"warning-apply-duration watch-progress-notify-interval")
}

// flagsUntil35 stop 3.6.
func flagsUntil35() []string {
	return strings.Fields("enable-v2 experimental-enable-v2v3 proxy proxy-dial-timeout proxy-failure-wait " +
		"proxy-read-timeout proxy-refresh-interval proxy-write-timeout")
}

// flagsUntil36 stop 3.7, as does every one that begins with "experimental-".
func flagsUntil36() []string { return []string{"discovery", "discovery-proxy"} }

// UnknownFlags are the flags of the pod that a version of etcd does not have: it ends with "flag
// provided but not defined". serves says that it serves with them.
func (p *EtcdPod) UnknownFlags(version string, serves bool) (wrong []string) {
	minor := EtcdMinor(version)
	if minor < 5 || minor > 7 {
		return nil // nothing is known about it
	}
	for _, flag := range p.File.Manifest.Flags(p.Container) {
		if !hasFlag(flag.Name, minor, serves) && !slices.Contains(wrong, "--"+flag.Name) {
			wrong = append(wrong, "--"+flag.Name)
		}
	}
	return wrong
}

func unknownFlags(f *Facts) []Obstacle {
	if f.Etcd == nil {
		return nil
	}
	m, wrong := f.Etcd.File, f.Etcd.UnknownFlags(f.EtcdVersion(), f.Live != nil)
	if len(wrong) == 0 {
		return nil
	}
	return []Obstacle{{Manifests: []string{m.Path},
		What: fmt.Sprintf("etcd %s does not know %s in %s, and exits at once",
			f.EtcdVersion(), strings.Join(wrong, ", "), m.Path),
		Fix: fmt.Sprintf("remove them from %s, or use this version's names for them", m.Path)}}
}

// hasFlag says whether a minor of etcd knows a flag. Of one that no version knows, an etcd that
// serves proves the contrary.
func hasFlag(name string, minor int, serves bool) bool {
	switch {
	case slices.Contains(flagsUntil35(), name):
		return minor <= 5
	case slices.Contains(flagsUntil36(), name):
		return minor <= 6
	case strings.HasPrefix(name, "experimental-"):
		return minor <= 6 // of the older ones many came with a patch release
	case slices.Contains(flagsSince36(), name):
		return minor >= 6
	}
	return serves || slices.Contains(etcdFlags(), name)
}
