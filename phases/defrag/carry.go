package defrag

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/etcd"
)

// Carry defragments the members that are due, one after the other. What a member has begun goes on
// whatever happens here, so each turn ends only when it is seen to have ended on the server. It
// looks again before each turn: a rule may have become false.
func (d *Defrag) Carry(ctx context.Context, n *engine.Node) (err error) {
	if d.c.Own() >= 0 { // in a pod there is no node whose lock could be taken
		unlock, err := n.LockIdle(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = unlock() }()
	}
	l := &lock{d: d}
	if err := l.take(ctx); err != nil {
		return err
	}
	defer func() { l.release(ctx) }()
	if err := d.settled(ctx, l, quietLooks); err != nil {
		return err
	}
	err = d.turns(ctx, l)
	d.Notes = []string{} // they were for the question
	if disarming := d.disarm(context.WithoutCancel(ctx)); disarming != nil {
		return errors.Join(err, disarming)
	}
	return err
}

// quiet waits until nothing is under way in any member: an earlier coordinator may have died, and
// its last member goes on.
func (d *Defrag) quiet(ctx context.Context, l *lock, looks int) error {
	err := d.c.await(ctx, d.c.all(), looks, d.o.Wait, d.tell, func() { l.keep(ctx, -1) })
	if err != nil && ctx.Err() == nil {
		return engine.Refuse("wait until it has ended, or longer with --wait; a member whose machine is gone must be "+
			"removed first: run `etcdpod remove`", "cannot defragment: %v", err)
	}
	return err
}

// settled looks at all members when nothing is under way in any of them.
func (d *Defrag) settled(ctx context.Context, l *lock, looks int) error {
	for ; ; looks = quietLooks {
		if err := d.quiet(ctx, l, looks); err != nil {
			return err
		}
		if err := d.look(ctx); err != nil {
			return err
		}
		l.keep(ctx, -1)
		if len(d.c.busy()) == 0 { // nobody has begun one since
			return nil
		}
	}
}

// mostLost is how often in a row the lock may end before a member's turn has begun.
const mostLost = 10

// turns has a turn for each member that is due.
func (d *Defrag) turns(ctx context.Context, l *lock) error {
	done, lost := map[string]Member{}, 0
	for {
		at := d.next()
		if at < 0 {
			return nil
		}
		if ctx.Err() != nil {
			return d.interrupted(ctx, nil)
		}
		again, err := l.sure(ctx)
		if err == nil && again { // somebody else may have had a turn
			err = d.again(ctx, l, done, quietLooks)
		}
		if err != nil {
			return d.interrupted(ctx, notTouched(err))
		}
		if again {
			if lost++; lost == mostLost {
				return d.interrupted(ctx, engine.WithHint(fmt.Errorf("the lock in etcd, which lasts %s, ended %d "+
					"times before all members had been looked at", l.ttl, lost),
					"see why etcd answers so slowly: run `etcdpod status`"))
			}
			continue
		}
		lost = 0
		err = d.turn(ctx, at, l)
		done[d.Report.Members[at].ID] = d.Report.Members[at]
		if err != nil {
			return d.interrupted(ctx, err)
		}
		if d.Due() == 0 || ctx.Err() != nil {
			continue
		}
		if err := d.again(ctx, l, done, 1); err != nil {
			return d.interrupted(ctx, err)
		}
	}
}

// again looks at all members once more, between two turns.
func (d *Defrag) again(ctx context.Context, l *lock, done map[string]Member, looks int) error {
	before := d.Report
	err := d.settled(ctx, l, looks)
	if err != nil {
		d.Report = before
		return notTouched(err)
	}
	for at, m := range d.Report.Members {
		if had, is := done[m.ID]; is {
			d.Report.Members[at] = had
		}
	}
	return nil
}

// notTouched makes a plain error of a refusal, which says that nothing was touched.
func notTouched(err error) error {
	var refused *engine.RefusedError
	if errors.As(err, &refused) {
		return engine.WithHint(errors.New(refused.Reason), refused.Hint)
	}
	return err
}

// next is whose turn it is: the leader's last, whichever that is by now; -1: nobody's.
func (d *Defrag) next() int {
	last := -1
	for at, m := range d.Report.Members {
		switch {
		case m.State != due:
		case m.Role != "leader":
			return at
		default:
			last = at
		}
	}
	return last
}

