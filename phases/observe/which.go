package observe

import (
	"fmt"
	"net"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/manifests"
	"github.com/etcdpod/etcdpod/phases/engine"
)

// Which of several manifests etcdpod looks after: people keep copies among them, and some run a
// second etcd, for events, or a proxy in front of another.

// Program returns the manifest that runs a program. Of several etcds it is the one that the API
// server uses; of several files it is the one with kubeadm's name for it, else the first.
func Program(files []ManifestFile, name string) (ManifestFile, string, bool) {
	found := running(files, name)
	if name == "etcd" {
		found, _ = usedEtcds(files, found)
	}
	if len(found) == 0 {
		return ManifestFile{}, "", false
	}
	m := preferred(found, name)
	container, _ := m.Manifest.Runs(name)
	return m, container, true
}

// running are the manifests that run a program.
func running(files []ManifestFile, name string) (found []ManifestFile) {
	for _, m := range files {
		if m.Manifest == nil {
			continue
		}
		if _, ok := m.Manifest.Runs(name); ok {
			found = append(found, m)
		}
	}
	return found
}

// EtcdVolumes are the host paths of all pods that run etcd: its data is in one of them.
func EtcdVolumes(files []ManifestFile) (all []string) {
	for _, m := range running(files, "etcd") {
		for _, volume := range m.Manifest.HostPaths() {
			all = append(all, volume.Path)
		}
	}
	return all
}

// preferred is the file that kubeadm would have written, of one pod or of several.
func preferred(found []ManifestFile, name string) ManifestFile {
	for _, is := range []func(ManifestFile) bool{
		func(m ManifestFile) bool { return path.Base(m.Path) == name+".yaml" && kubeadms(m, name) },
		func(m ManifestFile) bool { return kubeadms(m, name) },
	} {
		if i := slices.IndexFunc(found, is); i >= 0 {
			return found[i]
		}
	}
	return found[0]
}

func kubeadms(m ManifestFile, name string) bool {
	return m.Manifest.Namespace() == "kube-system" && m.Manifest.Name() == name
}

// usedEtcds are those of several etcds in which the API server of this node keeps what
// --etcd-servers is for, and whether that is certain. One that only --etcd-servers-overrides names
// keeps something else, also when it is the only one here. Where nothing tells, all stay.
func usedEtcds(files, etcds []ManifestFile) (used []ManifestFile, certain bool) {
	var servers, elsewhere []string
	for _, m := range running(files, "kube-apiserver") {
		c, _ := m.Manifest.Runs("kube-apiserver")
		servers = append(servers, EtcdServers(m, c)...)
		// /events#https://127.0.0.1:2382;https://…,…
		for _, value := range FlagsOf(m, c, "etcd-servers-overrides") {
			for _, override := range strings.Split(value, ",") {
				_, urls, _ := strings.Cut(override, "#")
				elsewhere = append(elsewhere, strings.Split(urls, ";")...)
			}
		}
	}
	listens := func(at []string) func(ManifestFile) bool {
		return func(m ManifestFile) bool { return answersAt(m, at) }
	}
	named := slices.DeleteFunc(slices.Clone(etcds), func(m ManifestFile) bool { return !listens(servers)(m) })
	if len(named) > 0 {
		return named, true
	}
	rest := slices.DeleteFunc(slices.Clone(etcds), listens(elsewhere))
	return rest, len(rest) < 2
}

// KeepsElse says whether an etcd is one in which the API server keeps something else than the
// cluster's objects, such as its events.
func KeepsElse(files []ManifestFile, m ManifestFile) bool {
	used, _ := usedEtcds(files, []ManifestFile{m})
	return len(used) == 0
}

// answersAt says whether an etcd answers at one of the URLs, as its settings say.
func answersAt(m ManifestFile, urls []string) bool {
	container, ok := m.Manifest.Runs("etcd")
	if !ok {
		return false
	}
	pod := EtcdPod{File: m, Container: container}
	own := append(SplitList(pod.Setting("", "listen-client-urls")),
		SplitList(pod.Setting("", "advertise-client-urls"))...)
	if len(own) == 0 {
		own = []string{"http://localhost:2379"} // etcd's own default
	}
	for _, raw := range urls {
		at, err := url.Parse(raw)
		if err != nil || at.Host == "" {
			continue
		}
		for _, raw := range own {
			u, err := url.Parse(raw)
			if err == nil && u.Port() == at.Port() && sameHost(u.Hostname(), at.Hostname()) {
				return true
			}
		}
	}
	return false
}

