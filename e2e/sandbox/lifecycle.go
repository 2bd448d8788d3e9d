package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/etcdpod/etcdpod/e2e/binaries"
	"github.com/etcdpod/etcdpod/e2e/sandbox/internal/cri"
	"github.com/etcdpod/etcdpod/e2e/sandbox/internal/proc"
)

// BuildStandIn builds the standin command into the tests' cache and returns its path, quickly if
// nothing has changed. The variable STANDIN may name one built before.
func BuildStandIn() (string, error) {
	if path := os.Getenv("STANDIN"); path != "" {
		return path, nil
	}
	module, err := binaries.ModuleRoot()
	if err != nil {
		return "", err
	}
	cache, err := binaries.Cache()
	if err != nil {
		return "", err
	}
	path := filepath.Join(cache, "standin")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-o", path, "./e2e/sandbox/standin")
	cmd.Dir = module
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("cannot build standin: %w\n%s", err, out)
	}
	return path, nil
}

// Images maps the manifests' images to the programs that stand in for them.
func (s *Sandbox) Images() map[string]string {
	etcd, err := filepath.Abs(s.options.EtcdBinary)
	if err != nil {
		etcd = s.options.EtcdBinary
	}
	images := map[string]string{s.etcdImage(): etcd}
	for _, name := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
		images[kubeImage(name)] = s.standin
	}
	return images
}

// SandboxImage is the image of pod sandboxes: given to SetImages with an empty path, it is missing.
const SandboxImage = cri.SandboxImage

// SetImages replaces the map of image names to programs. A container with any other
// image cannot be made.
func (s *Sandbox) SetImages(images map[string]string) error {
	data, err := json.MarshalIndent(images, "", "  ")
	if err != nil {
		return err
	}
	return s.write(cri.Images, data, 0o644)
}

// SetRegistry replaces the map of the images that can be pulled.
func (s *Sandbox) SetRegistry(images map[string]string) error {
	data, err := json.MarshalIndent(images, "", "  ")
	if err != nil {
		return err
	}
	return s.write(cri.Registry, data, 0o644)
}

// KubeletStartCommand is a command line that starts the kubelet, unless it runs, and
// returns when it runs.
func (s *Sandbox) KubeletStartCommand() string { return quote(s.kubeletStart()) }

// KubeletStopCommand is a command line that stops the kubelet and returns when it has ended.
func (s *Sandbox) KubeletStopCommand() string { return quote(s.kubeletStop()) }

// KubeletStatusCommand is a command line that exits with 0 when the kubelet runs, else with 3.
func (s *Sandbox) KubeletStatusCommand() string {
	return quote([]string{s.standin, "kubelet-status", "--root", s.Root})
}

func (s *Sandbox) kubeletStart() []string {
	return []string{s.standin, "kubelet-start", "--root", s.Root, "--node", s.Node,
		"--backoff", s.options.Backoff.String(), "--max-backoff", s.options.MaxBackoff.String()}
}

func (s *Sandbox) kubeletStop() []string {
	return []string{s.standin, "kubelet-stop", "--root", s.Root}
}

// quote writes words so that a shell, and etcdpod, splits them back into the same words.
func quote(words []string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	return strings.Join(quoted, " ")
}

// StartKubelet starts the kubelet, if none runs.
func (s *Sandbox) StartKubelet(ctx context.Context) error { return command(ctx, s.kubeletStart()) }

// StopKubelet stops the kubelet and leaves the containers running.
func (s *Sandbox) StopKubelet(ctx context.Context) error { return command(ctx, s.kubeletStop()) }

func command(ctx context.Context, words []string) error {
	if out, err := exec.CommandContext(ctx, words[0], words[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("cannot run %s %s: %w: %s", filepath.Base(words[0]), words[1], err, out)
	}
	return nil
}

func (s *Sandbox) runtimePIDFile() string { return s.Path("/run/containerd/standin.pid") }

// StartRuntime starts the container runtime, if none runs, and returns when it answers. It finds
// containers that still run.
func (s *Sandbox) StartRuntime(ctx context.Context) error {
	if conn, err := net.Dial("unix", s.Path(cri.Socket)); err == nil {
		return conn.Close()
	}
	cmd := exec.Command(s.standin, "runtime", "--root", s.Root)
	log := s.Path("/var/log/containerd.log")
	if err := proc.Start(cmd, s.Root, log); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	id, _ := proc.Identify(cmd.Process.Pid)
	for {
		if conn, err := net.Dial("unix", s.Path(cri.Socket)); err == nil {
			data, err := json.Marshal(id)
			if err != nil {
				return err
			}
			return errors.Join(conn.Close(), os.WriteFile(s.runtimePIDFile(), data, 0o644))
		}
		select {
		case err := <-ended:
			return fmt.Errorf("the runtime ended at once (%v); see %s", err, log)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// StopRuntime stops the container runtime and leaves the containers running.
func (s *Sandbox) StopRuntime() error { return proc.StopDaemon(s.runtimePIDFile()) }

// Crash kills everything on the node at once, including etcdpod, like a power cut, except that the
// kernel still writes its dirty pages. /run is empty afterwards.
func (s *Sandbox) Crash() error {
	if err := proc.KillAll(s.Root); err != nil {
		return err
	}
	return os.RemoveAll(s.Path("/run"))
}

// Reboot is Crash, then the start of the runtime and the kubelet. It does not wait
// for the control plane.
func (s *Sandbox) Reboot(ctx context.Context) error {
	if err := s.Crash(); err != nil {
		return err
	}
	if err := s.StartRuntime(ctx); err != nil {
		return err
	}
	return s.StartKubelet(ctx)
}

// detach shields a process from the terminal's signals.
func detach(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }
