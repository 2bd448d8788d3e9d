package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases"
	"github.com/etcdpod/etcdpod/phases/backup"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/phases/rehearse"
	"github.com/etcdpod/etcdpod/phases/status"
)

func init() {
	offer(sectionLook, (*session).statusCommand)
}

func (s *session) statusCommand() *cli.Command {
	return &cli.Command{
		Name: "status", Usage: "show the state of etcd and of this node, and what to do next",
		Description: `Shows member, manifests, containers, alarms, certificates, the newest backup and open runs. ` +
			`The first line says how things are, the last what to do next. Exit code 6 ` +
			`when something is wrong. It works when everything is down, and ` +
			`changes nothing. With --nodes it queries the other nodes over ssh, and compares them; a recent backup ` +
			`of one member then counts for its whole cluster.

It watches etcd for a second: how fast its disk is, and whether it keeps up. It warns only of what lasts for five, for which it then watches. What etcd has measured since its start is shown apart.

With -o prometheus it writes metrics, for node-exporter's textfile collector. With --watch it looks again every 5 seconds until Ctrl-C, and watches etcd all the time; the exit code is that of the last look.`,
		UsageText: `etcdpod status
etcdpod status --watch
etcdpod status --dir /mnt/backups --max-backup-age 7d
etcdpod status --nodes cp1,cp2,cp3`,
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "nodes", Usage: "show all of `NAME[=HOST],…` in one table"},
			&cli.StringFlag{Name: "dir", Usage: "look for backups in `DIR`, not where the last good one was kept"},
			&cli.GenericFlag{Name: "max-backup-age", Value: newMaxAge(24 * time.Hour), Usage: "warn if the newest " +
				"backup is older than `AGE`, such as 26h or 7d; none if this node is not meant to take backups"},
			&cli.BoolFlag{Name: "watch", Aliases: []string{"w"}, Usage: "look again every 5 seconds, until Ctrl-C"},
			sshCommandFlag(), remoteCommandFlag(),
		},
		Action: func(c *cli.Context) error {
			if err := backup.CheckDir(c.String("dir")); err != nil {
				return err
			}
			look := s.status
			if c.IsSet("nodes") {
				look = s.statusOfNodes
			}
			if c.Bool("watch") {
				return s.watch(c, look)
			}
			return look(c)
		},
	}
}

func statusOptions(c *cli.Context, dir string) status.Options {
	return status.Options{BackupDir: dir, MaxBackupAge: time.Duration(*c.Generic("max-backup-age").(*maxAge))}
}

func (s *session) status(c *cli.Context) error {
	var seen status.Status
	err := s.onNode(c, func(n *phases.Node, _ display) (err error) {
		o := statusOptions(c, c.String("dir"))
		o.Last = s.lastLook[""]
		seen, err = status.Of(c.Context, n.Look, o)
		s.lastLook = map[string]*observe.Figures{"": seen.Last()}
		return err
	})
	if err != nil {
		return err
	}
	seen.Problem = oneLine(seen.Problem)
	if asPrometheus(c) {
		err = s.metrics(func(m *metrics) { m.of(seen, time.Now()) }, seen.Findings)
	} else {
		err = s.result(c, &seen, func(w io.Writer) { writeStatus(w, seen, time.Now()) })
	}
	return orFound(err, seen.Warnings)
}

// orFound is how a look ends that found something wrong, unless it failed.
func orFound(err error, warnings []string) error {
	if err == nil && len(warnings) > 0 {
		return foundError(exitFoundWrong)
	}
	return err
}

func writeStatus(w io.Writer, st status.Status, now time.Time) {
	if st.Next == "" && len(st.Warnings) == 1 { // the one fact that explains all the rest
		fmt.Fprintf(w, "%s: %s\n", st.Node, st.Warnings[0])
		return
	}
	fmt.Fprintf(w, "%s: %s\n", st.Node, headline(st))
	writeQuorum(w, st.Quorum)
	for _, warning := range st.Warnings {
		behind(w, "  ! ", warning)
	}
	fmt.Fprintln(w)
	pairs(w, memberRows(st, now))
	if len(st.Manifests) > 0 {
		fmt.Fprintln(w)
		table(w, manifestRows(st, now))
	}
	if len(st.Certificates) > 0 {
		fmt.Fprintln(w)
		table(w, certificateRows(st))
	}
	if st.Next != "" {
		fmt.Fprintln(w)
		writeNext(w, st.Next)
	}
}

// writeQuorum says how many members serve, and what the next loss would do.
func writeQuorum(w io.Writer, q *status.Quorum) {
	if q != nil {
		behind(w, "  ", q.Text)
	}
}

// writeNext says what to do, which may be nothing.
func writeNext(w io.Writer, next string) {
	if next == status.NothingToDo {
		fmt.Fprintln(w, "Nothing to do.")
		return
	}
	behind(w, "Next: ", next)
}

