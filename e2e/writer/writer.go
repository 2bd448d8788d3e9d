// Package writer is a client of etcd that writes all the time, so that a test sees what was lost,
// and for how long nothing could be written.
package writer

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Prefix is where it writes.
const Prefix = "/writer/"

const (
	pause = 100 * time.Millisecond // between two writes
	limit = 2 * time.Second        // for one
)

// Writer puts one key after another, and remembers what was acknowledged. What it tells is of use
// when it has ended, but for Count.
type Writer struct {
	Acknowledged int
	Gap          time.Duration // the longest between two that were acknowledged
	Waits        []Wait        // one for each that was acknowledged, in their order

	count  atomic.Int64
	latest time.Time
	wait   Wait // of the write that is tried
	stop   context.CancelFunc
	ended  sync.WaitGroup
}

// Wait is how long one write took, with all attempts at it.
type Wait struct {
	From, Until time.Time
	Failed      []error // of the attempts before the one that was acknowledged
}

// Took is the wait's length.
func (w Wait) Took() time.Duration { return w.Until.Sub(w.From) }

// Begin begins to write.
func Begin(ctx context.Context, c *clientv3.Client) *Writer {
	ctx, stop := context.WithCancel(ctx)
	w := &Writer{stop: stop}
	w.ended.Go(func() {
		for ctx.Err() == nil {
			w.write(ctx, c)
			time.Sleep(pause)
		}
	})
	return w
}

// write writes the same key again where it failed: an error says nothing of whether it was written.
func (w *Writer) write(ctx context.Context, c *clientv3.Client) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if w.wait.From.IsZero() {
		w.wait.From = time.Now()
	}
	if _, err := c.Put(ctx, key(w.Acknowledged+1), "x"); err != nil {
		w.wait.Failed = append(w.wait.Failed, err)
		return
	}
	now := time.Now()
	w.wait.Until = now
	w.Waits, w.wait = append(w.Waits, w.wait), Wait{}
	if !w.latest.IsZero() {
		w.Gap = max(w.Gap, now.Sub(w.latest))
	}
	w.Acknowledged, w.latest = w.Acknowledged+1, now
	w.count.Add(1)
}

// Count is how many writes were acknowledged until now.
func (w *Writer) Count() int { return int(w.count.Load()) }

// End returns when nothing is written any more. It may be called again.
func (w *Writer) End() {
	w.stop()
	w.ended.Wait()
}

// Lost are the keys whose writing was acknowledged, and that are not there.
func (w *Writer) Lost(there func(key string) bool) (lost []string) {
	for i := 1; i <= w.Acknowledged; i++ {
		if !there(key(i)) {
			lost = append(lost, key(i))
		}
	}
	return lost
}

// LostIn are those that a member does not have.
func (w *Writer) LostIn(ctx context.Context, c *clientv3.Client) ([]string, error) {
	got, err := c.Get(ctx, Prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		return nil, err
	}
	there := map[string]bool{}
	for _, kv := range got.Kvs {
		there[string(kv.Key)] = true
	}
	return w.Lost(func(key string) bool { return there[key] }), nil
}

func key(i int) string { return fmt.Sprintf("%s%06d", Prefix, i) }
