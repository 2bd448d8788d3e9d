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

// How a member comes to run another release of etcd: its image is fetched while the old one serves,
// and the next member is stopped only when this one has its place in the cluster again.

// PullImage has an image on this node before anything is stopped for it. One that is there is not
// asked for again, and one that was fetched stays whatever becomes of the run.
type PullImage struct {
	repeated
	Image string        `json:"image"`
	Limit time.Duration `json:"limit"`
}

func (p *PullImage) String() string {
	return fmt.Sprintf("pull the image %s, unless it is here, %s at most", p.Image, p.Limit)
}

func (p *PullImage) Do(ctx context.Context, t *Target) error {
	there, err := t.Host.Runtime.Image(ctx, p.Image)
	if err != nil || there.Present {
		return err
	}
	err = t.Host.Runtime.Pull(ctx, p.Image, p.Limit, func(since time.Duration) {
		t.report("still pulling %s, for %s now", p.Image, since)
	})
	switch {
	case err == nil:
		there, err = t.Host.Runtime.Image(ctx, p.Image)
		if err != nil || there.Present {
			return err
		}
		err = fmt.Errorf("the runtime has pulled the image %s, and does not have it", p.Image)
	case ctx.Err() != nil:
		return err
	}
	return &NoImageError{Text: err.Error(), Fix: fmt.Sprintf("see whether the registry has it, and pull it there "+
		"yourself: `crictl pull %[1]s`, with --creds where it asks for them; without a registry, run `ctr -n k8s.io "+
		"images export FILE %[1]s` on a node that has it, and `ctr -n k8s.io images import FILE` here", p.Image)}
}

// NoImageError says that a node cannot get an image. Nothing was stopped for it.
type NoImageError struct {
	Text string
	Fix  string // what to do
}

func (e *NoImageError) Error() string { return e.Text }

// Hint says what to do.
func (e *NoImageError) Hint() string { return e.Fix }

// SeeManifest sees, before anything is stopped, that [ReplaceManifest] will find the manifest that
// the run was planned with, or has put there. Past the commit point there is no way back from an
// etcd that is stopped for a manifest that then stays.
type SeeManifest struct {
	repeated
	Path string `json:"path"`
	Old  string `json:"old"` // the planned file's SHA-256, hex
	New  string `json:"new"` // that of the one to come
}

func (s *SeeManifest) String() string {
	return fmt.Sprintf("see that nobody has changed %s since the run was planned", s.Path)
}

func (s *SeeManifest) Do(_ context.Context, t *Target) error {
	now, err := sumOf(t, s.Path)
	if err == nil && now != s.Old && now != s.New {
		err = fmt.Errorf("someone has changed %s since the run was planned; etcd was not stopped for it: take the "+
			"change back, and run the command again", s.Path)
	}
	return err
}

// AwaitVersion waits until the member on this node runs a release of etcd, and the next one may
// leave: every member answers, knows a leader, and has what was committed when this one was back.
// Then it has to stay so for a while: etcd itself counts on a member that has been connected for
// 5 s (server/etcdserver: HealthInterval).
type AwaitVersion struct {
	repeated
	Access    Access        `json:"access"`
	Version   string        `json:"version"` // 3.6.16
	ClusterID ID            `json:"clusterID,omitempty"`
	Others    []Other       `json:"others,omitempty"`
	Steady    time.Duration `json:"steady"`
	Limit     time.Duration `json:"limit"`
	Watched
}

func (a *AwaitVersion) String() string {
	says := fmt.Sprintf("wait until etcd %s runs at %s", a.Version, a.Access.Endpoints[0])
	if len(a.Others) > 0 {
		says += " and all members answer and have caught up"
	}
	return fmt.Sprintf("%s, for %s, %s at most", says, a.Steady, a.Limit)
}

func (a *AwaitVersion) Do(ctx context.Context, t *Target) error {
	if err := startKubelet(ctx, t); err != nil {
		return err
	}
	crashes, _ := a.watch(ctx, t, "etcd") // only to say more if it fails
	var since time.Time
	var goal uint64
	err := poll(ctx, t, fmt.Sprintf("the cluster is not whole with etcd %s on this node", a.Version), a.Limit+a.Steady,
		200*time.Millisecond, func(ctx context.Context) error {
			if err := a.look(ctx, t, &goal); err != nil {
				since = time.Time{}
				return err
			}
			now := t.Host.Clock.Now()
			if since.IsZero() {
				since = now
			}
			if now.Sub(since) < a.Steady {
				return fmt.Errorf("it has been for less than %s", a.Steady)
			}
			return nil
		})
	return crashes.explain(ctx, t, err)
}

