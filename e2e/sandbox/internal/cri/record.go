package cri

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/etcdpod/etcdpod/e2e/sandbox/internal/proc"
)

// container is the record of a container below /var/lib/containerd, where it survives the
// runtime and a reboot.
type container struct {
	ID         string                      `json:"id"`
	SandboxID  string                      `json:"sandboxID"`
	Config     *runtimeapi.ContainerConfig `json:"config"`
	Log        string                      `json:"log"` // host path
	CreatedAt  int64                       `json:"createdAt"`
	StartedAt  int64                       `json:"startedAt"`
	FinishedAt int64                       `json:"finishedAt"`
	ExitCode   int32                       `json:"exitCode"`
	Process    proc.Identity               `json:"process"`
	Boot       string                      `json:"boot"` // the boot in which it started
}

// pod is the record of a pod sandbox.
type pod struct {
	ID        string                       `json:"id"`
	Config    *runtimeapi.PodSandboxConfig `json:"config"`
	CreatedAt int64                        `json:"createdAt"`
	Stopped   bool                         `json:"stopped"`
	Boot      string                       `json:"boot"`
}

const (
	stateDir = "var/lib/containerd/standin"
	bootFile = "run/containerd/standin.boot"
)

func (s *Server) containerDir(id string) string {
	return filepath.Join(s.root, stateDir, "containers", id)
}
func (s *Server) podDir(id string) string { return filepath.Join(s.root, stateDir, "pods", id) }

// load reads what earlier runtimes left, and finds out which boot of the node this is: /run is
// empty after a reboot.
func (s *Server) load() error {
	boot, err := os.ReadFile(filepath.Join(s.root, bootFile))
	if os.IsNotExist(err) {
		boot = []byte(newID())
		err = os.WriteFile(filepath.Join(s.root, bootFile), boot, 0o600)
	}
	if err != nil {
		return err
	}
	s.boot = string(boot)
	if err := loadAll(filepath.Join(s.root, stateDir, "containers"), s.containers); err != nil {
		return err
	}
	return loadAll(filepath.Join(s.root, stateDir, "pods"), s.pods)
}

func loadAll[T any](dir string, into map[string]*T) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		data, err := os.ReadFile(filepath.Join(dir, entry.Name(), "state.json"))
		if os.IsNotExist(err) {
			continue // killed before its first write
		}
		if err != nil {
			return err
		}
		record := new(T)
		if err := json.Unmarshal(data, record); err != nil {
			return fmt.Errorf("cannot read the state of %s: %w", entry.Name(), err)
		}
		into[entry.Name()] = record
	}
	return nil
}

func save(dir string, record any) error {
	data, err := json.Marshal(record)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	temp := filepath.Join(dir, ".state.json")
	if err := os.WriteFile(temp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, filepath.Join(dir, "state.json"))
}

// state returns the container's current state. A container that ended while nobody waited gets the
// exit code 255, as with containerd. The caller holds the lock.
func (s *Server) state(c *container) runtimeapi.ContainerState {
	switch {
	case c.StartedAt == 0:
		return runtimeapi.ContainerState_CONTAINER_CREATED
	case c.FinishedAt != 0:
		return runtimeapi.ContainerState_CONTAINER_EXITED
	case c.Boot == s.boot && (s.waiting[c.ID] || c.Process.Alive()):
		return runtimeapi.ContainerState_CONTAINER_RUNNING
	}
	s.finish(c, 255)
	return runtimeapi.ContainerState_CONTAINER_EXITED
}

func (s *Server) finish(c *container, code int) {
	c.FinishedAt, c.ExitCode = time.Now().UnixNano(), int32(code)
	if err := save(s.containerDir(c.ID), c); err != nil {
		s.log.Printf("cannot keep the end of container %s: %v", c.ID, err)
	}
}

func (s *Server) podState(p *pod) runtimeapi.PodSandboxState {
	if p.Stopped || p.Boot != s.boot {
		return runtimeapi.PodSandboxState_SANDBOX_NOTREADY
	}
	return runtimeapi.PodSandboxState_SANDBOX_READY
}
