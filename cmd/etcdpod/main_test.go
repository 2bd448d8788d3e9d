package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/etcdpod/etcdpod/e2e/schema"
)

// TestScripts runs the command line as people and scripts do, in this process. `etcdpod …` must
// exit with 0, `exits N …` with N.
func TestScripts(t *testing.T) {
	good := goodSnapshot(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			damaged := bytes.Clone(good)
			damaged[len(damaged)/2] ^= 1
			for name, data := range map[string][]byte{
				"good.db":    good,
				"bitflip.db": damaged,
				"short.db":   good[:len(good)-1],
				"raw.db":     good[:len(good)-32],
			} {
				if err := os.WriteFile(filepath.Join(e.WorkDir, name), data, 0o600); err != nil {
					return err
				}
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"etcdpod": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg {
					ts.Fatalf("use exits N")
				}
				exits(ts, 0, args)
			},
			"exits": func(ts *testscript.TestScript, _ bool, args []string) {
				code, err := strconv.Atoi(args[0])
				ts.Check(err)
				exits(ts, code, args[1:])
			},
		},
	})
}

func exits(ts *testscript.TestScript, want int, args []string) {
	// Resolve file names for the script: this process has another working directory.
	for i, arg := range args {
		if strings.HasSuffix(arg, ".db") || strings.HasSuffix(arg, ".json") {
			args[i] = ts.MkAbs(arg)
		}
	}
	var stdout, stderr bytes.Buffer
	got := run(context.Background(), append([]string{"etcdpod"}, args...), strings.NewReader(""),
		io.MultiWriter(ts.Stdout(), &stdout), io.MultiWriter(ts.Stderr(), &stderr), ts.Getenv)
	if got != want {
		ts.Fatalf("etcdpod %s ended with %d, not %d", strings.Join(args, " "), got, want)
	}
	ts.Check(schema.Check(args, stdout.String(), stderr.String(), got))
}
