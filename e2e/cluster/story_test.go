//go:build e2e

package cluster

import (
	"errors"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/etcdpod/etcdpod/e2e/rig/hand"
)

func TestWhatABackupHoldsComesBackWhenEtcdsDataIsGone(t *testing.T) {
	k := take(t)
	s := k.scene()
	manifests := k.manifests()
	now := k.moveOn()
	if maps.Equal(now, s.then) {
		t.Fatal("the two worlds are one: this proves nothing")
	}
	watching := k.watchAll()

	k.Must(k.node.StopKubelet(k.Ctx))
	k.shell("pkill -KILL -x etcd; while pgrep -x etcd; do sleep 0.1; done; rm -rf /var/lib/etcd/member/snap/db")
	k.Must(k.node.StartKubelet(k.Ctx))

	r := k.want(0, "restore", "--yes", "--output", "json", s.backup)
	t.Logf("phases: %s", phaseTimes(events(r.stdout)))
	for _, e := range events(r.stdout) {
		if e.State == "note" {
			t.Logf("note: %s", e.Message)
		}
	}
	k.be(s.then, "the world of the backup")
	k.sameManifests(manifests)
	k.oneEtcd()

	t.Run("no watch and no informer stays with the world that is gone", func(t *testing.T) {
		k := k.with(t)
		watching.converge(k)
		k.put("made-after-the-restore", "new")
		watching.converge(k)
		watching.neverWentBack(k)
	})
	t.Run("a new Deployment gets its ReplicaSet", func(t *testing.T) {
		start := time.Now()
		k.with(t).awaitWorking()
		t.Logf("%.1f s after the restore's end", time.Since(start).Seconds())
	})
	t.Run("status finds nothing wrong", func(t *testing.T) {
		t.Log(k.with(t).want(0, "status").stdout)
	})
}

// watchers are an informer and a plain watch, begun before a restore.
type watchers struct {
	informer cache.SharedIndexInformer
	plain    watch.Interface

	mu    sync.Mutex
	last  uint64 // the highest revision that the informer has synced to
	wrong error
}

// watchAll begins to watch the ConfigMaps of the tests.
func (k *control) watchAll() *watchers {
	k.Helper()
	only := func(o *metav1.ListOptions) { o.LabelSelector = label }
	factory := informers.NewSharedInformerFactoryWithOptions(k.client,
		0, informers.WithNamespace(namespace), informers.WithTweakListOptions(only))
	w := &watchers{informer: factory.Core().V1().ConfigMaps().Informer()}
	stop := make(chan struct{})
	k.Cleanup(func() { close(stop) })
	factory.Start(stop)
	if !cache.WaitForCacheSync(k.Patiently().Done(), w.informer.HasSynced) {
		k.Fatal("the informer does not sync")
	}
	list, err := k.client.CoreV1().ConfigMaps(namespace).List(k.Patiently(),
		metav1.ListOptions{LabelSelector: label})
	k.Must(err)
	w.plain, err = k.client.CoreV1().ConfigMaps(namespace).Watch(k.Ctx,
		metav1.ListOptions{LabelSelector: label, ResourceVersion: list.ResourceVersion})
	k.Must(err)
	k.Cleanup(w.plain.Stop)
	from, err := strconv.ParseUint(list.ResourceVersion, 10, 64)
	k.Must(err)
	go w.follow(from)
	go w.poll(stop)
	return w
}

// follow holds the plain watch to revisions that only grow, until it ends.
func (w *watchers) follow(last uint64) {
	for e := range w.plain.ResultChan() {
		object, ok := e.Object.(*corev1.ConfigMap)
		if !ok {
			continue // the server says why it ends the watch
		}
		revision, err := strconv.ParseUint(object.ResourceVersion, 10, 64)
		if err != nil || revision <= last {
			w.fail(fmt.Errorf("the watch told of %s at revision %s after %d",
				object.Name, object.ResourceVersion, last))
		}
		last = revision
	}
}

// poll notes whenever the informer goes on.
func (w *watchers) poll(stop chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(20 * time.Millisecond):
		}
		revision, err := strconv.ParseUint(w.informer.LastSyncResourceVersion(), 10, 64)
		if err != nil {
			continue // between two lists
		}
		w.mu.Lock()
		if revision < w.last {
			w.wrong = errors.Join(w.wrong, fmt.Errorf("the informer went back from revision %d to %d",
				w.last, revision))
		}
		w.last = revision
		w.mu.Unlock()
	}
}

func (w *watchers) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrong = errors.Join(w.wrong, err)
}

// converge insists that the informer's store becomes what the API server shows.
func (w *watchers) converge(k *control) {
	k.Helper()
	start := time.Now()
	for {
		want, got := k.world(), w.store()
		if maps.Equal(got, want) {
			k.Logf("the informer was up to date after %.1f s", time.Since(start).Seconds())
			return
		}
		if time.Since(start) > hand.Patience {
			k.Fatalf("after %s the informer still holds\n%v\nand the API server\n%v", hand.Patience, got, want)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (w *watchers) store() world {
	all := world{}
	for _, o := range w.informer.GetStore().List() {
		m := o.(*corev1.ConfigMap)
		all[m.Name] = m.Data["value"]
	}
	return all
}

func (w *watchers) neverWentBack(k *control) {
	k.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.wrong != nil {
		k.Error(w.wrong)
	}
	if w.last < 1_000_000_000 {
		k.Errorf("the informer is at revision %d: it has not seen the restored world", w.last)
	}
}
