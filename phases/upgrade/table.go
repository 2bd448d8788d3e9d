package upgrade

import (
	"fmt"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/flags"
	"github.com/etcdpod/etcdpod/templates"
)

// table is what each member is like.
func (j *judging) table() []Member {
	all := []Member{}
	for _, m := range j.members {
		one := Member{ID: etcd.FormatID(m.id), Name: m.name, Role: m.role, Version: m.version, Gate: j.gateOf(m),
			Flags: []FlagChange{}}
		if s := j.seenOf(m); s != nil {
			one.Node, one.Flags = s.Node, j.flagsOf(m, s)
			one.Image, one.Present = imageIn(s, j.to)
		}
		all = append(all, one)
	}
	return all
}

func imageIn(s *Seen, to version) (name string, present *bool) {
	i := slices.IndexFunc(s.Images, func(i Image) bool { return i.Version == to.String() })
	if i < 0 {
		return "", nil
	}
	if s.Images[i].Name != "" && s.Images[i].Error == "" {
		present = &s.Images[i].Present
	}
	return s.Images[i].Name, present
}

// flagsOf holds a member's flags against those of the version; none where one of the two releases
// is not known, which is said.
func (j *judging) flagsOf(m listed, s *Seen) []FlagChange {
	all := []FlagChange{}
	changes, _, err := flags.Across(s.Given, minorOf(m), j.to.line())
	if err != nil {
		return all
	}
	for _, c := range changes {
		one := FlagChange{Kind: c.Kind, Given: c.Given.String(), Other: c.Other, Stops: c.Stops}
		var becomes []string
		for _, b := range c.Becomes {
			becomes = append(becomes, b.String())
		}
		one.Becomes = strings.Join(becomes, " ")
		all = append(all, one)
	}
	return all
}

// member is the listed one with that ID.
func (j *judging) member(id string) listed {
	for _, m := range j.members {
		if etcd.FormatID(m.id) == id {
			return m
		}
	}
	return listed{}
}

func etcdTag(minor int) string { return templates.EtcdTag(fmt.Sprintf("1.%d", minor)) }

// Where is the beginning of a sentence about nodes, unless the text begins with them.
func (t Told) Where() string {
	if len(t.Nodes) == 0 || len(t.Nodes) == 1 && strings.HasPrefix(t.Text, t.Nodes[0]+" ") {
		return ""
	}
	return strings.Join(t.Nodes, ", ") + ": "
}
