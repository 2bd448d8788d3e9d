package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases/backup"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/units"
)

func init() {
	offerAll(sectionProgram, (*session).unitsCommands)
}

// The first words of the commands that print a unit; the last word is the command that it runs.
const (
	forSystemd = "units systemd "
	forPods    = "units cronjob "
)

func (s *session) unitsCommands() (all []*cli.Command) {
	for _, does := range units.Commands() {
		all = append(all, s.systemdCommand(does))
	}
	for _, does := range units.InPods() {
		all = append(all, s.cronJobCommand(does))
	}
	return append(all, noCronJob())
}

// inUnit is the command that a command's unit runs; empty: it prints none.
func inUnit(c *cli.Command) string {
	if c == nil || !strings.HasPrefix(c.Name, "units ") {
		return ""
	}
	return c.Name[strings.LastIndex(c.Name, " ")+1:]
}

// Those of etcdpod's flags that a unit has without being told.
const defaultFlags = "The flags of %s go after --, at the end, and are checked. %s is added, unless it is among " +
	"them."

const defaultRule = "A rule (--when and --min-reclaim), with which it does nothing on most days,"

func (s *session) systemdCommand(does string) *cli.Command {
	c := &cli.Command{
		Name: forSystemd + does, ArgsUsage: "[-- FLAG…]",
		Usage: "print a service and a timer of systemd that run " + does,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "calendar", Value: units.Calendar(does),
				Usage: "run it at `TIMES`, as systemd.time(7) has them"},
			&cli.GenericFlag{Name: "only", Value: &choice{of: []string{"service", "timer"}}, DefaultText: "both",
				Usage: "print one of the two files, `service|timer`"},
			&cli.StringFlag{Name: "binary", Value: installedAt(),
				Usage: "run the etcdpod that is at `PATH` on the node"},
		},
		Action: func(c *cli.Context) error { return s.printUnit(c, does, units.Job.Systemd) },
	}
	const files = "Two files, with comments that say where to put them, how to turn them on, and what each " +
		"restriction is for. "
	switch does {
	case "backup":
		c.Description = files + "The service may write only where the backups go; with --dir, that must exist. " +
			fmt.Sprintf(defaultFlags, does, "--keep 14")
		c.UsageText = `etcdpod units systemd backup
etcdpod units systemd backup --only service > /etc/systemd/system/etcdpod-backup.service
etcdpod units systemd backup --only timer > /etc/systemd/system/etcdpod-backup.timer
etcdpod units systemd backup --calendar hourly -- --dir /mnt/safe --keep 48`
	case "defrag":
		c.Description = files + "One control plane is enough: it goes through all members. On several, each begins " +
			"at a time of its own, and never are two members at it. " + fmt.Sprintf(defaultFlags, does, defaultRule) +
			" --yes always is."
		c.UsageText = `etcdpod units systemd defrag
etcdpod units systemd defrag --only service > /etc/systemd/system/etcdpod-defrag.service
etcdpod units systemd defrag --only timer > /etc/systemd/system/etcdpod-defrag.timer
etcdpod units systemd defrag -- --min-reclaim 200MiB`
	default:
		c.Description = files + "The metrics go to etcdpod.prom, for node-exporter's textfile collector: a new file " +
			"takes the place of the last one at once, and only if it is whole. The alerts for them are in " +
			"/usr/share/doc/etcdpod/docs/alerts. " + fmt.Sprintf(defaultFlags, does, "--max-backup-age 26h")
		c.UsageText = `etcdpod units systemd status
etcdpod units systemd status --only service > /etc/systemd/system/etcdpod-status.service
etcdpod units systemd status --only timer > /etc/systemd/system/etcdpod-status.timer
etcdpod units systemd status -- --max-backup-age none`
		c.Flags = append(c.Flags, &cli.StringFlag{Name: "textfile-dir", Value: units.Collector,
			Usage: "have the metrics written into `DIR`, which node-exporter's textfile collector reads"})
	}
	return c
}

