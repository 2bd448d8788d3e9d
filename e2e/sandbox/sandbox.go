// Package sandbox makes a node that looks like a kubeadm control plane below a temporary root,
// without root privileges: real etcd, run by stand-ins for the container runtime and the kubelet,
// and read by a stand-in for kube-apiserver. Tests and the demo drive etcdpod against it.
//
//	s, err := sandbox.New(sandbox.Options{EtcdBinary: path})
//	defer s.Destroy()
//	err = s.Start(ctx)
//	result, err := s.Etcdpod(ctx, "backup", "/var/backups/etcd.db")
//
// Paths are host paths, absolute, as the node spells them, unless noted; [Sandbox.Path] turns one
// into a path of this machine. Everything listens on loopback only, and ends with the process that
// made it, even if SIGKILL ended that.
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/e2e/sandbox/internal/cri"
)

// Options describe the node. Only EtcdBinary is required.
type Options struct {
	// The root, empty or missing; by default a new short one below the system's temporary
	// directory. Sockets below it limit its length to about 70 bytes.
	Dir        string
	Node       string // the node's name, "cp1" if empty
	Address    string // advertised, a loopback address other than 127.0.0.1; 127.0.0.2 if empty
	EtcdBinary string // the path of etcd; flags and image match its version
	StandIn    string // the path of the standin command; built if empty
	// The path of etcdpod; by default the variable ETCDPOD's, else bin/etcdpod of the module.
	Etcdpod string

	PlainHTTP bool   // etcd and its client use http, without certificates
	WALDir    string // host path of a separate WAL directory, a volume of its own; none if empty
	// Host path of the directory to which /var/lib/etcd is an absolute symbolic link, meant below
	// the root; a plain directory if empty.
	DataLink    string
	NoAPIServer bool // neither kube-apiserver nor its clients
	// Made is called when the node's files are there, and nothing runs yet; it may be nil.
	Made func(*Sandbox) error

	// Join makes the node one more control plane of another's cluster, with the same CAs and
	// service-account key. The other must run when this one starts. Node and Address must differ;
	// Join names the node that joined last, so that each knows all before it.
	Join *Sandbox

	// Backoff and MaxBackoff are the kubelet's crash-loop delays: 0.5 s and 10 s if zero, instead
	// of a real kubelet's 10 s and 5 min.
	Backoff, MaxBackoff time.Duration
	// Destroy, or the end of this process, ends the processes and keeps the files.
	Keep bool
}

// Ports are the node's TCP ports. They are outside the kernel's range for outgoing connections, so
// that they are still free after a restart.
type Ports struct {
	EtcdClient, EtcdPeer, EtcdMetrics, APIServer int
}

// Sandbox is one node.
type Sandbox struct {
	Root        string // the directory that stands for /
	Node        string
	Address     string
	EtcdVersion string // such as 3.6.16
	Ports       Ports

	options Options
	standin string
	reaper  *exec.Cmd
	alive   *os.File // when its last copy is closed, the reaper takes the sandbox down
}

// DataDir is the host path of etcd's data directory.
const DataDir = "/var/lib/etcd"

// ManifestDir is the host path of the static-pod directory.
const ManifestDir = "/etc/kubernetes/manifests"

// makeRoot makes a directory whose name is always as long: it stands in what etcdpod writes, and
// where a terminal breaks a line must not depend on chance.
func makeRoot() (string, error) {
	for {
		dir := filepath.Join(os.TempDir(), fmt.Sprintf("ep%010d", rand.Uint32()))
		if err := os.Mkdir(dir, 0o700); !errors.Is(err, fs.ErrExist) {
			return dir, err
		}
	}
}

// New writes the node's files and starts only the reaper, which takes the sandbox down
// when this process ends.
func New(o Options) (*Sandbox, error) {
	s, err := prepare(o)
	if err != nil {
		return nil, fmt.Errorf("cannot make a sandbox: %w", err)
	}
	claim, err := s.claimPorts()
	if err != nil {
		return nil, fmt.Errorf("cannot make a sandbox: %w", err)
	}
	defer claim.Close() // the reaper has its own copy
	if err := s.SetImages(s.Images()); err != nil {
		return nil, err
	}
	if err := s.startReaper(claim); err != nil {
		return nil, fmt.Errorf("cannot start the reaper: %w", err)
	}
	if err = s.writeNode(); err == nil && o.Made != nil {
		err = o.Made(s)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot write the node's files: %w", err), s.Destroy())
	}
	return s, nil
}

