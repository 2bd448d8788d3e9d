package cri

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// images reads the map of images to programs. The sandboxes' image is there, with no program,
// unless the map says otherwise.
func (s *Server) images() (map[string]string, error) {
	images, err := s.read(Images)
	if err != nil {
		return nil, err
	}
	if _, told := images[SandboxImage]; !told {
		images[SandboxImage] = "none"
	}
	return images, nil
}

func (s *Server) read(name string) (images map[string]string, err error) {
	data, err := os.ReadFile(filepath.Join(s.root, name))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &images); err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", name, err)
	}
	return images, nil
}

// PullImage puts an image of the registry among those that are here.
func (s *Server) PullImage(
	_ context.Context, r *runtimeapi.PullImageRequest,
) (*runtimeapi.PullImageResponse, error) {
	name := r.GetImage().GetImage()
	registry, err := s.read(Registry)
	if registry[name] == "" {
		return nil, status.Errorf(codes.NotFound, "failed to pull image %q: not found (%v)", name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	images, err := s.read(Images)
	if err != nil {
		return nil, err
	}
	images[name] = registry[name]
	data, err := json.Marshal(images)
	if err != nil {
		return nil, err
	}
	temp := filepath.Join(s.root, Images+".new")
	if err := os.WriteFile(temp, data, 0o644); err != nil {
		return nil, err
	}
	return &runtimeapi.PullImageResponse{ImageRef: name}, os.Rename(temp, filepath.Join(s.root, Images))
}

// binary returns the program that stands in for an image. One that is not in the map is not found,
// like one that was never pulled.
func (s *Server) binary(image string) (string, error) {
	images, err := s.images()
	if err != nil {
		return "", err
	}
	if path := images[image]; path != "" {
		return path, nil
	}
	return "", status.Errorf(codes.NotFound, "image %q: not found", image)
}

// ImageStatus describes an image: no image is no error. Names of one program are names of one
// image.
func (s *Server) ImageStatus(
	_ context.Context, r *runtimeapi.ImageStatusRequest,
) (*runtimeapi.ImageStatusResponse, error) {
	images, err := s.images()
	path := images[r.GetImage().GetImage()]
	if err != nil || path == "" {
		return &runtimeapi.ImageStatusResponse{}, err
	}
	image := &runtimeapi.Image{Id: fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(path)))}
	for name, program := range images {
		if program == path {
			image.RepoTags = append(image.RepoTags, name)
		}
	}
	return &runtimeapi.ImageStatusResponse{Image: image}, nil
}
