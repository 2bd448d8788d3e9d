package rehearse

import (
	"fmt"
	"syscall"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// checkPlace refuses a directory in which others could replace what is restored there.
func (r *rehearsal) checkPlace(in string) error {
	const hint = "choose another one with --scratch DIR"
	if !node.IsDir(r.look.FS, in) {
		return engine.Refuse(hint, "cannot restore in %s: %v", in, syscall.ENOTDIR)
	}
	exposed, err := node.Exposed(r.look.FS, in)
	if err != nil {
		return err
	}
	if exposed != "" && r.look.FS.Real("/") == "/" {
		return engine.Refuse(hint, "cannot restore in %s, where others could replace the data: %s", in, exposed)
	}
	for _, dir := range r.dataDirs() {
		if node.Inside(r.look.FS, in, dir) {
			return engine.Refuse(hint, "cannot restore in %s: etcd's own data is in %s", in, dir)
		}
	}
	if node.Inside(r.look.FS, in, r.facts.ManifestDir) && r.facts.Manifests != nil {
		return engine.Refuse(hint, "cannot restore in %s: the kubelet runs every file there", in)
	}
	return nil
}

// dataDirs are those of the etcd on this node.
func (r *rehearsal) dataDirs() (dirs []string) {
	if pod := r.facts.Etcd; pod != nil {
		dirs = append(dirs, pod.DataDir)
		if pod.WALDir != "" {
			dirs = append(dirs, pod.WALDir)
		}
	}
	return dirs
}

// What a rehearsal takes besides the copy of the data: etcd makes its log in pieces of 64 MiB, one
// ahead, and its db may grow a little. On the disk of this node's etcd it leaves room for the same.
const (
	logRoom  = 2*64<<20 + 32<<20
	etcdRoom = 256 << 20
)

func (r *rehearsal) checkRoom(in string) error {
	free, err := r.look.FS.Free(in)
	if err != nil {
		return fmt.Errorf("cannot determine the free space in %s: %w", in, err)
	}
	need := uint64(r.source.report.SizeBytes) + logRoom
	here, _ := r.look.FS.FilesystemID(in)
	for _, dir := range r.dataDirs() {
		if there, err := r.look.FS.FilesystemID(observe.Nearest(r.look.FS, dir)); err == nil && there == here {
			need += etcdRoom
			break
		}
	}
	if free >= need {
		return nil
	}
	return engine.Refuse("choose a directory on another disk with --scratch DIR, or rehearse on another machine",
		"not enough space to restore in %s: %s free, %s needed", in, engine.Size(free), engine.Size(need))
}

// needs is about what etcd needs of memory: for its index of all keys and revisions, and for what
// it reads at once. What it maps of its db is not among it.
func (r *rehearsal) needsMemory() int64 {
	const (
		base        = 120 << 20
		perKey      = 512
		perRevision = 64
	)
	return base + perKey*r.source.report.Keys + perRevision*r.source.report.Revisions
}

func (r *rehearsal) checkMemory() error {
	need := r.needsMemory()
	if need > r.Memory {
		return engine.Refuse(fmt.Sprintf("give it more: --memory %dMiB", need>>20+1), "etcd needs about %s of memory "+
			"for %d keys, and may have %s", engine.Size(need), r.source.report.Keys, engine.Size(r.Memory))
	}
	if free := node.MemoryFree(); free > 0 && free < need {
		return engine.Refuse("rehearse on another machine, or when this one has more to spare", "etcd needs about %s "+
			"of memory for %d keys, and only %s is free here", engine.Size(need), r.source.report.Keys,
			engine.Size(free))
	}
	return nil
}

// checkRelease refuses an etcd that is older than the data: none starts on what a newer one wrote.
func (r *rehearsal) checkRelease(p *program) error {
	data, etcd := r.source.release(), p.Version
	older := func() bool {
		is := observe.EtcdMinor(p.Version)
		return is > 0 && observe.EtcdMinor(data) > is
	}
	if older() && p.From == "node" { // the one in this program is as new as any that is known
		p.builtIn()
	}
	if !older() {
		return nil
	}
	return engine.Refuse("give an etcd of the same release with --etcd BINARY", "the data is of etcd %s, and the etcd "+
		"to be started is %s, older than that", data, etcd)
}
