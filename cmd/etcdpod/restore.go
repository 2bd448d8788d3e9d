package main

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/restore"
)

func init() {
	offer(sectionData, (*session).restoreCommand)
}

func (s *session) restoreCommand() *cli.Command {
	return &cli.Command{
		Name: "restore", ArgsUsage: "[FILE]", Usage: "replace etcd's data with a snapshot",
		Description: `The snapshot in FILE, or the data directory given with --from-data-dir, becomes what etcd on this node serves. The new data is prepared and verified next to the old while etcd still serves. Then the control plane is stopped, the data is swapped in one step, and etcd, the API server and the rest are started in turn.

Until the commit point, which is announced, a failure or an interrupt undoes everything. After a crash, etcdpod resume finishes the run and, before the commit point, etcdpod rollback undoes it. The old data is kept until etcdpod prune.

A backup that ends in .zst.age is opened with --identity, and refused unless a trusted key has signed it. What is inside lies in the folder of the run, for root alone, until the commit point.

A cluster of several members is restored on all of its nodes at once: with --nodes, etcdpod starts itself on the others over ssh, and every phase ends on all nodes before the next begins on any. All of them end with the new data, or all with the old.

Before it changes a running node it asks; without a terminal, --yes is needed.`,
		UsageText: `etcdpod restore --dry-run /var/lib/etcdpod/backups/etcd-cp1-20260801T020000Z-r81234.db
etcdpod restore /var/lib/etcdpod/backups/etcd-cp1-20260801T020000Z-r81234.db
etcdpod restore --nodes cp1,cp2,cp3 /var/lib/etcdpod/backups/etcd-cp1-20260801T020000Z-r81234.db`,
		Flags: []cli.Flag{
			&cli.StringFlag{
				Name: "from-data-dir", Usage: "restore from `DIR`, the data directory of a stopped member, instead " +
					"of a snapshot",
			},
			&cli.StringFlag{
				Name: "from-wal-dir", Usage: "read the WAL of --from-data-dir from `DIR` if it is not in member/wal",
			},
			&cli.BoolFlag{
				Name: "up-to-hole", Usage: "if raft entries are missing in --from-data-dir, keep everything before " +
					"the gap and give up what was written later",
			},
			&cli.BoolFlag{
				Name:  "skip-hash-check",
				Usage: "accept a copy of member/snap/db, which has no SHA-256; its structure is still checked",
			},
			identityFlag(), trustFlag(), unsignedFlag(),
			&cli.GenericFlag{Name: "bump-revision", Value: new(bump),
				Usage: "raise revisions by `auto|N`: by N, or auto, to above every known revision"},
			&cli.StringFlag{
				Name: "data-dir", Usage: "let etcd use the new data directory `DIR`, and leave the old one as it is",
			},
			&cli.DurationFlag{Name: "stop-timeout", Value: 30 * time.Second,
				Usage: "give the kubelet and the containers `TIME` to stop"},
			&cli.DurationFlag{Name: "wait-timeout", DefaultText: "grows with the size",
				Usage: "give etcd, and then the API server, `TIME` to start serving"},
			skipPhasesFlag(restore.Workflow(restore.Options{}).Optional()),
			&cli.BoolFlag{Name: "api-servers-stopped",
				Usage: "confirm that you have stopped the API servers on other nodes that use this etcd"},
			&cli.BoolFlag{
				Name: "other-pki",
				Usage: "the backup was taken with other CAs or keys than this node has: confirm that they were " +
					"renewed since, or are lost; what needs lost encryption keys stays unreadable"},
			&cli.StringSliceFlag{
				Name: "nodes", Usage: "restore all of `NAME[=HOST],…` as one: every member of etcd, and every node " +
					"with an API server; this node coordinates",
			},
			&cli.StringSliceFlag{
				Name: "lost",
				Usage: "leave out the destroyed members `NAMES` (comma-separated; use IDs or peer URLs for members " +
					"that share a name or never started); without --nodes, only this node is left",
			},
			&cli.BoolFlag{
				Name: "rejoin", Usage: "with --nodes: restore only this node's member; once it serves, the others " +
					"join it as learners, one after the other",
			},
			sshCommandFlag(), remoteCommandFlag(),
		},
		Action: func(c *cli.Context) error {
			if c.Bool("rejoin") && !c.IsSet("nodes") {
				return &engine.UsageError{Reason: "--rejoin needs --nodes"}
			}
			if c.IsSet("nodes") || c.IsSet("lost") {
				return s.restoreTogether(c)
			}
			return s.restore(c)
		},
	}
}

func (s *session) restore(c *cli.Context) error {
	options, err := restoreOptions(c)
	if err != nil {
		return err
	}
	workflow, err := restore.Workflow(options).Without(c.StringSlice("skip-phases"))
	if err != nil {
		return err
	}
	return s.carryOut(c, change{
		workflow: workflow, needs: options.File,
		said: "Restored by run %s. What it replaced is kept until `etcdpod prune`.",
	})
}

func restoreOptions(c *cli.Context) (restore.Options, error) {
	o := restore.Options{
		FromDataDir: c.String("from-data-dir"), FromWALDir: c.String("from-wal-dir"),
		UpToHole:      c.Bool("up-to-hole"),
		SkipHashCheck: c.Bool("skip-hash-check"),
		Bump:          int64(*c.Generic("bump-revision").(*bump)), DataDir: c.String("data-dir"),
		StopTimeout: c.Duration("stop-timeout"), WaitTimeout: c.Duration("wait-timeout"),
		APIServersStopped: c.Bool("api-servers-stopped"), OtherPKI: c.Bool("other-pki"),
		Unsealing: unsealing(c),
	}
	file := c.Args().First()
	switch {
	case file == "" && o.FromDataDir == "":
		return o, &engine.UsageError{Reason: "restore needs a snapshot FILE, or --from-data-dir",
			Hint: "`etcdpod backups` lists the snapshots of this node"}
	case file != "" && o.FromDataDir != "":
		return o, &engine.UsageError{Reason: "restore takes a FILE or --from-data-dir, not both"}
	case o.FromWALDir != "" && o.FromDataDir == "":
		return o, &engine.UsageError{Reason: "--from-wal-dir needs --from-data-dir"}
	case o.UpToHole && o.FromDataDir == "":
		return o, &engine.UsageError{Reason: "--up-to-hole needs --from-data-dir"}
	case file != "":
		var err error
		if o.File, err = filepath.Abs(file); err != nil {
			return o, fmt.Errorf("cannot find %s: %w", file, err)
		}
	}
	return o, nil
}
