package backup

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// Options are the options of `backup`. Exactly one of File and Dir is set. Paths given as flag
// values are host paths; File is a path of this process.
type Options struct {
	File        string // of the snapshot; FILE.json is written beside it
	Dir         string // a directory; the name is etcd-<node>-<UTC>-r<revision>.db
	Keep        int    // with Dir: how many of this node's backups to keep; 0: all
	FromDataDir string // the data of a stopped member, instead of a running etcd
	FromWALDir  string
	UpToHole    bool // of FromDataDir, take what stands before raft entries that are missing
	// The directory may be one that others may write to, and so replace what is in it.
	SharedDir bool
	// Public keys, or absolute paths of files of them: only their owners can read the backup. None:
	// the backup is the snapshot itself.
	EncryptTo []string
	SignKey   string // host path; empty: the one for this, or the host's, if there is one
	Compress  bool   // without encryption, too
	// URLs of the targets that it is sent to. Away: it is kept there only, and Dir is where it is
	// made.
	To    []string
	Away  bool
	Rules KeepRules // which backups of this node stay in the targets; none: all

	draft *op.Draft
}

// Workflow is the workflow that takes a proven snapshot. It changes nothing on the node, so it may
// run while another run is open.
func Workflow(o Options) workflow {
	o.draft = op.NewDraft()
	w := workflow{Name: "backup", Unjournaled: true, Options: o.check, Observe: o.observe, Phases: []phase{
		o.preflight(),
		o.snapshot(),
		o.verifySnapshot(),
		o.seal(), // only where it is
		o.ship(),
		o.keep(),
	}}
	if len(o.To) == 0 {
		w.Phases = slices.DeleteFunc(w.Phases, func(p phase) bool { return p.Name == "ship" })
	}
	if !o.seals() {
		w.Phases = slices.DeleteFunc(w.Phases, func(p phase) bool { return p.Name == "seal" })
	}
	return w
}

type (
	phase = engine.Phase[*Facts]
	// workflow takes a proven snapshot.
	workflow = engine.Workflow[*observe.Node, *Facts]
)

// Facts are what a backup depends on.
type Facts struct {
	*observe.Facts
	Backup    *Place
	Access    op.Access          // to the etcd that the snapshot is taken of
	Sealing   *Sealing           // nil: the backup is the snapshot itself
	Agreement *observe.Agreement // nil: there is nothing to compare
	NoData    bool               // etcd's directory holds none
	LogAlone  bool               // it holds a log, and no db
	Departed  *observe.Departure // why no etcd runs here any more; nil: not known, or one does
	// What a person has given, and nothing shows to be of this node's cluster: the data in a
	// directory, or the etcd at a URL. Empty: it is.
	Another string
}

// Made is a backup that was taken, and what is wrong with it although it is good.
type Made struct {
	Result
	Findings []finding.Finding
}

// Result is what `backup` writes of it.
type Result struct {
	Sidecar
	Targets []Shipped `json:"targets,omitempty"` // that it was sent to
}

// Where are the places that hold it: its path on the node, and its URLs in targets.
func (r Result) Where() []string {
	all := []string{r.Path} // where only targets have it, its URL in one of them
	for _, to := range r.Targets {
		if to.Proven && to.URL() != r.Path {
			all = append(all, to.URL())
		}
	}
	return all
}

// Shipped is what became of a backup on its way to a target.
type Shipped = op.Shipped

// Grave are the findings that somebody must look into, although the backup is good.
func (m Made) Grave() []finding.Finding {
	return slices.DeleteFunc(slices.Clone(m.Findings), func(f finding.Finding) bool {
		return f.Code != finding.MembersDiffer && f.Code != finding.EtcdFellBack && f.Code != finding.EtcdAlarm &&
			f.Code != finding.BackupNotSent
	})
}

// Take takes a backup. confirm sees the plan; if it returns an error, the command ends.
func Take(ctx context.Context, n *engine.Node, w engine.Work, confirm func(engine.Plan) error) (Made, error) {
	var kept interface {
		Made() Sidecar
		Shipped() []Shipped
	}
	var wrong []finding.Finding
	err := n.Do(ctx, w, func(p engine.Plan) error {
		for _, phase := range p.Phases {
			wrong = append(wrong, phase.Findings...)
			for _, o := range phase.Ops() {
				switch o := o.(type) {
				case *op.KeepBackup:
					kept = o
				case *op.EndBackup:
					kept = o
				}
			}
		}
		return confirm(p)
	})
	if err != nil {
		return Made{}, err
	}
	made := kept.Made()
	for _, to := range kept.Shipped() {
		switch {
		case !to.Proven:
			wrong = append(wrong, finding.New(finding.BackupNotSent, to.Target, "this backup is not in %s: %s",
				to.Target, to.Error))
		case !path.IsAbs(made.Path) && !IsTarget(made.Path): // it is nowhere on the node
			made.Path = to.URL()
		}
	}
	return Made{Result{made, kept.Shipped()}, wrong}, nil
}

