package restore

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/backup"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/phases/together"
)

// TogetherOptions are the options of a restore on several nodes.
type TogetherOptions struct {
	Restore Options
	Nodes   []journal.Peer // none: this node alone
	Rejoin  bool           // restore this node's member alone; the others join it
	// Members of the old cluster that are destroyed, or have never started: ids, peer URLs or
	// names.
	Lost          []string
	SSHCommand    string // starts a command on a host: its words, the host, the command's words
	RemoteCommand string // etcdpod on the other nodes
}

// looker is how a restore on several nodes observes them. Tests replace it.
type looker struct {
	// Gathers the facts of a node.
	survey func(context.Context, *observe.Node, surveyQuestion) (*Facts, error)
	// Proves what is to be restored.
	source func(ctx context.Context, n *observe.Node, o restorer, run string) (*SnapshotFacts, error)
	// Counts what the serving etcd of this node holds beyond that; nil: nothing does.
	written func(context.Context, *observe.Node, *SnapshotFacts) Written
}

// atNodes observes real nodes.
func atNodes() looker {
	return looker{
		survey: survey,
		source: func(ctx context.Context, n *observe.Node, o restorer, run string) (*SnapshotFacts, error) {
			f, err := ownEtcd(ctx, n, run)
			if err != nil {
				return nil, err
			}
			return o.source(ctx, n, f)
		},
		written: func(ctx context.Context, n *observe.Node, s *SnapshotFacts) Written {
			f, err := ownEtcd(ctx, n, "")
			if err = cmp.Or(err, f.EtcdError); err != nil {
				return Written{Unknown: err.Error()}
			}
			return written(ctx, n, f.Etcd, s)
		},
	}
}

// ownEtcd is what this node's manifests tell of its etcd.
func ownEtcd(ctx context.Context, n *observe.Node, run string) (*observe.Facts, error) {
	f := &observe.Facts{Run: run, Node: n.Name, ManifestDir: n.Config.StaticPodPath}
	var err error
	if f.Manifests, err = n.Manifests(ctx, f.ManifestDir); err == nil {
		f.Etcd, f.EtcdError = n.EtcdPod(f.Manifests)
	}
	return f, err
}

// Joint is what the transaction needs to know about a restore on several nodes.
func Joint() together.Joint { return atNodes().joint() }

func (l looker) joint() together.Joint {
	return together.Joint{
		Name:   "restore",
		Phases: together.JointPhases(restorer{Shared: &Shared{}}.workflow().Phases),
		Before: map[string]func(context.Context, *together.Transaction) error{"stage-data": sendSnapshot,
			"exchange-data": nobodyAnswers},
		After: map[string]func(context.Context, *together.Transaction) error{
			"stage-data": compareStaged, "compare-members": compareMembers, "verify-restored": compareServers,
		},
		// Undoing these lets the node run again.
		Last:       []string{"verify-snapshot", "stage-data", "fence"},
		Advice:     adviceOn,
		LeftBehind: leftBehind,
		Answers:    l.answers,
	}
}

// leftBehind says what to do on a node that was left out. The others serve the restored data by
// now, and the old data must not come back beside it.
func leftBehind(node, run string) string {
	return fmt.Sprintf("on %s, move away etcd's data directory, the manifests in the run's folder and %s, and join "+
		"it to the cluster again", node, journal.RunDir(run))
}

// Together restores several nodes as one transaction: on all of them, or on none.
func Together(o TogetherOptions) together.Planner { return together.Plans(atNodes().plan, o) }

func (l looker) plan(
	ctx context.Context, n *together.Node, o TogetherOptions,
) (*together.Transaction, engine.TogetherPlan, error) {
	var plan engine.TogetherPlan
	t, err := n.Convene(ctx, "restore", together.NodesAt(o.Nodes, o.SSHCommand, o.RemoteCommand))
	if err != nil {
		return t, plan, err
	}
	o.Nodes = t.Cluster.Nodes
	source, err := l.source(ctx, n.Look, restorer{Options: o.Restore}, t.Run)
	if err != nil {
		return t, plan, err
	}
	surveys, err := surveyAll(ctx, t, o, source)
	if err != nil {
		return t, plan, err
	}
	view := view{surveys, o, *source}
	joint, err := view.joint(t.Cluster)
	if err != nil {
		return t, plan, err
	}
	for _, url := range view.strangers() {
		if n.Etcd.Listening(ctx, url) {
			return t, plan, engine.Refuse("stop that etcd first: it would keep serving the old data",
				"a member of the old cluster that is not in --nodes still answers at %s", url)
		}
	}
	t.Cluster = joint.Cluster
	notes, risk := view.notes(), view.risk()
	plan.Notes, plan.Risk, plan.Findings = finding.Texts(notes), risk, notes
	if risk != "" {
		plan.Findings = append(plan.Findings,
			finding.New(finding.MembersLeftOut, strings.Join(o.Lost, ", "), "%s", risk))
	}
	here := t.Cluster.Coordinator
	if plan.Nodes, err = planAll(ctx, t, o.Restore, joint, surveys); err == nil {
		plan.Stakes = l.stakes(ctx, n, o, source, surveys[here], here, plan.Nodes)
		plan.Stakes.Lost = append(plan.Stakes.Lost, view.unreadable()...)
		for _, p := range t.Peers {
			plan.Stakes.Lost = append(plan.Stakes.Lost, surveys[p.Name].InLog...)
		}
	}
	return t, plan, err
}

