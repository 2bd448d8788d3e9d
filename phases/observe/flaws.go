package observe

import (
	"strconv"
	"strings"
)

// LosesData is the version in which a fault of an older one is mended that can lose or corrupt data
// when etcd is killed under load; empty if this one does not have it. Kubernetes asks for these
// versions at least (its documentation, "Operating etcd clusters for Kubernetes").
func LosesData(version string) (mended string) {
	minor, patch := EtcdMinor(version), patchOf(version)
	switch {
	case minor == 4 && patch >= 0 && patch < 22:
		return "3.4.22"
	case minor == 5 && patch >= 0 && patch < 6:
		return "3.5.6"
	}
	return ""
}

// ForgetsRemovals says whether a removed member may come back: etcd 3.5 before 3.5.26 can forget
// that it was removed (issue 20793, and the note on upgrades on etcd's website).
func ForgetsRemovals(version string) bool {
	patch := patchOf(version)
	return EtcdMinor(version) == 5 && patch >= 0 && patch < 26
}

// DefragFloor is the first release from which on a defragmentation cannot corrupt the database;
// empty: this one is not before it. In older ones that happens when a member applies a snapshot of
// the leader's at the same time (etcd, CHANGELOG-3.5.md and CHANGELOG-3.6.md). A version that
// cannot be read may be one of them.
func DefragFloor(version string) string {
	minor, patch := EtcdMinor(version), patchOf(version)
	major, _, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	switch n, err := strconv.Atoi(major); {
	case err == nil && n > 3, minor > 6, minor == 6 && patch >= 5, minor == 5 && patch >= 23:
		return ""
	case minor == 6:
		return "3.6.5"
	}
	return "3.5.23"
}
