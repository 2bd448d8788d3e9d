//go:build e2e

package cluster

import (
	"encoding/json"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/e2e/binaries"
)

const ctr = "ctr --namespace k8s.io "

// imported gives the node the image that `make dist` has made, for one test, and returns its name.
func (k *control) imported() (image string) {
	k.Helper()
	dir, err := binaries.Dist()
	k.Must(err)
	found, err := filepath.Glob(filepath.Join(dir, "etcdpod_*_oci.tar"))
	k.Must(err)
	if len(found) != 1 {
		k.Fatalf("%s has %d images of etcdpod: run make dist", dir, len(found))
	}
	version := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(found[0]), "etcdpod_"), "_oci.tar")
	image = "localhost/etcdpod:" + strings.ReplaceAll(version, "+", "-")
	k.shell(ctr + "images import " + found[0])
	k.Cleanup(func() { k.with(k.T).shell(ctr + "images remove --sync " + image) })
	return image
}

// What `make dist` has made is imported by the node's containerd, and run by it.
func TestTheImageIsImportedAndLooksAfterTheNodeItRunsOn(t *testing.T) {
	k := take(t)
	image := k.imported()
	// Its entrypoint is etcdpod, which says what it can do.
	if help := k.shell(ctr + "run --rm " + image + " etcdpod-e2e"); !strings.Contains(help, "Usage: etcdpod COMMAND") {
		t.Errorf("run without a command, it says\n%s", help)
	}
	run := ctr + "run --rm --net-host --mount type=bind,src=/,dst=/host,options=rbind:rw " + image +
		" etcdpod-e2e /usr/bin/etcdpod --root /host "
	if out := k.shell(run + "version"); !strings.HasPrefix(out, "etcdpod ") ||
		!strings.Contains(out, "linux/"+runtime.GOARCH) {
		t.Errorf("of both architectures' images it runs\n%s", out)
	}

	// All but the kubelet, which only a program of the node can be asked about.
	var status struct {
		Runtime  string
		Member   struct{ Name string }
		Findings []struct{ Code string }
	}
	out := k.shell(run + "--output json status || test $? = 6")
	if err := json.Unmarshal([]byte(out), &status); err != nil {
		t.Fatalf("status is no JSON: %v\n%s", err, out)
	}
	if status.Member.Name != k.node.Name || status.Runtime != "ok" ||
		!slices.Contains(status.Findings, struct{ Code string }{"kubelet-unknown"}) {
		t.Errorf("status in the container says\n%s", out)
	}

	k.want(0, "verify", k.shell(run+"--quiet backup"))
}
