package pki

import "strings"

// builtIn are the groups of the resources that every API server reads through its encryption
// configuration. Others, as those of features that may be off, are not: what is left of them,
// nobody reads. Neither are events, which last an hour.
var builtIn = map[string]string{
	"": "configmaps endpoints limitranges namespaces nodes persistentvolumeclaims persistentvolumes pods " +
		"podtemplates replicationcontrollers resourcequotas secrets serviceaccounts services",
	"admissionregistration.k8s.io": "mutatingwebhookconfigurations validatingwebhookconfigurations",
	"apps":                         "controllerrevisions daemonsets deployments replicasets statefulsets",
	"autoscaling":                  "horizontalpodautoscalers",
	"batch":                        "cronjobs jobs",
	"certificates.k8s.io":          "certificatesigningrequests",
	"coordination.k8s.io":          "leases",
	"discovery.k8s.io":             "endpointslices",
	"networking.k8s.io":            "ingressclasses ingresses networkpolicies",
	"node.k8s.io":                  "runtimeclasses",
	"policy":                       "poddisruptionbudgets",
	"rbac.authorization.k8s.io":    "clusterrolebindings clusterroles rolebindings roles",
	"scheduling.k8s.io":            "priorityclasses",
	"storage.k8s.io":               "csidrivers csinodes storageclasses volumeattachments",
}

// InConfiguration is what an encryption configuration calls a resource of Kubernetes itself, which
// is stored without its group: "deployments" are "deployments.apps". It is empty for any other.
func InConfiguration(stored string) string {
	switch stored {
	case "customresourcedefinitions.apiextensions.k8s.io", "apiservices.apiregistration.k8s.io":
		return stored
	}
	for group, names := range builtIn {
		for name := range strings.FieldsSeq(names) {
			if name == stored {
				return strings.TrimSuffix(name+"."+group, ".")
			}
		}
	}
	return ""
}
