package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/e2e/binaries"
	"github.com/etcdpod/etcdpod/e2e/rig/internal/boot"
)

// Machine is what the nodes are, where it is not what this host is.
type Machine struct {
	// Binaries.Containerd2; empty: this host's.
	Containerd string
	// "xfs" or "btrfs", of a disk of its own for /var/lib; empty: this host's.
	FileSystem string
	Systemd    bool // systemd is the first process; the kubelet, containerd and sshd are its units
}

func (m Machine) check() error {
	if m.Containerd != "" && m.Containerd != binaries.Containerd2 {
		return fmt.Errorf("containerd %s is not pinned: take %s", m.Containerd, binaries.Containerd2)
	}
	if m.FileSystem != "" && !slices.Contains([]string{"xfs", "btrfs"}, m.FileSystem) {
		return fmt.Errorf("no disk is formatted with %q: take xfs or btrfs", m.FileSystem)
	}
	return m.missing()
}

// missing says what this host's kernel lacks for such machines.
func (m Machine) missing() error {
	if m.FileSystem == "" {
		return nil
	}
	// What a kernel can load as a module is listed from then on.
	_ = exec.Command("modprobe", m.FileSystem).Run()
	known, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return err
	}
	if !slices.Contains(strings.Fields(string(known)), m.FileSystem) {
		return fmt.Errorf("this kernel has no %s: /proc/filesystems does not list it, nor can it be loaded",
			m.FileSystem)
	}
	return nil
}

// tools are programs that such machines need, and the packages of Debian that have them.
func (m Machine) tools() [][2]string {
	var all [][2]string
	if m.FileSystem != "" {
		all = append(all, [2]string{"mkfs." + m.FileSystem, map[string]string{
			"xfs": "xfsprogs", "btrfs": "btrfs-progs"}[m.FileSystem]}, [2]string{"losetup", "mount"})
	}
	if m.Systemd {
		all = append(all, [2]string{boot.Systemd, "systemd"})
	}
	return all
}

// diskSize is of a file with holes: it takes up what is written.
const diskSize = 8 << 30

// disk is where the node's disk for /var/lib is, on the host; empty where it has none.
func (n *Node) disk() string {
	if n.cluster.FileSystem == "" {
		return ""
	}
	return filepath.Join(n.Dir, boot.VarLib+"."+n.cluster.FileSystem)
}

// OwnDisk mounts a new disk with a file system on a directory of the node, which it makes. The disk
// is there until it is unmounted, or until the node is switched off.
func (n *Node) OwnDisk(ctx context.Context, fileSystem, dir string) error {
	m := Machine{FileSystem: fileSystem}
	if err := m.check(); err != nil {
		return err
	}
	if err := installTools(ctx, m.tools()); err != nil {
		return err
	}
	file := filepath.Join(n.Dir, "disk-"+filepath.Base(dir)+"."+fileSystem)
	_, err := n.Exec(ctx, "sh", "-ec", `rm -f "$2"; truncate --size=1G "$2"; "mkfs.$1" -q "$2"
		mkdir "$3"; mount -o loop "$2" "$3"; chmod 0700 "$3"`, "sh", fileSystem, file, dir)
	return err
}

// format makes the node's disk, and puts there what was prepared for its /var/lib.
func (n *Node) format(ctx context.Context) error {
	if n.disk() == "" {
		return nil
	}
	return format(ctx, n.cluster.FileSystem, n.disk(), filepath.Join(n.Dir, boot.VarLib))
}

// format makes a file the disk for a file system, with the files of a directory in it. It is never
// mounted in the sight of this host.
func format(ctx context.Context, fileSystem, file, from string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(diskSize), f.Close()); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "mkfs."+fileSystem, "-q", file).CombinedOutput(); err != nil {
		return fmt.Errorf("cannot make %s a disk with %s: %w\n%s", file, fileSystem, err, out)
	}
	copied := exec.CommandContext(ctx, "unshare", "--mount", "--propagation", "private", "sh", "-ec",
		`mkdir -p "$3"; mount -o loop "$1" "$3"; cp -a "$2"/. "$3"; umount "$3"; rmdir "$3"`,
		"sh", file, from, file+".mounted")
	if out, err := copied.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot fill the disk %s: %w\n%s", file, err, out)
	}
	return nil
}

// containerdLinks are the programs of a containerd that is not this host's.
func (m Machine) containerdLinks(ctx context.Context, links map[string]string) error {
	if m.Containerd == "" {
		return nil
	}
	for _, program := range binaries.ContainerdPrograms() {
		path, err := binaries.Containerd(ctx, program)
		if err != nil {
			return err
		}
		links[program] = path
	}
	return nil
}

// containerdConfig is every node's. restrict_oom_score_adj: this process may not be
// allowed to lower a score.
func (m Machine) containerdConfig() string {
	text := `version = 2

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "PAUSE"
  restrict_oom_score_adj = true
  disable_apparmor = true
`
	if m.Containerd != "" {
		text = `version = 3

[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "PAUSE"

[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  disable_apparmor = true
`
	}
	return strings.ReplaceAll(text, "PAUSE", pauseImage)
}

// unitsLimit only ends what hangs.
const unitsLimit = 5 * time.Minute

// awaitUnits returns when systemd has started the units. It takes no jobs in its first moments.
func (n *Node) awaitUnits(ctx context.Context, services []string) error {
	ctx, cancel := context.WithTimeout(ctx, unitsLimit)
	defer cancel()
	for {
		_, err := n.Exec(ctx, append([]string{"systemctl", "start"}, services...)...)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("systemd has not started %s (see %s): %w", strings.Join(services, ", "),
				n.Path("/var/log/console.log"), err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}
