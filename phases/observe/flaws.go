package observe

import (
	"strconv"
	"strings"
)

// Flaw is the worst known fault of a version of etcd that loses data or brings a removed member
// back, and the version in which it is mended; empty if none is known. Kubernetes asks for 3.4.22
// and 3.5.6 at least (its documentation, "Operating etcd clusters for Kubernetes").
func Flaw(version string) (does, mended string) {
	minor, patch := EtcdMinor(version), patchOf(version)
	const loses = "can lose or corrupt data when it is killed under load"
	switch {
	case patch < 0:
		return "", ""
	case minor == 4 && patch < 22:
		return loses, "3.4.22"
	case minor == 5 && patch < 6:
		return loses, "3.5.6"
	case ForgetsRemovals(version):
		return "can forget that a member was removed, so that it comes back as one that nobody can remove", "3.5.26"
	}
	return "", ""
}

// ForgetsRemovals says whether a removed member may come back: etcd 3.5 before 3.5.26 can forget
// that it was removed (issue 20793, and the note on upgrades on etcd's website).
func ForgetsRemovals(version string) bool {
	patch := patchOf(version)
	return EtcdMinor(version) == 5 && patch >= 0 && patch < 26
}

// patchOf returns 16 for 3.6.16 and for 3.6.16-rc.1, and -1 where there is none.
func patchOf(version string) int {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 3 {
		return -1
	}
	digits, _, _ := strings.Cut(parts[2], "-")
	n, err := strconv.Atoi(digits)
	if err != nil {
		return -1
	}
	return n
}
