package upgrade

import (
	"cmp"
	"context"
	"path"
	"reflect"
	"slices"
	"time"

	"github.com/etcdpod/etcdpod/manifests"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/flags"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/phases/together"
)

// Seen is what one node says of its etcd. It goes over the wire.
type Seen struct {
	Node     string
	Etcd     bool   // a manifest runs it, and can be relied on
	File     string // that manifest
	MemberID uint64 // 0: it does not answer
	Image    string
	Given    []flags.Given

	RunsFor    time.Duration // 0: not known
	QuotaBytes int64
	Size       int64
	InUse      int64
	Free       map[string]uint64 // bytes left, by the directory that etcd writes to

	Stored   *Stored // what its own data know of members; nil: Unstored says why
	Unstored string
	V2       []string // what is left of the v2 API in its files
	OwnV2    int      // requests of the v2 API in its log that etcd 3.5 wrote itself
	UnreadV2 string   // why that is not known

	Kubernetes string // version of the API server here; empty: there is none, or nothing tells
	// What kubeadm's ClusterConfiguration has as etcd.local.imageTag; nil: it was not told.
	ImageTag *string
	Images   []Image
	Found    []Finding // what is wrong with the node, whatever the version
}

// Stored are the members in a member's own data.
type Stored struct{ Members []StoredMember }

// StoredMember is one of them.
type StoredMember struct {
	ID      uint64
	Name    string
	Learner bool
}

// Image is the image of a version.
type Image struct {
	Version string
	Name    string // empty: the manifest names its own by a digest
	Present bool
	Never   bool   // the kubelet must not pull it
	Error   string // why that is not known
}

// Question is what a node is asked.
type Question struct {
	Versions []string // whose images are looked for
	Image    string   // that of the version; empty: as the manifest names its own
}

const askLook = "upgrade-look"

// Replies are the answers of a node that is looked at.
func Replies(n *observe.Node) map[string]together.Reply {
	return map[string]together.Reply{
		askLook: together.Given(func(ctx context.Context, q Question) (any, error) { return Look(ctx, n, q) }),
	}
}

// Look says what this node's etcd is like. It changes nothing.
func Look(ctx context.Context, n *observe.Node, q Question) (Seen, error) {
	s, _, err := look(ctx, n, q)
	return s, err
}

func look(ctx context.Context, n *observe.Node, q Question) (Seen, *observe.Facts, error) {
	f := &observe.Facts{Now: n.Clock.Now().UTC(), ManifestDir: n.Config.StaticPodPath,
		StaticPodURL: n.Config.StaticPodURL}
	s := Seen{Node: n.NameOf(nil)}
	f.Manifests, f.ManifestsError = n.Manifests(ctx, f.ManifestDir)
	f.Etcd, f.EtcdError = n.EtcdPod(f.Manifests)
	f.Node = n.NameOf(f.Etcd)
	s.Node = f.Node
	f.KubeletActive, f.KubeletError = n.Kubelet.Running(ctx)
	f.Containers, f.RuntimeError = n.Runtime.Containers(ctx)
	s.lookAtRuns(n)
	if s.withoutEtcd(n, f) {
		return s, f, ctx.Err()
	}
	s.Etcd, s.File, s.Image, s.Given = true, f.Etcd.File.Path, f.Etcd.Image, f.Etcd.Given()
	f.Live, f.LiveError = n.OwnLive(ctx, f.Etcd.Access)
	s.QuotaBytes = f.Etcd.Quota()
	if l := f.Live; l != nil {
		f.LiveError, s.MemberID, s.Size, s.InUse = nil, l.MemberID, l.SizeBytes, l.InUseBytes
		if l.QuotaBytes > 0 {
			s.QuotaBytes = l.QuotaBytes
		}
	}
	c := observe.ContainerOf(f.Containers, f.Manifests, f.Etcd.File, f.Etcd.Container)
	if c != nil && c.State == "running" {
		s.RunsFor = max(time.Millisecond, f.Now.Sub(c.CreatedAt))
	}
	n.ObserveStarts(ctx, f)
	s.lookAtData(ctx, n, f)
	s.lookAtImages(ctx, n, f.Etcd, q)
	s.lookAtKubernetes(ctx, n, f)
	s.judgeNode(n, f)
	return s, f, ctx.Err()
}

func (s *Seen) add(weight Weight, next string, f finding.Finding) {
	f.Node = s.Node
	s.Found = append(s.Found, Finding{Finding: f, Weight: weight, Next: next})
}

// lookAtRuns finds a run that is open: it has taken manifests out, perhaps.
func (s *Seen) lookAtRuns(n *observe.Node) {
	open, err := engine.OpenRun(n.FS)
	switch {
	case err != nil:
		s.add(Blocks, "", finding.New(finding.RunUnreadable, "", "%v", err))
	case open.ID != "":
		e := &engine.OpenRunError{Run: open}
		s.add(Blocks, e.Hint(), finding.New(engine.CodeOf(open.State), open.ID, "%v", e))
	}
}

