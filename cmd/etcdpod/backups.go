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
)

func init() {
	offer(sectionData, (*session).backupsCommand)
}

func (s *session) backupsCommand() *cli.Command {
	return &cli.Command{
		Name: "backups", ArgsUsage: "[URL…]", Usage: "list this node's backups, and those in targets",
		Description: `Lists the backups in ` + backup.DefaultDir + ` and in the directory where this node's last ` +
			`good one was kept, or only those in --dir, with what their sidecars say. Only their length is checked; ` +
			`etcdpod verify checks one completely. With URLs of targets, all backups there are listed, too, ` +
			`whichever cluster and node they are of; etcdpod fetch gets one.`,
		UsageText: `etcdpod backups
etcdpod backups s3://etcd-backups/prod file:///mnt/backups/etcd`,
		Flags: []cli.Flag{&cli.StringFlag{Name: "dir",
			Usage: "list only the backups in `DIR`"}},
		Action: s.backups,
	}
}

func (s *session) backups(c *cli.Context) error {
	if err := backup.CheckDir(c.String("dir")); err != nil {
		return err
	}
	var found backup.Listing
	err := s.onNode(c, func(n *phases.Node, _ display) (err error) {
		if found, err = backup.List(c.Context, n.Look, c.String("dir")); err != nil || c.Args().Len() == 0 {
			return err
		}
		there, err := backup.ListTargets(c.Context, n.Engine(), c.Args().Slice())
		found.Add(there)
		return err
	})
	if err != nil {
		return err
	}
	return s.result(c, found.Entries, func(w io.Writer) { writeBackups(w, found, time.Now()) })
}

func writeBackups(w io.Writer, found backup.Listing, now time.Time) {
	if len(found.Entries) == 0 {
		fmt.Fprintf(w, "There are no backups in %s.\n", found.In())
		return
	}
	fmt.Fprintf(w, "Backups in %s:\n", strings.Join(found.Dirs, " and "))
	heads := []string{"FILE", "TAKEN", "SIZE", "REVISION", "KEYS", "ETCD"}
	sealed := slices.ContainsFunc(found.Entries, func(e backup.Entry) bool { return e.Sealed != nil })
	if sealed {
		heads = append(heads, "ENCRYPTED TO", "SIGNED BY")
	}
	rows := [][]string{append(heads, "NOTE")}
	for _, e := range found.Entries {
		row := []string{e.Path, when(e.TakenAt, now), engine.Size(e.StoredBytes()),
			fmt.Sprint(e.Revision), fmt.Sprint(e.Keys), e.EtcdVersion}
		if e.SHA256 == "" { // no sidecar describes it
			row[2], row[3], row[4] = engine.Size(e.SizeBytes), "", ""
		}
		if sealed {
			row = append(row, encryptedTo(e), signedBy(e))
		}
		rows = append(rows, append(row, e.Note))
	}
	table(w, rows)
}

func encryptedTo(e backup.Entry) string {
	switch {
	case e.Sealed == nil || e.Sealed.Encryption == "":
		return "nobody"
	case len(e.Sealed.Recipients) == 1:
		return backup.ShortRecipient(e.Sealed.Recipients[0])
	}
	return fmt.Sprintf("%d recipients", len(e.Sealed.Recipients))
}

func signedBy(e backup.Entry) string {
	if e.Sealed == nil {
		return ""
	}
	name, _, trusted := strings.Cut(e.SignedBy, ", SHA256:")
	if trusted {
		return name
	}
	return e.Signature
}
