//go:build e2e

package threenodes

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdpod/etcdpod/e2e/rig"
	"github.com/etcdpod/etcdpod/e2e/writer"
)

// watch sees a run from outside: a client writes through the members that stay, and beside it stand
// the leader, the API servers, and the bare disk, which all nodes of the rig share.
type watch struct {
	k       *cluster
	etcds   *etcds
	writer  *writer.Writer
	stop    context.CancelFunc
	ended   sync.WaitGroup
	servers map[string]rig.Process // the API servers as they were at the beginning

	mu    sync.Mutex
	seen  []span
	began time.Time // the first run
	steps []event   // of all runs: an operation begins, or a run has ended
}

// span is something that took a while.
type span struct {
	what        string
	from, until time.Time
}

func (s span) meets(from, until time.Time) bool { return s.from.Before(until) && from.Before(s.until) }

const (
	lookEvery = 100 * time.Millisecond
	lookLimit = 2 * time.Second
	// What is told of the disk: an election begins after a second.
	slowDisk = 200 * time.Millisecond
	// As many writes as show how long they take where nothing is done.
	idleWrites = 100
)

// watch begins to watch these nodes, and returns when the writer has shown what is usual.
func (k *cluster) watch() *watch {
	k.Helper()
	ctx, stop := context.WithCancel(k.Ctx)
	w := &watch{k: k, stop: stop, servers: map[string]rig.Process{}}
	for _, n := range k.nodes {
		w.servers[n.Name] = k.apiServer(n)
	}
	var err error
	w.etcds, err = dialEtcds(k.nodes)
	k.Must(err)
	var endpoints []string
	for _, c := range w.etcds.clients {
		endpoints = append(endpoints, c.Endpoints()...)
	}
	through, err := dialEtcds(k.nodes[:1])
	k.Must(err)
	through.clients[0].SetEndpoints(endpoints...)
	w.writer = writer.Begin(k.Ctx, through.clients[0])
	k.Cleanup(func() {
		stop()
		w.ended.Wait()
		w.writer.End()
		_, _ = w.etcds.close(), through.close()
	})
	for i, n := range k.nodes {
		w.ended.Go(func() { w.leader(ctx, n, w.etcds.clients[i]) })
		w.ended.Go(func() { w.apiServer(ctx, n) })
	}
	w.ended.Go(func() { w.disk(ctx) })
	for w.writer.Count() < idleWrites {
		select {
		case <-k.Patiently().Done():
			k.Fatalf("only %d writes were acknowledged before anything was done", w.writer.Count())
		case <-time.After(lookEvery):
		}
	}
	return w
}

// apiServer is the one API server of a node.
func (k *cluster) apiServer(n *rig.Node) rig.Process {
	k.Helper()
	all, err := n.Processes(k.Patiently(), "kube-apiserver")
	k.Must(err)
	if len(all) != 1 {
		k.Fatalf("%s runs %d API servers: %v", n.Name, len(all), all)
	}
	return all[0]
}

func (w *watch) saw(what string, from, until time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, span{what, from, until})
}

// leader sees that the member of a node follows another leader, or none.
func (w *watch) leader(ctx context.Context, n *rig.Node, c *clientv3.Client) {
	var was *clientv3.StatusResponse
	since := time.Now()
	for ; ctx.Err() == nil; time.Sleep(lookEvery) {
		limited, cancel := context.WithTimeout(ctx, lookLimit)
		is, err := c.Status(limited, c.Endpoints()[0])
		cancel()
		if err != nil {
			continue // whether it is the member or the leader that is away, the writer tells
		}
		if was != nil && (was.Leader != is.Leader || was.RaftTerm != is.RaftTerm) {
			w.saw(fmt.Sprintf("%s changes from leader %x in term %d to %x in %d", n.Name, was.Leader, was.RaftTerm,
				is.Leader, is.RaftTerm), since, time.Now())
		}
		was, since = is, time.Now()
	}
}

// apiServer sees when a node's is not ready.
func (w *watch) apiServer(ctx context.Context, n *rig.Node) {
	client, err := n.Client()
	if err != nil {
		w.saw(err.Error(), time.Now(), time.Now())
		return
	}
	var away time.Time
	for ; ctx.Err() == nil; time.Sleep(lookEvery) {
		now := time.Now()
		_, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").Timeout(lookLimit).DoRaw(ctx)
		switch {
		case err != nil && away.IsZero():
			away = now
		case err == nil && !away.IsZero():
			w.saw("the API server of "+n.Name+" is away", away, time.Now())
			away = time.Time{}
		}
	}
}

