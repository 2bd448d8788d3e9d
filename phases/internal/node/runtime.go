package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	callWait    = 10 * time.Second
	stopWait    = 20 * time.Second // beyond the grace: for the kill, and for a busy runtime
	startPause  = 100 * time.Millisecond
	maxAnswer   = 16 << 20 // bytes; what the kubelet allows (pkg/kubelet/cri-client)
	longestName = 107      // bytes of a socket's path in sun_path, without the final NUL
)

// CRI returns the container runtime at an endpoint such as
// unix:///run/containerd/containerd.sock, a host path of f. It dials at each call, with a time
// limit of its own, so a runtime may restart between calls.
func CRI(endpoint string, f Reader) Runtime { return runtime{endpoint: endpoint, fs: f} }

type runtime struct {
	endpoint string
	fs       Reader
}

func (r runtime) Containers(ctx context.Context) ([]Container, error) {
	var containers []Container
	err := r.call(ctx, callWait, func(ctx context.Context, c cri.RuntimeServiceClient) error {
		answer, err := c.ListContainers(ctx, &cri.ListContainersRequest{})
		if err != nil {
			return err
		}
		for _, one := range answer.Containers {
			containers = append(containers, container(one))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot list the containers: %w", err)
	}
	return containers, nil
}

// container reads the kubelet's labels (k8s.io/kubelet/pkg/types); a container made by anyone else
// has only the runtime's name.
func container(c *cri.Container) Container {
	name := c.Labels["io.kubernetes.container.name"]
	if name == "" {
		name = c.GetMetadata().GetName()
	}
	image := c.GetImage().GetUserSpecifiedImage()
	if image == "" {
		image = c.GetImage().GetImage()
	}
	return Container{
		ID:        c.Id,
		Name:      name,
		Pod:       c.Labels["io.kubernetes.pod.name"],
		Namespace: c.Labels["io.kubernetes.pod.namespace"],
		PodUID:    c.Labels["io.kubernetes.pod.uid"],
		State:     state(c.State),
		Attempt:   c.GetMetadata().GetAttempt(),
		Image:     image,
		CreatedAt: time.Unix(0, c.CreatedAt),
	}
}

func state(s cri.ContainerState) string {
	switch s {
	case cri.ContainerState_CONTAINER_CREATED:
		return "created"
	case cri.ContainerState_CONTAINER_RUNNING:
		return "running"
	case cri.ContainerState_CONTAINER_EXITED:
		return "exited"
	default:
		return "unknown"
	}
}

func (r runtime) StopContainer(ctx context.Context, id string, grace time.Duration) error {
	seconds := int64((max(grace, 0) + time.Second - 1) / time.Second)
	err := r.call(ctx, max(grace, 0)+stopWait, func(ctx context.Context, c cri.RuntimeServiceClient) error {
		_, err := c.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: id, Timeout: seconds})
		return err
	})
	if err != nil && status.Code(err) != codes.NotFound {
		return fmt.Errorf("cannot stop container %s: %w", id, err)
	}
	return nil
}

func (r runtime) RemoveContainer(ctx context.Context, id string) error {
	err := r.call(ctx, callWait, func(ctx context.Context, c cri.RuntimeServiceClient) error {
		// CRI would kill a running container.
		answer, err := c.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: id})
		if err != nil {
			return err
		}
		if s := state(answer.GetStatus().GetState()); s != "created" && s != "exited" {
			return fmt.Errorf("its state is %s", s)
		}
		_, err = c.RemoveContainer(ctx, &cri.RemoveContainerRequest{ContainerId: id})
		return err
	})
	if err != nil && status.Code(err) != codes.NotFound {
		return fmt.Errorf("cannot remove container %s: %w", id, err)
	}
	return nil
}

// call connects, calls and disconnects within limit.
func (r runtime) call(
	ctx context.Context, limit time.Duration, do func(context.Context, cri.RuntimeServiceClient) error,
) error {
	return r.connect(ctx, limit, func(ctx context.Context, conn *grpc.ClientConn) error {
		return do(ctx, cri.NewRuntimeServiceClient(conn))
	})
}

func (r runtime) connect(
	ctx context.Context, limit time.Duration, do func(context.Context, *grpc.ClientConn) error,
) error {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	first, err := r.dial(limited)
	if err != nil {
		return fmt.Errorf("cannot reach the container runtime at %s: %w", r.endpoint, err)
	}
	defer first.Close()
	var once sync.Once
	conn, err := grpc.NewClient("passthrough:///localhost",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			conn := net.Conn(nil)
			once.Do(func() { conn = first })
			if conn != nil {
				return conn, nil
			}
			return r.dial(ctx)
		}))
	if err != nil {
		return err
	}
	defer conn.Close()
	for err = do(limited, conn); starting(err) && limited.Err() == nil; err = do(limited, conn) {
		_ = WallClock().Sleep(limited, startPause) // the loop sees that the time is over
	}
	if err != nil && ctx.Err() == nil && limited.Err() != nil {
		return fmt.Errorf("the container runtime has not answered after %s", limit)
	}
	if status.Code(err) == codes.Unimplemented {
		return fmt.Errorf("the container runtime at %s does not speak CRI v1: %w", r.endpoint, err)
	}
	return err
}

// starting says that containerd listens already, and has not looked yet for what ran before it was
// started: after a boot, that takes a moment (containerd, cri/instrument: checkInitialized).
func starting(err error) bool {
	return err != nil && strings.Contains(status.Convert(err).Message(), "not initialized yet")
}

func (r runtime) dial(ctx context.Context) (net.Conn, error) {
	path, ok := strings.CutPrefix(r.endpoint, "unix://")
	if !ok || !filepath.IsAbs(path) {
		return nil, errors.New("not a unix socket")
	}
	return dialSocket(ctx, r.fs, path)
}

// dialSocket connects to a socket at a host path of f, however long.
func dialSocket(ctx context.Context, f Reader, path string) (net.Conn, error) {
	path, err := f.Resolve(path)
	if err != nil {
		return nil, reason(err)
	}
	path = f.Real(path)
	if len(path) > longestName {
		dir, err := os.OpenFile(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return nil, reason(err)
		}
		defer dir.Close()
		path = fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path))
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	return conn, reason(err)
}

// reason says why a socket cannot be dialled.
func reason(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("no such socket (%w)", syscall.ENOENT)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("nothing listens there (%w)", syscall.ECONNREFUSED)
	}
	return errno(err)
}
