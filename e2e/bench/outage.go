package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdpod/etcdpod/e2e/binaries"
	"github.com/etcdpod/etcdpod/e2e/rig"
)

const (
	smallSize = 10 * megabyte
	quota     = "quota-backend-bytes=8589934592"
	// corruptionCheck is what kubeadm gives to every etcd, and what takes most of the time until
	// a large one is ready.
	corruptionCheck = "feature-gates=InitialCorruptCheck=true"
	settle          = 15 * time.Second // for controllers that have only just begun to work
)

// outages measures restores of all nodes of a cluster of real control planes.
type outages struct {
	nodes  []*rig.Node
	mixed  bool   // the large data is of all kinds
	bare   string // a directory on the same disk
	etcd   string // the binary that the node runs
	loaded int64  // bytes of objects
	batch  int    // loads so far
	took   int    // restores so far
}

// outage is one that was seen from outside. Phases are etcdpod's.
type outage struct {
	Ready, Working time.Duration
	phases         map[string]time.Duration
}

func (o outage) String() string {
	return fmt.Sprintf("ready %.1f s, working %.1f s", o.Ready.Seconds(), o.Working.Seconds())
}

// outageRows measures what was asked for, on one control plane and on three: at 10 MB and then
// with the large data.
func (b *bench) outageRows(ctx context.Context) error {
	for _, of := range []struct {
		nodes            int
		small, big, look bool
	}{
		{1, b.wanted("outage"), b.wanted("big"), false},
		{3, b.wanted("three"), b.wanted("three-big"), b.wanted("status")},
	} {
		if !b.cluster || !of.small && !of.big && !of.look {
			continue
		}
		if os.Geteuid() != 0 {
			say("outage: SKIPPED: a real control plane needs root")
			return nil
		}
		if err := b.outagesOf(ctx, of.nodes, of.small, of.big, of.look); err != nil {
			return err
		}
	}
	return nil
}

// outagesOf measures on one cluster of so many nodes.
func (b *bench) outagesOf(ctx context.Context, nodes int, small, big, look bool) error {
	say("starting real control planes: %d", nodes)
	cluster, err := rig.Up(ctx, rig.Options{Name: fmt.Sprintf("bench%d", nodes),
		Nodes: nodes, EtcdArgs: []string{quota}})
	if err != nil {
		return err
	}
	defer func() {
		if err := cluster.Down(context.WithoutCancel(ctx)); err != nil {
			say("%v", err)
		}
	}()
	if err := cluster.InstallEtcdpod(ctx, "etcdpod", ""); err != nil {
		return err
	}
	o := &outages{nodes: cluster.Nodes, bare: filepath.Join(b.dir, "bare"), mixed: b.mixed}
	if o.etcd, err = binaries.Etcd(ctx, binaries.Etcd37); err != nil {
		return err
	}
	defer removeAll(o.bare)
	if look {
		if err := b.statusRow(ctx, o); err != nil {
			return err
		}
	}
	var restSmall float64
	if small {
		if restSmall, err = b.outagesAt(ctx, o, smallSize, b.outages); err != nil {
			return err
		}
	}
	if !big {
		return nil
	}
	if !small {
		if err := o.grow(ctx, smallSize); err != nil {
			return err
		}
	}
	restBig, err := b.outagesAt(ctx, o, b.big, b.bigOutages)
	if err != nil || !small {
		return err
	}
	row := row{What: o.of("outage less a bare etcd's start, at " + amount(b.big)),
		Against: "the same at " + amount(smallSize), Ours: restBig, Theirs: restSmall, Ratio: restBig / restSmall}
	if nodes == 1 {
		row.atMost("ratio", row.Ratio, 1.2, "%.2f")
	}
	b.add(row)
	return nil
}

// of says of how many nodes a figure is, unless it is of one.
func (o *outages) of(what string) string {
	if len(o.nodes) == 1 {
		return what
	}
	return fmt.Sprintf("%d nodes: %s", len(o.nodes), what)
}

