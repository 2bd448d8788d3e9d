package upgrade

import (
	"context"
	"crypto/sha256"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// One member after the other comes to run another release. What must hold, always:
//
//   - Nothing is stopped before each node has the image, and a proven backup is kept.
//   - A member is stopped only while all others serve, forward and back; the next one's turn comes
//     when the cluster is whole again with this one.
//   - The version of the cluster rises only when all members run the new minor. So the last one of
//     the old minor is not replaced before all nodes hold the commit record, and until then every
//     old manifest can come back: nothing that was written in the meantime is lost by that.
//   - On each node all is old, or all is new.
//
// Where the minor stays, nothing rises, and the commit point comes when all members run it.

// Part is what one node has to do, as the node that coordinates has decided.
type Part struct {
	To      string     // the version
	Image   string     // from which it runs; empty: it runs already
	From    string     // the minor that runs here
	Last    bool       // its turn is behind the commit point
	Rises   bool       // the minor is another one afterwards
	Backup  bool       // it is taken here
	Tag     string     // for kubeadm's ClusterConfiguration; empty: not from here
	Down    bool       // by etcd's own protocol, to the minor before
	Enables bool       // the downgrade is enabled from here
	Adopted bool       // somebody has enabled it before: it is not cancelled
	Others  []op.Other // all other members, by their client URLs
	Cluster uint64     // etcd's id of it
	Turn    int        // from 1; 0: it has none
	Of      int

	WaitTimeout, PullTimeout time.Duration // 0: two minutes, and ten
}

func (p Part) wait() time.Duration {
	if p.WaitTimeout > 0 {
		return p.WaitTimeout
	}
	return 2 * time.Minute
}

func (p Part) pull() time.Duration {
	if p.PullTimeout > 0 {
		return p.PullTimeout
	}
	return 10 * time.Minute
}

// Facts are what one node's part depends on.
type Facts struct {
	*observe.Facts
	Seen  Seen
	Ready bool // its API server
	Part  Part // set when all nodes are known

	After  *observe.EtcdPod  // nil: its manifest stays
	Change string            // in words
	Backup *op.TakeBackup    // nil: none is taken here
	Doubts []finding.Finding // about that
}

type (
	phase    = engine.Phase[*Facts]
	workflow = engine.Workflow[*observe.Node, *Facts]
)

// carrying is the workflow of one node's part.
func (p Part) carrying() workflow {
	if p.Down {
		return p.goingDown()
	}
	return workflow{Name: "upgrade", Stakes: stakes, Phases: []phase{
		p.preflight(),
		p.pullImages(),
		p.backup(),
		p.replaceMembers(), // the commit point is at its end
		p.replaceLast(),
		p.verifyVersions(),
		p.setTag(),
	}}
}

func stakes(f *Facts) engine.Stakes {
	if f.After == nil {
		return engine.Stakes{}
	}
	return engine.Stakes{SizeBytes: f.Seen.Size}
}

func (p Part) preflight() phase {
	return phase{Name: "preflight", Short: "check everything first", Found: found, Findings: warned,
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			if f.After == nil {
				return nil, nil
			}
			return nil, engine.Passes(f, func(f *Facts) error { return f.CheckManifests() }, checkAsked, checkStarts)
		}}
}

// checkAsked refuses what the kubelet is needed for where it, or the runtime, cannot be asked.
func checkAsked(f *Facts) error {
	if err := f.CheckRuntime(); err != nil {
		return err
	}
	return f.CheckKubeletRuns("start the new etcd", "start the kubelet first")
}

// checkStarts asks for the old etcd as well: the run may go back.
func checkStarts(f *Facts) error { return f.CheckStarts(f.Etcd.File) }

func found(f *Facts) []string {
	if f.After == nil {
		if f.Etcd == nil {
			return nil
		}
		return []string{fmt.Sprintf("etcd %s runs, and its manifest stays", f.Part.To)}
	}
	says := fmt.Sprintf("turn %d of %d: %s", f.Part.Turn, f.Part.Of, f.Change)
	if f.Part.Last {
		says += "; the commit point is just before it"
	}
	return []string{says}
}

func warned(f *Facts) []finding.Finding {
	all := slices.Clone(f.Doubts)
	if f.After != nil {
		all = append(all, f.StartDoubts(f.Etcd.File)...)
	}
	return all
}

func (p Part) pullImages() phase {
	return phase{Name: "pull-images", Short: "have the new image on every node, while the old etcds serve",
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			if f.After == nil {
				return nil, nil
			}
			return []op.Op{&op.PullImage{Image: p.Image, Limit: p.pull()}}, nil
		}}
}

func (p Part) backup() phase {
	return phase{Name: "backup",
		Short: "take a backup on one node, and prove it; it is kept whatever becomes of the run",
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			if f.Backup == nil {
				return nil, nil
			}
			return []op.Op{f.Backup}, nil
		}}
}

// replaceMembers has no turn for the last one where the minor rises.
func (p Part) replaceMembers() phase {
	return phase{Name: "replace-members", InTurn: true, Commit: true,
		Short: "replace one etcd after the other, each once all others serve; where the minor rises, all but the last",
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			if p.Last && f.After != nil { // while all can go back; and once more in its turn
				return []op.Op{f.unchanged()}, nil
			}
			return p.replacement(f), nil
		}}
}

// replaceLast is past the commit point: with it, all members run the new minor.
func (p Part) replaceLast() phase {
	return phase{Name: "replace-last", InTurn: true,
		Short: "replace the last etcd: from then on the version of the cluster rises",
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			if !p.Last {
				return nil, nil
			}
			return p.replacement(f), nil
		}}
}

