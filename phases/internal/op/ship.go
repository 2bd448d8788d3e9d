package op

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/sealed"
)

// Shipped is what became of a backup on its way to a target. The JSON names are stable.
type Shipped struct {
	Target string `json:"target"` // its URL, without options
	Name   string `json:"name"`   // of the backup below it
	Proven bool   `json:"proven"` // it was read back, and is what was sent
	Error  string `json:"error,omitempty"`
}

// URL is where the backup is.
func (s Shipped) URL() string { return s.Target + "/" + s.Name }

// Shipped is what became of the backup, target by target.
func (d *Draft) Shipped() []Shipped { return d.shipped }

// ReachTargets looks whether targets can be reached, before anything is read of etcd.
type ReachTargets struct {
	repeated
	URLs []string `json:"urls"`
	// Alone says that the backup is kept nowhere else.
	Alone bool `json:"alone,omitempty"`
}

func (r *ReachTargets) String() string {
	if len(r.URLs) == 1 {
		return "reach " + plainURL(r.URLs[0])
	}
	return fmt.Sprintf("reach %d targets", len(r.URLs))
}

// plainURL is a URL without its options.
func plainURL(url string) string {
	url, _, _ = strings.Cut(url, "?")
	return url
}

// Do fails if none can be reached and the backup would be nowhere. One that cannot be reached now
// may be later: sending it there says what is wrong.
func (r *ReachTargets) Do(ctx context.Context, t *Target) error {
	var all []error
	for _, url := range r.URLs {
		if err := reach(ctx, t, url); err != nil {
			all = append(all, err)
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if r.Alone && len(all) == len(r.URLs) {
		return all[0]
	}
	return nil
}

func reach(ctx context.Context, t *Target, url string) error {
	store, err := t.Stores.Dial(ctx, url)
	if err != nil {
		return err
	}
	defer store.Close()
	for _, err := range store.List(ctx, "etcdpod-check-") {
		if err != nil {
			return err
		}
	}
	return nil
}

// ShipBackup sends the sealed backup to a target, and reads back what is there. Its sidecar comes
// last: without it, nothing counts. A target that fails does not make the backup fail: there may be
// another one, or a copy on the node.
type ShipBackup struct {
	repeated
	Workspace
	URL string `json:"url"`
	// Away says that the backup is kept in targets only, and so has no path on the node.
	Away bool `json:"away,omitempty"`
	// Rules say which of this node's backups stay in the target; none: all.
	Rules KeepRules `json:"rules,omitzero"`
	// As in [KeepBackup].
	Since time.Time `json:"since,omitzero"`
	Doubt string    `json:"doubt,omitempty"`
}

func (s *ShipBackup) String() string {
	text := fmt.Sprintf("send it to %s, and read it back; its sidecar last", plainURL(s.URL))
	if !s.Rules.None() {
		text += "; remove there what no rule keeps of this node's backups"
	}
	return text
}

func (s *ShipBackup) Do(ctx context.Context, t *Target) error {
	d := &s.sidecar
	base := BackupName(d.Sidecar)
	d.Sealed.Name, d.Path = base, base
	if !s.Away {
		d.Path = path.Join(s.Dir, base)
	}
	to := Shipped{Target: plainURL(s.URL), Name: path.Join(d.ClusterID, base)}
	err := s.ship(ctx, t, to.Name)
	if interrupted := ctx.Err(); interrupted != nil {
		return interrupted
	}
	if to.Proven = err == nil; err != nil {
		to.Error = err.Error()
		t.warn(finding.BackupNotSent, to.Target, "this backup is not in %s: %v", to.Target, err)
	}
	s.Draft.shipped = append(s.Draft.shipped, to)
	return nil
}

func (s *ShipBackup) ship(ctx context.Context, t *Target, name string) error {
	files, err := (&KeepBackup{Workspace: s.Workspace}).describe(s.sidecar)
	if err != nil {
		return err
	}
	store, err := t.Stores.Dial(ctx, s.URL)
	if err != nil {
		return err
	}
	defer store.Close()
	if err := s.sendStored(ctx, t, store, name); err != nil {
		return err
	}
	slices.Reverse(files) // the signature, then the sidecar
	for _, f := range files {
		if err := sendSmall(ctx, store, path.Join(path.Dir(name), path.Base(f.name)), f.data); err != nil {
			return err
		}
	}
	// The backup counts. What is left of others is no reason to say that it does not.
	if err := s.keepByRule(ctx, t, store, name); err != nil && ctx.Err() == nil {
		t.warn(finding.BackupCleanup, store.String(), "the backup in %s is good, but older ones could not be removed "+
			"there: %v", store, err)
	}
	if err := sweepUncounted(ctx, t, store, path.Dir(name), s.sidecar.Node); err != nil && ctx.Err() == nil {
		t.warn(finding.BackupCleanup, store.String(), "the backup in %s is good, but leftovers of interrupted ones "+
			"could not be removed there: %v", store, err)
	}
	return nil
}

// sendStored sends the sealed file, and holds what is read back against it.
func (s *ShipBackup) sendStored(ctx context.Context, t *Target, store Store, name string) error {
	want := sealed.Sum{SHA256: s.sidecar.Sealed.SHA256, Size: s.sidecar.Sealed.SizeBytes}
	from, err := t.Host.FS.Open(s.at(s.file(storedSuffix)))
	if err != nil {
		return s.readable(err)
	}
	defer from.Close()
	err = store.Put(ctx, name, &watched{ctx: ctx, src: from, total: want.Size, progress: t.progress})
	if err != nil && !errors.Is(err, ErrObjectExists) {
		return err
	}
	taken := err // it may be ours: an answer that was lost has it sent again
	r, err := store.Open(ctx, name)
	if err != nil {
		return errors.Join(taken, err)
	}
	defer r.Close()
	got, err := sealed.SumOf(&watched{ctx: ctx, src: r, total: want.Size, progress: t.progress})
	switch {
	case err != nil:
		return err
	case got == want:
		return nil
	case taken != nil:
		return taken
	}
	_ = store.Delete(context.WithoutCancel(ctx), name) // without a sidecar it counts for nothing
	return fmt.Errorf("%s does not return what was sent: %d bytes with the SHA-256 %s instead of %d bytes with %s",
		store, got.Size, got.SHA256, want.Size, want.SHA256)
}

// sendSmall sends a small file, and reads it back.
func sendSmall(ctx context.Context, store Store, name string, data []byte) error {
	err := store.Put(ctx, name, bytes.NewReader(data))
	if err != nil && !errors.Is(err, ErrObjectExists) {
		return err
	}
	taken := err
	got, err := readObject(ctx, store, name, mostSidecar)
	if err != nil {
		return errors.Join(taken, err)
	}
	if bytes.Equal(got, data) {
		return nil
	}
	if taken == nil { // it must not make the backup count
		_ = store.Delete(context.WithoutCancel(ctx), name)
		taken = fmt.Errorf("%s does not return what was sent as %s", store, name)
	}
	return taken
}

// readObject reads an object of at most so many bytes.
func readObject(ctx context.Context, store StoreReader, name string, most int64) ([]byte, error) {
	r, err := store.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("%s in %s is larger than any sidecar", name, store)
	}
	return data, err
}

// cutOffAfter is how long after its beginning a backup that does not count is taken for one that
// was cut off: another one of this node may be on its way.
const cutOffAfter = 24 * time.Hour

// sweepUncounted removes what backups of this node left in the target that were cut off.
func sweepUncounted(ctx context.Context, t *Target, store Store, dir, node string) error {
	prefix, before := path.Join(dir, "etcd-"+fileName(node)+"-"), t.Host.Clock.Now().Add(-cutOffAfter)
	if err := store.Sweep(ctx, prefix, before); err != nil {
		return err
	}
	there := map[string]bool{}
	var old []string
	for o, err := range store.List(ctx, prefix) {
		if err != nil {
			return err
		}
		there[o.Name] = true
		if o.Modified.Before(before) {
			old = append(old, o.Name)
		}
	}
	for _, name := range old {
		backup := strings.TrimSuffix(name, ".json.sig")
		if !isBackupOf(node, path.Base(backup)) || there[SidecarOf(backup)] {
			continue
		}
		// A list that is not whole must not cost a backup that counts.
		r, err := store.Open(ctx, SidecarOf(backup))
		if err == nil {
			err = r.Close()
		}
		if !errors.Is(err, ErrNoObject) {
			if err != nil {
				return err
			}
			continue
		}
		err = store.Delete(ctx, name)
		if err != nil && !errors.Is(err, ErrNoObject) && !errors.Is(err, ErrObjectLocked) {
			return err
		}
	}
	return nil
}

// EndBackup ends a backup that is kept in targets only: nothing of it stays on the node. It fails
// if none of them has it.
type EndBackup struct {
	repeated
	Workspace
}

func (e *EndBackup) String() string {
	return "remove the draft: the backup is kept in the targets only"
}

func (e *EndBackup) Do(_ context.Context, t *Target) error {
	var failed []string
	for _, to := range e.Draft.shipped {
		if to.Error != "" {
			failed = append(failed, to.Error)
		}
	}
	if len(failed) == len(e.Draft.shipped) {
		return fmt.Errorf("no target has the backup: %s", strings.Join(failed, "; "))
	}
	if err := e.close(t); err != nil {
		t.warn(finding.BackupCleanup, e.Dir, "the backup is good, but %v", err)
	}
	return nil
}