func prepare(o Options) (*Sandbox, error) {
	if o.Node == "" {
		o.Node = "cp1"
	}
	if o.Address == "" {
		o.Address = "127.0.0.2"
	}
	if o.Backoff == 0 {
		o.Backoff = 500 * time.Millisecond
	}
	if o.MaxBackoff == 0 {
		o.MaxBackoff = 10 * time.Second
	}
	version, err := etcdVersion(o.EtcdBinary)
	if err != nil {
		return nil, err
	}
	s := &Sandbox{Node: o.Node, Address: o.Address, EtcdVersion: version, standin: o.StandIn, options: o}
	if s.standin == "" {
		if s.standin, err = BuildStandIn(); err != nil {
			return nil, err
		}
	}
	if o.Dir == "" {
		o.Dir, err = makeRoot()
	} else {
		err = os.MkdirAll(o.Dir, 0o755)
	}
	if err != nil {
		return nil, err
	}
	if s.Root, err = filepath.Abs(o.Dir); err == nil {
		s.Root, err = filepath.EvalSymlinks(s.Root)
	}
	if _, there := os.Stat(s.Path(cri.Images)); err == nil && there == nil {
		err = fmt.Errorf("%s holds a sandbox already", s.Root)
	}
	if err == nil && len(s.Path(cri.Socket)) > 107 {
		err = fmt.Errorf("the path %s is longer than a Unix socket may have", s.Path(cri.Socket))
	}
	if err != nil {
		_ = os.Remove(s.Root) // only if empty, as a new one is
	}
	return s, err
}

func etcdVersion(binary string) (string, error) {
	out, err := exec.Command(binary, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("cannot ask %q for etcd's version: %w", binary, err)
	}
	first, _, _ := strings.Cut(string(out), "\n")
	version, found := strings.CutPrefix(first, "etcd Version: ")
	if !found {
		return "", fmt.Errorf("%s is not etcd: it says %q", binary, first)
	}
	return version, nil
}

// Path returns the path on this machine of a host path. It follows no links.
func (s *Sandbox) Path(host string) string { return filepath.Join(s.Root, host) }

// DataPath returns the path on this machine of etcd's data directory, its links followed.
func (s *Sandbox) DataPath() string {
	if s.options.DataLink != "" {
		return s.Path(s.options.DataLink)
	}
	return s.Path(DataDir)
}

// claimPorts finds free ports for the node. Nothing else uses the block's first port: while it is
// held, no other sandbox takes the block.
func (s *Sandbox) claimPorts() (*os.File, error) {
	const first, last, block = 10000, 30000, 10
	start := first + block*(os.Getpid()%((last-first)/block))
	for i := range (last - first) / block {
		base := first + (start-first+i*block)%(last-first)
		claim, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", base))
		if err != nil {
			continue
		}
		if s.free(base+1, base+4) {
			s.Ports = Ports{EtcdClient: base + 1, EtcdPeer: base + 2, EtcdMetrics: base + 3, APIServer: base + 4}
			file, err := claim.(*net.TCPListener).File()
			return file, errors.Join(err, claim.Close())
		}
		claim.Close()
	}
	return nil, errors.New("no free block of ports")
}

func (s *Sandbox) free(from, to int) bool {
	for port := from; port <= to; port++ {
		for _, host := range []string{"127.0.0.1", s.Address} {
			listener, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
			if err != nil {
				return false
			}
			listener.Close()
		}
	}
	return true
}

func (s *Sandbox) startReaper(claim *os.File) error {
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()
	args := []string{"reaper", "--root", s.Root}
	if s.options.Keep {
		args = append(args, "--keep")
	}
	s.reaper = exec.Command(s.standin, args...)
	s.reaper.Stdin, s.reaper.Stderr = read, os.Stderr
	s.reaper.ExtraFiles = []*os.File{claim}
	detach(s.reaper)
	if err := s.reaper.Start(); err != nil {
		write.Close()
		return err
	}
	s.alive = write
	return nil
}

// Destroy ends every process of the sandbox and removes it.
func (s *Sandbox) Destroy() error {
	if err := s.alive.Close(); err != nil {
		return err // already destroyed
	}
	if err := s.reaper.Wait(); err != nil {
		return fmt.Errorf("cannot take down the sandbox %s: %w", s.Root, err)
	}
	return nil
}

// Start starts the runtime and the kubelet, waits for the control plane, and writes kubeadm's
// objects. A joining node first becomes a member of the cluster's etcd.
func (s *Sandbox) Start(ctx context.Context) error {
	if s.options.Join != nil {
		if err := s.join(ctx); err != nil {
			return err
		}
	}
	if err := s.StartRuntime(ctx); err != nil {
		return err
	}
	if err := s.StartKubelet(ctx); err != nil {
		return err
	}
	if err := s.WaitReady(ctx); err != nil {
		return err
	}
	return s.register(ctx)
}
