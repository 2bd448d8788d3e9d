package op

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
)

// How the members come to run an older minor, by etcd's own protocol: once a downgrade is enabled,
// the leader lowers the version of the cluster, and each member that of its data. Only then the
// older etcd starts with them. Until a member runs it, the downgrade can be cancelled. Once one
// does, the version of the cluster does not rise before that one runs the newer etcd again: from
// then on it does no harm if somebody cancels the downgrade.

// Downgrade is what all steps of it need.
type Downgrade struct {
	Access  Access        `json:"access"`           // to this node's member
	Others  []Other       `json:"others,omitempty"` // all other members
	Version string        `json:"version"`          // of the cluster, to come: 3.6.0
	Limit   time.Duration `json:"limit"`
}

func (d Downgrade) line() string { return lineOf(d.Version) }

// lineOf is the minor of a version: 3.6 of 3.6.16.
func lineOf(version string) string {
	parts := strings.SplitN(releaseIn(version), ".", 3)
	return strings.Join(parts[:min(2, len(parts))], ".")
}

// lowering is how far all members have come with a downgrade.
type lowering struct {
	older   int      // members that run the older minor already
	knows   int      // of the others, those that know that it is enabled
	unaware []string // and those that do not
	behind  []string // and those whose data are not lowered yet
}

// takenBack says whether nobody knows of the downgrade, and the version of the cluster may rise.
func (l lowering) takenBack() bool { return l.knows == 0 && l.older == 0 }

// look asks all members, but those on nodes that are lost.
func (d Downgrade) look(ctx context.Context, t *Target) (l lowering, err error) {
	for i, one := range d.all() {
		if i > 0 && slices.Contains(t.Lost, one.Node) {
			continue
		}
		said, err := d.ask(ctx, t, i)
		at := one.Access.Endpoints[0]
		if err != nil {
			return l, fmt.Errorf("the member at %s does not answer: %w", strings.Join(one.Access.Endpoints, " or "),
				err)
		}
		if lineOf(said.Version) == d.line() {
			l.older++
			continue
		}
		if said.Downgrade == d.Version {
			l.knows++
		} else {
			l.unaware = append(l.unaware, at)
		}
		if said.Storage != d.Version {
			l.behind = append(l.behind, at)
		}
	}
	return l, nil
}

// all are the members, this node's first.
func (d Downgrade) all() []Other { return append([]Other{{Access: d.Access}}, d.Others...) }

// ask asks the member at i of all. This node's own may have further addresses.
func (d Downgrade) ask(ctx context.Context, t *Target, i int) (Answer, error) {
	if i == 0 {
		return t.Etcd.Started(ctx, d.Access)
	}
	return startedAt(ctx, t, d.Others[i-1].Access)
}

// enable has etcd begin the downgrade, and waits until all members know of it.
func (d Downgrade) enable(ctx context.Context, t *Target) error {
	return poll(ctx, t, "the downgrade to "+d.line()+" does not begin", d.Limit, 500*time.Millisecond,
		func(ctx context.Context) error {
			l, err := d.look(ctx, t)
			switch {
			case err != nil:
				return err
			case len(l.unaware) == 0:
				return nil
			case l.knows == 0:
				err = t.Etcd.EnableDowngrade(ctx, d.Access, d.Version)
			}
			if err == nil {
				err = fmt.Errorf("not yet known to the member at %s", strings.Join(l.unaware, ", nor at "))
			}
			return err
		})
}

// lowered waits until the data of all members can be read by the older etcd.
func (d Downgrade) lowered(ctx context.Context, t *Target) error {
	return poll(ctx, t, "etcd has not made its data ready for "+d.line(), d.Limit, 500*time.Millisecond,
		func(ctx context.Context) error {
			l, err := d.look(ctx, t)
			switch {
			case err != nil:
				return err
			case l.takenBack():
				return &finalError{&takenBackError{d.line()}}
			case len(l.behind) > 0:
				return fmt.Errorf("the data are not yet of %s at %s", d.line(), strings.Join(l.behind, ", "))
			}
			return nil
		})
}

// takenBackError says that somebody has cancelled the downgrade before any member runs the older
// minor.
type takenBackError struct{ line string }

func (e *takenBackError) Error() string {
	return fmt.Sprintf("somebody has cancelled the downgrade to %[1]s, so etcd %[1]s would not start", e.line)
}

// CancelDowngrade stands before the downgrade is enabled, on every node: whichever goes back can
// take it back, also without the one from which it was enabled.
type CancelDowngrade struct {
	Downgrade
	From string `json:"from"` // the version of the cluster before: 3.7.0
}