// stakes are those of all nodes: the coordinator counts what is given up, and the API server that
// is away longest counts.
func (l looker) stakes(
	ctx context.Context, n *together.Node, o TogetherOptions, s *SnapshotFacts, own Survey, here string,
	nodes []engine.NodePlan,
) engine.Stakes {
	var all engine.Stakes
	var back []string // the coordinator's, if it has data
	for _, p := range nodes {
		if back == nil || p.Node == here && p.Stakes.Back != nil {
			back = p.Stakes.Back
		}
	}
	all.AwayOn(nodes)
	w := notCounted()
	if own.Serves && l.written != nil {
		w = l.written(ctx, n.Look, s)
	}
	all.Lost = restorer{Options: o.Restore}.lost(s, own.Live, w, n.Look.Clock.Now())
	all.Back = back
	return all
}

func surveyAll(
	ctx context.Context, t *together.Transaction, o TogetherOptions, source *SnapshotFacts,
) (map[string]Survey, error) {
	question := surveyQuestion{Run: t.Run, Options: o.Restore, Snapshot: *source, File: source.Path}
	if o.Restore.FromDataDir != "" || source.Sealed {
		question.File = ""
	}
	question.Options.Unsealing = backup.Unsealing{} // files of the coordinator
	answers, err := together.QueryAll[Survey](ctx, t, askSurvey, question)
	surveys := map[string]Survey{}
	for i, p := range t.Peers {
		surveys[p.Name] = answers[i]
	}
	return surveys, err
}

// planAll lets each node plan its part, and refuse what would fail there.
func planAll(
	ctx context.Context, t *together.Transaction, o Options, shared Shared, surveys map[string]Survey,
) ([]engine.NodePlan, error) {
	return together.PlanEach(ctx, t, askPlan, func(p *together.Peer) any {
		own, part := restorer{Options: o}, shared
		m := surveys[p.Name].Member
		stages := m != nil && slices.ContainsFunc(shared.Members, func(have SharedMember) bool {
			return have.Name == m.Name
		})
		part.Sent = !p.Here && stages && !surveys[p.Name].Has
		if !p.Here { // --from-data-dir names a directory of the coordinator
			own.FromDataDir, own.FromWALDir, own.UpToHole = "", "", false
			own.Unsealing = backup.Unsealing{}
		}
		own.Unseals = p.Here && shared.Snapshot.Sealed
		part.Snapshot.Stored = nil // judged in the survey
		own.Shared = &part
		return own
	})
}

// view is all nodes seen together.
type view struct {
	surveys map[string]Survey
	options TogetherOptions
	source  SnapshotFacts
}

// unreadable is what any of the API servers cannot read. They may differ, but hardly do.
func (v view) unreadable() (lost []string) {
	for _, name := range slices.Sorted(maps.Keys(v.surveys)) {
		for _, said := range v.surveys[name].Unreadable {
			if !slices.Contains(lost, said) {
				lost = append(lost, said)
			}
		}
	}
	return lost
}

// joint settles what is the same for all nodes, and refuses what no single node could detect.
func (v view) joint(cluster journal.Cluster) (Shared, error) {
	j := Shared{Cluster: cluster, Snapshot: v.source, Made: v.options.Restore.FromDataDir != ""}
	for _, at := range cluster.Nodes {
		s := v.surveys[at.Name]
		if s.Member != nil {
			j.Members = append(j.Members, *s.Member)
			j.ClientURLs = append(j.ClientURLs, s.ClientURLs...)
		}
		if s.APIServer && j.Leader == "" {
			j.Leader = at.Name
		}
		if s.KnownRevision > mostRevision { // its own etcdpod would not have said so
			return j, engine.Refuse("check that node, or leave it out",
				"%s claims revision %d, which no cluster ever reaches", at.Name, s.KnownRevision)
		}
		j.KnownRevision = max(j.KnownRevision, s.KnownRevision)
	}
	if err := v.checkMembers(j); err != nil { // below, members are told apart by name
		return j, err
	}
	if v.options.Rejoin {
		if err := v.split(&j); err != nil {
			return j, err
		}
	}
	for _, check := range []func(Shared) error{
		v.checkClusters, v.checkLost, v.checkMembership, v.checkAPIServers, v.checkRevision,
	} {
		if err := check(j); err != nil {
			return j, err
		}
	}
	for _, m := range v.old() {
		j.OldURLs = append(j.OldURLs, m.PeerURLs...)
	}
	if v.risk() != "" {
		j.Left = v.strangers()
	}
	for _, m := range append(v.old(), v.source.Members...) {
		j.OldHosts = append(j.OldHosts, observe.HostsOf(m.PeerURLs)...)
	}
	return j, nil
}

