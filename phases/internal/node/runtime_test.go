package node_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// fakeCRI is a container runtime with the containers that a test gives it.
type fakeCRI struct {
	cri.UnimplementedRuntimeServiceServer
	mu         sync.Mutex
	containers []*cri.Container
	stopped    map[string]int64
	removed    []string
}

func (s *fakeCRI) ListContainers(context.Context, *cri.ListContainersRequest) (*cri.ListContainersResponse, error) {
	return &cri.ListContainersResponse{Containers: s.containers}, nil
}

func (s *fakeCRI) find(id string) (*cri.Container, error) {
	for _, c := range s.containers {
		if c.Id == id {
			return c, nil
		}
	}
	return nil, status.Error(codes.NotFound, "no such container")
}

func (s *fakeCRI) ContainerStatus(
	_ context.Context, r *cri.ContainerStatusRequest,
) (*cri.ContainerStatusResponse, error) {
	c, err := s.find(r.ContainerId)
	if err != nil {
		return nil, err
	}
	return &cri.ContainerStatusResponse{Status: &cri.ContainerStatus{Id: c.Id, State: c.State}}, nil
}

func (s *fakeCRI) StopContainer(ctx context.Context, r *cri.StopContainerRequest) (*cri.StopContainerResponse, error) {
	if r.ContainerId == "hangs" { // until the caller has gone
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if _, err := s.find(r.ContainerId); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped[r.ContainerId] = r.Timeout
	return &cri.StopContainerResponse{}, nil
}

func (s *fakeCRI) RemoveContainer(
	_ context.Context, r *cri.RemoveContainerRequest,
) (*cri.RemoveContainerResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.removed = append(s.removed, r.ContainerId)
	return &cri.RemoveContainerResponse{}, nil
}

func serve(t *testing.T, socket string, service cri.RuntimeServiceServer) *grpc.Server {
	t.Helper()
	listener, err := net.Listen("unix", socket)
	ok(t, err)
	server := grpc.NewServer()
	if service != nil {
		cri.RegisterRuntimeServiceServer(server, service)
	}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return server
}

func TestContainersAreListedAsTheKubeletLabelledThem(t *testing.T) {
	root := shortDir(t)
	made := time.Unix(1700000000, 5)
	serve(t, filepath.Join(root, "s"), &fakeCRI{containers: []*cri.Container{
		{Id: "1", State: cri.ContainerState_CONTAINER_RUNNING,
			CreatedAt: made.UnixNano(), Metadata: &cri.ContainerMetadata{Name: "etcd", Attempt: 3},
			Image: &cri.ImageSpec{Image: "sha256:abc", UserSpecifiedImage: "registry.k8s.io/etcd:3.6.16-0"},
			Labels: map[string]string{
				"io.kubernetes.container.name": "etcd", "io.kubernetes.pod.name": "etcd-cp1",
				"io.kubernetes.pod.namespace": "kube-system", "io.kubernetes.pod.uid": "u"}},
		{Id: "2", State: cri.ContainerState_CONTAINER_CREATED,
			Metadata: &cri.ContainerMetadata{Name: "by-hand"}, Image: &cri.ImageSpec{Image: "sha256:def"}},
		{Id: "3", State: cri.ContainerState_CONTAINER_EXITED}, {Id: "4", State: cri.ContainerState_CONTAINER_UNKNOWN},
	}})
	got, err := node.CRI("unix:///s", node.OS(root)).Containers(t.Context())
	ok(t, err)
	if len(got) != 4 {
		t.Fatalf("got %+v", got)
	}
	if want := (node.Container{ID: "1", Name: "etcd", Pod: "etcd-cp1",
		Namespace: "kube-system", PodUID: "u", State: "running", Attempt: 3,
		Image: "registry.k8s.io/etcd:3.6.16-0", CreatedAt: made}); got[0] != want {
		t.Errorf("got %+v, want %+v", got[0], want)
	}
	if c := got[1]; c.Name != "by-hand" || c.State != "created" || c.Image != "sha256:def" {
		t.Errorf("a container that the kubelet did not make is %+v", c)
	}
	if got[2].State != "exited" || got[3].State != "unknown" {
		t.Errorf("states are %s and %s", got[2].State, got[3].State)
	}
}

// bootingCRI is a containerd that was started just now: it listens, and knows no container yet.
type bootingCRI struct {
	*fakeCRI
	refuses int
	as      codes.Code
}

func (s *bootingCRI) ListContainers(
	ctx context.Context, r *cri.ListContainersRequest,
) (*cri.ListContainersResponse, error) {
	if s.refuses--; s.refuses >= 0 {
		return nil, status.Error(s.as, "server is not initialized yet")
	}
	return s.fakeCRI.ListContainers(ctx, r)
}

func TestARuntimeThatIsStartingIsWaitedFor(t *testing.T) {
	for _, as := range []codes.Code{codes.Unknown, codes.Unavailable} { // containerd 1 and 2
		root := shortDir(t)
		serve(t, filepath.Join(root, "s"), &bootingCRI{refuses: 3, as: as,
			fakeCRI: &fakeCRI{containers: []*cri.Container{{Id: "1"}}}})
		got, err := node.CRI("unix:///s", node.OS(root)).Containers(t.Context())
		if err != nil || len(got) != 1 {
			t.Errorf("%v: %v, %v", as, got, err)
		}
	}
}

func TestContainersAreStoppedAndRemoved(t *testing.T) {
	root := shortDir(t)
	fake := &fakeCRI{stopped: map[string]int64{}, containers: []*cri.Container{
		{Id: "runs", State: cri.ContainerState_CONTAINER_RUNNING},
		{Id: "made", State: cri.ContainerState_CONTAINER_CREATED},
		{Id: "ended", State: cri.ContainerState_CONTAINER_EXITED}}}
	serve(t, filepath.Join(root, "s"), fake)
	r := node.CRI("unix:///s", node.OS(root))
	ok(t, r.StopContainer(t.Context(), "runs", 1500*time.Millisecond))
	ok(t, r.StopContainer(t.Context(), "made", 0))
	ok(t, r.StopContainer(t.Context(), "gone", time.Second))
	if fake.stopped["runs"] != 2 || fake.stopped["made"] != 0 || len(fake.stopped) != 2 {
		t.Errorf("stopped %v", fake.stopped)
	}
	for _, id := range []string{"made", "ended", "gone"} {
		ok(t, r.RemoveContainer(t.Context(), id))
	}
	checkError(t, r.RemoveContainer(t.Context(), "runs"), "cannot remove container runs: its state is running", "")
	if got := strings.Join(fake.removed, " "); got != "made ended" {
		t.Errorf("removed %s", got)
	}
}

func TestARuntimeThatCannotBeReached(t *testing.T) {
	root := shortDir(t)
	ok(t, os.WriteFile(filepath.Join(root, "file"), nil, 0o600))
	serve(t, filepath.Join(root, "old"), nil)
	for _, c := range []struct{ name, endpoint, want string }{
		{"no socket", "unix:///run/none.sock",
			"cannot list the containers: cannot reach the container runtime at unix:///run/none.sock: no such socket"},
		{"nobody listens", "unix:///file", "cannot reach the container runtime at unix:///file: nothing listens there"},
		{"not a socket's address", "tcp://127.0.0.1:1",
			"cannot reach the container runtime at tcp://127.0.0.1:1: not a unix socket"},
		{"no CRI v1", "unix:///old", "the container runtime at unix:///old does not speak CRI v1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := node.CRI(c.endpoint, node.OS(root)).Containers(t.Context())
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want %s", err, c.want)
			}
		})
	}
}

