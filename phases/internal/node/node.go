// Package node is the host that etcdpod runs on: its files, its kubelet, its container runtime, its
// processes and its clock. It is the only package that writes files or runs programs. It knows
// nothing of etcd, of runs or of workflows.
//
// All paths are host paths, absolute, as the node's own programs spell them (/var/lib/etcd). With
// --root they are below that directory; [FS.Real] gives the path that the operating system sees.
package node

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"time"
)

// Host is everything that an operation may touch. Each part is an interface, so that the crash
// tests can substitute a simulated node.
type Host struct {
	FS        FS
	Kubelet   Kubelet
	Runtime   Runtime
	Processes Processes
	Clock     Clock
}

// View is a read-only host: what observers and phases get.
type View struct {
	FS      Reader
	Kubelet interface {
		Running(ctx context.Context) (bool, error)
	}
	Runtime interface {
		Containers(ctx context.Context) ([]Container, error)
		Image(ctx context.Context, name string) (Image, error)
		SandboxImage(ctx context.Context) (string, error)
		Exit(ctx context.Context, id string) (exit Exit, ok bool, err error)
		LogFile(ctx context.Context, id string) (string, error)
	}
	Processes Processes
	Clock     Clock
	// Environment returns the variables with which a container was started; nil where that cannot
	// be asked.
	Environment func(ctx context.Context, id string) (map[string]string, error)
}

// View returns the host without the methods that change it.
func (h *Host) View() View {
	v := View{FS: reader{h.FS}, Kubelet: onlyRunning{h.Kubelet}, Runtime: onlyAsked{h.Runtime},
		Processes: h.Processes, Clock: h.Clock}
	if r, ok := h.Runtime.(interface {
		Environment(ctx context.Context, id string) (map[string]string, error)
	}); ok {
		v.Environment = r.Environment
	}
	return v
}

// These also hide the rest of an interface from a type assertion.
type (
	reader      struct{ Reader }
	onlyRunning struct{ k Kubelet }
	onlyAsked   struct{ r Runtime }
)

func (o onlyRunning) Running(ctx context.Context) (bool, error) { return o.k.Running(ctx) }

func (o onlyAsked) Containers(ctx context.Context) ([]Container, error) { return o.r.Containers(ctx) }

func (o onlyAsked) Image(ctx context.Context, name string) (Image, error) {
	return o.r.Image(ctx, name)
}

func (o onlyAsked) SandboxImage(ctx context.Context) (string, error) { return o.r.SandboxImage(ctx) }

func (o onlyAsked) Exit(ctx context.Context, id string) (exit Exit, ok bool, err error) {
	return o.r.Exit(ctx, id)
}

func (o onlyAsked) LogFile(ctx context.Context, id string) (string, error) {
	return o.r.LogFile(ctx, id)
}

var (
	// ErrExchangeUnsupported says that the file system cannot exchange two names atomically.
	ErrExchangeUnsupported = errors.New("the file system cannot exchange two names in one step")
	// ErrLocked says that another process holds the lock.
	ErrLocked = errors.New("locked by another process")
)

// Stat describes one name. Dev and Ino together identify the file while its file
// system stays mounted.
type Stat struct {
	Mode     fs.FileMode // type and permission bits
	Size     int64       // bytes
	UID, GID int
	Label    string // SELinux label (security.selinux), empty where there is none
	Dev, Ino uint64
	// The id of the name's mount: a rename across two mounts fails even on one device.
	Mount   uint64
	ModTime time.Time
}

// Attr is what a replacement inherits from the file it replaces.
type Attr struct {
	Mode     fs.FileMode // permission bits
	UID, GID int
	Label    string
}

// Attr returns the attributes that a replacement of this file must have.
func (s Stat) Attr() Attr { return Attr{Mode: s.Mode.Perm(), UID: s.UID, GID: s.GID, Label: s.Label} }

// Reader is the read-only part of a node's file system. Errors wrap *fs.PathError; errors.Is finds
// fs.ErrNotExist and syscall.Errno.
type Reader interface {
	// Real returns the path that the operating system sees for a host path.
	Real(path string) string
	// Resolve returns the host path with all symbolic links followed; links below the root stay
	// below it. The last element may be missing; where more is, the *fs.PathError (fs.ErrNotExist)
	// names the path with those links followed that are there.
	Resolve(path string) (string, error)
	ReadFile(path string) ([]byte, error)
	// ReadPlain reads a file of at most so many bytes that somebody else may have put there: only a
	// regular file, never through a link, and the Stat is that of what was read, without mount and
	// label.
	ReadPlain(path string, most int64) ([]byte, Stat, error)
	// Hold opens a directory and keeps it open.
	Hold(dir string) (*Held, error)
	// Open is for files that may be too large for memory.
	Open(path string) (io.ReadCloser, error)
	// Lstat does not follow a symbolic link in the last element.
	Lstat(path string) (Stat, error)
	// ReadDir returns the names in a directory, sorted.
	ReadDir(path string) ([]string, error)
	// Free returns the bytes that can still be written to path's file system, without
	// those reserved for root.
	Free(path string) (uint64, error)
	// FilesystemID identifies path's file system: its UUID if known, else the f_fsid of statfs.
	FilesystemID(path string) (string, error)
	// Lock takes an exclusive flock without waiting, or returns ErrLocked if another process holds
	// it: this shows whether a database or a run is in use. It never creates the file. The lock
	// ends with unlock or with the process.
	Lock(path string) (unlock func() error, err error)
}

