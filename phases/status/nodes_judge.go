package status

import (
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// judge says what is wrong, and what to do next.
func (s *NodesStatus) judge() {
	s.Warnings, s.Findings, s.said = []string{}, found{}, nil
	runs := s.openRuns()
	s.add(runs)
	for _, n := range s.Nodes {
		if n.Error != "" {
			s.add(finding.On(n.Node, one(finding.NodeUnreachable, n.Node, "%s", n.Error)))
		}
	}
	for _, alike := range s.alike() {
		var nodes []string
		for _, f := range alike {
			nodes = append(nodes, f.Node)
		}
		s.said = append(s.said, sentence{strings.Join(nodes, ", ") + ": " + alike[0].Text, alike})
	}
	if len(runs) == 0 { // in the middle of a run nodes differ
		s.add(s.judgeClusters())
	}
	s.add(s.judgeClocks())
	s.add(s.judgeDrift())
	s.inOrder()
	s.Next = s.next()
}

func (s *NodesStatus) add(w found) {
	for _, f := range w {
		s.said = append(s.said, sentence{f.Text, found{f}})
	}
}

// sentence is a warning with its findings: one for each node that has it.
type sentence struct {
	text string
	of   found
}

// inOrder puts what kills first before the rest.
func (s *NodesStatus) inOrder() {
	slices.SortStableFunc(s.said, func(a, b sentence) int { return rank(a.of[0]) - rank(b.of[0]) })
	for _, one := range s.said {
		s.Warnings, s.Findings = append(s.Warnings, one.text), append(s.Findings, one.of...)
	}
}

// openRuns are the open runs, each once, with the nodes on which it is.
func (s *NodesStatus) openRuns() (w found) {
	runs, stopped := map[string]engine.RunSummary{}, map[string]drift{}
	for _, n := range s.Nodes {
		if n.Status == nil || n.Status.OpenRun == nil {
			continue
		}
		r := *n.Status.OpenRun
		first, known := runs[r.ID]
		switch {
		case r.State == "damaged" || len(r.Nodes) == 0: // nobody else has it
			w = append(w, finding.On(n.Node, one(engine.CodeOf(r.State), r.ID, "%s: %s", n.Node, openText(r)))...)
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
			verb = "is under way, in"
		}
		w = append(w, finding.New(engine.CodeOf(r.State), id,
			"run %s (%s) %s %s", id, strings.Join(r.Command, " "), verb, stopped[id]))
	}
	return w
}

// alike are the warnings of the nodes themselves, those with one text together. Open runs are told
// apart.
func (s *NodesStatus) alike() (all []found) {
	for _, n := range s.Nodes {
		if n.Status == nil {
			continue
		}
		for _, f := range finding.On(n.Node, n.Status.Findings) {
			f.Node = n.Node // as it was typed
			r := n.Status.OpenRun
			if lacksBackup(f) && s.backedUp(n) ||
				r != nil && f.Text == finding.New(f.Code, "", "%s", openText(*r)).Text {
				continue
			}
			i := slices.IndexFunc(all, func(a found) bool { return a[0].Text == f.Text })
			if i < 0 {
				all, i = append(all, nil), len(all)
			}
			all[i] = append(all[i], f)
		}
	}
	return all
}

func lacksBackup(f finding.Finding) bool {
	return f.Code == finding.BackupMissing || f.Code == finding.BackupOld
}

// backedUp says whether another member of a node's cluster has a backup that is new enough: each
// holds the whole cluster.
func (s *NodesStatus) backedUp(n NodeStatus) bool {
	m := memberOf(n)
	return m != nil && slices.ContainsFunc(s.Nodes, func(other NodeStatus) bool {
		o := memberOf(other)
		if o == nil || o.ClusterID != m.ClusterID || other.Status.NewestBackup == nil {
			return false
		}
		return other.Status.NewestBackup.ClusterID == m.ClusterID &&
			!slices.ContainsFunc(other.Status.Findings, lacksBackup)
	})
}

// lacksNothingElse says whether all that a node lacks is a backup, and another one has it.
func (s *NodesStatus) lacksNothingElse(n NodeStatus) bool {
	return len(n.Status.Findings) > 0 && s.backedUp(n) &&
		!slices.ContainsFunc(n.Status.Findings, func(f finding.Finding) bool { return !lacksBackup(f) })
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
				unasked = n.Hint + s.orGone(n.Node)
			}
		case st.OpenRun != nil && len(st.OpenRun.Nodes) > 0:
			return st.Next
		case st.OpenRun != nil || st.Member != nil && st.Member.NoQuorum:
			return "on " + n.Node + ": " + st.Next
		case s.lacksNothingElse(n):
		case first == "" && st.Next != NothingToDo:
			first, on = st.Next, []string{n.Node}
		case st.Next == first:
			on = append(on, n.Node)
		}
	}
	switch {
	case unasked != "":
		return unasked
	case slices.ContainsFunc(s.Findings, func(f finding.Finding) bool { return f.Code == finding.ClustersDiffer }):
		return "find out which cluster each node belongs to: `etcdpod members` there lists its members"
	case first == lookIntoWarnings || first == "" && len(s.said) > 0:
		return lookIntoWarnings
	case first != "":
		return "on " + strings.Join(on, ", ") + ": " + first
	}
	return NothingToDo
}

// orGone adds what to do if a node that cannot be asked never comes back: only where its member
// does not answer the others either.
func (s *NodesStatus) orGone(node string) string {
	for _, n := range s.Nodes {
		if n.Status != nil && slices.ContainsFunc(n.Status.Findings, func(f finding.Finding) bool {
			return f.Code == finding.MemberSilent && f.Subject == node
		}) {
			return "; " + goneForGood(observe.Member{Name: node})
		}
	}
	return ""
}

func (s *NodesStatus) judgeClusters() (w found) {
	first := map[string]NodeStatus{} // by cluster
	var ids []string
	for _, n := range s.Nodes {
		m := memberOf(n)
		if m == nil || m.Learner || m.ClusterID == "" {
			continue
		}
		if !slices.Contains(ids, m.ClusterID) {
			ids = append(ids, m.ClusterID)
		}
		if n.HashKV == "" {
			continue
		}
		other, known := first[m.ClusterID]
		switch {
		case !known:
			first[m.ClusterID] = n
		case other.compacted == n.compacted && other.HashRevision == n.HashRevision && other.HashKV != n.HashKV:
			w = append(w, finding.New(finding.MembersDiffer, other.Node+", "+n.Node, "%s and %s are members of one "+
				"cluster but differ at revision %d: HashKV %s and %s",
				other.Node, n.Node, n.HashRevision, other.HashKV, n.HashKV))
		}
	}
	if len(ids) > 1 {
		all := strings.Join(ids, ", ")
		w = append(w, finding.New(finding.ClustersDiffer, all,
			"the nodes are members of %d different clusters: %s", len(ids), all))
	}
	return w
}

// judgeDrift warns if the same program runs from different images, or with different flags. That is
// normal during an upgrade, and at no other time.
func (s *NodesStatus) judgeDrift() (w found) {
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
			w = append(w, finding.New(finding.ImagesDiffer, name, "%s differs between the nodes: %s", name, images))
		}
	}
	for _, program := range []string{"etcd", "kube-apiserver"} {
		for _, flag := range s.flagsOf(program) {
			if values := s.driftOf(program, flag); len(values) > 1 {
				w = append(w, finding.New(finding.FlagsDiffer, program+" --"+flag,
					"%s has different flags on the nodes: --%s is %s", program, flag, values))
			}
		}
	}
	return w
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
