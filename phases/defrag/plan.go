package defrag

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
	"github.com/etcdpod/etcdpod/phases/members"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// Options are what a person may ask of `defrag`.
type Options struct {
	When       *Rule    // nil: whatever their databases are like
	MinReclaim Reclaim  // of a member that is defragmented
	Nodes      []string // whose members are meant: their names, or the members'; none: all
	Backup     string   // whose entries tell how large a database becomes, where no own one does
	// How long something is waited for that somebody else has begun, or that does not end.
	Wait time.Duration

	// For tests: after giveUp the answer of a member is not waited for; 0: it is. claim is how long
	// the lock lasts; 0: [leastClaim].
	giveUp, claim time.Duration
}

// DefaultWait is for [Options.Wait].
const DefaultWait = 15 * time.Minute

// Defrag is what would be done, and then what was done.
type Defrag struct {
	Report
	o    Options
	node *observe.Node
	c    *cluster
	at   []int // the members' places in c

	entries int64   // how large they make a database; 0: not known, -1: nobody has looked
	from    string  // what that is from
	pace    float64 // how long the last turn took, compared with what was predicted

	mu    sync.Mutex
	under string // the member that is being defragmented; empty: none
}

// Plan looks at all members, and says what would be done. It changes nothing, and refuses what
// would not go well.
func Plan(ctx context.Context, n *observe.Node, o Options) (*Defrag, error) {
	if err := engine.RefuseOpen(n.FS); err != nil {
		return nil, err
	}
	o.Wait = cmp.Or(o.Wait, DefaultWait)
	d := &Defrag{o: o, node: n, pace: 1, entries: -1}
	return d, d.look(ctx)
}

// look asks the members, and decides about each.
func (d *Defrag) look(ctx context.Context) (err error) {
	if d.c, err = ask(ctx, d.node); err != nil {
		return err
	}
	d.Notes, d.Alarms = []string{}, []Alarm{}
	d.alarms()
	if err := cmp.Or(d.checkNodes(), d.checkQuorum(), d.checkCorrupt(), d.checkSeen(), d.checkSilent(),
		d.checkVersions()); err != nil {
		return err
	}
	return d.judge(ctx)
}

// alarms notes the NOSPACE that are raised.
func (d *Defrag) alarms() {
	for _, a := range d.c.Raised() {
		if a.Name != etcd.NoSpace {
			continue
		}
		one := Alarm{ID: etcd.FormatID(a.MemberID)}
		for i := range d.c.Members {
			if d.c.MemberID(i) == a.MemberID {
				one.Name = d.c.NameOf(i)
			}
		}
		d.Alarms = append(d.Alarms, one)
	}
}

// isMeant says whether a member is one of those that a person gave.
func (d *Defrag) isMeant(i int) bool {
	e := d.c.Members[i]
	return len(d.o.Nodes) == 0 || slices.ContainsFunc(d.o.Nodes, func(name string) bool {
		return name == e.Name || name == e.Node && e.Node != ""
	})
}

func (d *Defrag) checkNodes() error {
	for _, name := range d.o.Nodes {
		if !slices.ContainsFunc(d.c.Members, func(e members.Entry) bool { return e.Name == name || e.Node == name }) {
			return engine.Refuse("give names that `etcdpod members` lists", "there is no member on a node %s, and "+
				"none with that name", name)
		}
	}
	return nil
}

func (d *Defrag) checkQuorum() error {
	if d.c.Quorum {
		return nil
	}
	if busy := d.c.busy(); len(busy) > 0 {
		return nil // whoever is waited for may be part of it
	}
	return engine.Refuse("`etcdpod members` shows which members do not answer: start them first",
		"cannot defragment: no quorum answers")
}

func (d *Defrag) checkCorrupt() error {
	for _, a := range d.c.Raised() {
		if a.Name == "CORRUPT" {
			return engine.Refuse("run `etcdpod status`: it says what to do about it", "cannot defragment: etcd raised "+
				"the alarm CORRUPT of member %s", etcd.FormatID(a.MemberID))
		}
	}
	return nil
}