// split leaves only the coordinator's member in the restored cluster, for the others to join.
func (v view) split(j *Shared) error {
	own := v.surveys[j.Cluster.Coordinator]
	if own.Member == nil {
		return engine.Refuse("run the command on a node that runs etcd", "%s runs no etcd for the others to join",
			j.Cluster.Coordinator)
	}
	for _, m := range j.Members {
		if m.Name != own.Member.Name {
			j.Rejoin = append(j.Rejoin, m)
		}
	}
	j.Members, j.Through, j.Leader = []SharedMember{*own.Member}, own.ClientURLs, j.Cluster.Coordinator
	if len(own.ClientURLs) == 0 {
		return engine.Refuse("set --advertise-client-urls there",
			"etcd on %s advertises no client URL for the others to join through", j.Cluster.Coordinator)
	}
	return nil
}

func (v view) checkMembers(j Shared) error {
	if len(j.Members) == 0 {
		return engine.Refuse("", "none of the nodes runs etcd")
	}
	seen := map[string]bool{}
	for _, m := range j.Members {
		for _, url := range append([]string{"the name " + m.Name}, m.PeerURLs...) {
			if seen[url] {
				return engine.Refuse("", "two of the nodes share %s: they cannot be members of one cluster", url)
			}
			seen[url] = true
		}
	}
	return nil
}

// old are the members of the cluster being replaced, according to the live members; failing that,
// to the stopped data; failing that, to the snapshot.
func (v view) old() []observe.Member {
	var live, stopped []observe.Member
	add := func(to []observe.Member, more []observe.Member) []observe.Member {
		for _, m := range more {
			if !slices.ContainsFunc(to, func(have observe.Member) bool { return have.ID == m.ID }) {
				to = append(to, m)
			}
		}
		return to
	}
	for _, node := range slices.Sorted(maps.Keys(v.surveys)) {
		s := v.surveys[node]
		if s.Live != nil {
			live = add(live, s.Live.Members)
		}
		if s.Stopped != nil {
			stopped = add(stopped, s.Stopped.Members)
		}
	}
	switch {
	case len(live) > 0:
		return live
	case len(stopped) > 0:
		return stopped
	}
	return v.source.Members
}

// checkAPIServers refuses while an API server may run that is not fenced: it would keep the old
// revisions in its watch cache, and write based on them.
func (v view) checkAPIServers(Shared) error {
	if v.options.Restore.APIServersStopped {
		return nil
	}
	var known, here, elsewhere, reached []string
	for _, s := range v.surveys {
		here, reached = append(here, s.Addresses...), append(reached, s.Reached...)
		if s.Live != nil {
			known = append(known, s.Live.APIServers...)
		} else if s.Stopped != nil {
			known = append(known, s.Stopped.APIServers...)
		}
	}
	if len(known) == 0 {
		known = v.source.APIServers
	}
	for _, m := range v.old() {
		// A destroyed node's API server had the same address.
		if v.lost(m) {
			here = append(here, observe.HostsOf(m.PeerURLs)...)
		}
	}
	slices.Sort(known)
	for _, address := range slices.Compact(known) {
		if !slices.Contains(here, address) {
			elsewhere = append(elsewhere, address)
		}
	}
	if len(elsewhere) == 0 {
		return nil
	}
	return engine.Refuse("add their nodes to --nodes, or stop these API servers and add --api-servers-stopped",
		"API servers outside --nodes use this etcd: %s", whoAnswers(elsewhere, reached))
}

func (v view) checkRevision(j Shared) error {
	return (restorer{Options: v.options.Restore}).checkKnown(j.KnownRevision,
		"no etcd answers, no data can be read, and no earlier run or backup shows it")
}

// notes are what a person should weigh before confirming.
func (v view) notes() (notes []finding.Finding) {
	if clients := strings.Join(v.clients(), ", "); clients != "" {
		notes = append(notes, finding.New(finding.ClientsToRestart, clients, "other clients are connected to etcd and "+
			"will keep their view of the old data (Cilium, Calico?): restart what runs on %s afterwards", clients))
	}
	if lost := strings.Join(v.options.Lost, ", "); lost != "" {
		notes = append(notes, finding.New(finding.MembersLeftOut, lost, "the restored cluster lacks %s: replace these "+
			"members when you can", lost))
	}
	return notes
}

// clients are the addresses connected to etcd that belong to none of the nodes.
func (v view) clients() (clients []string) {
	var here []string
	for _, s := range v.surveys {
		here = append(here, s.Addresses...)
	}
	for _, s := range v.surveys {
		for _, c := range s.Clients {
			if !observe.Loopback(c) && !slices.Contains(here, c) {
				clients = append(clients, c)
			}
		}
	}
	slices.Sort(clients)
	return slices.Compact(clients)
}
