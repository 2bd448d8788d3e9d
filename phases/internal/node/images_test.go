package node_test

import (
	"context"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// fakeImages is a container runtime with one image, and one container that has ended.
type fakeImages struct {
	cri.UnimplementedRuntimeServiceServer
	cri.UnimplementedImageServiceServer
}

func (fakeImages) ImageStatus(_ context.Context, r *cri.ImageStatusRequest) (*cri.ImageStatusResponse, error) {
	if r.Image.Image != "registry:5000/etcd:latest" {
		return &cri.ImageStatusResponse{}, nil
	}
	return &cri.ImageStatusResponse{
		Image: &cri.Image{Id: "sha256:abc",
			RepoTags: []string{"registry:5000/etcd:latest", "registry:5000/etcd:3.6.5"}},
		Info: map[string]string{"info": `{"imageSpec":{"config":{"Labels":` +
			`{"org.opencontainers.image.version":"3.6.4"}}}}`},
	}, nil
}

func (fakeImages) PullImage(_ context.Context, r *cri.PullImageRequest) (*cri.PullImageResponse, error) {
	if r.Image.Image != "registry:5000/etcd:latest" {
		return nil, status.Error(codes.NotFound, "manifest unknown")
	}
	return &cri.PullImageResponse{ImageRef: "sha256:abc"}, nil
}

func (fakeImages) Status(_ context.Context, r *cri.StatusRequest) (*cri.StatusResponse, error) {
	if !r.Verbose {
		return &cri.StatusResponse{}, nil
	}
	return &cri.StatusResponse{Info: map[string]string{"config": `{"sandboxImage":"pause:3.10","x":1}`}}, nil
}

func (fakeImages) ContainerStatus(
	_ context.Context, r *cri.ContainerStatusRequest,
) (*cri.ContainerStatusResponse, error) {
	s := &cri.ContainerStatus{Id: r.ContainerId, State: cri.ContainerState_CONTAINER_RUNNING,
		LogPath: "/var/logs/" + r.ContainerId + "/0.log"}
	if r.ContainerId == "ended" {
		s.State, s.ExitCode, s.Reason = cri.ContainerState_CONTAINER_EXITED, 137, "OOMKilled"
		s.Message = "no more"
		s.StartedAt, s.FinishedAt = 1, 1+int64(40*time.Second)
	}
	return &cri.ContainerStatusResponse{Status: s}, nil
}

// fakeContainerd2 tells what sandboxes are made from by what it keeps pinned alone.
type fakeContainerd2 struct {
	cri.UnimplementedRuntimeServiceServer
	cri.UnimplementedImageServiceServer
	images []*cri.Image
}

func (fakeContainerd2) Status(context.Context, *cri.StatusRequest) (*cri.StatusResponse, error) {
	return &cri.StatusResponse{Info: map[string]string{"config": `{"containerd":{"defaultRuntimeName":"runc"}}`}}, nil
}

func (f fakeContainerd2) ListImages(context.Context, *cri.ListImagesRequest) (*cri.ListImagesResponse, error) {
	return &cri.ListImagesResponse{Images: f.images}, nil
}

func TestTheSandboxesImageIsTheOneThatIsPinnedWhereTheRuntimeDoesNotTell(t *testing.T) {
	etcd := &cri.Image{Id: "sha256:1", RepoTags: []string{"etcd:3.7.0-0"}}
	pause := &cri.Image{Id: "sha256:2", RepoTags: []string{"pause:3.10.2"}, Pinned: true}
	byDigest := &cri.Image{Id: "sha256:3", RepoDigests: []string{"pause@sha256:4"}, Pinned: true}
	nameless := &cri.Image{Id: "sha256:5", Pinned: true} // its name was removed
	for name, c := range map[string]struct {
		images []*cri.Image
		want   string
	}{
		"it is pinned":        {[]*cri.Image{etcd, pause}, "pause:3.10.2"},
		"its digest is left":  {[]*cri.Image{etcd, byDigest, nameless}, ""},
		"it lost its name":    {[]*cri.Image{etcd, nameless}, ""},
		"nothing is pinned":   {[]*cri.Image{etcd}, ""},
		"several are pinned":  {[]*cri.Image{pause, byDigest}, ""},
		"there are no images": {nil, ""},
	} {
		root := shortDir(t)
		listener, err := net.Listen("unix", filepath.Join(root, "s"))
		ok(t, err)
		server := grpc.NewServer()
		fake := fakeContainerd2{images: c.images}
		cri.RegisterRuntimeServiceServer(server, fake)
		cri.RegisterImageServiceServer(server, fake)
		go func() { _ = server.Serve(listener) }()
		t.Cleanup(server.Stop)
		if got, err := node.CRI("unix:///s", node.OS(root)).SandboxImage(t.Context()); err != nil || got != c.want {
			t.Errorf("%s: sandboxes are made from %q, not %q; %v", name, got, c.want, err)
		}
	}
}

func TestTheRuntimeIsAskedForImagesAndHowContainersEnded(t *testing.T) {
	root := shortDir(t)
	listener, err := net.Listen("unix", filepath.Join(root, "s"))
	ok(t, err)
	server := grpc.NewServer()
	cri.RegisterRuntimeServiceServer(server, fakeImages{})
	cri.RegisterImageServiceServer(server, fakeImages{})
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	r := node.CRI("unix:///s", node.OS(root))
	here, err := r.Image(t.Context(), "registry:5000/etcd") // with the tag that the kubelet adds
	ok(t, err)
	if !here.Present || here.Version != "3.6.4" || !slices.Contains(here.Tags, "registry:5000/etcd:3.6.5") {
		t.Errorf("it is %+v", here)
	}
	for _, name := range []string{"registry:5000/etcd:3.6.5", "etcd@sha256:abc"} {
		if gone, err := r.Image(t.Context(), name); err != nil || gone.Present {
			t.Errorf("%s: %+v, %v", name, gone, err)
		}
	}
	never := func(time.Duration) { t.Error("it took long") }
	if err := r.Pull(t.Context(), "registry:5000/etcd", time.Minute, never); err != nil {
		t.Error(err)
	}
	if err := r.Pull(t.Context(), "etcd:9", time.Minute, never); err == nil ||
		!strings.Contains(err.Error(), "cannot pull the image etcd:9: ") ||
		!strings.Contains(err.Error(), "manifest unknown") {
		t.Errorf("an image that nobody has: %v", err)
	}
	if pause, err := r.SandboxImage(t.Context()); err != nil || pause != "pause:3.10" {
		t.Errorf("sandboxes are made from %q, %v", pause, err)
	}
	exit, ended, err := r.Exit(t.Context(), "ended")
	want := node.Exit{Code: 137, Reason: "OOMKilled", Text: "no more", Ran: 40 * time.Second}
	if err != nil || !ended || exit != want {
		t.Errorf("it ended with %+v, %v, %v", exit, ended, err)
	}
	if _, ended, err := r.Exit(t.Context(), "runs"); err != nil || ended {
		t.Errorf("one that runs has ended: %v, %v", ended, err)
	}
	if file, err := r.LogFile(t.Context(), "runs"); err != nil || file != "/var/logs/runs/0.log" {
		t.Errorf("its log is %q, %v", file, err)
	}
}

// A runtime of which only half answers, as an old one may.
func TestARuntimeWithoutImagesSaysSo(t *testing.T) {
	root := shortDir(t)
	serve(t, filepath.Join(root, "s"), &fakeCRI{})
	r := node.CRI("unix:///s", node.OS(root))
	if i, err := r.Image(t.Context(), "x"); err == nil {
		t.Errorf("it answers %+v", i)
	}
	if i, err := r.SandboxImage(t.Context()); err == nil {
		t.Errorf("it answers %q", i)
	}
}