// checkSeen refuses where it cannot be seen whether a member that serves is being defragmented. One
// that does not answer at all may be, and is waited for.
func (d *Defrag) checkSeen() error {
	for i, l := range d.c.looks {
		if _, err := d.c.Way(i); l.started && err != nil {
			return engine.Refuse("run it where all members can be reached: `etcdpod members` shows their client URLs",
				"cannot defragment: cannot see whether %s is at it: %v", d.c.NameOf(i), err)
		}
		if l.started && l.err != nil && !l.down() && d.c.Silent(i) == nil {
			return engine.Refuse("its metrics must be reachable from here, at its client URLs or at those of "+
				"--listen-metrics-urls: run it on that node, or correct etcd's flags", "cannot see whether %s is "+
				"being defragmented: %v", d.c.NameOf(i), l.err)
		}
	}
	return nil
}

// checkSilent refuses to take one more member out of service while a voter is down, except where
// that is what cures the cluster.
func (d *Defrag) checkSilent() error {
	for i, e := range d.c.Members {
		if e.Role == "learner" || !d.c.looks[i].down() || len(d.Alarms) > 0 {
			continue
		}
		return engine.Refuse("start it first, or remove it with `etcdpod remove`: `etcdpod members` shows the members",
			"cannot defragment: %s is down, and one more would not serve meanwhile", d.c.NameOf(i))
	}
	return nil
}

func (d *Defrag) checkVersions() error {
	for i, e := range d.c.Members {
		if !e.Answers || !d.isMeant(i) || e.Role == "learner" {
			continue
		}
		if floor := observe.DefragFloor(e.Version); floor != "" {
			return engine.Refuse("upgrade etcd first", "cannot defragment %s: it runs etcd %s, and before %s a "+
				"defragmentation may corrupt the database", d.c.NameOf(i), e.Version, floor)
		}
	}
	return nil
}

// judge decides about each member whether its turn is to come.
func (d *Defrag) judge(ctx context.Context) error {
	if d.entries < 0 {
		d.entries, d.from = d.c.sizeOfEntries(ctx), "entries"
		if d.entries == 0 && d.o.Backup != "" {
			var err error
			if d.entries, err = snapfile.Packed(ctx, d.o.Backup); err != nil {
				return err
			}
			d.from = "backup"
		}
	}
	d.Report.Members, d.at = []Member{}, nil
	for i, e := range d.c.Members {
		m := Member{ID: e.ID, Name: e.Name, Role: e.Role, Node: e.Node, Version: e.Version, SizeBytes: e.SizeBytes,
			InUseBytes: e.InUseBytes, APIServers: e.APIServers, State: passedOver}
		if e.Answers {
			m.QuotaBytes = d.c.quota(i)
			m.predict(d.entries, d.from, d.pace)
		}
		reason, err := d.reason(ctx, i, &m)
		if err != nil {
			return err
		}
		if m.Reason = reason; reason == "" {
			m.State = due
			if err := d.checkRoom(i, &m); err != nil {
				return err
			}
		}
		d.Report.Members, d.at = append(d.Report.Members, m), append(d.at, i)
	}
	d.note()
	return ctx.Err()
}

// reason says why a member is passed over; empty: it is not.
func (d *Defrag) reason(ctx context.Context, i int, m *Member) (string, error) {
	e, l := d.c.Members[i], d.c.looks[i]
	switch {
	case !e.Started:
		return "it has never started", nil
	case m.Role == "learner":
		return "it is a learner", nil
	case !d.isMeant(i):
		return "it is not among the given ones", nil
	case l.err == nil && l.Defragmenting:
		return "it is being defragmented: this is waited for, and then decided", nil
	case !e.Answers:
		return "it does not answer: " + e.Error, nil
	}
	fires, err := d.o.When.fires(m.SizeBytes, m.InUseBytes, m.QuotaBytes)
	if err != nil {
		return "", err
	}
	if !fires {
		return fmt.Sprintf("the rule is false: dbSize=%d dbSizeInUse=%d dbSizeFree=%d dbQuota=%d dbQuotaUsage=%.3f",
			m.SizeBytes, m.InUseBytes, m.SizeBytes-m.InUseBytes, m.QuotaBytes,
			facts(m.SizeBytes, m.InUseBytes, m.QuotaBytes)["dbQuotaUsage"]), nil
	}
	if gain := m.gain(); !d.o.MinReclaim.enough(m.SizeBytes, gain) {
		return fmt.Sprintf("it would become smaller by about %s (%d %%): --min-reclaim is %s", engine.Size(gain),
			100*gain/max(1, m.SizeBytes), d.o.MinReclaim.text), nil
	}
	if behind := d.c.Behind(ctx, i, d.c.Committed(), func() {}); behind > 0 {
		return fmt.Sprintf("it is %d entries behind", behind), nil
	}
	return "", nil
}

