//go:build e2e

// Package cluster holds the built etcdpod to its promises on a real kubeadm control plane, which
// the rig runs on this machine: root, Linux.
//
// All tests use one cluster, one after the other; each leaves it working. With ETCDPOD_KEEP=yes
// it is there after the tests, and used again by the next ones, but for the upgrade, which a
// cluster can have once.
package cluster

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/e2e/rig"
)

// clusterName names the cluster of this package's tests.
const clusterName = "e2e"

func TestMain(m *testing.M) {
	code, err := withCluster(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// withCluster runs the tests between the cluster's start and its end.
func withCluster(tests func() int) (code int, err error) {
	up, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	if _, err := rig.Borrow(up, rig.Options{Name: clusterName}); err != nil {
		return 1, err
	}
	code = tests()
	down, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return code, rig.GiveBack(down, clusterName)
}

func attach() (*rig.Cluster, error) {
	dir, err := rig.Dir(clusterName)
	if err != nil {
		return nil, err
	}
	return rig.Attach(dir)
}
