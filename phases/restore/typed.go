package restore

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/observe"
)

// plainWord needs no quotes in a shell.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`)

func quoted(word string) string {
	if plainWord.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// onNodes is the command that restores the same on several nodes: what was typed, with the names
// of the nodes, and of what is left out. Without nodes it is for this node alone.
func (o Options) onNodes(nodes, lost []string) string {
	words := []string{"etcdpod", "restore"}
	if len(nodes) > 0 {
		words = append(words, "--nodes", strings.Join(nodes, ","))
	}
	if len(lost) > 0 {
		words = append(words, "--lost", strings.Join(lost, ","))
	}
	given := func(flag, value string) {
		if value != "" {
			words = append(words, "--"+flag, value)
		}
	}
	whether := func(flag string, is bool) {
		if is {
			words = append(words, "--"+flag)
		}
	}
	given("from-data-dir", o.FromDataDir)
	given("from-wal-dir", o.FromWALDir)
	whether("up-to-hole", o.UpToHole)
	whether("skip-hash-check", o.SkipHashCheck)
	if o.Bump > 0 {
		given("bump-revision", fmt.Sprint(o.Bump))
	}
	given("data-dir", o.DataDir)
	if o.StopTimeout > 0 && o.StopTimeout != 30*time.Second {
		given("stop-timeout", o.StopTimeout.String())
	}
	if o.WaitTimeout > 0 {
		given("wait-timeout", o.WaitTimeout.String())
	}
	whether("api-servers-stopped", o.APIServersStopped)
	whether("other-pki", o.OtherPKI)
	given("identity", o.Unsealing.Identity)
	given("trust", o.Unsealing.Trust)
	whether("unsigned", o.Unsealing.Unsigned)
	if o.File != "" {
		words = append(words, o.File)
	}
	for i, word := range words {
		words[i] = quoted(word)
	}
	return strings.Join(words, " ")
}

// allOfThem says how to restore a cluster of which a command left members out. nodes are named
// already, and the members run on none of them. One that never started holds nothing, and is on no
// node; of two that have one name the nodes' names are not known.
func (o Options) allOfThem(nodes, lost []string, members []observe.Member) string {
	named := slices.Clone(nodes)
	lost = slices.Clone(lost)
	var twins bool
	for _, m := range members {
		switch {
		case !observe.Started(m):
			lost = append(lost, m.ID.String())
		case slices.Contains(named, m.Name):
			twins = true
		default:
			named = append(named, m.Name)
		}
	}
	slices.Sort(named[len(nodes):])
	switch {
	case twins:
		return "list the nodes of all members in --nodes; leave out a destroyed one with --lost and its ID"
	case len(named) == len(nodes):
		return fmt.Sprintf("a member that never started holds nothing; leave it out: `%s`", o.onNodes(named, lost))
	}
	return fmt.Sprintf("restore the cluster on all its nodes: `%s`; move a destroyed node from --nodes to "+
		"--lost", o.onNodes(named, lost))
}
