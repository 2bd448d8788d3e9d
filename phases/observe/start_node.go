package observe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/pki"
)

// etcdListens are the settings of etcd that say where to listen.
func etcdListens() []string {
	return []string{"listen-client-urls", "listen-client-http-urls", "listen-peer-urls", "listen-metrics-urls"}
}

// DeadAddresses finds the addresses at which pods on the node's network are to listen, and that no
// interface of the node has.
func DeadAddresses(ctx context.Context, files []ManifestFile) []Obstacle {
	type use struct{ files, programs []string }
	uses := map[string]*use{}
	var order []string
	for _, m := range files {
		if m.Manifest == nil || !m.Manifest.HostNetwork() {
			continue
		}
		for _, c := range m.Manifest.Containers() {
			for _, address := range listensAt(m, c) {
				if node.HasAddress(ctx, address) {
					continue
				}
				if uses[address] == nil {
					uses[address] = &use{}
					order = append(order, address)
				}
				u := uses[address]
				u.files, u.programs = append(u.files, m.Path), append(u.programs, m.Manifest.Name())
			}
		}
	}
	var all []Obstacle
	for _, address := range order {
		u := uses[address]
		named := strings.Join(namedIn(files, address), ", ")
		cure := "put its new address into " + named
		etcds := func(m ManifestFile) bool { return slices.Contains(u.files, m.Path) }
		if slices.ContainsFunc(running(files, "etcd"), etcds) {
			cure = fmt.Sprintf("run `etcdpod readdress`, which puts its new address into %s, and into etcd's "+
				"certificates", named)
		}
		all = append(all, Obstacle{Manifests: u.files, Fix: fmt.Sprintf("give the node %s back; or %s", address, cure),
			What: fmt.Sprintf("no interface of this node has the address %s, at which %s should listen; it is set in "+
				"%s: the node's address seems to have changed", address, strings.Join(slices.Compact(u.programs), ", "),
				named)})
	}
	return all
}

// listensAt are the IP addresses of a container's listeners.
func listensAt(m ManifestFile, container string) []string {
	hosts := []string{FlagOf(m, container, "bind-address")}
	if etcd, ok := m.Manifest.Runs("etcd"); ok && etcd == container {
		pod := EtcdPod{File: m, Container: container}
		for _, name := range etcdListens() {
			hosts = append(hosts, HostsOf(SplitList(pod.Setting("", name)))...)
		}
	}
	var all []string
	for _, host := range hosts {
		if net.ParseIP(host) != nil && !slices.Contains(all, host) {
			all = append(all, host)
		}
	}
	return all
}

// namedIn lists the files in which an address stands, as a whole: manifests, and etcd's
// configuration files.
func namedIn(files []ManifestFile, address string) []string {
	whole := regexp.MustCompile(`(^|[^0-9A-Fa-f.:])` + regexp.QuoteMeta(address) + `($|[^0-9A-Fa-f.])`)
	var names []string
	for _, m := range files {
		if whole.Match(m.Data) {
			names = append(names, m.Path)
		}
		if m.config != nil && whole.MatchString(fmt.Sprint(m.config)) {
			names = append(names, m.configFile)
		}
	}
	return names
}

// Unmounted finds the directories that should be on a disk of their own, and are not: what is below
// such a mount point is not where etcd's data is. It may be above the directories of the data, or
// within what etcd has there. serves says that an etcd uses them as they are.
func (n *Node) Unmounted(serves bool, wal string, data ...string) []Obstacle {
	dirs := []string{wal}
	for _, dir := range data {
		// A disk for something else in it does not matter.
		dirs = append(dirs, path.Join(dir, "member"))
	}
	var all []Obstacle
	for _, p := range n.mountPoints() {
		uses := func(dir string) bool {
			real := node.Resolved(n.FS, p.at)
			return dir != "" && (Overlap(dir, p.at) || Overlap(dir, real))
		}
		if p.at == "/" || p.byHand && serves || !slices.ContainsFunc(dirs, uses) {
			continue
		}
		mounted, err := node.IsMountPoint(n.FS, p.at)
		missing := errors.Is(err, fs.ErrNotExist) // what mounts at boot makes it
		if !missing && (err != nil || mounted) {
			continue
		}
		all = append(all, Obstacle{Mount: true,
			What: fmt.Sprintf("%s is a mount point in %s, but nothing is mounted there: etcd would read and write "+
				"the bare directory instead", p.at, p.file),
			Fix: fmt.Sprintf("mount it: `%s`; if that disk is no longer used, remove it from %s",
				p.command(missing), p.file)})
	}
	return all
}

