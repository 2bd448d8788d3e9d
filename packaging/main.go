// Command packaging makes what a release of etcdpod consists of, from the source tree: archives,
// packages, an image, bills of materials, and their checksums.
//
// What it makes depends on the source, the flags and the release of Go alone: not on where, when,
// as whom or how often. It is a module of its own so that etcdpod does not depend on packagers.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "packaging:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	var r release
	var described, epoch, out string
	flags := flag.NewFlagSet("packaging", flag.ContinueOnError)
	flags.StringVar(&r.root, "root", "..", "the source tree")
	flags.StringVar(&out, "out", "../dist", "the `directory` for the artefacts; what is in it is removed")
	flags.StringVar(&described, "version", "", "what `git describe` says of the source")
	flags.StringVar(&r.commit, "commit", "", "the commit of the source")
	flags.StringVar(&epoch, "epoch", "", "the time of the commit, in `seconds` since 1970")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var err error
	if r.version, err = parseVersion(described); err != nil {
		return err
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return fmt.Errorf("-epoch is not the time of a commit: %w", err)
	}
	r.date = time.Unix(seconds, 0).UTC()
	if r.commit == "" {
		return fmt.Errorf("-commit is missing: make dist, in a clone of the repository, gives it")
	}
	return r.make(ctx, out)
}

// release is what is made, of what.
type release struct {
	root    string // the source tree
	version version
	commit  string
	date    time.Time // of everything that has a date
	work    string    // a directory for what is made on the way
}

// make makes all artefacts beside the old ones, and replaces those when it has all of them.
func (r *release) make(ctx context.Context, out string) error {
	root, err := filepath.Abs(r.root)
	if err != nil {
		return err
	}
	r.root = root
	if out, err = filepath.Abs(out); err != nil { // the programs that are called work elsewhere
		return err
	}
	if r.work, err = os.MkdirTemp("", "etcdpod-packaging-*"); err != nil {
		return err
	}
	defer os.RemoveAll(r.work)
	if err := r.isInChangelog(); err != nil {
		return err
	}
	dir := out + ".new"
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	builds, err := r.builds(ctx)
	if err != nil {
		return err
	}
	for _, b := range builds {
		if err := r.artefacts(ctx, dir, b); err != nil {
			return fmt.Errorf("linux/%s: %w", b.arch, err)
		}
	}
	if err := r.image(dir, builds); err != nil {
		return fmt.Errorf("cannot make the image: %w", err)
	}
	if err := writeSums(dir); err != nil {
		return err
	}
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	return os.Rename(dir, out)
}

// artefacts makes those of one architecture.
func (r *release) artefacts(ctx context.Context, dir string, b build) error {
	if err := r.archive(dir, b); err != nil {
		return fmt.Errorf("cannot make the archive: %w", err)
	}
	for _, format := range []string{"deb", "rpm"} {
		if err := r.pack(dir, format, b); err != nil {
			return fmt.Errorf("cannot make the %s: %w", format, err)
		}
	}
	if err := r.bill(ctx, dir, b); err != nil {
		return fmt.Errorf("cannot make the bill of materials: %w", err)
	}
	return nil
}
