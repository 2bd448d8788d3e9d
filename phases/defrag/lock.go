package defrag

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// claimID is the lock of all `etcdpod defrag` of a cluster: a lease of this id ("etcdpod", and 1),
// which etcd grants once at a time. It has no key: no revision comes of it, and nobody watches it.
const claimID = 0x65746364706f6401

// leastClaim is how long the lock lasts at least when nobody renews it, as when its owner died. It
// must outlast the turn of a member: while the leader is defragmented, etcd renews no lease.
const leastClaim = time.Minute

// lengths is how many lengths the lock may have, in seconds above the least: two coordinators
// seldom choose the same, and so each sees whether the lock is its own.
const lengths = 60

// askLimit bounds one question to etcd.
const askLimit = 15 * time.Second

// lock is held from before the first look that counts to the end. A node's own lock is not enough:
// another coordinator may be on another node, or in a pod.
type lock struct {
	d       *Defrag
	held    bool
	ttl     time.Duration // its length, which tells it from somebody else's
	renewed time.Time     // before the last request that etcd granted
}

// ours says whether the lock cannot have ended yet, so that nobody else can have it.
func (l *lock) ours() bool { return l.held && l.d.node.Clock.Now().Sub(l.renewed) < l.ttl }

// overhead is more than a lease takes of a database. Near its quota, etcd answers a request for one
// with the alarm NOSPACE.
const overhead = 1 << 20

// impossible says why etcd grants no lock; empty: it does.
func (d *Defrag) impossible() string {
	if len(d.Alarms) > 0 {
		return "etcd takes no writes"
	}
	for i, e := range d.c.Members {
		if quota := d.c.quota(i); e.Answers && quota > 0 && e.SizeBytes+overhead >= quota {
			return fmt.Sprintf("%s is at its quota", d.c.NameOf(i))
		}
	}
	return ""
}

// take gets the lock, and waits for whoever has it.
func (l *lock) take(ctx context.Context) error {
	d := l.d
	if l.held = false; d.impossible() != "" {
		d.say("%s, so no lock can be had in it: make sure that nobody else defragments a member of this cluster, "+
			"which only looking at all of them shows", d.impossible())
		return nil
	}
	least := cmp.Or(d.o.claim, leastClaim)
	l.ttl = least
	for _, m := range d.Report.Members {
		l.ttl = max(l.ttl, least+3*engine.Seconds(m.StallSeconds).Round(time.Second))
	}
	if d.o.claim == 0 {
		l.ttl += time.Duration(rand.IntN(lengths)) * time.Second
	}
	clock, told := d.node.Clock, false
	for began := clock.Now(); ; {
		at := clock.Now()
		granted, ends := false, time.Duration(0)
		err := d.through(ctx, -1, func(ctx context.Context, c *etcd.Client) (err error) {
			if granted, err = c.Claim(ctx, claimID, l.ttl); err == nil && !granted {
				ends, err = c.ClaimEnds(ctx, claimID)
			}
			return err
		})
		switch {
		case err != nil && (ctx.Err() != nil || clock.Now().Sub(began) > d.o.Wait ||
			len(d.c.unsettled(ctx, d.c.all())) == 0):
			return err
		case err != nil: // the member that was asked is at it, and another one is asked now
		case granted:
			l.held, l.renewed = true, at
			return nil
		case clock.Now().Sub(began) > d.o.Wait:
			return engine.Refuse("see who runs it, or wait longer with --wait", "another `etcdpod defrag` of this "+
				"cluster is still under way after %s", d.o.Wait)
		case !told:
			told = true
			d.say("waiting: another `etcdpod defrag` of this cluster has the lock; if it has died, the lock ends in %s",
				ends)
		}
		if err := clock.Sleep(ctx, lookPause); err != nil {
			return err
		}
	}
}

// keep renews the lock now and then, through another member than the one that is busy. That it
// fails does not matter while it lasts.
func (l *lock) keep(ctx context.Context, busy int) {
	if l.ours() && l.d.node.Clock.Now().Sub(l.renewed) > l.ttl/3 {
		_ = l.renew(ctx, busy)
	}
}