// unmounted is [Node.Unmounted] for this node's etcd.
func (n *Node) unmounted(f *Facts) []Obstacle {
	if f.Etcd == nil {
		return nil
	}
	return of(f.Etcd.File, n.Unmounted(f.Live != nil, f.Etcd.WALDir, f.Etcd.DataPath, f.Etcd.DataDir))
}

// MoveData judges the mounts anew for an etcd whose data will be in another directory.
func (n *Node) MoveData(f *Facts, dir string) {
	f.Obstacles = slices.DeleteFunc(f.Obstacles, func(o Obstacle) bool { return o.Mount })
	unmounted := n.Unmounted(false, f.Etcd.WALDir, dir, node.Resolved(n.FS, dir))
	f.Obstacles = append(f.Obstacles, of(f.Etcd.File, unmounted)...)
}

func of(file ManifestFile, all []Obstacle) []Obstacle {
	for i := range all {
		all[i].Manifests = []string{file.Path}
	}
	return all
}

// mountPoint is where the node's configuration wants something mounted.
type mountPoint struct {
	at, file string
	byHand   bool // noauto: not at boot
}

// command mounts it; missing says that there is no such directory yet.
func (p mountPoint) command(missing bool) string {
	switch {
	case path.Ext(p.file) == ".mount": // makes the directory, too
		return "systemctl start " + path.Base(p.file)
	case missing:
		return fmt.Sprintf("mkdir -p %s && mount %s", p.at, p.at)
	}
	return "mount " + p.at
}

// mountPoints reads fstab(5) and the mount units of systemd.mount(5).
func (n *Node) mountPoints() []mountPoint {
	var all []mountPoint
	if data, err := n.FS.ReadFile("/etc/fstab"); err == nil {
		for line := range strings.Lines(string(data)) {
			fields := strings.Fields(line)
			if len(fields) < 2 || strings.HasPrefix(fields[0], "#") || !path.IsAbs(fields[1]) {
				continue
			}
			p := mountPoint{at: path.Clean(unescaped(fields[1])), file: "/etc/fstab"}
			p.byHand = len(fields) > 3 && slices.Contains(strings.Split(fields[3], ","), "noauto")
			all = append(all, p)
		}
	}
	seen := map[string]bool{} // a unit in an earlier directory hides one of the same name
	for _, dir := range []string{
		"/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system",
	} {
		names, err := n.FS.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, name := range names {
			if path.Ext(name) != ".mount" || seen[name] {
				continue
			}
			seen[name] = true
			data, err := n.FS.ReadFile(path.Join(dir, name))
			if err != nil {
				continue // masked, for example
			}
			for line := range strings.Lines(string(data)) {
				key, where, _ := strings.Cut(line, "=")
				if where = strings.TrimSpace(where); strings.TrimSpace(key) == "Where" && path.IsAbs(where) {
					all = append(all, mountPoint{at: path.Clean(where), file: path.Join(dir, name)})
				}
			}
		}
	}
	return all
}

// unescaped reads fstab's octal escapes, such as \040 for a space.
func unescaped(field string) string {
	return octal.ReplaceAllStringFunc(field, func(s string) string {
		v, err := strconv.ParseUint(s[1:], 8, 8)
		if err != nil {
			return s
		}
		return string(rune(v))
	})
}

