package manifests

import (
	"bytes"
	"encoding/json"

	"sigs.k8s.io/yaml"
)

// MayBePod says whether the kubelet may run a file that [Parse] refuses: it takes the first
// document of a file, in YAML or JSON, with a parser that lets more pass
// (pkg/kubelet/config/common.go: tryDecodeSinglePod). What is no v1 Pod even to that parser, a
// README or a Deployment, it cannot run.
func MayBePod(file []byte) bool {
	text := file
	if !bytes.HasPrefix(bytes.TrimLeft(file, " \t\r\n"), []byte("{")) {
		var err error
		if text, err = yaml.YAMLToJSON(file); err != nil {
			return false
		}
	}
	var is struct {
		Kind       string `json:"kind"`
		APIVersion string `json:"apiVersion"`
	}
	return json.NewDecoder(bytes.NewReader(text)).Decode(&is) == nil && is.Kind == "Pod" && is.APIVersion == "v1"
}
