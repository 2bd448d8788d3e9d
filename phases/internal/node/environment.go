package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Environment returns the variables with which a container was started, also of one that has ended:
// containerd and CRI-O tell them in the verbose status, with the OCI specification.
func (r runtime) Environment(ctx context.Context, id string) (map[string]string, error) {
	var told struct {
		RuntimeSpec struct {
			Process struct {
				Env []string `json:"env"`
			} `json:"process"`
		} `json:"runtimeSpec"`
	}
	err := r.call(ctx, callWait, func(ctx context.Context, c cri.RuntimeServiceClient) error {
		answer, err := c.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: id, Verbose: true})
		if err != nil {
			return err
		}
		err = json.Unmarshal([]byte(answer.Info["info"]), &told)
		if err != nil || len(told.RuntimeSpec.Process.Env) == 0 {
			return errors.New("the container runtime does not tell")
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read the environment of the container %s: %w", id, err)
	}
	env := map[string]string{}
	for _, pair := range told.RuntimeSpec.Process.Env {
		name, value, _ := strings.Cut(pair, "=")
		env[name] = value
	}
	return env, nil
}
