package bind

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/templates"
)

// APIServer is the node's real API server. Its handful of calls needs no client library beyond
// reading the kubeconfig.
type APIServer struct{ fs node.Reader }

// NewAPIServer reads the kubeconfig from the node's files.
func NewAPIServer(fs node.Reader) APIServer { return APIServer{fs} }

type resourceList struct {
	GroupVersion string `json:"groupVersion"`
	Resources    []struct {
		Name  string   `json:"name"`
		Verbs []string `json:"verbs"`
	} `json:"resources"`
}

// coreVersion is what every API server serves itself.
const coreVersion = "/api/v1"

// Counts asks for one object of each resource; the answer's metadata says how many remain. A list
// at exactly one revision is read from etcd, or from a copy as of that revision (k8s.io/apiserver,
// pkg/storage/cacher): whatever is written meanwhile, two API servers with the same data return the
// same counts.
func (b APIServer) Counts(ctx context.Context, a op.APIAccess, revision int64) ([]op.Count, error) {
	paths, err := b.groupVersions(ctx, a)
	if err != nil {
		return nil, err
	}
	var counts []op.Count
	for _, path := range paths {
		var list resourceList
		if err := b.call(ctx, a, http.MethodGet, path, nil, &list); err != nil {
			if path == coreVersion {
				return nil, err
			}
			continue // an aggregated API whose server is down is not stored in etcd
		}
		group, _, grouped := strings.Cut(list.GroupVersion, "/")
		for _, r := range list.Resources {
			if strings.Contains(r.Name, "/") || !strings.Contains(strings.Join(r.Verbs, " ")+" ", "list ") {
				continue
			}
			if revision > 0 && (r.Name == "events" || r.Name == "componentstatuses") {
				continue
			}
			n, err := b.count(ctx, a, path+"/"+r.Name, revision)
			known := errors.Is(err, errNotFound) || slices.Contains(a.Unreadable, r.Name)
			if err != nil && path == coreVersion && !known {
				return nil, err
			}
			if err != nil {
				continue // a conversion webhook may be down: the data is not at fault
			}
			name := r.Name
			if grouped {
				name += "." + group
			}
			counts = append(counts, op.Count{Resource: name, Objects: n})
		}
	}
	return counts, nil
}

// groupVersions returns the paths of the preferred version of each group that etcd stores;
// aggregated groups are stored elsewhere.
func (b APIServer) groupVersions(ctx context.Context, a op.APIAccess) ([]string, error) {
	var groups struct {
		Groups []struct {
			PreferredVersion struct {
				GroupVersion string `json:"groupVersion"`
			} `json:"preferredVersion"`
		} `json:"groups"`
	}
	if err := b.call(ctx, a, http.MethodGet, "/apis", nil, &groups); err != nil {
		return nil, err
	}
	elsewhere, err := b.aggregated(ctx, a)
	if err != nil {
		return nil, err
	}
	paths := []string{coreVersion}
	for _, g := range groups.Groups {
		if v := g.PreferredVersion.GroupVersion; !elsewhere[v] {
			paths = append(paths, "/apis/"+v)
		}
	}
	return paths, nil
}

// aggregated are the group versions that other servers serve through this one.
func (b APIServer) aggregated(ctx context.Context, a op.APIAccess) (map[string]bool, error) {
	var services struct {
		Items []struct {
			Spec struct {
				Group   string          `json:"group"`
				Version string          `json:"version"`
				Service json.RawMessage `json:"service"` // absent or null: this API server itself
			} `json:"spec"`
		} `json:"items"`
	}
	err := b.call(ctx, a, http.MethodGet, "/apis/apiregistration.k8s.io/v1/apiservices", nil, &services)
	if err != nil && !errors.Is(err, errNotFound) { // without aggregation there are none
		return nil, err
	}
	elsewhere := map[string]bool{}
	for _, s := range services.Items {
		if len(s.Spec.Service) > 0 && string(s.Spec.Service) != "null" {
			elsewhere[s.Spec.Group+"/"+s.Spec.Version] = true
		}
	}
	return elsewhere, nil
}

