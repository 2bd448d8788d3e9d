package cri

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/etcdpod/etcdpod/e2e/sandbox/internal/hostpath"
	"github.com/etcdpod/etcdpod/e2e/sandbox/internal/proc"
)

// CreateContainer stores a container that is not yet started. An image without a binary is not
// found, like one that was never pulled.
func (s *Server) CreateContainer(
	_ context.Context, r *runtimeapi.CreateContainerRequest,
) (*runtimeapi.CreateContainerResponse, error) {
	if _, err := s.binary(r.GetConfig().GetImage().GetImage()); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.findPod(r.PodSandboxId)
	if p == nil {
		return nil, status.Errorf(codes.NotFound, "failed to find sandbox id %q: not found", r.PodSandboxId)
	}
	c := &container{ID: newID(), SandboxID: p.ID, Config: r.Config, CreatedAt: time.Now().UnixNano()}
	if r.Config.LogPath != "" {
		c.Log = filepath.Join(p.Config.LogDirectory, r.Config.LogPath)
	}
	if err := os.MkdirAll(s.rootfs(c.ID), 0o755); err != nil {
		return nil, err
	}
	for _, mount := range r.Config.Mounts {
		// containerd creates the missing source of a bind mount.
		source, err := hostpath.Resolve(s.root, mount.HostPath)
		if err != nil {
			return nil, err
		}
		if _, err := os.Stat(source); errors.Is(err, os.ErrNotExist) {
			if err := os.MkdirAll(source, 0o755); err != nil {
				return nil, err
			}
		}
	}
	if err := save(s.containerDir(c.ID), c); err != nil {
		return nil, err
	}
	s.containers[c.ID] = c
	return &runtimeapi.CreateContainerResponse{ContainerId: c.ID}, nil
}

// StartContainer starts the process of a container that was created.
func (s *Server) StartContainer(
	_ context.Context, r *runtimeapi.StartContainerRequest,
) (*runtimeapi.StartContainerResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.findContainer(r.ContainerId)
	if c == nil {
		return nil, notFound(r.ContainerId)
	}
	if state := s.state(c); state != runtimeapi.ContainerState_CONTAINER_CREATED {
		return nil, status.Errorf(codes.FailedPrecondition, "container is in %s state", state)
	}
	path, err := s.binary(c.Config.Image.Image)
	if err != nil {
		return nil, err
	}
	cmd, err := s.command(path, c)
	if err != nil {
		return nil, err
	}
	log := c.Log
	if log == "" {
		log = filepath.Join(stateDir, "containers", c.ID, "log")
	}
	c.StartedAt, c.Boot = time.Now().UnixNano(), s.boot
	if err := proc.Start(cmd, s.root, filepath.Join(s.root, log)); err != nil {
		s.finish(c, 128)
		return nil, fmt.Errorf("cannot start %s: %w", path, err)
	}
	c.Process, _ = proc.Identify(cmd.Process.Pid)
	s.waiting[c.ID] = true
	go s.wait(c, cmd)
	return &runtimeapi.StartContainerResponse{}, save(s.containerDir(c.ID), c)
}

func (s *Server) wait(c *container, cmd *exec.Cmd) {
	_ = cmd.Wait() // the state below says more than the error
	code := cmd.ProcessState.ExitCode()
	if code < 0 {
		code = 137 // 128 and SIGKILL
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiting, c.ID)
	if s.containers[c.ID] == c {
		s.finish(c, code)
	}
}

// StopContainer stops a container with SIGTERM and, after the timeout in seconds, with SIGKILL. A
// missing container is no error.
func (s *Server) StopContainer(
	ctx context.Context, r *runtimeapi.StopContainerRequest,
) (*runtimeapi.StopContainerResponse, error) {
	return &runtimeapi.StopContainerResponse{}, s.stop(ctx, r.ContainerId, time.Duration(r.Timeout)*time.Second)
}

