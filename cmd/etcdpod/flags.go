package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases"
	"github.com/etcdpod/etcdpod/phases/engine"
)

// globalFlags work with every command, before it and after it.
func globalFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "root", Value: "/", Usage: "look for all of the node's paths below `DIR`"},
		&cli.GenericFlag{
			Name: "output", Aliases: []string{"o"},
			Value: &choice{is: "text", of: []string{"text", "json", prometheus}},
			Usage: "write results and progress as `text|json`; status can also write prometheus",
		},
		&cli.BoolFlag{Name: "dry-run", Usage: "change nothing; print what would be done"},
		&cli.BoolFlag{Name: "yes", Usage: "do not ask before changing a running node or deleting anything"},
		&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"},
			Usage: "print only what a script needs (backup: the path); problems go to standard error"},
		&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "show every operation"},
		&cli.BoolFlag{Name: "no-color", Usage: "no colours (the variable NO_COLOR does the same)"},
		&cli.StringSliceFlag{
			Name: "endpoints", Usage: "reach etcd at `URLS` (comma-separated) instead of those in its manifest; " +
				"certificates still come from the manifest unless given",
		},
		&cli.StringFlag{Name: "cacert", Usage: "trust etcd certificates signed by the CA in `FILE`"},
		&cli.StringFlag{Name: "cert", Usage: "present the certificate in `FILE` to etcd"},
		&cli.StringFlag{Name: "key", Usage: "the private key of --cert, in `FILE`"},
		&cli.StringFlag{
			Name: "cri-socket", Usage: "reach the container runtime at `SOCKET` (unix:///…) instead " +
				"of what the kubelet's configuration says",
		},
		&cli.StringFlag{Name: "kubelet-stop-command", Usage: "stop the kubelet with `COMMAND` instead of systemctl"},
		&cli.StringFlag{Name: "kubelet-start-command", Usage: "start the kubelet with `COMMAND` instead of systemctl"},
		&cli.StringFlag{Name: "kubelet-status-command",
			Usage: "check whether the kubelet runs with `COMMAND`, which exits 0 if it does, instead of systemctl"},
	}
}

// variableOf returns the environment variable for a flag that is not on the command line.
// Flags that say yes, or change what is written or deleted, have none: they must be visible
// on the command line.
func variableOf(flag string) string {
	switch flag {
	case "yes", "dry-run", "keep", "shared-dir",
		"encrypt-to", "sign-key", "identity", "trust", "unsigned",
		"older-than", "from-data-dir", "from-wal-dir", "up-to-hole",
		"skip-hash-check", "bump-revision", "data-dir", "skip-phases", "api-servers-stopped", "other-pki", "nodes",
		"lost", "give-up-writes", "rejoin", "csr-dir", "create", "from", "no-spare", "with",
		"config", "allow-experimental-api", "node-name", "apiserver-advertise-address",
		"kubernetes-version", "image-repository", "cert-dir", "patches",
		"etcd-servers", "all-members", "etcd-cafile", "etcd-certfile", "etcd-keyfile", "another-cluster",
		"when", "min-reclaim", "wait", "backup", "to",
		"etcd", "memory", "timeout", "scratch",
		"calendar", "only", "binary", "textfile-dir", "schedule", "image", "node", "secret":
		return ""
	case "dir":
		return "ETCDPOD_BACKUP_DIR"
	}
	return "ETCDPOD_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

func (s *session) config(c *cli.Context, emit func(engine.Event)) (phases.Config, error) {
	if c.String("root") == "" {
		return phases.Config{}, &engine.UsageError{Reason: "--root needs a directory"}
	}
	root, err := filepath.Abs(c.String("root"))
	if err != nil {
		return phases.Config{}, fmt.Errorf("cannot find %s: %w", c.String("root"), err)
	}
	return phases.Config{
		Root: root, CRISocket: c.String("cri-socket"),
		KubeletStop: c.String("kubelet-stop-command"), KubeletStart: c.String("kubelet-start-command"),
		KubeletStatus: c.String("kubelet-status-command"),
		Endpoints:     c.StringSlice("endpoints"), CACert: c.String("cacert"),
		Cert: c.String("cert"), Key: c.String("key"),
		Version: thisBuild().Version, Command: append([]string{"etcdpod"}, s.args...), Emit: emit,
		CarriesOut:         s.carriesOut,
		KubeletStopTimeout: c.Duration("stop-timeout"), Apart: s.apart,
	}, nil
}

func asJSON(c *cli.Context) bool { return c.Generic("output").(*choice).is == "json" }

// choice is the value of a flag that takes one of a few words.
type choice struct {
	is string
	of []string
}

func (v *choice) String() string { return v.is }

func (v *choice) Set(word string) error {
	if !slices.Contains(v.of, word) {
		return fmt.Errorf("it is %s", strings.Join(v.of, " or "))
	}
	v.is = word
	return nil
}

// age is the value of a flag that takes a duration: as for time.ParseDuration, or in days, 30d.
type age time.Duration

func (v *age) String() string { return time.Duration(*v).String() }

func (v *age) Set(word string) error {
	d, err := time.ParseDuration(word)
	if days, isDays := strings.CutSuffix(word, "d"); isDays {
		var n int
		n, err = strconv.Atoi(days)
		d = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || d < 0 {
		return fmt.Errorf("expected a duration like 720h or 30d")
	}
	*v = age(d)
	return nil
}

// maxAge is the value of a flag that takes an age, or none.
type maxAge time.Duration

func newMaxAge(d time.Duration) *maxAge { return (*maxAge)(&d) }

func (v *maxAge) String() string {
	switch d := time.Duration(*v); {
	case d == 0:
		return "none"
	case d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	default:
		return d.String()
	}
}

func (v *maxAge) Set(word string) error {
	if word == "none" {
		*v = 0
		return nil
	}
	if err := (*age)(v).Set(word); err != nil || *v == 0 {
		return fmt.Errorf("expected a duration like 26h or 7d, or none")
	}
	return nil
}

// bump is the value of --bump-revision: a number of revisions; 0 for auto.
type bump int64

func (v *bump) String() string {
	if *v == 0 {
		return "auto"
	}
	return strconv.FormatInt(int64(*v), 10)
}

func (v *bump) Set(word string) error {
	if word == "auto" {
		*v = 0
		return nil
	}
	n, err := strconv.ParseInt(word, 10, 64)
	if err != nil || n <= 0 {
		return fmt.Errorf("expected auto or a number of revisions")
	}
	*v = bump(n)
	return nil
}
