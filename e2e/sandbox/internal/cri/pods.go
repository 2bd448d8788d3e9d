package cri

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// RunPodSandbox stores a new sandbox, which is ready until it is stopped or the node reboots.
func (s *Server) RunPodSandbox(
	_ context.Context, r *runtimeapi.RunPodSandboxRequest,
) (*runtimeapi.RunPodSandboxResponse, error) {
	if r.GetConfig().GetMetadata() == nil {
		return nil, status.Error(codes.InvalidArgument, "sandbox config must include metadata")
	}
	if _, err := s.binary(SandboxImage); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &pod{ID: newID(), Config: r.Config, CreatedAt: time.Now().UnixNano(), Boot: s.boot}
	if err := os.MkdirAll(filepath.Join(s.root, r.Config.LogDirectory), 0o755); err != nil {
		return nil, err
	}
	if err := save(s.podDir(p.ID), p); err != nil {
		return nil, err
	}
	s.pods[p.ID] = p
	return &runtimeapi.RunPodSandboxResponse{PodSandboxId: p.ID}, nil
}

// StopPodSandbox kills what still runs in the sandbox and marks it not ready. A missing
// sandbox is no error.
func (s *Server) StopPodSandbox(
	ctx context.Context, r *runtimeapi.StopPodSandboxRequest,
) (*runtimeapi.StopPodSandboxResponse, error) {
	for _, id := range s.inPod(r.PodSandboxId) {
		if err := s.stop(ctx, id, 0); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.findPod(r.PodSandboxId); p != nil {
		p.Stopped = true
		if err := save(s.podDir(p.ID), p); err != nil {
			return nil, err
		}
	}
	return &runtimeapi.StopPodSandboxResponse{}, nil
}

// RemovePodSandbox stops the sandbox and forgets it with its containers.
func (s *Server) RemovePodSandbox(
	ctx context.Context, r *runtimeapi.RemovePodSandboxRequest,
) (*runtimeapi.RemovePodSandboxResponse, error) {
	if _, err := s.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: r.PodSandboxId}); err != nil {
		return nil, err
	}
	for _, id := range s.inPod(r.PodSandboxId) {
		if _, err := s.RemoveContainer(ctx, &runtimeapi.RemoveContainerRequest{ContainerId: id}); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.findPod(r.PodSandboxId); p != nil {
		delete(s.pods, p.ID)
		return &runtimeapi.RemovePodSandboxResponse{}, os.RemoveAll(s.podDir(p.ID))
	}
	return &runtimeapi.RemovePodSandboxResponse{}, nil
}

// PodSandboxStatus describes one sandbox.
func (s *Server) PodSandboxStatus(
	_ context.Context, r *runtimeapi.PodSandboxStatusRequest,
) (*runtimeapi.PodSandboxStatusResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.findPod(r.PodSandboxId)
	if p == nil {
		return nil, status.Errorf(codes.NotFound, "an error occurred when try to find sandbox: not found: %s",
			r.PodSandboxId)
	}
	return &runtimeapi.PodSandboxStatusResponse{Status: &runtimeapi.PodSandboxStatus{
		Id: p.ID, Metadata: p.Config.Metadata, State: s.podState(p), CreatedAt: p.CreatedAt,
		Labels: p.Config.Labels, Annotations: p.Config.Annotations,
	}}, nil
}

// ListPodSandbox lists the sandboxes that match the filter.
func (s *Server) ListPodSandbox(
	_ context.Context, r *runtimeapi.ListPodSandboxRequest,
) (*runtimeapi.ListPodSandboxResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	reply := &runtimeapi.ListPodSandboxResponse{}
	for _, p := range s.pods {
		state := s.podState(p)
		if f := r.Filter; f != nil && (!strings.HasPrefix(p.ID, f.Id) ||
			f.State != nil && f.State.State != state || !selects(f.LabelSelector, p.Config.Labels)) {
			continue
		}
		reply.Items = append(reply.Items, &runtimeapi.PodSandbox{
			Id: p.ID, Metadata: p.Config.Metadata, State: state, CreatedAt: p.CreatedAt,
			Labels: p.Config.Labels, Annotations: p.Config.Annotations,
		})
	}
	return reply, nil
}

// inPod lists the ids of a sandbox's containers.
func (s *Server) inPod(sandbox string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.findPod(sandbox)
	if p == nil {
		return nil
	}
	var ids []string
	for _, c := range s.containers {
		if c.SandboxID == p.ID {
			ids = append(ids, c.ID)
		}
	}
	return ids
}

// findPod accepts an id or an unambiguous prefix of one. The caller holds the lock.
func (s *Server) findPod(id string) *pod { return find(s.pods, id) }

// findContainer is findPod for containers.
func (s *Server) findContainer(id string) *container { return find(s.containers, id) }

func find[T any](all map[string]*T, id string) *T {
	if exact := all[id]; exact != nil || id == "" {
		return exact
	}
	var only *T
	for key, record := range all {
		if strings.HasPrefix(key, id) {
			if only != nil {
				return nil
			}
			only = record
		}
	}
	return only
}

func selects(selector, labels map[string]string) bool {
	for key, value := range selector {
		if got, ok := labels[key]; !ok || got != value {
			return false
		}
	}
	return true
}
