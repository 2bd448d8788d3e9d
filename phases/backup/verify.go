package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/bind"
	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// Verdict is the result of `verify`.
type Verdict struct {
	Path string `json:"path"`
	OK   bool   `json:"ok"`
	// The check that failed.
	Check string `json:"check,omitempty" values:"file,length,trailer,meta,structure,keys,sidecar,sealed,signature"`
	// Where it failed, in bytes.
	Offset int64  `json:"offset,omitempty"`
	Reason string `json:"reason,omitempty"`

	SHA256          string           `json:"sha256,omitempty"`
	SizeBytes       int64            `json:"sizeBytes,omitempty"`
	Revision        int64            `json:"revision,omitempty"`
	CompactRevision int64            `json:"compactRevision,omitempty"`
	HashKV          uint32           `json:"hashKV,omitempty"`
	Keys            int64            `json:"keys,omitempty"`
	StorageVersion  string           `json:"storageVersion,omitempty"`
	Members         []observe.Member `json:"members,omitempty"`
	Resources       map[string]int64 `json:"resources,omitempty"`
	Quick           bool             `json:"quick,omitempty"`
	// How it is stored, if it is not the snapshot itself.
	Sealed  *SealedVerdict `json:"sealed,omitempty"`
	Seconds float64        `json:"seconds"`

	Findings []finding.Finding `json:"findings,omitempty"` // what is wrong with it, for programs

	bare bool
	next string
}

// VerifyOptions are the options of `verify`.
type VerifyOptions struct {
	Quick bool // stop after length, SHA-256 and meta pages
	Unsealing
}

// SealedVerdict is what was found of a sealed backup. Of what is inside the verdict tells.
type SealedVerdict struct {
	Encryption string   `json:"encryption" values:"age,"`
	Recipients []string `json:"recipients,omitempty"` // as its sidecar says
	SizeBytes  int64    `json:"sizeBytes,omitempty"`  // of the file
	SHA256     string   `json:"sha256,omitempty"`     // of the file
	Signature  string   `json:"signature" values:"trusted,untrusted,forged,missing"`
	SignedBy   string   `json:"signedBy,omitempty"` // name among the trusted keys, and fingerprint
	// What is inside was unsealed and verified, too. Only who has an identity can.
	Inside bool `json:"inside"`
}

// Next is what to do about a bad file, if there is more to do than to look for a better one.
func (v Verdict) Next() string {
	switch {
	case v.Sealed != nil:
		return v.next
	case v.Check == CheckSidecar:
		return WithoutSidecar(v.Path)
	case v.bare:
		return BareHint(v.Path, v.Path)
	}
	return ""
}

// CheckSidecar is the check that compares a snapshot with its sidecar; the others are snapfile's.
const CheckSidecar = "sidecar"

// Verify proves a snapshot good or says what is wrong with it. path is a path of this process; no
// node is needed. If FILE.json exists, the file must match it. Of an encrypted backup the inside is
// looked at with an identity only. A verdict, good or bad, is no error: an error says that the file
// could not be judged, and wraps fs.ErrPermission where this user may not read it.
func Verify(
	ctx context.Context, path string, o VerifyOptions, progress func(done, total int64),
) (Verdict, error) {
	began := time.Now()
	v := Verdict{Path: path, Quick: o.Quick}
	err := v.judge(ctx, o, progress)
	if err != nil {
		return v, err
	}
	if v.OK = v.Check == ""; !v.OK {
		v.Findings = []finding.Finding{finding.New(finding.SnapshotBad, v.Path,
			"%s is bad: %s", v.Path, v.Wrong())}
	}
	v.Seconds = time.Since(began).Seconds()
	return v, nil
}

func (v *Verdict) judge(ctx context.Context, o VerifyOptions, progress func(done, total int64)) error {
	abs, err := filepath.Abs(v.Path)
	if err != nil {
		return err
	}
	f, err := LookSealed(node.OS("/"), abs, o.Unsealing)
	if err != nil {
		return err
	}
	if f != nil {
		return v.unsealed(ctx, f, o, progress)
	}
	sidecar, unread := besides(v.Path)
	return v.snapshot(ctx, v.Path, sidecar, unread, progress)
}

