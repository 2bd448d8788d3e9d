package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
)

// main prints the flags that etcd makes, as JSON.
func main() {
	type entry struct {
		Name    string   `json:"name"`
		Default string   `json:"default,omitempty"`
		Values  []string `json:"values,omitempty"`  // the only ones that are accepted
		Bool    bool     `json:"bool,omitempty"`    // it may be given without a value
		Ignored bool     `json:"ignored,omitempty"` // it is accepted, and does nothing
	}
	var printed struct {
		Flags []entry
		Gates []string // as the flag's help lists them
	}
	newConfig().cf.flagSet.VisitAll(func(f *flag.Flag) {
		e := entry{Name: f.Name, Default: f.DefValue}
		if selective, ok := f.Value.(interface{ Valids() []string }); ok {
			e.Values = selective.Valids()
		}
		if b, ok := f.Value.(interface{ IsBoolFlag() bool }); ok {
			e.Bool = b.IsBoolFlag()
		}
		e.Ignored = fmt.Sprintf("%T", f.Value) == "*flags.IgnoredFlag"
		printed.Flags = append(printed.Flags, e)
		if f.Name == "feature-gates" {
			printed.Gates = strings.Split(f.Usage, "\n")
		}
	})
	if err := json.NewEncoder(os.Stdout).Encode(printed); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
