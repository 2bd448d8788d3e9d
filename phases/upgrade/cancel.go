package upgrade

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/members"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// Cancel is the result of `downgrade cancel`. The JSON names are stable.
type Cancel struct {
	// The version to which a downgrade was enabled; left out: none was, and nothing was done.
	Target    string `json:"target,omitempty"`
	Cancelled bool   `json:"cancelled"`
	// By which the members work together afterwards; left out where nothing was changed, or nobody
	// tells it.
	ClusterVersion string `json:"clusterVersion,omitempty"`
	// What a person should know before saying yes, and afterwards.
	Notes []string `json:"notes"`

	ways  []op.Access // to the members that answer
	older []string    // members that run the target's minor already
	from  string      // the version of the cluster that is to come
	whole bool        // all members answer
}

// PlanCancel looks for a downgrade that was enabled and has not ended. It changes nothing.
func PlanCancel(ctx context.Context, n *observe.Node) (*Cancel, error) {
	if err := engine.RefuseOpen(n.FS); err != nil {
		return nil, err
	}
	if err := n.CheckControlPlane(ctx); err != nil {
		return nil, err
	}
	asked, err := members.Ask(ctx, n)
	if err != nil {
		return nil, err
	}
	if !asked.Quorum {
		return nil, engine.Refuse("`etcdpod members` shows which members do not answer: start them first",
			"cannot cancel a downgrade: no quorum answers")
	}
	c := &Cancel{Notes: []string{}, whole: true}
	for i := range asked.Members {
		s := asked.Status(i)
		if s.Err != nil {
			c.whole = false
			c.note("%s does not answer: until it does, the version of the cluster stays what it is", asked.NameOf(i))
			continue
		}
		way, err := asked.Way(i)
		if err != nil {
			return nil, err
		}
		c.ways = append(c.ways, way)
		if c.Target == "" {
			if c.Target, err = n.Etcd.Downgrading(ctx, way); err != nil {
				return nil, err
			}
		}
	}
	if c.Target != "" {
		c.compare(asked)
	}
	return c, ctx.Err()
}

func (c *Cancel) note(format string, args ...any) {
	c.Notes = append(c.Notes, fmt.Sprintf(format, args...))
}

// compare says which members run which minor.
func (c *Cancel) compare(asked *members.Asked) {
	to, _ := parse(c.Target)
	newest := to
	for i := range asked.Members {
		v, ok := parse(asked.Status(i).Version)
		switch {
		case !ok:
		case v.minor == to.minor:
			c.older = append(c.older, asked.NameOf(i))
		case newest.minor < v.minor:
			newest = v
		}
	}
	c.from = newest.line() + ".0"
	if len(c.older) > 0 && newest.minor > to.minor {
		c.note("already on %s: %s. The version of the cluster stays that until they run %s again: `etcdpod upgrade` "+
			"does that, once the downgrade is cancelled", to.line(), strings.Join(c.older, ", "), newest.line())
	}
}

// Already says whether there is nothing to cancel.
func (c *Cancel) Already() bool { return c.Target == "" }

// Stakes are what a yes means.
func (c *Cancel) Stakes() engine.Stakes {
	return engine.Stakes{Lost: []string{"nothing: no member is stopped"},
		Back: []string{"`etcdpod downgrade --to VERSION` enables it again, and finishes it"}}
}

// How long the version of the cluster may take to rise: the leader looks every four seconds, and
// each member then.
const (
	riseTries = 60
	risePause = 500 * time.Millisecond
)

// Carry cancels the downgrade, and sees that.
func (c *Cancel) Carry(ctx context.Context, n *engine.Node) (err error) {
	unlock, err := n.LockIdle(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	var failed error
	for _, way := range c.ways {
		if failed = n.Etcd.CancelDowngrade(ctx, way); failed == nil || ctx.Err() != nil {
			break
		}
	}
	if failed != nil {
		return failed
	}
	for try := range riseTries {
		if try%10 == 9 { // etcd drops the request, and says yes, while there is no quorum
			_ = n.Etcd.CancelDowngrade(ctx, c.ways[0])
		}
		if failed = c.seen(ctx, n); failed == nil {
			c.Cancelled = true
			return nil
		}
		if err := n.Host.Clock.Sleep(ctx, risePause); err != nil {
			return err
		}
	}
	return engine.WithHint(fmt.Errorf("etcd was asked to cancel the downgrade, and its end is not seen: %w", failed),
		"look with `etcdpod status` and `etcdpod members -o json`; once all members answer, etcd raises the version "+
			"of the cluster by itself")
}

// seen sees that nobody knows of the downgrade, and that the version of the cluster has risen where
// it can.
func (c *Cancel) seen(ctx context.Context, n *engine.Node) error {
	for _, way := range c.ways {
		goes, err := n.Etcd.Downgrading(ctx, way)
		if err == nil && goes != "" {
			err = fmt.Errorf("the member at %s still knows of it", way.Endpoints[0])
		}
		if err != nil {
			return err
		}
	}
	want := c.from
	if len(c.older) > 0 || !c.whole {
		want = c.Target
	}
	// HTTP may not tell it.
	if i := slices.IndexFunc(c.ways, func(way op.Access) bool {
		now, err := n.Etcd.ClusterVersion(ctx, way)
		if err == nil {
			c.ClusterVersion = now
		}
		return err == nil && now != want && c.whole
	}); i >= 0 {
		return fmt.Errorf("the version of the cluster is %s, and not %s", c.ClusterVersion, want)
	}
	return nil
}
