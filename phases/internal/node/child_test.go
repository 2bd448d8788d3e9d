package node

import (
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
	"time"
)

// The test starts itself once more, in a process group of its own: somebody presses Ctrl-C there
// all the time, as at a terminal.
func TestAChildThatACtrlCEndsBeforeItIsTheProgramIsStartedAgain(t *testing.T) {
	const pressed = "ETCDPOD_TEST_PRESSED"
	if os.Getenv(pressed) != "" {
		startWhilePressed(t)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), pressed+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func startWhilePressed(t *testing.T) {
	signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(300 * time.Microsecond):
				_ = syscall.Kill(0, syscall.SIGINT)
			}
		}
	}()
	const children = 1000
	for range children {
		cmd, err := start(func() (*exec.Cmd, error) {
			cmd := exec.Command("true")
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			return cmd, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("a child ended: %v", err)
		}
	}
	close(stop)
	<-stopped
}

// A program that ran is not run again, however it ended.
func TestAProgramThatEndsByAnInterruptIsNotStartedAgain(t *testing.T) {
	begun := 0
	cmd, err := start(func() (*exec.Cmd, error) {
		begun++
		cmd := exec.Command("sh", "-c", "kill -INT $$")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		return cmd, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || begun != 1 {
		t.Errorf("%d are started: %v", begun, err)
	}
}
