package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

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
	Check string `json:"check,omitempty" values:"file,length,trailer,meta,structure,keys,sidecar"`
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
	Seconds         float64          `json:"seconds"`

	Findings []finding.Finding `json:"findings,omitempty"` // what is wrong with it, for programs

	bare bool
}

// Next is what to do about a bad file, if there is more to do than to look for a better one.
func (v Verdict) Next() string {
	switch {
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
// node is needed. quick stops after length, SHA-256 and meta pages. If FILE.json exists, the file
// must match it. A verdict, good or bad, is no error: an error says that the file could not be
// judged, and wraps fs.ErrPermission where this user may not read it.
func Verify(ctx context.Context, path string, quick bool, progress func(done, total int64)) (Verdict, error) {
	began := time.Now()
	v := Verdict{Path: path, Quick: quick}
	sidecar, unread := besides(path)
	r, err := snapfile.Check(ctx, path, snapfile.Options{Quick: quick, Steps: StepsIn(sidecar), Progress: progress})
	var bad *snapfile.Bad
	switch {
	case err == nil && errors.Is(unread, fs.ErrPermission):
		return v, fmt.Errorf("cannot verify %s: %w", path, unread)
	case errors.As(err, &bad):
		v.Check, v.Offset, v.Reason, v.bare = bad.Check, bad.Offset, bad.Reason, bad.Bare
	case err != nil:
		return v, fmt.Errorf("cannot verify %s: %w", path, err)
	default:
		v.fill(r)
		if errors.As(Against(r, sidecar, unread, quick), &bad) {
			v.Check, v.Reason = bad.Check, bad.Reason
		}
		v.OK = v.Check == ""
	}
	if !v.OK {
		v.Findings = []finding.Finding{finding.New(finding.SnapshotBad, v.Path,
			"%s is bad: %s", v.Path, v.Wrong())}
	}
	v.Seconds = time.Since(began).Seconds()
	return v, nil
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
