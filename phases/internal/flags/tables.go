// Package flags knows the flags and feature gates of each release of etcd, and what becomes of
// those that were given to one at another. It reads and writes nothing: its tables are made from
// etcd itself (e2e/flagtables).
package flags

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
)

//go:embed tables.json
var text []byte

// Flag is one flag of a release.
type Flag struct {
	Name    string   `json:"name"`
	Default string   `json:"default"`
	Values  []string `json:"values"`  // the only ones that are accepted; none: any
	Bool    bool     `json:"bool"`    // it may be given without a value
	Ignored bool     `json:"ignored"` // it is accepted, and does nothing
}

// Release is the table of one minor.
type Release struct {
	Minor   string `json:"minor"`   // such as 3.6
	Version string `json:"version"` // that it was made from
	Flags   []Flag `json:"flags"`   // by name
	Gates   []Gate `json:"gates"`
}

// Gate is a feature gate.
type Gate struct {
	Name    string `json:"name"`
	Default bool   `json:"default"`
}

// tables are all that is known.
type tables struct {
	Releases []Release         `json:"releases"` // the oldest first
	Renamed  map[string]string `json:"renamed"`  // old names and new ones
	Gated    map[string]string `json:"gated"`    // flags, and the gates that they became
}

var known = sync.OnceValue(func() (t tables) {
	if err := json.Unmarshal(text, &t); err != nil {
		panic(fmt.Sprintf("the tables of etcd's flags are damaged: %v", err))
	}
	return t
})

// Releases are all that are known, the oldest first.
func Releases() []Release { return slices.Clone(known().Releases) }

// Of is the table of a minor; nil: it is not known.
func Of(minor string) *Release {
	all := known().Releases
	i := slices.IndexFunc(all, func(r Release) bool { return r.Minor == minor })
	if i < 0 {
		return nil
	}
	return &all[i]
}

// Flag is the flag of that name; nil: the release has none.
func (r *Release) Flag(name string) *Flag {
	i, there := slices.BinarySearchFunc(r.Flags, name, func(f Flag, name string) int {
		return compare(f.Name, name)
	})
	if !there {
		return nil
	}
	return &r.Flags[i]
}

// gate is the feature gate of that name; nil: the release has none.
func (r *Release) gate(name string) *Gate {
	i := slices.IndexFunc(r.Gates, func(g Gate) bool { return g.Name == name })
	if i < 0 {
		return nil
	}
	return &r.Gates[i]
}

// Names are the flags of all releases, sorted.
func Names() (all []string) {
	for _, r := range known().Releases {
		for _, f := range r.Flags {
			all = append(all, f.Name)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
