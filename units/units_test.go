package units

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/e2e/systemd"
)

// hard are words that a shell or systemd would take for something else.
func hard() []string {
	return []string{"a b", "", "it's", `"`, `\`, `\\"`, "$HOME", "$$", "${A}", "100%", "%n %%", ";", "&& exit", "#",
		"*", "`id`", "~", "-", "--", "ä →", "a\\", "'\\''", "!", "(", "{a,b}", "a;b|c>d<e", "=x", "@x", ":x", "+x"}
}

func TestAShellGetsTheWordsThatWereGiven(t *testing.T) {
	out, err := exec.Command("/bin/sh", "-c", `printf '%s\n' `+shellWords(hard())).Output()
	if got := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n"); err != nil || !slices.Equal(got, hard()) {
		t.Errorf("it gets %q (%v)", got, err)
	}
}

func TestSystemdGetsTheWordsThatWereGiven(t *testing.T) {
	j := Job{Does: "backup", Program: "/usr/bin/etcdpod", Flags: hard()}
	got, err := systemd.Command("ExecStart=" + j.Exec())
	if want := append([]string{j.Program, "backup"}, hard()...); err != nil || !slices.Equal(got, want) {
		t.Errorf("it gets %q (%v)", got, err)
	}
	// With a shell between them.
	j = Job{Does: "status", Program: "/usr/bin/etcdpod", Flags: hard()}
	if got, err = systemd.Command("ExecStart=" + j.Exec()); err != nil || len(got) != 3 || got[2] != j.script(
		append([]string{j.Program, "status"}, hard()...)) {
		t.Errorf("the shell gets %q (%v)", got, err)
	}
	for _, path := range hard() {
		if got, err := systemd.Words(specifiers(path)); err != nil || len(got) != 1 || got[0] != path {
			t.Errorf("%q is %q to systemd (%v)", path, got, err)
		}
	}
}

func TestEveryCommandHasItsTimesAndItsDefaults(t *testing.T) {
	for _, does := range Commands() {
		inPod := slices.Contains(InPods(), does)
		if Calendar(does) == "" || len(ByDefault(does)) == 0 || inPod != (Schedule(does) != "") {
			t.Errorf("%s has the times %q and %q, and %v", does, Calendar(does), Schedule(does), ByDefault(does))
		}
	}
}

func TestADirectoryBelowEtcdpodsOwnIsNotMountedTwice(t *testing.T) {
	for dir, want := range map[string]string{"": "", "/var/lib/etcdpod": "", "/var/lib/etcdpod/b/": "",
		"/var/lib/etcdpod-b": "/var/lib/etcdpod-b", "/mnt//safe/": "/mnt/safe", "/var/lib/etcdpod/../b": "/var/lib/b"} {
		if got := (Job{Dir: dir}).Elsewhere(); got != want {
			t.Errorf("%q is %q", dir, got)
		}
	}
}
