package main

import "testing"

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
