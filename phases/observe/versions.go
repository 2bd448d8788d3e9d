package observe

import (
	"strconv"
	"strings"
)

// EtcdMinor returns 6 for 3.6.1, and 0 for anything that is not a version of etcd 3.
func EtcdMinor(version string) int {
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	if len(parts) < 2 || parts[0] != "3" {
		return 0
	}
	n, err := strconv.Atoi(parts[1])
	if err != nil {
		return 0
	}
	return n
}

// ImageVersion returns 3.6.5 for registry.k8s.io/etcd:3.6.5-0.
func ImageVersion(image string) string {
	name, _, _ := strings.Cut(image, "@")
	i := strings.LastIndex(name, ":")
	if i < 0 || strings.Contains(name[i:], "/") {
		return ""
	}
	version, _, _ := strings.Cut(name[i+1:], "-")
	return version
}