func (f *Facts) unchanged() *op.SeeManifest {
	return &op.SeeManifest{Path: f.Etcd.File.Path, Old: sum(f.Etcd.File.Data), New: sum(f.After.File.Data)}
}

func sum(data []byte) string { return fmt.Sprintf("%x", sha256.Sum256(data)) }

// replacement is behind a kubelet that is stopped: it need not notice the manifest, and one that no
// API server answers starts no other pod in the place of one that it runs. After a reboot in the
// middle it may run the old one: that is ended once more. Whatever of it is interrupted, etcd's
// data is the same.
func (p Part) replacement(f *Facts) []op.Op {
	if f.After == nil {
		return nil
	}
	m := f.Etcd.File
	kept := path.Join(journal.RunDir(f.Run), "manifests")
	others := op.AwaitOthers{Others: p.Others, ClusterID: op.ID(p.Cluster), Limit: p.wait()}
	back := others
	back.Back, back.Own = true, &f.Etcd.Peer
	others.Started = true
	end := op.EndPod{Pod: observe.PodOf(f.Manifests, m, f.Etcd.Container), Grace: 20 * time.Second, Limit: p.wait(),
		API: f.onlyHere()}
	again := end
	again.Again, again.API = true, false
	var ops []op.Op
	if len(p.Others) > 0 {
		ops = append(ops, &others)
	}
	ops = append(ops, f.unchanged())
	if p.Down {
		ops = append(ops, p.held(f, false))
	}
	ops = append(ops, &op.MakeDirectory{Path: kept, Attr: node.Mine(0o700)},
		&op.StopKubelet{Before: f.Served(f.Ready, p.wait())})
	switch {
	case p.Down && len(p.Others) > 0: // while it is away, the version of the cluster does not rise
		ops = append(ops, &end, p.held(f, true))
	case p.Down: // nobody else can be asked
		ops = append(ops, p.held(f, true), &end)
	default:
		ops = append(ops, &end)
	}
	ops = append(ops, &op.ReplaceManifest{Path: m.Path, Data: f.After.File.Data, Change: f.Change,
		Old: sum(m.Data), Kept: path.Join(kept, path.Base(m.Path))},
		&again)
	if len(p.Others) > 0 && !p.Last && !p.Down { // past the commit point nothing is undone
		ops = append(ops, &back)
	}
	watched := observe.WatchedIn(f.Manifests, f.After.File, f.After.Container)
	ops = append(ops, &op.StartKubelet{},
		&op.AwaitAnswer{Access: f.Etcd.Access, ClusterID: op.ID(p.Cluster), Limit: p.wait(), Watched: watched},
		&op.AwaitVersion{Access: f.Etcd.Access, Version: p.To, ClusterID: op.ID(p.Cluster), Others: p.Others,
			Steady: steady, Limit: p.wait(), Watched: watched})
	if f.Ready {
		ops = append(ops, &op.AwaitAPIServer{API: f.API, Limit: p.wait(),
			Watched: observe.Watched(f.Manifests, "kube-apiserver")})
	}
	return ops
}

// steady is until when etcd does not count a member as healthy.
const steady = justStarted * time.Second

// onlyHere says whether this node's API server is away while its etcd is.
func (f *Facts) onlyHere() bool {
	m, container, ok := observe.Program(f.Manifests, "kube-apiserver")
	if !ok {
		return false
	}
	return !slices.ContainsFunc(observe.EtcdServers(m, container), func(u string) bool { return !observe.OnlyHere(u) })
}

func (p Part) verifyVersions() phase {
	return phase{Name: "verify-versions",
		Short: "see that the version of the cluster, and of all members' data, has risen",
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			to, ok := parse(p.To)
			if !p.Rises || f.Etcd == nil || !ok {
				return nil, nil
			}
			return []op.Op{&op.AwaitClusterVersion{Access: f.Etcd.Access, Version: to.line() + ".0",
				Limit: p.wait()}}, nil
		}}
}

// How long an API server may take to say what kubeadm's ClusterConfiguration has: one that was
// ready is waited for.
const (
	tagSoon = 5 * time.Second
	tagLate = 30 * time.Second
)

func (p Part) setTag() phase {
	return phase{Name: "set-kubeadm-tag",
		Short: "bring kubeadm's imageTag of etcd in line, so that its next upgrade does not undo this one",
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			if p.Tag == "" {
				return nil, nil
			}
			limit := tagSoon
			if f.Ready {
				limit = tagLate
			}
			return []op.Op{&op.SetImageTag{API: f.API, Tag: p.Tag, Limit: limit}}, nil
		}}
}

// render makes the manifest that this node is to have.
func (f *Facts) render() error {
	p := f.Part
	f.After, f.Change = nil, ""
	if p.Image == "" {
		return nil
	}
	edited, change, err := rewritten(f.Etcd, p.Image, p.From, minorText(p.To))
	if err != nil {
		return err
	}
	if string(edited.Bytes()) == string(f.Etcd.File.Data) {
		return engine.Refuse("restart the kubelet there, so that it reads the manifest: `systemctl restart kubelet`",
			"%s says already %s, and another etcd runs", f.Etcd.File.Path, change)
	}
	after := *f.Etcd
	after.File.Manifest, after.File.Data, after.Image = edited, edited.Bytes(), p.Image
	f.After, f.Change = &after, change
	return nil
}

func minorText(version string) string {
	v, _ := parse(version)
	return v.line()
}
