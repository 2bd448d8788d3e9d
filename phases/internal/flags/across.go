package flags

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Origin says where a setting is given.
type Origin string

// The origins.
const (
	Argument Origin = "flag"
	Variable Origin = "variable"
	File     Origin = "file" // etcd's configuration file
)

// Given is one setting of an etcd, by the name of its flag.
type Given struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	From  Origin `json:"from"`
}

// String is the setting as it is written where it is given.
func (g Given) String() string {
	switch g.From {
	case Variable:
		return "ETCD_" + strings.ToUpper(strings.ReplaceAll(g.Name, "-", "_")) + "=" + g.Value
	case File:
		return g.Name + ": " + g.Value
	}
	return "--" + g.Name + "=" + g.Value
}

// Kind is what becomes of a setting.
type Kind string

// The kinds, the worst first.
const (
	Unknown    Kind = "unknown"    // there is nothing like it
	Refused    Kind = "refused"    // the flag does not take that value
	Doubled    Kind = "doubled"    // it is given under two names at once
	Renamed    Kind = "renamed"    // it has another name
	Gated      Kind = "gated"      // it became a feature gate, or is a flag instead of one
	Awakened   Kind = "awakened"   // it was not known, and so did nothing, until now
	Deprecated Kind = "deprecated" // it is taken for the last time; the new spelling is, too
	Preset     Kind = "default"    // it is not given, and its default is another
)

// Change is what becomes of one setting at another release.
type Change struct {
	Kind  Kind
	Given        // of a Preset: the flag and the default that it had
	Other string // of Doubled: the other one, as it is written; of a Preset: the new default
	// What to write instead, at the same place; none: nothing is as it was.
	Becomes []Given
	// An etcd of that release would not start with it. Otherwise it goes without what it does not
	// know.
	Stops bool
}

const (
	gatesFlag    = "feature-gates"
	experimental = "experimental-"
)

// Across holds what was given to an etcd of one minor against another one's table, in either
// direction: what changes, and how it would all be written there. What is unknown is left out of
// that, and what is written twice is written once. A release that is not known is an error.
func Across(given []Given, from, to string) (changes []Change, written []Given, err error) {
	was, will := Of(from), Of(to)
	if was == nil || will == nil {
		return nil, nil, fmt.Errorf("the flags of etcd %s and %s are not both known", from, to)
	}
	c := crossing{was: was, will: will, tables: known()}
	c.doubled(given)
	for _, g := range given {
		c.cross(g)
	}
	c.presets(given)
	slices.SortStableFunc(c.changes, func(a, b Change) int { return rank(a.Kind) - rank(b.Kind) })
	return c.changes, c.written, nil
}

func rank(k Kind) int {
	return slices.Index([]Kind{Unknown, Refused, Doubled, Renamed, Gated, Awakened, Deprecated, Preset}, k)
}

// crossing is one way from a release to another.
type crossing struct {
	was, will *Release
	tables
	changes []Change
	written []Given
}

func (c *crossing) say(change Change) { c.changes = append(c.changes, change) }

// cross finds what becomes of one setting.
func (c *crossing) cross(g Given) {
	stops := g.From == Argument
	switch f := c.will.Flag(g.Name); {
	case g.Name == gatesFlag && f != nil:
		c.crossGates(g)
	case g.Name == gatesFlag:
		c.ungate(g)
	case f != nil && len(f.Values) > 0 && !slices.Contains(f.Values, g.Value):
		c.say(Change{Kind: Refused, Given: g, Other: strings.Join(f.Values, ", "), Stops: true})
	case f != nil:
		c.keep(g)
	case c.otherName(g.Name) != "":
		g2 := Given{c.otherName(g.Name), g.Value, g.From}
		c.say(Change{Kind: Renamed, Given: g, Becomes: []Given{g2}, Stops: stops})
		c.write(g2)
	case c.gateOf(g.Name) != nil:
		g2 := c.asGate(g)
		c.say(Change{Kind: Gated, Given: g, Becomes: []Given{g2}, Stops: stops})
		c.write(g2)
	default:
		c.say(Change{Kind: Unknown, Given: g, Stops: stops})
	}
}

