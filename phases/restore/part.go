package restore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/phases/together"
)

// The questions that the coordinator asks in a restore.
const (
	askSurvey  = "survey"
	askPlan    = "plan"
	askNeeds   = "needs"
	askReceive = "receive"
	askStaged  = "staged"
	askHash    = "hash"
	askServed  = "served"
)

// part is one node's part in a restore on several.
type part struct {
	*together.Participant
	look  looker
	facts *Facts // from the survey
}

func (l looker) answers(p *together.Participant) map[string]together.Reply {
	r := &part{Participant: p, look: l}
	begun := func(a together.Reply) together.Reply {
		return func(ctx context.Context, with json.RawMessage, file io.Reader) (any, error) {
			if r.Run == nil {
				return nil, errors.New("cannot answer: no run was begun or loaded")
			}
			return a(ctx, with, file)
		}
	}
	return map[string]together.Reply{
		askSurvey: together.Given(func(ctx context.Context, q surveyQuestion) (any, error) { return r.survey(ctx, q) }),
		askPlan:   together.Given(func(ctx context.Context, o restorer) (any, error) { return r.planWith(ctx, o) }),
		askReceive: begun(func(ctx context.Context, with json.RawMessage, file io.Reader) (any, error) {
			q, err := together.Read[sent](with)
			if err != nil {
				return nil, err
			}
			return together.Done(r.receive(ctx, q, file))
		}),
		askNeeds:  begun(together.Given(func(context.Context, any) (any, error) { return r.needs(), nil })),
		askStaged: begun(together.Given(func(context.Context, any) (any, error) { return r.staged() })),
		askHash: begun(together.Given(func(ctx context.Context, revision int64) (any, error) {
			return r.hash(ctx, revision)
		})),
		askServed: begun(together.Given(func(ctx context.Context, revision int64) (any, error) {
			return r.served(ctx, revision)
		})),
	}
}

type surveyQuestion struct {
	Run      string
	Options  Options
	Snapshot SnapshotFacts
	File     string // where the coordinator has the snapshot
}

// Survey is what the coordinator needs to know of a node before it decides anything.
type Survey struct {
	Node          string
	Member        *SharedMember // nil: no etcd here
	ClientURLs    []string
	APIServer     bool
	Addresses     []string
	Live          *observe.Live
	Serves        bool // etcd does, with a quorum
	Stopped       *observe.Stopped
	KnownRevision int64
	Unreadable    []string // what its API server cannot read of the snapshot
	InLog         []string // what its etcd would make anew from its log
	// Addresses connected to etcd's client port.
	Clients []string
	// API servers elsewhere that accept connections.
	Reached []string
	// The snapshot is here too: the same name, the same SHA-256.
	Has bool
	// The last restore here, and the peer URLs of the cluster that it replaced.
	LastRestore string
	Replaced    []string
}

func (p *part) survey(ctx context.Context, q surveyQuestion) (s Survey, err error) {
	if err := engine.RefuseOpen(p.Node.Host.FS); err != nil {
		return s, err
	}
	f, err := p.look.survey(ctx, p.Node.Look, q)
	if err != nil {
		return s, err
	}
	p.Id, p.facts = q.Run, f
	s = Survey{Node: f.Node, APIServer: observe.HasAPIServer(f.Facts),
		Addresses: f.Addresses, Live: f.Live, Serves: f.EtcdServes, Stopped: f.Stopped,
		KnownRevision: f.KnownRevision, Reached: f.Reached, Unreadable: unreadable(f.Encryption), InLog: f.inLog()}
	s.LastRestore, s.Replaced = journal.LastRestore(p.Node.Host.FS, journal.NoteOldURLs)
	if f.Etcd != nil {
		s.Member = &SharedMember{Name: f.Etcd.Name, PeerURLs: f.Etcd.PeerURLs}
		s.ClientURLs = f.Etcd.ClientURLs
		s.Clients = f.Clients
	}
	if q.File != "" {
		s.Has = has(p.Node.Look, q.File, q.Snapshot.SHA256, q.Snapshot.SizeBytes)
	}
	return s, nil
}

