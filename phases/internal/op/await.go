package op

import (
	"context"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// AwaitAnswer waits until the etcd on this node answers, and is the one that is waited for. An etcd
// that ends again and again is not waited for.
type AwaitAnswer struct {
	repeated
	Access Access        `json:"access"`
	Limit  time.Duration `json:"limit"` // pulling its image may take most of it
	// Alone has nothing else run beside it meanwhile; nil: whatever likes may.
	Alone *Alone `json:"alone,omitempty"`
	// The cluster that it must be of, by its id or by the receipt of what was staged; neither: any.
	ClusterID ID     `json:"clusterID,omitempty"`
	Receipt   string `json:"receipt,omitempty"`
	// Learner is one that has no vote: it serves little, so that what it says of itself is enough.
	// Any other answers a linearizable read.
	Learner bool `json:"learner,omitempty"`
}

func (a *AwaitAnswer) String() string {
	verb := "serves"
	if a.Learner {
		verb = "is started and answers"
	}
	return fmt.Sprintf("wait until etcd %s at %s, %s at most", verb, strings.Join(a.Access.Endpoints, ", "), a.Limit)
}

func (a *AwaitAnswer) Do(ctx context.Context, t *Target) error {
	if err := a.alone(ctx, t); err != nil {
		return err
	}
	if err := startKubelet(ctx, t); err != nil {
		return err
	}
	want, err := a.cluster(t)
	if err != nil {
		return err
	}
	crashes, err := watchCrashes(ctx, t, "etcd")
	if err != nil {
		return err
	}
	return poll(ctx, t, a.silent(), a.Limit, 100*time.Millisecond, func(ctx context.Context) error {
		if err := a.alone(ctx, t); err != nil {
			return err
		}
		got, err := a.ask(ctx, t)
		switch {
		case err == nil && want != 0 && got.ClusterID != want:
			at := a.Access.Endpoints[0]
			return &finalError{fmt.Errorf("another etcd answers at %s: of the cluster %x, and not of %x",
				at, got.ClusterID, want)}
		case err == nil && want == 0:
			t.report("etcd serves: cluster %x with %s, this one is %x",
				got.ClusterID, members(got.Members), got.MemberID)
		case err != nil:
			if loop := crashes.loop(ctx, t); loop != nil {
				return &finalError{fmt.Errorf("%s: %w", a.silent(), loop)}
			}
		}
		return err
	})
}

// silent is what is wrong while it is waited for, in the words of an error.
func (a *AwaitAnswer) silent() string {
	switch {
	case a.Learner:
		return "etcd does not start"
	case a.Receipt != "":
		return "the restored etcd does not serve"
	}
	return "etcd does not serve"
}

func (a *AwaitAnswer) alone(ctx context.Context, t *Target) error {
	if a.Alone == nil {
		return nil
	}
	return a.Alone.ensure(ctx, t)
}

func (a *AwaitAnswer) cluster(t *Target) (uint64, error) {
	if a.Receipt == "" {
		return uint64(a.ClusterID), nil
	}
	staged, err := receipt(t, a.Receipt)
	return staged.ClusterID, err
}

func (a *AwaitAnswer) ask(ctx context.Context, t *Target) (Answer, error) {
	if a.Learner {
		return t.Etcd.Started(ctx, a.Access)
	}
	return t.Etcd.Serving(ctx, a.Access, 0)
}

func members(n int) string {
	if n == 1 {
		return "one member"
	}
	return fmt.Sprintf("%d members", n)
}

// Condition: whatever comes next before the commit point works on this etcd, or needs it. It may
// have been started once, and not start again.
func (a *AwaitAnswer) Condition() {}

// Skippable: behind the commit point of a join it only looks.
func (a *AwaitAnswer) Skippable() {}

// AwaitPeer waits until the member on this node serves its peers. On several nodes the next member
// is started after it: a member asks each peer for a hash before it serves
// (--feature-gates=InitialCorruptCheck=true, as kubeadm sets it), and waits 7 s for one that has
// its port open and does not serve yet.
type AwaitPeer struct {
	repeated
	// Its peer URL on this node, and a certificate that peers accept.
	Peer  Access        `json:"peer"`
	Limit time.Duration `json:"limit"`
}

func (a *AwaitPeer) String() string {
	return fmt.Sprintf("wait until etcd serves its peers at %s, %s at most", a.Peer.Endpoints[0], a.Limit)
}

func (a *AwaitPeer) Do(ctx context.Context, t *Target) error {
	if err := startKubelet(ctx, t); err != nil {
		return err
	}
	return poll(ctx, t, "the restored etcd does not serve its peers",
		a.Limit, 50*time.Millisecond, func(ctx context.Context) error {
			return t.Etcd.PeerServes(ctx, a.Peer)
		})
}

// Condition: the members that are started next ask this one.
func (a *AwaitPeer) Condition() {}

// crashWatch notices a container that ends again and again: more waiting would not help.
type crashWatch struct {
	container string
	before    node.Container // the newest one when the watch began
}

// crashesTolerated is how often a container may end and be started again while it is waited for; a
// peer or a disk may be late once.
const crashesTolerated = 3

func watchCrashes(ctx context.Context, t *Target, container string) (crashWatch, error) {
	before, err := newest(ctx, t, container)
	return crashWatch{container, before}, err
}

func (w crashWatch) loop(ctx context.Context, t *Target) error {
	now, err := newest(ctx, t, w.container)
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
	return endsAgain(w.container, int(ended))
}

func endsAgain(container string, times int) error {
	return fmt.Errorf("its container ended %d times; its log is in /var/log/pods/%s_%s-*/%s",
		times, systemNamespace, container, container)
}

// newest returns the container of that name which was made last; the zero value when there is none.
func newest(ctx context.Context, t *Target, container string) (last node.Container, err error) {
	all, err := t.Host.Runtime.Containers(ctx)
	if err != nil {
		return last, err
	}
	for _, c := range all {
		later := c.CreatedAt.After(last.CreatedAt) || c.CreatedAt.Equal(last.CreatedAt) && c.Attempt >= last.Attempt
		if c.Namespace == systemNamespace && c.Name == container && later {
			last = c
		}
	}
	return last, nil
}

// Alone is the condition of the time before the commit point: of all that the fence kept from
// running, etcd runs, and nothing else.
type Alone struct {
	Fence    Fence  `json:"fence"`
	Manifest string `json:"manifest"` // etcd's
	Pod      string `json:"pod"`      // etcd's, as the manifest names it
}

func (a Alone) ensure(ctx context.Context, t *Target) error {
	return a.Fence.Only(ctx, t, a.Manifest, a.Pod)
}

// AwaitAPIServer waits until the API server is ready.
type AwaitAPIServer struct {
	repeated
	API   APIAccess     `json:"api"`
	Limit time.Duration `json:"limit"`
}

func (a *AwaitAPIServer) String() string {
	return fmt.Sprintf("wait until the API server is ready, %s at most", a.Limit)
}

func (a *AwaitAPIServer) Do(ctx context.Context, t *Target) error {
	if err := startKubelet(ctx, t); err != nil {
		return err
	}
	return poll(ctx, t, "the API server is not ready", a.Limit, 100*time.Millisecond, func(ctx context.Context) error {
		return t.APIServer.Ready(ctx, a.API)
	})
}

// Condition: it may have been started since with what does not let it get ready.
func (a *AwaitAPIServer) Condition() {}

// Skippable: an API server that never gets ready for other reasons, or cannot be asked, must not
// keep the run open for ever.
func (a *AwaitAPIServer) Skippable() {}

// AwaitServed waits until a program shows the certificate that its file holds. It is no Condition:
// a program that was started since has read the file anew.
type AwaitServed struct {
	repeated
	Program string        `json:"program"`
	Address string        `json:"address"` // host:port
	Access  Access        `json:"access"`  // the client certificate to show
	File    string        `json:"file"`
	Limit   time.Duration `json:"limit"`
}

func (a *AwaitServed) String() string {
	return fmt.Sprintf("see that %s shows what %s holds to who dials %s, within %s",
		a.Program, path.Base(a.File), a.Address, a.Limit)
}

func (a *AwaitServed) Do(ctx context.Context, t *Target) error {
	return poll(ctx, t, fmt.Sprintf("%s does not show the new certificate at %s", a.Program, a.Address),
		a.Limit, 100*time.Millisecond, func(ctx context.Context) error {
			return t.Certificates.Serves(ctx, a.Address, a.Access, a.File)
		})
}
