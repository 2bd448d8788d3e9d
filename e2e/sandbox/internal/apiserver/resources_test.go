package apiserver

import "testing"

func TestPathsLeadToKubernetesKeys(t *testing.T) {
	for path, want := range map[string]string{
		"/api/v1/pods":                                               "/registry/pods/",
		"/api/v1/namespaces/kube-system/pods":                        "/registry/pods/kube-system/",
		"/api/v1/namespaces/kube-system/pods/a":                      "/registry/pods/kube-system/a",
		"/api/v1/namespaces":                                         "/registry/namespaces/",
		"/api/v1/namespaces/kube-system":                             "/registry/namespaces/kube-system",
		"/api/v1/nodes/cp1":                                          "/registry/minions/cp1",
		"/api/v1/namespaces/a/services/b":                            "/registry/services/specs/a/b",
		"/api/v1/namespaces/a/endpoints/b":                           "/registry/services/endpoints/a/b",
		"/apis/apps/v1/deployments":                                  "/registry/deployments/",
		"/apis/coordination.k8s.io/v1/namespaces/kube-system/leases": "/registry/leases/kube-system/",
		// A pod without its namespace.
		"/api/v1/pods/a": "",
		// A node in a namespace.
		"/api/v1/namespaces/a/nodes":      "",
		"/api/v1/namespaces/a/pods/b/log": "",
		"/api/v2/pods":                    "",
		"/apis/apps/v1":                   "",
		"/metrics":                        "",
	} {
		key := ""
		if t, ok := find(path); ok {
			key = t.key("/registry")
		}
		if key != want {
			t.Errorf("%s leads to %q, want %q", path, key, want)
		}
	}
}
