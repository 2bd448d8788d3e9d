package rehearse

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/bind"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// program is the etcd to start.
type program struct {
	Etcd
	exec  string // what is started; empty: this program
	close func()
}

// builtIn takes the etcd inside this program instead.
func (p *program) builtIn() {
	p.Etcd, p.exec = Etcd{From: "built-in", Version: bind.BuiltIn()}, ""
}

// program finds one: the one that was given, that of the etcd that runs on this node, which is what
// a restore here would start, or the one that is built in.
func (r *rehearsal) program(ctx context.Context) (*program, error) {
	p := &program{close: func() {}}
	p.builtIn()
	if r.Options.Etcd != "" {
		file, err := filepath.Abs(r.Options.Etcd)
		if err != nil {
			return nil, fmt.Errorf("cannot find %s: %w", r.Options.Etcd, err)
		}
		version, err := node.EtcdFile(file)
		if err != nil {
			return nil, engine.Refuse("give the path of an etcd program; without --etcd, etcdpod uses that of this "+
				"node, or its own", "cannot start --etcd %s: %v", file, err)
		}
		p.Etcd, p.exec = Etcd{From: "file", Path: file, Version: version}, file
		return p, nil
	}
	if r.facts.Etcd == nil {
		return p, nil
	}
	using, err := r.look.Processes.Using(ctx, r.facts.Etcd.DataDir)
	if err != nil {
		return p, nil // the built-in one serves as well
	}
	for _, one := range using {
		if observe.EtcdMinor(one.EtcdVersion) == 0 {
			continue
		}
		if exec, version, closed, err := node.EtcdProgram(one.PID); err == nil {
			p.exec, p.close = exec, func() { _ = closed() }
			p.Etcd = Etcd{From: "node", Version: version}
			return p, nil
		}
	}
	return p, nil
}

// boot starts etcd on what was staged, and looks at what it serves.
func (r *rehearsal) boot(ctx context.Context, scratch *op.Scratch, p *program) error {
	began := time.Now()
	const growth = 128 << 20 // of the db, or the size of a piece of its log
	start := func() (*bind.Private, error) {
		return bind.StartPrivate(r.look.FS.Real(scratch.Dir), p.exec, r.Apart, r.Memory,
			r.source.report.SizeBytes+growth)
	}
	etcd, err := start()
	if err != nil && p.From == "node" { // it may need what only its container has
		p.builtIn()
		etcd, err = start()
	}
	if err != nil {
		return err
	}
	defer etcd.Kill()
	p.NoNetwork, p.DataVersion = etcd.Alone, r.source.release()
	r.Report.Etcd = &p.Etcd
	told := r.telling("boot", "start etcd "+p.Version+" on the restored data")
	client, done, err := etcd.Client(ctx)
	told()
	if errors.Is(err, bind.ErrAuth) {
		return err
	}
	if err != nil {
		return r.silent(ctx, p, etcd)
	}
	defer done()
	r.LoadSeconds = time.Since(began).Seconds()
	r.RestoreSeconds = r.StageSeconds + r.LoadSeconds
	if err := r.lookInside(ctx, client); err != nil {
		if gone, _, _ := etcd.Gone(); gone {
			return r.silent(ctx, p, etcd)
		}
		return err
	}
	if is, data := observe.EtcdMinor(r.Report.Etcd.Version), observe.EtcdMinor(p.DataVersion); data > 0 && is != data {
		r.found(finding.RehearsalOtherEtcd, p.Path, "the data is of etcd %s, and etcd %s was started on it: what a "+
			"restore would start may differ. --etcd BINARY takes another one", p.DataVersion, r.Report.Etcd.Version)
	}
	return nil
}

// silent says why an etcd does not serve, or serves no longer.
func (r *rehearsal) silent(ctx context.Context, p *program, etcd *bind.Private) error {
	what := "the etcd of this program"
	switch p.From {
	case "node":
		what = "the etcd of this node"
	case "file":
		what = p.Path
	}
	gone, how, said := etcd.Gone()
	why := op.LastWordsIn(said).String()
	switch {
	case !gone && ctx.Err() != nil && why == "":
		return fmt.Errorf("%s does not serve the restored data: %w", what, ctx.Err())
	case !gone:
		return fmt.Errorf("%s does not serve the restored data: %s", what, why)
	case strings.Contains(said, "out of memory") || strings.Contains(said, "cannot allocate memory"):
		return engine.WithHint(fmt.Errorf("%s needs more memory than %s for the restored data", what,
			engine.Size(r.Memory)), "give it more with --memory")
	}
	last := strings.TrimSpace(said)
	if i := strings.LastIndexByte(last, '\n'); i >= 0 {
		last = last[i+1:]
	}
	return errors.New(cmp.Or(strings.TrimSuffix(strings.Join([]string{
		fmt.Sprintf("%s does not start on the restored data (%s)", what, how), cmp.Or(why, last)}, ": "), ": ")))
}

// telling reports each second that something takes its time, until it is over.
func (r *rehearsal) telling(phase, what string) (over func()) {
	stop, stopped, began := make(chan struct{}), make(chan struct{}), time.Now()
	go func() {
		defer close(stopped)
		for {
			r.tell(phase, what, int64(time.Since(began).Seconds()), 0)
			select {
			case <-stop:
				return
			case <-time.After(time.Second):
			}
		}
	}()
	return func() {
		close(stop)
		<-stopped
	}
}