// spareRoom is what must be free besides the new file.
const spareRoom = 64 << 20

// checkRoom refuses where the new file does not fit beside the old one, if that can be seen.
func (d *Defrag) checkRoom(i int, m *Member) error {
	needs := uint64(m.PredictedBytes) + spareRoom
	if i != d.c.Own() || d.c.Pod() == nil {
		return nil
	}
	dir := path.Join(d.c.Pod().DataDir, snapDir)
	free, err := d.node.FS.Free(dir)
	if err != nil {
		return fmt.Errorf("cannot determine how much is free at %s: %w", dir, err)
	}
	if free < needs {
		return engine.Refuse("make room there, or give the other nodes with --nodes", "cannot defragment %s: %s has "+
			"%s free, and the new database needs %s beside the old one", d.c.NameOf(i), dir, engine.Size(free),
			engine.Size(needs))
	}
	return nil
}

// note says what a person should know before a yes.
func (d *Defrag) note() {
	say := func(format string, args ...any) { d.Notes = append(d.Notes, fmt.Sprintf(format, args...)) }
	for _, text := range d.c.busy() {
		say("%s: this is waited for first", text)
	}
	var unseen []string
	for at, m := range d.Report.Members {
		if m.State != due {
			continue
		}
		if d.at[at] != d.c.Own() {
			unseen = append(unseen, fmt.Sprintf("%s on %s", engine.Size(m.PredictedBytes), cmp.Or(m.Name, m.ID)))
		}
	}
	d.Notes = append(d.Notes, stalls(d.Report.Members)...)
	if len(unseen) > 0 {
		say("the new database needs room beside the old one, and those disks cannot be seen from here: about %s",
			strings.Join(unseen, ", "))
	}
	if len(d.Alarms) > 0 {
		say("etcd takes no writes: %s raised by %s; it is disarmed once every member is below its quota", etcd.NoSpace,
			d.alarmed())
	}
}

// stalls warns of those who may be killed for not answering.
func stalls(all []Member) (texts []string) {
	for _, m := range all {
		if m.State == due && m.StallSeconds > longStall {
			texts = append(texts, fmt.Sprintf("%s may not answer for %.0f s, and the kubelet kills an etcd whose "+
				"liveness probe fails for about %d s, which would undo the work: raise livenessProbe.failureThreshold "+
				"in its manifest first", m.nameOf(), m.StallSeconds, probeKills))
		}
	}
	return texts
}

// alarmed are those that raised an alarm.
func (d *Defrag) alarmed() string {
	var names []string
	for _, a := range d.Alarms {
		if a.Name == "" {
			a.Name = a.ID + ", which is no member any more"
		}
		names = append(names, a.Name)
	}
	return strings.Join(names, ", ")
}

// Nothing says whether there is nothing to do.
func (d *Defrag) Nothing() bool { return d.Due() == 0 && len(d.Alarms) == 0 && len(d.c.busy()) == 0 }

// Stakes are what a yes means.
func (d *Defrag) Stakes() engine.Stakes {
	var lost []string
	for _, m := range d.Report.Members {
		if m.State == due {
			lost = append(lost, fmt.Sprintf("for about %.0f s nothing that uses %s is answered%s",
				max(1, m.StallSeconds), m.nameOf(), hit(m)))
		}
	}
	if len(lost) == 0 {
		lost = []string{"nothing"}
	}
	return engine.Stakes{Lost: lost}
}

// hit says which API servers wait for a member.
func hit(m Member) string {
	var nodes []string
	for _, a := range m.APIServers {
		nodes = append(nodes, cmp.Or(a.Node, a.Address, "an unknown node"))
	}
	if len(nodes) == 0 {
		return ""
	}
	return ": the API server on " + strings.Join(nodes, ", ")
}

// interrupted says what a command that ends early leaves.
func (d *Defrag) interrupted(ctx context.Context, err error) error {
	var done, left []string
	for _, m := range d.Report.Members {
		switch m.State {
		case defragmented:
			done = append(done, cmp.Or(m.Name, m.ID))
		case due, unknown:
			left = append(left, cmp.Or(m.Name, m.ID))
		}
	}
	if err == nil && ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	return fmt.Errorf("%w; defragmented: %s; not: %s", err, cmp.Or(strings.Join(done, ", "), "none"),
		cmp.Or(strings.Join(left, ", "), "none"))
}
