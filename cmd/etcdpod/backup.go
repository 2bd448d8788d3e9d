package main

import (
	"fmt"
	"io"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases"
	"github.com/etcdpod/etcdpod/phases/backup"
	"github.com/etcdpod/etcdpod/phases/engine"
)

func backupDirFlag() cli.Flag {
	return &cli.StringFlag{Name: "dir", Value: backup.DefaultDir, Usage: "use `DIR` on the node for backups"}
}

func init() {
	offer(sectionData, (*session).backupCommand)
}

func (s *session) backupCommand() *cli.Command {
	return &cli.Command{
		Name: "backup", ArgsUsage: "[FILE]", Usage: "take a snapshot of etcd and verify it",
		Description: `The snapshot goes to FILE, or into --dir under the name etcd-<node>-<UTC>-r<revision>.db, mode 0600, with a sidecar that describes it next to it, in .json. It gets its name only once its length, SHA-256, pages and keys have been checked; on any failure there is no file of that name. A running etcd keeps serving.

Nobody but root may be able to replace what is in the directory. The members of a cluster are compared: if one does not hold what the others do, or etcd has raised the alarm CORRUPT, that is said, the backup is made all the same, and the exit code is 6; while this node's member is the one that may be wrong, --keep deletes nothing. The exit code is also 6 if an earlier backup of this node holds what etcd does not, because it has lost its data or is a member of another cluster, and no run explains that: then --keep deletes nothing until you have moved the backups from before to another directory. A backup of another etcd, at other --endpoints or of another cluster's data directory, is not one of this node's, and is named after the member whose data it is.

With --encrypt-to the backup is compressed with zstd and encrypted with age, and its name ends in .db.zst.age: only who has an identity of one of the recipients can restore it, and this node needs none. Until it is sealed, the snapshot itself is in /var/lib/etcdpod, for root alone. The sidecar stays readable, and is signed, so that nobody can put another backup in its place.

With --to the backup is compressed and sent to a target: a directory that must be mounted, S3, Azure Blob Storage or SFTP. What is there is read back and held against what was sent, and its sidecar comes last: without it nothing counts. With --dir or FILE it is kept on the node, too, and otherwise in the targets only. If one of several places does not get it, the others have it all the same, and the exit code is 6. etcdpod target check tries a target.

Keep the cluster's CAs, sa.key and encryption configuration somewhere else, too: without them a snapshot is useless on another machine.`,
		UsageText: `etcdpod backup
etcdpod backup /mnt/safe/cp1.db
etcdpod backup --keep 14
etcdpod backup --encrypt-to /etc/etcdpod/recipients --keep 14
etcdpod backup --encrypt-to /etc/etcdpod/recipients --to s3://etcd-backups/prod`,
		Flags: []cli.Flag{
			backupDirFlag(),
			&cli.IntFlag{Name: "keep", DefaultText: "all",
				Usage: "then delete all but the newest `N` backups of this node in --dir"},
			&cli.BoolFlag{Name: "shared-dir",
				Usage: "allow a directory that others may write to: they could replace or delete the backup"},
			&cli.StringSliceFlag{Name: "encrypt-to", Usage: "compress the backup, and encrypt it to `KEY`, a public " +
				"key of age or SSH, or a file of them; repeat it for several, each of which can open it alone"},
			&cli.StringFlag{Name: "sign-key", DefaultText: backup.SignKey + ", else the host's SSH key",
				Usage: "sign an encrypted backup with the SSH private key in `FILE`"},
			&cli.StringSliceFlag{Name: "to",
				Usage: "send the backup to the target `URL`, and read it back; repeat it for several"},
			&cli.StringFlag{
				Name:  "from-data-dir",
				Usage: "make the snapshot from `DIR`, the data directory of a stopped member",
			},
			&cli.StringFlag{
				Name: "from-wal-dir", Usage: "read the WAL of --from-data-dir from `DIR` if it is not in member/wal",
			},
			&cli.BoolFlag{
				Name: "up-to-hole", Usage: "if raft entries are missing in --from-data-dir, keep everything before " +
					"the gap and give up what was written later",
			},
		},
		Action: s.backup,
	}
}

func (s *session) backup(c *cli.Context) error {
	options, err := s.backupOptions(c)
	if err != nil {
		return err
	}
	if err := backup.Workflow(options).Checked(); err != nil {
		return err
	}
	if err := s.asRoot(c); err != nil {
		return err
	}
	if c.Bool("dry-run") {
		return s.preview(c, backup.Workflow(options), "")
	}
	spareMemory()
	var made backup.Made
	err = s.onNode(c, func(n *phases.Node, _ display) (err error) {
		made, err = backup.Take(c.Context, n.Engine(), backup.Workflow(options).On(n.Look), func(engine.Plan) error {
			return nil
		})
		return err
	})
	if err != nil {
		return err
	}
	proven, from := "verified", "" // a data directory does not say which etcd wrote it last
	if options.UpToHole {
		proven = "verified up to the gap in its data"
	}
	if made.EtcdVersion != "" {
		from = "; etcd " + made.EtcdVersion
	}
	s.done(c, outcome{made.Result, made.Findings}, func(w io.Writer) {
		fmt.Fprintf(w, "%s\n%s at revision %d, %d keys, %s%s; %s\n", made.Path, engine.Size(made.SizeBytes),
			made.Revision, made.Keys, proven, from, short(engine.Seconds(made.Seconds)))
		if sealed := made.Sealed; sealed != nil {
			fmt.Fprintf(w, "sealed: %s, %s\n", engine.Size(sealed.SizeBytes), sealedBy(sealed))
		}
		for _, to := range made.Targets {
			if to.Proven {
				fmt.Fprintf(w, "sent to %s, and read back\n", to.Target)
			}
		}
		for _, f := range made.Grave() {
			fmt.Fprintf(w, "! %s\n", f.Text)
		}
	})
	if len(made.Grave()) > 0 {
		return foundError(exitFoundWrong)
	}
	return nil
}

// sealedBy says who can read a backup, and who signed it.
func sealedBy(s *backup.Sealed) string {
	said := "not encrypted"
	switch n := len(s.Recipients); {
	case n == 1:
		said = "encrypted to " + backup.ShortRecipient(s.Recipients[0])
	case n > 1:
		said = fmt.Sprintf("encrypted to %d recipients", n)
	}
	if s.Signer == "" {
		return said + ", not signed"
	}
	return said + ", signed by " + s.Signer
}

func (s *session) backupOptions(c *cli.Context) (backup.Options, error) {
	o := backup.Options{Keep: c.Int("keep"), FromDataDir: c.String("from-data-dir"),
		FromWALDir: c.String("from-wal-dir"), UpToHole: c.Bool("up-to-hole"), SharedDir: c.Bool("shared-dir"),
		EncryptTo: c.StringSlice("encrypt-to"), SignKey: c.String("sign-key"),
		To: c.StringSlice("to")}
	file := c.Args().First()
	switch {
	case c.IsSet("keep") && o.Keep == 0: // not the same as none given
		o.Keep = -1
		return o, backup.Workflow(o).Checked()
	case file != "" && s.line.typed["dir"]:
		return o, &engine.UsageError{Reason: "backup takes a FILE or --dir, not both"}
	case file == "":
		o.Dir, o.Away = c.String("dir"), len(o.To) > 0 && !c.IsSet("dir")
		return o, nil
	}
	var err error
	if o.File, err = filepath.Abs(file); err != nil {
		return o, fmt.Errorf("cannot find %s: %w", file, err)
	}
	return o, nil
}
