package op

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// ends is a node on which one container ends soon, and nothing serves.
type ends struct {
	node.Runtime
	node.Kubelet
	Etcd
	APIServer
	Certificates
	now  time.Time
	all  []node.Container
	exit node.Exit
	// next is called while something is waited for.
	next func(*ends)
	deaf int    // so often the runtime does not answer at first
	log  string // where the runtime writes it; empty: it does not tell
}

var errDeaf = errors.New("connection refused")

func (e *ends) Containers(context.Context) ([]node.Container, error) {
	if e.deaf > 0 {
		e.deaf--
		return nil, errDeaf
	}
	return slices.Clone(e.all), nil
}

func (e *ends) Exit(_ context.Context, id string) (node.Exit, bool, error) {
	i := slices.IndexFunc(e.all, func(c node.Container) bool { return c.ID == id })
	return e.exit, i >= 0 && e.all[i].State == stateExited, nil
}

func (e *ends) LogFile(context.Context, string) (string, error) { return e.log, nil }

func (e *ends) Image(context.Context, string) (node.Image, error) {
	return node.Image{Present: true}, nil
}

func (e *ends) StopContainer(_ context.Context, id string, _ time.Duration) error {
	for i := range e.all {
		if e.all[i].ID == id {
			e.all[i].State = stateExited
		}
	}
	return nil
}

func (e *ends) Running(context.Context) (bool, error) { return true, nil }
func (e *ends) Start(context.Context) error           { return nil }
func (e *ends) Stop(context.Context) error            { return nil }

func (e *ends) Serving(context.Context, Access, int64) (Answer, error) { return Answer{}, errDeaf }
func (e *ends) Started(context.Context, Access) (Answer, error)        { return Answer{}, errDeaf }
func (e *ends) Learner(context.Context, Access, Access) (Learner, error) {
	return Learner{}, errDeaf
}
func (e *ends) PeerServes(context.Context, Access) error             { return errDeaf }
func (e *ends) Members(context.Context, Access) ([]Member, error)    { return nil, errDeaf }
func (e *ends) Ready(context.Context, APIAccess) error               { return errDeaf }
func (e *ends) Serves(context.Context, string, Access, string) error { return errDeaf }
func (e *ends) Counts(context.Context, APIAccess, int64) ([]Count, error) {
	return nil, errDeaf
}

func (e *ends) Now() time.Time { return e.now }

func (e *ends) Sleep(_ context.Context, d time.Duration) error {
	if e.now = e.now.Add(d); e.next != nil {
		next := e.next
		e.next = nil
		next(e)
	}
	return nil
}

func (e *ends) target(t *testing.T) *Target {
	return &Target{Host: &node.Host{FS: node.OS(t.TempDir()), Runtime: e, Kubelet: e, Clock: e}, Etcd: e, APIServer: e,
		Certificates: e, Report: func(string) {}}
}

// run puts the container of another start in the place of what runs, which ends.
func (e *ends) run(c node.Container) {
	for i := range e.all {
		e.all[i].State = stateExited
	}
	c.State, c.CreatedAt = stateRunning, e.now
	e.all = append(e.all, c)
}

// inPod is a pod whose containers have names of their own.
func inPod(name string) (Pod, node.Container) {
	return Pod{Namespace: "control", Name: name, Containers: []string{"main"}},
		node.Container{ID: name + "-0", Namespace: "control", Pod: name + "-cp1", PodUID: "u", Name: "main"}
}

