// Package hold stops a program where it makes something durable, until a test lets it go on.
// etcdpod does so with each record of its journal, so that it can be held at each operation,
// whatever its output is: also at a terminal, where it cannot be kept on a leash.
package hold

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Start starts a program by calling start, which must do that itself, and not leave it to another
// goroutine. Whenever the program, or one that it starts, calls fsync, at is called with the path
// of the file, and the caller waits until it returns. What comes before is done, what comes after
// is not; its other threads go on. The kernel does it (seccomp_unotify(2), Linux 5.19).
func Start(start func() error, at func(path string)) error {
	started := make(chan error)
	go func() {
		// Only this thread has the filter, and hands it down; it ends with the goroutine.
		runtime.LockOSThread()
		listener, err := filter()
		if err != nil {
			started <- fmt.Errorf("cannot hold a program at fsync: %w", err)
			return
		}
		if err = start(); err == nil {
			go serve(listener, at)
		} else {
			_ = unix.Close(listener)
		}
		started <- err
	}()
	return <-started
}

// filter makes fsync ask first, in this thread and what it starts.
func filter() (listener int, err error) {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return 0, err
	}
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}, // the call's number
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: unix.SYS_FSYNC},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_NEW_LISTENER|unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
		uintptr(unsafe.Pointer(&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})))
	if errno != 0 {
		return 0, errno
	}
	return int(fd), nil
}

// question is struct seccomp_notif.
type question struct {
	id         uint64
	pid, flags uint32
	call, arch uint32
	at         uint64
	args       [6]uint64
}

// answer is struct seccomp_notif_resp.
type answer struct {
	id    uint64
	value int64
	error int32
	flags uint32
}

// serve answers until no program with the filter is left.
func serve(listener int, at func(path string)) {
	defer unix.Close(listener)
	for {
		ready := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(ready, -1); err == unix.EINTR {
			continue
		} else if err != nil || ready[0].Revents&unix.POLLIN == 0 {
			return
		}
		var q question
		if ioctl(listener, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&q)) != 0 {
			continue // it was killed meanwhile
		}
		go func() {
			if path, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", q.pid, int32(q.args[0]))); err == nil {
				at(path)
			}
			ioctl(listener, unix.SECCOMP_IOCTL_NOTIF_SEND, // it may have been killed
				unsafe.Pointer(&answer{id: q.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}))
		}()
	}
}

func ioctl(fd int, request uint, value unsafe.Pointer) unix.Errno {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(value))
		if errno != unix.EINTR {
			return errno
		}
	}
}
