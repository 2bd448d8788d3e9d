package op

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// Ending is why a container ended, as far as the runtime and its log tell.
type Ending struct {
	LastWords
	// Killed says what ended it, if that was not the program itself; often empty.
	Killed string
	Fix    string // what to do about it; empty: not known
	// Fault is false for one of which nothing more is known than that somebody stopped it.
	Fault bool
}

// String is one sentence, without its end; empty when nothing tells.
func (e Ending) String() string {
	words := e.LastWords.String()
	switch {
	case e.Killed == "":
		return words
	case words == "":
		return e.Killed
	}
	return e.Killed + "; " + words
}

// StartLimit is how long the kubelet lets a program start before it kills it.
type StartLimit struct {
	Limit    time.Duration `json:"limit"`
	Probe    string        `json:"probe"`    // startupProbe, livenessProbe
	Manifest string        `json:"manifest"` // where it is set
}

// reached says whether a program that ran for that long may have been killed for not having
// started. The kubelet is late where its questions are not answered at all, and gives a program
// some time to exit by itself.
func (l *StartLimit) reached(ran time.Duration) bool {
	return l != nil && ran >= l.Limit*9/10 && ran <= 2*l.Limit+time.Minute
}

// How a program exits that SIGKILL or SIGTERM ended. A Go program that is its container's first
// process, and does not wait for SIGTERM, exits with 2 (runtime: dieFromSignal): so does an etcd
// that is still loading its data.
const (
	exitKilled     = 128 + 9
	exitTerminated = 128 + 15
	exitUnready    = 2
	// What containerd takes for the code of one whose end nobody has seen.
	exitUnseen = 255
)

// Exits is what a container runtime knows of containers that have ended.
type Exits interface {
	Logs
	Exit(ctx context.Context, id string) (exit node.Exit, ok bool, err error)
}

// EndingOf asks the runtime, and reads the log, of a container that has ended. l is how long the
// kubelet let it start; nil: not known, or not limited. What cannot be read tells nothing.
func EndingOf(ctx context.Context, files node.Reader, r Exits, c node.Container, l *StartLimit) Ending {
	log := LogOf(ctx, r, c)
	e := Ending{LastWords: LastWordsOf(files, log)}
	e.Fault = e.Said != ""
	var exit node.Exit
	var ended bool
	if c.ID != "" {
		exit, ended, _ = r.Exit(ctx, c.ID)
	}
	ran := exit.Ran.Round(time.Second)
	told := e.told || exit.Code == 0
	signalled := told || exit.Code == exitKilled || exit.Code == exitTerminated
	probed := ""
	if ended && (signalled || exit.Code == exitUnready) && l.reached(exit.Ran) {
		begin, there := beginningOf(files, log)
		probed = l.probed(exit, begin, there)
	}
	switch {
	case !ended:
		if e.Last {
			e.Fix = e.Do
		}
	case exit.Reason == "OOMKilled":
		// What it said before has nothing to do with that.
		return Ending{Fault: true, Fix: moreMemory, Killed: fmt.Sprintf(
			"the kernel killed it after %s because it ran out of memory: %s", ran, moreMemory)}
	case e.Last: // it says itself why
		e.Fix = e.Do
	case probed != "":
		e.Fault, e.Killed = true, probed
		e.Fix = fmt.Sprintf("if it only needs longer, raise %s.failureThreshold in %s", l.Probe, l.Manifest)
	case exit.Code == exitUnseen && exit.Reason == "Unknown":
		return Ending{Killed: fmt.Sprintf("it was gone when the container runtime looked again (%d), as when the "+
			"machine goes down", exit.Code)}
	case told || exit.Code == exitTerminated:
		return Ending{Killed: fmt.Sprintf("it was told to exit after %s: `journalctl -u kubelet` shows whether the "+
			"kubelet did that, and why", ran)}
	case signalled:
		e.Fault = false
		e.Killed = fmt.Sprintf("it was killed (%d) after %s: `journalctl -u kubelet` shows whether the kubelet did "+
			"that, and why", exit.Code, ran)
	case e.Said == "" && exit.Text != "":
		e.Said, e.Last, e.Fault = printable(exit.Text), true, true
	}
	return e
}

// probed says that the kubelet has killed a program that ran for as long as it may take to start.
// It is empty if the program had served by then, and somebody else may as well have stopped it. Of
// Kubernetes' programs nothing tells that they were ever ready.
func (l *StartLimit) probed(exit node.Exit, begin string, log bool) string {
	ran := exit.Ran.Round(time.Second)
	more := fmt.Sprintf("the %s that %s in %s allows: if it only needs longer, raise %s.failureThreshold there",
		l.Limit, l.Probe, l.Manifest, l.Probe)
	switch {
	case !log && exit.Code == 0, strings.Contains(begin, etcdServes), strings.Contains(begin, etcdServes2):
		return ""
	case strings.Contains(begin, listensAtOnce):
		return fmt.Sprintf("it was ended (%d) after %s, as the kubelet does if it is not alive within %s", exit.Code,
			ran, more)
	}
	return fmt.Sprintf("the kubelet killed it (%d) after %s, because it did not serve within %s", exit.Code, ran, more)
}

const moreMemory = "raise resources.limits.memory in its manifest, or give the machine more memory"

