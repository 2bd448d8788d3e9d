package node

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const roomy = 1 << 30

// sh runs a script, confined.
func sh(t *testing.T, script string, change func(*Confined)) *Child {
	t.Helper()
	c := Confined{Argv: []string{"/bin/sh", "-c", script}, Dir: t.TempDir(), Memory: roomy, File: roomy}
	if change != nil {
		change(&c)
	}
	child, err := Confine(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(child.Kill)
	return child
}

// ends waits until it has ended, and returns what it wrote.
func (c *Child) ends(t *testing.T) string {
	t.Helper()
	select {
	case <-c.Ended:
	case <-time.After(time.Minute):
		t.Fatalf("it does not end: %s", c.Said())
	}
	return c.Said()
}

// inside are the processes whose working directory is below dir.
func inside(t *testing.T, dir string) (all []string) {
	t.Helper()
	procs, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		t.Fatal(err)
	}
	for _, cwd := range procs {
		if at, err := os.Readlink(cwd); err == nil && strings.HasPrefix(at, dir) {
			line, _ := os.ReadFile(filepath.Dir(cwd) + "/cmdline")
			all = append(all, filepath.Dir(cwd)+" "+strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return all
}

func TestAConfinedProgramSaysHowItEnded(t *testing.T) {
	t.Parallel()
	child := sh(t, "echo out; echo err >&2; exit 3", nil)
	if said := child.ends(t); said != "out\nerr\n" || child.How() != "exit status 3" {
		t.Errorf("%q, %q", said, child.How())
	}
	child = sh(t, "kill -9 $$", func(c *Confined) { c.Argv = append([]string{"/usr/bin/env"}, c.Argv...) })
	if child.ends(t); child.Alone {
		return // the first process of its own may ignore what it sends itself
	}
	if child.How() != "signal: killed" {
		t.Errorf("%q", child.How())
	}
}

func TestAProgramThatIsNotThereIsNotStarted(t *testing.T) {
	t.Parallel()
	_, err := Confine(Confined{Argv: []string{"/nowhere/etcd"}, Dir: t.TempDir(), Memory: roomy, File: roomy})
	if err == nil || err.Error() != "cannot start /nowhere/etcd: no such file or directory" {
		t.Error(err)
	}
}

func TestAConfinedProgramReadsWhatItIsGivenAndNoEnvironment(t *testing.T) {
	t.Setenv("ETCD_DATA_DIR", "/var/lib/etcd")
	child := sh(t, `cat; echo "$ETCD_DATA_DIR.$HOME."; pwd`, func(c *Confined) {
		c.In = func(w io.Writer) error { _, err := io.WriteString(w, "given\n"); return err }
	})
	if said := child.ends(t); !strings.HasPrefix(said, "given\n..\n/") {
		t.Errorf("%q", said)
	}
}

func TestAConfinedProgramReachesNobody(t *testing.T) {
	t.Parallel()
	child := sh(t, "sed 1,2d /proc/self/net/dev | cut -d: -f1; cat /proc/self/net/route | sed 1d", nil)
	said := child.ends(t)
	if !child.Alone {
		if os.Geteuid() == 0 {
			t.Skip("this kernel does not give root a network of its own")
		}
		t.Skip("this kernel gives it to nobody but root")
	}
	if strings.TrimSpace(said) != "lo" {
		t.Errorf("it has the network %q", said)
	}
}

func TestAllThatAConfinedProgramStartedEndsWithIt(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"it is killed":   "sleep 600 & setsid sleep 600 & echo begun; sleep 600",
		"it has ended":   "sleep 600 >/dev/null 2>&1 </dev/null & echo begun; exit 1",
		"it ignores all": "trap '' INT TERM HUP; sleep 600 & echo begun; while :; do sleep 1; done",
	} {
		dir := t.TempDir()
		child := sh(t, script, func(c *Confined) { c.Dir = dir })
		for !strings.Contains(child.Said(), "begun") {
			time.Sleep(5 * time.Millisecond)
		}
		if name == "it has ended" {
			child.ends(t)
		} else {
			child.Kill()
		}
		// What left its group ends with it only where it has processes of its own.
		if left := inside(t, dir); len(left) > 0 && (child.Alone || name != "it is killed") {
			t.Errorf("%s: %q are left", name, left)
		}
	}
}

func TestAConfinedProgramTakesNoMoreThanItIsGiven(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	// The limits come just after the start, and a shell hands on what it has by then.
	const once = "until [ \"$(ulimit -f)\" != unlimited ]; do :; done; "
	child := sh(t, once+"ulimit -c; tail -n 1 /dev/zero; head -c 3000000 /dev/zero >file", func(c *Confined) {
		c.Dir, c.Memory, c.File = dir, 64<<20, 1<<20
	})
	said := child.ends(t)
	if !strings.HasPrefix(said, "0\n") || !strings.Contains(said, "memory exhausted") {
		t.Errorf("%q", said)
	}
	st, err := os.Stat(filepath.Join(dir, "file"))
	if err != nil || st.Size() > 1<<20 {
		t.Errorf("%v, %v", st, err)
	}
}

// TestConfinedHelper is the process that is killed in the next test.
func TestConfinedHelper(t *testing.T) {
	dir := os.Getenv("CONFINED_HELPER")
	if dir == "" {
		t.Skip("it is for the next test")
	}
	child := sh(t, "sleep 600 & echo begun; sleep 600", func(c *Confined) { c.Dir = dir })
	for !strings.Contains(child.Said(), "begun") {
		time.Sleep(5 * time.Millisecond)
	}
	fmt.Println("begun")
	<-child.Ended
}

func TestAConfinedProgramEndsWithWhoeverStartedIt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run", "^TestConfinedHelper$")
	cmd.Env = append(os.Environ(), "CONFINED_HELPER="+dir)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan() && lines.Text() != "begun"; {
	}
	if len(inside(t, dir)) < 2 {
		t.Errorf("it does not run: %q", inside(t, dir))
	}
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	deadline := time.Now().Add(time.Minute)
	for len(inside(t, dir)) > 0 && time.Now().Before(deadline) {
		time.Sleep(5 * time.Millisecond) // the kernel has them still
	}
	if left := inside(t, dir); len(left) > 0 {
		t.Errorf("%q are left", left)
	}
}

func TestTheFreeMemoryIsThatOfTheMachineOrOfTheCgroup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	is := func(want int64) {
		t.Helper()
		if got := memoryFree(filepath.Join(dir, "proc"), filepath.Join(dir, "cgroup")); got != want {
			t.Errorf("%d, and not %d", got, want)
		}
	}
	is(0)
	write("proc/meminfo", "MemTotal: 2048 kB\nMemAvailable:    1024 kB\n")
	is(1 << 20)
	write("proc/self/cgroup", "0::/pods/one\n")
	write("cgroup/pods/one/memory.max", "max\n")
	write("cgroup/pods/one/memory.current", "5000\n")
	is(1 << 20)
	write("cgroup/pods/memory.max", "600000\n")
	write("cgroup/pods/memory.current", "500000\n")
	is(100000)
	write("cgroup/pods/memory.stat", "anon 100000\nfile 400000\nfile_mapped 7\n")
	is(500000)
	write("cgroup/pods/one/memory.max", "5000\n")
	is(1) // nothing is left of it
	write("proc/self/cgroup", "1:memory:/old\n")
	is(1 << 20)
}
