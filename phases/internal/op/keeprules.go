package op

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/sealed"
)

// KeepRules say which backups stay. A backup stays for each rule that wants it; what none wants may
// go.
type KeepRules struct {
	Last int `json:"last,omitempty"` // the newest
	// The newest of each of so many hours, days, weeks or months that have any. They are those of
	// UTC, and weeks begin on Monday.
	Hourly  int           `json:"hourly,omitempty"`
	Daily   int           `json:"daily,omitempty"`
	Weekly  int           `json:"weekly,omitempty"`
	Monthly int           `json:"monthly,omitempty"`
	Within  time.Duration `json:"within,omitempty"` // all that are so much older than the newest
}

// None says that there is no rule, and so everything stays.
func (r KeepRules) None() bool { return r == KeepRules{} }

// Why says for each backup, by its time, for which reasons it stays; none: it may go. The newest
// stays always. One that is dated in the future does, too, and takes no place: its age is not
// known.
func (r KeepRules) Why(taken []time.Time, now time.Time) [][]string {
	why := make([][]string, len(taken))
	var order []int
	for i, at := range taken {
		if (Sidecar{TakenAt: at}).Ahead(now) {
			why[i] = []string{"dated in the future"}
			continue
		}
		order = append(order, i)
	}
	slices.SortStableFunc(order, func(a, b int) int { return taken[b].Compare(taken[a]) })
	if len(order) == 0 {
		return why
	}
	newest := taken[order[0]]
	why[order[0]] = []string{"the newest"}
	for place, i := range order {
		if place < r.Last {
			why[i] = append(why[i], "last")
		}
		if r.Within > 0 && newest.Sub(taken[i]) <= r.Within {
			why[i] = append(why[i], "within")
		}
	}
	for _, period := range []struct {
		name string
		of   func(time.Time) string
		most int
	}{
		{"hourly", func(t time.Time) string { return t.Format("2006-01-02T15") }, r.Hourly},
		{"daily", func(t time.Time) string { return t.Format(time.DateOnly) }, r.Daily},
		{"weekly", func(t time.Time) string { y, w := t.ISOWeek(); return fmt.Sprint(y, "w", w) }, r.Weekly},
		{"monthly", func(t time.Time) string { return t.Format("2006-01") }, r.Monthly},
	} {
		seen := map[string]bool{}
		for _, i := range order {
			in := period.of(taken[i].UTC())
			if !seen[in] && len(seen) < period.most {
				seen[in] = true
				why[i] = append(why[i], period.name)
			}
		}
	}
	return why
}

// keepByRule deletes from a target what no rule keeps of this node's backups. Only those count that
// are whole by their sidecars, and, where this node signs, that it has signed.
func (s *ShipBackup) keepByRule(ctx context.Context, t *Target, store Store, newest string) error {
	if s.Rules.None() || s.sidecar.Behind != nil { // the plan has said it
		return nil
	}
	all, names, err := s.counted(ctx, store, path.Dir(newest))
	if err != nil {
		return err
	}
	if s.Doubt != "" {
		t.warn(finding.BackupCleanup, store.String(), "%s: no older backup is deleted in %s", s.Doubt, store)
		return nil
	}
	now := s.sidecar.Sidecar
	if b := FellBack(now, all, s.Since, t.Host.FS); b != nil {
		t.warn(finding.EtcdFellBack, b.Path, "%s is at revision %d, and this backup at revision %d: no older backup "+
			"is deleted in %s", b.Path, b.Revision, now.Revision, store)
		return nil
	}
	if !slices.Contains(names, newest) { // such a list is not to be believed
		return fmt.Errorf("%s does not list the backup that was just sent there", store)
	}
	var taken []time.Time
	for _, one := range all {
		taken = append(taken, one.TakenAt)
	}
	for i, why := range s.Rules.Why(taken, t.Host.Clock.Now()) {
		if len(why) > 0 || names[i] == newest {
			continue
		}
		err := deleteBackup(ctx, store, names[i])
		if errors.Is(err, ErrObjectLocked) {
			t.report("%s stays in %s, which keeps it locked", names[i], store)
			continue
		}
		if err != nil {
			return err
		}
		t.report("removed the old backup %s from %s", names[i], store)
	}
	return nil
}

// counted are the backups of this node in its cluster's directory that count.
func (s *ShipBackup) counted(ctx context.Context, store Store, dir string) (all []Sidecar, names []string, err error) {
	node := s.sidecar.Node
	sizes := map[string]int64{}
	for o, err := range store.List(ctx, path.Join(dir, "etcd-"+fileName(node)+"-")) {
		if err != nil {
			return nil, nil, err
		}
		sizes[o.Name] = o.Size
	}
	for name, size := range sizes {
		if _, described := sizes[SidecarOf(name)]; !described || !isBackupOf(node, path.Base(name)) {
			continue
		}
		data, err := ReadObject(ctx, store, SidecarOf(name))
		if err != nil {
			return nil, nil, err
		}
		d, err := ParseSidecar(data)
		if err != nil || d.Sealed == nil || d.Sealed.Name != path.Base(name) || d.Sealed.SizeBytes != size ||
			d.Node != node || d.ClusterID != s.sidecar.ClusterID || !s.signed(ctx, store, name, data) {
			continue
		}
		d.Path = store.String() + "/" + name
		all, names = append(all, d.Sidecar), append(names, name)
	}
	order := make([]int, len(all))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(all[b].TakenAt.Compare(all[a].TakenAt), strings.Compare(names[b], names[a]))
	})
	var sorted []Sidecar
	var sortedNames []string
	for _, i := range order {
		sorted, sortedNames = append(sorted, all[i]), append(sortedNames, names[i])
	}
	return sorted, sortedNames, nil
}

// signed says whether the key of this node has signed a backup; where it has none, all count.
func (s *ShipBackup) signed(ctx context.Context, store Store, name string, sidecar []byte) bool {
	if s.sealing.Key == nil {
		return true
	}
	sig, err := ReadObject(ctx, store, SignatureOf(name))
	if err != nil {
		return false
	}
	_, err = sealed.Check(sidecar, sig, []sealed.Trusted{s.sealing.Key.Trust("this node")})
	return err == nil
}

// deleteBackup deletes what makes a backup count first: half a deletion leaves nothing that counts.
func deleteBackup(ctx context.Context, store Store, name string) error {
	for _, object := range []string{SidecarOf(name), SignatureOf(name), name} {
		if err := store.Delete(ctx, object); err != nil && !errors.Is(err, ErrNoObject) {
			return err
		}
	}
	return nil
}