// check refuses options that make no sense.
func (o Options) check() error {
	switch {
	case o.File != "" && o.Dir != "":
		return &engine.UsageError{Reason: "a backup goes to a FILE or into a --dir, not both"}
	case o.Keep < 0:
		return &engine.UsageError{Reason: "--keep needs a number of backups, 1 or more"}
	case o.Keep > 0 && o.File != "":
		return &engine.UsageError{Reason: "--keep works on a --dir, not on a FILE"}
	case o.FromWALDir != "" && o.FromDataDir == "":
		return &engine.UsageError{Reason: "--from-wal-dir needs --from-data-dir"}
	case o.UpToHole && o.FromDataDir == "":
		return &engine.UsageError{Reason: "--up-to-hole needs --from-data-dir"}
	}
	return cmp.Or(o.checkTargets(), o.checkSealing(), CheckDir(o.Dir))
}

// CheckDir refuses a --dir of which nobody knows what it is below; an empty one is none.
func CheckDir(dir string) error {
	if dir == "" || path.IsAbs(dir) {
		return nil
	}
	return &engine.UsageError{Reason: fmt.Sprintf("--dir must be an absolute path, not %s", dir)}
}

func (o Options) observe(ctx context.Context, n *observe.Node, id string) (*Facts, error) {
	if _, err := recipients(n.FS, o.EncryptTo); err != nil { // before anything is read
		return nil, err
	}
	seen := n.ObserveAround(ctx, id)
	f := &Facts{Facts: seen}
	if o.FromDataDir == "" {
		f.reach(ctx, n)
		if f.Etcd == nil && f.EtcdError == nil && f.ManifestsError == nil {
			f.Departed = n.Departed(ctx, f.Manifests, true)
		}
	}
	f.NoData = f.Etcd != nil && n.NoData(f.Etcd)
	f.LogAlone = f.Etcd != nil && n.LogAlone(f.Etcd) != nil
	var err error
	if f.Backup, err = o.place(n, seen); err != nil {
		return nil, err
	}
	if f.Sealing, err = o.sealing(n, seen, f.Backup); err != nil {
		return nil, err
	}
	switch {
	case o.FromDataDir != "":
		d, err := n.InspectNamed(ctx, o.FromDataDir, o.FromWALDir, o.UpToHole)
		if err != nil {
			return nil, fmt.Errorf("cannot take a backup of the data directory %s: %w", o.FromDataDir, err)
		}
		f.Backup.Cluster = fmt.Sprintf("%x", d.ClusterID)
		f.whoseData(n, o.FromDataDir, observe.StoppedOf(d), observe.PublishedCAs(d.Contents))
		f.Backup.Need, f.Backup.Caveats = d.Contents.SizeBytes, d.Caveats()
		f.Backup.Copied = Copied(n, seen, o.FromDataDir, d.Pending())
		f.Backup.Since = Since(n, f.Backup.Cluster)
	case f.Live != nil:
		f.Backup.Need = f.Live.SizeBytes
		f.Agreement = n.Agree(ctx, f.Access, f.Live, false)
		f.lookBack(ctx, n)
	}
	return f, nil
}

// reach finds the etcd to take a snapshot of. An etcd that answers is healthy enough for that,
// without a quorum, and whatever is wrong with the manifest that started it.
func (f *Facts) reach(ctx context.Context, n *observe.Node) {
	if f.Etcd != nil {
		f.Access = f.Etcd.Access
	} else {
		f.Access, _ = n.AsClient(f.Manifests)
	}
	if f.Live == nil && len(f.Access.Endpoints) > 0 {
		own, err := n.OwnLive(ctx, f.Access)
		if f.Live = own; f.Etcd == nil {
			f.LiveError = err
		}
	}
	if f.Live == nil {
		return
	}
	name := observe.NameOf(f.Live.Members, f.Live.MemberID)
	if f.Etcd == nil {
		f.Node = cmp.Or(name, f.Node)
	}
	if !n.OwnAnswers(f.Facts) {
		f.another("the etcd at "+strings.Join(f.Access.Endpoints, ", "), name)
	}
}

func (o Options) preflight() phase {
	checks := []func(*Facts) error{o.checkEtcd, o.checkPlace, o.checkTaken, o.checkRoom}
	return phase{Name: "preflight", Short: "check everything first, and claim a place for the backup",
		Findings: o.notes,
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			if err := engine.Passes(f, checks...); err != nil {
				return nil, err
			}
			ops := o.reaching()
			for _, dir := range f.Backup.Missing {
				ops = append(ops, &op.MakeDirectory{Path: dir, Attr: node.Mine(0o700)})
			}
			return append(ops, o.opening(f)), nil
		}}
}

