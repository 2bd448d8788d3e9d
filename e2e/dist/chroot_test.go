//go:build e2e

package dist

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// chroot is this Debian with a layer over it: what is changed there is in the layer alone. /run is
// its own, since what is there is of processes, not of packages: systemd-analyze notes there what
// it has read.
type chroot struct {
	t   *testing.T
	pid int    // of the process that holds the mounts
	dir string // as seen from that process
}

// newChroot lasts as long as the test, or less when the test is killed: its mounts are in a
// namespace of a process that ends with its standard input.
func newChroot(t *testing.T) *chroot {
	t.Helper()
	c := &chroot{t: t, dir: t.TempDir()}
	holder := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-ec", `cd "$1"
		mount -t tmpfs tmpfs .
		cd "$1"
		mkdir upper work root
		mount -t overlay -o lowerdir=/,upperdir="$1"/upper,workdir="$1"/work overlay root
		mount --rbind /dev root/dev
		mount -t proc proc root/proc
		mount -t tmpfs tmpfs root/run
		echo ready
		exec cat >&2`, "sh", c.dir)
	stdin, err := holder.StdinPipe()
	must(t, err)
	stdout, err := holder.StdoutPipe()
	must(t, err)
	holder.Stderr = os.Stderr
	must(t, holder.Start())
	t.Cleanup(func() {
		stdin.Close()
		holder.Wait()
	})
	if line, _ := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
		t.Fatalf("cannot lay a layer over /: mounting it said %q", line)
	}
	c.pid = holder.Process.Pid
	return c
}

// try runs a script there, and returns all that it wrote.
func (c *chroot) try(script string, args ...string) (string, error) {
	cmd := exec.Command("nsenter", append([]string{"--target", strconv.Itoa(c.pid), "--mount",
		"chroot", filepath.Join(c.dir, "root"), "sh", "-ec", script, "sh"}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8",
		"MANPAGER=cat", "MANWIDTH=80"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", script, err, out)
	}
	return string(out), err
}

// run is try for what must work.
func (c *chroot) run(script string, args ...string) string {
	c.t.Helper()
	out, err := c.try(script, args...)
	must(c.t, err)
	return out
}

// path returns the path by which this process reaches a path of the layer.
func (c *chroot) path(path string) string {
	return filepath.Join("/proc", strconv.Itoa(c.pid), "root", c.dir, "upper", path)
}

// put copies a file there.
func (c *chroot) put(from, to string) {
	c.t.Helper()
	data, err := os.ReadFile(from)
	must(c.t, err)
	must(c.t, os.MkdirAll(filepath.Dir(c.path(to)), 0o755))
	must(c.t, os.WriteFile(c.path(to), data, 0o644))
}

// left returns what is there and not below it, or not as below it, but for what is in one of the
// places that are named.
func (c *chroot) left(except ...string) []string {
	c.t.Helper()
	var all []string
	top := c.path("/")
	must(c.t, filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == top {
			return err
		}
		name := "/" + strings.TrimPrefix(strings.TrimPrefix(path, top), "/")
		if slices.Contains(except, name) {
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		if below, err := os.Lstat(name); d.IsDir() && err == nil && below.IsDir() {
			return nil
		}
		all = append(all, name)
		return nil
	}))
	return all
}
