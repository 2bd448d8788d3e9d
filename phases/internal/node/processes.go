package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Proc returns the processes of this machine, in etcdpod's PID namespace or below it.
func Proc(f Reader) Processes { return processes{fs: f} }

type processes struct{ fs Reader }

// fileID identifies a file across mount namespaces: a container has other names for it.
type fileID struct{ dev, ino uint64 }

// deepest is how far below dir to look for files: dir/member/snap/db is three down, and
// etcd has nothing deeper.
const deepest = 3

// Using skips processes that this user may not inspect; for root it is an error if one
// of those is an etcd.
func (p processes) Using(ctx context.Context, dir string) ([]Process, error) {
	using, err := p.using(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("cannot determine which processes use %s: %w", dir, err)
	}
	return using, nil
}

func (p processes) using(ctx context.Context, dir string) ([]Process, error) {
	real, err := p.fs.Resolve(dir)
	if err != nil {
		return nil, ignoreAbsent(err)
	}
	real = p.fs.Real(real)
	files := map[fileID]bool{}
	if err := collect(files, real, 0); err != nil {
		return nil, err
	}
	top, err := identify(real)
	if err != nil {
		return nil, ignoreAbsent(err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var found []Process
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		uses, err := processUses(pid, files, top)
		if err != nil && !passOver(pid, err) {
			return nil, fmt.Errorf("process %d: %w", pid, err)
		}
		if uses {
			found = append(found, Process{PID: pid, Command: strings.Join(commandLine(pid), " "),
				EtcdVersion: etcdVersion(pid)})
		}
	}
	return found, nil
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// passOver says whether an error means that the process has ended, or that we may not inspect it.
// Even root may not inspect some (because of a security module, or in a container); that matters
// only if the process may be an etcd.
func passOver(pid int, err error) bool {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return true
	}
	if !errors.Is(err, fs.ErrPermission) {
		return false
	}
	argv := commandLine(pid)
	return os.Geteuid() != 0 || len(argv) == 0 || !isEtcd(pid, argv)
}

// collect gathers the identities of real and everything below it, links not followed.
func collect(files map[fileID]bool, real string, depth int) error {
	var st unix.Stat_t
	if err := unix.Lstat(real, &st); err != nil {
		return ignoreAbsent(err)
	}
	files[fileID{uint64(st.Dev), st.Ino}] = true
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || depth == deepest {
		return nil
	}
	entries, err := os.ReadDir(real)
	if err != nil {
		return ignoreAbsent(err)
	}
	for _, entry := range entries {
		if err := collect(files, filepath.Join(real, entry.Name()), depth+1); err != nil {
			return err
		}
	}
	return nil
}

func identify(path string) (fileID, error) {
	var st unix.Stat_t
	err := retry(func() error { return unix.Stat(path, &st) })
	return fileID{uint64(st.Dev), st.Ino}, err
}

func processUses(pid int, files map[fileID]bool, top fileID) (bool, error) {
	proc := fmt.Sprintf("/proc/%d", pid)
	uses, err := holdsOpen(proc, files)
	if uses || err != nil {
		return uses, err
	}
	if uses, err = hasMapped(proc, files); uses || err != nil {
		return uses, err
	}
	return isEtcdOn(pid, top)
}

func holdsOpen(proc string, files map[fileID]bool) (bool, error) {
	dir, err := os.Open(proc + "/fd")
	if err != nil {
		return false, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return false, err
	}
	var st unix.Stat_t
	for _, name := range names {
		fd, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		// Relative to the open directory: the magic link leads to the file itself, whatever
		// the process calls it.
		if unix.Fstatat(int(dir.Fd()), strconv.Itoa(fd), &st, 0) == nil && files[fileID{uint64(st.Dev), st.Ino}] {
			return true, nil
		}
	}
	return false, nil
}

// hasMapped finds files that are mapped into memory after their descriptor was closed.
func hasMapped(proc string, files map[fileID]bool) (bool, error) {
	f, err := os.Open(proc + "/maps")
	if err != nil {
		return false, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		// 7f2c-7f3c r--s 00000000 fd:01 131074   /var/lib/etcd/member/snap/db
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 || fields[4] == "0" {
			continue
		}
		ino, err := strconv.ParseUint(fields[4], 10, 64)
		if err != nil {
			continue
		}
		major, minor, _ := strings.Cut(fields[3], ":")
		ma, errMajor := strconv.ParseUint(major, 16, 32)
		mi, errMinor := strconv.ParseUint(minor, 16, 32)
		if errMajor == nil && errMinor == nil && files[fileID{unix.Mkdev(uint32(ma), uint32(mi)), ino}] {
			return true, nil
		}
	}
	return false, lines.Err()
}

// commandLine returns a process's arguments; none for a kernel thread, or a process that has ended.
func commandLine(pid int) []string { return nulSeparated(fmt.Sprintf("/proc/%d/cmdline", pid)) }

func nulSeparated(path string) []string {
	data, err := os.ReadFile(path)
	if err != nil || len(data) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(data), "\x00"), "\x00")
}