// turn has one member defragmented, and returns when that has ended there, and the member serves
// and has caught up. Nothing that happens to ctx makes it return earlier.
func (d *Defrag) turn(ctx context.Context, at int, l *lock) error {
	i, m := d.at[at], &d.Report.Members[at]
	ctx = context.WithoutCancel(ctx)
	access, err := d.c.access(i)
	if err != nil {
		return err
	}
	if d.o.giveUp > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.o.giveUp)
		defer cancel()
	}
	before, clock := d.c.looks[i].Defrags, d.node.Clock
	operation := fmt.Sprintf("defragment %s: %s, about %s of it after that", m.nameOf(), engine.Size(m.SizeBytes),
		engine.Size(m.PredictedBytes))
	began := clock.Now()
	d.emit(engine.Event{State: engine.Started, Operation: operation})
	d.begin(m.nameOf())
	defer d.begin("")
	outcome := l.during(etcd.Defragment(ctx, access), i)
	took := clock.Now().Sub(began).Seconds()
	ctx = context.WithoutCancel(ctx)
	var lost *etcd.LostError
	if errors.As(outcome, &lost) {
		d.say("the connection to %s ended before its answer, and it may go on: %v", m.nameOf(), lost)
	} else if outcome != nil {
		d.emit(engine.Event{State: engine.Failed, Operation: operation, Error: outcome.Error()})
		return outcome
	}
	m.State = unknown
	looks := 1
	if outcome != nil {
		looks = quietLooks
	}
	if err := d.ended(ctx, i, looks, l); err != nil {
		return err
	}
	if d.c.looks[i].Defrags <= before {
		return fmt.Errorf("%s has not done it: the request never reached it, or its etcd was restarted meanwhile",
			m.nameOf())
	}
	m.State, m.Seconds, m.AfterBytes = defragmented, took, d.c.Status(i).SizeBytes
	if outcome == nil && m.StallSeconds > paceFrom {
		d.pace *= took / m.StallSeconds
	}
	d.emit(engine.Event{State: engine.Finished, Operation: fmt.Sprintf("defragment %s: from %s to %s", m.nameOf(),
		engine.Size(m.SizeBytes), engine.Size(m.AfterBytes))})
	return nil
}

// during waits for the outcome of a request, and keeps the lock meanwhile.
func (l *lock) during(outcome <-chan error, busy int) error {
	for {
		select {
		case err := <-outcome:
			return err
		case <-time.After(lookPause):
			l.keep(context.Background(), busy)
		}
	}
}

// ended waits until a member's turn has ended there, whatever its answer was, and it serves and has
// applied what the others had committed by then.
func (d *Defrag) ended(ctx context.Context, i, looks int, l *lock) error {
	clock := d.node.Clock
	keep := func() { l.keep(ctx, i) }
	if err := d.c.await(ctx, []int{i}, looks, d.o.Wait, d.tell, keep); err != nil {
		return engine.WithHint(err, "no other member was begun; `etcdpod defrag` waits for this one first")
	}
	for j := range d.c.Members {
		if j != i && d.c.Silent(j) == nil {
			d.c.Again(ctx, j)
		}
	}
	committed := d.c.Committed()
	for began := clock.Now(); ; keep() {
		d.c.looks[i] = d.c.lookAt(ctx, i)
		behind := d.c.Behind(ctx, i, committed, keep)
		switch {
		case behind == 0 && d.c.looks[i].err == nil:
			return nil
		case clock.Now().Sub(began) > d.o.Wait && d.c.Silent(i) != nil:
			return fmt.Errorf("%s does not serve after its turn: %w", d.c.NameOf(i), d.c.Silent(i))
		case clock.Now().Sub(began) > d.o.Wait:
			return fmt.Errorf("%s is still %d entries behind after its turn", d.c.NameOf(i), behind)
		}
	}
}

func (d *Defrag) emit(e engine.Event) {
	e.Time = d.node.Clock.Now()
	d.node.Emit(e)
}

func (d *Defrag) tell(text string) { d.emit(engine.Event{State: engine.Noted, Message: text}) }

func (d *Defrag) say(format string, args ...any) { d.tell(fmt.Sprintf(format, args...)) }

// begin notes which member's turn it is; empty: nobody's.
func (d *Defrag) begin(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.under = name
}

func (d *Defrag) underWay() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.under
}

// Interrupted says what an interrupt does now; empty: it simply ends the command.
func (d *Defrag) Interrupted() string {
	under := d.underWay()
	if under == "" {
		return ""
	}
	return fmt.Sprintf("Interrupted: %s is being defragmented, and nothing can stop that: waiting for its end, and no "+
		"other member is begun. A second Ctrl-C does not wait.", under)
}

// Left says what is left when nobody waits any longer; empty: nothing is.
func (d *Defrag) Left() string {
	under := d.underWay()
	if under == "" {
		return ""
	}
	text := fmt.Sprintf("Stopped without waiting: %s goes on being defragmented, and its clients wait for the end of "+
		"that. `etcdpod defrag` waits for it before it begins another; the lock in etcd ends by itself.", under)
	if len(d.Alarms) > 0 {
		text += " The alarm " + etcd.NoSpace + " stays."
	}
	return text
}
