package apiserver

import (
	"net/http"
	"strings"
)

// Resource is one row of the API server's table of resources.
type Resource struct {
	Group, Version, Name, Kind string
	Namespaced                 bool
	Prefix                     string // of its keys, below the etcd prefix
}

// Resources lists every served resource, with its place in kube-apiserver (pkg/registry, and
// pkg/kubeapiserver/default_storage_factory_builder.go for the special ones).
func Resources() []Resource {
	return []Resource{
		{"", "v1", "configmaps", "ConfigMap", true, "configmaps"},
		{"", "v1", "endpoints", "Endpoints", true, "services/endpoints"},
		{"", "v1", "events", "Event", true, "events"},
		{"", "v1", "namespaces", "Namespace", false, "namespaces"},
		{"", "v1", "nodes", "Node", false, "minions"},
		{"", "v1", "pods", "Pod", true, "pods"},
		{"", "v1", "secrets", "Secret", true, "secrets"},
		{"", "v1", "serviceaccounts", "ServiceAccount", true, "serviceaccounts"},
		{"", "v1", "services", "Service", true, "services/specs"},
		{"apps", "v1", "deployments", "Deployment", true, "deployments"},
		{"apps", "v1", "replicasets", "ReplicaSet", true, "replicasets"},
		{"coordination.k8s.io", "v1", "leases", "Lease", true, "leases"},
	}
}

func (r Resource) groupVersion() string {
	if r.Group == "" {
		return r.Version
	}
	return r.Group + "/" + r.Version
}

// target is what a request's path names.
type target struct {
	Resource
	namespace, name string
}

// find reads /api/v1/… and /apis/GROUP/VERSION/…, then [namespaces/NAMESPACE/]RESOURCE[/NAME].
func find(path string) (target, bool) {
	words := strings.Split(strings.Trim(path, "/"), "/")
	var t target
	switch {
	case len(words) >= 3 && words[0] == "api":
		t.Version, words = words[1], words[2:]
	case len(words) >= 4 && words[0] == "apis":
		t.Group, t.Version, words = words[1], words[2], words[3:]
	default:
		return t, false
	}
	if words[0] == "namespaces" && len(words) >= 3 {
		t.namespace, words = words[1], words[2:]
	}
	if len(words) > 2 {
		return t, false
	}
	if len(words) == 2 {
		t.name = words[1]
	}
	for _, r := range Resources() {
		if r.Group == t.Group && r.Version == t.Version && r.Name == words[0] && (t.namespace == "" || r.Namespaced) {
			t.Resource = r
			return t, !r.Namespaced || t.namespace != "" || t.name == ""
		}
	}
	return t, false
}

// key returns the key of the named object, or the common prefix of the list's keys.
func (t target) key(prefix string) string {
	key := prefix + "/" + t.Prefix + "/"
	if t.namespace != "" {
		key += t.namespace + "/"
	}
	return key + t.name
}

func discoverAPI(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, map[string]any{"kind": "APIVersions", "versions": []string{"v1"}})
}

func discoverGroups(w http.ResponseWriter, _ *http.Request) {
	var groups []any
	seen := map[string]bool{"": true}
	for _, r := range Resources() {
		if seen[r.Group] {
			continue
		}
		seen[r.Group] = true
		version := map[string]any{"groupVersion": r.groupVersion(), "version": r.Version}
		groups = append(groups, map[string]any{"name": r.Group,
			"versions": []any{version}, "preferredVersion": version})
	}
	reply(w, http.StatusOK, map[string]any{"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

// discoverResources answers /api/v1 and /apis/GROUP/VERSION.
func discoverResources(w http.ResponseWriter, group, version string) {
	var resources []any
	groupVersion := Resource{Group: group, Version: version}.groupVersion()
	for _, r := range Resources() {
		if r.groupVersion() == groupVersion {
			resources = append(resources, map[string]any{"name": r.Name,
				"singularName": strings.ToLower(r.Kind), "namespaced": r.Namespaced,
				"kind": r.Kind, "verbs": []string{"create", "delete", "get", "list", "update"}})
		}
	}
	if resources == nil {
		fail(w, http.StatusNotFound, "NotFound", "the server could not find the requested resource")
		return
	}
	reply(w, http.StatusOK, map[string]any{"kind": "APIResourceList",
		"apiVersion": "v1", "groupVersion": groupVersion, "resources": resources})
}
