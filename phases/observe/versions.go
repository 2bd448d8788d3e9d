package observe

import (
	"cmp"
	"context"
	"io"
	"regexp"
	"strconv"
	"strings"

	"github.com/etcdpod/etcdpod/phases/internal/flags"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/templates"
)

// ReleaseOf returns 6 and 16 for etcd 3.6.16, and for 3.6.16-rc.1; false: it is no release of etcd
// 3.
func ReleaseOf(version string) (minor, patch int, ok bool) {
	minor, patch = EtcdMinor(version), patchOf(version)
	return minor, patch, minor > 0 && patch >= 0
}

// EtcdMinor returns 6 for 3.6.1, and 0 for anything that is not a version of etcd 3.
func EtcdMinor(version string) int { return minorOf("3", version) }

// KubernetesMinor returns 37 for 1.37 and for 1.37.2, and 0 for anything that is no version of
// Kubernetes.
func KubernetesMinor(version string) int { return minorOf("1", version) }

func minorOf(major, version string) int {
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	if len(parts) < 2 || parts[0] != major {
		return 0
	}
	return max(0, number(parts[1]))
}

// patchOf returns 16 for 3.6.16 and for 3.6.16-rc.1, and -1 where there is none.
func patchOf(version string) int {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 3 {
		return -1
	}
	digits, _, _ := strings.Cut(strings.ReplaceAll(parts[2], "+", "-"), "-")
	return number(digits)
}

// number is -1 for what does not consist of a few digits.
func number(digits string) int {
	const most = 16 // bits
	n, err := strconv.ParseUint(digits, 10, most)
	if err != nil {
		return -1
	}
	return int(n)
}

// EtcdMinors are the releases of etcd that are known here, the oldest first.
func EtcdMinors() []string { return []string{"3.5", "3.6", "3.7"} }

// KubernetesMinors are the releases of Kubernetes for which kubeadm's set-up of etcd is known, the
// oldest first.
func KubernetesMinors() []string { return templates.Minors() }

// NewestEtcd is the release of a minor, such as 3.6, that is known best here; empty: none is.
func NewestEtcd(line string) string {
	if r := flags.Of(line); r != nil {
		return r.Version
	}
	return ""
}

// ImageVersion returns 3.6.5 for registry.k8s.io/etcd:3.6.5-0, and for etcd:v3.6.5.
func ImageVersion(image string) string {
	name, _, _ := strings.Cut(image, "@")
	i := strings.LastIndex(name, ":")
	if i < 0 || strings.Contains(name[i:], "/") {
		return ""
	}
	return TagVersion(name[i+1:])
}

// TagVersion returns 3.6.5 for the tag 3.6.5-0.
func TagVersion(tag string) string {
	version, _, _ := strings.Cut(strings.TrimPrefix(tag, "v"), "-")
	return version
}

// versionTold is the version that an image's label or one of its tags tells; empty if none does.
// Other things than etcd have versions, too: one of Alpine Linux, say, is in the label of what is
// built on it.
func versionTold(i node.Image) string {
	const newest = 12 // no minor of etcd is there yet
	told := []string{strings.TrimPrefix(i.Version, "v")}
	for _, tag := range i.Tags {
		told = append(told, ImageVersion(tag))
	}
	for _, v := range told {
		if minor := EtcdMinor(v); minor > 0 && minor < newest {
			return v
		}
	}
	return ""
}

// runningVersion is what the etcd that runs says, though it may not serve; or else its binary.
func (n *Node) runningVersion(ctx context.Context, pod *EtcdPod) string {
	if live, _ := n.OwnLive(ctx, pod.Access); live != nil && live.Version != "" {
		return live.Version
	}
	using, err := n.Processes.Using(ctx, pod.DataDir)
	if err != nil {
		return ""
	}
	for _, p := range using {
		if EtcdMinor(p.EtcdVersion) > 0 {
			return p.EtcdVersion
		}
	}
	return ""
}

// loggedVersion is what the newest container of etcd said when it started, if it is from the image
// that the manifest names.
func (n *Node) loggedVersion(ctx context.Context, f *Facts) string {
	c := ContainerOf(f.Containers, f.Manifests, f.Etcd.File, f.Etcd.Container)
	if c == nil || c.Image != f.Etcd.Image {
		return ""
	}
	log, err := n.FS.Open(op.LogOf(ctx, n.Runtime, *c))
	if err != nil {
		return ""
	}
	defer log.Close()
	const beginning = 64 << 10
	text, err := io.ReadAll(io.LimitReader(log, beginning))
	if m := startsAs.FindSubmatch(text); err == nil && m != nil {
		return string(m[1])
	}
	return ""
}

// startsAs is in one of etcd's first lines (server/embed: "starting an etcd server").
var startsAs = regexp.MustCompile(`"etcd-version": ?"(3\.[0-9]+\.[0-9]+[^"]*)"`)

// EtcdVersion is the version of the etcd on this node: what it says itself or, while it does not
// serve, what its image's name or the container runtime tells, its binary while it runs, or what it
// logged when it was last started. Empty: nothing tells.
func (f *Facts) EtcdVersion() string {
	switch {
	case f.Live != nil && f.Live.Version != "":
		return f.Live.Version
	case f.Etcd == nil:
		return ""
	}
	return f.Etcd.Version()
}

// Version is the version of an etcd that does not serve, or not yet; empty: nothing tells.
func (p *EtcdPod) Version() string {
	if v := ImageVersion(p.Image); EtcdMinor(v) > 0 {
		return v
	}
	return cmp.Or(p.imageTold, p.runsAs)
}
