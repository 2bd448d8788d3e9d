package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

// event is a line of `etcdpod restore -o json`, as far as it is of use here.
type event struct {
	Time                    time.Time
	Phase, Operation, State string
}

// marker is the key by which the old data is told from the new: it was written after the backup.
const marker = "/registry/configmaps/default/written-after-the-backup"

func record(ctx context.Context, file, etcd string) (err error) {
	s, err := sandbox.New(sandbox.Options{EtcdBinary: etcd})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Destroy()) }()
	backup, keys, err := prepare(ctx, s)
	if err != nil {
		return err
	}
	w, err := watch(ctx, s)
	if err != nil {
		return err
	}
	events, err := run(ctx, s, backup)
	time.Sleep(time.Second) // to see that all goes on
	answers := w.end()
	if err != nil {
		return err
	}
	r := restore{Etcd: s.EtcdVersion, Keys: keys, Serves: map[string][]was{}}
	r.take(events)
	for name, list := range answers {
		r.Serves[name] = bundle(list, events[0].Time)
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(data, '\n'), 0o644)
}

// prepare makes a control plane with a backup, and a write after it.
func prepare(ctx context.Context, s *sandbox.Sandbox) (backup string, keys int, err error) {
	if err := errors.Join(s.Start(ctx), s.Load(ctx, 2000, 1000)); err != nil {
		return "", 0, err
	}
	all, err := s.AllKeys(ctx)
	if err != nil {
		return "", 0, err
	}
	if got, err := s.Etcdpod(ctx, "backup"); err != nil || got.Code != 0 {
		return "", 0, fmt.Errorf("cannot back up: %w: %s", err, got.Stderr)
	}
	files, err := filepath.Glob(s.Path("/var/lib/etcdpod/backups/*.db"))
	if err != nil || len(files) != 1 {
		return "", 0, fmt.Errorf("the backups are %v: %w", files, err)
	}
	c, err := s.EtcdClient()
	if err != nil {
		return "", 0, err
	}
	defer c.Close()
	_, err = c.Put(ctx, marker, "{}")
	return files[0], len(all), err
}

// run runs the restore, and notes its events with the times at which they happened.
func run(ctx context.Context, s *sandbox.Sandbox, backup string) (events []event, err error) {
	cmd, err := s.EtcdpodCommand(ctx, "restore", "--yes", "-o", "json", backup)
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, errors.Join(err, cmd.Process.Kill(), cmd.Wait())
		}
		if e.State != "" && e.State != "progress" {
			events = append(events, e)
		}
	}
	if err := errors.Join(lines.Err(), cmd.Wait()); err != nil {
		return nil, err
	}
	if len(events) == 0 {
		return nil, errors.New("the restore reported no event")
	}
	return events, nil
}

// take takes phases, the commit point and the kubelet's state from the events.
func (r *restore) take(events []event) {
	since := func(e event) float64 { return e.Time.Sub(events[0].Time).Seconds() }
	r.Kubelet = []span{{}}
	for _, e := range events {
		r.End = since(e)
		n := len(r.Phases)
		switch {
		case e.State == "phase":
			if n > 0 {
				r.Phases[n-1].To = r.End
			}
			r.Phases = append(r.Phases, span{Name: e.Phase, From: r.End})
		case e.State == "committed":
			r.Commit = r.End
		case e.State == "finished" && e.Operation == "stop the kubelet":
			r.Kubelet[len(r.Kubelet)-1].To = r.End
		case e.State == "finished" && e.Operation == "start the kubelet":
			r.Kubelet = append(r.Kubelet, span{From: r.End})
		}
	}
	r.Phases[len(r.Phases)-1].To = r.End
	r.Kubelet[len(r.Kubelet)-1].To = r.End
}

// answer is one to a question who serves.
type answer struct {
	at   time.Time
	data string // empty if there was none
}

// watcher asks etcd and the API server, again and again.
type watcher struct {
	stop  context.CancelFunc
	close func() // after that
	done  sync.WaitGroup
	mu    sync.Mutex
	all   map[string][]answer
}

func watch(ctx context.Context, s *sandbox.Sandbox) (*watcher, error) {
	etcd, err := s.EtcdClient()
	if err != nil {
		return nil, err
	}
	api, err := s.API()
	if err != nil {
		return nil, errors.Join(err, etcd.Close())
	}
	ctx, stop := context.WithCancel(ctx)
	w := &watcher{stop: stop, all: map[string][]answer{}}
	data := func(found bool) string {
		if found {
			return "old"
		}
		return "new"
	}
	w.ask(ctx, "etcd", func(ctx context.Context) (string, error) {
		got, err := etcd.Get(ctx, marker, clientv3.WithCountOnly())
		if err != nil { // the client would wait longer and longer before it tries again
			again, wrong := s.EtcdClient()
			if wrong == nil {
				etcd.Close()
				etcd = again
			}
			return "", err
		}
		return data(got.Count == 1), nil
	})
	w.ask(ctx, "API server", func(ctx context.Context) (string, error) {
		if err := api.Do(ctx, http.MethodGet, "/readyz", nil, nil); err != nil {
			return "", err
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		list := w.all["etcd"] // which it reads
		return list[len(list)-1].data, nil
	})
	w.close = func() { etcd.Close() }
	return w, nil
}

// ask asks every 20 ms, and waits no longer than a tenth of a second.
func (w *watcher) ask(ctx context.Context, name string, question func(context.Context) (string, error)) {
	w.done.Add(1)
	first := make(chan bool)
	go func() {
		defer w.done.Done()
		for begun := false; ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
			limited, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			data, err := question(limited)
			cancel()
			if err != nil {
				data = ""
			}
			w.mu.Lock()
			w.all[name] = append(w.all[name], answer{time.Now(), data})
			w.mu.Unlock()
			if !begun {
				close(first)
				begun = true
			}
		}
	}()
	<-first
}

func (w *watcher) end() map[string][]answer {
	w.stop()
	w.done.Wait()
	w.close()
	return w.all
}

// bundle makes spans of answers of the same kind. One question without an answer, on a machine that
// does much else, is no outage; two are.
func bundle(answers []answer, begun time.Time) (all []was) {
	missed := 0
	for _, a := range answers {
		at := max(0, a.at.Sub(begun).Seconds())
		n := len(all)
		switch {
		case a.data == "":
			missed++
			continue
		case n > 0 && all[n-1].Data == a.data && missed < 2:
			all[n-1].To = at
		default:
			all = append(all, was{at, at, a.data})
		}
		missed = 0
	}
	return all
}
