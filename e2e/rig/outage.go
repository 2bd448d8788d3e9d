package rig

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Outage is what a client of the API server saw from outside the node.
type Outage struct {
	Down    time.Time     // the first of the failed polls
	Ready   time.Duration // from Down until /readyz says ok, and goes on saying so
	Working time.Duration // from Down until a Deployment made after Ready has its ReplicaSet
}

const pollEvery = 50 * time.Millisecond

// Meter watches one API server, on a new connection every 50 ms.
type Meter struct {
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
	stopped context.CancelFunc // of the probe of the last time that it was ready
}

// Meter begins to watch the node's API server, which must be ready. End ends it.
func (n *Node) Meter(ctx context.Context) (*Meter, error) {
	config, err := n.RESTConfig()
	if err != nil {
		return nil, err
	}
	tls, err := rest.TLSConfigFor(config)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	m := &Meter{
		node: n, stop: stop, ended: make(chan struct{}), change: make(chan struct{}, 1), stopped: func() {},
		http: &http.Client{Timeout: time.Second, Transport: &http.Transport{TLSClientConfig: tls, DisableKeepAlives: true}},
	}
	if !m.poll(ctx) {
		stop()
		return nil, fmt.Errorf("cannot measure an outage: the API server of %s is not ready", n.Name)
	}
	go m.watch(ctx)
	return m, nil
}

func (m *Meter) poll(ctx context.Context) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+m.node.Address+":6443/readyz", nil)
	if err != nil {
		return false
	}
	response, err := m.http.Do(request)
	if err != nil {
		return false
	}
	response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// watch takes two failed polls in a row for an outage: one may be this machine being busy.
func (m *Meter) watch(ctx context.Context) {
	defer close(m.ended)
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var failed time.Time
	for ctx.Err() == nil {
		start := time.Now()
		ok := m.poll(ctx)
		switch {
		case ctx.Err() != nil:
		case ok:
			failed = time.Time{}
			m.isReady(ctx, start)
		case failed.IsZero():
			failed = start
		default:
			m.isDown(failed)
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

func (m *Meter) isDown(since time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return
	}
	m.down, m.working = true, false
	m.stopped()
	if m.outage.Down.IsZero() {
		m.outage.Down = since
	}
}

func (m *Meter) isReady(ctx context.Context, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.down {
		return
	}
	m.down = false
	m.outage.Ready = at.Sub(m.outage.Down)
	ctx, m.stopped = context.WithCancel(ctx)
	go m.probe(ctx)
}

// probe finds out when controllers work again. It ends early when the API server is down again.
func (m *Meter) probe(ctx context.Context) {
	err := m.awaitControllers(ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	m.working, m.err = err == nil, err
	m.outage.Working = time.Since(m.outage.Down)
	select {
	case m.change <- struct{}{}:
	default:
	}
}

func (m *Meter) awaitControllers(ctx context.Context) error {
	config, err := m.node.RESTConfig()
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

// End returns the outage when the API server is ready and controllers work again. It is called when what causes the outage is over.
func (m *Meter) End(ctx context.Context) (Outage, error) {
	defer func() {
		m.stop()
		<-m.ended
	}()
	for {
		m.mu.Lock()
		outage, over, err := m.outage, m.working && !m.down, m.err
		m.mu.Unlock()
		switch {
		case err != nil:
			return outage, err
		case outage.Down.IsZero():
			return outage, errors.New("there was no outage")
		case over:
			return outage, nil
		}
		select {
		case <-ctx.Done():
			return outage, fmt.Errorf("the outage of %s is not over: %w", m.node.Name, ctx.Err())
		case <-m.change:
		case <-m.ended:
			return outage, errors.New("the outage is not over, and the meter's context has ended")
		}
	}
}
