package templates

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// Patches are kubeadm's patches of manifests (kubeadm, util/patches). nil patches nothing.
type Patches struct {
	Ignored []string // files that are no patches, and why; for a person

	all []patch // in the order in which they apply
}

type patch struct {
	file, target, how string
	text              []byte // JSON
}

const (
	strategic = "strategic"
	merge     = "merge"
	jsonPatch = "json"
)

// fileName is target[suffix][+type].extension; what follows the type is ignored.
var fileName = regexp.MustCompile(`^(etcd|kube-apiserver|kube-controller-manager|kube-scheduler|kubeletconfiguration|` +
	`corednsdeployment|kubeproxydaemonset)([^.+\n]*)?(\+)?(json|merge|strategic)?`)

// ReadPatches reads the files of a patches directory, by path below it:
// target[suffix][+type].{json,yaml}.
func ReadPatches(files map[string][]byte) (*Patches, error) {
	p := &Patches{}
	ignore := func(file, reason string) { p.Ignored = append(p.Ignored, file+": "+reason) }
	for _, file := range slices.SortedFunc(maps.Keys(files), walkOrder) {
		base := path.Base(file)
		m := fileName.FindStringSubmatch(base)
		switch extension := path.Ext(base); {
		case extension != ".json" && extension != ".yaml" || len(base) == len(extension):
			ignore(file, "its name ends neither with .yaml nor with .json")
			continue
		case m == nil:
			ignore(file, "its name does not begin with something that kubeadm patches")
			continue
		case m[3] != "" && m[4] == "":
			return nil, fmt.Errorf("cannot use the patch %s: after the + must come json, merge or strategic", file)
		case len(files[file]) == 0:
			ignore(file, "it is empty")
			continue
		}
		texts, err := documentsAsJSON(files[file])
		if err != nil {
			return nil, fmt.Errorf("cannot read the patch %s: %w", file, err)
		}
		for _, text := range texts {
			p.all = append(p.all, patch{file: file, target: m[1], how: cmp.Or(m[4], strategic), text: text})
		}
	}
	return p, nil
}

// walkOrder is the order of filepath.Walk: directory by directory.
func walkOrder(a, b string) int { return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/")) }

func documentsAsJSON(text []byte) ([][]byte, error) {
	var all [][]byte
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		doc, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		if doc = bytes.TrimSpace(doc); len(doc) == 0 {
			continue
		}
		asJSON, err := yaml.YAMLToJSON(doc)
		if err != nil {
			return nil, err
		}
		all = append(all, asJSON)
	}
}

// Apply patches the manifest of "etcd" or "kube-apiserver", and serializes it as kubeadm does.
// Without a patch for it the manifest stays as it is.
func (p *Patches) Apply(target string, manifest []byte) ([]byte, error) {
	if p == nil || !slices.ContainsFunc(p.all, func(of patch) bool { return of.target == target }) {
		return manifest, nil
	}
	text, err := yaml.YAMLToJSON(manifest)
	if err != nil {
		return nil, fmt.Errorf("cannot patch %s: %w", target, err)
	}
	for _, of := range p.all {
		if of.target != target {
			continue
		}
		if text, err = of.apply(text); err != nil {
			return nil, fmt.Errorf("cannot apply the patch %s: %w", of.file, err)
		}
	}
	var pod corev1.Pod
	if err := json.UnmarshalCaseSensitivePreserveInts(text, &pod); err != nil {
		return nil, fmt.Errorf("cannot use the patches of %s: %w", target, err)
	}
	if pod.APIVersion != "v1" || pod.Kind != "Pod" {
		return nil, fmt.Errorf("cannot use the patches of %s: they turn its Pod into a %s of %s",
			target, pod.Kind, pod.APIVersion)
	}
	return yaml.Marshal(&pod)
}

func (of patch) apply(text []byte) ([]byte, error) {
	switch of.how {
	case jsonPatch:
		operations, err := jsonpatch.DecodePatch(of.text)
		if err != nil {
			return nil, err
		}
		return operations.Apply(text)
	case merge:
		return jsonpatch.MergePatch(text, of.text)
	}
	return strategicpatch.StrategicMergePatch(text, of.text, corev1.Pod{})
}
