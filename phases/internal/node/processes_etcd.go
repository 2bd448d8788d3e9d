package node

import (
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"
	"sigs.k8s.io/yaml"
)

// isEtcdOn says whether a process is an etcd with this data or WAL directory, even if it has
// nothing open yet. It counts if any of flags, environment and configuration file names the
// directory, whichever of them etcd would heed.
func isEtcdOn(pid int, dir fileID) (bool, error) {
	argv := commandLine(pid)
	if len(argv) == 0 || !isEtcd(pid, argv) {
		return false, nil
	}
	root, err := os.OpenFile(fmt.Sprintf("/proc/%d/root", pid), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return false, err
	}
	defer root.Close()
	cwd, err := os.OpenFile(fmt.Sprintf("/proc/%d/cwd", pid), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return false, err
	}
	defer cwd.Close()
	see := view{root: root, cwd: cwd}
	for _, path := range see.directories(argv, nulSeparated(fmt.Sprintf("/proc/%d/environ", pid))) {
		f, err := see.open(path, unix.O_PATH)
		if err != nil {
			continue // missing: so it is not dir
		}
		var st unix.Stat_t
		err = unix.Fstat(int(f.Fd()), &st)
		_ = f.Close()
		if err == nil && (fileID{uint64(st.Dev), st.Ino}) == dir {
			return true, nil
		}
	}
	return false, nil
}

func isEtcd(pid int, argv []string) bool {
	if filepath.Base(argv[0]) == "etcd" {
		return true
	}
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return err == nil && filepath.Base(strings.TrimSuffix(exe, " (deleted)")) == "etcd"
}

// view is the file system as a process sees it.
type view struct{ root, cwd *os.File }

// open opens a path of the process. RESOLVE_IN_ROOT (Linux 5.6) keeps its absolute links in its
// root; an older kernel follows them in ours.
func (v view) open(path string, flag uint64) (*os.File, error) {
	if !filepath.IsAbs(path) {
		return openAt(v.cwd, path, flag, 0)
	}
	f, err := openAt(v.root, path, flag, unix.RESOLVE_IN_ROOT)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		return openAt(v.root, "."+path, flag, 0)
	}
	return f, err
}

func openAt(dir *os.File, path string, flag, resolve uint64) (*os.File, error) {
	var fd int
	err := retry(func() (err error) {
		if resolve == 0 {
			fd, err = unix.Openat(int(dir.Fd()), path, int(flag)|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
			return err
		}
		fd, err = unix.Openat2(int(dir.Fd()), path,
			&unix.OpenHow{Flags: flag | unix.O_CLOEXEC | nonBlock(flag), Resolve: resolve})
		return err
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// nonBlock keeps a FIFO from blocking us; openat2 refuses it together with O_PATH.
func nonBlock(flag uint64) uint64 {
	if flag&unix.O_PATH != 0 {
		return 0
	}
	return unix.O_NONBLOCK
}

// directories lists the paths in an etcd's flags, environment and configuration file, as etcd
// spells them (server/embed/config.go).
func (v view) directories(argv, environ []string) []string {
	env := map[string]string{}
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		env[name] = value
	}
	flags := flagValues(argv[1:])
	paths := []string{flags["data-dir"], flags["wal-dir"], env["ETCD_DATA_DIR"], env["ETCD_WAL_DIR"]}
	for _, file := range []string{flags["config-file"], env["ETCD_CONFIG_FILE"]} {
		paths = append(paths, v.configured(file)...)
	}
	name := "default"
	set(&name, env["ETCD_NAME"])
	set(&name, flags["name"])
	paths = append(paths, name+".etcd") // the default, in the working directory
	return nonEmpty(paths)
}

// configured reads the two directories from an etcd configuration file; if it cannot read the
// file, neither could etcd.
func (v view) configured(file string) []string {
	const most = 1 << 20
	if file == "" {
		return nil
	}
	f, err := v.open(file, unix.O_RDONLY)
	if err != nil {
		return nil
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, most))
	var config struct {
		DataDir string `json:"data-dir"`
		WALDir  string `json:"wal-dir"`
	}
	if err != nil || yaml.Unmarshal(data, &config) != nil {
		return nil
	}
	return []string{config.DataDir, config.WALDir}
}

func nonEmpty(paths []string) []string {
	var some []string
	for _, path := range paths {
		if path != "" {
			some = append(some, path)
		}
	}
	return some
}

// etcdVersion is the version of the program that a process runs, if it is an etcd; empty: its
// binary does not tell.
func etcdVersion(pid int) string {
	if !isEtcd(pid, append(commandLine(pid), "")) {
		return ""
	}
	info, err := buildinfo.ReadFile(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return ""
	}
	return EtcdVersionOf(info)
}

// EtcdProgram opens the program that a process runs, and tells its version; the caller closes it.
// By its path, which is good for this process alone, it can be started whatever has its name, or
// the process's number, by then. Anybody can name a program etcd and say that it uses a directory:
// one that others than root and this user own, or may write to, is refused.
func EtcdProgram(pid int) (path, version string, closed func() error, err error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return "", "", nil, err
	}
	err = ours(f)
	var info *debug.BuildInfo
	if err == nil {
		info, err = buildinfo.Read(f)
	}
	if err != nil {
		return "", "", nil, errors.Join(err, f.Close())
	}
	return fmt.Sprintf("/proc/self/fd/%d", f.Fd()), EtcdVersionOf(info), f.Close, nil
}

// ours refuses a program that somebody else has made, or could change.
func ours(f *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Mode&0o022 != 0 || st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return errors.New("it is not of root and this user alone")
	}
	return nil
}

// EtcdFile is the version of etcd in a file, which must be a program; empty: it does not tell.
func EtcdFile(name string) (version string, err error) {
	st, err := os.Stat(name)
	if err == nil && !st.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err == nil && st.Mode()&0o111 == 0 {
		err = errors.New("it is not executable")
	}
	if err != nil {
		return "", reasonOf(err)
	}
	info, err := buildinfo.ReadFile(name)
	if err != nil {
		return "", nil // any program may start one
	}
	return EtcdVersionOf(info), nil
}

// EtcdVersionOf tells the version of etcd from what the Go compiler wrote into a binary. Built in a
// work tree, the program itself often has none; what it is built from, in the same release, has.
func EtcdVersionOf(info *debug.BuildInfo) string {
	for _, m := range append([]*debug.Module{&info.Main}, info.Deps...) {
		switch m.Path {
		case "go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/api/v3":
			if v := strings.TrimPrefix(m.Version, "v"); release.MatchString(v) {
				return v
			}
		}
	}
	return ""
}

var release = regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+`)