func (d *CancelDowngrade) String() string {
	return fmt.Sprintf("(when undoing: cancel the downgrade to %s, and see the version of the cluster at %s again)",
		d.line(), lineOf(d.From))
}

// Do has nothing to do.
func (d *CancelDowngrade) Do(context.Context, *Target) error { return nil }

func (d *CancelDowngrade) Done(context.Context, *Target) (bool, error) { return false, nil }

// Undo asks at any member that answers. That the version of the cluster rises again is waited for;
// without all members it does not, and that is said.
func (d *CancelDowngrade) Undo(ctx context.Context, t *Target) error {
	err := poll(ctx, t, "cannot cancel the downgrade", d.Limit, 500*time.Millisecond,
		func(ctx context.Context) (err error) {
			for i, one := range d.all() {
				failed := t.Etcd.CancelDowngrade(ctx, one.Access)
				if failed == nil {
					failed = d.forgotten(ctx, t, i)
				}
				if failed == nil {
					return nil
				}
				err = errors.Join(err, failed)
			}
			return err
		})
	if err != nil {
		return err
	}
	err = poll(ctx, t, "the version of the cluster has not risen again", d.Limit, 500*time.Millisecond,
		func(ctx context.Context) error { return d.risen(ctx, t) })
	if err != nil && ctx.Err() != nil {
		return err
	}
	if err != nil {
		t.warn(finding.EtcdStorageOld, d.Access.Endpoints[0], "the downgrade is cancelled; %v. etcd raises the "+
			"version of the cluster, and then that of its data, once all members answer: see it with `etcdpod members "+
			"-o json`", err)
	}
	return nil
}

// forgotten sees that a member knows of no downgrade any more. etcd says yes to a cancellation even
// if the cluster has no quorum to agree on it: EtcdServer.downgradeCancel drops the error.
func (d *CancelDowngrade) forgotten(ctx context.Context, t *Target, i int) error {
	seen, err := d.ask(ctx, t, i)
	if err == nil && seen.Downgrade != "" {
		err = fmt.Errorf("etcd was asked to, and the downgrade to %s goes on", d.line())
	}
	return err
}

// risen sees that this member knows of no downgrade, and that its data are what they were.
func (d *CancelDowngrade) risen(ctx context.Context, t *Target) error {
	if len(t.Lost) > 0 {
		return &finalError{fmt.Errorf("the member on %s is waited for", strings.Join(t.Lost, ", "))}
	}
	own, err := d.ask(ctx, t, 0)
	switch {
	case err != nil:
		return err
	case own.Downgrade != "":
		return errors.New("this member does not know yet that it is cancelled")
	case own.Storage != d.From:
		return fmt.Errorf("this member's data are still of %s", lineOf(own.Storage))
	}
	return nil
}

// EnableDowngrade begins the downgrade, from one node. CancelDowngrade undoes it.
type EnableDowngrade struct {
	repeated
	Downgrade
}

func (d *EnableDowngrade) String() string {
	return fmt.Sprintf("enable the downgrade to %s: the leader then lowers the version of the cluster", d.line())
}

func (d *EnableDowngrade) Do(ctx context.Context, t *Target) error { return d.enable(ctx, t) }

// AwaitStorageVersion waits until each member has written down that its data are of the older
// minor: until then the older etcd does not start with them.
type AwaitStorageVersion struct {
	repeated
	Downgrade
}

func (d *AwaitStorageVersion) String() string {
	return fmt.Sprintf("wait until the data of all members are of %s, %s at most", d.line(), d.Limit)
}

func (d *AwaitStorageVersion) Do(ctx context.Context, t *Target) error { return d.lowered(ctx, t) }

// Condition: somebody may have cancelled the downgrade since.
func (d *AwaitStorageVersion) Condition() {}

// HoldDowngrade sees, before a member is replaced, that the older etcd will start. If somebody has
// cancelled the downgrade before any member runs that, nothing is stopped for it, and the run
// stays open; the next attempt, which a person has asked for, enables it again.
type HoldDowngrade struct {
	repeated
	Downgrade
	Marker string `json:"marker"` // a file in the run's folder: an attempt has found it cancelled
	// Stopped: this one stands where etcd is about to be replaced. If it finds the version of the
	// cluster risen, the kubelet starts the old etcd again.
	Stopped bool `json:"stopped,omitempty"`
}

