package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdpod/etcdpod/e2e/binaries"
)

// defragHost is an address of this host alone that is no plain loopback: where every host reaches
// itself, etcdpod looks for no other member.
const defragHost = "127.0.0.9"

// three is a cluster of three members, which are defragmented.
type three struct {
	etcdpod, etcdctl string
	running          []*bareEtcd
	idle, away       time.Duration // the longest write: when idle, and of others in a member's turn
}

// defragRows measures a defragmentation of three members, and what is predicted of one.
func (b *bench) defragRows(ctx context.Context) error {
	return errors.Join(b.defragRow(ctx), b.stallRows(ctx))
}

func (b *bench) defragRow(ctx context.Context) (err error) {
	if !b.wanted("defrag") {
		return nil
	}
	snapshot, err := makeSnapshot(ctx, b.dir, b.etcd, b.size)
	if err != nil {
		return err
	}
	t := new(three)
	defer func() { err = errors.Join(err, t.stop()) }()
	if err := t.start(ctx, b, snapshot); err != nil {
		return err
	}
	say("defragmenting three members, %s each", amount(b.size))
	if _, err := t.byHand(ctx); err != nil { // nobody has more to do than the other
		return err
	}
	ours, theirs, err := pairs(ctx, b.pairs, t.defrag, t.byHand)
	if err != nil {
		return err
	}
	r := newRow("`defrag` of three members of "+amount(b.size),
		"`etcdctl endpoint status`, then `etcdctl defrag` and `endpoint health` of each, the leader last",
		walls(ours), walls(theirs))
	r.OursMemory, r.TheirsMemory = memory(ours), memory(theirs)
	r.atMost("ratio", r.Ratio, 1.2, "%.2f")
	r.atMost("the longest write through other members, beyond that of an idle cluster", (t.away - t.idle).Seconds(),
		0.1, "%.3f s longer for clients of others")
	b.add(r)
	return nil
}

func (t *three) start(ctx context.Context, b *bench, snapshot string) (err error) {
	module, err := binaries.ModuleRoot()
	if err != nil {
		return err
	}
	t.etcdpod = filepath.Join(module, "bin", "etcdpod")
	if t.etcdctl, err = binaries.Etcdctl(ctx, binaries.Etcd37); err != nil {
		return err
	}
	binary, err := binaries.Etcd(ctx, binaries.Etcd37)
	if err != nil {
		return err
	}
	members, flags, err := b.stageThree(ctx, snapshot, defragHost)
	if err != nil {
		return err
	}
	for _, m := range members {
		e, err := launch(ctx, binary, m.dir, m.client, slices.Concat(m.flags(), flags, []string{"--" + quota})...)
		if err != nil {
			return err
		}
		t.running = append(t.running, e)
	}
	for _, e := range t.running {
		if err := e.await(ctx); err != nil {
			return err
		}
	}
	t.idle = t.slowest(ctx, func() { time.Sleep(10 * time.Second) }, nil)
	return nil
}

func (t *three) stop() (err error) {
	for _, e := range t.running {
		dir := strings.TrimPrefix(e.cmd.Args[1], "--data-dir=")
		err = errors.Join(err, e.stop())
		removeAll(dir)
	}
	return err
}

func (t *three) endpoints() (all []string) {
	for _, e := range t.running {
		all = append(all, e.Endpoints()...)
	}
	return all
}

// defrag is etcdpod's, while a client of each member writes.
func (t *three) defrag(ctx context.Context) (c cost, err error) {
	cmd := exec.CommandContext(ctx, t.etcdpod, "defrag", "--endpoints", strings.Join(t.endpoints(), ","), "--yes")
	began := time.Now()
	var turns []turn
	slowest := t.slowest(ctx, func() {
		if c, _, err = measure(ctx, cmd); err == nil {
			turns, err = t.turns(began)
		}
	}, func(member int, at time.Time, took time.Duration) bool {
		return slices.ContainsFunc(turns, func(one turn) bool {
			return one.member != member && at.Before(one.to) && at.Add(took).After(one.from)
		})
	})
	t.away = max(t.away, slowest)
	if err == nil && len(turns) != len(t.running) {
		err = fmt.Errorf("%d members had a turn", len(turns))
	}
	return c, err
}

// turn is when a member was defragmented.
type turn struct {
	member   int
	from, to time.Time
}

// turns are those that began after a moment, as the members' logs have them.
func (t *three) turns(since time.Time) (all []turn, err error) {
	for i, e := range t.running {
		log, err := os.ReadFile(e.cmd.Stdout.(*os.File).Name())
		if err != nil {
			return nil, err
		}
		var began time.Time
		for line := range bytes.Lines(log) {
			var told struct{ TS, Msg string }
			if json.Unmarshal(line, &told) != nil {
				continue
			}
			at, _ := time.Parse("2006-01-02T15:04:05.999999Z0700", told.TS)
			switch told.Msg {
			case "defragmenting":
				began = at
			case "finished defragmenting directory":
				if began.After(since) {
					all = append(all, turn{i, began, at})
				}
			}
		}
	}
	return all, nil
}

