package kubelet

import (
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// environment are a container's variables, with the pod's fields that a stand-in knows.
func (k *kubelet) environment(pod *corev1.Pod, spec *corev1.Container) (vars []*runtimeapi.KeyValue) {
	for _, env := range spec.Env {
		value := env.Value
		if env.ValueFrom != nil && env.ValueFrom.FieldRef != nil {
			value = k.field(pod, env.ValueFrom.FieldRef.FieldPath)
		}
		vars = append(vars, &runtimeapi.KeyValue{Key: env.Name, Value: []byte(value)})
	}
	return vars
}

func (k *kubelet) field(pod *corev1.Pod, path string) string {
	if key, ok := strings.CutPrefix(path, "metadata.annotations['"); ok {
		return pod.Annotations[strings.TrimSuffix(key, "']")]
	}
	return map[string]string{
		"metadata.name": pod.Name, "metadata.namespace": pod.Namespace, "spec.nodeName": k.Node,
	}[path]
}

var reference = regexp.MustCompile(`\$\([A-Za-z_]+\)`)

// expanded fills variables into a command line.
func expanded(words []string, vars []*runtimeapi.KeyValue) (filled []string) {
	for _, word := range words {
		filled = append(filled, reference.ReplaceAllStringFunc(word, func(found string) string {
			for _, v := range vars {
				if found == "$("+v.Key+")" {
					return string(v.Value)
				}
			}
			return found
		}))
	}
	return filled
}