// opening claims a place for the backup.
func (o Options) opening(f *Facts) *op.OpenBackup {
	if f.Sealing != nil {
		o.draft.Seal(f.Sealing.Sealing)
	}
	known := Sidecar{Node: f.Node, ClusterID: f.Backup.Cluster, Fingerprints: f.Fingerprints,
		Behind: f.Backup.Behind}
	if f.Agreement != nil {
		known.Differ = f.Agreement.Differ
	}
	return &op.OpenBackup{Workspace: o.workspace(f), Sidecar: known, At: f.Backup.At,
		Shared: o.SharedDir, Records: journal.Home, Note: strings.Join(finding.Texts(o.notes(f)), "; ")}
}

// leftOut names the etcds of this node that are not in the backup.
func (o Options) leftOut(f *Facts) (said []finding.Finding) {
	if o.FromDataDir != "" || f.Another != "" {
		return nil
	}
	for _, m := range observe.OtherEtcds(f.Manifests) {
		said = append(said, finding.New(finding.EtcdAnother, m.Path,
			"%s runs another etcd, %s: this backup does not include it", m.Path, m.PodName()))
	}
	return said
}

// unexplained says what is wrong with the manifest of an etcd that answers.
func (o Options) unexplained(f *Facts) []finding.Finding {
	at := strings.Join(f.Access.Endpoints, ", ")
	switch {
	case o.FromDataDir != "" || f.Etcd != nil || f.Live == nil:
		return nil
	case f.ManifestsError != nil:
		return []finding.Finding{finding.New(finding.ManifestDirUnreadable, f.ManifestDir,
			"%v. The etcd that answers at %s is backed up; what starts it is not known", f.ManifestsError, at)}
	case f.EtcdError == nil && !observe.OnThisHost(f.Access.Endpoints):
		return nil // a person has named an etcd of another machine
	case f.EtcdError != nil:
		return []finding.Finding{finding.New(finding.EtcdManifestUnusable, f.ManifestDir,
			"%v. The etcd that answers at %s is backed up; it may not start again", f.EtcdError, at)}
	}
	if f.Departed != nil {
		return []finding.Finding{finding.New(finding.EtcdDeparted, f.ManifestDir,
			"no etcd runs on this node any more: %s. The etcd that answers at %s is backed up", f.Departed, at)}
	}
	return []finding.Finding{finding.New(finding.EtcdManifestMissing, f.ManifestDir,
		"no manifest in %s runs etcd. The etcd that answers at %s is backed up; what starts it is not known",
		f.ManifestDir, at)}
}

func (o Options) workspace(f *Facts) op.Workspace {
	w := op.Workspace{Dir: f.Backup.Dir, Run: f.Run, Draft: o.draft}
	if f.Sealing != nil {
		w.Plain = journal.Home
	}
	return w
}

// notes are what a person should know beforehand.
func (o Options) notes(f *Facts) []finding.Finding {
	var notes []finding.Finding
	if !o.Away {
		notes = f.Backup.notes()
	}
	notes = append(append(append(notes, f.Sealing.notes()...), o.sentPlain()...), o.leftOut(f)...)
	if err := f.FingerprintsError; err != nil && f.Another == "" {
		notes = append(notes, finding.New(finding.CertificateUnreadable, "", "%v: a restore of this backup cannot be "+
			"compared with what belongs there", err))
	}
	notes = append(append(notes, o.unexplained(f)...), f.ofAnother()...)
	if o.FromDataDir == "" && f.Live != nil && f.LiveError != nil {
		notes = append(notes, finding.New(finding.EtcdNoQuorum, f.Node, "etcd answers, but does not serve: %v. The "+
			"backup holds what this member has; members that serve without it may hold more", f.LiveError))
	}
	if b := f.Backup.Behind; b != nil {
		notes = append(notes, FellBack(Present(f.Facts), *b))
	}
	notes = append(notes, o.corrupt(f)...)
	if f.Agreement == nil {
		return notes
	}
	if differ := f.Agreement.Differ; len(differ) > 0 {
		notes = append(notes, Differing(differ))
	}
	for _, why := range f.Agreement.Unasked {
		notes = append(notes, NotCompared(why))
	}
	if why := f.Agreement.TooLarge; why != "" {
		notes = append(notes, NotCompared(why))
	}
	return notes
}

// NotCompared says why members could not be compared.
func NotCompared(why string) finding.Finding {
	return finding.New(finding.MembersUncompared, "", "could not check whether all members hold the same data: %s", why)
}

