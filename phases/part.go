package phases

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// The questions of a restore.
const (
	askSurvey  = "survey"
	askPlan    = "plan"
	askNeeds   = "needs"
	askReceive = "receive"
	askStaged  = "staged"
	askHash    = "hash"
	askServed  = "served"
)

// part is a node's part in a restore on several.
type part struct {
	*participant
	look  looker
	facts *factsOfRestore // of the survey
}

func (l looker) answers(p *participant) map[string]Reply {
	r := &part{participant: p, look: l}
	begun := func(a Reply) Reply {
		return func(ctx context.Context, with json.RawMessage, file io.Reader) (any, error) {
			if r.run == nil {
				return nil, errors.New("cannot answer: no run was begun or loaded")
			}
			return a(ctx, with, file)
		}
	}
	return map[string]Reply{
		askSurvey: given(func(ctx context.Context, q surveyQuestion) (any, error) { return r.survey(ctx, q) }),
		askPlan:   given(func(ctx context.Context, o restorer) (any, error) { return r.planWith(ctx, o) }),
		askReceive: begun(func(ctx context.Context, with json.RawMessage, file io.Reader) (any, error) {
			q, err := read[sent](with)
			if err != nil {
				return nil, err
			}
			return done(r.receive(ctx, q, file))
		}),
		askNeeds:  begun(given(func(context.Context, any) (any, error) { return r.needs(), nil })),
		askStaged: begun(given(func(context.Context, any) (any, error) { return r.staged() })),
		askHash:   begun(given(func(ctx context.Context, revision int64) (any, error) { return r.hash(ctx, revision) })),
		askServed: begun(given(func(ctx context.Context, revision int64) (any, error) { return r.served(ctx, revision) })),
	}
}

type surveyQuestion struct {
	Run      string
	Options  RestoreOptions
	Snapshot SnapshotFacts
	File     string // where the coordinator has the snapshot
}

// Survey is what the coordinator wants to know of a node before it decides anything.
type Survey struct {
	Node          string
	Member        *SharedMember // nil: no etcd here
	ClientURLs    []string
	APIServer     bool
	Addresses     []string
	Live          *Live
	Stopped       *Stopped
	KnownRevision int64
	Clients       []string // addresses that are connected to etcd's client port
	Has           bool     // the snapshot is here, too, under the same name, and the same by its SHA-256
}

func (p *part) survey(ctx context.Context, q surveyQuestion) (s Survey, err error) {
	if err := refuseOpen(p.node.Host.FS); err != nil {
		return s, err
	}
	f, err := p.look.survey(ctx, p.node.Look, q)
	if err != nil {
		return s, err
	}
	p.id, p.facts = q.Run, f
	s = Survey{Node: f.Node, APIServer: hasAPIServer(f.Facts), Addresses: f.Addresses, Live: f.Live, Stopped: f.Stopped, KnownRevision: f.KnownRevision}
	if f.Etcd != nil {
		s.Member = &SharedMember{Name: f.Etcd.Name, PeerURLs: f.Etcd.PeerURLs}
		s.ClientURLs = f.Etcd.ClientURLs
		s.Clients = f.Clients
	}
	if q.File != "" {
		s.Has = p.node.Look.has(q.File, q.Snapshot.SHA256, q.Snapshot.SizeBytes)
	}
	return s, nil
}

// planWith plans the restore on this node, with what the coordinator has settled for all of them. Its checks refuse here what cannot end well here.
func (p *part) planWith(ctx context.Context, o restorer) (Plan, error) {
	if p.facts == nil || o.Shared == nil {
		return Plan{}, errors.New("cannot plan: no survey was made")
	}
	p.facts.Snapshot = &o.Shared.Snapshot
	p.facts.Notes[journal.NoteSnapshot] = o.snapshotPath(p.facts)
	if len(o.Shared.Left) > 0 {
		p.facts.Notes[journal.NoteLeft] = strings.Join(o.Shared.Left, " ")
	}
	plan, err := o.workflow().planned(ctx, p.facts)
	plan = plan.together(&o.Shared.Cluster)
	p.propose(p.id, plan)
	return plan, err
}

