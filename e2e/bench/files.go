package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/etcdpod/etcdpod/e2e/binaries"
	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

// files measures the work on snapshot files, on the disk and the etcd of a sandbox.
type files struct {
	node             *sandbox.Sandbox
	etcdctl, etcdutl string
	snapshot         string // what is verified and restored
	kept             string // a backup of the same, with its sidecar; "" until it is taken
}

// newFiles makes a node that serves the snapshot.
func newFiles(ctx context.Context, dir, version string, size int64) (*files, error) {
	snapshot, err := makeSnapshot(ctx, dir, version, size)
	if err != nil {
		return nil, err
	}
	f := new(files)
	if f.etcdctl, err = binaries.Etcdctl(ctx, version); err != nil {
		return nil, err
	}
	if f.etcdutl, err = binaries.Etcdutl(ctx, version); err != nil {
		return nil, err
	}
	server, err := binaries.Etcd(ctx, version)
	if err != nil {
		return nil, err
	}
	f.node, err = sandbox.New(sandbox.Options{Dir: filepath.Join(dir, "node"), EtcdBinary: server, NoAPIServer: true})
	if err != nil {
		return nil, err
	}
	if err := f.node.Start(ctx); err != nil {
		return nil, errors.Join(err, f.node.Destroy())
	}
	say("restoring them into a sandbox")
	if err := f.fill(ctx, snapshot); err != nil {
		return nil, errors.Join(err, f.node.Destroy())
	}
	return f, nil
}

// fill gives the snapshot to the node, which takes files of its own only, and
// has its etcd serve it.
func (f *files) fill(ctx context.Context, snapshot string) error {
	f.snapshot = f.path("snapshot.db")
	if err := os.Link(snapshot, f.snapshot); err != nil {
		return err
	}
	_, err := f.stage(ctx)
	return err
}

// runsDir is where a node keeps what etcdpod replaced.
const runsDir = "/var/lib/etcdpod/runs"

// path is one on the disk of the node.
func (f *files) path(name string) string { return f.node.Path("/var/lib/" + name) }

func (f *files) etcdpod(ctx context.Context, args ...string) (cost, []byte, error) {
	cmd, err := f.node.EtcdpodCommand(ctx, args...)
	if err != nil {
		return cost{}, nil, err
	}
	return measure(ctx, cmd)
}

func (f *files) backup(ctx context.Context) (cost, error) {
	file := f.path("ours.db")
	defer removeAll(file, file+".json")
	c, _, err := f.etcdpod(ctx, "backup", file)
	return c, err
}

func (f *files) saveAndStatus(ctx context.Context) (cost, error) {
	file, pki := f.path("theirs.db"), f.node.Path("/etc/kubernetes/pki/etcd/")
	defer removeAll(file)
	saved, _, err := measure(ctx, exec.CommandContext(ctx, f.etcdctl,
		"--endpoints="+f.node.ClientURL(), "--cacert="+pki+"/ca.crt",
		"--cert="+pki+"/healthcheck-client.crt", "--key="+pki+"/healthcheck-client.key", "snapshot", "save", file))
	if err != nil {
		return saved, err
	}
	checked, _, err := measure(ctx, exec.CommandContext(ctx, f.etcdutl, "snapshot", "status", file))
	return saved.then(checked), err
}

// warm reads a file first, so that whoever is measured finds it in the page cache, whatever the one
// before has left there.
func warm(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, file)
	return errors.Join(err, file.Close())
}

// warmed has the snapshot in the page cache.
func (f *files) warmed(measured func(context.Context) (cost, error)) func(context.Context) (cost, error) {
	return func(ctx context.Context) (cost, error) {
		if err := warm(f.snapshot); err != nil {
			return cost{}, err
		}
		return measured(ctx)
	}
}

func (f *files) verify(ctx context.Context, file string) (cost, error) {
	c, _, err := f.etcdpod(ctx, "verify", file)
	return c, err
}

func (f *files) status(ctx context.Context, file string) (cost, error) {
	c, _, err := measure(ctx, exec.CommandContext(ctx, f.etcdutl, "snapshot", "status", file))
	return c, err
}

// ofSnapshot has the file looked at that has nothing beside it.
func (f *files) ofSnapshot(look func(context.Context, string) (cost, error)) func(context.Context) (cost, error) {
	return f.warmed(func(ctx context.Context) (cost, error) { return look(ctx, f.snapshot) })
}

