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
	offer(sectionData, (*session).fetchCommand)
}

func (s *session) fetchCommand() *cli.Command {
	return &cli.Command{
		Name: "fetch", ArgsUsage: "URL", Usage: "fetch a backup from a target",
		Description: `Fetches the backup at URL, as etcdpod backups URL lists it, into --dir, with its sidecar and its signature. Nothing has its name there before the signature was checked, and the file is what the sidecar says; nothing is overwritten. etcdpod verify and etcdpod restore take the file then; it stays encrypted, and needs no identity here.

The options of the target follow the name of the backup: s3://BUCKET/PREFIX/CLUSTER/NAME?endpoint=…`,
		UsageText: `etcdpod fetch s3://etcd-backups/prod/cdf818194e3a8c32/etcd-cp1-20260801T020000Z-r81234.db.zst.age`,
		Flags:     []cli.Flag{backupDirFlag(), trustFlag(), unsignedFlag()},
		Action:    s.fetch,
	}
}

func (s *session) fetch(c *cli.Context) error {
	if err := backup.CheckDir(c.String("dir")); err != nil {
		return err
	}
	if err := s.asRoot(c); err != nil {
		return err
	}
	var got backup.Fetched
	err := s.onNode(c, func(n *phases.Node, show display) (err error) {
		f := backup.Fetching{URL: c.Args().First(), Dir: c.String("dir"), Unsealing: unsealing(c)}
		got, err = backup.Fetch(c.Context, n.Engine(), f, func(done, total int64) {
			show.event(engine.Event{Time: time.Now(), Phase: "fetch", Operation: c.Args().First(),
				State: engine.Progressed, Done: done, Total: total})
		})
		return err
	})
	if err != nil {
		return err
	}
	return s.result(c, got, func(w io.Writer) {
		signed := got.Signature
		if got.SignedBy != "" {
			signed = got.Signature + ", " + got.SignedBy
		}
		fmt.Fprintf(w, "%s\n%s, as its sidecar says; signature: %s\n", got.Path, engine.Size(got.SizeBytes), signed)
	})
}
