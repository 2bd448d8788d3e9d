package op

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// Who is told that nobody could count the writes is told where they are then kept, too.
func TestWhereWritesAreKeptIsKnownWhateverCannotBeLookedAt(t *testing.T) {
	root := t.TempDir()
	// Nothing below it can be looked at.
	if err := os.Symlink("loop", filepath.Join(root, "loop")); err != nil {
		t.Fatal(err)
	}
	target := &Target{Host: &node.Host{FS: node.OS(root)}}
	data := Exchange{Live: "/loop/member", Staged: "/kept/data"}
	for name, o := range map[string]Promising{
		"the data": &data,
		"a log":    &ExchangeContents{Live: "/loop/wal", Staged: "/kept/wal", New: []entry{{"a", 1}}},
	} {
		if writes, err := o.Promised(t.Context(), target); err == nil || writes != 0 || o.Aside() == "" {
			t.Errorf("%s: %d, %v; kept as %q", name, writes, err, o.Aside())
		}
	}
	promising := 0
	for _, e := range examples(t) {
		o, err := Decode(e.Kind, e.Op)
		if err != nil {
			t.Fatal(err)
		}
		if p, can := o.(Promising); can {
			if promising++; p.Aside() == "" {
				t.Errorf("%s says of no place that it keeps writes there", e.Kind)
			}
		}
	}
	if promising < 4 {
		t.Errorf("%d examples promise something", promising)
	}
}
