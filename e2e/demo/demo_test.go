package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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
	// Only to end what hangs.
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	var told strings.Builder
	const asWideAsTheRecording = 100
	if err := demo(ctx, &teller{to: &told, width: asWideAsTheRecording}, ""); err != nil {
		t.Fatalf("%v, after this was told:\n%s", err, told.String())
	}
	recorded, err := os.ReadFile("../../docs/demo.cast")
	if err != nil {
		t.Fatal(err)
	}
	for _, phase := range phases(t, string(recorded)) {
		if !strings.Contains(told.String(), phase) {
			t.Errorf("the README's picture shows what is not told any more, %q: `make picture` records again", phase)
		}
	}
	for _, words := range []string{"verified", "kill -9", "etcdpod resume", "every key and value is the same"} {
		if !strings.Contains(strings.Join(strings.Fields(told.String()), " "), words) {
			t.Errorf("it is not told %q:\n%s", words, told.String())
		}
	}
	for line := range strings.Lines(told.String()) {
		if strings.Contains(line, "\x1b") {
			t.Errorf("colours, where there should be none: %q", line)
		}
	}
}

// phases are the lines of a recording that name a phase and say what it is for: they are the same
// each time.
func phases(t *testing.T, recording string) []string {
	t.Helper()
	plain := regexp.MustCompile(`\\u001b\[[0-9;]*m`).ReplaceAllString(recording, "")
	all := regexp.MustCompile(`    [a-z]+(?:-[a-z]+)* {2,}[a-z][^\\]*`).FindAllString(plain, -1)
	if len(all) < 10 {
		t.Fatalf("the recording shows only %d phases: %q", len(all), all)
	}
	return all
}

// interrupting is what is told, and an interrupt when it comes to certain words.
type interrupting struct {
	strings.Builder
	words     string
	interrupt func()
}

func (i *interrupting) Write(b []byte) (int, error) {
	n, err := i.Builder.Write(b)
	if strings.Contains(i.String(), i.words) {
		i.interrupt()
	}
	return n, err
}

func TestADemoThatIsInterruptedLeavesNothing(t *testing.T) {
	for name, words := range map[string]string{
		"before anything runs": "A control plane comes up", "when all is up": "up after",
	} {
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "ep") // a short name, for the sockets below it
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			t.Setenv("TMPDIR", dir)
			t.Setenv("ETCDPOD", "/bin/false")
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			told := interrupting{words: words, interrupt: cancel}
			if err := demo(ctx, &teller{to: &told, width: 80}, ""); !errors.Is(err, context.Canceled) {
				t.Errorf("it ended with %v, after this was told:\n%s", err, told.String())
			}
			if !strings.Contains(told.String(), words) {
				t.Errorf("it did not come to %q:\n%s", words, told.String())
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("it left %v, %v", left, err)
			}
		})
	}
}
