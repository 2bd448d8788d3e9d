package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases/backup"
	"github.com/etcdpod/etcdpod/phases/engine"
)

func init() {
	offer(sectionData, (*session).verifyCommand)
}

func (s *session) verifyCommand() *cli.Command {
	return &cli.Command{
		Name: "verify", ArgsUsage: "FILE", Usage: "verify a snapshot, or say what is wrong with it",
		Description: `Checks the length, the SHA-256, the meta pages, the page structure and etcd's own keys, and ` +
			`names the check that failed and where. The file is only read. A bad or missing file is exit code 4. ` +
			`Whether this node's etcd is new enough for the snapshot is checked by restore.

Of an encrypted backup, the signature and the SHA-256 of what is stored are checked; with --identity also ` +
			`everything inside, in a file without a name that is gone when the command ends.`,
		UsageText: `etcdpod verify /var/lib/etcdpod/backups/etcd-cp1-20260801T020000Z-r81234.db`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "quick", Usage: "stop after the SHA-256"},
			identityFlag(), trustFlag(), unsignedFlag(),
		},
		Action: s.verify,
	}
}

func (s *session) verify(c *cli.Context) error {
	file, err := filepath.Abs(c.Args().First())
	if err != nil {
		return fmt.Errorf("cannot find %s: %w", c.Args().First(), err)
	}
	verdict, err := s.prove(c, file)
	if errors.Is(err, fs.ErrPermission) && s.uid != 0 {
		return mustBeRoot(c, fmt.Sprintf("cannot read %s: permission denied", file))
	}
	if err != nil {
		return err
	}
	if err := s.result(c, &verdict, func(w io.Writer) { writeVerdict(w, verdict) }); err != nil {
		return err
	}
	if !verdict.OK {
		return foundError(exitBadSnapshot)
	}
	return nil
}

// prove shows the progress of reading.
func (s *session) prove(c *cli.Context, file string) (backup.Verdict, error) {
	spareMemory()
	show := s.display(c)
	defer show.close()
	o := backup.VerifyOptions{Quick: c.Bool("quick"), Unsealing: unsealing(c)}
	return backup.Verify(c.Context, file, o, func(done, total int64) {
		show.event(engine.Event{Time: time.Now(), Phase: "verify",
			Operation: file, State: engine.Progressed, Done: done, Total: total})
	})
}

func writeVerdict(w io.Writer, v backup.Verdict) {
	if !v.OK {
		fmt.Fprintf(w, "BAD   %s\n%s\n", v.Path, v.Wrong())
		if next := v.Next(); next != "" {
			fmt.Fprintf(w, "\nNext: %s\n", next)
		}
		return
	}
	proven := "length, SHA-256, pages and keys"
	switch {
	case v.Sealed != nil && !v.Sealed.Inside:
		proven = "the SHA-256 of what is stored; what is inside was not looked at: give --identity"
	case v.Quick:
		proven = "length and SHA-256 only"
	}
	fmt.Fprintf(w, "good  %s\n", v.Path)
	rows := [][]string{{"checked", fmt.Sprintf("%s, in %s", proven, short(engine.Seconds(v.Seconds)))},
		{"size", engine.Size(v.SizeBytes)}, {"sha256", v.SHA256}}
	rows = append(rows, sealedRows(v.Sealed)...)
	if !v.Quick {
		keys, objects := fmt.Sprint(v.Keys), int64(0)
		for _, n := range v.Resources {
			objects += n
		}
		if objects > 0 && objects != v.Keys {
			keys = fmt.Sprintf("%d, of which %d are Kubernetes objects, below /registry/", v.Keys, objects)
		}
		rows = append(rows, []string{"revision", fmt.Sprint(v.Revision)}, []string{"keys", keys},
			[]string{"storage", v.StorageVersion})
		for _, m := range v.Members {
			rows = append(rows, []string{"member", m.Name})
		}
	}
	pairs(w, rows)
	if len(v.Resources) > 0 {
		fmt.Fprintln(w)
		rows := [][]string{{"OBJECTS", "RESOURCE"}}
		for _, name := range slices.Sorted(maps.Keys(v.Resources)) {
			rows = append(rows, []string{fmt.Sprint(v.Resources[name]), name})
		}
		table(w, rows)
	}
}

// sealedRows are what is known of a sealed backup.
func sealedRows(s *backup.SealedVerdict) (rows [][]string) {
	if s == nil {
		return nil
	}
	rows = append(rows, []string{"stored", engine.Size(s.SizeBytes)})
	for _, to := range s.Recipients {
		rows = append(rows, []string{"encrypted to", backup.ShortRecipient(to)})
	}
	signed := s.Signature
	if s.Signature == backup.SignedTrusted {
		signed = "by " + s.SignedBy
	}
	return append(rows, []string{"signed", signed})
}

func identityFlag() cli.Flag {
	return &cli.StringFlag{Name: "identity",
		Usage: "open an encrypted backup with the secret key in `FILE`: age identities, or an SSH private key"}
}

func trustFlag() cli.Flag {
	return &cli.StringFlag{Name: "trust", DefaultText: backup.Trust + ", if it exists, and this node's own key",
		Usage: "believe the signatures of the keys in `FILE`, in ssh-keygen's format allowed_signers"}
}

func unsignedFlag() cli.Flag {
	return &cli.BoolFlag{Name: "unsigned",
		Usage: "accept an encrypted backup that nobody who is trusted has signed"}
}

// unsealing are the options of whoever reads a sealed backup.
func unsealing(c *cli.Context) backup.Unsealing {
	return backup.Unsealing{Identity: absolute(c.String("identity")), Trust: absolute(c.String("trust")),
		Unsigned: c.Bool("unsigned")}
}

// absolute is the path of a file of this process; empty stays empty.
func absolute(name string) string {
	if abs, err := filepath.Abs(name); err == nil && name != "" {
		return abs
	}
	return name
}