// look asks all members once. goal is what had been committed when all answered first.
func (a *AwaitVersion) look(ctx context.Context, t *Target, goal *uint64) error {
	own, err := t.Etcd.Started(ctx, a.Access)
	switch {
	case err != nil:
		return err
	case a.ClusterID != 0 && own.ClusterID != uint64(a.ClusterID):
		return &finalError{fmt.Errorf("etcd of another cluster, %x, answers at %s", own.ClusterID,
			a.Access.Endpoints[0])}
	case !sameRelease(own.Version, a.Version):
		return fmt.Errorf("etcd %s runs there", own.Version)
	}
	all, at := []Answer{own}, []string{a.Access.Endpoints[0]}
	for _, other := range a.Others {
		if slices.Contains(t.Lost, other.Node) {
			continue
		}
		said, err := startedAt(ctx, t, other.Access)
		if err != nil {
			return fmt.Errorf("the member at %s does not answer: %w", strings.Join(other.Access.Endpoints, " or "), err)
		}
		all, at = append(all, said), append(at, other.Access.Endpoints[0])
	}
	committed := uint64(0)
	for i, one := range all {
		if one.Leader == 0 {
			return fmt.Errorf("the member at %s knows no leader", at[i])
		}
		committed = max(committed, one.Committed)
	}
	if *goal == 0 {
		*goal = committed
	}
	for i, one := range all {
		if one.Applied < *goal {
			return fmt.Errorf("the member at %s is %d entries behind", at[i], *goal-one.Applied)
		}
	}
	return nil
}

// sameRelease says whether two texts name one release: etcd may say 3.6.16+vendor of itself, and an
// image's tag v3.6.16-0.
func sameRelease(a, b string) bool { return releaseIn(a) == releaseIn(b) }

func releaseIn(text string) string {
	text = strings.TrimPrefix(text, "v")
	if i := strings.IndexAny(text, "-+"); i >= 0 {
		text = text[:i]
	}
	return text
}

// startedAt asks at each URL by itself: the member is at one of them.
func startedAt(ctx context.Context, t *Target, at Access) (said Answer, err error) {
	for _, u := range at.Endpoints {
		one, failed := t.Etcd.Started(ctx, at.At(u))
		if failed == nil {
			return one, nil
		}
		err = errors.Join(err, failed)
	}
	return said, err
}

// AwaitClusterVersion sees that the members work together by the new minor, and that this one's
// data are of it: the leader raises the one once all members run it, and each member then the
// other.
type AwaitClusterVersion struct {
	repeated
	Access  Access        `json:"access"`
	Version string        `json:"version"` // 3.6.0
	Limit   time.Duration `json:"limit"`
}

func (a *AwaitClusterVersion) String() string {
	return fmt.Sprintf("wait until the version of the cluster, and that of this member's data, is %s, %s at most",
		a.Version, a.Limit)
}

func (a *AwaitClusterVersion) Do(ctx context.Context, t *Target) error {
	if len(t.Lost) > 0 { // the leader waits for all members that are listed
		t.warn(finding.EtcdStorageOld, a.Access.Endpoints[0], "the version of the cluster is not waited for: etcd "+
			"raises it once all members answer, so remove the member on %s, or replace it", strings.Join(t.Lost, ", "))
		return nil
	}
	err := poll(ctx, t, "the version of the cluster is not "+a.Version, a.Limit, 500*time.Millisecond,
		func(ctx context.Context) error {
			own, err := t.Etcd.Started(ctx, a.Access)
			if err != nil || own.Storage == a.Version {
				return err // the data follow the cluster, which HTTP may not tell
			}
			now, err := t.Etcd.ClusterVersion(ctx, a.Access)
			switch {
			case err == nil && now != a.Version:
				err = fmt.Errorf("it is %s: etcd raises it once all members run the new one and answer", now)
			case own.Storage != "":
				err = errors.Join(fmt.Errorf("that of this member's data is still %s", own.Storage), err)
			}
			return err
		})
	if err == nil {
		t.report("the version of the cluster, and of this member's data, is %s", a.Version)
	}
	return err
}

// Skippable: it only looks.
func (a *AwaitClusterVersion) Skippable() {}

// Skippable: past the commit point it only looks.
func (a *AwaitVersion) Skippable() {}