// Watched is the container that a wait waits for: should it end, the wait says why.
type Watched struct {
	Pod *Pod `json:"pod,omitempty"` // earlier versions did not say
	// Start is how long the kubelet lets it start; nil: not known, or not limited.
	Start *StartLimit `json:"start,omitempty"`
}

// WatchedIn is a container of a pod.
func WatchedIn(pod Pod, start *StartLimit) Watched { return Watched{&pod, start} }

// watch begins, as in [crashWatch.begin]. program is what kubeadm calls container and program
// alike, for the journals of earlier versions.
func (w Watched) watch(ctx context.Context, t *Target, program string) (crashWatch, error) {
	watch := crashWatch{start: w.Start, owns: func(c node.Container) bool {
		return c.Namespace == systemNamespace && c.Name == program
	}}
	if w.Pod != nil {
		watch.owns = w.Pod.Owns
	}
	return watch.begin(ctx, t)
}

// crashWatch notices that a container ends, and when it keeps ending, so that waiting longer is
// pointless.
type crashWatch struct {
	owns   func(node.Container) bool
	start  *StartLimit
	before node.Container // the newest one when the watch began
	// earlier says that one which had ended by then explains something, too: nothing was changed
	// since that would have mattered to it.
	earlier bool
}

// crashesTolerated is how often a container may crash and restart during a wait: a peer or a
// disk may be late once.
const crashesTolerated = 3

// begin looks at what there is. A watch that could not do that says nothing later: it could not
// tell what ended before it.
func (w crashWatch) begin(ctx context.Context, t *Target) (begun crashWatch, err error) {
	if w.before, err = w.newest(ctx, t); err != nil {
		return crashWatch{}, err
	}
	return w, nil
}

func (w crashWatch) loop(ctx context.Context, t *Target) error {
	now, err := w.newest(ctx, t)
	if err != nil || now.State != stateExited {
		return nil
	}
	ended := now.Attempt - w.before.Attempt
	// Another manifest makes another pod, whose attempts count from 0.
	if now.PodUID != w.before.PodUID {
		ended = now.Attempt + 1
	}
	if ended < crashesTolerated {
		return nil
	}
	return endsAgain(ctx, t, now, w.start, int(ended))
}

// loopError is a container that keeps ending, with what explains that.
type loopError struct {
	times int
	why   string
	do    string // often empty
}

func (e *loopError) Error() string {
	return fmt.Sprintf("its container ended %d times%s", e.times, e.why)
}

// endsAgain is the error for a container that ended that often; c is the last of them.
func endsAgain(ctx context.Context, t *Target, c node.Container, l *StartLimit, times int) error {
	e := EndingOf(ctx, t.Host.FS, t.Host.Runtime, c, l)
	if e.String() == "" {
		return &loopError{times, "; its log is in " + path.Dir(LogOf(ctx, t.Host.Runtime, c)), ""}
	}
	return &loopError{times, ": " + e.String(), e.Fix}
}

// newest returns the most recently created container; the zero value when there is none.
func (w crashWatch) newest(ctx context.Context, t *Target) (last node.Container, err error) {
	all, err := t.Host.Runtime.Containers(ctx)
	if err != nil {
		return last, err
	}
	for _, c := range all {
		if w.owns(c) && !newer(last, c) {
			last = c
		}
	}
	return last, nil
}

// newer says whether a container was made after another one.
func newer(c, than node.Container) bool {
	return c.CreatedAt.After(than.CreatedAt) || c.CreatedAt.Equal(than.CreatedAt) && c.Attempt > than.Attempt
}

// ended is the container that ended last since the watch began; the zero value when none did. One
// that had ended before is none: the run itself may have stopped it, and it ran on other files.
func (w crashWatch) ended(ctx context.Context, t *Target) (last node.Container) {
	all, err := t.Host.Runtime.Containers(ctx)
	if err != nil {
		return last // the wait has failed for another reason
	}
	for _, c := range all {
		known := c.ID == w.before.ID && w.before.State == stateExited && !w.earlier
		if w.owns(c) && c.State == stateExited && !known && !newer(w.before, c) && !newer(last, c) {
			last = c
		}
	}
	return last
}

// explain adds to the error of a wait why the container ended meanwhile.
func (w crashWatch) explain(ctx context.Context, t *Target, failed error) error {
	why, _ := w.why(ctx, t, failed)
	if why == "" {
		return failed
	}
	return fmt.Errorf("%w; %s", failed, why)
}

// why is what there is to add to the error of a wait, and what to do about it.
func (w crashWatch) why(ctx context.Context, t *Target, failed error) (why, do string) {
	var loop *loopError
	if errors.As(failed, &loop) {
		return "", loop.do
	}
	if failed == nil || w.owns == nil {
		return "", ""
	}
	ctx = context.WithoutCancel(ctx) // who interrupts a wait is told, too
	c := w.ended(ctx, t)
	if c.ID == "" {
		return "", ""
	}
	e := EndingOf(ctx, t.Host.FS, t.Host.Runtime, c, w.start)
	if c.ID == w.before.ID && w.before.State == stateExited && !e.Fault {
		return "", "" // the run itself may have stopped it
	}
	words := e.String()
	switch {
	case e.Killed != "", words == "":
		return words, e.Fix
	case e.Last && e.Why != "":
		return "its container ended because " + words, e.Fix
	}
	return "its container ended, and " + words, e.Fix
}
