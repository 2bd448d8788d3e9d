package manifests

import (
	"fmt"
	"path"
	"strings"
)

// HostPath is a volume at a path of the node.
type HostPath struct {
	Volume string
	Path   string // on the node, as written
	Type   string // Directory, DirectoryOrCreate, File, …; empty if none is given
	Mounts []Mount
}

// Mount is where a container sees a volume.
type Mount struct {
	Container   string // init containers, too
	Path        string // in the container
	SubPath     string // below the volume; empty for all of it
	ReadOnly    bool
	Propagation string // None, HostToContainer, Bidirectional; empty for None

	volume     string
	expression bool // the sub path is known only when the container starts
}

// HostPaths returns the hostPath volumes, in order, with their mounts in all containers.
func (m *Manifest) HostPaths() []HostPath {
	var paths []HostPath
	for _, v := range m.pod.volumes {
		if v.hostPath == nil {
			continue
		}
		h := HostPath{Volume: v.name, Path: v.hostPath.Value, Type: v.kind}
		for _, c := range m.pod.containers {
			for _, t := range c.mounts {
				if t.volume == v.name {
					h.Mounts = append(h.Mounts, t)
				}
			}
		}
		paths = append(paths, h)
	}
	return paths
}

// HostPathOf returns where a container's file is on the node: its path below the innermost mount
// that holds it. ok is false if that is not a hostPath volume (the file is then in the container's
// own layer, or on another kind of volume), or its sub path is an expression.
func (m *Manifest) HostPathOf(container, file string) (host string, ok bool) {
	c := m.find(container)
	if c == nil || !path.IsAbs(file) {
		return "", false
	}
	file = path.Clean(file)
	var inner *Mount
	for i, t := range c.mounts {
		if _, in := below(t.Path, file); in &&
			(inner == nil || len(path.Clean(t.Path)) >= len(path.Clean(inner.Path))) {
			inner = &c.mounts[i]
		}
	}
	if inner == nil || inner.expression {
		return "", false
	}
	rest, _ := below(inner.Path, file)
	for _, v := range m.pod.volumes {
		if v.name == inner.volume && v.hostPath != nil {
			return path.Join(v.hostPath.Value, inner.SubPath, rest), true
		}
	}
	return "", false
}

// below returns the part of a clean path after dir.
func below(dir, file string) (rest string, ok bool) {
	if dir == "" {
		return "", false
	}
	dir = strings.TrimSuffix(path.Clean(dir), "/")
	rest, ok = strings.CutPrefix(file, dir)
	return rest, ok && (rest == "" || rest[0] == '/')
}

// SetHostPath changes a hostPath volume's path on the node, which must be absolute.
func (m *Manifest) SetHostPath(volume, to string) (*Manifest, error) {
	if !path.IsAbs(to) {
		return nil, fmt.Errorf("cannot set the host path of volume %s: %q is not absolute", volume, to)
	}
	for _, v := range m.pod.volumes {
		if v.name == volume && v.hostPath != nil {
			edited, err := m.set(v.hostPath, to)
			if err != nil {
				return nil, fmt.Errorf("cannot set the host path of volume %s: %w", volume, err)
			}
			return edited, nil
		}
	}
	return nil, fmt.Errorf("cannot set the host path of volume %s: the pod has no hostPath volume of this name", volume)
}
