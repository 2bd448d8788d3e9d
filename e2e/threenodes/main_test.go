//go:build e2e

// Package threenodes holds the built etcdpod to its promises on three real control planes with
// stacked etcd, which the rig runs on this machine: root, Linux. The nodes reach each other by ssh,
// as an operator's do.
//
// All tests use one cluster, one after the other; each leaves it working. With ETCDPOD_KEEP=yes it
// is there after the tests, and used again by the next ones.
package threenodes

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/e2e/rig"
)

// clusterName names the cluster of this package's tests.
const clusterName = "threenodes"

// wanted is that cluster.
var wanted = rig.Options{Name: clusterName, Nodes: 3}

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
	if _, err := rig.Borrow(up, wanted); err != nil {
		return 1, err
	}
	code = tests()
	down, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return code, rig.GiveBack(down, clusterName)
}
