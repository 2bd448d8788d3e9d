package op

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
)

// DeniedError is an API server's refusal of all kubeconfigs that there are: it does not know them
// (401), or they may not do this (403). Asking again does not help.
type DeniedError struct {
	Status      int
	Kubeconfigs []string // host paths; none: it was asked without one
	Text        string   // in the API server's words
}

// HTTP's words for it.
const (
	unauthorized = 401
	forbidden    = 403
)

func (e *DeniedError) Error() string {
	with := strings.Join(e.Kubeconfigs, " and ")
	if with == "" {
		with = "requests without a certificate"
	}
	if e.Status == unauthorized {
		return fmt.Sprintf("the API server does not accept %s (401): %s", with, e.Text)
	}
	return fmt.Sprintf("the API server denies what %s asks for (%d): %s", with, e.Status, e.Text)
}

// Hint says how this node gets a kubeconfig that works: what kubeadm makes for system:masters needs
// no rule in the cluster.
func (e *DeniedError) Hint() string {
	const make = "`kubeadm init phase kubeconfig super-admin` creates /etc/kubernetes/super-admin.conf, which needs " +
		"no RBAC in the cluster"
	if e.Status == forbidden || len(e.Kubeconfigs) == 0 {
		return make
	}
	return fmt.Sprintf("renew the kubeconfig: run `kubeadm certs renew %s`; or %s",
		path.Base(e.Kubeconfigs[len(e.Kubeconfigs)-1]), make)
}

// denied says that an API server answers and refuses.
func denied(err error) *DeniedError {
	var d *DeniedError
	if errors.As(err, &d) {
		return d
	}
	return nil
}

// Serves says whether an API server serves, by the answer to whether it is ready: even one that
// lets nobody here ask.
func Serves(err error) bool { return err == nil || denied(err) != nil }

// mute is for how long an API server must have refused to say whether it is ready before that
// counts as serving. While it starts it refuses those whose rights it has not read yet.
const mute = 15 * time.Second

// readiness waits for an API server. It needs no rights: that it answers at all is enough when it
// keeps refusing to say more.
type readiness struct{ since time.Time }

// look asks once.
func (r *readiness) look(ctx context.Context, t *Target, a APIAccess) error {
	err := t.APIServer.Ready(ctx, a)
	d := denied(err)
	if d == nil {
		r.since = time.Time{}
		return err
	}
	now := t.Host.Clock.Now()
	if r.since.IsZero() {
		r.since = now
	}
	if now.Sub(r.since) < mute {
		return err
	}
	t.warn(finding.APIServerMute,
		"", "the API server answers but lets no kubeconfig on this node check whether it is ready; it counts as "+
			"serving: %v; %s", d, d.Hint())
	return nil
}
