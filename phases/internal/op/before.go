package op

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// Returner is an operation that stops something, and so must see, once its run has gone back, that
// what served before serves again: files in their places prove no more than that.
type Returner interface {
	// Returned waits for it, and returns nil or a [*NotServingError]. It is called when everything
	// is undone, and again if that was interrupted. known is false if what served before was not
	// noted: earlier versions did not.
	Returned(context.Context, *Target) (known bool, err error)
}

// NotServingError says what does not serve again after a run has gone back.
type NotServingError struct {
	What string // etcd does not serve: …
	Fix  string // what to do
}

func (e *NotServingError) Error() string { return e.What }

// Hint says what to do.
func (e *NotServingError) Hint() string { return e.Fix }

// Before is what served on this node when a run was planned, and is awaited if it goes back.
type Before struct {
	Etcd  *Access       `json:"etcd,omitempty"` // it served; nil: it did not
	API   *APIAccess    `json:"api,omitempty"`  // it was ready; nil: it was not
	Pods  []Pod         `json:"pods,omitempty"` // what the run stops
	Limit time.Duration `json:"limit,omitempty"`
	// Start is how long the kubelet lets containers start, by their names.
	Start map[string]*StartLimit `json:"start,omitempty"`
	// The containers of etcd and of the API server. Earlier versions did not say; nil: kubeadm's.
	EtcdPod *Pod `json:"etcdPod,omitempty"`
	APIPod  *Pod `json:"apiPod,omitempty"`

	Ran    []Pod    `json:"ran,omitempty"`    // of the pods, what ran, with the containers that did
	Images []string `json:"images,omitempty"` // what they were started from
}

// record notes which containers run.
func (b *Before) record(ctx context.Context, t *Target) error {
	if b == nil {
		return nil
	}
	all, err := t.Host.Runtime.Containers(ctx)
	if err != nil {
		return fmt.Errorf("cannot determine what runs: %w", err)
	}
	b.Ran, b.Images = nil, nil
	for _, p := range b.Pods {
		run := p
		run.Containers = nil
		for _, c := range all {
			if c.State != stateRunning || !p.Owns(c) || slices.Contains(run.Containers, c.Name) {
				continue
			}
			run.Containers = append(run.Containers, c.Name)
			if c.Image != "" && !slices.Contains(b.Images, c.Image) {
				b.Images = append(b.Images, c.Image)
			}
		}
		if len(run.Containers) > 0 {
			b.Ran = append(b.Ran, run)
		}
	}
	return nil
}

// ran says whether anything ran.
func (b *Before) ran() bool { return b != nil && len(b.Ran) > 0 }

// again waits until what ran runs, and what served serves.
func (b *Before) again(ctx context.Context, t *Target) error {
	if b == nil {
		return nil
	}
	if _, err := t.Host.Runtime.Containers(ctx); err != nil {
		return &NotServingError{What: fmt.Sprintf("it is not known whether it serves again: %v", err),
			Fix: "start the container runtime; `etcdpod status` has details"}
	}
	var ready readiness
	var ends crashes
	told := false
	err := poll(ctx, t, "not everything that served before serves again", b.Limit, 100*time.Millisecond,
		func(ctx context.Context) error {
			layer, err := b.missing(ctx, t, &ready)
			if err == nil {
				return nil
			}
			ends.await(ctx, t, b, layer)
			if !told {
				told = true
				t.report("everything is put back; waiting up to %s until what served before serves again", b.Limit)
			}
			if fix := b.noImage(ctx, t); fix != nil {
				return &finalError{fix}
			}
			if loop := ends.loop(ctx, t); loop != nil {
				return &finalError{fmt.Errorf("%w; %w", err, loop)}
			}
			return err
		})
	var known *NotServingError
	if err == nil || errors.As(err, &known) {
		return err
	}
	fix := "read its log below /var/log/pods, and the kubelet's (`journalctl -u kubelet`)"
	for _, w := range ends.watches[ends.layer] {
		why, do := w.why(ctx, t, err)
		if why != "" {
			err = fmt.Errorf("%w; %s", err, why)
		}
		if fix = cmp.Or(do, fix); why != "" || do != "" {
			break
		}
	}
	return &NotServingError{What: err.Error(), Fix: fix + "; `etcdpod status` has details. If you edit a manifest, " +
		"restart the kubelet afterwards"}
}

