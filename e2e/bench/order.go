package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/etcdpod/etcdpod/e2e/binaries"
)

// order is a way to start the three members of a restored cluster. The check is etcd's initial
// corruption check, in which a member asks each peer for a hash before it serves its peers itself:
// members that are started together wait for each other.
type order struct {
	name   string
	inTurn bool // the next one when the last one serves its peers
	check  bool
}

var orders = [...]order{{"one after the other", true, true},
	{"all at once", false, true}, {"all at once, no check", false, false}}

func orderNames() (names []string) {
	for _, o := range orders {
		names = append(names, o.name)
	}
	return names
}

// orderRow has, for each order, the seconds from the first exec until all three members answer
// a linearizable read.
type orderRow struct {
	What    string
	Seconds [len(orders)][]float64
}

func (r orderRow) figures() (all []string) {
	for _, each := range r.Seconds {
		all = append(all, fmt.Sprintf("%.1f s", median(each)))
	}
	return all
}

// orderLimit is for one start.
const orderLimit = 5 * time.Minute

// orderRows weighs the orders: with little data and with much.
func (b *bench) orderRows(ctx context.Context) error {
	if !b.wanted("order") {
		return nil
	}
	for _, of := range []struct {
		size int64
		n    int
	}{{megabyte, b.outages}, {b.big, b.bigOutages}} {
		snapshot, err := makeSnapshot(ctx, b.dir, binaries.Etcd37, of.size)
		if err != nil {
			return err
		}
		row := orderRow{What: amount(of.size)}
		for range of.n {
			for i, o := range orders {
				took, err := b.startThree(ctx, snapshot, o)
				if err != nil {
					return err
				}
				say("  %s, %s: %.1f s", row.What, o.name, took.Seconds())
				row.Seconds[i] = append(row.Seconds[i], took.Seconds())
			}
		}
		b.report.Orders = append(b.report.Orders, row)
	}
	return nil
}

// member is one of three etcds on loopback, without TLS.
type member struct{ name, dir, client, peer string }

// startThree restores the snapshot for three members, starts them, and returns the time
// until all of them answer.
func (b *bench) startThree(ctx context.Context, snapshot string, o order) (took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, orderLimit)
	defer cancel()
	members, flags, err := b.stageThree(ctx, snapshot, "127.0.0.1")
	for _, m := range members {
		defer removeAll(m.dir)
	}
	if err != nil {
		return 0, err
	}
	binary, err := binaries.Etcd(ctx, binaries.Etcd37)
	if err != nil {
		return 0, err
	}
	flags = append(flags, "--"+quota)
	if o.check {
		flags = append(flags, "--"+corruptionCheck)
	}
	syscall.Sync()
	var running []*bareEtcd
	defer func() {
		for _, e := range running {
			err = errors.Join(err, e.stop())
		}
	}()
	start := time.Now()
	for _, m := range members {
		e, err := launch(ctx, binary, m.dir, m.client, append(m.flags(), flags...)...)
		if err != nil {
			return 0, err
		}
		running = append(running, e)
		if o.inTurn {
			if err := m.servesPeers(ctx); err != nil {
				return 0, err
			}
		}
	}
	for _, e := range running {
		if err := e.await(ctx); err != nil {
			return 0, err
		}
	}
	return time.Since(start), nil
}

// stageThree restores the snapshot once for each member, and returns the flags that all have in
// common.
func (b *bench) stageThree(
	ctx context.Context, snapshot, host string,
) (members []member, flags []string, err error) {
	etcdutl, err := binaries.Etcdutl(ctx, binaries.Etcd37)
	if err != nil {
		return nil, nil, err
	}
	var all []string
	for i := range 3 {
		m := member{name: fmt.Sprintf("m%d", i+1)}
		m.dir = b.dir + "/order-" + m.name
		if m.client, m.peer, err = freeURLsAt(host); err != nil {
			return nil, nil, err
		}
		members, all = append(members, m), append(all, m.name+"="+m.peer)
	}
	flags = []string{"--initial-cluster=" + strings.Join(all, ",")}
	for _, m := range members {
		removeAll(m.dir) // of a run that was killed
		args := []string{"snapshot", "restore", snapshot, "--data-dir=" + m.dir, "--name=" + m.name,
			"--initial-advertise-peer-urls=" + m.peer, "--bump-revision=1000000000", "--mark-compacted"}
		if out, err := exec.CommandContext(ctx, etcdutl, append(args, flags...)...).CombinedOutput(); err != nil {
			return members, nil, fmt.Errorf("cannot restore for %s: %w\n%s", m.name, err, out)
		}
	}
	return members, flags, nil
}

func (m member) flags() []string {
	return []string{"--name=" + m.name, "--listen-peer-urls=" + m.peer, "--initial-advertise-peer-urls=" + m.peer}
}

// servesPeers returns when the member's peer port answers, which it does once its check is over.
func (m member) servesPeers(ctx context.Context) error {
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, m.peer+"/version", nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			response.Body.Close()
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not serve its peers: %w", m.name, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