// keep is for what the release has. The old name of two that it takes is on its way out.
func (c *crossing) keep(g Given) {
	c.write(g)
	c.awake(g)
	if !strings.HasPrefix(g.Name, experimental) {
		return
	}
	if name := c.Renamed[g.Name]; name != "" && c.will.Flag(name) != nil {
		c.say(Change{Kind: Deprecated, Given: g, Becomes: []Given{{name, g.Value, g.From}}})
	} else if c.gateOf(g.Name) != nil {
		c.say(Change{Kind: Deprecated, Given: g, Becomes: []Given{c.asGate(g)}})
	}
}

// awake is for a variable, or a line of a file, that the release before does not know.
func (c *crossing) awake(g Given) {
	if g.From != Argument && c.was.Flag(g.Name) == nil {
		c.say(Change{Kind: Awakened, Given: g})
	}
}

// otherName is the name that the release has for a flag, in either direction; empty: none.
func (c *crossing) otherName(name string) string {
	if renamed := c.Renamed[name]; renamed != "" && c.will.Flag(renamed) != nil {
		return renamed
	}
	for before, after := range c.Renamed {
		if after == name && c.will.Flag(before) != nil {
			return before
		}
	}
	return ""
}

// gateOf is the gate that a flag became, if the release has it.
func (c *crossing) gateOf(name string) *Gate {
	if c.will.Flag(gatesFlag) == nil {
		return nil
	}
	return c.will.gate(c.Gated[name])
}

func (c *crossing) asGate(g Given) Given {
	on := true // a flag without a value is one that is set
	if v, err := strconv.ParseBool(g.Value); err == nil {
		on = v
	}
	return Given{gatesFlag, fmt.Sprintf("%s=%t", c.Gated[g.Name], on), g.From}
}

// crossGates is for a release that has gates, too: perhaps not all of them.
func (c *crossing) crossGates(g Given) {
	c.awake(g)
	var lost, left []string
	for _, one := range gatesOf(g.Value) {
		if name, _, _ := strings.Cut(one, "="); c.will.gate(name) == nil && !every(name) {
			lost = append(lost, one)
		} else {
			left = append(left, one)
		}
	}
	if len(lost) == 0 {
		c.write(g)
		return
	}
	kept := Given{gatesFlag, strings.Join(left, ","), g.From}
	change := Change{Kind: Unknown, Given: Given{gatesFlag, strings.Join(lost, ","), g.From}, Stops: true}
	if len(left) > 0 {
		change.Becomes = []Given{kept}
		c.write(kept)
	}
	c.say(change)
}

// ungate is for a release that has none: some were flags there.
func (c *crossing) ungate(g Given) {
	stops := g.From == Argument
	for _, one := range gatesOf(g.Value) {
		name, value, _ := strings.Cut(one, "=")
		from := Given{gatesFlag, one, g.From}
		flag := ""
		for before, gate := range c.Gated {
			if gate == name && c.will.Flag(before) != nil {
				flag = before
			}
		}
		if flag == "" {
			c.say(Change{Kind: Unknown, Given: from, Stops: stops})
			continue
		}
		g2 := Given{flag, value, g.From}
		c.say(Change{Kind: Gated, Given: from, Becomes: []Given{g2}, Stops: stops})
		c.write(g2)
	}
}

// gatesOf are the gates in a value of --feature-gates, each with its own.
func gatesOf(value string) (all []string) {
	for one := range strings.SplitSeq(value, ",") {
		if one = strings.TrimSpace(one); one != "" {
			all = append(all, one)
		}
	}
	return all
}

// every says whether a gate stands for all of a stage (etcd, pkg/featuregate).
func every(name string) bool { return name == "AllAlpha" || name == "AllBeta" }

// write adds one setting to what would be written. Gates of one place are one setting, and a
// setting is written once in a place.
func (c *crossing) write(g Given) {
	i := slices.IndexFunc(c.written, func(w Given) bool { return w.Name == g.Name && w.From == g.From })
	switch {
	case i < 0:
		c.written = append(c.written, g)
	case g.Name != gatesFlag:
		c.written = append(c.written, g) // as it was given: etcd takes the last one
	default:
		all := gatesOf(c.written[i].Value)
		for _, one := range gatesOf(g.Value) {
			if name, _, _ := strings.Cut(one, "="); !slices.ContainsFunc(all, func(o string) bool {
				return strings.HasPrefix(o, name+"=")
			}) {
				all = append(all, one)
			}
		}
		c.written[i].Value = strings.Join(all, ",")
	}
}
