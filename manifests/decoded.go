package manifests

import (
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// Decoded reads a text as the kubelet does, without regard to whether it could be edited: with
// anchors and aliases put in, and of several documents the first (kubelet, pkg/kubelet/config). The
// manifest is what the text says, not how it says it. pod says whether the kubelet would take it
// for a pod; if it would, and manifest is nil, nothing is known of that pod.
func Decoded(text []byte) (manifest *Manifest, pod bool) {
	if len(text) > MaxSize {
		return nil, false
	}
	var decoded corev1.Pod
	if yaml.Unmarshal(text, &decoded) != nil || decoded.Kind != "Pod" || decoded.APIVersion != "v1" ||
		len(decoded.Spec.Containers) == 0 {
		return nil, false
	}
	plain, err := json.Marshal(decoded)
	if err != nil {
		return nil, true
	}
	if manifest, err = Parse(plain); err != nil {
		return nil, true
	}
	return manifest, true
}