// needs says whether the snapshot is to be sent, and is not here yet.
func (p *part) needs() bool { return p.run.state.Aborted == "" && p.awaitsSnapshot() }

// awaitsSnapshot says whether staging is still to be done, from a file that the coordinator sends.
func (p *part) awaitsSnapshot() bool {
	for i, o := range p.run.ops {
		stage, ok := o.(*op.StageData)
		if ok && p.run.state.Steps[i].Progress != journal.Done {
			return stage.Staging.Snapshot == madeSnapshot(p.run.state.Run.ID) && !p.node.Look.thereIs(stage.Staging.Snapshot)
		}
	}
	return false
}

// sent goes with a file: the snapshot, whole.
type sent struct {
	Proof op.Proof
	Made  bool // nobody knew its proof when the run was planned
}

// receive writes the snapshot into the run's folder. It gets its name when it is whole and durable, and its SHA-256 is right.
func (p *part) receive(ctx context.Context, q sent, file io.Reader) error {
	file = io.LimitReader(file, q.Proof.SizeBytes) // what follows on the wire is the next question
	err := p.keep(ctx, q, file)
	if err != nil { // the rest of the file is on its way all the same
		_, drained := io.Copy(io.Discard, file)
		err = errors.Join(err, drained)
	}
	return err
}

func (p *part) keep(ctx context.Context, q sent, file io.Reader) error {
	if p.run == nil {
		return errors.New("cannot receive a snapshot: no run was begun")
	}
	id := p.run.state.Run.ID
	progress := func(done, total int64) {
		e := p.run.event(-1, Progressed)
		e.Phase, e.Operation, e.Done, e.Total = "stage-data", "receive the snapshot", done, total
		p.node.Emit(e)
	}
	if err := node.Receive(ctx, p.node.Host.FS, madeSnapshot(id), file, q.Proof.SizeBytes, q.Proof.SHA256, progress); err != nil {
		return fmt.Errorf("cannot receive the snapshot: %w", err)
	}
	if !q.Made {
		return nil
	}
	proof, err := json.Marshal(q.Proof)
	if err != nil {
		return err
	}
	return node.WriteAtomic(p.node.Host.FS, proofPath(id), proof, node.Mine(0o600))
}

// has says whether a file of that name is here, with that content.
func (n *View) has(name, sum string, size int64) bool {
	st, err := n.FS.Lstat(name)
	if err != nil || !st.Mode.IsRegular() || st.Size != size || sum == "" {
		return false
	}
	f, err := n.FS.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return err == nil && hex.EncodeToString(h.Sum(nil)) == sum
}

// staged tells what was staged here; nil on a node without etcd.
func (p *part) staged() (*op.Staged, error) {
	for _, o := range p.run.ops {
		if stage, ok := o.(*op.StageData); ok {
			var s op.Staged
			return &s, readJSONFile(p.node.Host.FS, stage.Receipt, &s)
		}
	}
	return nil, nil
}

// hashAnswer is what the member on a node serves, as of a revision.
type hashAnswer struct {
	Member    bool // false: no etcd here
	ClusterID uint64
	Revision  int64 // the present one
	Hash      uint32
	Compacted int64
}

func (p *part) hash(ctx context.Context, revision int64) (h hashAnswer, err error) {
	for _, o := range p.run.ops {
		compare, ok := o.(*op.CompareMembers)
		if !ok {
			continue
		}
		if err := p.run.stillHolds(ctx, p.run.state.Run.CommitAt-1); err != nil {
			return h, err
		}
		serving, err := p.node.Etcd.Serving(ctx, compare.Access, 0)
		if err != nil {
			return h, err
		}
		h = hashAnswer{Member: true, ClusterID: serving.ClusterID, Revision: serving.Revision}
		if revision > 0 {
			h.Hash, h.Compacted, err = p.node.Etcd.HashKV(ctx, compare.Access, revision)
		}
		return h, err
	}
	return h, nil
}