// waits are all operations that wait for a program, of a pod.
func waits(w Watched) map[string]func(context.Context, *Target) error {
	at := Access{Endpoints: []string{"https://127.0.0.1:2379"}}
	limit := time.Minute
	returned := func(r Returner) func(context.Context, *Target) error {
		return func(ctx context.Context, t *Target) error { _, err := r.Returned(ctx, t); return err }
	}
	starts := map[string]*StartLimit{"main": w.Start}
	return map[string]func(context.Context, *Target) error{
		"await-answer": (&AwaitAnswer{Access: at, Limit: limit, Watched: w}).Do,
		"of a restore": (&AwaitAnswer{Access: at, Limit: limit, Watched: w, ClusterID: 1}).Do,
		"of a learner": (&AwaitAnswer{Access: at, Limit: limit, Watched: w, Learner: true}).Do,
		"await-peer":   (&AwaitPeer{Peer: at, Limit: limit, Watched: w}).Do,
		"catching up":  (&AwaitServing{Access: at, Limit: limit, Watched: w}).Do,
		"promotion":    (&PromoteLearner{Enrolment: Enrolment{Access: at, Limit: limit}, Watched: w}).Do,
		"API server":   (&AwaitAPIServer{Limit: limit, Watched: w}).Do,
		"replaced": (&AwaitReplaced{Pod: *w.Pod, API: APIAccess{Kubeconfig: "/k"}, Limit: limit,
			Start: w.Start}).Do,
		"await-served": (&AwaitServed{Program: "etcd", Limit: limit, Watched: w}).Do,
		"read back":    (&VerifyRestored{Watched: w}).Do,
		"not replaced": returned(&AwaitReplaced{Pod: *w.Pod, Limit: limit, Start: w.Start, WasReady: true,
			Back: true}),
		"back to etcd": returned(&RestartPod{Served: &Before{Etcd: &at, Limit: limit, Ran: []Pod{*w.Pod},
			Start: starts, EtcdPod: w.Pod}}),
		"back to ready": returned(&StopKubelet{Before: &Before{API: &APIAccess{}, Limit: limit, Ran: []Pod{*w.Pod},
			Start: starts, APIPod: w.Pod}}),
	}
}

func TestEveryWaitSaysWhoKilledTheContainer(t *testing.T) {
	pod, c := inPod("etcd-a")
	w := WatchedIn(pod, &StartLimit{30 * time.Second, "startupProbe", "/m/etcd.yaml"})
	for name, wait := range waits(w) {
		for says, exit := range map[string]node.Exit{
			"the kernel killed it after 3s because it ran out of memory": {Code: 137, Reason: "OOMKilled",
				Ran: 3 * time.Second},
			"the kubelet killed it (137) after 1m0s, because it did not serve within the 30s that startupProbe": {
				Code: 137, Reason: "Error", Ran: time.Minute},
			// An etcd that loads its data does not wait for SIGTERM.
			"the kubelet killed it (2) after 31s, because it did not serve within the 30s that startupProbe": {
				Code: 2, Reason: "Error", Ran: 31 * time.Second},
		} {
			t.Run(name+": "+says, func(t *testing.T) {
				e := &ends{exit: exit, now: time.Unix(1e9, 0)}
				e.run(c)
				e.next = func(e *ends) { next := c; next.ID, next.Attempt = "etcd-a-1", 1; e.run(next) }
				err := wait(t.Context(), e.target(t))
				if err == nil || !strings.Contains(err.Error(), says) {
					t.Errorf("it says %v", err)
				}
				var lacks *NotServingError
				if errors.As(err, &lacks) && !strings.Contains(lacks.Hint(), "raise ") {
					t.Errorf("what to do is %q", lacks.Hint())
				}
			})
		}
	}
}

// What had ended before the wait began was stopped by the run, or ran on other files.
func TestAWaitDoesNotBlameWhatEndedBefore(t *testing.T) {
	pod, c := inPod("etcd-a")
	for name, wait := range waits(WatchedIn(pod, nil)) {
		t.Run(name, func(t *testing.T) {
			e := &ends{exit: node.Exit{Code: 137, Reason: "OOMKilled"}, now: time.Unix(1e9, 0)}
			e.run(c)
			next := c
			next.ID, next.Attempt = "etcd-a-1", 1
			e.run(next) // and the one before ended
			if err := wait(t.Context(), e.target(t)); err == nil || strings.Contains(err.Error(), "killed") {
				t.Errorf("it says %v", err)
			}
		})
	}
}

