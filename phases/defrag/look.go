package defrag

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/members"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// look is what a member says of itself at /metrics, when it was last asked.
type look struct {
	etcd.Vitals
	err     error
	started bool // it has ever been part of its cluster
}

// down says that the member does not run: nothing is under way in it.
func (l look) down() bool { return errors.Is(l.err, etcd.ErrDown) }

// quiet says that nothing is under way in the member, as far as its metrics tell.
func (l look) quiet() bool { return !l.started || l.down() || l.err == nil && !l.Defragmenting }

// cluster is the members, asked, and what each says at /metrics.
type cluster struct {
	*members.Asked
	node    *observe.Node
	looks   []look
	further [][]string // URLs of metrics alone; nil: they were not needed yet
}

// ask asks all members. It changes nothing.
func ask(ctx context.Context, n *observe.Node) (*cluster, error) {
	asked, err := members.Ask(ctx, n)
	if err != nil {
		return nil, err
	}
	c := &cluster{Asked: asked, node: n, further: make([][]string, len(asked.Members))}
	c.looks = make([]look, len(asked.Members))
	engine.Concurrently(len(c.looks), func(i int) {
		for range lookTries { // one that serves may be slow to say how it is
			if c.looks[i] = c.lookAt(ctx, i); c.looks[i].quiet() || c.Silent(i) != nil || ctx.Err() != nil {
				break
			}
		}
	})
	return c, ctx.Err()
}

func (c *cluster) lookAt(ctx context.Context, i int) (l look) {
	if l.started = c.Members[i].Started; !l.started {
		return l
	}
	access, err := c.access(i)
	if err != nil {
		l.err = err
		return l
	}
	l.Vitals, l.err = etcd.VitalsOf(ctx, access, c.MemberID(i), c.further[i]...)
	if l.err != nil && !l.down() && c.further[i] == nil { // it may serve them elsewhere
		c.further[i] = append([]string{}, c.MetricsURLs(ctx, i)...)
		l.Vitals, l.err = etcd.VitalsOf(ctx, access, c.MemberID(i), c.further[i]...)
	}
	return l
}

func (c *cluster) access(i int) (etcd.Access, error) {
	way, err := c.Way(i)
	if err != nil {
		return etcd.Access{}, err
	}
	return c.node.Dialer().Access(way)
}

// quota is etcd's own, as it says itself: before 3.6.6 the status says it wrongly, or not at all.
func (c *cluster) quota(i int) int64 {
	if c.looks[i].err == nil {
		return c.looks[i].QuotaBytes
	}
	return max(0, c.Status(i).QuotaBytes)
}

// busy says which members are at it, or may be.
func (c *cluster) busy() (says []string) {
	for i, l := range c.looks {
		switch {
		case l.quiet():
		case l.err == nil:
			says = append(says, c.NameOf(i)+" is being defragmented")
		default:
			says = append(says, fmt.Sprintf("%s may be being defragmented: %v", c.NameOf(i), l.err))
		}
	}
	return says
}

// lookTries are for the metrics of a member that otherwise answers.
const lookTries = 3

// lookPause is how long after a look the next one follows.
const lookPause = time.Second

// quietLooks are how many looks in a row must find nothing under way where nobody knows what was
// before: a request that was on its way to a member which stood still begins only a moment after it
// answers again. Where the members were quiet a moment ago, and all was answered since, one is
// enough.
const quietLooks = 2

// await waits until nothing is under way in any of some members, and each of them that runs can be
// read from: a second request to one member begins when the first one ends, which alone shows in
// the metrics. looks are how many must find nothing under way, if none finds anything. say is told
// what is waited for, whenever that changes.
func (c *cluster) await(
	ctx context.Context, which []int, looks int, limit time.Duration, say func(string), tick func(),
) error {
	began, last := c.node.Clock.Now(), ""
	for quiet := 0; ; {
		says := c.unsettled(ctx, which)
		if len(says) == 0 {
			if quiet++; quiet == looks {
				return nil
			}
		} else {
			quiet, looks = 0, quietLooks
			if text := strings.Join(says, "; "); text != last {
				say("waiting: " + text)
				last = text
			}
			if c.node.Clock.Now().Sub(began) > limit {
				return fmt.Errorf("after %s still: %s", limit, strings.Join(says, "; "))
			}
		}
		tick()
		if err := c.node.Clock.Sleep(ctx, lookPause); err != nil {
			return err
		}
	}
}

// unsettled looks once more, and says of which members it is not known that nothing is under way.
func (c *cluster) unsettled(ctx context.Context, which []int) []string {
	said := make([]string, len(which))
	engine.Concurrently(len(which), func(at int) { c.looks[which[at]] = c.lookAt(ctx, which[at]) })
	engine.Concurrently(len(which), func(at int) {
		i := which[at]
		switch l := c.looks[i]; {
		case !l.started, l.down():
		case l.err != nil:
			said[at] = fmt.Sprintf("%s may be being defragmented: %v", c.NameOf(i), l.err)
		case l.Defragmenting:
			said[at] = c.NameOf(i) + " is being defragmented"
		default:
			if c.Again(ctx, i); c.Silent(i) != nil {
				said[at] = fmt.Sprintf("%s does not answer: %v", c.NameOf(i), c.Silent(i))
			}
		}
	})
	return slices.DeleteFunc(said, func(text string) bool { return text == "" })
}

// all are all members.
func (c *cluster) all() (which []int) {
	for i := range c.Members {
		which = append(which, i)
	}
	return which
}
