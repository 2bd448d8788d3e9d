package hostpath_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/etcdpod/etcdpod/e2e/sandbox/internal/hostpath"
)

func TestLinksStayBelowTheRoot(t *testing.T) {
	root := t.TempDir()
	for name, to := range map[string]string{
		"absolute": "/srv/disk", "relative": "srv/disk", "above": "../../../srv/disk",
		"twice": "/absolute/deep", "loop": "/loop",
	} {
		if err := os.Symlink(to, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	for host, want := range map[string]string{
		"/plain/path":    "/plain/path",
		"/absolute":      "/srv/disk",
		"/absolute/a":    "/srv/disk/a",
		"/relative/a/b":  "/srv/disk/a/b",
		"/above":         "/srv/disk",
		"/twice/a":       "/srv/disk/deep/a",
		"/../../outside": "/outside",
	} {
		if got, err := hostpath.Resolve(root, host); err != nil || got != filepath.Join(root, want) {
			t.Errorf("%s: got %s, %v, want %s below the root", host, got, err, want)
		}
	}
	if _, err := hostpath.Resolve(root, "/loop"); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("a loop gave %v", err)
	}
}
