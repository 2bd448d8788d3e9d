package manifests

import (
	"strings"
	"time"
)

// ImageOf is the image of one container.
type ImageOf struct {
	Container string // init containers, too
	Image     string
	// Pull is when the kubelet pulls it: Always, IfNotPresent or Never.
	Pull string
}

// Images returns what must be on the node for the pod to start, in order.
func (m *Manifest) Images() []ImageOf {
	var all []ImageOf
	for _, c := range m.pod.containers {
		if c.image == nil {
			continue
		}
		i := ImageOf{Container: c.name, Image: c.image.Value, Pull: c.pull}
		if i.Pull == "" { // k8s.io/kubernetes, pkg/apis/core/v1: SetDefaults_Container
			i.Pull = "IfNotPresent"
			last := i.Image[strings.LastIndex(i.Image, "/")+1:]
			if !strings.ContainsAny(last, ":@") || strings.HasSuffix(last, ":latest") {
				i.Pull = "Always"
			}
		}
		all = append(all, i)
	}
	return all
}

// StartLimit is how long the kubelet lets a container's program start before it kills it: by its
// start-up probe or, without one, its liveness probe. probe is the manifest's name for that; empty
// if nothing limits it.
func (m *Manifest) StartLimit(container string) (limit time.Duration, probe string) {
	c := m.find(container)
	if c == nil {
		return 0, ""
	}
	n, probe := c.startup, "startupProbe"
	if isNull(n) {
		n, probe = c.live, "livenessProbe"
	}
	if isNull(n) {
		return 0, ""
	}
	var p struct {
		InitialDelaySeconds int64 `yaml:"initialDelaySeconds"`
		PeriodSeconds       int64 `yaml:"periodSeconds"`
		FailureThreshold    int64 `yaml:"failureThreshold"`
	}
	if n.Decode(&p) != nil {
		return 0, "" // the kubelet refuses it, too
	}
	if p.PeriodSeconds <= 0 { // k8s.io/kubernetes, pkg/apis/core/v1: SetDefaults_Probe
		p.PeriodSeconds = 10
	}
	if p.FailureThreshold <= 0 {
		p.FailureThreshold = 3
	}
	return time.Duration(p.InitialDelaySeconds+p.PeriodSeconds*p.FailureThreshold) * time.Second, probe
}
