package status

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/engine"
)

// judge says what is wrong, and what to do next.
func (s *NodesStatus) judge() {
	s.Warnings = []string{}
	warn := func(format string, args ...any) { s.Warnings = append(s.Warnings, fmt.Sprintf(format, args...)) }
	runs := s.openRuns()
	for _, r := range runs {
		warn("%s", r)
	}
	for _, n := range s.Nodes {
		if n.Error != "" {
			warn("%s", n.Error)
		}
	}
	for _, alike := range s.alike() {
		warn("%s: %s", strings.Join(alike.nodes, ", "), alike.text)
	}
	if len(runs) == 0 { // in the middle of a run nodes differ
		s.judgeClusters(warn)
	}
	s.judgeDrift(warn)
	s.Next = s.next()
}

// openRuns are the open runs, each once, with the nodes on which it is.
func (s *NodesStatus) openRuns() (said []string) {
	runs, stopped := map[string]engine.RunSummary{}, map[string]drift{}
	for _, n := range s.Nodes {
		if n.Status == nil || n.Status.OpenRun == nil {
			continue
		}
		r := *n.Status.OpenRun
		first, known := runs[r.ID]
		switch {
		case r.State == "damaged" || len(r.Nodes) == 0: // nobody else has it
			said = append(said, n.Node+": "+openText(r))
			continue
		case !known:
			stopped[r.ID] = drift{}
			fallthrough
		case n.Node == r.Nodes[0]: // it was typed there
			first = r
		}
		runs[r.ID] = first
		stopped[r.ID].add(r.Phase, n.Node)
	}
	for _, id := range slices.Sorted(maps.Keys(runs)) {
		r, verb := runs[id], "is open: it stopped in"
		if r.State == engine.Running {
			verb = "is under way: it is in"
		}
		said = append(said, fmt.Sprintf("the run %s (%s) %s %s", id, strings.Join(r.Command, " "), verb, stopped[id]))
	}
	return said
}

// alike is a warning with the nodes that give it.
type alike struct {
	text  string
	nodes []string
}

// alike are the warnings of the nodes themselves, each once. Open runs are told apart.
func (s *NodesStatus) alike() (all []alike) {
	for _, n := range s.Nodes {
		if n.Status == nil {
			continue
		}
		for _, w := range n.Status.Warnings {
			if r := n.Status.OpenRun; r != nil && w == openText(*r) {
				continue
			}
			i := slices.IndexFunc(all, func(a alike) bool { return a.text == w })
			if i < 0 {
				all, i = append(all, alike{text: w}), len(all)
			}
			all[i].nodes = append(all[i].nodes, n.Node)
		}
	}
	return all
}

// next is the most useful thing to do: about a run that is open, then where etcd serves nobody,
// then about nodes that cannot be asked, then on the first node that has something.
func (s *NodesStatus) next() string {
	var unasked, first string
	var on []string
	for _, n := range s.Nodes {
		st := n.Status
		switch {
		case st == nil:
			if unasked == "" {
				unasked = n.Hint
			}
		case st.OpenRun != nil && len(st.OpenRun.Nodes) > 0:
			return st.Next
		case st.OpenRun != nil || st.Member != nil && st.Member.NoQuorum:
			return "on " + n.Node + ": " + st.Next
		case first == "" && st.Next != allWell:
			first, on = st.Next, []string{n.Node}
		case st.Next == first:
			on = append(on, n.Node)
		}
	}
	switch {
	case unasked != "":
		return unasked
	case first == lookIntoWarnings || first == "" && len(s.Warnings) > 0:
		return lookIntoWarnings
	case first != "":
		return "on " + strings.Join(on, ", ") + ": " + first
	}
	return allWell
}

func (s *NodesStatus) judgeClusters(warn func(string, ...any)) {
	first := map[string]NodeStatus{} // by cluster
	var ids []string
	for _, n := range s.Nodes {
		m := memberOf(n)
		if m == nil || n.HashKV == "" {
			continue
		}
		other, known := first[m.ClusterID]
		switch {
		case !known:
			first[m.ClusterID] = n
			ids = append(ids, m.ClusterID)
		case other.compacted == n.compacted && other.HashKV != n.HashKV:
			warn("%s and %s are members of one cluster and do not hold the same at revision %d: HashKV %s and %s",
				other.Node, n.Node, n.HashRevision, other.HashKV, n.HashKV)
		}
	}
	if len(ids) > 1 {
		warn("the nodes are members of %d different clusters: %s", len(ids), strings.Join(ids, ", "))
	}
}

// judgeDrift warns if the same program runs from different images, or with different flags. That is
// normal during an upgrade, and at no other time.
func (s *NodesStatus) judgeDrift(warn func(string, ...any)) {
	for _, name := range []string{"etcd.yaml", "kube-apiserver.yaml"} {
		images := drift{}
		for _, n := range s.Nodes {
			if n.Status == nil {
				continue
			}
			for _, m := range n.Status.Manifests {
				if path.Base(m.Path) == name && m.Image != "" {
					images.add(m.Image, n.Node)
				}
			}
		}
		if len(images) > 1 {
			warn("%s differs between the nodes: %s", name, images)
		}
	}
	for _, program := range []string{"etcd", "kube-apiserver"} {
		for _, flag := range s.flagsOf(program) {
			if values := s.driftOf(program, flag); len(values) > 1 {
				warn("%s has different flags on the nodes: --%s is %s", program, flag, values)
			}
		}
	}
}

// driftOf says which nodes have which value of a flag. Values that differ only in the node's own
// name or address count as the same.
func (s *NodesStatus) driftOf(program, flag string) drift {
	values, neutral := drift{}, drift{}
	for _, n := range s.Nodes {
		flags, runs := n.flags[program]
		if !runs {
			continue
		}
		f, given := flags[flag]
		if !given {
			f.Value, f.Neutral = "not set", "not set"
		}
		values.add(f.Value, n.Node)
		neutral.add(f.Neutral, n.Node)
	}
	if len(neutral) == 1 {
		return neutral
	}
	return values
}

// flagsOf are the flags that a program has on any of the nodes.
func (s *NodesStatus) flagsOf(program string) (names []string) {
	for _, n := range s.Nodes {
		names = slices.AppendSeq(names, maps.Keys(n.flags[program]))
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// drift says which nodes have which value.
type drift map[string][]string

func (d drift) add(value, node string) { d[value] = append(d[value], node) }

func (d drift) String() string {
	var words []string
	for _, value := range slices.Sorted(maps.Keys(d)) {
		words = append(words, value+" on "+strings.Join(d[value], ", "))
	}
	return strings.Join(words, "; ")
}
