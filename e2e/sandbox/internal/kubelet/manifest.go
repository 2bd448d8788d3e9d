package kubelet

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"sort"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"
)

// source is what was last read from one file.
type source struct {
	text string
	pod  *corev1.Pod
}

// read returns the pods that the directory asks for, by file name. If a file is no readable pod,
// the file's last pod stays.
func (k *kubelet) read() []*corev1.Pod {
	dir := filepath.Join(k.Root, k.manifests)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		k.Log.Printf("cannot read %s: %v", k.manifests, err)
	}
	present := map[string]bool{}
	for _, entry := range entries {
		name := entry.Name()
		if strings.HasPrefix(name, ".") {
			continue
		}
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			continue
		}
		present[name] = true
		if last := k.files[name]; last != nil && last.text == string(text) {
			continue
		}
		pod, err := parse(text, k.Node, filepath.Join(k.manifests, name))
		if err != nil {
			k.Log.Printf("cannot process static pod %s: %v", name, err)
			if last := k.files[name]; last != nil {
				pod = last.pod
			}
		}
		k.files[name] = &source{text: string(text), pod: pod}
	}
	var pods []*corev1.Pod
	for name, file := range k.files {
		if !present[name] {
			delete(k.files, name)
		} else if file.pod != nil {
			pods = append(pods, file.pod)
		}
	}
	sort.Slice(pods, func(i, j int) bool { return pods[i].Annotations[sourceFile] < pods[j].Annotations[sourceFile] })
	return pods
}

// sourceFile is this stand-in's own annotation.
const sourceFile = "standin/file"

// parse reads a static pod and gives it the kubelet's name, namespace and UID
// (pkg/kubelet/config/common.go, applyDefaults).
func parse(text []byte, node, path string) (*corev1.Pod, error) {
	pod := &corev1.Pod{}
	if err := yaml.Unmarshal(text, pod); err != nil {
		return nil, err
	}
	if pod.Kind != "Pod" || pod.APIVersion != "v1" {
		return nil, fmt.Errorf("it is a %q of %q, not a Pod of v1", pod.Kind, pod.APIVersion)
	}
	if pod.Name == "" || len(pod.Spec.Containers) == 0 {
		return nil, errors.New("a name and a container are needed")
	}
	if pod.UID == "" {
		contents, err := json.Marshal(pod)
		if err != nil {
			return nil, err
		}
		hash := fnv.New128a()
		fmt.Fprintf(hash, "%shost:%sfile:%s", contents, node, path)
		pod.UID = types.UID(hex.EncodeToString(hash.Sum(nil)))
	}
	pod.Name += "-" + strings.ToLower(node)
	if pod.Namespace == "" {
		pod.Namespace = corev1.NamespaceDefault
	}
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations["kubernetes.io/config.hash"] = string(pod.UID)
	pod.Annotations["kubernetes.io/config.source"] = "file"
	pod.Annotations[sourceFile] = path
	return pod, nil
}
