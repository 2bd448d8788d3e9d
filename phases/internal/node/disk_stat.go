package node

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const selinuxLabel = "security.selinux"

func (d disk) Lstat(path string) (Stat, error) {
	real, err := d.name(path)
	if err != nil {
		return Stat{}, err
	}
	if isHeld(real) && filepath.Dir(real)+"/" == heldPrefix {
		real += "/." // the open directory, and not the link that leads to it
	}
	return lstat(real)
}

func lstat(real string) (Stat, error) {
	info, err := os.Lstat(real)
	if err != nil {
		return Stat{}, err
	}
	mount, err := mountID(real)
	if err != nil {
		return Stat{}, pathError("find the mount of", real, err)
	}
	label, err := label(real)
	if err != nil {
		return Stat{}, pathError("read the label of", real, err)
	}
	sys := info.Sys().(*syscall.Stat_t)
	return Stat{
		Mode: info.Mode(), Size: info.Size(), ModTime: info.ModTime(),
		UID: int(sys.Uid), GID: int(sys.Gid), Label: label,
		Dev: uint64(sys.Dev), Ino: sys.Ino, Mount: mount,
	}, nil
}

// mountID asks statx (Linux 5.8), else reads the descriptor's fdinfo (Linux 3.15); both give the id
// in /proc/self/mountinfo.
func mountID(real string) (uint64, error) {
	var st unix.Statx_t
	err := retry(func() error {
		return unix.Statx(unix.AT_FDCWD, real, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_MNT_ID, &st)
	})
	if err == nil && st.Mask&unix.STATX_MNT_ID != 0 {
		return st.Mnt_id, nil
	}
	return mountIDOfDescriptor(real)
}

func mountIDOfDescriptor(real string) (uint64, error) {
	f, err := os.OpenFile(real, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return 0, errno(err)
	}
	defer f.Close()
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", f.Fd()))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(info)) {
		if id, ok := strings.CutPrefix(line, "mnt_id:"); ok {
			return strconv.ParseUint(strings.TrimSpace(id), 10, 64)
		}
	}
	return 0, errors.New("the kernel does not tell mount IDs")
}

// label returns the SELinux label, empty if there is none.
func label(real string) (string, error) { return labelOf(real, unix.Lgetxattr) }

func labelOf(real string, get func(string, string, []byte) (int, error)) (string, error) {
	buf := make([]byte, 1024)
	n := 0
	err := retry(func() (err error) {
		n, err = get(real, selinuxLabel, buf)
		return err
	})
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return string(bytes.TrimRight(buf[:n], "\x00")), nil
}

func (d disk) SetAttr(path string, attr Attr) error {
	real, err := d.name(path)
	if err != nil {
		return err
	}
	return setAttr(real, attr)
}

// setAttr opens the name itself: by the time of the last call, the name may be a link to something
// else.
func setAttr(real string, attr Attr) error {
	f, err := os.OpenFile(real, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	return errors.Join(setAttrOf(f, attr), f.Close())
}

// setAttrOf changes only what differs, so that a user who is not root can keep files that he owns.
// The owner comes first: changing it may clear mode bits.
func setAttrOf(f *os.File, attr Attr) error {
	now, err := f.Stat()
	if err != nil {
		return err
	}
	if now.Mode()&fs.ModeSymlink != 0 {
		return pathError("set the attributes of", f.Name(), syscall.ELOOP)
	}
	open := fmt.Sprintf("%s%d", heldPrefix, f.Fd())
	sys := now.Sys().(*syscall.Stat_t)
	owned := int(sys.Uid) == attr.UID && int(sys.Gid) == attr.GID
	if !owned {
		if err := os.Chown(open, attr.UID, attr.GID); err != nil {
			return pathError("chown", f.Name(), errno(err))
		}
	}
	if now.Mode().Perm() != attr.Mode.Perm() || !owned {
		if err := os.Chmod(open, attr.Mode.Perm()); err != nil {
			return pathError("chmod", f.Name(), errno(err))
		}
	}
	if attr.Label == "" {
		return nil
	}
	if is, err := labelOf(open, unix.Getxattr); err == nil && is == attr.Label {
		return nil
	}
	return pathError("label", f.Name(), retry(func() error {
		return unix.Setxattr(open, selinuxLabel, []byte(attr.Label), 0)
	}))
}

// Free leaves out the blocks reserved for root, although root could write them: administrators
// depend on them when the disk is full.
func (d disk) Free(path string) (uint64, error) {
	st, _, err := d.statfs(path)
	if err != nil {
		return 0, err
	}
	return st.Bavail * uint64(st.Bsize), nil
}

func (d disk) statfs(path string) (st unix.Statfs_t, real string, err error) {
	real, err = d.target(path)
	if err != nil {
		return st, "", err
	}
	err = retry(func() error { return unix.Statfs(real, &st) })
	return st, real, pathError("statfs", real, err)
}

func (d disk) FilesystemID(path string) (string, error) {
	st, real, err := d.statfs(path)
	if err != nil {
		return "", err
	}
	if id, ok := uuidFromKernel(real); ok {
		return id, nil
	}
	if id, ok := uuidFromUdev(real); ok {
		return id, nil
	}
	return fmt.Sprintf("fsid:%08x%08x", uint32(st.Fsid.Val[0]), uint32(st.Fsid.Val[1])), nil
}

// uuidFromKernel asks FS_IOC_GETFSUUID (Linux 6.9).
func uuidFromKernel(real string) (string, bool) {
	const getFSUUID = 0x80111500 // _IOR(0x15, 0, struct fsuuid2)
	var answer struct {
		length uint8
		uuid   [16]byte
	}
	f, err := os.OpenFile(real, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", false
	}
	defer f.Close()
	_, _, failed := unix.Syscall(unix.SYS_IOCTL, f.Fd(), getFSUUID, uintptr(unsafe.Pointer(&answer)))
	// All zeros: the file system was made without a UUID.
	if u := answer.uuid; failed == 0 && answer.length == 16 && u != [16]byte{} {
		return fmt.Sprintf("uuid:%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:]), true
	}
	return "", false
}

// uuidFromUdev finds a file's block device among udev's names.
func uuidFromUdev(real string) (string, bool) {
	const byUUID = "/dev/disk/by-uuid"
	var file, device unix.Stat_t
	if err := unix.Stat(real, &file); err != nil {
		return "", false
	}
	names, err := os.ReadDir(byUUID)
	if err != nil {
		return "", false
	}
	for _, name := range names {
		if unix.Stat(filepath.Join(byUUID, name.Name()), &device) == nil && device.Rdev == file.Dev {
			return "uuid:" + name.Name(), true
		}
	}
	return "", false
}
