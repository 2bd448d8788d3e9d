package op

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// slow is a node whose etcd serves late. Until then, its API server ends after 20 s each time, and
// is started again.
type slow struct {
	ends
	serves time.Duration   // when etcd does
	loops  map[string]bool // these end for a reason of their own
}

func (s *slow) at() time.Duration { return s.now.Sub(time.Unix(1e9, 0)) }

func (s *slow) Serving(context.Context, Access, int64) (Answer, error) {
	if s.loops["etcd"] || s.at() < s.serves {
		return Answer{}, errDeaf
	}
	return Answer{}, nil
}

func (s *slow) Ready(context.Context, APIAccess) error {
	if s.loops["kube-apiserver"] || s.at() < s.serves+20*time.Second {
		return errDeaf
	}
	return nil
}

func (s *slow) Containers(context.Context) (all []node.Container, err error) {
	const cycle = 30 * time.Second
	for name, late := range map[string]time.Duration{"etcd": 0, "kube-apiserver": s.serves,
		"kube-controller-manager": s.serves + cycle} {
		_, c := inPod(name)
		c.State, c.CreatedAt = stateRunning, time.Unix(1e9, 0)
		if s.loops[name] || s.at() < late {
			c.Attempt = uint32(s.at() / cycle)
			if s.loops[name] || s.at()%cycle > 20*time.Second {
				c.State = stateExited
			}
		}
		all = append(all, c)
	}
	return all, nil
}

// What ends because etcd does not serve yet is no reason to give up: what ends by itself is.
func TestAfterGoingBackOnlyWhatEndsByItselfEndsTheWait(t *testing.T) {
	etcd, _ := inPod("etcd")
	api, _ := inPod("kube-apiserver")
	manager, _ := inPod("kube-controller-manager")
	at := Access{Endpoints: []string{"https://127.0.0.1:2379"}}
	for name, c := range map[string]struct {
		serves time.Duration
		loops  string
		says   string // empty: all is as before
		log    string
	}{
		"etcd serves soon":       {5 * time.Second, "", "", ""},
		"etcd needs longer":      {10 * time.Minute, "", "", ""},
		"etcd ends":              {0, "etcd", "main does not run", "etcd-cp1_u"},
		"the API server ends":    {3 * time.Minute, "kube-apiserver", "main does not run", "apiserver-cp1_u"},
		"another container ends": {3 * time.Minute, "kube-controller-manager", "main does not run", "manager-cp1_u"},
		"etcd never serves":      {time.Hour, "", "not within 20m0s: etcd does not serve", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := &slow{ends: ends{now: time.Unix(1e9, 0)}, serves: c.serves, loops: map[string]bool{c.loops: true}}
			target := s.target(t)
			target.Host.Runtime, target.Host.Clock, target.Etcd, target.APIServer = s, s, s, s
			b := &Before{Etcd: &at, API: &APIAccess{}, Limit: 20 * time.Minute, Ran: []Pod{manager, api, etcd},
				EtcdPod: &etcd, APIPod: &api}
			err := b.again(t.Context(), target)
			var lacks *NotServingError
			if errors.As(err, &lacks) != (c.says != "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Fatalf("after %v: %v", s.at(), err)
			}
			gaveUp := err != nil && strings.Contains(err.Error(), "ended 3 times")
			if gaveUp != (c.log != "") || gaveUp && (s.at() > 6*time.Minute || !strings.Contains(err.Error(), c.log)) {
				t.Errorf("after %v: %v", s.at(), err)
			}
		})
	}
}