func (s *session) cronJobCommand(does string) *cli.Command {
	c := &cli.Command{
		Name: forPods + does, ArgsUsage: "[-- FLAG…]", Usage: "print a CronJob of Kubernetes that runs " + does,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "schedule", Value: units.Schedule(does),
				Usage: "run it at `TIMES` in UTC, as cron has them"},
			&cli.StringFlag{Name: "image", DefaultText: "the one that make dist made with this etcdpod",
				Usage: "run it from `IMAGE`"},
		},
		Action: func(c *cli.Context) error { return s.printUnit(c, does, units.Job.CronJob) },
	}
	if does == "backup" {
		c.Description = "For `kubectl apply -f -`, with comments. One pod runs on one of the control planes, where " +
			"the backup then is: any member's holds the whole cluster. --node always has it on the same one, as a " +
			"CronJob of its own. The pod has no access to the API, and no capabilities; of the node it writes where " +
			"the backups go. " + fmt.Sprintf(defaultFlags, does, "--keep 14")
		c.UsageText = `etcdpod units cronjob backup
etcdpod units cronjob backup --node cp1 --schedule @daily
etcdpod units cronjob backup --image registry.example/etcdpod:1.2.3 -- --dir /mnt/safe`
		c.Flags = append(c.Flags, &cli.StringFlag{Name: "node", DefaultText: "any control plane",
			Usage: "always take the backup of the member on node `NAME`"})
		return c
	}
	c.Description = "For `kubectl apply -f -`, with comments. One pod runs on any control plane, and goes through " +
		"all members. It has no access to the API, no capabilities, and of the node only etcd's CA and kubeadm's " +
		"client certificate for health checks, with its key. --endpoints, --cacert, --cert and --key change that. " +
		fmt.Sprintf(defaultFlags, does, defaultRule) + " --yes always is."
	c.UsageText = `etcdpod units cronjob defrag
etcdpod units cronjob defrag --schedule @monthly -- --min-reclaim 200MiB
etcdpod units cronjob defrag --secret etcd-client -- --endpoints https://10.0.0.11:2379`
	c.Flags = append(c.Flags, &cli.StringFlag{Name: "secret", DefaultText: "files of the node", Usage: "have the " +
		"certificates from the Secret `NAME` (ca.crt, tls.crt, tls.key), with neither root nor files of the node"})
	return c
}

// noCronJob is the answer to who looks for a CronJob of the command that a pod cannot do.
func noCronJob() *cli.Command {
	return &cli.Command{Name: forPods + "status", ArgsUsage: "[-- FLAG…]", Hidden: true,
		Usage: "there is none; a timer of systemd does it", UsageText: "etcdpod units systemd status",
		Action: func(*cli.Context) error {
			return &engine.UsageError{Reason: "there is no CronJob for status: it looks at the whole node, at " +
				"the kubelet through systemd, the container runtime, the processes and nearly all files. A pod that " +
				"may do that may do everything there, and still would not learn whether the kubelet runs",
				Hint: "run `etcdpod units systemd status` for a timer on each control plane"}
		}}
}

// installedAt is this program's own path, if programs are installed there, or where packages
// install it.
func installedAt() string {
	self, err := os.Executable()
	dirs := []string{"/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"}
	if err == nil && filepath.Base(self) == "etcdpod" && slices.Contains(dirs, filepath.Dir(self)) {
		return self
	}
	return units.Programs
}

// printUnit prints what runs a command at its times, after the command line in it was read as it
// will be then.
func (s *session) printUnit(c *cli.Context, does string, write func(units.Job) (string, error)) error {
	job := units.Job{Does: does, Printed: append([]string{"etcdpod"}, s.args...)}
	if err := s.unitFlags(c, &job); err != nil {
		return err
	}
	if err := s.unitWords(c.Context, &job, c.Args().Slice()); err != nil {
		return err
	}
	text, err := write(job)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(s.stdout, text); err != nil {
		return fmt.Errorf("cannot write the result: %w", err)
	}
	return nil
}

