package node_test

import (
	"runtime"
	"syscall"
	"testing"
)

// inOwnMounts runs do on a thread whose mounts nobody else sees; the thread ends with it.
func inOwnMounts(t *testing.T, do func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the runtime then ends the thread
		err := syscall.Unshare(syscall.CLONE_NEWNS)
		if err == nil {
			err = syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "")
		}
		if err == nil {
			do()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Skipf("cannot have mounts of its own: %v", err)
	}
}