// planWith plans the restore on this node with what the coordinator has settled for all nodes. This
// node's checks refuse what would fail here.
func (p *part) planWith(ctx context.Context, o restorer) (engine.Plan, error) {
	if p.facts == nil || o.Shared == nil {
		return engine.Plan{}, together.ErrNoSurvey
	}
	p.facts.Snapshot = &o.Shared.Snapshot
	p.facts.Notes[journal.NoteSnapshot] = o.snapshotPath(p.facts)
	p.facts.Notes[journal.NoteOldURLs] = strings.Join(o.Shared.OldURLs, " ")
	if len(o.Shared.Left) > 0 {
		p.facts.Notes[journal.NoteLeft] = strings.Join(o.Shared.Left, " ")
	}
	plan, err := o.workflow().Planned(ctx, p.facts)
	return p.Joined(plan, &o.Shared.Cluster), err
}

// needs says whether the coordinator still has to send the snapshot.
func (p *part) needs() bool { return p.Run.State.Aborted == "" && p.awaitsSnapshot() }

// awaitsSnapshot says whether staging still waits for a file from the coordinator.
func (p *part) awaitsSnapshot() bool {
	for i, o := range p.Run.Ops {
		stage, ok := o.(*op.StageData)
		if ok && p.Run.State.Steps[i].Progress != journal.Done {
			return stage.Staging.Snapshot == madeSnapshot(p.Run.State.Run.ID) &&
				!p.Node.Look.Exists(stage.Staging.Snapshot)
		}
	}
	return false
}

// sent describes a file that follows on the wire: the whole snapshot.
type sent struct {
	Proof op.Proof
	Made  bool // its proof was not known when the run was planned
}

// receive writes the snapshot into the run's folder. The file gets its name only once it is whole
// and durable, and its SHA-256 is right.
func (p *part) receive(ctx context.Context, q sent, file io.Reader) error {
	file = io.LimitReader(file, q.Proof.SizeBytes) // the next question follows on the same wire
	err := p.keep(ctx, q, file)
	if err != nil { // the rest of the file still arrives: drain it
		_, drained := io.Copy(io.Discard, file)
		err = errors.Join(err, drained)
	}
	return err
}

func (p *part) keep(ctx context.Context, q sent, file io.Reader) error {
	if p.Run == nil {
		return errors.New("cannot receive a snapshot: no run was begun")
	}
	id := p.Run.State.Run.ID
	progress := func(done, total int64) {
		e := p.Run.Event(-1, engine.Progressed)
		e.Phase, e.Operation, e.Done, e.Total = "stage-data", "receive the snapshot", done, total
		p.Node.Emit(e)
	}
	if err := node.Receive(ctx, p.Node.Host.FS, madeSnapshot(id),
		file, q.Proof.SizeBytes, q.Proof.SHA256, progress); err != nil {
		return fmt.Errorf("cannot receive the snapshot: %w", err)
	}
	if !q.Made {
		return nil
	}
	proof, err := json.Marshal(q.Proof)
	if err != nil {
		return err
	}
	return node.WriteAtomic(p.Node.Host.FS, proofPath(id), proof, node.Mine(0o600))
}

// has says whether a file with that name and content is here.
func has(n *observe.Node, name, sum string, size int64) bool {
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

// staged returns what was staged here; nil on a node without etcd.
func (p *part) staged() (*op.Staged, error) {
	for _, o := range p.Run.Ops {
		if stage, ok := o.(*op.StageData); ok {
			var s op.Staged
			return &s, observe.ReadJSON(p.Node.Host.FS, stage.Receipt, &s)
		}
	}
	return nil, nil
}

func (p *part) hash(ctx context.Context, revision int64) (h observe.HashAnswer, err error) {
	for _, o := range p.Run.Ops {
		compare, ok := o.(*op.CompareMembers)
		if !ok {
			continue
		}
		if err := p.Run.StillHolds(ctx, p.Run.State.Run.CommitAt-1); err != nil {
			return h, err
		}
		serving, err := p.Node.Etcd.Serving(ctx, compare.Access, 0)
		if err != nil {
			return h, err
		}
		h = observe.HashAnswer{Member: true, ClusterID: serving.ClusterID, Revision: serving.Revision}
		if revision > 0 {
			h.Hash, h.Compacted, err = p.Node.Etcd.HashKV(ctx, compare.Access, revision)
		}
		return h, err
	}
	return h, nil
}
