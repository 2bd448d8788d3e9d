package node

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	goruntime "runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Confined is a program that is only to be looked at: it reaches nobody, takes no more than it is
// given, and ends with whoever started it, however that ends.
type Confined struct {
	Argv   []string              // the path of the program first
	Dir    string                // real path: its working directory
	In     func(io.Writer) error // writes what it reads; nil: it reads nothing
	Memory int64                 // bytes that it may have of its own, without what it maps of files
	File   int64                 // bytes of each file that it may write
}

// Child is a confined program that was started.
type Child struct {
	// Alone says that it has no network but an empty one of its own. Where the kernel grants that
	// to nobody but root, it has that of this machine.
	Alone bool
	// Ended is closed when it has ended, and with it all that it started.
	Ended <-chan struct{}

	pid    int
	said   *lastOutput
	mu     sync.Mutex // held while it is killed or reaped
	reaped bool
	how    string
}

// Confine starts a program. Nothing of this process's environment reaches it: etcd would take its
// settings from there.
func Confine(c Confined) (*Child, error) {
	started := make(chan error)
	ended := make(chan struct{})
	child := &Child{Ended: ended, said: &lastOutput{}}
	go func() {
		goruntime.LockOSThread() // the kernel watches the thread that started it
		defer goruntime.UnlockOSThread()
		cmd, err := c.start(child)
		started <- err
		if err == nil {
			child.await(cmd)
			close(ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", c.Argv[0], reasonOf(err))
	}
	return child, nil
}

func reasonOf(err error) error {
	if path := (*os.PathError)(nil); errors.As(err, &path) {
		return path.Err
	}
	return err
}

// start tries it with a network and processes of its own; for users other than root the kernel
// grants those in a namespace of their own, if at all.
func (c Confined) start(child *Child) (*exec.Cmd, error) {
	apart := uintptr(unix.CLONE_NEWNET | unix.CLONE_NEWPID)
	if os.Geteuid() != 0 {
		apart |= unix.CLONE_NEWUSER
	}
	cmd, err := start(func() (*exec.Cmd, error) { return c.command(child.said, apart) })
	child.Alone = err == nil
	if err != nil {
		cmd, err = start(func() (*exec.Cmd, error) { return c.command(child.said, 0) })
	}
	if err != nil {
		return nil, err
	}
	child.pid = cmd.Process.Pid
	c.limit(child.pid)
	return cmd, nil
}

func (c Confined) command(said io.Writer, apart uintptr) (*exec.Cmd, error) {
	cmd := exec.Command(c.Argv[0], c.Argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = c.Dir, said, said
	cmd.Env = []string{"PATH=/usr/bin:/bin", "GOTRACEBACK=none", fmt.Sprintf("GOMEMLIMIT=%d", c.Memory*3/4)}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL, Cloneflags: apart}
	if apart&unix.CLONE_NEWUSER != 0 {
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}}
	}
	cmd.WaitDelay = time.Second // for what it has started, and has its standard streams
	if c.In != nil {
		stdin, err := cmd.StdinPipe()
		if err != nil {
			return nil, err
		}
		go feed(stdin, c.In)
	}
	return cmd, nil
}

// limit bounds what the program may take. It has only just begun, and so has none of it yet. A core
// would leave on disk what it holds in memory; if memory gets short, it is to go first; and what
// serves on this machine comes before it.
func (c Confined) limit(pid int) {
	set := func(what int, most int64) {
		_ = unix.Prlimit(pid, what, &unix.Rlimit{Cur: uint64(most), Max: uint64(most)}, nil)
	}
	set(unix.RLIMIT_CORE, 0)
	set(unix.RLIMIT_DATA, c.Memory)
	set(unix.RLIMIT_FSIZE, c.File)
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte("1000"), 0)
	const modest = 10
	_ = unix.Setpriority(unix.PRIO_PROCESS, pid, modest)
}

// await returns when the program, and all that it has started, have ended.
func (c *Child) await(cmd *exec.Cmd) {
	for {
		// Not reaped yet: its number is still its own.
		err := unix.Waitid(unix.P_PID, c.pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = unix.Kill(-c.pid, unix.SIGKILL)
	c.reaped = true
	err := cmd.Wait()
	if failed := (*exec.ExitError)(nil); errors.As(err, &failed) {
		c.how = failed.String()
	} else {
		c.how = "exit status 0"
	}
}

// Kill ends the program and all that it has started, and returns when that is over.
func (c *Child) Kill() {
	c.mu.Lock()
	if !c.reaped {
		_ = unix.Kill(-c.pid, unix.SIGKILL)
		_ = unix.Kill(c.pid, unix.SIGKILL)
	}
	c.mu.Unlock()
	<-c.Ended
}

// How says how it ended: "exit status 2", "signal: killed".
func (c *Child) How() string { return c.how }

// Said is the end of what it wrote to its standard streams.
func (c *Child) Said() string { return c.said.text() }

// lastOutput keeps the end of what is written to it.
type lastOutput struct {
	mu   sync.Mutex
	data []byte
}

func (t *lastOutput) Write(b []byte) (int, error) {
	const most = 64 << 10
	t.mu.Lock()
	defer t.mu.Unlock()
	t.data = append(t.data, b[max(0, len(b)-most):]...)
	if len(t.data) > 2*most {
		t.data = append([]byte(nil), t.data[len(t.data)-most:]...)
	}
	return len(b), nil
}

func (t *lastOutput) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.ToValidUTF8(string(t.data), "")
}