// renew fails where the lock had ended: somebody else may have had it since.
func (l *lock) renew(ctx context.Context, busy int) error {
	at := l.d.node.Clock.Now()
	err := l.d.through(ctx, busy, func(ctx context.Context, c *etcd.Client) error {
		return c.RenewClaim(ctx, claimID, l.ttl)
	})
	switch {
	case errors.Is(err, etcd.ErrClaimLost):
		l.renewed = at.Add(-l.ttl)
	case err == nil && !l.ours():
		return etcd.ErrClaimLost
	case err == nil:
		l.renewed = at
	}
	return err
}

// sure returns when nobody else can have the lock: right before a member's turn. It says whether
// the lock had to be taken again: somebody else may have had a turn since.
func (l *lock) sure(ctx context.Context) (again bool, err error) {
	if !l.held || l.ours() && l.renew(ctx, -1) == nil || l.d.node.Clock.Now().Sub(l.renewed) < l.ttl/2 {
		return false, nil
	}
	l.d.say("the lock has ended meanwhile, and is taken again")
	return true, l.take(ctx)
}

// release ends the lock, unless it may be somebody else's. One that is not released ends by itself.
func (l *lock) release(ctx context.Context) {
	if l.ours() {
		_ = l.d.through(context.WithoutCancel(ctx), -1, func(ctx context.Context, c *etcd.Client) error {
			return c.EndClaim(ctx, claimID, l.ttl)
		})
	}
}

// through does something with a voter that answers, for a limited time: with one in which nothing
// is under way, if there is one.
func (d *Defrag) through(ctx context.Context, busy int, do func(context.Context, *etcd.Client) error) error {
	way, ok := d.c.Voter(func(i int) bool { return i == busy || !d.c.looks[i].quiet() })
	if !ok {
		way, ok = d.c.Voter(func(i int) bool { return i == busy })
	}
	if !ok {
		return errors.New("no voter answers")
	}
	return d.with(ctx, way, do)
}

func (d *Defrag) with(ctx context.Context, way op.Access, do func(context.Context, *etcd.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	c, err := d.node.Dialer().Dial(ctx, way)
	if err != nil {
		return err
	}
	defer c.Close()
	return do(ctx, c)
}

// disarm turns the alarms off if every member is below its quota again, and otherwise says why not.
func (d *Defrag) disarm(ctx context.Context) error {
	c, err := ask(ctx, d.node) // one may have been raised meanwhile
	if err != nil && len(d.Alarms) == 0 {
		return nil
	} else if err != nil {
		return err
	}
	d.c = c
	d.Alarms = []Alarm{}
	if d.alarms(); len(d.Alarms) == 0 {
		return nil
	}
	var above []string
	for i, e := range c.Members {
		switch quota := c.quota(i); {
		case !e.Started:
		case !e.Answers || c.looks[i].err != nil:
			above = append(above, c.NameOf(i)+" does not answer")
		case quota > 0 && e.SizeBytes >= quota:
			above = append(above, fmt.Sprintf("%s has %s of %s", c.NameOf(i), engine.Size(e.SizeBytes),
				engine.Size(quota)))
		}
	}
	if len(above) > 0 {
		return engine.WithHint(fmt.Errorf("etcd still takes no writes: the alarm %s stays, since not every member is "+
			"known to be below its quota: %s", etcd.NoSpace, strings.Join(above, "; ")), "the API server compacts "+
			"every 5 minutes what is older than 5 minutes: run it again after that, or raise --quota-backend-bytes in "+
			"etcd's manifests, on all nodes")
	}
	err = d.through(ctx, -1, func(ctx context.Context, c *etcd.Client) error {
		_, err := c.DisarmNoSpace(ctx)
		return err
	})
	if d.Disarmed = err == nil; err == nil {
		d.say("every member is below its quota: the alarm %s of %s is disarmed", etcd.NoSpace, d.alarmed())
	}
	return err
}

// nameOf is what to call a member.
func (m *Member) nameOf() string { return cmp.Or(m.Name, m.ID) }