// disk writes to the disk on which all nodes are what etcd does for each write, without etcd.
func (w *watch) disk(ctx context.Context) {
	f, err := os.CreateTemp(w.k.rig.Dir, "written-")
	if err != nil {
		w.saw(err.Error(), time.Now(), time.Now())
		return
	}
	defer os.Remove(f.Name())
	defer f.Close()
	block := make([]byte, 2048)
	for ; ctx.Err() == nil; time.Sleep(lookEvery) {
		from := time.Now()
		if _, err := f.Write(block); err != nil || f.Sync() != nil {
			w.saw("nothing can be written to "+filepath.Base(f.Name()), from, time.Now())
		}
		if until := time.Now(); until.Sub(from) > slowDisk {
			w.saw("the disk takes 2 KiB", from, until)
		}
	}
}

// run runs a command of etcdpod's on a node, which must succeed.
func (w *watch) run(n *rig.Node, args ...string) {
	w.k.Helper()
	began := time.Now()
	r := w.k.want(0, n, append(args, "--yes", "--output", "json")...)
	w.k.Logf("etcdpod %s took %.1f s: %s", strings.Join(args, " "), time.Since(began).Seconds(), phaseTimes(r.stdout))
	w.began = cmp.Or(w.began, began)
	for line := range strings.Lines(r.stdout) {
		if e := parse(line); e.State == "started" {
			w.steps = append(w.steps, e)
		}
	}
	w.steps = append(w.steps, event{Time: time.Now()}) // nothing any more
}

// end ends the writing, and holds each member on some nodes to all that was acknowledged, and the
// API servers of those that were watched to what the runs did with them.
func (w *watch) end(nodes []*rig.Node) {
	k := w.k
	k.Helper()
	w.writer.End()
	w.stop()
	w.ended.Wait()
	members, err := dialEtcds(nodes)
	k.Must(err)
	defer members.close()
	for i, c := range members.clients {
		if lost, err := w.writer.LostIn(k.Patiently(), c); err != nil || len(lost) > 0 {
			k.Errorf("of %d acknowledged writes, %s has lost %v, %v", w.writer.Acknowledged, nodes[i].Name, lost, err)
		}
	}
	w.tell()
	for _, n := range k.nodes {
		was, is := w.servers[n.Name], k.apiServer(n)
		wired := slices.ContainsFunc(w.steps, func(e event) bool {
			return e.Node == n.Name && strings.HasPrefix(e.Phase, "wire-")
		})
		if !wired && is.PID != was.PID {
			k.Errorf("the API server of %s was restarted, and no run had anything to do with it", n.Name)
		}
	}
}

// tell reports how long writes took, and what else was seen while one took long.
func (w *watch) tell() {
	k, all := w.k, w.writer.Waits
	k.Helper()
	i := slices.IndexFunc(all, func(one writer.Wait) bool { return one.Until.After(w.began) })
	if i < 0 {
		k.Error("nothing was written after the run began")
		return
	}
	k.Logf("before it, %s", waited(all[:i]))
	k.Logf("since it began, %s", waited(all[i:]))
	slowest := slices.Clone(all[i:])
	slices.SortFunc(slowest, func(a, b writer.Wait) int { return cmp.Compare(b.Took(), a.Took()) })
	for _, one := range slowest[:min(3, len(slowest))] {
		k.Logf("%.2f s since %s, with %d failed attempts %v: in %s", one.Took().Seconds(),
			w.at(one.From), len(one.Failed), one.Failed[:min(1, len(one.Failed))], w.step(one.From, one.Until))
		for _, s := range w.seen {
			if s.meets(one.From, one.Until) {
				k.Logf("    meanwhile, %s: %.2f s since %s", s.what, s.until.Sub(s.from).Seconds(), w.at(s.from))
			}
		}
	}
	for _, s := range w.seen {
		if s.until.After(w.began) && !strings.HasPrefix(s.what, "the disk") {
			k.Logf("%s: %.2f s since %s, in %s", s.what, s.until.Sub(s.from).Seconds(), w.at(s.from),
				w.step(s.from, s.until))
		}
	}
}

// at is an instant as seconds after the first run's begin.
func (w *watch) at(t time.Time) string { return fmt.Sprintf("%+.1f s", t.Sub(w.began).Seconds()) }

// step is what the runs were at meanwhile.
func (w *watch) step(from, until time.Time) string {
	var at []string
	for i, e := range w.steps {
		ends := until // of the last one
		if i+1 < len(w.steps) {
			ends = w.steps[i+1].Time
		}
		words := e.Phase + " on " + e.Node
		if e.Phase != "" && (span{"", e.Time, ends}).meets(from, until) && !slices.Contains(at, words) {
			at = append(at, words)
		}
	}
	return cmp.Or(strings.Join(at, ", "), "no operation")
}

// waited is how long writes took.
func waited(all []writer.Wait) string {
	var took []time.Duration
	for _, one := range all {
		took = append(took, one.Took())
	}
	slices.Sort(took)
	if len(took) == 0 {
		return "no write"
	}
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	return fmt.Sprintf("%d writes: median %.0f ms, 99 of 100 within %.0f ms, the longest %.0f ms",
		len(took), ms(took[len(took)/2]), ms(took[len(took)*99/100]), ms(took[len(took)-1]))
}
