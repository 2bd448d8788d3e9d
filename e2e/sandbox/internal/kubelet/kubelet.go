// Package kubelet is a stand-in for the kubelet, for static pods only.
//
// It stands in for: reading staticPodPath and containerRuntimeEndpoint from its configuration;
// running every file of that directory whose name does not begin with a dot; a pod UID from the
// pod's contents, the node and the file's name; one started pod per pod name, where the next waits
// until the last has ended; reuse of an unchanged pod's sandbox; restarts with the next attempt,
// and a crash-loop back-off that a new kubelet has forgotten; graceful stops of pods that should no
// longer run; containers that keep running when it stops. It does not stand in for: the API
// server's side (mirror pods, node status), probes, init containers, resources, garbage collection
// by age, image pulls. It never stops containers of pods that it has not run itself; nor does a
// real kubelet while no API server answers.
package kubelet

import (
	"context"
	"log"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"
	"sigs.k8s.io/yaml"
)

// ConfigPath is the host path of the kubelet's configuration, as in kubeadm.
const ConfigPath = "/var/lib/kubelet/config.yaml"

// Options are the kubelet's flags.
type Options struct {
	Root string
	Node string
	// Backoff is the first crash-loop delay, which doubles up to MaxBackoff. A real
	// kubelet has 10 s and 5 min.
	Backoff, MaxBackoff time.Duration
	Log                 *log.Logger
}

const poll = 200 * time.Millisecond

type kubelet struct {
	Options
	runtime   runtimeapi.RuntimeServiceClient
	manifests string // host path
	files     map[string]*source
	workers   map[string]*worker // by pod UID
	backoffs  backoffs
}

// worker is one pod that this kubelet has started and that has not ended.
type worker struct {
	pod  *corev1.Pod
	busy sync.Mutex // held while the pod is synced or ended
	done chan struct{}
}

// Run runs the kubelet until ctx ends. The containers keep running.
func Run(ctx context.Context, o Options) error {
	data, err := os.ReadFile(filepath.Join(o.Root, ConfigPath))
	if err != nil {
		return err
	}
	var config kubeletv1beta1.KubeletConfiguration
	if err := yaml.Unmarshal(data, &config); err != nil {
		return err
	}
	endpoint := filepath.Join(o.Root, strings.TrimPrefix(config.ContainerRuntimeEndpoint, "unix://"))
	conn, err := grpc.NewClient("unix://"+endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	k := &kubelet{
		Options: o, runtime: runtimeapi.NewRuntimeServiceClient(conn), manifests: config.StaticPodPath,
		files: map[string]*source{}, workers: map[string]*worker{},
		backoffs: backoffs{first: o.Backoff, max: o.MaxBackoff, entries: map[string]backoff{}},
	}
	for {
		k.pass(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(poll):
		}
	}
}

// pass brings the pods one step closer to what the directory asks for. It works on
// all pods concurrently.
func (k *kubelet) pass(ctx context.Context) {
	wanted := k.read()
	byUID, started := map[string]bool{}, map[string]bool{}
	for _, pod := range wanted {
		byUID[string(pod.UID)] = true
	}
	for uid, w := range k.workers {
		select {
		case <-w.done:
			delete(k.workers, uid)
			continue
		default:
		}
		started[fullName(w.pod)] = true
		if !byUID[uid] {
			k.work(ctx, w, k.end)
		}
	}
	for _, pod := range wanted {
		w := k.workers[string(pod.UID)]
		if w == nil {
			if started[fullName(pod)] {
				continue // another pod of this name has not ended
			}
			w = &worker{pod: pod, done: make(chan struct{})}
			k.workers[string(pod.UID)], started[fullName(pod)] = w, true
		}
		k.work(ctx, w, k.sync)
	}
}

func (k *kubelet) work(ctx context.Context, w *worker, do func(context.Context, *worker) error) {
	if !w.busy.TryLock() {
		return
	}
	go func() {
		defer w.busy.Unlock()
		select {
		case <-w.done:
			return // ended since the pass looked
		default:
		}
		if err := do(ctx, w); err != nil && ctx.Err() == nil {
			k.Log.Printf("pod %s: %v", fullName(w.pod), err)
			sleep(ctx, time.Second)
		}
	}()
}

func fullName(pod *corev1.Pod) string { return pod.Name + "_" + pod.Namespace }

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// backoffs are the crash-loop delays of containers. They double at each restart, and are forgotten
// after twice the longest delay without one.
type backoffs struct {
	mu         sync.Mutex
	first, max time.Duration
	entries    map[string]backoff
}

type backoff struct {
	delay   time.Duration
	updated time.Time
}

// mayRestart says whether a container that ended then may restart now, and if
// so, counts the restart.
func (b *backoffs) mayRestart(key string, ended, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	entry, known := b.entries[key]
	if known && ended.Sub(entry.updated) > 2*b.max {
		known = false
	}
	if known && now.Sub(ended) < entry.delay {
		return false
	}
	next := b.first
	if known {
		next = min(2*entry.delay, b.max)
	}
	b.entries[key] = backoff{delay: next, updated: now}
	return true
}
