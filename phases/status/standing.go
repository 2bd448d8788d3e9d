package status

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/observe"
)

// Standing says in a few words what runs on the node just now.
func Standing(ctx context.Context, n *observe.Node) string {
	kubelet := "the kubelet is stopped"
	switch running, err := n.Kubelet.Running(ctx); {
	case err != nil:
		kubelet = "it is not known whether the kubelet runs"
	case running:
		kubelet = "the kubelet runs"
	}
	all, err := n.Runtime.Containers(ctx)
	if err != nil {
		return kubelet + "; what else runs is not known"
	}
	var runs, down []string
	for _, name := range []string{"etcd", "kube-apiserver"} {
		at := &down
		for _, c := range all {
			if c.Name == name && c.State == "running" {
				at = &runs
			}
		}
		if !slices.Contains(*at, name) {
			*at = append(*at, name)
		}
	}
	text := kubelet
	for _, part := range []struct {
		names     []string
		one, many string
	}{{runs, "runs", "run"}, {down, "does not run", "do not run"}} {
		verb := part.many
		if len(part.names) == 1 {
			verb = part.one
		}
		if len(part.names) > 0 {
			text += fmt.Sprintf("; %s %s", strings.Join(part.names, " and "), verb)
		}
	}
	return text
}