// Differing says that members of a cluster do not hold the same.
func Differing(members []string) finding.Finding {
	all := strings.Join(members, ", ")
	return finding.New(finding.MembersDiffer, all,
		"the members of the cluster do not hold the same data: %s differ from the others. etcd cannot tell which of "+
			"them is right: back up each one (`etcdpod backup` on its node) before anything else",
		all)
}

func (o Options) checkEtcd(f *Facts) error {
	if o.FromDataDir != "" {
		return nil // the data was examined, and no process uses it
	}
	if f.Etcd == nil && f.Live != nil {
		return nil
	}
	if f.ManifestsError != nil {
		return engine.WithHint(f.ManifestsError, cmp.Or(engine.Hint(f.ManifestsError), "look at that directory")+
			"; or, if etcd runs, say with --endpoints where it answers")
	}
	if f.EtcdError != nil {
		return engine.WithHint(f.EtcdError, cmp.Or(engine.Hint(f.EtcdError), "fix etcd's manifest")+
			"; or, if etcd runs, say with --endpoints where it answers")
	}
	if f.Etcd == nil {
		if f.OpenRun != "" {
			return engine.Refuse("run `etcdpod resume` or `etcdpod rollback` first",
				"no manifest in %s runs etcd while run %s is open", f.ManifestDir, f.OpenRun)
		}
		if f.Departed != nil {
			return engine.Refuse("run it on a node whose etcd serves; what was there before the removal can be saved "+
				"with --from-data-dir", "no etcd runs on this node any more: %s", f.Departed)
		}
		const hint = "if an etcd runs, say with --endpoints where it answers; of a stopped member, give the data " +
			"directory with --from-data-dir"
		if f.LiveError != nil {
			return &engine.UnreachableError{Suggestion: hint, Cause: f.LiveError,
				What: fmt.Sprintf("no manifest in %s runs etcd, and none answers", f.ManifestDir)}
		}
		return cmp.Or(f.CheckControlPlane(), engine.Refuse(hint, "no manifest in %s runs etcd", f.ManifestDir))
	}
	if f.Live != nil {
		return nil
	}
	var suggestion string
	switch {
	case f.DataInUse:
		suggestion = fmt.Sprintf("an etcd is using %s, so its files cannot be read: fix what keeps it from answering "+
			"(see `etcdpod status` and `etcdpod certs check`), or give a URL at which it answers with --endpoints",
			f.Etcd.DataDir)
	case f.NoData:
		suggestion = fmt.Sprintf("%s holds no data, either: `etcdpod status` says what to do", f.Etcd.DataDir)
	case f.LogAlone:
		suggestion = fmt.Sprintf("%s holds etcd's log, and no db: `etcdpod status` says what to do", f.Etcd.DataDir)
	default:
		suggestion = fmt.Sprintf("if that etcd has been stopped for good, run `etcdpod backup %s`",
			journal.FromDirs(f.Etcd.DataDir, f.Etcd.WALDir))
	}
	return &engine.UnreachableError{What: "cannot take a backup", Cause: f.LiveError, Suggestion: suggestion}
}

func (o Options) snapshot() phase {
	return phase{Name: "snapshot", Short: "take the snapshot, with the SHA-256 that etcd sends",
		Findings: caveats,
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			w := o.workspace(f)
			if o.FromDataDir != "" {
				return []op.Op{w.SnapshotDataDir(op.SnapshotDataDir{Dir: o.FromDataDir, WALDir: o.FromWALDir,
					UpToHole: o.UpToHole, Copied: f.Backup.Copied})}, nil
			}
			return []op.Op{&op.SaveSnapshot{Workspace: w, Access: f.Access}}, nil
		}}
}

// caveats are what a data directory may lack.
func caveats(f *Facts) (all []finding.Finding) {
	said := f.Backup.Caveats
	if f.Backup.Copied != "" {
		said = append(slices.Clone(said), f.Backup.Copied)
	}
	for _, s := range said {
		all = append(all, finding.New(finding.BackupIncomplete, "", "%s", s))
	}
	return all
}

func (o Options) verifySnapshot() phase {
	return phase{Name: "verify-snapshot", Short: "verify that the file is intact and is what etcd sent",
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			return []op.Op{&op.ProveBackup{Workspace: o.workspace(f)}}, nil
		}}
}

func (o Options) keep() phase {
	return phase{Name: "keep", Short: "give the backup its final name",
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			if o.Away {
				return []op.Op{&op.EndBackup{Workspace: o.workspace(f)}}, nil
			}
			return []op.Op{&op.KeepBackup{Workspace: o.workspace(f), File: f.Backup.File, Keep: o.Keep,
				Since: f.Backup.Since, Doubt: o.doubt(f), Another: f.Another != ""}}, nil
		}}
}
