package hold_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/e2e/hold"
)

// steps makes two files durable, and writes after each; a child makes the third.
const steps = `sync a; echo a; sync b; echo b; sh -c 'sync c; echo c'`

func TestAProgramWaitsWhereItMakesAFileDurable(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b", "c"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	shown := filepath.Join(dir, "shown")
	out, err := os.Create(shown)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", steps)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, out

	reached, goOn := make(chan string), make(chan struct{})
	if err := hold.Start(cmd.Start, func(path string) {
		reached <- path
		<-goOn
	}); err != nil {
		t.Fatal(err)
	}
	said := ""
	for _, name := range []string{"a", "b", "c"} {
		if path := <-reached; path != filepath.Join(dir, name) {
			t.Errorf("it waits at %s, and not at %s", path, name)
		}
		got, err := os.ReadFile(shown)
		if err != nil || strings.Join(strings.Fields(string(got)), "") != said {
			t.Errorf("at %s it has written %q: %v", name, got, err)
		}
		said += name
		goOn <- struct{}{}
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestAProgramThatIsKilledWhereItWaitsEnds(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sync", name)
	reached, goOn := make(chan string), make(chan struct{})
	if err := hold.Start(cmd.Start, func(path string) {
		reached <- path
		<-goOn
	}); err != nil {
		t.Fatal(err)
	}
	<-reached
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Errorf("it ended with %v", err)
	}
	close(goOn)
}

func TestWhatCannotBeStartedIsToldAndHoldsNothing(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), filepath.Join(t.TempDir(), "absent"))
	if err := hold.Start(cmd.Start, func(string) {}); err == nil {
		t.Error("what is not there was started")
	}
}
