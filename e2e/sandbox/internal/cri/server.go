// Package cri is a stand-in for a container runtime: a CRI v1 server whose containers are plain
// processes of this machine.
//
// It stands in for what the kubelet and etcdpod need from containerd: pod sandboxes and containers
// with their labels and attempts, which survive the runtime and are known again when it restarts;
// exits, graceful stops, logs, and which images are there. It isolates nothing: there are no
// namespaces, cgroups or image contents. For
// a host path mount it rewrites arguments and variables below the container path, but not the
// contents of configuration files. It ignores the command's first word: the image decides which
// binary runs. A log holds the plain output, without CRI's prefixes.
package cri

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Socket is the host path of the runtime's socket, the same as containerd's.
const Socket = "/run/containerd/containerd.sock"

// Images is the host path of the map from image names to the binaries that stand
// in for them, as JSON.
const Images = "/sandbox/images.json"

// Registry is the map of the images that can be pulled, in the same form; without it there are
// none.
const Registry = "/sandbox/registry.json"

// SandboxImage is the image of every sandbox. No program stands in for it, but where Images has it
// with an empty path no sandbox can be made.
const SandboxImage = "registry.k8s.io/pause:3.10"

// Server is the runtime of the node at one root.
type Server struct {
	runtimeapi.UnimplementedRuntimeServiceServer
	runtimeapi.UnimplementedImageServiceServer
	root string
	log  *log.Logger

	mu         sync.Mutex
	boot       string
	containers map[string]*container
	pods       map[string]*pod
	// Containers that are this process's children and have not been reaped.
	waiting map[string]bool
}

// Serve runs the runtime until ctx ends. Its containers keep running.
func Serve(ctx context.Context, root string, logger *log.Logger) error {
	s := &Server{root: root, log: logger, containers: map[string]*container{},
		pods: map[string]*pod{}, waiting: map[string]bool{}}
	socket := filepath.Join(root, Socket)
	if err := os.MkdirAll(filepath.Dir(socket), 0o711); err != nil {
		return err
	}
	unlock, err := lock(socket + ".lock")
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.load(); err != nil {
		return err
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	runtimeapi.RegisterRuntimeServiceServer(server, s)
	runtimeapi.RegisterImageServiceServer(server, s)
	stop := context.AfterFunc(ctx, server.Stop)
	defer stop()
	return server.Serve(listener)
}

// lock allows only one runtime for a root.
func lock(path string) (func(), error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		file.Close()
		return nil, errors.New("another runtime serves this root")
	}
	return func() { file.Close() }, nil
}

// newID returns 64 hexadecimal digits, like containerd's ids.
func newID() string {
	var id [32]byte
	rand.Read(id[:])
	return hex.EncodeToString(id[:])
}

// Version names the runtime.
func (s *Server) Version(context.Context, *runtimeapi.VersionRequest) (*runtimeapi.VersionResponse, error) {
	return &runtimeapi.VersionResponse{Version: "0.1.0", RuntimeName: "standin",
		RuntimeVersion: "1.0.0", RuntimeApiVersion: "v1"}, nil
}

// Status says that the runtime is ready; verbose adds which image sandboxes are made from, as
// containerd 1 does.
func (s *Server) Status(_ context.Context, r *runtimeapi.StatusRequest) (*runtimeapi.StatusResponse, error) {
	reply := &runtimeapi.StatusResponse{Status: &runtimeapi.RuntimeStatus{Conditions: []*runtimeapi.RuntimeCondition{
		{Type: runtimeapi.RuntimeReady, Status: true},
		{Type: runtimeapi.NetworkReady, Status: true},
	}}}
	if r.Verbose {
		reply.Info = map[string]string{"config": fmt.Sprintf(`{"sandboxImage":%q}`, SandboxImage)}
	}
	return reply, nil
}

// RuntimeConfig names the cgroup driver, though there are no cgroups.
func (s *Server) RuntimeConfig(
	context.Context, *runtimeapi.RuntimeConfigRequest,
) (*runtimeapi.RuntimeConfigResponse, error) {
	return &runtimeapi.RuntimeConfigResponse{
		Linux: &runtimeapi.LinuxRuntimeConfiguration{CgroupDriver: runtimeapi.CgroupDriver_CGROUPFS},
	}, nil
}
