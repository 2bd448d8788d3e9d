package flags

import (
	"slices"
	"strconv"
	"strings"
)

// setting is what a name means, whatever it is called in a release: the new name, or the gate.
func (t tables) setting(name string) string {
	if renamed := t.Renamed[name]; renamed != "" {
		return renamed
	}
	if gate := t.Gated[name]; gate != "" {
		return gatesFlag + " " + gate
	}
	return name
}

// settings are what a given one means: of --feature-gates, each gate.
func (t tables) settings(g Given) (all []string) {
	if g.Name != gatesFlag {
		return []string{t.setting(g.Name)}
	}
	for _, one := range gatesOf(g.Value) {
		name, _, _ := strings.Cut(one, "=")
		all = append(all, gatesFlag+" "+name)
	}
	return all
}

// doubled finds what is given under two names. The release before knows but one of them, and reads
// no variable that it does not know; one that knows both refuses them (etcd 3.6, server/embed:
// Validate, SetFeatureGatesFromExperimentalFlags), and one that knows the new one alone, too, if
// the other is to be written so.
func (c *crossing) doubled(given []Given) {
	first := map[string]Given{}
	for _, g := range given {
		for _, s := range c.settings(g) {
			before, twice := first[s]
			if !twice {
				first[s] = g
				continue
			}
			if before.Name != g.Name {
				c.say(Change{Kind: Doubled, Given: before, Other: g.String(),
					Stops: c.will.Flag(before.Name) != nil && c.will.Flag(g.Name) != nil})
			}
		}
	}
}

// presets finds the defaults that differ, of what nobody has given.
func (c *crossing) presets(given []Given) {
	set := map[string]bool{}
	for _, g := range given {
		for _, s := range c.settings(g) {
			set[s] = true
		}
	}
	for _, f := range c.was.Flags {
		s := c.setting(f.Name)
		// The default of an old name says nothing where the new one is there, too.
		old := s != f.Name && (c.was.Flag(s) != nil || c.was.Flag(gatesFlag) != nil)
		if set[s] || old || f.Ignored || f.Name == gatesFlag || f.Name == sameInFact {
			continue
		}
		will, known := c.defaultOf(f.Name)
		if !known || will == f.Default {
			continue
		}
		set[s] = true // under its other name, too
		c.say(Change{Kind: Preset, Given: Given{f.Name, f.Default, Argument}, Other: will})
	}
	for _, g := range c.was.Gates {
		will := c.will.gate(g.Name)
		if will == nil || will.Default == g.Default || set[gatesFlag+" "+g.Name] {
			continue
		}
		name := Given{gatesFlag, g.Name + "=" + strconv.FormatBool(g.Default), Argument}
		c.say(Change{Kind: Preset, Given: name, Other: g.Name + "=" + strconv.FormatBool(will.Default)})
	}
}

// defaultOf is the default that a flag of the release before has now, under whatever name.
func (c *crossing) defaultOf(name string) (string, bool) {
	if g := c.gateOf(name); g != nil {
		return strconv.FormatBool(g.Default), true
	}
	for _, n := range []string{c.Renamed[name], name, c.otherName(name)} {
		if f := c.will.Flag(n); f != nil && !f.Ignored {
			return f.Default, true
		}
	}
	return "", false
}

// sameInFact is 0 by default in etcd 3.6, which takes that for the 300 ms of 3.7
// (server/etcdmain: parseWarningUnaryRequestDuration).
const sameInFact = "warning-unary-request-duration"

// Stops says whether an etcd would not start with what changes.
func Stops(changes []Change) bool {
	return slices.ContainsFunc(changes, func(c Change) bool { return c.Stops })
}