// slowest has a client of each member write all the time, and returns the longest write that
// counts.
func (t *three) slowest(
	ctx context.Context, during func(), counts func(member int, at time.Time, took time.Duration) bool,
) (longest time.Duration) {
	type write struct {
		member int
		at     time.Time
		took   time.Duration
	}
	var all []write
	var mu sync.Mutex
	var writing sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	for i, e := range t.running {
		writing.Go(func() {
			for ctx.Err() == nil {
				at := time.Now()
				_, err := e.Put(ctx, fmt.Sprintf("/latency/%d", i), "x")
				if took := time.Since(at); err == nil {
					mu.Lock()
					all = append(all, write{i, at, took})
					mu.Unlock()
				}
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	during()
	cancel()
	writing.Wait()
	for _, w := range all {
		if counts == nil || counts(w.member, w.at, w.took) {
			longest = max(longest, w.took)
		}
	}
	return longest
}

// byHand is what a careful person types: one member after the other, the leader last.
func (t *three) byHand(ctx context.Context) (total cost, err error) {
	all := strings.Join(t.endpoints(), ",")
	c, out, err := measure(ctx, exec.CommandContext(ctx, t.etcdctl, "endpoint", "status", "--endpoints", all,
		"--write-out", "json"))
	if total = total.then(c); err != nil {
		return total, err
	}
	var statuses []struct {
		Endpoint string
		Status   struct {
			Header struct {
				MemberID uint64 `json:"member_id"`
			}
			Leader uint64
		}
	}
	if err := json.Unmarshal(out, &statuses); err != nil {
		return total, err
	}
	var order []string
	for _, leads := range []bool{false, true} {
		for _, s := range statuses {
			if (s.Status.Header.MemberID == s.Status.Leader) == leads {
				order = append(order, s.Endpoint)
			}
		}
	}
	for _, endpoint := range order {
		for _, args := range [][]string{{"defrag", "--command-timeout", "600s"}, {"endpoint", "health"}} {
			c, _, err := measure(ctx, exec.CommandContext(ctx, t.etcdctl, append(args, "--endpoints", endpoint)...))
			if total = total.then(c); err != nil {
				return total, err
			}
		}
	}
	return total, nil
}

// stallRow is how long a member's clients were expected to wait, and did.
type stallRow struct {
	What           string
	Bytes          int64
	Predicted, Was float64 // seconds
}

func (s stallRow) text() string {
	return fmt.Sprintf("A defragmentation of %s, %s: %.2f s were predicted, and it took %.2f s (%+.0f %%).", s.What,
		amount(s.Bytes), s.Predicted, s.Was, 100*(s.Predicted/s.Was-1))
}

// shapes are kinds of data, each of about so many bytes.
func shapes(size int64) []shape {
	sized := func(value int) func(*filler) error {
		return func(f *filler) error { return f.puts("/a/", int(size)/value, func() int { return value }) }
	}
	return []shape{
		{"keys of 500 bytes", sized(500)},
		{"keys of 50 kB", sized(50_000)},
		{"keys of 500 bytes, of which half were deleted", func(f *filler) error {
			half := func(prefix string) error { return f.puts(prefix, int(size)/1000, func() int { return 500 }) }
			return errors.Join(half("/a/"), half("/b/"), f.deletes("/a/"))
		}},
		{"ten revisions of each key", func(f *filler) (err error) {
			for range 10 {
				err = errors.Join(err, f.puts("/a/", int(size)/5000, func() int { return 500 }))
			}
			return err
		}},
		{"keys of 10 bytes to 100 kB", func(f *filler) error {
			return f.puts("/a/", int(size)/13_000, func() int {
				return int(10 * float64(int(1)<<rand.IntN(14)) * (1 + rand.Float64()/4))
			})
		}},
	}
}

type shape struct {
	name string
	fill func(*filler) error
}

type filler struct {
	ctx  context.Context
	etcd *clientv3.Client
}

// puts writes n keys, several in a request.
func (f *filler) puts(prefix string, n int, size func() int) error {
	for i := 0; i < n; {
		var ops []clientv3.Op
		for bytes := 0; i < n && len(ops) < 100 && bytes < megabyte; i++ {
			value := strings.Repeat("v", size())
			ops, bytes = append(ops, clientv3.OpPut(fmt.Sprintf("%s%09d", prefix, i), value)), bytes+len(value)
		}
		if _, err := f.etcd.Txn(f.ctx).Then(ops...).Commit(); err != nil {
			return err
		}
	}
	return nil
}

func (f *filler) deletes(prefix string) error {
	r, err := f.etcd.Delete(f.ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		return err
	}
	_, err = f.etcd.Compact(f.ctx, r.Header.Revision, clientv3.WithCompactPhysical())
	return err
}

func (b *bench) stallRows(ctx context.Context) error {
	if !b.wanted("stall") {
		return nil
	}
	for _, s := range shapes(b.size / 2) {
		row, err := b.stall(ctx, s)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		say("  %s", row.text())
		b.report.Stalls = append(b.report.Stalls, row)
	}
	return nil
}

func (b *bench) stall(ctx context.Context, s shape) (row stallRow, err error) {
	say("making %s", s.name)
	module, err := binaries.ModuleRoot()
	if err != nil {
		return row, err
	}
	binary, err := binaries.Etcd(ctx, binaries.Etcd37)
	if err != nil {
		return row, err
	}
	data := filepath.Join(b.dir, "stall")
	removeAll(data) // of a run that was killed
	defer removeAll(data)
	e, _, err := startEtcd(ctx, binary, data, "--unsafe-no-fsync", "--"+quota)
	if err != nil {
		return row, err
	}
	defer e.stop()
	if err := s.fill(&filler{ctx, e.Client}); err != nil {
		return row, err
	}
	_, out, err := measure(ctx, exec.CommandContext(ctx, filepath.Join(module, "bin", "etcdpod"), "defrag",
		"--endpoints", e.Endpoints()[0], "--yes", "--output", "json"))
	if err != nil {
		return row, err
	}
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	var report struct {
		Members []struct {
			SizeBytes             int64
			StallSeconds, Seconds float64
		}
	}
	if err := json.Unmarshal(lines[len(lines)-1], &report); err != nil || len(report.Members) != 1 {
		return row, fmt.Errorf("it said %s: %w", out, err)
	}
	m := report.Members[0]
	return stallRow{s.name, m.SizeBytes, m.StallSeconds, m.Seconds}, nil
}
