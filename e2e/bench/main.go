// Command bench measures etcdpod against etcdctl, etcdutl, kubeadm and a restore by hand. It prints
// the table of docs/sizing.md, and writes every figure to bench.json in the cache.
//
// Whatever is compared runs in turn on the same etcd, the same disk and the same data. The part on
// a real control plane needs root.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/etcdpod/etcdpod/e2e/binaries"
)

// bench is what was asked for, and what was found.
type bench struct {
	dir        string // for all files, on one disk
	etcd       string // version, of the work on files
	size, big  int64  // bytes of objects: of the work on files, and of the large control plane
	pairs      int
	outages    int // pairs
	bigOutages int
	only       []string
	cluster    bool
	mixed      bool
	report     report
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:])
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) error {
	b, err := parse(args)
	if err != nil {
		return err
	}
	cache, err := binaries.Cache()
	if err != nil {
		return err
	}
	b.dir = filepath.Join(cache, "bench")
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return err
	}
	err = errors.Join(b.fileRows(ctx), b.initRow(ctx), b.outageRows(ctx), b.defragRows(ctx),
		b.orderRows(ctx))
	if len(b.report.Rows)+len(b.report.Orders)+len(b.report.Stalls) == 0 {
		return err
	}
	b.report.Machine = b.machine()
	fmt.Print(b.report.markdown())
	return errors.Join(err, b.report.write(filepath.Join(cache, "bench.json")))
}

func parse(args []string) (*bench, error) {
	b := new(bench)
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	size := flags.Int64("size", 1000, "`MB` of objects, for the work on files")
	big := flags.Int64("big", 2000, "`MB` of objects in the large control plane")
	flags.IntVar(&b.pairs, "pairs", 5, "pairs of the work on files")
	flags.IntVar(&b.outages, "outages", 3, "pairs of outages at 10 MB")
	flags.IntVar(&b.bigOutages, "big-outages", 1, "pairs of outages of the large control plane")
	only := flags.String("only", "backup,verify,verify-alone,stage,rehearse,init,outage,big,three,three-big,"+
		"status,defrag,stall",
		"what to measure, with commas between; order, too: in which order three members start")
	noCluster := flags.Bool("no-cluster", false, "leave out what needs a real control plane")
	flags.BoolVar(&b.mixed, "mixed", false, "let the large control plane hold objects of all kinds, which its API "+
		"server loads before it is ready, and not events")
	flags.StringVar(&b.etcd, "etcd", binaries.Etcd36, "`version` of etcd, etcdctl and etcdutl, for the work on files")
	if err := flags.Parse(args); err != nil {
		return nil, flag.ErrHelp
	}
	b.size, b.big, b.only, b.cluster = *size*megabyte, *big*megabyte, strings.Split(*only, ","), !*noCluster
	return b, nil
}

func (b *bench) wanted(name string) bool { return slices.Contains(b.only, name) }

func (b *bench) add(r row) { b.report.Rows = append(b.report.Rows, r) }

// machine says what the figures are of.
func (b *bench) machine() string {
	commit, err := exec.Command("git", "describe", "--tags", "--always", "--dirty").Output()
	if err != nil {
		commit = []byte("dev")
	}
	text := fmt.Sprintf("etcdpod %s, %d cores, %s", strings.TrimSpace(string(commit)),
		runtime.NumCPU(), runtime.Version())
	if b.report.SnapshotBytes > 0 {
		text += fmt.Sprintf("; files: a snapshot of %.2f GB of etcd %s, medians of %d pairs",
			float64(b.report.SnapshotBytes)/1e9, b.etcd, b.pairs)
	}
	return text
}

// say tells whoever waits what takes its time.
func say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