// The run itself stops etcd before it waits for it.
func TestAWaitDoesNotBlameWhatWasStoppedForIt(t *testing.T) {
	pod, c := inPod("etcd-a")
	c.State = stateExited
	for name, exit := range map[string]node.Exit{"told": {Ran: time.Hour}, "killed": {Code: 137, Ran: time.Hour}} {
		e := &ends{exit: exit, now: time.Unix(1e9, 0), all: []node.Container{c}}
		a := &AwaitAnswer{Access: Access{Endpoints: []string{"https://127.0.0.1:2379"}}, Limit: time.Minute,
			Watched: WatchedIn(pod, nil)}
		if err := a.Do(t.Context(), e.target(t)); err == nil || strings.Contains(err.Error(), "journalctl") {
			t.Errorf("%s: it says %v", name, err)
		}
	}
}

// A runtime that is being restarted may not answer when a wait begins: nobody knows then what had
// ended before.
func TestAWaitThatCouldNotLookBlamesNothing(t *testing.T) {
	pod, c := inPod("etcd-a")
	for name, wait := range waits(WatchedIn(pod, nil)) {
		t.Run(name, func(t *testing.T) {
			e := &ends{exit: node.Exit{Code: 137, Reason: "OOMKilled"}, now: time.Unix(1e9, 0), deaf: 1}
			c.State, c.CreatedAt = stateExited, e.now.Add(-100*time.Hour)
			e.all = []node.Container{c}
			if err := wait(t.Context(), e.target(t)); err == nil || strings.Contains(err.Error(), "killed") {
				t.Errorf("it says %v", err)
			}
		})
	}
}

