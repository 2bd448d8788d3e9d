//go:build e2e

package cluster

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/etcdpod/etcdpod/e2e/rig"
)

// What a restore of 10 MB may take, as a part of what the documented procedure takes by hand.
const (
	mostOutage  = 1.0 / 4 // from the API server's end until it is ready
	mostWorking = 1.0 / 2 // and until controllers work: a new Deployment has its ReplicaSet
)

func TestTheOutageIsAFractionOfThatByHand(t *testing.T) {
	k := take(t)
	k.load(10 << 20)
	s := k.scene()
	k.awaitWorking()

	byHand := k.outage(func() {
		steps, err := rig.RestoreByHand(k.Ctx, s.backup, k.node)
		k.Must(err)
		t.Logf("by hand: %v", steps)
	})
	ours := k.outage(func() {
		r := k.want(0, "restore", "--yes", "--output", "json", s.backup)
		t.Logf("phases: %s", phaseTimes(events(r.stdout)))
	})
	t.Logf("                 by hand   etcdpod   ratio")
	for _, row := range []struct {
		what       string
		hand, ours time.Duration
		most       float64
	}{
		{"API server ready", byHand.Ready, ours.Ready, mostOutage},
		{"ReplicaSet      ", byHand.Working, ours.Working, mostWorking},
	} {
		ratio := row.ours.Seconds() / row.hand.Seconds()
		t.Logf("%s %7.1f s %7.1f s %7.2f", row.what, row.hand.Seconds(), row.ours.Seconds(), ratio)
		if ratio > row.most {
			t.Errorf("%s: %.2f of the time by hand is more than %.2f", row.what, ratio, row.most)
		}
	}
}

func (k *control) outage(of func()) rig.Outage {
	k.Helper()
	meter, err := k.node.Meter(k.Ctx)
	k.Must(err)
	of()
	outage, err := meter.End(k.Within(2 * time.Minute))
	k.Must(err)
	return outage
}

// load makes ConfigMaps of 10 kB until there are so many bytes.
func (k *control) load(bytes int) {
	k.Helper()
	const size, workers = 10_000, 8
	names := make(chan string)
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for name := range names {
				object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name},
					Data: map[string]string{"load": strings.Repeat("x", size)}}
				if _, err := k.client.CoreV1().ConfigMaps(metav1.NamespaceDefault).Create(k.Ctx,
					object, metav1.CreateOptions{}); err != nil {
					k.Error(err)
				}
			}
		})
	}
	for i := range bytes / size {
		names <- fmt.Sprintf("load-%d-%d", time.Now().UnixNano(), i)
	}
	close(names)
	group.Wait()
}
