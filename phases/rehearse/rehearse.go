package rehearse

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/etcdpod/etcdpod/phases/backup"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/bind"
	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// Options are what a person may ask of a rehearsal.
type Options struct {
	File    string        // the snapshot, or [Latest]
	Dir     string        // where the latest is (host path); empty: where backups are kept
	Scratch string        // where to restore (path of this process); empty: it is found
	Etcd    string        // the program to start (path of this process); empty: it is found
	Memory  int64         // bytes that etcd may have of its own
	Timeout time.Duration // for all of it
	Apart   []string      // arguments with which this program does what may end a process

	Unsealing backup.Unsealing // of a sealed backup; paths of this process
}

// The defaults.
const (
	DefaultMemory  = int64(1) << 30
	DefaultTimeout = 5 * time.Minute
	// LeastMemory is what any etcd needs.
	LeastMemory = int64(128) << 20
)

// Check refuses what makes no sense by itself.
func (o Options) Check() error {
	switch {
	case o.Memory < LeastMemory:
		return &engine.UsageError{Reason: fmt.Sprintf("--memory must be %s at least: no etcd starts with less",
			engine.Size(LeastMemory))}
	case o.Timeout <= 0:
		return &engine.UsageError{Reason: "--timeout must be longer than nothing"}
	}
	return nil
}

// rehearsal is one that is under way.
type rehearsal struct {
	Options
	look   *observe.Node
	target *op.Target
	facts  *observe.Facts
	source *source
	*Report
}

// errLong ends a rehearsal that takes too long.
var errLong = errors.New("it takes too long")

// Rehearse rehearses a restore. What came out is a report; an error says that there was no
// rehearsal, or that it failed, and comes with what is known by then. Whatever happens, neither the
// etcd nor a file of it is left when it returns.
func Rehearse(ctx context.Context, n *engine.Node, look *observe.Node, o Options) (*Report, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeoutCause(ctx, o.Timeout, errLong)
	defer cancel()
	began := time.Now()
	r := &rehearsal{Options: o, look: look, target: n.Target(), source: &source{},
		Report: &Report{At: look.Clock.Now().UTC(), Resources: map[string]int64{}}}
	err := r.all(limited)
	if errors.Is(context.Cause(limited), errLong) && err != nil && !engine.IsBadSnapshot(err) {
		err = engine.WithHint(fmt.Errorf("the rehearsal was ended after %s: %w", o.Timeout, err),
			"give it more time with --timeout, or rehearse on a faster machine")
	}
	r.source.describe(r.Report)
	r.Seconds = time.Since(began).Seconds()
	if !r.ends(ctx, err) || !r.keeps() {
		return r.Report, err
	}
	return r.Report, errors.Join(err, r.keep())
}

// ends gives it its outcome; false: it was refused or interrupted, and so there was none.
func (r *rehearsal) ends(ctx context.Context, err error) bool {
	var refused *engine.RefusedError
	var usage *engine.UsageError
	var bad *snapfile.Bad
	switch {
	case errors.As(err, &refused), errors.As(err, &usage), err != nil && ctx.Err() != nil,
		errors.As(err, &bad) && bad.Check == snapfile.CheckFile: // there is no such file
		return false
	case engine.IsBadSnapshot(err):
		r.Outcome, r.Why = Bad, err.Error()
	case err != nil:
		r.Outcome, r.Why = Failed, err.Error()
	case len(r.Grave()) > 0:
		r.Outcome = Found
	default:
		r.Outcome = OK
	}
	return true
}

func (r *rehearsal) all(ctx context.Context) (err error) {
	r.facts = r.observe(ctx)
	in, err := r.scratchIn()
	if err != nil {
		return err
	}
	program, err := r.program(ctx)
	if err != nil {
		return err
	}
	defer program.close()
	return r.take(ctx, func() error { return r.restored(ctx, in, program) })
}

// restored restores the proven snapshot, and looks at what etcd makes of it.
func (r *rehearsal) restored(ctx context.Context, in string, program *program) (err error) {
	if err := r.checkRelease(program); err != nil {
		return err
	}
	if err := r.checkRoom(in); err != nil {
		return err
	}
	if err := r.checkMemory(); err != nil {
		return err
	}
	scratch, err := op.OpenScratch(ctx, r.target, in)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, scratch.Close(r.target)) }()
	if err := r.stage(ctx, scratch); err != nil {
		return err
	}
	return r.boot(ctx, scratch, program)
}

// observe looks at this node's files, as far as there are any and this user may read them.
func (r *rehearsal) observe(ctx context.Context) *observe.Facts {
	n := r.look
	f := &observe.Facts{Now: n.Clock.Now().UTC(), ManifestDir: n.Config.StaticPodPath}
	f.Manifests, f.ManifestsError = n.Manifests(ctx, f.ManifestDir)
	f.Etcd, f.EtcdError = n.EtcdPod(f.Manifests)
	f.Node = n.NameOf(f.Etcd)
	f.Fingerprints, f.FingerprintsError = n.Fingerprints(f)
	return f
}

// stage restores the snapshot as restore does, but for the revision, which is not raised: what etcd
// serves is to be compared with the file.
func (r *rehearsal) stage(ctx context.Context, scratch *op.Scratch) error {
	began, file := time.Now(), r.source
	err := bind.StagePrivate(ctx, r.Apart, r.look.FS.Real(scratch.Dir), rand.Text(), file.real, file.report.SHA256,
		func(done, total int64) { r.tell("stage", "restore "+file.path+" in "+scratch.Dir, done, total) })
	r.StageSeconds = time.Since(began).Seconds()
	return err
}

// keeps says whether the result is kept: on a node, by who may.
func (r *rehearsal) keeps() bool { return os.Geteuid() == 0 || r.look.FS.Real("/") != "/" }

// tell reports progress.
func (r *rehearsal) tell(phase, what string, done, total int64) {
	r.look.Emit(engine.Event{Time: r.look.Clock.Now().UTC(), Node: r.facts.Node, Phase: phase, Operation: what,
		State: engine.Progressed, Done: done, Total: total})
}

// scratchIn is the directory in which the scratch directory is made: that of etcdpod on a node, and
// elsewhere one for what is larger than a memory may hold.
func (r *rehearsal) scratchIn() (string, error) {
	in := r.Scratch
	switch {
	case in != "":
		host, err := r.look.HostPath(in)
		if err != nil {
			return "", err
		}
		in = host
	case r.keeps():
		if err := op.MakeHome(r.target, journal.Home); err != nil {
			return "", err
		}
		in = journal.Home
	default:
		in = "/var/tmp"
		if dir := os.Getenv("TMPDIR"); dir != "" {
			in = dir
		}
	}
	return in, r.checkPlace(in)
}
