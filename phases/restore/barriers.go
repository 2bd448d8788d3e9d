package restore

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/phases/together"
)

// What the coordinator does between two phases of a restore on several nodes: it sends what a node
// lacks, and compares the results of all of them.

// sendSnapshot sends the snapshot to the nodes that still need it.
func sendSnapshot(ctx context.Context, t *together.Transaction) error {
	needs := map[string]bool{}
	for _, p := range t.Peers {
		lacks, err := together.Query[bool](ctx, p, askNeeds, nil)
		if err != nil {
			return err
		}
		if lacks {
			needs[p.Name] = true
		}
	}
	if len(needs) == 0 {
		return nil
	}
	path, file, err := ownSnapshot(t)
	if err != nil {
		return err
	}
	return t.Each(ctx, func(ctx context.Context, p *together.Peer) error {
		if !needs[p.Name] {
			return nil
		}
		if p.Here {
			return fmt.Errorf("%s: the snapshot is not on this node: run `etcdpod resume` on %s",
				p.Name, t.Cluster.Coordinator)
		}
		from, err := t.Node.Host.FS.Open(path)
		if err != nil {
			return fmt.Errorf("cannot send the snapshot: %w", err)
		}
		defer from.Close()
		return p.Ask(ctx, askReceive, file, nil, &together.Body{From: from, Size: file.Proof.SizeBytes})
	})
}

// ownSnapshot returns where this node has the snapshot, and its proof.
func ownSnapshot(t *together.Transaction) (path string, s sent, err error) {
	state, err := journal.Read(t.Node.Host.FS, journal.RunDir(t.Run))
	if err != nil {
		return "", s, err
	}
	path = state.Run.Notes[journal.NoteSnapshot]
	if st, err := t.Node.Host.FS.Lstat(path); err == nil {
		s.Proof.SizeBytes = st.Size
	}
	for _, step := range state.Steps {
		o, err := op.Decode(step.Kind, step.Op)
		if err != nil {
			return "", s, err
		}
		if stage, ok := o.(*op.StageData); ok {
			if s.Proof = stage.Staging.Proof; stage.Staging.ProofFile != "" {
				s.Made = true
				return path, s, observe.ReadJSON(t.Node.Host.FS, stage.Staging.ProofFile, &s.Proof)
			}
		}
	}
	return path, s, nil
}

// compareStaged fails unless all nodes staged the same data from the same snapshot.
func compareStaged(ctx context.Context, t *together.Transaction) error {
	var first *op.Staged
	var at string
	for _, p := range t.Peers {
		s, err := together.Query[*op.Staged](ctx, p, askStaged, nil)
		if err != nil {
			return err
		}
		switch {
		case s == nil:
		case first == nil:
			first, at = s, p.Name
		case s.SHA256 != first.SHA256 || s.ClusterID != first.ClusterID ||
			s.Revision != first.Revision || s.HashKV != first.HashKV || s.Keys != first.Keys:
			return fmt.Errorf("%s and %s staged different data: %+v and %+v", at, p.Name, *first, *s)
		}
	}
	return nil
}

// nobodyAnswers fails while a member of the old cluster still answers, on whatever node.
func nobodyAnswers(ctx context.Context, t *together.Transaction) error {
	own, err := journal.Read(t.Node.Host.FS, journal.RunDir(t.Run))
	if err != nil {
		return fmt.Errorf("cannot determine the members of the old cluster: %w", err)
	}
	if released(own) { // resumed after the exchange: the new members may already answer
		return nil
	}
	for _, url := range oldURLs(own) {
		if t.Node.Etcd.Listening(ctx, url) {
			return fmt.Errorf("a member of the old cluster still answers at %s, although "+
				"all nodes are fenced; stop it first", url)
		}
	}
	return nil
}

// oldURLs are the peer URLs of the cluster that is being replaced.
func oldURLs(own *journal.State) []string {
	if noted, ok := own.Run.Notes[journal.NoteOldURLs]; ok {
		return strings.Fields(noted)
	}
	return own.Run.Cluster.OldURLs // for a run begun by an earlier version
}

// released says whether this node has begun to let etcd run on the new data.
func released(own *journal.State) bool {
	return slices.ContainsFunc(own.Steps, func(s journal.StepState) bool {
		return s.Phase == "release-etcd" && s.Progress != journal.Pending
	})
}

// compareMembers fails unless all members hold the same keys at one revision. No API server writes
// yet.
func compareMembers(ctx context.Context, t *together.Transaction) error {
	at := int64(0)
	for _, p := range t.Peers {
		h, err := together.Query[observe.HashAnswer](ctx, p, askHash, int64(0))
		if err != nil {
			return err
		}
		if h.Member && (at == 0 || h.Revision < at) {
			at = h.Revision
		}
	}
	var first *observe.HashAnswer
	for _, p := range t.Peers {
		h, err := together.Query[observe.HashAnswer](ctx, p, askHash, at)
		switch {
		case err != nil:
			return err
		case !h.Member:
		case first == nil:
			first = &h
		case h.ClusterID != first.ClusterID || h.Compacted == first.Compacted && h.Hash != first.Hash:
			return fmt.Errorf("the members differ at revision %d: HashKV %08x of cluster %x, but on %s %08x of "+
				"cluster %x", at, first.Hash, first.ClusterID, p.Name, h.Hash, h.ClusterID)
		case h.Compacted != first.Compacted:
			return fmt.Errorf("the members are compacted to different revisions: %d here, %d on %s",
				first.Compacted, h.Compacted, p.Name)
		}
	}
	return nil
}