func (s *Server) stop(ctx context.Context, id string, grace time.Duration) error {
	s.mu.Lock()
	c := s.findContainer(id)
	if c == nil || s.state(c) != runtimeapi.ContainerState_CONTAINER_RUNNING {
		s.mu.Unlock()
		return nil
	}
	process := c.Process
	s.mu.Unlock()
	if err := proc.End(process, grace); err != nil {
		return err
	}
	for {
		s.mu.Lock()
		ended := s.state(c) != runtimeapi.ContainerState_CONTAINER_RUNNING
		s.mu.Unlock()
		if ended {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// RemoveContainer forgets a container, and kills it first if it runs. A missing
// container is no error.
func (s *Server) RemoveContainer(
	ctx context.Context, r *runtimeapi.RemoveContainerRequest,
) (*runtimeapi.RemoveContainerResponse, error) {
	if err := s.stop(ctx, r.ContainerId, 0); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.findContainer(r.ContainerId)
	if c == nil {
		return &runtimeapi.RemoveContainerResponse{}, nil
	}
	delete(s.containers, c.ID)
	return &runtimeapi.RemoveContainerResponse{}, os.RemoveAll(s.containerDir(c.ID))
}

// ListContainers lists the containers that match the filter.
func (s *Server) ListContainers(
	_ context.Context, r *runtimeapi.ListContainersRequest,
) (*runtimeapi.ListContainersResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	reply := &runtimeapi.ListContainersResponse{}
	for _, c := range s.containers {
		state := s.state(c)
		if f := r.Filter; f != nil &&
			(!strings.HasPrefix(c.ID, f.Id) || !strings.HasPrefix(c.SandboxID, f.PodSandboxId) ||
				f.State != nil && f.State.State != state || !selects(f.LabelSelector, c.Config.Labels)) {
			continue
		}
		reply.Containers = append(reply.Containers, &runtimeapi.Container{
			Id: c.ID, PodSandboxId: c.SandboxID, Metadata: c.Config.Metadata,
			Image: c.Config.Image, ImageRef: c.Config.Image.Image,
			State: state, CreatedAt: c.CreatedAt, Labels: c.Config.Labels, Annotations: c.Config.Annotations,
		})
	}
	return reply, nil
}

// ContainerStatus describes one container; verbose adds containerd's "info": a JSON object with
// pid, sandboxID, config and runtimeSpec.
func (s *Server) ContainerStatus(
	_ context.Context, r *runtimeapi.ContainerStatusRequest,
) (*runtimeapi.ContainerStatusResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.findContainer(r.ContainerId)
	if c == nil {
		return nil, notFound(r.ContainerId)
	}
	state := s.state(c)
	st := &runtimeapi.ContainerStatus{
		Id: c.ID, Metadata: c.Config.Metadata, State: state,
		CreatedAt: c.CreatedAt, StartedAt: c.StartedAt, FinishedAt: c.FinishedAt,
		ExitCode: c.ExitCode, Image: c.Config.Image, ImageRef: c.Config.Image.Image,
		Labels: c.Config.Labels, Annotations: c.Config.Annotations,
		Mounts: c.Config.Mounts, LogPath: c.Log,
	}
	if state == runtimeapi.ContainerState_CONTAINER_EXITED {
		st.Reason = "Completed"
		if c.ExitCode != 0 {
			st.Reason = "Error"
		}
	}
	reply := &runtimeapi.ContainerStatusResponse{Status: st}
	if r.Verbose {
		info, err := s.info(c, state)
		if err != nil {
			return nil, err
		}
		reply.Info = map[string]string{"info": info}
	}
	return reply, nil
}

func (s *Server) info(c *container, state runtimeapi.ContainerState) (string, error) {
	pid := 0
	if state == runtimeapi.ContainerState_CONTAINER_RUNNING {
		pid = c.Process.PID
	}
	type process struct {
		Args []string `json:"args"`
		Env  []string `json:"env"`
	}
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	for _, e := range c.Config.Envs {
		env = append(env, e.Key+"="+string(e.Value))
	}
	info, err := json.Marshal(map[string]any{
		"sandboxID": c.SandboxID, "pid": pid, "config": c.Config,
		"runtimeSpec": map[string]any{
			"process": process{
				Args: append(append([]string{}, c.Config.Command...), c.Config.Args...), Env: env,
			},
		},
	})
	return string(info), err
}

func notFound(id string) error {
	return status.Errorf(codes.NotFound, "an error occurred when try to find container %q: not found", id)
}
