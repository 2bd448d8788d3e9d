package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdpod/etcdpod/e2e/sandbox/internal/etcdconn"
	"github.com/etcdpod/etcdpod/e2e/sandbox/kubeapi"
)

// EtcdClient returns a client of the node's etcd, with the health check's certificate.
func (s *Sandbox) EtcdClient() (*clientv3.Client, error) {
	o := etcdconn.Options{Endpoints: []string{s.ClientURL()}}
	if !s.options.PlainHTTP {
		dir := s.Path(pkiDir + "/etcd")
		o.CA, o.Cert, o.Key = dir+"/ca.crt", dir+"/healthcheck-client.crt", dir+"/healthcheck-client.key"
	}
	return etcdconn.Open(o)
}

// API returns a client of the node's API server, with the rights of admin.conf.
func (s *Sandbox) API() (*kubeapi.Client, error) {
	return kubeapi.Load(s.Path("/etc/kubernetes/admin.conf"))
}

// WaitReady waits until etcd answers a linearizable read and the API server, if
// there is one, is ready.
func (s *Sandbox) WaitReady(ctx context.Context) error {
	if err := s.WaitEtcd(ctx); err != nil || s.options.NoAPIServer {
		return err
	}
	return s.WaitAPIServer(ctx)
}

// WaitEtcd waits until etcd answers a linearizable read.
func (s *Sandbox) WaitEtcd(ctx context.Context) error {
	etcd, err := s.EtcdClient()
	if err != nil {
		return err
	}
	defer etcd.Close()
	return until(ctx, "etcd does not answer", func(ctx context.Context) error {
		_, err := etcd.Get(ctx, "/health")
		return err
	})
}

// WaitAPIServer waits until the API server is ready.
func (s *Sandbox) WaitAPIServer(ctx context.Context) error {
	api, err := s.API()
	if err != nil {
		return err
	}
	return until(ctx, "the API server is not ready", func(ctx context.Context) error {
		err := api.Do(ctx, http.MethodGet, "/readyz", nil, nil)
		return err
	})
}

// join adds the node to the cluster's members. etcd accepts a new member only when all others have
// been connected for five seconds.
func (s *Sandbox) join(ctx context.Context) error {
	etcd, err := s.options.Join.EtcdClient()
	if err != nil {
		return err
	}
	defer etcd.Close()
	return until(ctx, "cannot add "+s.Node+" to the members of etcd", func(ctx context.Context) error {
		// An earlier attempt may have succeeded without hearing of it. Where that was the second
		// member, there is no quorum until it starts; but each member knows the list.
		now, err := etcd.MemberList(ctx, clientv3.WithSerializable())
		if err != nil {
			return err
		}
		for _, m := range now.Members {
			if slices.Contains(m.PeerURLs, s.PeerURL()) {
				return nil
			}
		}
		_, err = etcd.MemberAdd(ctx, []string{s.PeerURL()})
		return err
	})
}

// until retries every 50 ms, each time for up to 2 s, until it succeeds or ctx ends.
func until(ctx context.Context, complaint string, try func(context.Context) error) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := try(attempt)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", complaint, errors.Join(ctx.Err(), err))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// register writes the objects that kubeadm and the kubelet write: kubeadm-config and the node. It
// keeps existing ones.
func (s *Sandbox) register(ctx context.Context) error {
	if s.options.NoAPIServer {
		return nil
	}
	api, err := s.API()
	if err != nil {
		return err
	}
	for path, object := range map[string]map[string]any{
		"/api/v1/namespaces/kube-system/configmaps": {"metadata": map[string]any{"name": "kubeadm-config"},
			"data": map[string]string{"ClusterConfiguration": s.clusterConfiguration()}},
		"/api/v1/nodes": {"metadata": map[string]any{"name": s.Node,
			"labels": map[string]string{"node-role.kubernetes.io/control-plane": ""}},
			"status": map[string]any{
				"addresses": []any{map[string]string{"type": "InternalIP", "address": s.Address}},
			}},
	} {
		if err := api.Do(ctx, http.MethodPost, path, object, nil); err != nil &&
			!kubeapi.IsStatus(err, http.StatusConflict) {
			return fmt.Errorf("cannot create the object in %s: %w", path, err)
		}
	}
	return nil
}
