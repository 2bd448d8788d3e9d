package phases

import (
	"encoding/json"
	"fmt"
	"path"
	"strings"

	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/pki"
)

// DefaultDir is where backups go when nothing else is said; host path, mode 0700.
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

// stepsIn lets a snapshot be hashed on two cores, where its sidecar says how.
func stepsIn(s *op.SidecarFile) snapfile.Steps {
	if s == nil {
		return nil
	}
	return s.HashSteps
}

// sidecars returns those in a directory that can be read.
func (n *View) sidecars(dir string) []Sidecar {
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
		if s, err := sidecarOf(n.FS, path.Join(dir, snapshot)); err == nil && s != nil {
			all = append(all, s.Sidecar)
		}
	}
	return all
}

func fingerprint(data []byte) string { return pki.Fingerprint(data) }

func readJSONFile(fsys node.Reader, name string, value any) error {
	data, err := fsys.ReadFile(name)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, value)
}