// outagesAt adds the rows for one size, and returns etcdpod's outage less a bare etcd's start.
func (b *bench) outagesAt(ctx context.Context, o *outages, size int64, n int) (float64, error) {
	say("%s", o.of("outage at "+amount(size)))
	if err := o.grow(ctx, size); err != nil {
		return 0, err
	}
	ours, theirs, err := pairs(ctx, n, o.etcdpod, o.byHand)
	if err != nil {
		return 0, err
	}
	ready, working := func(o outage) float64 { return o.Ready.Seconds() }, func(o outage) float64 {
		return o.Working.Seconds()
	}
	what, hand := "outage, API server down to ready, at ", "the documented procedure by hand, no think time"
	if len(o.nodes) > 1 {
		what, hand = "outage, first API server down to last one ready, at ", hand+", on all nodes at once"
	}
	down := newRow(o.of(what+amount(size)), hand, each(ours, ready), each(theirs, ready))
	controllers := newRow(o.of("until a new Deployment has its ReplicaSet, at "+amount(size)),
		"the same", each(ours, working), each(theirs, working))
	if size == smallSize {
		down.atMost("ratio", down.Ratio, 0.25, "%.2f")
		if len(o.nodes) == 1 {
			controllers.atMost("ratio", controllers.Ratio, 0.5, "%.2f")
		}
	}
	b.add(down)
	b.add(controllers)
	var starts []float64
	for range max(3, n) {
		start, err := o.bareStart(ctx)
		if err != nil {
			return 0, err
		}
		starts = append(starts, start.Seconds())
	}
	rest := median(each(ours, ready)) - median(starts)
	b.report.Phases = append(b.report.Phases, phaseRow{What: o.of(amount(size)),
		Outage: median(each(ours, ready)), BareEtcd: median(starts), Phases: medianPhases(ours)})
	return rest, nil
}

func each(all []outage, figure func(outage) float64) []float64 {
	values := make([]float64, len(all))
	for i, o := range all {
		values[i] = figure(o)
	}
	return values
}

func medianPhases(all []outage) map[string]float64 {
	times := map[string]float64{}
	for phase := range all[0].phases {
		times[phase] = median(each(all, func(o outage) float64 { return o.phases[phase].Seconds() }))
	}
	return times
}

func amount(n int64) string {
	if n%1000_000_000 == 0 {
		return fmt.Sprintf("%d GB", n/1000_000_000)
	}
	return fmt.Sprintf("%d MB", n/megabyte)
}

// grow loads objects into the running control plane until it has so many bytes of them: the first
// ones of all kinds, the others events, unless told otherwise. The API server keeps everything but
// events in memory, and is not ready before it has read and decoded it: its own loading would be
// taken for the restore's.
func (o *outages) grow(ctx context.Context, size int64) error {
	etcd, err := o.client()
	if err != nil {
		return err
	}
	defer etcd.Close()
	o.batch++
	g := newGenerator(fmt.Sprintf("bench%d", o.batch), byte(o.batch))
	g.events = o.batch > 1 && !o.mixed
	if _, err := load(ctx, etcd, g, size-o.loaded); err != nil {
		return err
	}
	o.loaded = size
	return o.ready(ctx)
}

func (o *outages) client() (*clientv3.Client, error) {
	pki := o.first().Path("/etc/kubernetes/pki/etcd")
	tls, err := transport.TLSInfo{TrustedCAFile: pki + "/ca.crt",
		CertFile: pki + "/healthcheck-client.crt", KeyFile: pki + "/healthcheck-client.key"}.ClientConfig()
	if err != nil {
		return nil, err
	}
	return clientv3.New(clientv3.Config{Endpoints: []string{"https://" + o.first().Address + ":2379"},
		TLS: tls, Logger: zap.NewNop(), DialTimeout: 5 * time.Second})
}

