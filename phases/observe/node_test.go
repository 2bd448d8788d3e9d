package observe

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// A path that is proposed is one that was seen to be there.
func TestAPathOutsideTheRootIsToldWhereItMayBe(t *testing.T) {
	root, elsewhere := t.TempDir(), t.TempDir()
	n := &Node{View: node.View{FS: node.OS(root)}}
	err := errors.Join(os.WriteFile(root+"/there", nil, 0o600), os.WriteFile(elsewhere+"/x.db", nil, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	for typed, want := range map[string]string{
		"/there":            "give it as the shell sees it: " + root + "/there",
		elsewhere + "/x.db": "give a path below " + root + ", as the shell sees it; a file from elsewhere must be ",
	} {
		_, err := n.HostPath(typed)
		if err == nil || err.Error() != typed+" is not below the root "+root ||
			!strings.HasPrefix(engine.Hint(err), want) {
			t.Errorf("%s: %v; %s", typed, err, engine.Hint(err))
		}
	}
	if got, err := n.HostPath(root + "/there"); got != "/there" || err != nil {
		t.Errorf("it is %s, %v", got, err)
	}
}