// withoutEtcd says whether there is no etcd here that could be upgraded, and why.
func (s *Seen) withoutEtcd(n *observe.Node, f *observe.Facts) bool {
	elsewhere := n.Elsewhere(f.Manifests)
	switch {
	case f.ManifestsError != nil:
		s.add(Blocks, engine.Hint(f.ManifestsError),
			finding.New(finding.ManifestDirUnreadable, f.ManifestDir, "%v", f.ManifestsError))
	case elsewhere != "":
		s.add(Blocks, "name the nodes that run etcd with --nodes",
			finding.New(finding.NotControlPlane, f.ManifestDir, "%s", elsewhere))
	case f.EtcdError != nil:
		s.add(Blocks, engine.Hint(f.EtcdError),
			finding.New(finding.EtcdManifestUnusable, f.ManifestDir, "%v", f.EtcdError))
	case f.Etcd == nil:
		s.add(Blocks, "name the nodes that run etcd with --nodes", finding.New(finding.EtcdManifestMissing,
			f.ManifestDir, "no manifest in %s runs etcd", f.ManifestDir))
	}
	return f.Etcd == nil
}

// How often the data of an etcd that writes them are read until they were the same twice, and how
// long apart: etcd writes to its database ten times a second.
const (
	readTries = 5
	readPause = 200 * time.Millisecond
)

func (s *Seen) lookAtData(ctx context.Context, n *observe.Node, f *observe.Facts) {
	s.Free = map[string]uint64{}
	wal := f.Etcd.WALDir
	for _, dir := range []string{f.Etcd.DataDir, wal} {
		if dir == "" {
			continue
		}
		if free, err := n.FS.Free(observe.Nearest(n.FS, dir)); err == nil {
			s.Free[dir] = free
		}
	}
	if wal != "" {
		wal = n.FS.Real(wal)
	}
	var err error
	if s.V2, s.OwnV2, err = etcd.V2Content(n.FS.Real(f.Etcd.DataDir), wal); err != nil {
		s.UnreadV2 = err.Error()
	}
	var before *Stored
	for range readTries {
		now, err := storedIn(n.FS.Real(path.Join(f.Etcd.DataDir, "member/snap/db")))
		if err != nil {
			s.Unstored = err.Error()
		} else if reflect.DeepEqual(before, now) {
			s.Stored, s.Unstored = now, ""
			return
		}
		before = now
		if n.Clock.Sleep(ctx, readPause) != nil {
			break
		}
	}
	if s.Unstored == "" {
		s.Unstored = "the members in it change all the time"
	}
}

// storedIn reads the members in a database, which an etcd may be writing.
func storedIn(db string) (*Stored, error) {
	r, err := snapfile.Peek(db)
	if err != nil {
		return nil, err
	}
	all := &Stored{}
	for _, m := range r.Members {
		all.Members = append(all.Members, StoredMember{ID: m.ID, Name: m.Name, Learner: m.IsLearner})
	}
	return all, nil
}

// lookAtImages asks the container runtime, and pulls nothing.
func (s *Seen) lookAtImages(ctx context.Context, n *observe.Node, pod *observe.EtcdPod, q Question) {
	never := slices.ContainsFunc(pod.File.Manifest.Images(), func(i manifests.ImageOf) bool {
		return i.Image == pod.Image && i.Pull == "Never"
	})
	for _, text := range q.Versions {
		to, ok := parse(text)
		if !ok {
			continue
		}
		i := Image{Version: text, Name: cmp.Or(q.Image, imageFor(s.Image, to)), Never: never}
		if i.Name != "" {
			there, err := n.Runtime.Image(ctx, i.Name)
			if i.Present = there.Present; err != nil {
				i.Error = err.Error()
			}
		}
		s.Images = append(s.Images, i)
	}
}

// askKubeadm is how long the API server may take to tell kubeadm's configuration.
const askKubeadm = 3 * time.Second

func (s *Seen) lookAtKubernetes(ctx context.Context, n *observe.Node, f *observe.Facts) {
	m, container, ok := observe.Program(f.Manifests, "kube-apiserver")
	if !ok {
		return
	}
	f.API, f.Kubeconfigs = n.Administrators(f.Manifests)
	s.Kubernetes = observe.ImageVersion(m.Manifest.Image(container))
	if f.Live == nil || f.Live.Leader == 0 {
		return // it would only be waited for
	}
	ctx, cancel := context.WithTimeout(ctx, askKubeadm)
	defer cancel()
	if config, err := n.ClusterConfiguration(ctx, f.API); err == nil {
		s.ImageTag = &config.ImageTag
	}
}