func TestARuntimeThatWasRestartedIsReachedAtOnce(t *testing.T) {
	root := shortDir(t)
	r := node.CRI("unix:///s", node.OS(root))
	for range 2 {
		server := serve(t, filepath.Join(root, "s"), &fakeCRI{})
		_, err := r.Containers(t.Context())
		ok(t, err)
		server.Stop()
		_, err = r.Containers(t.Context())
		if err == nil || !strings.Contains(err.Error(), "no such socket") {
			t.Errorf("error is %v", err)
		}
	}
}

func TestTheCallersDeadlineEndsACall(t *testing.T) {
	root := shortDir(t)
	serve(t, filepath.Join(root, "s"), &fakeCRI{})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := node.CRI("unix:///s", node.OS(root)).StopContainer(ctx, "hangs", 24*time.Hour)
	if status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("error is %v", err)
	}
}

func TestASocketWithALongNameIsDialled(t *testing.T) {
	root := filepath.Join(shortDir(t), strings.Repeat("long/", 30))
	ok(t, os.MkdirAll(root, 0o755))
	short := shortDir(t)
	ok(t, os.Symlink(root, filepath.Join(short, "l")))
	serve(t, filepath.Join(short, "l/s"), &fakeCRI{})
	_, err := node.CRI("unix:///s", node.OS(root)).Containers(t.Context())
	ok(t, err)
}
