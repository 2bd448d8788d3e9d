package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/etcdpod/etcdpod/e2e/binaries"
	"github.com/etcdpod/etcdpod/e2e/rig"
)

// beginnings measures how long a node takes from nothing of etcd to one that answers a linearizable
// read. The kubelet runs, and has etcd's image, whichever way is taken.
type beginnings struct{ node *rig.Node }

// kubeadmConfiguration is where the rig has kubeadm's file on a node.
const kubeadmConfiguration = "/var/lib/kubeadm.yaml"

// initRow measures init against the phases of kubeadm that it stands in for, on a real node.
func (b *bench) initRow(ctx context.Context) error {
	if !b.cluster || !b.wanted("init") {
		return nil
	}
	if os.Geteuid() != 0 {
		say("init: SKIPPED: a real node needs root")
		return nil
	}
	say("starting a real node for init")
	cluster, err := rig.Up(ctx, rig.Options{Name: "benchinit", Nodes: 1, EtcdVersion: binaries.Etcd37})
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
	begin := &beginnings{node: cluster.Node(0)}
	ours, theirs, err := pairs(ctx, b.pairs, begin.etcdpod, begin.kubeadm)
	if err != nil {
		return err
	}
	r := newRow("`init` of one member, nothing to ready",
		"`kubeadm init phase certs etcd-*` and `apiserver-etcd-client`, `kubeadm init phase etcd local`, same kubelet",
		seconds(ours), seconds(theirs))
	r.atMost("ratio", r.Ratio, 1.0, "%.2f")
	b.add(r)
	return nil
}

func seconds(all []time.Duration) []float64 {
	values := make([]float64, len(all))
	for i, d := range all {
		values[i] = d.Seconds()
	}
	return values
}

func (m *beginnings) etcdpod(ctx context.Context) (time.Duration, error) {
	return m.timed(ctx, [][]string{{"etcdpod", "init", "--config", kubeadmConfiguration, "--yes"}})
}

func (m *beginnings) kubeadm(ctx context.Context) (time.Duration, error) {
	var commands [][]string
	for _, name := range []string{
		"etcd-ca", "etcd-server", "etcd-peer", "etcd-healthcheck-client", "apiserver-etcd-client",
	} {
		commands = append(commands, []string{"kubeadm", "init",
			"phase", "certs", name, "--config", kubeadmConfiguration})
	}
	return m.timed(ctx, append(commands, []string{"kubeadm",
		"init", "phase", "etcd", "local", "--config", kubeadmConfiguration}))
}

// timed clears the node, and runs the commands until etcd answers.
func (m *beginnings) timed(ctx context.Context, commands [][]string) (time.Duration, error) {
	if err := m.clear(ctx); err != nil {
		return 0, err
	}
	began := time.Now()
	for _, args := range commands {
		if out, err := m.node.Exec(ctx, args...); err != nil {
			return 0, fmt.Errorf("%q: %w: %s", args, err, out)
		}
	}
	if err := m.answers(ctx); err != nil {
		return 0, err
	}
	return time.Since(began), nil
}

// clear takes away the control plane and all that is made anew. The kubelet is restarted as
// well: a new one remembers no pod, and ends none while no API server answers, so that what
// runs is killed here.
func (m *beginnings) clear(ctx context.Context) error {
	if err := m.node.StopKubelet(ctx); err != nil {
		return err
	}
	files, err := filepath.Glob(m.node.Path("/etc/kubernetes/manifests/*.yaml"))
	if err != nil {
		return err
	}
	gone := append(files, m.node.Path("/etc/kubernetes/pki/etcd"),
		m.node.Path("/etc/kubernetes/pki/apiserver-etcd-client.crt"),
		m.node.Path("/etc/kubernetes/pki/apiserver-etcd-client.key"))
	for _, file := range gone {
		if err := os.RemoveAll(file); err != nil {
			return err
		}
	}
	for _, program := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
		if err := m.ended(ctx, program); err != nil {
			return err
		}
	}
	// The data directory may be a mount point: what is in it goes.
	if _, err := m.node.Exec(ctx, "sh", "-c", "rm -rf /var/lib/etcd/member /var/lib/etcd/.etcdpod-*"); err != nil {
		return err
	}
	if err := m.node.StartKubelet(ctx); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(settle):
		return nil
	}
}

func (m *beginnings) ended(ctx context.Context, program string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		running, err := m.node.Kill(ctx, "^"+program+" ")
		if err == nil && running == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not end on %s: %w", program, m.node.Name, ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// answers waits for a linearizable read.
func (m *beginnings) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 4*time.Minute)
	defer cancel()
	o := outages{nodes: []*rig.Node{m.node}}
	c, err := o.client()
	if err != nil {
		return err
	}
	defer c.Close()
	for {
		try, stop := context.WithTimeout(ctx, time.Second)
		_, err := c.Get(try, "/")
		stop()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("etcd does not answer on %s: %w", m.node.Name, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
