package op

import (
	"context"
	"fmt"
	"path"
	"strings"
	"time"
)

// AwaitAnswer waits until the expected etcd answers on this node. It gives up on an etcd
// that keeps crashing.
type AwaitAnswer struct {
	repeated
	Access Access        `json:"access"`
	Limit  time.Duration `json:"limit"` // pulling the image may take most of it
	// Alone requires that nothing else runs meanwhile; nil allows anything.
	Alone *Alone `json:"alone,omitempty"`
	// The cluster that etcd must belong to, by id or by the receipt of the staged data;
	// neither: any cluster.
	ClusterID ID     `json:"clusterID,omitempty"`
	Receipt   string `json:"receipt,omitempty"`
	// Learner is set for a member without a vote. A learner serves little, so its own status is
	// enough. Any other member must answer a linearizable read.
	Learner bool `json:"learner,omitempty"`
	Watched
}

func (a *AwaitAnswer) String() string {
	verb := "serves"
	if a.Learner {
		verb = "is started and answers"
	}
	return fmt.Sprintf("wait until etcd %s at %s, %s at most", verb, strings.Join(a.Access.Endpoints, ", "), a.Limit)
}

func (a *AwaitAnswer) Do(ctx context.Context, t *Target) error {
	if err := a.Alone.ensure(ctx, t); err != nil {
		return err
	}
	if err := startKubelet(ctx, t); err != nil {
		return err
	}
	want, err := a.cluster(t)
	if err != nil {
		return err
	}
	crashes, err := a.watch(ctx, t, "etcd")
	if err != nil {
		return err
	}
	crashes.earlier = a.Receipt == "" // else it ran on other data
	err = poll(ctx, t, a.silent(), a.Limit, 100*time.Millisecond, func(ctx context.Context) error {
		if err := a.Alone.ensure(ctx, t); err != nil {
			return err
		}
		got, err := a.ask(ctx, t)
		switch {
		case err == nil && want != 0 && got.ClusterID != want:
			at := a.Access.Endpoints[0]
			return &finalError{fmt.Errorf("another etcd answers at %s: of cluster %x, not %x",
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
	return crashes.explain(ctx, t, err)
}

// silent is the error text while etcd does not answer.
func (a *AwaitAnswer) silent() string {
	switch {
	case a.Learner:
		return "etcd does not start"
	case a.Receipt != "":
		return "the restored etcd does not serve"
	}
	return "etcd does not serve"
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

// Condition: what follows before the commit point works on this etcd, or needs it. An etcd that
// started once may fail to start again.
func (a *AwaitAnswer) Condition() {}

// Skippable: after the commit point of a join it only looks.
func (a *AwaitAnswer) Skippable() {}

// AwaitPeer waits until the member on this node serves its peers. On several nodes the next member
// starts only after that: before it serves, a member asks each peer for a hash
// (--feature-gates=InitialCorruptCheck=true, as kubeadm sets it), and waits 7 s for a peer whose
// port is open but which does not serve yet.
type AwaitPeer struct {
	repeated
	// This node's peer URL, and a certificate that peers accept.
	Peer  Access        `json:"peer"`
	Limit time.Duration `json:"limit"`
	Watched
	// Alone requires that nothing else runs meanwhile. Earlier versions did not say.
	Alone *Alone `json:"alone,omitempty"`
}

func (a *AwaitPeer) String() string {
	return fmt.Sprintf("wait until etcd serves its peers at %s, %s at most", a.Peer.Endpoints[0], a.Limit)
}

func (a *AwaitPeer) Do(ctx context.Context, t *Target) error {
	if err := a.Alone.ensure(ctx, t); err != nil {
		return err
	}
	if err := startKubelet(ctx, t); err != nil {
		return err
	}
	crashes, _ := a.watch(ctx, t, "etcd") // only to say more if it fails
	err := poll(ctx, t, "etcd does not serve its peers",
		a.Limit, 50*time.Millisecond, func(ctx context.Context) error {
			if err := a.Alone.ensure(ctx, t); err != nil {
				return err
			}
			return t.Etcd.PeerServes(ctx, a.Peer)
		})
	return crashes.explain(ctx, t, err)
}

// Condition: the members that start next query this one.
func (a *AwaitPeer) Condition() {}

// Alone is the condition before the commit point: of everything that the fence
// stopped, only etcd runs.
type Alone struct {
	Fence    Fence  `json:"fence"`
	Manifest string `json:"manifest"` // etcd's
	Pod      string `json:"pod"`      // etcd's, as named in the manifest
}

// ensure has nothing to do where nothing was said.
func (a *Alone) ensure(ctx context.Context, t *Target) error {
	if a == nil {
		return nil
	}
	return a.Fence.Only(ctx, t, a.Manifest, a.Pod)
}

// AwaitAPIServer waits until the API server is ready.
type AwaitAPIServer struct {
	repeated
	API   APIAccess     `json:"api"`
	Limit time.Duration `json:"limit"`
	Watched
}

func (a *AwaitAPIServer) String() string {
	return fmt.Sprintf("wait until the API server is ready, %s at most", a.Limit)
}

func (a *AwaitAPIServer) Do(ctx context.Context, t *Target) error {
	if err := startKubelet(ctx, t); err != nil {
		return err
	}
	crashes, _ := a.watch(ctx, t, "kube-apiserver") // only to say more if it fails
	var ready readiness
	err := poll(ctx, t, "the API server is not ready", a.Limit, 100*time.Millisecond, func(ctx context.Context) error {
		return ready.look(ctx, t, a.API)
	})
	return crashes.explain(ctx, t, err)
}

// Condition: since it was ready it may have restarted and failed to become ready again.
func (a *AwaitAPIServer) Condition() {}

// Skippable: an API server that cannot be asked, or that fails for an unrelated reason, must not
// keep the run open forever.
func (a *AwaitAPIServer) Skippable() {}

// AwaitServed waits until a program serves the certificate in its file. It is no Condition: a
// program that restarted has read the file again.
type AwaitServed struct {
	repeated
	Program string        `json:"program"`
	Address string        `json:"address"`          // host:port
	Others  []string      `json:"others,omitempty"` // further ways to the same listener
	Access  Access        `json:"access"`           // the client certificate to present
	File    string        `json:"file"`
	Limit   time.Duration `json:"limit"`
	Watched
}

func (a *AwaitServed) String() string {
	return fmt.Sprintf("wait until %s presents the certificate in %s at %s, %s at most",
		a.Program, path.Base(a.File), a.Address, a.Limit)
}

func (a *AwaitServed) Do(ctx context.Context, t *Target) error {
	crashes, _ := a.watch(ctx, t, a.Program) // only to say more if it fails
	err := poll(ctx, t, fmt.Sprintf("%s does not present the new certificate at %s", a.Program, a.Address),
		a.Limit, 100*time.Millisecond, func(ctx context.Context) error {
			err := t.Certificates.Serves(ctx, a.Address, a.Access, a.File)
			for _, other := range a.Others {
				if err != nil && t.Certificates.Serves(ctx, other, a.Access, a.File) == nil {
					return nil
				}
			}
			return err
		})
	return crashes.explain(ctx, t, err)
}
