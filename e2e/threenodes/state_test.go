//go:build e2e

package threenodes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/etcdpod/etcdpod/e2e/rig"
)

// state is which of two worlds the cluster is in, wholly.
type state string

const (
	wholeOld state = "old"
	wholeNew state = "new"
)

// worlds are the two that a restore goes between.
type worlds struct {
	cluster uint64    // the old cluster's id: a restored cluster has another one
	since   time.Time // when the restore began: whatever runs since before is of the old cluster
	old     world
	new     world
}

// before returns the worlds of a restore of the scene that begins now.
func (k *cluster) before(s scene) worlds {
	k.Helper()
	now := k.moveOn()
	return worlds{cluster: k.members()[0].Cluster, since: time.Now(), old: now, new: s.then}
}

// members returns the members, once they agree.
func (k *cluster) members() []member {
	k.Helper()
	all, err := agreedMembers(k.Patiently(), k.etcds)
	k.Must(err)
	return all
}

// agreedMembers waits until members agree: etcd compacts one after the other, and a member that was
// just started catches up.
func agreedMembers(ctx context.Context, nodes []*rig.Node) ([]member, error) {
	clients, err := dialEtcds(nodes)
	if err != nil {
		return nil, err
	}
	defer clients.close()
	var last error
	for {
		all, err := clients.members(ctx)
		if err == nil {
			err = agree(all)
		}
		if err == nil {
			return all, nil
		}
		if ctx.Err() == nil || last == nil {
			last = err // not that the time is over
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the members do not agree: %w", last)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// state says which of the worlds the cluster is in. Anything between them is an error: members or
// API servers that differ, an API server that is not ready, processes of the other world.
func (k *cluster) state(w worlds) (state, error) {
	k.Helper()
	ctx := k.Patiently()
	for _, n := range k.nodes {
		if err := n.AwaitReady(ctx); err != nil {
			return "", err
		}
	}
	all, err := agreedMembers(ctx, k.etcds)
	if err != nil {
		return "", err
	}
	is := wholeNew
	if all[0].Cluster == w.cluster {
		is = wholeOld
	}
	shown, err := sharedWorld(ctx, k.nodes)
	if err != nil {
		return "", err
	}
	want := map[state]world{wholeOld: w.old, wholeNew: w.new}[is]
	if !maps.Equal(shown, want) {
		return "", fmt.Errorf("the cluster is the %s one, and the API servers show %v, not %v", is, shown, want)
	}
	var errs []error
	for _, n := range k.nodes {
		errs = append(errs, onlyOf(ctx, n, slices.Contains(k.etcds, n), is, w.since))
	}
	return is, errors.Join(errs...)
}

// onlyOf insists that a node runs one API server, and one etcd if it is a member, and in the new
// world none that is older than it.
func onlyOf(ctx context.Context, n *rig.Node, member bool, is state, since time.Time) error {
	for _, program := range []string{"etcd", "kube-apiserver"} {
		all, err := n.Processes(ctx, program)
		if err != nil {
			return err
		}
		if program == "etcd" && !member && len(all) == 0 {
			continue
		}
		if len(all) != 1 || program == "etcd" && !member {
			return fmt.Errorf("%s runs %d processes of %s: %v", n.Name, len(all), program, all)
		}
		if is == wholeNew && all[0].Started.Before(since) {
			return fmt.Errorf("the %s of %s runs since %s, and the new cluster since %s",
				program, n.Name, all[0].Started, since)
		}
	}
	return nil
}

// be insists on a state.
func (k *cluster) be(want state, w worlds) {
	k.Helper()
	got, err := k.state(w)
	if err != nil {
		k.Fatalf("neither old nor new: %v", err)
	}
	if got != want {
		k.Fatalf("the cluster is the %s one, not the %s one", got, want)
	}
}
