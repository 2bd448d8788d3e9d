package main

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases"
	"github.com/etcdpod/etcdpod/phases/backup"
	"github.com/etcdpod/etcdpod/phases/engine"
)

func init() {
	offer(sectionData, (*session).targetCheckCommand)
}

func (s *session) targetCheckCommand() *cli.Command {
	return &cli.Command{
		Name: "target check", ArgsUsage: "URL",
		Usage: "try whether backups can be sent to a target, and read back",
		Description: `Writes a small object to the target, and where large ones are sent in parts a larger one; reads it back over another connection, as a restore would; writes the same name again, which must be refused; lists; and deletes. Nothing is left behind. What failed is named, with what to do about it; the exit code is then 5 if the target is not set up or does not allow it, and 1 otherwise.

A target is file:///DIR, s3://BUCKET/PREFIX, azblob://ACCOUNT/CONTAINER/PREFIX or sftp://USER@HOST/DIR; credentials come from the environment, from the usual files or from the machine, and never from the URL. ` +
			`/usr/share/doc/etcdpod/docs/backup-targets.md says how each is set up.`,
		UsageText: `etcdpod target check --create file:///mnt/backups/etcd
etcdpod target check 's3://etcd-backups/prod?endpoint=https://s3.example.com&path-style=true'`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "create", Usage: "make it first where it is not there: the bucket, the container, " +
				"the directory of SFTP, or the mark in a directory that is there"},
		},
		Action: s.targetCheck,
	}
}

func (s *session) targetCheck(c *cli.Context) error {
	if c.Args().First() == "" {
		return &engine.UsageError{Reason: "target check needs the URL of a target"}
	}
	var report backup.TargetReport
	err := s.onNode(c, func(n *phases.Node, _ display) (err error) {
		report, err = backup.CheckTarget(c.Context, n.Engine(), c.Args().First(), c.Bool("create"))
		return err
	})
	if err != nil {
		return err
	}
	if err := s.result(c, report, func(w io.Writer) { writeTarget(w, report) }); err != nil {
		return err
	}
	switch {
	case report.OK:
		return nil
	case report.Unusable():
		return foundError(exitRefused)
	}
	return foundError(exitFailed)
}

func writeTarget(w io.Writer, r backup.TargetReport) {
	rows := [][]string{{"TRIED", "RESULT"}}
	for _, step := range r.Steps {
		result := "done, in " + short(engine.Seconds(step.Seconds))
		if !step.OK {
			result = "failed"
		}
		rows = append(rows, []string{triedText(step.Name), result})
	}
	table(w, rows)
	fmt.Fprintln(w)
	for _, step := range r.Steps {
		if step.OK {
			continue
		}
		behind(w, "! ", step.Why)
		if step.Do != "" {
			behind(w, "Next: ", step.Do)
		}
	}
	if !r.OK {
		return
	}
	checksum := r.Can.Checksum
	if checksum == "" {
		checksum = "none that is told; what was sent is read back"
	}
	pairs(w, [][]string{{"a name is written once", either(r.Can.WriteOnce, "also of two that write at once",
		"as long as two do not write it at once")},
		{"object lock", either(r.Can.ObjectLock, "yes: lock-days= in the URL has it keep what is written", "no")},
		{"versions", either(r.Can.Versions, "kept", "not kept")}, {"checksum", checksum}})
	fmt.Fprintf(w, "\nBackups can be sent to %s, and read back.\n", r.Target)
}

func either(is bool, yes, no string) string {
	if is {
		return yes
	}
	return no
}

// triedText says in words what a step has tried.
func triedText(step string) string {
	switch step {
	case "set-up":
		return "set it up"
	case "list":
		return "reach it, and list"
	case "write":
		return "write a small object"
	case "write-parts":
		return "write one in parts"
	case "read-back":
		return "read it back over another connection"
	case "write-once":
		return "have a second write of its name refused"
	case "list-again":
		return "see it listed"
	case "delete":
		return "delete it"
	}
	return "see that it is gone"
}