// ready returns when the cluster works, has settled, and every container may be started again at
// once: a kubelet that is new remembers no back-off.
func (o *outages) ready(ctx context.Context) error {
	for _, n := range o.nodes {
		if err := n.StopKubelet(ctx); err != nil {
			return err
		}
		if err := n.StartKubelet(ctx); err != nil {
			return err
		}
	}
	for _, n := range o.nodes {
		if err := n.AwaitReady(ctx); err != nil {
			return err
		}
		client, err := n.Client()
		if err != nil {
			return err
		}
		if err := rig.AwaitControllers(ctx, client); err != nil {
			return err
		}
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(settle):
		return nil
	}
}

// measured takes a snapshot, restores it in one way or the other, and returns the outage. Each
// restore begins with what the last one left, so that revisions never go back.
func (o *outages) measured(
	ctx context.Context, restore func(ctx context.Context, snapshot string) (map[string]time.Duration, error),
) (outage, error) {
	o.took++
	snapshot := fmt.Sprintf("/var/lib/bench-%d.db", o.took)
	if err := o.first().SnapshotByHand(ctx, snapshot); err != nil {
		return outage{}, err
	}
	defer o.remove(snapshot)
	for _, n := range o.nodes[1:] { // both ways find it on every node: neither pays for a network
		if err := os.Link(o.first().Path(snapshot), n.Path(snapshot)); err != nil {
			return outage{}, err
		}
	}
	meter, err := rig.NewMeter(ctx, o.nodes...)
	if err != nil {
		return outage{}, err
	}
	phases, err := restore(ctx, snapshot)
	if err != nil {
		return outage{}, err
	}
	seen, err := meter.End(ctx)
	if err != nil {
		return outage{}, err
	}
	o.remove("/var/lib/etcd-old-*")
	o.remove(runsDir)
	return outage{seen.Ready, seen.Working, phases}, o.ready(ctx)
}

// first is the node on which etcdpod is started, and whose etcd is asked.
func (o *outages) first() *rig.Node { return o.nodes[0] }

// remove removes what matches a path on any node.
func (o *outages) remove(pattern string) {
	for _, n := range o.nodes {
		found, _ := filepath.Glob(n.Path(pattern)) // the pattern is well formed
		removeAll(found...)
	}
}

func (o *outages) etcdpod(ctx context.Context) (outage, error) {
	args := []string{"etcdpod", "--yes", "--output=json", "restore"}
	if len(o.nodes) > 1 {
		var names []string
		for _, n := range o.nodes {
			names = append(names, n.Name)
		}
		args = append(args, "--nodes="+strings.Join(names, ","))
	}
	return o.measured(ctx, func(ctx context.Context, snapshot string) (map[string]time.Duration, error) {
		out, err := o.first().Exec(ctx, append(args, snapshot)...)
		if err != nil {
			return nil, err
		}
		return phaseTimes(out)
	})
}

func (o *outages) byHand(ctx context.Context) (outage, error) {
	return o.measured(ctx, func(ctx context.Context, snapshot string) (map[string]time.Duration, error) {
		steps, err := rig.RestoreByHand(ctx, snapshot, o.nodes...)
		for _, s := range steps {
			say("    %s %.1f s", s.Name, s.Took.Seconds())
		}
		return nil, err
	})
}

// bareStart is the time of an etcd by itself from exec to ready, on a copy of the first node's data
// and with the flags that cost time.
func (o *outages) bareStart(ctx context.Context) (start time.Duration, err error) {
	defer removeAll(o.bare)
	snapshot := o.first().Path("/var/lib/bench-bare.db")
	defer removeAll(snapshot)
	if err := o.first().SnapshotByHand(ctx, "/var/lib/bench-bare.db"); err != nil {
		return 0, err
	}
	etcdutl, err := binaries.Etcdutl(ctx, binaries.Etcd37)
	if err != nil {
		return 0, err
	}
	if _, _, err := measure(ctx, exec.CommandContext(ctx, etcdutl, "snapshot",
		"restore", snapshot, "--data-dir="+o.bare, "--bump-revision=1000000000", "--mark-compacted")); err != nil {
		return 0, err
	}
	syscall.Sync()
	e, start, err := startEtcd(ctx, o.etcd, o.bare, "--"+quota, "--"+corruptionCheck)
	if err != nil {
		return 0, err
	}
	return start, e.stop()
}