// snapshot verifies the snapshot itself, in a file that may be another than the one named.
func (v *Verdict) snapshot(
	ctx context.Context, file string, sidecar *op.SidecarFile, unread error, progress func(done, total int64),
) error {
	r, err := snapfile.Check(ctx, file, snapfile.Options{Quick: v.Quick, Steps: StepsIn(sidecar), Progress: progress})
	var bad *snapfile.Bad
	switch {
	case err == nil && errors.Is(unread, fs.ErrPermission):
		return fmt.Errorf("cannot verify %s: %w", v.Path, unread)
	case errors.As(err, &bad):
		v.Check, v.Offset, v.Reason, v.bare = bad.Check, bad.Offset, bad.Reason, bad.Bare
	case err != nil:
		return fmt.Errorf("cannot verify %s: %w", v.Path, err)
	default:
		v.fill(r)
		if errors.As(Against(r, sidecar, unread, v.Quick), &bad) {
			v.Check, v.Reason = bad.Check, bad.Reason
		}
	}
	return nil
}

// unsealed verifies a sealed backup: who made it, what lies there, and with an identity what is
// inside.
func (v *Verdict) unsealed(
	ctx context.Context, f *SealedFile, o VerifyOptions, progress func(done, total int64),
) error {
	v.Sealed = &SealedVerdict{Signature: f.Signature.State, SignedBy: f.Signature.By}
	if f.Encrypted {
		v.Sealed.Encryption = "age"
	}
	if s := f.sealed(); s != nil {
		v.Sealed.Recipients, v.Sealed.SizeBytes, v.Sealed.SHA256 = s.Recipients, s.SizeBytes, s.SHA256
	}
	err := f.Bad(o.Unsigned)
	var refused *engine.RefusedError
	if errors.As(err, &refused) && f.Signature.State != SignedTrusted && !f.newer() {
		v.Check, v.Reason, v.next = CheckSignature, f.Signature.Reason, f.Signature.Hint()
		return nil
	}
	if err == nil && f.Encrypted && o.Identity == "" {
		err = f.Stored(ctx, progress)
		v.describe(f.Sidecar)
	} else if err == nil {
		err = v.inside(ctx, f, o, progress)
	}
	var bad *snapfile.Bad
	if errors.As(err, &bad) {
		v.Check, v.Offset, v.Reason = bad.Check, bad.Offset, bad.Reason
		return nil
	}
	return err
}

// inside unseals it, and verifies the snapshot.
func (v *Verdict) inside(
	ctx context.Context, f *SealedFile, o VerifyOptions, progress func(done, total int64),
) error {
	ids, err := f.Identities(o.Identity)
	if err != nil {
		return err
	}
	return f.InScratch(ctx, ids, progress, func(file string) error {
		v.Sealed.Inside = true
		return v.snapshot(ctx, file, f.Sidecar, nil, progress)
	})
}

// describe takes over what the sidecar says of what was not looked at.
func (v *Verdict) describe(s *op.SidecarFile) {
	if s != nil {
		v.SHA256, v.SizeBytes, v.Revision, v.Keys = s.SHA256, s.SizeBytes, s.Revision, s.Keys
	}
}

// Wrong says what is wrong with the file: which check failed and where, if there was something to
// check.
func (v Verdict) Wrong() string {
	switch {
	case v.Check == snapfile.CheckFile:
		return strings.TrimPrefix(v.Reason, v.Path+": ")
	case v.Offset == 0: // the file as a whole
		return fmt.Sprintf("%s check: %s", v.Check, v.Reason)
	}
	return fmt.Sprintf("%s check, at byte %d: %s", v.Check, v.Offset, v.Reason)
}

func (v *Verdict) fill(r *snapfile.Report) {
	v.SHA256, v.SizeBytes = r.SHA256, r.SizeBytes
	v.Revision, v.CompactRevision, v.HashKV, v.Keys = r.Revision, r.CompactRevision, r.HashKV, r.Keys
	v.StorageVersion, v.Resources = r.StorageVersion, r.Resources
	v.Members = bind.MembersOf(r.Members)
}

// besides reads the sidecar of a snapshot; nil if there is none.
func besides(path string) (*op.SidecarFile, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	return SidecarOf(node.OS("/"), abs)
}

// against says how a good snapshot differs from its sidecar; empty if it does not, or has no
// sidecar.
func against(r *snapfile.Report, s *op.SidecarFile, quick bool) string {
	switch {
	case s == nil:
	case s.SHA256 != r.SHA256:
		return fmt.Sprintf("its SHA-256 is %s, but its sidecar says %s: it is another snapshot", r.SHA256, s.SHA256)
	case !quick && s.Revision != r.Revision:
		return fmt.Sprintf("it is at revision %d, but its sidecar says %d", r.Revision, s.Revision)
	case !quick && s.HashKV != r.HashKV:
		return fmt.Sprintf("its HashKV is %d, but its sidecar says %d", r.HashKV, s.HashKV)
	}
	return ""
}
