package node_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// crash does what nothing in the process can catch.
func crash(how string) int {
	if how == "file" {
		what := make([]byte, 100)
		n, _ := os.NewFile(3, "file").Read(what)
		_, _ = os.Stdout.Write(what[:n])
		return 0
	}
	over := make(chan struct{})
	go func() {
		if how == "panic" {
			panic(errors.New("cannot commit: no space left on device"))
		}
		f, err := os.CreateTemp("", "")
		if err != nil {
			panic(err)
		}
		_ = os.Remove(f.Name())
		_ = f.Truncate(4096)
		mapped, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_SHARED)
		if err != nil {
			panic(err)
		}
		_ = f.Truncate(0)
		_, _ = os.Stdout.WriteString(string(mapped[:1]))
		close(over)
	}()
	<-over
	return 0
}

// What ends a process of its own ends nothing else, and is told in a line.
func TestAProcessThatCrashesIsAnErrorOfTheOneThatStartedIt(t *testing.T) {
	for _, test := range []struct{ how, want string }{
		{"panic", "panic: cannot commit: no space left on device"},
		{"fault", "SIGBUS"},
	} {
		t.Setenv(holdVariable, "crash:"+test.how)
		_, err := node.Again(t.Context(), nil, nil, nil)
		crashed := (*node.CrashedError)(nil)
		if !errors.As(err, &crashed) || !strings.Contains(crashed.Said, test.want) ||
			strings.Contains(crashed.Said, "goroutine ") || crashed.How != "exit status 2" {
			t.Errorf("%s: %v", test.how, err)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	ok(t, os.WriteFile(file, []byte("held"), 0o600))
	f, err := os.Open(file)
	ok(t, err)
	defer f.Close()
	t.Setenv(holdVariable, "crash:file")
	if out, err := node.Again(t.Context(), nil, []*os.File{f}, nil); err != nil || string(out) != "held" {
		t.Errorf("%q, %v", out, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := node.Again(ctx, nil, nil, nil); err == nil {
		t.Error("a context that is over ends nothing")
	}
}
