package main

import (
	"slices"
	"strings"
	"testing"
)

func TestABuildIsWhatTheLinkerWasTold(t *testing.T) {
	t.Cleanup(func() { version, commit = "", "" })
	version, commit = "v1.2.3-4-gabc-dirty", "abcdef"
	if b := thisBuild(); b.Version != version || b.Commit != "abcdef" || !b.Modified {
		t.Errorf("it says %+v", b)
	}
	version = "v1.2.3"
	if b := thisBuild(); b.Modified {
		t.Errorf("a clean build says %+v", b)
	}
}

func TestABuildSaysWhatItIsGoodFor(t *testing.T) {
	b := thisBuild()
	if !slices.Contains(b.Etcd, "3.6") || !slices.Contains(b.Kubernetes, "1.37") {
		t.Errorf("it says %+v", b)
	}
	var text strings.Builder
	writeBuild(&text, build{Version: "v1.2.3", Commit: "abc", Modified: true, Go: "go1.26", Platform: "linux/arm64",
		Etcd: []string{"3.5", "3.6"}, Kubernetes: []string{"1.36", "1.37"}})
	const want = `etcdpod v1.2.3

commit      abc, with later changes
go          go1.26
platform    linux/arm64
etcd        3.5, 3.6
kubernetes  1.36, 1.37 (init and join)
`
	if text.String() != want {
		t.Errorf("it is written as\n%s", &text)
	}
}
