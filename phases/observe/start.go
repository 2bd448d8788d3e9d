package observe

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
)

// What is stopped must start again, forward and back. A program that runs proves nothing: the image
// that it was started from may be gone, its files, its address, the disk below its data.

// Obstacle is what would keep programs from starting that are stopped now.
type Obstacle struct {
	// The pods that it concerns, by their files; empty: every pod.
	Manifests []string
	Kubelet   bool     // it is the kubelet that would not start
	Mount     bool     // a disk is not mounted
	Missing   []string // the files that are not there, if that is it
	Unasked   bool     // of a doubt: the runtime did not answer
	Unpulled  bool     // an image that the kubelet must not pull
	What      string   // a sentence without its point
	Fix       string   // what to type
	// The file whose certificate has ended, as certificates are listed: it is said here, once.
	Certificate string
}

// Tells says whether one of the obstacles is the end of a certificate.
func Tells(obstacles []Obstacle, certificate string) bool {
	return slices.ContainsFunc(obstacles, func(o Obstacle) bool { return o.Certificate == certificate })
}

// Unreported leaves out missing files that are reported by themselves, and what lacks no others.
func Unreported(obstacles []Obstacle, reported func(file string) bool) (left []Obstacle) {
	for _, o := range obstacles {
		missing := slices.DeleteFunc(slices.Clone(o.Missing), reported)
		switch {
		case len(missing) == len(o.Missing):
			left = append(left, o)
		case len(missing) > 0:
			left = append(left, lacking(o.Manifests[0], missing))
		}
	}
	return left
}

// Finding is it as one of what is wrong.
func (o Obstacle) Finding() finding.Finding {
	subject := strings.Join(o.Manifests, ", ")
	if o.Kubelet {
		subject = "kubelet"
	}
	return finding.New(finding.CannotStart, subject, "%s", o.What)
}

// Doubt is it as something that may be in the way, and could not be found out.
func (o Obstacle) Doubt() finding.Finding {
	return finding.New(finding.StartUnknown, strings.Join(o.Manifests, ", "), "%s", o.What)
}

func (o Obstacle) concerns(files []ManifestFile) bool {
	return len(o.Manifests) == 0 || slices.ContainsFunc(files, func(m ManifestFile) bool {
		return slices.Contains(o.Manifests, m.Path)
	})
}

// ObserveStarts finds out what would keep the kubelet and its pods from starting again now.
func (n *Node) ObserveStarts(ctx context.Context, f *Facts) {
	f.Obstacles, f.Doubts = nil, nil
	f.Obstacles = append(f.Obstacles, n.KubeletStarts(n.Clock.Now())...)
	n.observeImages(ctx, f)
	if f.Etcd != nil && f.EtcdVersion() == "" {
		f.Etcd.runsAs = cmp.Or(n.runningVersion(ctx, f.Etcd), n.loggedVersion(ctx, f))
	}
	f.Obstacles = append(f.Obstacles, DeadAddresses(ctx, f.Manifests)...)
	f.Obstacles = append(f.Obstacles, n.unmounted(f)...)
	f.Obstacles = append(f.Obstacles, n.missingFiles(f)...)
	f.Obstacles = append(f.Obstacles, wrongFlags(f)...)
}

// CheckStarts is the preflight of every workflow that stops pods: it refuses when one of them, or
// the kubelet, could not start again now.
func (f *Facts) CheckStarts(files ...ManifestFile) error {
	return check(f.Obstacles, func(o Obstacle) bool { return o.concerns(files) },
		"not everything could start again after being stopped")
}

// CheckCertificates is for a workflow that stops etcd and the API server and changes neither their
// certificates nor which ones they use: a renewal and a change of the API server may be the cure.
func (f *Facts) CheckCertificates(files ...ManifestFile) error {
	return check(f.Certificates, func(o Obstacle) bool { return o.concerns(files) },
		"etcd and the API server would not work together after being stopped")
}

// CheckKubeletStarts is CheckStarts for a workflow that may stop the kubelet, and no pod.
func (f *Facts) CheckKubeletStarts() error {
	return check(f.Obstacles, func(o Obstacle) bool { return o.Kubelet },
		"not everything could start again after being stopped")
}

func check(obstacles []Obstacle, concerns func(Obstacle) bool, then string) error {
	var what, fix []string
	for _, o := range obstacles {
		if !concerns(o) {
			continue
		}
		what = append(what, o.What)
		if o.Fix != "" && !slices.Contains(fix, o.Fix) {
			fix = append(fix, o.Fix)
		}
	}
	if len(what) == 0 {
		return nil
	}
	return engine.Refuse(strings.Join(fix, "; "), "%s: %s", then, strings.Join(what, "; "))
}

