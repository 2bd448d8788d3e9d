package rig

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Outage is what a client outside the nodes saw of the API servers.
type Outage struct {
	// The first failed poll of any API server.
	Down time.Time
	// From Down until the last API server's /readyz says ok, and keeps saying so.
	Ready time.Duration
	// From Down until a Deployment made after that has its ReplicaSet, seen
	// through each API server.
	Working time.Duration
}

const pollEvery = 50 * time.Millisecond

// Meter watches the API servers of a cluster.
type Meter struct{ watches []*watch }

// NewMeter starts watching the nodes' API servers, which must be ready. End stops it.
func NewMeter(ctx context.Context, nodes ...*Node) (*Meter, error) {
	m := new(Meter)
	for _, n := range nodes {
		w, err := n.watch(ctx)
		if err != nil {
			m.close()
			return nil, err
		}
		m.watches = append(m.watches, w)
	}
	return m, nil
}

// Meter starts watching this node's API server alone; see [NewMeter].
func (n *Node) Meter(ctx context.Context) (*Meter, error) { return NewMeter(ctx, n) }

// End returns the outage when every API server is ready and controllers work again. Call it when
// the cause of the outage is over and has affected each API server.
func (m *Meter) End(ctx context.Context) (Outage, error) {
	defer m.close()
	// An outage that is over may start again until the others are over.
	for _, w := range m.watches {
		if _, err := w.end(ctx); err != nil {
			return Outage{}, err
		}
	}
	var all Outage
	var ready, working time.Time
	for _, w := range m.watches {
		o, err := w.end(ctx)
		if err != nil {
			return Outage{}, err
		}
		if all.Down.IsZero() || o.Down.Before(all.Down) {
			all.Down = o.Down
		}
		ready, working = later(ready, o.Down.Add(o.Ready)), later(working, o.Down.Add(o.Working))
	}
	all.Ready, all.Working = ready.Sub(all.Down), working.Sub(all.Down)
	return all, nil
}

func (m *Meter) close() {
	for _, w := range m.watches {
		w.stop()
		<-w.ended
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// watch watches one API server, with a new connection every 50 ms.
type watch struct {
	node   *Node
	http   *http.Client
	stop   context.CancelFunc
	ended  chan struct{}
	change chan struct{} // has room for one: something below changed

	mu      sync.Mutex
	outage  Outage
	down    bool
	working bool
	err     error
	stopped context.CancelFunc // stops the probe started when it was last ready
}

func (n *Node) watch(ctx context.Context) (*watch, error) {
	config, err := n.RESTConfig()
	if err != nil {
		return nil, err
	}
	tls, err := rest.TLSConfigFor(config)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	w := &watch{
		node: n, stop: stop, ended: make(chan struct{}), change: make(chan struct{}, 1), stopped: func() {},
		http: &http.Client{
			Timeout: time.Second, Transport: &http.Transport{TLSClientConfig: tls, DisableKeepAlives: true},
		},
	}
	if !w.poll(ctx) {
		stop()
		return nil, fmt.Errorf("cannot measure an outage: the API server of %s is not ready", n.Name)
	}
	go w.run(ctx)
	return w, nil
}

func (w *watch) poll(ctx context.Context) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+w.node.Address+":6443/readyz", nil)
	if err != nil {
		return false
	}
	response, err := w.http.Do(request)
	if err != nil {
		return false
	}
	response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// run counts only two failed polls in a row as an outage: one may mean that this machine is busy.
func (w *watch) run(ctx context.Context) {
	defer close(w.ended)
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var failed time.Time
	for ctx.Err() == nil {
		start := time.Now()
		ok := w.poll(ctx)
		switch {
		case ctx.Err() != nil:
		case ok:
			failed = time.Time{}
			w.isReady(ctx, start)
		case failed.IsZero():
			failed = start
		default:
			w.isDown(failed)
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

func (w *watch) isDown(since time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down {
		return
	}
	w.down, w.working = true, false
	w.stopped()
	if w.outage.Down.IsZero() {
		w.outage.Down = since
	}
}

func (w *watch) isReady(ctx context.Context, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.down {
		return
	}
	w.down = false
	w.outage.Ready = at.Sub(w.outage.Down)
	ctx, w.stopped = context.WithCancel(ctx)
	go w.probe(ctx)
}

// probe finds out when controllers work again. It stops early if the API server goes down again.
func (w *watch) probe(ctx context.Context) {
	err := w.awaitControllers(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	w.working, w.err = err == nil, err
	w.outage.Working = time.Since(w.outage.Down)
	select {
	case w.change <- struct{}{}:
	default:
	}
}

func (w *watch) awaitControllers(ctx context.Context) error {
	config, err := w.node.RESTConfig()
	if err != nil {
		return err
	}
	config.Timeout = 5 * time.Second
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	return AwaitControllers(ctx, client)
}

// end returns the outage when the API server is ready and controllers work again.
func (w *watch) end(ctx context.Context) (Outage, error) {
	for {
		w.mu.Lock()
		outage, over, err := w.outage, w.working && !w.down, w.err
		w.mu.Unlock()
		switch {
		case err != nil:
			return outage, err
		case outage.Down.IsZero():
			return outage, fmt.Errorf("there was no outage of %s", w.node.Name)
		case over:
			return outage, nil
		}
		select {
		case <-ctx.Done():
			return outage, fmt.Errorf("the outage of %s is not over: %w", w.node.Name, ctx.Err())
		case <-w.change:
		case <-w.ended:
			return outage, fmt.Errorf("the outage of %s is not over, and the meter's context has ended", w.node.Name)
		}
	}
}
