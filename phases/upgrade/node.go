package upgrade

import (
	"maps"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/certs"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// judgeNode finds what would keep etcd from starting again here, and what a person should know,
// whatever the version.
func (s *Seen) judgeNode(n *observe.Node, f *observe.Facts) {
	s.judgeKubelet(f)
	s.judgeManifest(f)
	s.judgeCertificates(n, f)
	s.judgeStarts(f)
	s.judgeRoom()
	for _, slow := range f.Etcd.SlowStart(s.Size) {
		s.add(Notes, "raise it in "+f.Etcd.File.Path, slow)
	}
}

func (s *Seen) judgeKubelet(f *observe.Facts) {
	switch {
	case f.KubeletError != nil:
		s.add(Blocks, engine.Hint(f.CheckKubelet()), finding.New(finding.KubeletUnknown, "kubelet", "%v",
			f.KubeletError))
	case !f.KubeletActive:
		s.add(Blocks, "start the kubelet", finding.New(finding.KubeletStopped, "kubelet",
			"the kubelet is not running: it must start the new etcd"))
	}
	if f.RuntimeError != nil {
		s.add(Blocks, engine.Hint(f.CheckRuntime()), finding.New(finding.RuntimeUnreachable, "", "%v", f.RuntimeError))
	}
}

func (s *Seen) judgeManifest(f *observe.Facts) {
	pod := f.Etcd
	if pod.File.Manifest.Wrapped(pod.Container) {
		s.add(Blocks, "have the manifest start etcd itself, with its flags in command or args",
			finding.New(finding.EtcdManifestUnusable, pod.File.Path,
				"%s starts etcd through a shell, so which flags it is given cannot be read there", pod.File.Path))
	}
	if err := pod.CheckForced(); err != nil {
		s.add(Blocks, engine.Hint(err), finding.New(finding.EtcdForceNewCluster, pod.File.Path, "%v", err))
	}
	if err := observe.CheckResolved([]observe.ManifestFile{pod.File}); err != nil {
		s.add(Blocks, engine.Hint(err), finding.New(finding.ManifestUnresolved, pod.File.Path, "%v", err))
	}
	for _, said := range observe.Doubled(f.Manifests) {
		s.add(Blocks, "move the copies out of the directory",
			finding.New(finding.ManifestDoubled, f.ManifestDir, "%s: the kubelet runs only one of them", said))
	}
}

// judgeStarts leaves out what concerns other pods, and ends of certificates, which are said by
// themselves.
func (s *Seen) judgeStarts(f *observe.Facts) {
	reported := func(file string) bool {
		return slices.ContainsFunc(s.Found, func(f Finding) bool { return f.Subject == file })
	}
	for _, o := range observe.Unreported(f.Obstacles, reported) {
		if len(o.Manifests) > 0 && !slices.Contains(o.Manifests, f.Etcd.File.Path) || o.Certificate != "" {
			continue
		}
		if o.Unpulled || len(o.Manifests) > 0 && strings.HasPrefix(o.What, "the image "+f.Etcd.Image+" ") {
			s.add(Notes, o.Fix, o.Finding()) // what matters is the next one, but for going back
			continue
		}
		s.add(Blocks, o.Fix, o.Finding())
	}
	for _, d := range f.Doubts {
		if d.Unasked {
			s.add(Doubts, "see that the container runtime answers", d.Doubt())
		}
	}
}

// judgeCertificates looks at what etcd reads when it starts: one that ends soon may end in the
// middle.
func (s *Seen) judgeCertificates(n *observe.Node, f *observe.Facts) {
	files, cas := f.Etcd.CertificateFiles(), f.Etcd.CAFiles()
	slices.Sort(files)
	for _, file := range slices.Compact(files) {
		if file == "" {
			continue
		}
		var st certs.Status
		if slices.Contains(cas, file) {
			st = certs.StatusOfCA(n, file, f.Now)
		} else {
			data, err := n.FS.ReadFile(file)
			st = certs.StatusOf(file, data, err, f.Now)
		}
		if st.Problem == "" {
			continue
		}
		weight := Blocks
		if st.Code == finding.CertificateExpiring {
			weight = Notes
		}
		s.add(weight, certs.Renewal([]certs.Status{st}, func(certs.Status) bool { return true }),
			finding.New(st.Code, file, "certificate %s: %s", file, st.Problem))
	}
}

// Etcd makes its log in pieces of 64 MiB, one ahead, and ends when there is no room for one. Of its
// quota it is to have a fifth left.
const (
	leastRoom = 128 << 20
	quotaWarn = 80 // per cent
)

func (s *Seen) judgeRoom() {
	for _, dir := range slices.Sorted(maps.Keys(s.Free)) {
		if free := s.Free[dir]; free < leastRoom {
			s.add(Blocks, "make room there", finding.New(finding.DiskFull, dir,
				"only %s are free at %s: etcd ends when there is no room for its log", engine.Size(int64(free)), dir))
		}
	}
	if s.QuotaBytes > 0 && 100*s.InUse/s.QuotaBytes > quotaWarn {
		s.add(Notes, "delete what is not needed, or raise the quota", finding.New(finding.EtcdQuota, s.Node,
			"etcd's data fills %d%% of its quota of %s", 100*s.InUse/s.QuotaBytes, engine.Size(s.QuotaBytes)))
	}
}
