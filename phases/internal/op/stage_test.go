package op

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// A run that could not make its directory, because a file is there or on the way there, has nothing
// to undo, and must not stay open for that.
func TestADirectoryThatCouldNotBeMadeIsTakenBack(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("theirs"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{file, file + "/below"} {
		m := &MakeDirectory{Path: name, Attr: node.Mine(0o700)}
		if err := m.Do(t.Context(), diskTarget(nil)); name != file && err == nil {
			t.Errorf("%s was made", name)
		}
		if err := m.Undo(t.Context(), diskTarget(nil)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	m := &MakeDirectory{Path: filepath.Join(t.TempDir(), "gone", "below", "it"), Attr: node.Mine(0o700)}
	if err := m.Undo(t.Context(), diskTarget(nil)); err != nil {
		t.Errorf("where the directories above it are gone, too: %v", err)
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != "theirs" {
		t.Errorf("the file is %q, %v", data, err)
	}
}
