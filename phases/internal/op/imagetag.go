package op

import (
	"context"
	"fmt"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
)

// SetImageTag brings kubeadm's ClusterConfiguration in line with the etcd that runs: otherwise a
// node that joins gets the one before, and the next `kubeadm upgrade` takes all back to it. It is
// past the commit point, and an API server that cannot be asked must not keep the run open: then it
// says what to type.
type SetImageTag struct {
	API   APIAccess     `json:"api"`
	Tag   string        `json:"tag"`
	Limit time.Duration `json:"limit"` // for the API server to answer

	Old   string `json:"old,omitempty"`
	Known bool   `json:"known,omitempty"` // Old was read
}

func (s *SetImageTag) String() string {
	return fmt.Sprintf("set etcd.local.imageTag to %s in kubeadm's ClusterConfiguration", s.Tag)
}

// Record notes what is there, if anybody tells.
func (s *SetImageTag) Record(ctx context.Context, t *Target) error {
	tag, local, err := t.APIServer.ImageTag(ctx, s.API)
	if err == nil && local {
		s.Old, s.Known = tag, true
	}
	return nil
}

func (s *SetImageTag) Do(ctx context.Context, t *Target) error {
	err := poll(ctx, t, "kubeadm's ClusterConfiguration cannot be changed", s.Limit, time.Second,
		func(ctx context.Context) error {
			now, local, err := t.APIServer.ImageTag(ctx, s.API)
			if err == nil && local && now != s.Tag {
				err = t.APIServer.SetImageTag(ctx, s.API, s.Tag)
			}
			if denied(err) != nil {
				return &finalError{err}
			}
			return err
		})
	if err == nil || ctx.Err() != nil {
		return err
	}
	t.warn(finding.KubeadmSetting, "etcd.local.imageTag", "%v. A node that joins gets the etcd before, and so do all "+
		"with the next `kubeadm upgrade`: %s", err, ImageTagByHand(s.Tag))
	return nil
}

// ImageTagByHand says how a person does the same.
func ImageTagByHand(tag string) string {
	return fmt.Sprintf("run `kubectl -n kube-system edit configmap kubeadm-config`, and set etcd.local.imageTag to %q "+
		"in its ClusterConfiguration", tag)
}

// Undo puts back what was there, as far as that is known.
func (s *SetImageTag) Undo(ctx context.Context, t *Target) error {
	if !s.Known {
		return nil
	}
	now, local, err := t.APIServer.ImageTag(ctx, s.API)
	if err != nil || !local || now != s.Tag {
		return err
	}
	return t.APIServer.SetImageTag(ctx, s.API, s.Old)
}

func (s *SetImageTag) Done(ctx context.Context, t *Target) (bool, error) {
	now, _, err := t.APIServer.ImageTag(ctx, s.API)
	return err == nil && now == s.Tag, nil
}

// Skippable: the line can be edited by hand later.
func (s *SetImageTag) Skippable() {}