func TestARestartSaysWhyTheNewContainerEnded(t *testing.T) {
	pod, c := inPod("etcd-a")
	e := &ends{exit: node.Exit{Code: 137, Reason: "OOMKilled"}, now: time.Unix(1e9, 0)}
	e.run(c)
	target := e.target(t)
	r := &RestartPod{Pod: pod, Limit: time.Minute}
	if err := r.Record(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	if err := r.Do(t.Context(), target); err == nil || strings.Contains(err.Error(), "killed") {
		t.Errorf("nothing was started, and it says %v", err)
	}
	e.all[0].State = stateRunning
	e.next = func(e *ends) {
		next := c
		next.ID, next.Attempt = "etcd-a-1", 1
		e.run(next)
		e.all[len(e.all)-1].State = stateExited
	}
	if err := r.Do(t.Context(), target); err == nil || !strings.Contains(err.Error(), "ran out of memory") {
		t.Errorf("it says %v", err)
	}
}

// What is put back, and then keeps ending, says why, too.
func TestWhatKeepsEndingSaysWhy(t *testing.T) {
	pod, c := inPod("etcd-a")
	const flag, nothing = "Error: unknown flag: --no-such\n", ""
	for says, log := range map[string]string{
		"its container ended 3 times: it does not know one of its flags":                     flag,
		"its container ended 3 times; its log is in /var/log/pods/control_etcd-a-cp1_u/main": nothing,
	} {
		e := &ends{exit: node.Exit{Code: 1}, now: time.Unix(1e9, 0)}
		target := e.target(t)
		e.run(c)
		e.next = func(e *ends) {
			last := c
			last.ID, last.Attempt = "etcd-a-3", 3
			e.run(last)
			e.all[len(e.all)-1].State = stateExited
			file := target.Host.FS.Real(usualLog(last))
			if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755),
				os.WriteFile(file, []byte(log), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		b := &Before{API: &APIAccess{}, Limit: time.Hour, Ran: []Pod{pod}, APIPod: &pod}
		began := e.now
		var lacks *NotServingError
		err := b.again(t.Context(), target)
		if !errors.As(err, &lacks) || !strings.Contains(err.Error(), says) || e.now.Sub(began) > time.Minute {
			t.Errorf("after %v it says %v", e.now.Sub(began), err)
		}
		if hint := lacks.Hint(); strings.Contains(hint, "remove the flag") != (log != "") {
			t.Errorf("what to do is %q", hint)
		}
	}
}

func TestHowAContainerEndedIsTold(t *testing.T) {
	limit := &StartLimit{time.Minute, "startupProbe", "/m/etcd.yaml"}
	const told = `{"level":"info","msg":"received signal; shutting down","signal":"terminated"}` + "\n"
	const reason = `{"level":"fatal","msg":"discovery failed","error":"x509: unknown authority"}` + "\n"
	// etcd 3.6.16, and kube-apiserver.
	const served = `{"level":"info","caller":"embed/serve.go:139","msg":"ready to serve client requests"}` + "\n"
	const closed = told + `{"level":"error","caller":"embed/etcd.go:912","msg":"setting up serving from embedded ` +
		`etcd failed.","error":"accept tcp 127.0.0.1:2379: use of closed network connection"}` + "\n"
	const listens = "I1129 08:57:52.0 1 secure_serving.go:211] Serving securely on [::]:6443\n" +
		`E1129 08:57:53.0 1 controller.go:95] "Unhandled Error" err="moon"` + "\n"
	const waits = "I1129 08:57:52.0 1 a.go:1] [graceful-termination] waiting for shutdown to be initiated\n"
	const went = `{"level":"error","msg":"it went wrong","error":"x509: unknown authority"}` + "\n"
	for name, c := range map[string]struct {
		exit  node.Exit
		log   string
		limit *StartLimit
		want  []string // none: nothing is said
		fault bool
		fix   string
	}{
		"out of memory, whatever it said": {node.Exit{Code: 137, Reason: "OOMKilled"}, went, limit,
			[]string{"ran out of memory"}, true, "resources.limits.memory"},
		"by its probe, and it told an error": {node.Exit{Code: 137, Ran: time.Minute}, went, limit,
			[]string{"the kubelet killed it (137) after 1m0s", "the last error in its log is: it went wrong: x509",
				"(a certificate is rejected or missing: `etcdpod certs check`"}, true,
			"startupProbe.failureThreshold in /m"},
		"by its probe, and it exited": {node.Exit{Code: 0, Ran: time.Minute}, closed, limit,
			[]string{"the kubelet killed it (0) after 1m0s"}, true, "startupProbe.failureThreshold in /m"},
		"it had served, and was told to exit": {node.Exit{Ran: 2 * time.Minute}, served + closed, limit,
			[]string{"it was told to exit after 2m0s: `journalctl"}, false, ""},
		"it had served, and was killed": {node.Exit{Code: 137, Ran: 2 * time.Minute}, served + went, limit,
			[]string{"it was killed (137) after 2m0s: `journalctl"}, false, ""},
		"it exits well, and its log is gone": {node.Exit{Ran: 2 * time.Minute}, "", limit,
			[]string{"it was told to exit after 2m0s"}, false, ""},
		"it may have served": {node.Exit{Code: 137, Ran: 2 * time.Minute}, listens, limit,
			[]string{"it was ended (137) after 2m0s, as the kubelet does if"}, true,
			"startupProbe.failureThreshold in /m"},
		"an API server that exits well": {node.Exit{Ran: time.Hour}, listens, limit,
			[]string{"it was told to exit after 1h0m0s"}, false, ""},
		"an API server that says more": {node.Exit{Code: 1, Ran: time.Hour}, waits + listens, limit,
			[]string{"the last error in its log is: \"Unhandled Error\" err=\"moon\""}, true, ""},
		"the machine went down": {node.Exit{Code: 255, Reason: "Unknown", Ran: time.Minute}, listens, limit,
			[]string{"as when the machine goes down"}, false, ""},
		"it says itself why": {node.Exit{Code: 2, Ran: time.Minute}, reason, limit,
			[]string{"a certificate is rejected"}, true, "certs check"},
		"killed long after it was started": {node.Exit{Code: 137, Ran: time.Hour}, "", limit,
			[]string{"it was killed (137) after 1h0m0s: `journalctl -u kubelet`"}, false, ""},
		"told to exit": {node.Exit{Ran: time.Second}, told, limit,
			[]string{"it was told to exit after 1s"}, false, ""},
		"with 2, soon": {node.Exit{Code: 2, Ran: time.Second}, "", limit, nil, false, ""},
		"killed, and nothing limits its start": {node.Exit{Code: 137, Ran: time.Minute}, "", nil,
			[]string{"it was killed (137)"}, false, ""},
		"it never ran": {node.Exit{Code: 128, Reason: "StartError", Text: "exec: \"etcd\": not found in $PATH"},
			"", limit, []string{`it said: exec: "etcd": not found`}, true, ""},
		"with an error": {node.Exit{Code: 1}, "", limit, nil, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, one := inPod("etcd-a")
			e := &ends{exit: c.exit}
			e.run(one)
			e.all[0].State = stateExited
			files := node.OS(t.TempDir())
			file := files.Real(usualLog(one))
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if c.log != "" {
				if err := os.WriteFile(file, []byte(c.log), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got := EndingOf(t.Context(), files, e, one, c.limit)
			for _, want := range c.want {
				if !strings.Contains(got.String(), want) {
					t.Errorf("%q, and not %q", got, want)
				}
			}
			if strings.Contains(got.String(), "closed network connection") ||
				(got.String() == "") != (c.want == nil) || got.Fault != c.fault ||
				!strings.Contains(got.Fix, c.fix) || (got.Fix == "") != (c.fix == "") {
				t.Errorf("%q: %+v", got, got)
			}
		})
	}
}

// Journals of earlier versions do not name the pod.
func TestAWaitFromAnOlderJournalKnowsKubeadmsPods(t *testing.T) {
	o, err := Decode("await-apiserver",
		json.RawMessage(`{"api": {"kubeconfig": "", "server": ""}, "limit": 60000000000}`))
	if err != nil {
		t.Fatal(err)
	}
	e := &ends{exit: node.Exit{Code: 137, Reason: "OOMKilled"}, now: time.Unix(1e9, 0)}
	c := node.Container{ID: "1", Namespace: "kube-system", Pod: "kube-apiserver-cp1", PodUID: "u",
		Name: "kube-apiserver"}
	e.run(c)
	e.next = func(e *ends) { next := c; next.ID, next.Attempt = "2", 1; e.run(next) }
	if err := o.Do(t.Context(), e.target(t)); err == nil || !strings.Contains(err.Error(), "ran out of memory") {
		t.Errorf("it says %v", err)
	}
	body, err := Encode(o)
	if err != nil || strings.Contains(string(body), "pod") || strings.Contains(string(body), "start") {
		t.Errorf("it is written as %s: %v", body, err)
	}
}

// The kubelet's podLogsDir can be set.
func TestALogIsReadWhereTheRuntimeWritesIt(t *testing.T) {
	pod, c := inPod("etcd-a")
	for name, wait := range waits(WatchedIn(pod, nil)) {
		e := &ends{exit: node.Exit{Code: 1}, now: time.Unix(1e9, 0), log: "/srv/logs/0.log"}
		target := e.target(t)
		file := target.Host.FS.Real(e.log)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755),
			os.WriteFile(file, []byte("Error: unknown flag: --no-such\n"), 0o600)); err != nil {
			t.Fatal(err)
		}
		e.run(c)
		e.next = func(e *ends) { next := c; next.ID, next.Attempt = "etcd-a-1", 1; e.run(next) }
		const says = "its container ended because it does not know one of its flags (unknown flag: --no-such)"
		if err := wait(t.Context(), target); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: it says %v", name, err)
		}
	}
}