// ofBackup has a backup of the same data looked at, as etcdpod keeps it.
func (f *files) ofBackup(look func(context.Context, string) (cost, error)) func(context.Context) (cost, error) {
	return func(ctx context.Context) (cost, error) {
		if f.kept == "" {
			file := f.path("kept.db")
			if c, _, err := f.etcdpod(ctx, "backup", file); err != nil {
				return c, err
			}
			f.kept = file
		}
		if err := warm(f.kept); err != nil {
			return cost{}, err
		}
		return look(ctx, f.kept)
	}
}

// stage restores the snapshot, all of it, and returns what the one phase took.
func (f *files) stage(ctx context.Context) (cost, error) {
	whole, out, err := f.etcdpod(ctx, "--yes", "--output=json", "restore", f.snapshot)
	if err != nil {
		return whole, err
	}
	phases, err := phaseTimes(out)
	if err != nil {
		return whole, err
	}
	removeAll(f.node.Path(runsDir)) // the data that was replaced; prune would keep the newest
	return cost{phases["stage-data"], whole.CPU, whole.Memory}, f.node.WaitEtcd(ctx)
}

func (f *files) restore(ctx context.Context) (cost, error) {
	dir := f.path("theirs")
	defer removeAll(dir)
	c, _, err := measure(ctx, exec.CommandContext(ctx, f.etcdutl,
		"snapshot", "restore", f.snapshot, "--data-dir="+dir, "--bump-revision=1000000000", "--mark-compacted"))
	return c, err
}

// phaseTimes reads the events of a run: a phase lasts until the next one begins, the last one
// until the run has ended.
func phaseTimes(events []byte) (map[string]time.Duration, error) {
	times := map[string]time.Duration{}
	phase, since := "", time.Time{}
	for lines := json.NewDecoder(bytes.NewReader(events)); lines.More(); {
		var e struct {
			Time         time.Time
			Phase, State string
		}
		if err := lines.Decode(&e); err != nil {
			return nil, fmt.Errorf("cannot read the events of a run: %w", err)
		}
		if e.State != "phase" && e.State != "ended" {
			continue
		}
		if phase != "" {
			times[phase] += e.Time.Sub(since)
		}
		phase, since = e.Phase, e.Time
	}
	if times["stage-data"] == 0 {
		return nil, fmt.Errorf("no phase stage-data among the events of a run:\n%s", events)
	}
	return times, nil
}

// fileRows measures what was asked for.
func (b *bench) fileRows(ctx context.Context) error {
	if !slices.ContainsFunc([]string{"backup", "verify", "verify-alone", "stage", "rehearse"}, b.wanted) {
		return nil
	}
	f, err := newFiles(ctx, b.dir, b.etcd, b.size)
	if err != nil {
		return err
	}
	defer func() {
		if err := f.node.Destroy(); err != nil {
			say("%v", err)
		}
	}()
	info, err := os.Stat(f.snapshot)
	if err != nil {
		return err
	}
	b.report.SnapshotBytes = info.Size()
	if b.wanted("rehearse") {
		if err := b.rehearseRow(ctx, f); err != nil {
			return err
		}
	}
	for _, p := range []struct {
		name, what, against string
		ours, theirs        func(context.Context) (cost, error)
		wall                float64
		memory              bool
	}{
		{"backup", "`backup`, all checks", "`etcdctl snapshot save`, then `etcdutl snapshot status`",
			f.backup, f.saveAndStatus, 0.75, true},
		{"verify", "`verify`, all checks, of a backup with its sidecar",
			"`etcdutl snapshot status`", f.ofBackup(f.verify), f.ofBackup(f.status), 1, true},
		{"verify-alone", "`verify`, all checks, of a snapshot with no sidecar",
			"`etcdutl snapshot status`", f.ofSnapshot(f.verify), f.ofSnapshot(f.status), 1, true},
		{"stage", "staging in `restore`, hash checked", "`etcdutl snapshot restore`",
			f.warmed(f.stage), f.warmed(f.restore), 0.7, false},
	} {
		if !b.wanted(p.name) {
			continue
		}
		say("%s", p.name)
		ours, theirs, err := pairs(ctx, b.pairs, p.ours, p.theirs)
		if err != nil {
			return err
		}
		row := newRow(p.what, p.against, walls(ours), walls(theirs))
		row.atMost("wall", row.Ratio, p.wall, "%.2f")
		if p.memory {
			row.OursMemory, row.TheirsMemory = memory(ours), memory(theirs)
			row.atMost("memory", row.OursMemory/mebibyte, 64, "%.0f MiB")
		}
		b.add(row)
	}
	return nil
}