// firstOf is the first object of a list, and the list's metadata about the rest.
type firstOf struct {
	Metadata struct {
		ResourceVersion    string `json:"resourceVersion"`
		RemainingItemCount int64  `json:"remainingItemCount"`
	} `json:"metadata"`
	Items []json.RawMessage `json:"items"`
}

func (b APIServer) count(ctx context.Context, a op.APIAccess, path string, revision int64) (int64, error) {
	path += "?limit=1"
	if revision > 0 {
		path += fmt.Sprintf("&resourceVersion=%d&resourceVersionMatch=Exact", revision)
	}
	var list firstOf
	if err := b.call(ctx, a, http.MethodGet, path, nil, &list); err != nil {
		return 0, err
	}
	return int64(len(list.Items)) + list.Metadata.RemainingItemCount, nil
}

// Revision is the revision of a list that asks for none, which is read with a quorum. All resources
// share etcd's revision.
func (b APIServer) Revision(ctx context.Context, a op.APIAccess) (int64, error) {
	var list firstOf
	if err := b.call(ctx, a, http.MethodGet, "/api/v1/namespaces?limit=1", nil, &list); err != nil {
		return 0, err
	}
	revision, err := strconv.ParseInt(list.Metadata.ResourceVersion, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("cannot read the API server's revision: %w", err)
	}
	return revision, nil
}

// Nodes returns the names of the registered nodes.
func (b APIServer) Nodes(ctx context.Context, a op.APIAccess) ([]string, error) {
	var list struct {
		Items []struct {
			Metadata struct {
				Name string `json:"name"`
			} `json:"metadata"`
		} `json:"items"`
	}
	if err := b.call(ctx, a, http.MethodGet, "/api/v1/nodes", nil, &list); err != nil {
		return nil, err
	}
	names := make([]string, len(list.Items))
	for i, item := range list.Items {
		names[i] = item.Metadata.Name
	}
	return names, nil
}

// ReleaseLease releases a leader lease on behalf of its holder, as client-go does
// (tools/leaderelection: release). A missing lease is no error.
func (b APIServer) ReleaseLease(ctx context.Context, a op.APIAccess, namespace, name string) error {
	path := "/apis/coordination.k8s.io/v1/namespaces/" + namespace + "/leases/" + name
	var lease map[string]any
	if err := b.call(ctx, a, http.MethodGet, path, nil, &lease); err != nil {
		if errors.Is(err, errNotFound) {
			return nil
		}
		return err
	}
	spec, ok := lease["spec"].(map[string]any)
	if !ok {
		return nil // it was never held
	}
	spec["holderIdentity"], spec["leaseDurationSeconds"] = "", 1
	return b.call(ctx, a, http.MethodPut, path, lease, nil)
}

// EtcdEndpoints are the client URLs that kubeadm writes into the annotations of etcd's pods
// (kubeadm, util/etcd: getRawEtcdEndpointsFromPodAnnotation).
func (b APIServer) EtcdEndpoints(ctx context.Context, a op.APIAccess) ([]string, error) {
	var pods struct {
		Items []struct {
			Metadata struct {
				Labels      map[string]string `json:"labels"`
				Annotations map[string]string `json:"annotations"`
			} `json:"metadata"`
		} `json:"items"`
	}
	const path = "/api/v1/namespaces/kube-system/pods?labelSelector=component%3Detcd%2Ctier%3Dcontrol-plane"
	if err := b.call(ctx, a, http.MethodGet, path, nil, &pods); err != nil {
		return nil, err
	}
	var urls []string
	for _, p := range pods.Items {
		if said := p.Metadata.Annotations[templates.AnnotationClientURLs]; p.Metadata.Labels["component"] == "etcd" &&
			said != "" {
			urls = append(urls, strings.Split(said, ",")...)
		}
	}
	return urls, nil
}
