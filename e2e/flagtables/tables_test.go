package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/etcdpod/etcdpod/e2e/binaries"
)

// Who pins another etcd, or edits the tables by hand, learns it here.
func TestTheTablesAreWhatEtcdItselfSays(t *testing.T) {
	root, err := binaries.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	there, err := os.ReadFile(filepath.Join(root, place))
	if err != nil {
		t.Fatal(err)
	}
	made, err := generate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(there, made) {
		t.Errorf("%s is not what the sources of etcd %v make of it: make it anew with `go run ./e2e/flagtables`, and "+
			"read the diff", place, binaries.EtcdVersions())
	}
}

func TestOfADifferentEtcdNothingIsGuessed(t *testing.T) {
	if _, err := gatesIn([]string{"A set of key=value pairs", "SomeGate: true or false"}); err == nil {
		t.Error("help that lists gates in another way was read as that of an etcd without any")
	}
	gates, err := gatesIn(nil)
	if err != nil || len(gates) != 0 {
		t.Errorf("an etcd without --feature-gates has %v, %v", gates, err)
	}
	noMap := tables{Renamed: map[string]string{}, Gated: map[string]string{"experimental-a": "A"}}
	if err := noMap.prefixes(); err == nil {
		t.Error("sources in which nothing was renamed were taken for granted")
	}
}
