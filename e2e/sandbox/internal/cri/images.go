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
	data, err := os.ReadFile(filepath.Join(s.root, Images))
	if err != nil {
		return nil, err
	}
	var images map[string]string
	if err := json.Unmarshal(data, &images); err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", Images, err)
	}
	if _, told := images[SandboxImage]; !told {
		images[SandboxImage] = "none"
	}
	return images, nil
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
