// Command times reads logs of `go test -v`, and prints how long each package took, and each test on
// real control planes, the slowest last: who adds a test sees what it costs.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: times LOG…")
		os.Exit(2)
	}
	failed := false
	for _, name := range os.Args[1:] {
		log, err := os.Open(name)
		if err != nil {
			fmt.Fprintln(os.Stderr, "times:", err)
			failed = true
			continue
		}
		packages, err := read(log)
		log.Close()
		if err != nil {
			fmt.Fprintf(os.Stderr, "times: %s: %v\n", name, err)
			failed = true
		}
		show(os.Stdout, "make "+filepath.Base(name), packages)
	}
	if failed {
		os.Exit(1)
	}
}
