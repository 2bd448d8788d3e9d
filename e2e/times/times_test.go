package main

import (
	"os"
	"strings"
	"testing"
)

// The log has packages that pass, fail, come from the cache and do not build; tests that are
// parallel, skipped, have subtests, panic, end the process, and do not end in time.
const want = `== make test: how long each package took
           pki (cached)
           templates (build failed)
     0.0s  cmd/etcdpod
     0.1s  e2e/rig (failed)
     0.2s  e2e/oracle (failed)
     0.5s  e2e/cluster (failed)
     2.0s  e2e/threenodes (failed)
== make test: how long each test of a real control plane took
           e2e/cluster TestSkipped (skipped)
           e2e/oracle TestExits (did not end)
     0.0s  e2e/rig TestFine
     0.1s  e2e/cluster TestSubtests (failed)
     0.1s  e2e/rig TestPanics (failed)
     0.2s  e2e/cluster TestParallelTwo
     0.3s  e2e/cluster TestParallelOne
     2.0s  e2e/threenodes TestTooSlow (did not end)
`

func TestPackagesAndTestsAreListedTheSlowestLast(t *testing.T) {
	log, err := os.Open("testdata/sample.log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	packages, err := read(log)
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	show(&table, "make test", packages)
	// Quoted, as everything here that looks like a result: .ci/run counts those that begin a line.
	if got := table.String(); got != want {
		t.Errorf("got\n%q, want\n%q", got, want)
	}
}

func TestOneLineOfALog(t *testing.T) {
	for line, want := range map[string]timing{
		"ok  \tgithub.com/etcdpod/etcdpod/pki\t73.25s":                {Name: "pki", Took: 73250e6},
		"ok  \tgithub.com/etcdpod/etcdpod/pki\t0.1s\tcoverage: 80.0%": {Name: "pki", Took: 100e6},
		"ok  \tgithub.com/etcdpod/etcdpod/pki\t(cached)":              {Name: "pki", Remark: "cached"},
		"FAIL\tgithub.com/etcdpod/etcdpod/pki\t1s":                    {Name: "pki", Took: 1e9, Remark: "failed"},
		"FAIL\tgithub.com/etcdpod/etcdpod/pki [setup failed]":         {Name: "pki", Remark: "setup failed"},
		"FAIL\tgithub.com/etcdpod/etcdpod/pki [build failed]":         {Name: "pki", Remark: "build failed"},
		"?   \tgithub.com/etcdpod/etcdpod/manifests\t[no test files]": {},
		"\tgithub.com/etcdpod/etcdpod/manifests\t\tcoverage: 0.0%":    {},
		"FAIL":            {},
		"ok  and so on":   {},
		"    ok  \tx\t1s": {},
	} {
		got, ok := ended(line)
		got.Name = strings.TrimPrefix(got.Name, module)
		if got.Name != want.Name || got.Took != want.Took || got.Remark != want.Remark || ok != (want.Name != "") {
			t.Errorf("%q: got %+v, want %+v", line, got, want)
		}
	}
}

func TestAnEmptyLogIsNoTable(t *testing.T) {
	packages, err := read(strings.NewReader("make: *** [Makefile:22: test] Error 1"))
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	if show(&table, "make test", packages); table.Len() > 0 {
		t.Errorf("got %q", table.String())
	}
}

func TestTimesAreReadable(t *testing.T) {
	for want, of := range map[string]timing{
		"0.0s":     {},
		"59.9s":    {Took: 59900e6},
		"1m00.0s":  {Took: 60e9},
		"12m05.3s": {Took: 725300e6},
		"":         {Remark: "cached"},
	} {
		if got := seconds(of); got != want {
			t.Errorf("%v: got %q, want %q", of.Took, got, want)
		}
	}
}
