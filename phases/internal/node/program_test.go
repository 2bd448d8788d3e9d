package node

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Anybody can start a program of the name etcd beside a link to etcd's data.
func TestAProgramThatOthersCouldChangeIsNotTakenForEtcds(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "etcd")
	if err := os.WriteFile(program, data, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-test.run", "TestHelperHeld")
	cmd.Env = append(os.Environ(), "ETCDPOD_HELD=1")
	hold, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	tried := func(mode os.FileMode, owner int) error {
		if err := os.Chmod(program, mode); err != nil {
			t.Fatal(err)
		}
		if owner > 0 {
			if err := os.Chown(program, owner, owner); err != nil {
				t.Fatal(err)
			}
		}
		_, _, closed, err := EtcdProgram(cmd.Process.Pid)
		if err == nil {
			_ = closed()
		}
		return err
	}
	if err := tried(0o755, 0); err != nil {
		t.Errorf("its own: %v", err)
	}
	if err := tried(0o775, 0); err == nil || !strings.Contains(err.Error(), "alone") {
		t.Errorf("one that a group may write to: %v", err)
	}
	if os.Geteuid() != 0 {
		return
	}
	if err := tried(0o755, 65534); err == nil || !strings.Contains(err.Error(), "alone") {
		t.Errorf("that of somebody else: %v", err)
	}
}

func TestHelperHeld(t *testing.T) {
	if os.Getenv("ETCDPOD_HELD") == "" {
		t.Skip("it is started by others")
	}
	_, _ = os.Stdin.Read(make([]byte, 1))
}
