package bind

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"sigs.k8s.io/yaml"

	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// Where kubeadm keeps its ClusterConfiguration (kubeadm, app/constants).
const (
	kubeadmConfig = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config"
	clusterKey    = "ClusterConfiguration"
)

// configMap keeps the fields that etcdpod does not know.
type configMap map[string]any

func (c configMap) data() map[string]any {
	data, _ := c["data"].(map[string]any)
	return data
}

func (b APIServer) kubeadmConfig(ctx context.Context, a op.APIAccess) (c configMap, text string, err error) {
	err = b.call(ctx, a, http.MethodGet, kubeadmConfig, nil, &c)
	text, _ = c.data()[clusterKey].(string)
	return c, text, err
}

// ClusterConfiguration is kubeadm's, as YAML; an error when there is no such ConfigMap, empty when
// the ConfigMap holds none.
func (b APIServer) ClusterConfiguration(ctx context.Context, a op.APIAccess) (string, error) {
	_, text, err := b.kubeadmConfig(ctx, a)
	return text, err
}

// localEtcd parses a ClusterConfiguration, and returns it with its etcd.local, which is nil when
// there is none.
func localEtcd(text string) (config, local map[string]any, err error) {
	if err := yaml.Unmarshal([]byte(text), &config); err != nil {
		return nil, nil, fmt.Errorf("cannot read kubeadm's ClusterConfiguration: %w", err)
	}
	etcd, _ := config["etcd"].(map[string]any)
	local, _ = etcd["local"].(map[string]any)
	return config, local, nil
}

// DataDir returns etcd.local.dataDir of the ClusterConfiguration; empty when there is no such
// ConfigMap.
func (b APIServer) DataDir(ctx context.Context, a op.APIAccess) (string, error) {
	_, text, err := b.kubeadmConfig(ctx, a)
	if errors.Is(err, errNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	_, local, err := localEtcd(text)
	dir, _ := local["dataDir"].(string)
	return dir, err
}

// SetDataDir changes etcd.local.dataDir of the ClusterConfiguration, and nothing else in it.
func (b APIServer) SetDataDir(ctx context.Context, a op.APIAccess, dataDir string) error {
	return b.setLocal(ctx, a, "dataDir", dataDir, "the data directory")
}

// ImageTag returns etcd.local.imageTag of the ClusterConfiguration; local is false where there is
// none, or no etcd.local in it.
func (b APIServer) ImageTag(ctx context.Context, a op.APIAccess) (tag string, local bool, err error) {
	_, text, err := b.kubeadmConfig(ctx, a)
	if errors.Is(err, errNotFound) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	_, of, err := localEtcd(text)
	tag, _ = of["imageTag"].(string)
	return tag, of != nil, err
}

// SetImageTag changes etcd.local.imageTag of the ClusterConfiguration, and nothing else in it.
func (b APIServer) SetImageTag(ctx context.Context, a op.APIAccess, tag string) error {
	return b.setLocal(ctx, a, "imageTag", tag, "the tag of etcd's image")
}

// setLocal changes one line of etcd.local.
func (b APIServer) setLocal(ctx context.Context, a op.APIAccess, key, value, what string) error {
	c, text, err := b.kubeadmConfig(ctx, a)
	if err != nil {
		return err
	}
	config, local, err := localEtcd(text)
	if err != nil {
		return err
	}
	if local == nil {
		return fmt.Errorf("cannot set %s in kubeadm's ClusterConfiguration: it has no etcd.local", what)
	}
	local[key] = value
	changed, err := yaml.Marshal(config)
	if err != nil {
		return err
	}
	c.data()[clusterKey] = string(changed)
	return b.call(ctx, a, http.MethodPut, kubeadmConfig, c, nil)
}