// FS is the node's file system. Every method that changes something is one system call (or a few
// on one file). Its effect is durable only after Sync of that file and of the directory that
// names it. Errors wrap *fs.PathError or *os.LinkError; errors.Is finds fs.ErrNotExist,
// fs.ErrExist and syscall.Errno.
type FS interface {
	Reader

	// Create writes a new file with the owner and label in attr; fs.ErrExist if the name is taken.
	Create(path string, data []byte, attr Attr) error
	// Append adds data to the end of a file, and creates it (0600) if needed.
	Append(path string, data []byte) error
	// Allocate reserves disk space for the first bytes of a file (creating it, 0600) and keeps its
	// length. If there is less space it takes none (syscall.ENOSPC). Where the file system cannot
	// reserve, it only checks for room. Truncate returns what is reserved.
	Allocate(path string, bytes int64) error
	// Truncate cuts a file to size bytes.
	Truncate(path string, size int64) error
	Mkdir(path string, attr Attr) error
	// SetAttr sets the owner, mode and label of a file or directory.
	SetAttr(path string, attr Attr) error
	// Rename moves a name. It never replaces: fs.ErrExist if to is taken (RENAME_NOREPLACE).
	Rename(from, to string) error
	// Replace renames atomically, over an existing name.
	Replace(from, to string) error
	// Exchange swaps two names atomically, or returns ErrExchangeUnsupported where
	// the file system cannot.
	Exchange(a, b string) error
	// Remove removes one file or one empty directory.
	Remove(path string) error
	// Sync makes a file's contents, or a directory's names, durable.
	Sync(path string) error
}

// Kubelet is the node's kubelet service.
type Kubelet interface {
	Running(ctx context.Context) (bool, error)
	// Stop returns when the kubelet no longer runs.
	Stop(ctx context.Context) error
	// Start returns when the kubelet has been started. One that already runs is left alone, one
	// that is just stopping is started again.
	Start(ctx context.Context) error
}

// Container is one of the kubelet's containers, as the runtime reports it.
type Container struct {
	ID        string
	Name      string // of the container in its pod
	Pod       string // name of the pod
	Namespace string
	PodUID    string
	State     string // created, running, exited, unknown
	Attempt   uint32
	Image     string
	CreatedAt time.Time
}

// Image is what the container runtime knows about an image.
type Image struct {
	Present bool     // it is on this node
	Tags    []string // all names under which it is here, in full; none of an image that is not
	Version string   // that its label names (org.opencontainers.image.version); often empty
}

// Exit is how a container ended.
type Exit struct {
	Code   int    // 128 and the signal, for one that a signal ended
	Reason string // the runtime's word: Error, OOMKilled, …
	Text   string // what the runtime says about it; often empty
	Ran    time.Duration
}

// Runtime is the container runtime, reached over CRI.
type Runtime interface {
	// Containers lists all containers, including those that have exited.
	Containers(ctx context.Context) ([]Container, error)
	// Image looks for an image by the name in a manifest, and pulls nothing.
	Image(ctx context.Context, name string) (Image, error)
	// SandboxImage names the image from which every pod's sandbox is made; empty where the runtime
	// does not tell.
	SandboxImage(ctx context.Context) (string, error)
	// Exit says how a container ended; ok is false for one that has not.
	Exit(ctx context.Context, id string) (exit Exit, ok bool, err error)
	// LogFile is the host path of a container's log; empty where the runtime does not tell.
	LogFile(ctx context.Context, id string) (string, error)
	// StopContainer stops a container, with SIGKILL after grace, and returns when it has exited. A
	// missing container is no error.
	StopContainer(ctx context.Context, id string, grace time.Duration) error
	// RemoveContainer removes a container that has exited or was never started.
	RemoveContainer(ctx context.Context, id string) error
	// Pull has the runtime fetch an image, by the name in a manifest, with no credentials but its
	// own. waiting is called now and then while it does.
	Pull(ctx context.Context, name string, limit time.Duration, waiting func(since time.Duration)) error
}

// Process is a process of this host that uses a directory.
type Process struct {
	PID         int
	Command     string
	EtcdVersion string // as its binary tells; empty: it is no etcd, or does not tell
}

// Processes finds what the container runtime may not know about.
type Processes interface {
	// Using lists the processes, in any container, that hold a file below dir open, or were started
	// with dir (as they see it) as their etcd data directory.
	Using(ctx context.Context, dir string) ([]Process, error)
}

// Clock tells the time.
type Clock interface {
	Now() time.Time
	// Sleep returns early with the context's error when the context ends.
	Sleep(ctx context.Context, d time.Duration) error
}
