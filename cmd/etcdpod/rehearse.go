package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases"
	"github.com/etcdpod/etcdpod/phases/backup"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/rehearse"
)

func init() {
	offer(sectionData, (*session).rehearseCommand)
}

func (s *session) rehearseCommand() *cli.Command {
	memory := size(rehearse.DefaultMemory)
	return &cli.Command{
		Name: "rehearse", ArgsUsage: "FILE|latest", Usage: "try a restore without one, and look at what it gives",
		Description: `Restores a snapshot into a scratch directory, starts an etcd on it that nobody else reaches, and looks at what it serves: whether that is what the file holds, how many objects of each kind there are, and whether this node has the keys and CAs that they need. It says how long a restore takes here. Nothing that runs is touched, and nothing is left. It runs on any Linux machine, without Kubernetes and without root.

The etcd is the one given with --etcd, or that of this node, or else the one inside etcdpod, which reads the data of etcd 3.5 to 3.7. It listens on a socket in the scratch directory, with no network where the kernel grants that, and is killed at the end.

Exit code 4: the snapshot is bad; 1: it could not be restored, or etcd did not serve; 6: something was found; 5: there is not enough room or memory. On a node the result is kept, for etcdpod status and to compare the next one with: that half of a kind of objects is gone is a finding.`,
		UsageText: `etcdpod rehearse latest
etcdpod rehearse /var/lib/etcdpod/backups/etcd-cp1-20260801T020000Z-r81234.db
etcdpod rehearse latest --dir /mnt/backups --etcd /usr/local/bin/etcd --memory 2GiB`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "dir", Usage: "the latest is the newest backup in `DIR`; by default, where backups " +
				"of this node are kept"},
			&cli.StringFlag{Name: "scratch", Usage: "restore in `DIR`; by default " + backup.HomeDir + " for root, " +
				"$TMPDIR or /var/tmp for others"},
			&cli.StringFlag{Name: "etcd", Usage: "start the etcd in the file `BINARY`"},
			&cli.GenericFlag{Name: "memory", Value: &memory, Usage: "give etcd at most `SIZE` of memory of its own"},
			identityFlag(), trustFlag(), unsignedFlag(),
			&cli.DurationFlag{Name: "timeout", Value: rehearse.DefaultTimeout, Usage: "end it after so long"},
		},
		Action: s.rehearse,
	}
}

func (s *session) rehearse(c *cli.Context) error {
	if c.Bool("dry-run") {
		return &engine.UsageError{Reason: "rehearse has no --dry-run: it is one",
			Hint: "it touches nothing but a scratch directory, which it removes"}
	}
	if err := backup.CheckDir(c.String("dir")); err != nil {
		return err
	}
	o := rehearse.Options{File: c.Args().First(), Dir: c.String("dir"), Scratch: c.String("scratch"),
		Etcd: c.String("etcd"), Memory: int64(*c.Generic("memory").(*size)), Timeout: c.Duration("timeout"),
		Apart: s.apart, Unsealing: unsealing(c)}
	spareMemory()
	var r *rehearse.Report
	err := s.anywhere(c, func(n *phases.Node, _ display) (err error) {
		r, err = rehearse.Rehearse(c.Context, n.Engine(), n.Look, o)
		return err
	})
	if errors.Is(err, fs.ErrPermission) && s.uid != 0 && !engine.IsBadSnapshot(err) {
		return engine.WithHint(err, "run it with sudo, or on a copy that you may read")
	}
	if err != nil {
		return err
	}
	grave := r.Grave()
	if err := s.result(c, r, func(w io.Writer) { writeRehearsal(w, r, time.Now()) }); err != nil {
		return err
	}
	if len(grave) > 0 {
		return foundError(exitFoundWrong)
	}
	return nil
}

func writeRehearsal(w io.Writer, r *rehearse.Report, now time.Time) {
	headline := "it can be restored"
	if n := len(r.Grave()); n > 0 {
		headline = "it was restored; " + attention(n)
	}
	fmt.Fprintf(w, "%s: %s\n", r.Path, headline)
	for _, f := range r.Findings {
		mark := "  ! "
		if f.Severity == "info" {
			mark = "  - "
		}
		behind(w, mark, f.Text)
	}
	fmt.Fprintln(w)
	pairs(w, rehearsalRows(r, now))
	if len(r.Encrypted) > 0 {
		fmt.Fprintln(w)
		rows := [][]string{{"ENCRYPTED", "WITH", "OBJECTS", "READABLE HERE"}}
		for _, e := range r.Encrypted {
			rows = append(rows, []string{cmp.Or(e.Resource, "outside /registry"), e.Provider, fmt.Sprint(e.Objects),
				e.Readable})
		}
		table(w, rows)
	}
	if len(r.Resources) > 0 {
		fmt.Fprintln(w)
		rows := [][]string{{"OBJECTS", "RESOURCE"}}
		for _, name := range slices.Sorted(maps.Keys(r.Resources)) {
			rows = append(rows, []string{fmt.Sprint(r.Resources[name]), name})
		}
		table(w, rows)
	}
}

