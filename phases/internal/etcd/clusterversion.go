package etcd

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
)

// ClusterVersion is the minor by which the members work together, such as 3.6.0, as the first
// endpoint, a client URL, tells it (etcd, server/etcdserver/api/etcdhttp/version.go). The leader
// raises it once all members run that minor. It is "not_decided" while none is known.
func ClusterVersion(ctx context.Context, a Access) (string, error) {
	status, text, err := a.get(ctx, a.Endpoints[0], a.Name, "/version")
	if err != nil {
		return "", fmt.Errorf("cannot query %s for the version of the cluster: %w", a.Endpoints[0], err)
	}
	var told struct {
		Cluster string `json:"etcdcluster"`
	}
	if status != http.StatusOK || json.Unmarshal(text, &told) != nil || told.Cluster == "" {
		return "", fmt.Errorf("cannot query %s for the version of the cluster: it answers %d %s", a.Endpoints[0],
			status, http.StatusText(status))
	}
	return told.Cluster, nil
}
