package phases

import (
	"context"
	"fmt"
	"slices"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// What the coordinator does between two phases of a restore on several nodes: it sends what a node lacks, and looks at what came out on all of them.

// sendSnapshot sends the snapshot to the nodes that still need it.
func sendSnapshot(ctx context.Context, t *transaction) error {
	needs := map[string]bool{}
	for _, p := range t.peers {
		lacks, err := query[bool](ctx, p, askNeeds, nil)
		if err != nil {
			return err
		}
		if lacks {
			needs[p.name] = true
		}
	}
	if len(needs) == 0 {
		return nil
	}
	path, file, err := ownSnapshot(t)
	if err != nil {
		return err
	}
	return t.each(ctx, func(ctx context.Context, p *peer) error {
		if !needs[p.name] {
			return nil
		}
		if p.here {
			return fmt.Errorf("%s: the snapshot is not here: type `etcdpod resume` on %s", p.name, t.cluster.Coordinator)
		}
		from, err := t.node.Host.FS.Open(path)
		if err != nil {
			return fmt.Errorf("cannot send the snapshot: %w", err)
		}
		defer from.Close()
		return p.ask(ctx, askReceive, file, nil, &body{from: from, size: file.Proof.SizeBytes})
	})
}

// snapshot is what this node has of it.
func ownSnapshot(t *transaction) (path string, s sent, err error) {
	state, err := journal.Read(t.node.Host.FS, journal.RunDir(t.run))
	if err != nil {
		return "", s, err
	}
	path = state.Run.Notes[journal.NoteSnapshot]
	if st, err := t.node.Host.FS.Lstat(path); err == nil {
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
				return path, s, readJSONFile(t.node.Host.FS, stage.Staging.ProofFile, &s.Proof)
			}
		}
	}
	return path, s, nil
}

// compareStaged: all staged the same, from the same.
func compareStaged(ctx context.Context, t *transaction) error {
	var first *op.Staged
	var at string
	for _, p := range t.peers {
		s, err := query[*op.Staged](ctx, p, askStaged, nil)
		if err != nil {
			return err
		}
		switch {
		case s == nil:
		case first == nil:
			first, at = s, p.name
		case s.SHA256 != first.SHA256 || s.ClusterID != first.ClusterID || s.Revision != first.Revision || s.HashKV != first.HashKV || s.Keys != first.Keys:
			return fmt.Errorf("%s and %s did not stage the same: %+v, and %+v", at, p.name, *first, *s)
		}
	}
	return nil
}

// nobodyAnswers: no member of the old cluster is left, on whatever node.
func nobodyAnswers(ctx context.Context, t *transaction) error {
	if released(t) { // resumed behind the exchange: the new members may answer by now
		return nil
	}
	for _, url := range t.cluster.OldURLs {
		if t.node.Etcd.Listening(ctx, url) {
			return fmt.Errorf("a member of the old cluster still answers at %s, although all nodes are fenced; stop it first", url)
		}
	}
	return nil
}

// released says whether this node's own part has begun to let etcd run on the new data.
func released(t *transaction) bool {
	state, err := journal.Read(t.node.Host.FS, journal.RunDir(t.run))
	if err != nil {
		return false
	}
	return slices.ContainsFunc(state.Steps, func(s journal.StepState) bool {
		return s.Phase == "release-etcd" && s.Progress != journal.Pending
	})
}

// compareMembers: all members serve the same keys as of one revision, while no API server writes.
func compareMembers(ctx context.Context, t *transaction) error {
	at := int64(0)
	for _, p := range t.peers {
		h, err := query[hashAnswer](ctx, p, askHash, int64(0))
		if err != nil {
			return err
		}
		if h.Member && (at == 0 || h.Revision < at) {
			at = h.Revision
		}
	}
	var first *hashAnswer
	for _, p := range t.peers {
		h, err := query[hashAnswer](ctx, p, askHash, at)
		switch {
		case err != nil:
			return err
		case !h.Member:
		case first == nil:
			first = &h
		case h.ClusterID != first.ClusterID || h.Compacted == first.Compacted && h.Hash != first.Hash:
			return fmt.Errorf("the members do not serve the same at revision %d: HashKV %08x of cluster %x, and on %s %08x of cluster %x", at, first.Hash, first.ClusterID, p.name, h.Hash, h.ClusterID)
		case h.Compacted != first.Compacted:
			return fmt.Errorf("the members are compacted to different revisions: %d, and %d on %s", first.Compacted, h.Compacted, p.name)
		}
	}
	return nil
}
