package backup

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// Held is what an earlier backup holds, and etcd does not any more.
type Held = op.Behind

// Present is the etcd that answers, as a sidecar of this version would describe it.
func Present(f *observe.Facts) Sidecar {
	return Sidecar{Node: f.Node, ClusterID: fmt.Sprintf("%x", f.Live.ClusterID), Revision: f.Live.Revision,
		EtcdVersion: f.Live.Version, Members: f.Live.Members, Fingerprints: f.Fingerprints,
		Source: "etcd"}
}

// Behind returns what one of the backups holds and the etcd that answers does not; nil if that is
// not known of any, or another etcd answers than this node's. Only a whole backup with nothing odd
// about it counts.
func Behind(n *observe.Node, f *observe.Facts, all []Entry) *Held {
	if !n.OwnAnswers(f) {
		return nil
	}
	var good []Sidecar
	for _, e := range all {
		if e.Whole && e.Code == "" {
			good = append(good, e.Sidecar)
		}
	}
	now := Present(f)
	return op.FellBack(now, good, Since(n, now.ClusterID), n.FS)
}

// lookBack compares etcd with the backups of this node, wherever this one goes.
func (f *Facts) lookBack(ctx context.Context, n *observe.Node) {
	// A directory that cannot be read says nothing about etcd.
	l, _ := List(ctx, n, "")
	if !slices.Contains(l.Dirs, f.Backup.Dir) && !slices.Contains(l.Dirs, f.Backup.At) {
		here, _ := List(ctx, n, f.Backup.Dir)
		l.Entries = append(l.Entries, here.Entries...)
	}
	f.Backup.Since = Since(n, Present(f.Facts).ClusterID)
	f.Backup.Behind = Behind(n, f.Facts, l.Entries)
}

// Since is when a run of this node began etcd's present cluster, of which the id is given: a
// restore gives the cluster a new id, and a node that joins leaves its old cluster. A run that is
// open may have done so already. Zero: no run explains that id. What a run did whose journal cannot
// be read nobody can tell, so nothing is concluded from the id then.
func Since(n *observe.Node, cluster string) (since time.Time) {
	runs, err := journal.List(n.FS)
	if err != nil {
		return n.Clock.Now()
	}
	for _, r := range runs {
		switch {
		case r.State == nil:
			return n.Clock.Now()
		case r.State.Aborted == "" && r.State.Last.After(since) && began(n, r, cluster):
			since = r.State.Last
		}
	}
	return since
}

// began says whether a run made this node's etcd a member of the cluster. A restore whose
// receipt is gone, or that let the node join again, is believed.
func began(n *observe.Node, r journal.Listed, cluster string) bool {
	switch r.State.Run.Workflow {
	case "restore":
		var staged op.Staged
		err := observe.ReadJSON(n.FS, path.Join(journal.RunDir(r.ID), "staged.json"), &staged)
		return err != nil || op.ID(staged.ClusterID).String() == cluster
	case "join":
		return slices.ContainsFunc(r.State.Steps, func(step journal.StepState) bool {
			o, err := op.Decode(step.Kind, step.Op)
			wait, ok := o.(*op.AwaitAnswer)
			return err == nil && ok && wait.ClusterID.String() == cluster
		})
	}
	return false
}

// FellBack says that etcd does not hold what an earlier backup does, and how a person says that it
// is meant to be so.
func FellBack(now Sidecar, b Held) finding.Finding {
	how := fmt.Sprintf("etcd has lost data, or was put back, since %s was taken at revision %d", b.Path, b.Revision)
	switch {
	case b.Revision > now.Revision:
		how = fmt.Sprintf("etcd is at revision %d, but %s, a backup of this node, is at revision %d: etcd does not "+
			"hold what was backed up", now.Revision, b.Path, b.Revision)
	case b.ClusterID != now.ClusterID:
		how = fmt.Sprintf("etcd is a member of cluster %s, but %s, a backup of this node, is of cluster %s, and no "+
			"run of this node explains that", now.ClusterID, b.Path, b.ClusterID)
	}
	return finding.New(finding.EtcdFellBack, b.Path, "%s. `backup --keep` deletes nothing meanwhile. If data was "+
		"lost, restore that backup; if the cluster was built anew or put back on purpose, move the backups from "+
		"before to another directory, with their .json", how)
}

// corrupt are the alarms by which etcd itself says that members do not hold the same.
func (o Options) corrupt(f *Facts) (said []finding.Finding) {
	if o.FromDataDir != "" || f.Live == nil {
		return nil
	}
	for _, a := range f.Live.Alarms {
		if strings.HasPrefix(a, "CORRUPT") {
			said = append(said, finding.New(finding.EtcdAlarm, a, "etcd raised the alarm %s: what it holds may be "+
				"wrong. Back up each member (`etcdpod backup` on its node) before anything else", a))
		}
	}
	return said
}

// doubt is why what this member holds may be wrong; empty: nothing tells so.
func (o Options) doubt(f *Facts) string {
	if f.Agreement != nil && f.Agreement.Own {
		return "this member does not hold what the others do"
	}
	for _, a := range o.corrupt(f) {
		for _, id := range []uint64{0, f.Live.MemberID} { // 0: nobody knows which one it is
			if strings.HasSuffix(a.Subject, fmt.Sprintf(" %x", id)) {
				return "etcd raised the alarm " + a.Subject
			}
		}
	}
	return ""
}
