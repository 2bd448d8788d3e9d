package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestTheDemoIsToldToItsEnd(t *testing.T) {
	if os.Getenv("ETCDPOD") == "" { // it names one that is built already
		binary := filepath.Join(t.TempDir(), "etcdpod")
		build := exec.Command("go", "build", "-o", binary, "github.com/etcdpod/etcdpod/cmd/etcdpod")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("cannot build etcdpod: %v\n%s", err, out)
		}
		t.Setenv("ETCDPOD", binary)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	var told strings.Builder
	if err := demo(ctx, &teller{to: &told, width: 80}); err != nil {
		t.Fatalf("%v, after this was told:\n%s", err, told.String())
	}
	for _, words := range []string{"proven good", "kill -9", "etcdpod resume", "every key and value is the same"} {
		if !strings.Contains(told.String(), words) {
			t.Errorf("it is not told %q:\n%s", words, told.String())
		}
	}
	for line := range strings.Lines(told.String()) {
		if strings.Contains(line, "\x1b") {
			t.Errorf("colours, where there should be none: %q", line)
		}
	}
}

func TestADemoThatIsInterruptedLeavesNothing(t *testing.T) {
	dir, err := os.MkdirTemp("", "ep") // a short name, for the sockets below it
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	t.Setenv("TMPDIR", dir)
	t.Setenv("ETCDPOD", "/bin/false")
	var told strings.Builder
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := demo(ctx, &teller{to: &told, width: 80}); err == nil {
		t.Errorf("it was told to its end:\n%s", told.String())
	}
	if !strings.Contains(told.String(), "comes up") {
		t.Errorf("it did not begin:\n%s", told.String())
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("it left %v, %v", left, err)
	}
}