func rehearsalRows(r *rehearse.Report, now time.Time) (rows [][]string) {
	add := func(name, format string, args ...any) {
		rows = append(rows, []string{name, fmt.Sprintf(format, args...)})
	}
	if !r.TakenAt.IsZero() {
		add("taken", "%s", when(r.TakenAt, now))
	}
	add("restore here", "about %s: %s to restore %s, %s until etcd serves", short(engine.Seconds(r.RestoreSeconds)),
		short(engine.Seconds(r.StageSeconds)), engine.Size(r.SizeBytes), short(engine.Seconds(r.LoadSeconds)))
	add("etcd", "%s", etcdText(r.Etcd))
	add("revision", "%d", r.Revision)
	add("keys", "%d", r.Keys)
	if p := r.Previous; p != nil {
		add("before", "%d keys at revision %d, in %s, rehearsed %s", p.Keys, p.Revision, p.Path, when(p.At, now))
	}
	n := r.Needs
	add("members", "%s", needText(each(n.Members, func(m rehearse.Need) rehearse.Need {
		return rehearse.Need{Name: cmp.Or(m.Name, "one that never started"), Here: m.Here}
	}), n.Checked, "this node"))
	const most = 20
	nodes := strings.Join(n.Nodes[:min(most, len(n.Nodes))], ", ")
	if more := len(n.Nodes) - most; more > 0 {
		nodes += fmt.Sprintf(", and %d more", more)
	}
	add("nodes", "%s", cmp.Or(nodes, "none is registered"))
	if len(n.CAs) > 0 {
		add("CAs", "%s", needText(n.CAs, n.Checked, "here"))
	}
	if len(n.TokenKeys) > 0 {
		add("token keys", "%s", needText(n.TokenKeys, n.Checked, "here"))
	}
	if len(n.Files) > 0 {
		add("files", "%s", needText(n.Files, n.Checked, "as then"))
	}
	return rows
}

func etcdText(e *rehearse.Etcd) string {
	from := map[string]string{"file": e.Path, "node": "as it runs on this node", "built-in": "the one in etcdpod"}
	text := e.Version + ", " + from[e.From]
	if e.DataVersion != "" {
		text += "; the data is of " + e.DataVersion
	}
	if !e.NoNetwork {
		text += "; the network could not be kept from it"
	}
	return text
}

// needText lists what is needed. Whether it is here is said where this node was looked at.
func needText(all []rehearse.Need, checked bool, here string) string {
	return strings.Join(each(all, func(n rehearse.Need) string {
		name := n.Name
		if len(name) > 24 && !strings.Contains(name, "/") && here != "this node" { // a fingerprint
			name = name[:16] + "…"
		}
		switch {
		case checked && n.Here:
			return fmt.Sprintf("%s (%s)", name, here)
		case checked && here != "this node":
			return fmt.Sprintf("%s (not %s)", name, here)
		}
		return name
	}), ", ")
}

// size is the value of a flag that takes a number of bytes, with a unit.
type size int64

func (v *size) String() string {
	for _, u := range sizeUnits() {
		if n := int64(*v); n >= u.bytes && n%u.bytes == 0 {
			return fmt.Sprintf("%d%s", n/u.bytes, u.name)
		}
	}
	return fmt.Sprint(int64(*v))
}

func (v *size) Set(word string) error {
	for _, u := range sizeUnits() {
		if number, has := strings.CutSuffix(word, u.name); has {
			n, err := strconv.ParseFloat(number, 64)
			if err == nil && n > 0 && n*float64(u.bytes) < 1<<60 {
				*v = size(n * float64(u.bytes))
				return nil
			}
		}
	}
	return errors.New("expected a size like 512MiB or 2GiB")
}

type sizeUnit struct {
	name  string
	bytes int64
}

func sizeUnits() []sizeUnit { return []sizeUnit{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} }
