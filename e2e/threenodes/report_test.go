//go:build e2e

package threenodes

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/e2e/binaries"
)

// outcome is how a trial ended.
type outcome struct {
	trial
	by   string        // what ended the restore: itself, or the command that was typed
	in   state         // the world in which all three nodes are
	took time.Duration // from the restore's begin until that was seen
}

// report is the file that tells what a full matrix tried. The test writes it, and nobody else.
const report = "docs/matrix.md"

// writeReport writes the outcomes of a full matrix that has passed.
func writeReport(all []outcome) error {
	root, err := binaries.ModuleRoot()
	if err != nil {
		return err
	}
	var text strings.Builder
	fmt.Fprintf(&text, `# Where a restore on three nodes was cut off

The full matrix of e2e/threenodes (make e2e-matrix) writes this file when all of it has passed: real kubeadm control planes with etcd %s and
Kubernetes %s, %d restores, each cut off when an operation begins on one of the nodes. Operations are numbered within their phase, as
restore --dry-run shows them. Old and new are whole worlds: the objects that all three API servers show, the cluster's id, equal hashes of all
members, the manifests, and no process of the other world.
`, binaries.Etcd37, binaries.KubernetesVersion, len(all))
	text.WriteString("\n| node | phase and operation | cut off | ended by | world | seconds |\n|---|---|---|---|---|---|\n")
	for _, o := range all {
		fmt.Fprintf(&text, "| %s | %s %d | %s | %s | %s | %.0f |\n", o.node, o.phase, o.operation, o.cut, o.by, o.in, o.took.Seconds())
	}
	return os.WriteFile(filepath.Join(root, report), []byte(text.String()), 0o644)
}
