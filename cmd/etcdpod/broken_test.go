package main

import (
	"context"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases"
	"github.com/etcdpod/etcdpod/phases/engine"
)

// brittle panics when it is written to.
type brittle struct{}

func (brittle) Write([]byte) (int, error) {
	var none []int
	return none[0], nil // as a fault of the program's own would
}

func TestAPanicIsOneSentenceAndEndsWithOne(t *testing.T) {
	var stderr strings.Builder
	code := run(context.Background(), []string{"etcdpod", "version"}, strings.NewReader(""), brittle{}, &stderr, noEnv)
	if code != exitFailed || strings.Contains(stderr.String(), "goroutine") ||
		!strings.HasPrefix(stderr.String(), "etcdpod: etcdpod itself failed, in etcdpod/broken_test.go:") {
		t.Errorf("it ended with %d: %s", code, stderr.String())
	}
}

func TestAPanicThatLeavesARunOpenSaysSoAndEndsWithThree(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "var/lib/etcdpod/runs/20260101T000000Z-restore-0001")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	begin := `{"kind":"begin","run":{"id":"20260101T000000Z-restore-0001","workflow":"restore","plan":[` +
		`{"phase":"fence","kind":"make-directory","op":{"path":"/x"}}]}}`
	journal := fmt.Sprintf("%08x %s\n", crc32.ChecksumIEEE([]byte(begin)), begin)
	if err := os.WriteFile(filepath.Join(dir, "journal"), []byte(journal), 0o600); err != nil {
		t.Fatal(err)
	}
	n, err := phases.Open(phases.Config{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	open, err := engine.OpenRun(n.Look.FS)
	if err != nil || open.ID == "" {
		t.Fatalf("no run is open: %v", err)
	}
	s := &session{node: n}
	if err := s.broken(engine.Bug("x")); exitCode(err) != exitOpenRun || !strings.Contains(err.Error(), open.ID) {
		t.Errorf("%v", err)
	}
}

func noEnv(string) string { return "" }