// A layer works only once those before it do. Until then its containers may end again and again: an
// API server gives up after 20 s without etcd (k8s.io/apiserver, storagebackend/factory).
const (
	etcdLayer = iota
	apiLayer
	restLayer
	layers
)

// crashes are the containers that end. That one does counts only from when the layers below it
// work: before that it says nothing of its own.
type crashes struct {
	layer   int // the lowest that does not work
	watches [layers][]crashWatch
}

// await watches a layer that is awaited now, from its beginning if that is new.
func (c *crashes) await(ctx context.Context, t *Target, b *Before, layer int) {
	if layer > c.layer || c.watches[layer] == nil {
		watches, err := b.watch(ctx, t, layer)
		if err != nil {
			return // it is tried again
		}
		c.watches[layer] = watches
	}
	c.layer = layer
}

// loop says which of those of the awaited layer keeps ending.
func (c *crashes) loop(ctx context.Context, t *Target) error {
	for _, w := range c.watches[c.layer] {
		if err := w.loop(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// missing says what does not run, or serve, in the lowest layer where something does not.
func (b *Before) missing(ctx context.Context, t *Target, ready *readiness) (layer int, err error) {
	all, err := t.Host.Runtime.Containers(ctx)
	for ; err == nil && layer < layers; layer++ {
		if err = b.works(ctx, t, ready, layer, all); err != nil {
			break
		}
	}
	return layer, err
}

// works says what of a layer does not run, or serve.
func (b *Before) works(ctx context.Context, t *Target, ready *readiness, layer int, all []node.Container) error {
	for _, p := range b.in(layer) {
		if !slices.ContainsFunc(all, func(c node.Container) bool { return c.State == stateRunning && p.Owns(c) }) {
			return fmt.Errorf("%s does not run", p.Containers[0])
		}
	}
	switch {
	case layer == etcdLayer && b.Etcd != nil:
		if _, err := t.Etcd.Serving(ctx, *b.Etcd, 0); err != nil {
			return fmt.Errorf("etcd does not serve: %w", err)
		}
	case layer == apiLayer && b.API != nil:
		if err := ready.look(ctx, t, *b.API); err != nil {
			return fmt.Errorf("the API server is not ready: %w", err)
		}
	}
	return nil
}

// in are the containers of a layer that ran, each in a pod of its own.
func (b *Before) in(layer int) (all []Pod) {
	for _, pod := range b.Ran {
		for _, name := range pod.Containers {
			one := pod
			one.Containers = []string{name}
			if b.layer(one) == layer {
				all = append(all, one)
			}
		}
	}
	return all
}

// layer is that of a container.
func (b *Before) layer(one Pod) int {
	for layer, kubeadms := range []string{etcdLayer: "etcd", apiLayer: "kube-apiserver"} {
		own := []*Pod{b.EtcdPod, b.APIPod}[layer]
		if own == nil {
			own = &Pod{Namespace: systemNamespace, Name: kubeadms, Containers: []string{kubeadms}}
		}
		if one.Namespace == own.Namespace && one.Name == own.Name &&
			slices.Contains(own.Containers, one.Containers[0]) {
			return layer
		}
	}
	return restLayer
}

// watch watches the containers of a layer from now on.
func (b *Before) watch(ctx context.Context, t *Target, layer int) (all []crashWatch, err error) {
	for _, one := range b.in(layer) {
		name := one.Containers[0]
		w, err := WatchedIn(one, b.Start[name]).watch(ctx, t, name)
		if err != nil {
			return nil, err
		}
		all = append(all, w)
	}
	return all, nil
}

// noImage says which image is gone since: then nothing is to be waited for.
func (b *Before) noImage(ctx context.Context, t *Target) error {
	for _, name := range b.Images {
		if strings.HasPrefix(name, "sha256:") {
			continue // not as the manifest names it
		}
		if i, err := t.Host.Runtime.Image(ctx, name); err == nil && !i.Present {
			return &NotServingError{What: fmt.Sprintf("containers of image %s cannot start: the image is no longer "+
				"on this node", name),
				Fix: fmt.Sprintf("pull it (`crictl pull %s`), or import it: the kubelet then starts them by "+
					"itself", name)}
		}
	}
	return nil
}
