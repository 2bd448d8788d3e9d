package rehearse

import (
	"context"
	"errors"

	"github.com/etcdpod/etcdpod/phases/backup"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// Latest stands for the newest backup in place of a file.
const Latest = "latest"

// source is a snapshot that was proven.
type source struct {
	path    string // host path
	real    string // that of this machine
	sidecar *op.SidecarFile
	report  *snapfile.Report
}

// take finds the snapshot and proves it, and has then go on with it. This is the one place that
// knows where snapshots come from: all that follows takes a plain file. What was sealed is in one
// without a name, for as long as then takes.
func (r *rehearsal) take(ctx context.Context, then func() error) error {
	s := &source{}
	r.source = s
	var err error
	if r.File == Latest {
		s.path, err = r.latest(ctx)
	} else {
		s.path, err = r.look.HostPath(r.File)
	}
	if err != nil {
		return err
	}
	u, err := r.Unsealing.OnHost(r.look)
	if err != nil {
		return err
	}
	sealed, err := backup.LookSealed(r.look.FS, s.path, u)
	if err != nil {
		return err
	}
	if sealed != nil {
		return r.unseal(ctx, sealed, u, then)
	}
	s.real = r.look.FS.Real(s.path)
	var unread error
	s.sidecar, unread = backup.SidecarOf(r.look.FS, s.path)
	if err := r.prove(ctx, unread); err != nil {
		return err
	}
	return then()
}

// unseal is take for a sealed backup.
func (r *rehearsal) unseal(
	ctx context.Context, sealed *backup.SealedFile, u backup.Unsealing, then func() error,
) error {
	if err := sealed.Bad(u.Unsigned); err != nil {
		return err
	}
	ids, err := sealed.Identities(u.Identity)
	if err != nil {
		return err
	}
	r.source.sidecar = sealed.Sidecar
	return sealed.InScratch(ctx, ids, func(done, total int64) {
		r.tell("unseal", "unseal "+r.source.path, done, total)
	}, func(file string) error {
		r.source.real = file
		if err := r.prove(ctx, nil); err != nil {
			return err
		}
		return then()
	})
}

// prove verifies the snapshot, and holds it against its sidecar.
func (r *rehearsal) prove(ctx context.Context, unread error) (err error) {
	s := r.source
	s.report, err = snapfile.Check(ctx, s.real, snapfile.Options{Steps: backup.StepsIn(s.sidecar),
		Progress: func(done, total int64) { r.tell("verify-snapshot", "verify "+s.path, done, total) }})
	if bare := (*snapfile.Bad)(nil); errors.As(err, &bare) && bare.Bare {
		return engine.WithHint(err, "a rehearsal needs a snapshot as `etcdpod backup` makes it; "+
			backup.BareHint(s.path, s.real))
	}
	if err != nil {
		return err
	}
	if err := backup.Against(s.report, s.sidecar, unread, false); err != nil {
		return engine.WithHint(err, backup.WithoutSidecar(s.path))
	}
	return nil
}

// latest is the newest backup: of this node, where it has an etcd and one is of it.
func (r *rehearsal) latest(ctx context.Context) (string, error) {
	l, err := backup.List(ctx, r.look, r.Dir)
	if err != nil && len(l.Entries) == 0 {
		return "", err
	}
	newest := func(is func(backup.Entry) bool) string {
		for _, e := range l.Entries {
			if (e.Whole || e.Code == finding.SidecarMissing) && is(e) {
				return e.Path
			}
		}
		return ""
	}
	own := newest(func(e backup.Entry) bool {
		return r.facts.Etcd != nil && e.Node == r.facts.Node && !e.Ahead(r.facts.Now)
	})
	if own == "" {
		own = newest(func(e backup.Entry) bool { return !e.Ahead(r.facts.Now) })
	}
	if own == "" {
		return "", engine.WithHint(&snapfile.Bad{Check: snapfile.CheckFile, Reason: "there is no whole backup in " +
			l.In()}, "take one with `etcdpod backup`, give the directory with the backups (--dir DIR), or a file")
	}
	return own, nil
}

// describe has the report say what is rehearsed.
func (s *source) describe(to *Report) {
	to.Path = s.path
	if s.sidecar != nil {
		to.Node, to.TakenAt, to.ClusterID = s.sidecar.Node, s.sidecar.TakenAt, s.sidecar.ClusterID
	}
	if c := s.report; c != nil {
		to.SHA256, to.SizeBytes = c.SHA256, c.SizeBytes
		to.Revision, to.CompactRevision = c.Revision, c.CompactRevision
	}
}

// release is the release of etcd that the data is of, as far as something tells.
func (s *source) release() string {
	all := []string{s.report.StorageVersion, s.report.ClusterVersion}
	if s.sidecar != nil {
		all = append([]string{s.sidecar.EtcdVersion}, all...)
	}
	for _, version := range all {
		if observe.EtcdMinor(version) > 0 {
			return version
		}
	}
	return ""
}
