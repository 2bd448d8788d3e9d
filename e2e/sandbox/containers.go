package sandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"sort"
	"strings"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/etcdpod/etcdpod/e2e/sandbox/internal/cri"
)

// Container is one container as the runtime reports it.
type Container struct {
	ID, Name, Pod, PodUID, SandboxID string
	State                            string // created, running or exited
	Attempt                          int
	ExitCode                         int
	PID                              int // 0 unless it runs
}

// Containers lists the node's containers, the newest first.
func (s *Sandbox) Containers(ctx context.Context) ([]Container, error) {
	conn, err := grpc.NewClient("unix://"+s.Path(cri.Socket), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	runtime := runtimeapi.NewRuntimeServiceClient(conn)
	list, err := runtime.ListContainers(ctx, &runtimeapi.ListContainersRequest{})
	if err != nil {
		return nil, fmt.Errorf("cannot list the containers: %w", err)
	}
	sort.Slice(list.Containers, func(i, j int) bool {
		return list.Containers[i].CreatedAt > list.Containers[j].CreatedAt
	})
	var all []Container
	for _, c := range list.Containers {
		reply, err := runtime.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: c.Id, Verbose: true})
		if err != nil {
			continue // removed in the meantime
		}
		var info struct {
			PID int `json:"pid"`
		}
		if err := json.Unmarshal([]byte(reply.Info["info"]), &info); err != nil {
			return nil, err
		}
		all = append(all, Container{
			ID: c.Id, Name: c.Metadata.Name, Pod: c.Labels["io.kubernetes.pod.name"],
			PodUID: c.Labels["io.kubernetes.pod.uid"], SandboxID: c.PodSandboxId,
			State:   strings.ToLower(strings.TrimPrefix(reply.Status.State.String(), "CONTAINER_")),
			Attempt: int(c.Metadata.Attempt), ExitCode: int(reply.Status.ExitCode), PID: info.PID,
		})
	}
	return all, nil
}

// Container returns the newest container of that name, and false if there is none.
func (s *Sandbox) Container(ctx context.Context, name string) (Container, bool, error) {
	all, err := s.Containers(ctx)
	if err != nil {
		return Container{}, false, err
	}
	for _, c := range all {
		if c.Name == name {
			return c, true, nil
		}
	}
	return Container{}, false, nil
}

// Kill kills the running container of that name with SIGKILL, without the runtime's knowledge.
func (s *Sandbox) Kill(ctx context.Context, name string) error {
	c, found, err := s.Container(ctx, name)
	if err != nil {
		return err
	}
	if !found || c.PID == 0 {
		return fmt.Errorf("no container %s runs", name)
	}
	return syscall.Kill(c.PID, syscall.SIGKILL)
}
