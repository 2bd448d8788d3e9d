package proc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// stopLimit is how long a daemon may take to exit after SIGTERM before it is killed.
const stopLimit = 10 * time.Second

// AsDaemon writes this process's identity to pidFile while run lasts. It fails if the process
// named there still runs.
func AsDaemon(pidFile string, run func() error) error {
	if id, running := Daemon(pidFile); running {
		return fmt.Errorf("process %d runs already", id.PID)
	}
	self, ok := Identify(os.Getpid())
	if !ok {
		return errors.New("cannot find this process in /proc")
	}
	data, err := json.Marshal(self)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(pidFile), 0o755); err != nil {
		return err
	}
	temp := fmt.Sprintf("%s.%d", pidFile, self.PID)
	if err := os.WriteFile(temp, data, 0o644); err != nil {
		return err
	}
	if err := os.Rename(temp, pidFile); err != nil {
		return err
	}
	defer os.Remove(pidFile)
	return run()
}

// Daemon returns the process named in pidFile, and whether it runs.
func Daemon(pidFile string) (Identity, bool) {
	var id Identity
	data, err := os.ReadFile(pidFile)
	if err != nil || json.Unmarshal(data, &id) != nil {
		return Identity{}, false
	}
	return id, id.Alive()
}

// StartDaemon starts this program again with args, marked for root, and returns when it has written
// pidFile. It does nothing if one already runs.
func StartDaemon(ctx context.Context, pidFile, root, log string, args []string) error {
	if _, running := Daemon(pidFile); running {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, args...)
	if err := Start(cmd, root, log); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		if _, running := Daemon(pidFile); running {
			return nil
		}
		select {
		case err := <-ended:
			return fmt.Errorf("%s ended at once (%v); see %s", args[0], err, log)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// StopDaemon ends the process named in pidFile, and returns when it has ended. It is
// no error if none runs.
func StopDaemon(pidFile string) error {
	id, running := Daemon(pidFile)
	if !running {
		return nil
	}
	return End(id, stopLimit)
}
