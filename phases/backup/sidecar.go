package backup

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// SidecarOf reads the sidecar beside a snapshot; nil when there is none.
func SidecarOf(fsys node.Reader, snapshot string) (*op.SidecarFile, error) {
	s, err := sidecarBeside(fsys, snapshot)
	if s != nil || err != nil {
		return s, err
	}
	target, err := fsys.Resolve(snapshot) // latest.db is often a link
	if err != nil || target == snapshot {
		return nil, nil
	}
	return sidecarBeside(fsys, target)
}

func sidecarBeside(fsys node.Reader, snapshot string) (*op.SidecarFile, error) {
	data, err := fsys.ReadFile(snapshot + ".json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the sidecar %s.json: %w", snapshot, err)
	}
	return parseSidecar(snapshot, data)
}

// DefaultDir is where backups go by default; host path, mode 0700.
const DefaultDir = journal.BackupsDir

// Sidecar is the JSON file beside a backup, FILE.json, mode 0600. The names are stable.
type Sidecar = op.Sidecar

func parseSidecar(snapshot string, data []byte) (*op.SidecarFile, error) {
	var s op.SidecarFile
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("cannot read the sidecar %s.json: %w", snapshot, err)
	}
	return &s, nil
}

// StepsIn lets a snapshot be hashed on two cores, if its sidecar says how.
func StepsIn(s *op.SidecarFile) snapfile.Steps {
	if s == nil {
		return nil
	}
	return s.HashSteps
}

// Sidecars returns the readable sidecars in a directory.
func Sidecars(n *observe.Node, dir string) []Sidecar {
	names, err := n.FS.ReadDir(dir)
	if err != nil {
		return nil
	}
	var all []Sidecar
	for _, name := range names {
		snapshot, ok := strings.CutSuffix(name, ".json")
		if !ok || !strings.HasSuffix(snapshot, ".db") {
			continue
		}
		if s, err := SidecarOf(n.FS, path.Join(dir, snapshot)); err == nil && s != nil {
			all = append(all, s.Sidecar)
		}
	}
	return all
}
