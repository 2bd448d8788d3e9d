package backup

import (
	"context"
	"fmt"
	"strings"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/bind"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// checkTargets refuses what makes no sense on any node.
func (o Options) checkTargets() error {
	seen := map[string]bool{}
	for _, url := range o.To {
		if err := checkTarget(url); err != nil {
			return err
		}
		name := bind.TargetName(url)
		if seen[name] {
			return &engine.UsageError{Reason: fmt.Sprintf("--to names %s twice", name)}
		}
		seen[name] = true
	}
	if r := o.Rules; min(r.Last, r.Hourly, r.Daily, r.Weekly, r.Monthly) < 0 || r.Within < 0 {
		return &engine.UsageError{Reason: "a rule needs a number of backups, 1 or more"}
	}
	if len(o.To) == 0 && !o.Rules.None() {
		return &engine.UsageError{Reason: "--keep-last and the other rules work on targets, and need --to",
			Hint: "on the node, --keep N keeps the newest"}
	}
	if o.Away && o.Keep > 0 {
		return &engine.UsageError{Reason: "--keep works on a --dir: with --to alone, nothing is kept on the node",
			Hint: "give the directory, too: --dir " + DefaultDir}
	}
	return nil
}

// KeepRules say which backups stay in a target.
type KeepRules = op.KeepRules

// reaching looks whether the targets are there.
func (o Options) reaching() []op.Op {
	if len(o.To) == 0 {
		return nil
	}
	return []op.Op{&op.ReachTargets{URLs: o.To, Alone: o.Away}}
}

// ship sends the backup to the targets, one after the other.
func (o Options) ship() phase {
	return phase{Name: "ship", Short: "send it to the targets, and read back what is there",
		Plan: func(_ context.Context, f *Facts) (ops []op.Op, err error) {
			for _, url := range o.To {
				ops = append(ops, &op.ShipBackup{Workspace: o.workspace(f), URL: url, Away: o.Away,
					Rules: o.Rules, Since: f.Backup.Since, Doubt: o.doubt(f)})
			}
			return ops, nil
		}}
}

// sentPlain says that what leaves the node can be read by others.
func (o Options) sentPlain() []finding.Finding {
	if len(o.To) == 0 || len(o.EncryptTo) > 0 {
		return nil
	}
	var names []string
	for _, url := range o.To {
		names = append(names, bind.TargetName(url))
	}
	return []finding.Finding{finding.New(finding.BackupPlain, names[0], "the backup is sent to %s without being "+
		"encrypted: whoever can read there can read every Secret of the cluster. --encrypt-to encrypts it",
		strings.Join(names, " and "))}
}