func (d *HoldDowngrade) String() string {
	if d.Stopped {
		return fmt.Sprintf("see once more that the version of the cluster is %s", d.line())
	}
	return fmt.Sprintf("see that the downgrade to %s is still enabled, and the data of all members are of it", d.line())
}

func (d *HoldDowngrade) Do(ctx context.Context, t *Target) error {
	found := exists(t, d.Marker)
	if found {
		if err := d.again(ctx, t); err != nil {
			return err
		}
	} else if d.Stopped {
		return d.seen(ctx, t)
	}
	err := d.lowered(ctx, t)
	if err == nil && found {
		return remove(t, d.Marker)
	}
	return d.kept(t, err)
}

// again enables the downgrade once more.
func (d *HoldDowngrade) again(ctx context.Context, t *Target) error {
	if err := startKubelet(ctx, t); err != nil {
		return err
	}
	if err := d.enable(ctx, t); err != nil {
		return err
	}
	t.warn(finding.EtcdDowngrade, d.Version, "somebody had cancelled the downgrade to %s; it was enabled again, "+
		"since the run is past its commit point", d.line())
	return nil
}

// kept leaves a mark where the downgrade was cancelled, and says what comes next.
func (d *HoldDowngrade) kept(t *Target, err error) error {
	if back := (*takenBackError)(nil); !errors.As(err, &back) {
		return err
	}
	if err := writeJSON(t, d.Marker, d.Version); err != nil {
		return err
	}
	return fmt.Errorf("%w; no member runs it: `etcdpod resume` enables the downgrade again, and goes on", err)
}

// soon is how long the other members may take to tell the version of the cluster while this one is
// away.
const soon = 10 * time.Second

// seen looks at the version of the cluster: it does not rise while this member is away.
func (d *HoldDowngrade) seen(ctx context.Context, t *Target) error {
	err := poll(ctx, t, "the version of the cluster cannot be seen", soon, 200*time.Millisecond,
		func(ctx context.Context) (err error) {
			for i := range d.all() {
				if i == 0 && len(d.Others) > 0 {
					continue // it is away
				}
				low, failed := d.low(ctx, t, i)
				switch {
				case failed != nil:
					err = errors.Join(err, failed)
				case low:
					return nil
				default:
					return &finalError{&takenBackError{d.line()}}
				}
			}
			return err
		})
	if err == nil {
		return nil
	}
	return errors.Join(d.kept(t, err), startKubelet(ctx, t))
}

// low says whether a member works by the older version of the cluster. HTTP may not tell it: then
// it is that, as long as the downgrade is enabled and the data are of it, or that member runs the
// older etcd itself.
func (d Downgrade) low(ctx context.Context, t *Target, i int) (bool, error) {
	if now, err := t.Etcd.ClusterVersion(ctx, d.all()[i].Access); err == nil {
		return now == d.Version, nil
	}
	said, err := d.ask(ctx, t, i)
	return lineOf(said.Version) == d.line() || said.Downgrade == d.Version && said.Storage == d.Version, err
}

// AwaitDowngraded sees that the leader has ended the downgrade: it does once all members run the
// older minor.
type AwaitDowngraded struct {
	repeated
	Downgrade
}

func (d *AwaitDowngraded) String() string {
	return fmt.Sprintf("wait until etcd has ended the downgrade, and the version of the cluster is %s, %s at most",
		d.line(), d.Limit)
}

func (d *AwaitDowngraded) Do(ctx context.Context, t *Target) error {
	if len(t.Lost) > 0 {
		t.warn(finding.EtcdDowngrade, d.Version, "the end of the downgrade is not waited for: etcd ends it once all "+
			"members answer, so remove the member on %s, or replace it", strings.Join(t.Lost, ", "))
		return nil
	}
	err := poll(ctx, t, "the downgrade has not ended", d.Limit, 500*time.Millisecond, func(ctx context.Context) error {
		goes, err := t.Etcd.Downgrading(ctx, d.Access)
		switch {
		case err != nil:
			return err
		case goes != "":
			return errors.New("the leader ends it once all members run the older etcd and answer")
		}
		// HTTP may not tell it.
		if now, err := t.Etcd.ClusterVersion(ctx, d.Access); err == nil && now != d.Version {
			return fmt.Errorf("the version of the cluster is %s", now)
		}
		return nil
	})
	if err == nil {
		t.report("the downgrade has ended, and the version of the cluster is %s", d.Version)
	}
	return err
}

// Skippable: it only looks.
func (d *AwaitDowngraded) Skippable() {}
