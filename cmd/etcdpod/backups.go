package main

import (
	"fmt"
	"io"
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
		Name: "backups", Usage: "list this node's backups",
		Description: `Lists what is in --dir, according to the sidecars beside the snapshots. Only their length is ` +
			`checked; etcdpod verify checks one completely.`,
		UsageText: `etcdpod backups`,
		Flags:     []cli.Flag{backupDirFlag()},
		Action:    s.backups,
	}
}

func (s *session) backups(c *cli.Context) error {
	var entries []backup.Entry
	asked := "" // the default directory, which need not exist
	if c.IsSet("dir") {
		asked = c.String("dir")
	}
	if err := backup.CheckDir(c.String("dir")); err != nil {
		return err
	}
	err := s.onNode(c, func(n *phases.Node, _ display) (err error) {
		entries, err = backup.List(c.Context, n.Look, asked)
		return err
	})
	if err != nil {
		return err
	}
	return s.result(c, entries, func(w io.Writer) { writeBackups(w, c.String("dir"), entries, time.Now()) })
}

func writeBackups(w io.Writer, dir string, entries []backup.Entry, now time.Time) {
	if len(entries) == 0 {
		fmt.Fprintf(w, "There are no backups in %s.\n", dir)
		return
	}
	rows := [][]string{{"FILE", "TAKEN", "SIZE", "REVISION", "KEYS", "ETCD", "NOTE"}}
	for _, e := range entries {
		row := []string{e.Path, when(e.TakenAt, now), engine.Size(e.SizeBytes),
			fmt.Sprint(e.Revision), fmt.Sprint(e.Keys), e.EtcdVersion, e.Note}
		if e.SHA256 == "" { // no sidecar describes it
			row[3], row[4] = "", ""
		}
		rows = append(rows, row)
	}
	table(w, rows)
}
