package main

import (
	"cmp"
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases"
	"github.com/etcdpod/etcdpod/phases/defrag"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/together"
)

func init() {
	offer(sectionMembers, (*session).defragCommand)
}

func (s *session) defragCommand() *cli.Command {
	return &cli.Command{
		Name: "defrag", Usage: "have the members give free space back, one after the other",
		Description: `Has each member rewrite its database without the free pages in it. Meanwhile that member answers nobody, and the API server that uses it waits; the others go on. --dry-run shows for each member what it would gain, about how long that takes, which API server waits, and why it is passed over if it is.

Never two at once: a member that was asked goes on whatever happens to etcdpod, so the next one begins only when its metrics say that nothing is under way, it serves, and it has caught up. Before the first, all members are looked at, and one that is still at it is waited for. All etcdpod defrag of a cluster share a lock in etcd, which is a lease and no key.

--when is a rule in expr: with dbSize, dbSizeInUse, dbSizeFree, dbQuota (in bytes, the quota is etcd's own), dbQuotaUsage (a share), and KB, MB, GB, KiB, MiB, GiB. Learners and members that are behind are passed over. etcd before 3.5.23, and 3.6 before 3.6.5, is refused. It never compacts, and never moves the leader, whose turn is the last.

If databases have reached their quota (NOSPACE), the alarm is disarmed once every member is below its quota again. It runs on a control plane, or with --endpoints, --cacert, --cert and --key anywhere else, such as in a pod. An interrupt ends it after the member that is under way; a second one does not wait for that. Before it begins it asks; without a terminal, --yes is needed.`,
		UsageText: `etcdpod defrag --dry-run
etcdpod defrag --when 'dbQuotaUsage > 0.8 || dbSize - dbSizeInUse > 200*MiB' --min-reclaim 10% --yes
etcdpod defrag --nodes cp2,cp3
etcdpod defrag --endpoints https://10.0.0.11:2379 --cacert ca.crt --cert client.crt --key client.key --yes`,
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "nodes", Usage: "only the members on `NAME,…`; the others are looked at, too"},
			&cli.StringFlag{Name: "when", Usage: "only members for which the rule `EXPR` is true"},
			&cli.StringFlag{Name: "min-reclaim", Value: "0%", Usage: "only members that are expected to give back " +
				"`SHARE`, such as 10% of their database or 200MiB"},
			&cli.StringFlag{Name: "backup", Usage: "where this node has no etcd of its own, tell from the backup in " +
				"`FILE` how large a database becomes"},
			&cli.DurationFlag{Name: "wait", Value: defrag.DefaultWait, Usage: "wait so long for what is under way " +
				"already, and for a member that does not come back, before giving up"},
		},
		Action: s.defrag,
	}
}

// defragOptions reads the flags, before anything is looked at.
func defragOptions(c *cli.Context) (o defrag.Options, err error) {
	if c.IsSet("when") {
		if o.When, err = defrag.ParseRule(c.String("when")); err != nil {
			return o, err
		}
	}
	if o.MinReclaim, err = defrag.ParseReclaim(c.String("min-reclaim")); err != nil {
		return o, err
	}
	o.Backup = c.String("backup")
	if o.Wait = c.Duration("wait"); o.Wait <= 0 {
		return o, &engine.UsageError{Reason: "--wait must be longer than nothing"}
	}
	if !c.IsSet("nodes") {
		return o, nil
	}
	nodes, err := together.ParseNodes(c.StringSlice("nodes"))
	for _, node := range nodes {
		o.Nodes = append(o.Nodes, node.Name)
	}
	return o, err
}

func (s *session) defrag(c *cli.Context) error {
	o, err := defragOptions(c)
	if err != nil {
		return err
	}
	if !c.IsSet("endpoints") { // in a pod there is no node, and nobody has to be root
		if err := s.asRoot(c); err != nil {
			return err
		}
	}
	dryRun := c.Bool("dry-run")
	if !dryRun {
		if err := s.mayAsk(c); err != nil {
			return err
		}
	}
	var d *defrag.Defrag
	nothing := false
	err = s.onNode(c, func(n *phases.Node, show display) error {
		if d, err = defrag.Plan(c.Context, n.Look, o); err != nil {
			return err
		}
		if nothing = d.Nothing(); dryRun || nothing {
			return nil
		}
		if err := s.confirm(c, show, func(w io.Writer) {
			writeDefrag(w, &d.Report)
			writeStakes(w, d.Stakes(), s.width())
		}); err != nil {
			return err
		}
		s.goesOn(d)
		defer s.goesOn(nil)
		return d.Carry(c.Context, n.Engine())
	})
	if err != nil {
		return err
	}
	s.done(c, &d.Report, func(w io.Writer) {
		writeDefrag(w, &d.Report)
		switch {
		case nothing:
			fmt.Fprintln(w, "\nNothing to do.")
		case dryRun:
			writeStakes(w, d.Stakes(), s.width())
			fmt.Fprintf(w, "\nNothing was changed. Without --dry-run, %s does the above.\n", c.Command.Name)
		}
	})
	return nil
}

// writeDefrag writes what each member is like, and what is known besides.
func writeDefrag(w io.Writer, r *defrag.Report) {
	rows := [][]string{{"MEMBER", "ROLE", "SIZE", "IN USE", "QUOTA", "AFTER", "STALL", "API SERVERS", "TURN"}}
	for _, m := range r.Members {
		rows = append(rows, defragRow(m))
	}
	tableWithin(w, rows, widthOf(w), "IN USE", "ROLE")
	for _, m := range r.Members {
		if m.Reason != "" {
			behind(w, "- ", fmt.Sprintf("%s is passed over: %s", cmp.Or(m.Name, m.ID), oneLine(m.Reason)))
		}
	}
	for _, note := range r.Notes {
		behind(w, "- ", oneLine(note))
	}
}

func defragRow(m defrag.Member) []string {
	row := []string{cmp.Or(m.Name, m.ID), m.Role, "-", "-", "-", "-", "-", orDash(serversText(m.APIServers)), m.State}
	if m.SizeBytes > 0 {
		row[2], row[3], row[5] = engine.Size(m.SizeBytes), engine.Size(m.InUseBytes), "≈ "+engine.Size(m.PredictedBytes)
		row[6] = "≈ " + short(engine.Seconds(m.StallSeconds).Round(100*time.Millisecond))
	}
	if m.QuotaBytes > 0 {
		row[4] = engine.Size(m.QuotaBytes)
	}
	if m.AfterBytes > 0 {
		row[5], row[6] = engine.Size(m.AfterBytes), short(engine.Seconds(m.Seconds))
	}
	return row
}