func headline(st status.Status) string {
	var state string
	switch m := st.Member; {
	case st.OpenRun != nil:
		state = runHeadline(st.OpenRun)
	case st.WithoutEtcd():
		state = "runs no etcd"
	case m == nil && st.Problem == "":
		state = "etcd was not queried" // the warnings say why
	case m == nil:
		state = "etcd does not answer"
	case m.Learner:
		state = fmt.Sprintf("etcd %s is a learner", m.Version)
	case m.NoQuorum:
		state = fmt.Sprintf("etcd %s has no quorum", m.Version)
	case st.Problem != "":
		state = fmt.Sprintf("etcd %s does not serve", m.Version)
	default:
		state = fmt.Sprintf("etcd %s serves", m.Version)
	}
	return state + "; " + attention(len(st.Warnings))
}

func runHeadline(r *engine.RunSummary) string {
	if r.State == engine.Running {
		return "a run is under way: " + r.ID
	}
	if r.Error != "" {
		return "it is not known what a run did: " + r.ID
	}
	return "a run is open: " + r.ID
}

func attention(warnings int) string {
	if warnings > 0 {
		return count(warnings, "thing needs", "things need") + " attention"
	}
	return "all is well"
}

// memberRows returns the facts about etcd, each with its name.
func memberRows(st status.Status, now time.Time) [][]string {
	rows := [][]string{{"kubelet", st.Kubelet}, {"runtime", st.Runtime}}
	add := func(name, format string, args ...any) {
		rows = append(rows, []string{name, fmt.Sprintf(format, args...)})
	}
	if m := st.Member; m != nil {
		add("etcd", "%s (%s) at %s, %s", m.Name, m.ID, m.Endpoint, roleOf(m))
		add("revision", "%d", m.Revision)
		add("database", "%s", databaseText(m))
		if c := m.Compared; c != nil && c.Members+len(c.NotCompared) > 0 {
			add("compared", "%s", comparedText(c))
		}
	}
	rows = append(rows, paceRows(st.Pace, now)...)
	if st.Problem != "" {
		add("etcd", "%s", st.Problem)
	}
	var names []string
	for _, m := range st.Members {
		name := m.Name
		if name == "" {
			name = strings.Join(m.PeerURLs, ",") + " (never started)"
		}
		names = append(names, name)
	}
	slices.Sort(names)
	if len(names) > 0 {
		add("members", "%s", strings.Join(names, ", "))
	}
	if len(st.Alarms) > 0 {
		add("alarms", "%s", strings.Join(st.Alarms, ", "))
	}
	if b := st.NewestBackup; b != nil {
		add("newest backup", "%s, %s, %s", b.Path, when(b.TakenAt, now), engine.Size(b.SizeBytes))
	} else {
		add("newest backup", "none")
	}
	if r := st.Rehearsal; r != nil {
		add("rehearsed", "%s", rehearsedText(r, now))
	}
	if r := st.OpenRun; r != nil && r.Error == "" {
		add("open run", "%s, stopped in %s, at: %s", r.ID, r.Phase, r.Operation)
	}
	return rows
}

// rehearsedText says what came out of the newest rehearsal.
func rehearsedText(r *rehearse.Brief, now time.Time) string {
	text := fmt.Sprintf("%s, %s", r.Path, when(r.At, now))
	switch {
	case r.Outcome == rehearse.Failed || r.Outcome == rehearse.Bad:
		return text + ": it failed"
	case r.Outcome == rehearse.Found:
		text += ": something was found"
	}
	return text + "; a restore takes about " + short(engine.Seconds(r.RestoreSeconds))
}

func roleOf(m *status.MemberStatus) string {
	switch {
	case m.Leader:
		return "leader"
	case m.Learner:
		return "learner"
	}
	return "voter"
}

func databaseText(m *status.MemberStatus) string {
	text := fmt.Sprintf("%s, %s of it in use", engine.Size(m.SizeBytes), engine.Size(m.InUseBytes))
	if m.QuotaBytes > 0 {
		text += fmt.Sprintf(", quota %s", engine.Size(m.QuotaBytes))
	}
	if m.StorageVersion != "" {
		text += ", storage version " + m.StorageVersion
	}
	return text
}

func manifestRows(st status.Status, now time.Time) [][]string {
	rows := [][]string{{"MANIFEST", "IMAGE", "CONTAINERS"}}
	for _, m := range st.Manifests {
		var containers []string
		for _, c := range m.Containers {
			containers = append(containers, fmt.Sprintf("%s %s, attempt %d, %s",
				c.Name, c.State, c.Attempt, engine.Age(now.Sub(c.Since))))
		}
		text := strings.Join(containers, "; ")
		if text == "" {
			text = "none"
		}
		if m.Problem != "" {
			text = m.Problem
		}
		rows = append(rows, []string{m.Path, m.Image, text})
	}
	return rows
}

func certificateRows(st status.Status) [][]string {
	rows := [][]string{{"CERTIFICATE", "CN", "ENDS", "DAYS LEFT"}}
	for _, c := range st.Certificates {
		row := []string{c.Path, c.CN, c.NotAfter.UTC().Format(time.RFC3339), fmt.Sprint(c.DaysLeft)}
		if c.Problem != "" {
			row = append(row, c.Problem)
		}
		if c.NotAfter.IsZero() {
			row = []string{c.Path, c.CN, "", "", c.Problem}
		}
		rows = append(rows, row)
	}
	return rows
}