// ObstaclesOf says what stands in the way of these pods alone.
func (f *Facts) ObstaclesOf(files ...ManifestFile) (all []finding.Finding) {
	for _, o := range f.Obstacles {
		if len(o.Manifests) > 0 && o.concerns(files) {
			all = append(all, o.Finding())
		}
	}
	return all
}

// StartDoubts says what could not be found out about the pods, for the person who decides.
func (f *Facts) StartDoubts(files ...ManifestFile) (all []finding.Finding) {
	for _, o := range f.Doubts {
		if o.concerns(files) {
			all = append(all, o.Doubt())
		}
	}
	return all
}

// ImagesOf looks for the images of a pod that is to come, and for that of the sandboxes: which of
// them are not on this node, and what could not be found out. It notes in the pod what the runtime
// tells of etcd's version.
func (n *Node) ImagesOf(ctx context.Context, f *Facts, pod *EtcdPod) (missing, doubts []Obstacle) {
	to := &Facts{Manifests: []ManifestFile{pod.File}, Etcd: pod, RuntimeError: f.RuntimeError}
	n.observeImages(ctx, to)
	return to.Obstacles, to.Doubts
}

// Unasked says what nobody has looked at, since the runtime did not answer. Other doubts are about
// how the node is set up, and stay as long as that.
func (f *Facts) Unasked() (all []finding.Finding) {
	for _, o := range f.Doubts {
		if o.Unasked {
			all = append(all, o.Doubt())
		}
	}
	return all
}

// observeImages asks the runtime for every image, and for that of the sandboxes.
func (n *Node) observeImages(ctx context.Context, f *Facts) {
	if f.RuntimeError != nil {
		return // it is refused, or said, elsewhere
	}
	doubt := func(err error) {
		f.Doubts = append(f.Doubts, Obstacle{Unasked: true,
			What: fmt.Sprintf("could not check whether all images are on this node: %v", err)})
	}
	byImage, present, never := map[string][]string{}, map[string]bool{}, map[string]bool{}
	var images []string
	for _, m := range f.Manifests {
		if m.Manifest == nil {
			continue
		}
		for _, i := range m.Manifest.Images() {
			if !slices.Contains(images, i.Image) {
				images = append(images, i.Image)
			}
			if !slices.Contains(byImage[i.Image], m.Path) {
				byImage[i.Image] = append(byImage[i.Image], m.Path)
			}
			never[i.Image] = never[i.Image] || i.Pull == "Never"
			if i.Pull == "Always" {
				f.Doubts = append(f.Doubts, Obstacle{Manifests: []string{m.Path},
					What: fmt.Sprintf("the kubelet asks the registry for %s at every start (imagePullPolicy: Always "+
						"in %s): without the registry it does not start", i.Image, m.Path)})
			}
		}
	}
	for _, name := range images {
		i, err := n.Runtime.Image(ctx, name)
		if err != nil {
			doubt(err)
			return // the next question would take as long
		}
		if present[name] = i.Present; !i.Present {
			missing := noImage(name, "of "+strings.Join(byImage[name], ", "), byImage[name])
			if missing.Unpulled = never[name]; missing.Unpulled {
				missing.What += ", and imagePullPolicy: Never keeps the kubelet from pulling it"
			}
			f.Obstacles = append(f.Obstacles, missing)
		}
		if f.Etcd != nil && name == f.Etcd.Image {
			f.Etcd.imageTold = versionTold(i)
		}
	}
	sandbox, err := n.Runtime.SandboxImage(ctx)
	if err != nil {
		doubt(err)
		return
	}
	if sandbox == "" {
		f.Doubts = append(f.Doubts, Obstacle{What: "the container runtime does not tell which image pods' sandboxes " +
			"are made from, so whether it is on this node was not checked: compare the runtime's configuration with " +
			"`crictl images`"})
		return
	}
	if present[sandbox] {
		return
	}
	switch i, err := n.Runtime.Image(ctx, sandbox); {
	case err != nil:
		doubt(err)
	case !i.Present:
		f.Obstacles = append(f.Obstacles, noImage(sandbox, "which every pod's sandbox uses", nil))
	}
}

func noImage(name, whose string, files []string) Obstacle {
	return Obstacle{Manifests: files, What: fmt.Sprintf("the image %s %s is not on this node", name, whose),
		Fix: fmt.Sprintf("pull it: `crictl pull %s`; without a registry, export it on another node with `ctr -n "+
			"k8s.io images export`, and run `ctr -n k8s.io images import FILE` here", name)}
}