var octal = regexp.MustCompile(`\\[0-7]{3}`)

// KubeletStarts finds out whether the kubelet would end at once, or could not be started at all. A
// kubelet that runs goes on without what it would then need.
func (n *Node) KubeletStarts(now time.Time) []Obstacle {
	var all []Obstacle
	c := n.Config
	for _, fails := range [][2]string{{c.Fails, c.Cure}, {c.UnitFails, c.UnitCure}} {
		if fails[0] != "" {
			all = append(all, Obstacle{Kubelet: true, What: "the kubelet would not start: " + fails[0], Fix: fails[1]})
		}
	}
	return append(all, n.kubeconfigStarts(now)...)
}

// kubeconfigStarts is about the kubeconfig that the kubelet is started with, or, where it has
// another one for its bootstrap, about that one once its own certificate has expired
// (k8s.io/kubernetes, pkg/kubelet/certificate/bootstrap).
func (n *Node) kubeconfigStarts(now time.Time) []Obstacle {
	kubelet, bootstrap := n.Config.Kubeconfig, n.Config.Bootstrap
	if !path.IsAbs(kubelet) || bootstrap != "" && (!path.IsAbs(bootstrap) || n.Exists(bootstrap)) {
		return nil // it needs none, gets one, or nothing can be said
	}
	kubeadms := KubeconfigPath("kubelet.conf")
	fix := "on a control plane with the CA's key, move the old one away, and `kubeadm init phase kubeconfig " +
		"kubelet` creates a new one"
	if kubelet != kubeadms {
		fix += fmt.Sprintf(", %s: copy it to %s", kubeadms, kubelet)
	}
	if !n.Exists(kubelet) {
		missing := fmt.Sprintf("%s does not exist", kubelet)
		if bootstrap != "" {
			missing = fmt.Sprintf("neither %s nor %s exists", kubelet, bootstrap)
		}
		return []Obstacle{{Kubelet: true, What: "the kubelet would not start: " + missing, Fix: fix}}
	}
	if bootstrap == "" {
		return nil // it starts with an expired certificate, too
	}
	why := n.unusableCert(kubelet, now)
	if why == "" {
		why = n.unusableCA(kubelet)
	}
	if why == "" {
		return nil
	}
	return []Obstacle{{Kubelet: true, Fix: fix, Certificate: kubelet,
		What: fmt.Sprintf("the kubelet would not start: %s, and %s does not exist", why, bootstrap)}}
}

// unusableCert says why the kubelet would not take the certificate in its kubeconfig: it takes only
// one that it can read, with its key, of which nothing has expired (isClientConfigStillValid in
// that package).
func (n *Node) unusableCert(kubeconfig string, now time.Time) string {
	leaf, err := n.KubeconfigLeaf(kubeconfig, "")
	switch {
	case err != nil:
		return err.Error()
	case leaf == nil:
		return kubeconfig + " has no client certificate"
	case leaf.Cert == nil && leaf.CertFile == kubeconfig:
		return kubeconfig + " has no client certificate"
	case leaf.Cert == nil:
		return fmt.Sprintf("its certificate %s, which %s names, does not exist", leaf.CertFile, kubeconfig)
	}
	all, err := pki.InspectAll(leaf.CertFile, leaf.Cert, now)
	if err != nil {
		return err.Error()
	}
	for _, c := range all {
		if c.Expired {
			return fmt.Sprintf("its certificate in %s expired on %s", leaf.CertFile,
				c.NotAfter.UTC().Format("2006-01-02"))
		}
	}
	if leaf.Key == nil {
		return fmt.Sprintf("the key %s of its certificate, which %s names, does not exist", leaf.KeyFile, kubeconfig)
	}
	if _, err := tls.X509KeyPair(leaf.Cert, leaf.Key); err != nil {
		return fmt.Sprintf("its certificate in %s cannot be used with the key in %s: %v", leaf.CertFile, leaf.KeyFile,
			err)
	}
	return ""
}