// Listens says whether one of the URLs at which a program listens is at the host and port of
// another URL. A host that is given by its name may be any.
func Listens(at []string, raw string) bool {
	u, err := url.Parse(raw)
	return err == nil && slices.ContainsFunc(at, func(listener string) bool {
		l, err := url.Parse(listener)
		if err != nil || l.Port() != u.Port() || Secure(listener) != Secure(raw) {
			return false
		}
		there, ip := net.ParseIP(l.Hostname()), net.ParseIP(u.Hostname())
		return ip == nil || l.Hostname() == "" || there != nil && (there.IsUnspecified() || there.Equal(ip))
	})
}

// sameHost says whether who listens at one host is reached at the other.
func sameHost(listener, host string) bool {
	return listener == host || listener == "" || listener == "0.0.0.0" || listener == "::" ||
		Loopback(listener) && Loopback(host)
}

// OtherEtcds are the manifests that run an etcd which is not the one that etcdpod looks after: its
// data is in no backup. Copies of that one's manifest are not among them.
func OtherEtcds(files []ManifestFile) []ManifestFile {
	own, _, ok := Program(files, "etcd")
	return slices.DeleteFunc(running(files, "etcd"), func(m ManifestFile) bool {
		return ok && (m.Path == own.Path || m.PodName() == own.PodName())
	})
}

// checkOneEtcd refuses when nothing at all tells which of several etcds is the cluster's.
func checkOneEtcd(files []ManifestFile, own ManifestFile) error {
	etcds := running(files, "etcd")
	used, _ := usedEtcds(files, etcds)
	if allOnePod(used) || kubeadms(own, "etcd") {
		return nil
	}
	return refuseSeveral(used)
}

func refuseSeveral(used []ManifestFile) error {
	var paths []string
	for _, m := range used {
		paths = append(paths, m.Path)
	}
	return engine.Refuse("the kubelet runs every file in that directory, whatever its name: move one of them out, or "+
		"set --etcd-servers in the API server's manifest to the cluster's etcd",
		"%d manifests run etcd, and nothing shows which of them is the cluster's: %s",
		len(paths), strings.Join(paths, ", "))
}

func allOnePod(files []ManifestFile) bool {
	return !slices.ContainsFunc(files, func(m ManifestFile) bool { return m.PodName() != files[0].PodName() })
}

// PodName is the pod that a readable manifest asks for, with its namespace.
func (m ManifestFile) PodName() string { return m.Manifest.Namespace() + "/" + m.Manifest.Name() }

// CannotRun says that a file is nothing that the kubelet can run: a README, say.
func (m ManifestFile) CannotRun() bool {
	return m.Manifest == nil && m.Data != nil && !manifests.MayBePod(m.Data)
}

// Doubled says which files claim one pod: the kubelet runs only one of them, and which one may
// change with its next start.
func Doubled(files []ManifestFile) (said []string) {
	claims := map[string][]string{}
	var pods []string
	for _, m := range files {
		if m.Manifest == nil {
			continue
		}
		if pod := m.PodName(); len(claims[pod]) == 0 {
			pods = append(pods, pod)
		}
		claims[m.PodName()] = append(claims[m.PodName()], m.Path)
	}
	for _, pod := range pods {
		if len(claims[pod]) > 1 {
			said = append(said, fmt.Sprintf("%d files claim the pod %s: %s",
				len(claims[pod]), pod, strings.Join(claims[pod], ", ")))
		}
	}
	return said
}

// doubledHint is what to do about it.
const doubledHint = "the kubelet runs every file in that directory, whatever its name, but only one for each pod: " +
	"move the others out"

// CheckManifests refuses a change while it is not known which manifests run, or what they say.
func (f *Facts) CheckManifests() error {
	if err := f.CheckDoubled(); err != nil {
		return err
	}
	return CheckResolved(f.Manifests)
}

// CheckDoubled refuses a change while several files claim one of the control plane's pods: it is
// not known which of them runs, and which will.
func (f *Facts) CheckDoubled() error {
	control := slices.DeleteFunc(slices.Clone(f.Manifests), func(m ManifestFile) bool {
		return m.Manifest == nil || !Involved(m.Manifest)
	})
	if said := Doubled(control); len(said) > 0 {
		return engine.Refuse(doubledHint, "%s", strings.Join(said, "; "))
	}
	if used, certain := usedEtcds(f.Manifests, running(f.Manifests, "etcd")); certain && !allOnePod(used) {
		return refuseSeveral(used) // all of them at one address
	}
	return nil
}
