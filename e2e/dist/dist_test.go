//go:build e2e

// Package dist uses what `make dist` has made as those would who get it: root, Debian.
package dist

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/e2e/binaries"
)

func TestMain(m *testing.M) {
	if err := installTools(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// installTools installs, from Debian, the programs that the tests need and this host lacks.
func installTools() error {
	var missing []string
	_, emulator := otherArch()
	for _, t := range [][2]string{{"man", "man-db"}, {"rpm", "rpm"}, {"unshare", "util-linux"},
		{"systemd-analyze", "systemd"}, {emulator, "qemu-user-static"}} {
		if _, err := exec.LookPath(t[0]); err != nil {
			missing = append(missing, t[1])
		}
	}
	if len(missing) == 0 {
		return nil
	}
	for _, args := range [][]string{
		{"update"}, append([]string{"install", "--yes", "--no-install-recommends"}, missing...),
	} {
		cmd := exec.Command("apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("cannot install %s: %w\n%s", strings.Join(missing, ", "), err, out)
		}
	}
	return nil
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// artefact returns the one whose name fits.
func artefact(t *testing.T, pattern string) string {
	t.Helper()
	dir, err := binaries.Dist()
	must(t, err)
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	must(t, err)
	if len(found) != 1 {
		t.Fatalf("%s has %d files %s: run make dist", dir, len(found), pattern)
	}
	return found[0]
}

func TestTheDebIsInstalledUsedAndRemovedWithNothingLeft(t *testing.T) {
	const deb = "/root/etcdpod.deb"
	c := newChroot(t)
	c.put(artefact(t, "etcdpod_*_"+runtime.GOARCH+".deb"), deb)
	// Triggers are other packages' work; and images of Debian may be told to leave documents out.
	c.run(`dpkg --no-triggers --path-include='/usr/share/*' --install "$1"`, deb)
	if wrong := c.run("dpkg --verify etcdpod"); wrong != "" {
		t.Errorf("what was installed is not what the package says:\n%s", wrong)
	}
	inUse(t, c)
	if left := c.left(); !slices.Contains(left, "/usr/bin/etcdpod") ||
		!slices.Contains(left, "/usr/share/doc/etcdpod") {
		t.Errorf("installed, it is not seen among %q", left)
	}
	c.run("dpkg --no-triggers --purge etcdpod")
	if left := c.left(deb, "/var/lib/dpkg", "/var/log/dpkg.log", "/var/cache/man"); len(left) > 0 {
		t.Errorf("removed, it has left %q", left)
	}
	if out, err := c.try("dpkg --status etcdpod"); err == nil {
		t.Errorf("removed, dpkg still knows it:\n%s", out)
	}
}

func TestTheRPMIsInstalledUsedAndRemovedWithNothingLeft(t *testing.T) {
	const rpm = "/root/etcdpod.rpm"
	arch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	c := newChroot(t)
	c.put(artefact(t, "etcdpod-*."+arch+".rpm"), rpm)
	c.run(`rpm --checksig --nosignature "$1"`, rpm)
	c.run(`rpm --force-debian --install "$1"`, rpm)
	if wrong := c.run("rpm --verify etcdpod"); wrong != "" {
		t.Errorf("what was installed is not what the package says:\n%s", wrong)
	}
	inUse(t, c)
	c.run("rpm --force-debian --erase etcdpod")
	if left := c.left(rpm, "/var/lib/rpm", "/root/.rpmdb", "/var/cache/man"); len(left) > 0 {
		t.Errorf("removed, it has left %q", left)
	}
}

// inUse uses what a package has installed.
func inUse(t *testing.T, c *chroot) {
	t.Helper()
	sums := filepath.Base(artefact(t, "etcdpod_*_linux_amd64.tar.gz"))
	version := strings.TrimSuffix(strings.TrimPrefix(sums, "etcdpod_"), "_linux_amd64.tar.gz")
	if out := c.run("command -v etcdpod && etcdpod version"); !strings.HasPrefix(out, "/usr/bin/etcdpod\netcdpod ") {
		t.Errorf("the command %s is no %s", out, version)
	}
	for page, says := range map[string]string{"etcdpod": "COMMANDS", "etcdpod-restore": "--dry-run"} {
		if out := c.run(`man --warnings "$1"`, page); !strings.Contains(out, strings.ToUpper(page)+"(8)") ||
			!strings.Contains(out, says) || strings.Contains(out, "warning") {
			t.Errorf("the page %s shows\n%s", page, out)
		}
	}
	if out := c.run("cat /usr/share/doc/etcdpod/docs/schema/status.json"); !strings.Contains(out, "json-schema.org") {
		t.Errorf("the schema of status is\n%s", out)
	}
	// The program's hints name it.
	if out := c.run("cat /usr/share/doc/etcdpod/docs/runbooks/quorum-lost.md"); !strings.Contains(out, "--lost") {
		t.Errorf("the runbook for a lost quorum is\n%s", out)
	}
	// The program that they run, and the manual page that they name, are those of the package.
	if out := c.run(`mkdir /root/units
		for does in backup defrag status; do
			for kind in service timer; do
				etcdpod units systemd $does --only $kind >/root/units/etcdpod-$does.$kind
			done
		done
		systemd-analyze verify /root/units/*
		rm -r /root/units`); out != "" {
		t.Errorf("systemd says of the units that etcdpod prints\n%s", out)
	}
	out := c.run(`bash -ec '. /usr/share/bash-completion/completions/etcdpod
		COMP_WORDS=(etcdpod stat) COMP_CWORD=1
		_etcdpod
		echo "${COMPREPLY[@]}"'`)
	if strings.TrimSpace(out) != "status" {
		t.Errorf("stat is completed to %q", out)
	}
}

func TestTheArchiveIsWhatItsChecksumSaysAndRuns(t *testing.T) {
	archive := artefact(t, "etcdpod_*_linux_"+runtime.GOARCH+".tar.gz")
	check := exec.Command("sha256sum", "--check", "--strict", "SHA256SUMS")
	check.Dir = filepath.Dir(archive)
	out, err := check.CombinedOutput()
	if err != nil || strings.Count(string(out), ": OK\n") != 9 {
		t.Errorf("sha256sum: %v\n%s", err, out)
	}
	dir := unpacked(t, archive)
	// Nothing but the binary: it needs no file of the system.
	alone := exec.Command("chroot", dir, "/etcdpod", "version")
	if out, err := alone.CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "etcdpod ") {
		t.Errorf("it ended with %v\n%s", err, out)
	}
}

// otherArch is the architecture of a release that this machine does not have, and what emulates it.
func otherArch() (arch, emulator string) {
	if runtime.GOARCH == "arm64" {
		return "amd64", "qemu-x86_64-static"
	}
	return "arm64", "qemu-aarch64-static"
}

func TestTheBinaryForTheOtherArchitectureRuns(t *testing.T) {
	arch, emulator := otherArch()
	dir := unpacked(t, artefact(t, "etcdpod_*_linux_"+arch+".tar.gz"))
	for command, says := range map[string]string{
		"version": "linux/" + arch, "help": "Usage: etcdpod COMMAND", "help restore": "--dry-run",
	} {
		args := append([]string{filepath.Join(dir, "etcdpod")}, strings.Fields(command)...)
		out, err := exec.Command(emulator, args...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), says) {
			t.Errorf("%s says (%v)\n%s", command, err, out)
		}
	}
}

// unpacked is the directory of what is in an archive.
func unpacked(t *testing.T, archive string) string {
	t.Helper()
	dir := t.TempDir()
	unpack := exec.Command("tar", "-xzf", archive, "--strip-components=1", "--directory", dir)
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	return dir
}