var (
	// What Kubernetes and cron take: the API server knows the rest.
	aNodeName = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`)
	aSchedule = regexp.MustCompile(`^(@[a-z]+|[0-9A-Za-z*,/?-]+( +[0-9A-Za-z*,/?-]+){4})$`)
	anImage   = regexp.MustCompile(`^[0-9A-Za-z._:/@-]+$`)
)

// unitFlags reads the flags of the unit itself.
func (s *session) unitFlags(c *cli.Context, job *units.Job) error {
	for _, word := range job.Printed {
		if strings.IndexFunc(word, hidden) >= 0 {
			return &engine.UsageError{Reason: fmt.Sprintf("%q has characters that cannot be seen: a unit cannot hold "+
				"them", word)}
		}
	}
	if s.line.typed["output"] && s.line.output != "text" {
		return &engine.UsageError{Reason: "a unit is no JSON", Hint: "leave --output out"}
	}
	for _, f := range c.App.Flags {
		if name := f.Names()[0]; s.line.typed[name] &&
			!slices.Contains([]string{"root", "output", "quiet", "verbose", "no-color"}, name) {
			return &engine.UsageError{Reason: fmt.Sprintf("printing a unit does not need --%s", name),
				Hint: "if it is meant for " + job.Does + ", give it after --, at the end"}
		}
	}
	job.When, job.Program, job.Textfile = c.String("calendar"), c.String("binary"), c.String("textfile-dir")
	for flag, given := range map[string]string{"binary": job.Program, "textfile-dir": job.Textfile} {
		if given != "" && !filepath.IsAbs(given) {
			return &engine.UsageError{Reason: fmt.Sprintf("--%s must be an absolute path, not %s", flag, given)}
		}
	}
	if only, is := c.Generic("only").(*choice); is {
		job.Only = only.is
	}
	if strings.HasPrefix(c.Command.Name, forPods) {
		return podFlags(c, job)
	}
	return nil
}

func podFlags(c *cli.Context, job *units.Job) error {
	job.When, job.Image, job.Node = c.String("schedule"), c.String("image"), c.String("node")
	job.Secret = c.String("secret")
	switch {
	case !aSchedule.MatchString(job.When):
		return &engine.UsageError{Reason: fmt.Sprintf("--schedule %q is not what cron takes", job.When),
			Hint: "it has five fields (minute, hour, day, month, weekday), as in \"0 2 * * *\", or is @daily and " +
				"the like"}
	case job.Node != "" && !aNodeName.MatchString(job.Node):
		return &engine.UsageError{Reason: fmt.Sprintf("--node %q is not the name of a node", job.Node),
			Hint: "`kubectl get nodes` lists them"}
	case job.TooLong():
		return &engine.UsageError{Reason: fmt.Sprintf("the CronJob would be called %s, which is longer than "+
			"Kubernetes allows", job.Name()), Hint: "print it without --node, and edit its name and its nodeSelector"}
	case job.Secret != "" && !aNodeName.MatchString(job.Secret):
		return &engine.UsageError{Reason: fmt.Sprintf("--secret %q is not the name of a Secret", job.Secret)}
	case job.Image == "" && thisBuild().image() == "":
		return engine.Refuse("give the image's name with --image", "cannot determine the name of the image: this "+
			"etcdpod was built without a version, and not by make dist")
	case job.Image != "" && !anImage.MatchString(job.Image):
		return &engine.UsageError{Reason: fmt.Sprintf("--image %q is not the name of an image", job.Image)}
	case job.Image == "":
		job.Image = thisBuild().image()
	}
	return nil
}

// unitWords decides what the command in the unit is: what was given after --, and what it has by
// default. It is read twice: what was given decides about the defaults, and the whole about what
// the unit must allow.
func (s *session) unitWords(ctx context.Context, job *units.Job, given []string) error {
	pod := strings.HasPrefix(s.line.command.Name, forPods)
	err := asTyped(ctx, append([]string{job.Does}, given...), func(inner *session, c *cli.Context) error {
		if err := inner.fitsUnit(job.Does, c); err != nil {
			return err
		}
		if job.Secret != "" {
			if err := inner.fitsSecret(); err != nil {
				return err
			}
		}
		job.Flags = inner.addedTo(job, pod)
		if job.Does == "defrag" && pod {
			job.OnHost = !inner.line.typed["endpoints"]
		}
		return nil
	})
	if err != nil {
		return err
	}
	job.Flags = append(job.Flags, given...)
	job.OnHost = job.OnHost || pod && job.Does == "backup"
	return asTyped(ctx, job.Words(), func(inner *session, c *cli.Context) error { return inner.needs(job, c) })
}

// asTyped reads a command line of etcdpod's as it will be where nobody has set a variable, and has
// somebody look at it instead of carrying it out.
func asTyped(ctx context.Context, words []string, look func(*session, *cli.Context) error) error {
	nothing := func(string) string { return "" }
	inner := newSession(append([]string{"etcdpod"}, words...), strings.NewReader(""), io.Discard, io.Discard, nothing)
	app := inner.app()
	var err error
	if inner.line, err = arrange(app, inner.args, nothing); err != nil {
		return err
	}
	if inner.line.help {
		return &engine.UsageError{Reason: "help is not for a unit",
			Hint: fmt.Sprintf("run `etcdpod help %s`", words[0])}
	}
	if err := inner.line.contradicts(); err != nil {
		return err
	}
	inner.line.command.Action = func(c *cli.Context) error { return look(inner, c) }
	return app.RunContext(ctx, inner.line.argv())
}

// fitsUnit refuses what makes no sense again and again, and what would be refused then.
func (s *session) fitsUnit(does string, c *cli.Context) error {
	never := []string{"root", "dry-run", "watch", "from-data-dir", "from-wal-dir", "up-to-hole"}
	if does == "status" {
		never = append(never, "output")
	}
	for _, name := range never {
		if s.line.typed[name] {
			return &engine.UsageError{Reason: fmt.Sprintf("--%s is not for a unit, which runs %s again and again", name,
				does), Hint: "leave it out"}
		}
	}
	for _, name := range []string{"cacert", "cert", "key", "backup"} {
		if s.line.typed[name] && !filepath.IsAbs(c.String(name)) {
			return &engine.UsageError{Reason: fmt.Sprintf("--%s must be an absolute path, not %s", name,
				c.String(name)), Hint: "a unit is run in another directory"}
		}
	}
	if s.line.typed["cert"] != s.line.typed["key"] {
		return &engine.UsageError{Reason: "--cert and --key go together"}
	}
	switch does {
	case "backup":
		if c.Args().Present() {
			return &engine.UsageError{Reason: "a unit takes no FILE: backup never replaces one",
				Hint: "give a directory with --dir; each backup has a name of its own there"}
		}
		o, err := s.backupOptions(c)
		if err != nil {
			return err
		}
		return backup.Workflow(o).Checked()
	case "defrag":
		_, err := defragOptions(c)
		return err
	}
	return backup.CheckDir(c.String("dir"))
}

// fitsSecret refuses what a pod on any node, with nothing of it, cannot have.
func (s *session) fitsSecret() error {
	for _, name := range []string{"cacert", "cert", "key", "backup"} {
		if s.line.typed[name] {
			return &engine.UsageError{Reason: fmt.Sprintf("--secret and --%s cannot be combined: the pod has no file "+
				"of the node", name)}
		}
	}
	if !s.line.typed["endpoints"] {
		return &engine.UsageError{Reason: "--secret needs --endpoints: the pod may run on a node that has no etcd",
			Hint: "give them after --, at the end: the client URLs of the members"}
	}
	return nil
}

// addedTo is what the command has in a unit besides what was given.
func (s *session) addedTo(job *units.Job, pod bool) (flags []string) {
	does, access := job.Does, units.Access()
	if job.Secret != "" {
		access = units.InSecret()
	}
	if does == "defrag" {
		flags = append(flags, "--yes")
	}
	if does == "status" {
		flags = append(flags, "--output", prometheus)
	}
	if does == "defrag" && pod {
		if !s.line.typed["endpoints"] {
			flags = append(flags, "--endpoints", "https://127.0.0.1:2379")
		}
		for i, name := range []string{"cacert", "cert", "key"} {
			if !s.line.typed[name] {
				flags = append(flags, "--"+name, access[i])
			}
		}
	}
	for _, by := range units.ByDefault(does) {
		if !slices.ContainsFunc(by.Unless, func(name string) bool { return s.line.typed[name] }) {
			flags = append(flags, by.Words...)
		}
	}
	return flags
}

// needs is what the whole command line needs of the node.
func (s *session) needs(job *units.Job, c *cli.Context) error {
	job.Keep, job.Shared = c.Int("keep"), c.Bool("shared-dir")
	if job.Does == "backup" && s.line.typed["dir"] {
		job.Dir = c.String("dir")
	}
	job.Home = job.Does == "status" && s.line.typed["nodes"] // ssh has its keys there
	for _, word := range append([]string{job.Program, job.Textfile}, job.Flags...) {
		for _, home := range []string{"/home/", "/root/", "/run/user/"} {
			job.Home = job.Home || strings.Contains(word, home)
		}
	}
	if job.Does == "backup" {
		job.Files = units.Described()
	}
	if job.Secret != "" {
		return nil
	}
	for _, name := range []string{"cacert", "cert", "key", "backup"} {
		if file := c.String(name); s.line.typed[name] && !slices.Contains(job.Files, file) {
			job.Files = append(job.Files, filepath.Clean(file))
		}
	}
	return nil
}
