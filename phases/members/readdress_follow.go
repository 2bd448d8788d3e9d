package members

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/bind"
	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// Several members follow their addresses as one run. A member is found by the others only at the
// peer URL that they list, and they agree on another one only as a quorum. But it finds them at
// theirs, wherever it is itself, and what it has opened serves both ways. So members that are down
// start first, all of them, at addresses that nobody knows yet: with one member that is where the
// others look for it they may be a quorum, which none of them was alone. Then the list follows.
// Members that serve come last, one after the other, each once all others serve.
//
// A run that begins without a quorum leaves those where they are that the others find: through them
// it comes about, and through them the list goes back if the run does, with each of its members up
// as long as that takes. They follow in a second run, which has a quorum.

// FollowOptions are the options of `readdress` on several nodes.
type FollowOptions struct {
	Addresses   map[string]string // by node; see ReaddressOptions where there is none
	Nodes       []journal.Peer
	WaitTimeout time.Duration // for etcd, and then for the API server; 0: two minutes

	SSHCommand    string // starts a command on a host: its words, the host, the command's words
	RemoteCommand string // etcdpod on the other nodes
}

// Check refuses options that make no sense.
func (o FollowOptions) Check() error {
	for node, address := range o.Addresses {
		if err := (ReaddressOptions{Address: address}).Check(); err != nil {
			return err
		}
		if !slices.ContainsFunc(o.Nodes, func(p journal.Peer) bool { return p.Name == node }) {
			return &engine.UsageError{Hint: "name it there as well",
				Reason: fmt.Sprintf("--address is for the node %s, which is not in --nodes", node)}
		}
	}
	return nil
}

// on are the options of one node.
func (o FollowOptions) on(node string) ReaddressOptions {
	return ReaddressOptions{Address: o.Addresses[node], WaitTimeout: o.WaitTimeout}
}

// Following is what all nodes of such a run have been told.
type Following struct {
	Cluster journal.Cluster
	ID      uint64      // of etcd's cluster
	Members []op.Member // as the cluster lists them
	Nodes   []Follower
	Outside []Outsider // members on no node of the run
	Voters  int
	Up      int  // of these, how many serve once those that are down have started
	Quorum  bool // it had one when the run was planned
}

// Follower is a node of the run.
type Follower struct {
	Node     string
	Member   op.ID  // 0: it has no etcd
	Old, New string // its address; Old is empty where it has not changed
	First    bool   // see ReaddressFacts
	Stays    bool   // likewise
	Later    string // its new address, if it stays and has one
	Serves   bool   // when it is the turn of others
	Clients  []string
	Before   []string // its client URLs, while it has not had its turn
	Peers    []string // the peer URLs that it is to have
}

// Outsider is a member that answers, on no node of the run.
type Outsider struct {
	Member  op.ID
	Clients []string
}

// after are all members, with the peer URLs that they are to have.
func (to Following) after() []op.Member {
	all := slices.Clone(to.Members)
	for i, m := range all {
		if n := to.withMember(m.ID); n != nil {
			all[i].PeerURLs = n.Peers
		}
	}
	return all
}

func (to Following) withMember(id op.ID) *Follower {
	i := slices.IndexFunc(to.Nodes, func(n Follower) bool { return n.Member == id })
	if i < 0 || id == 0 {
		return nil
	}
	return &to.Nodes[i]
}

func (to Following) node(name string) (own Follower) {
	if i := slices.IndexFunc(to.Nodes, func(n Follower) bool { return n.Node == name }); i >= 0 {
		own = to.Nodes[i]
	}
	return own
}

// follow takes over what the coordinator has found out from all nodes. The manifests have to be
// made once more: they name other members.
func (f *ReaddressFacts) follow(to Following, name string) {
	own := to.node(name)
	f.First, f.Move.cluster, f.Move.others = own.First, to.after(), nil
	f.Without = !to.Quorum
	if f.Stays = own.Stays; f.Stays {
		f.Old, f.Here, f.Move.old = "", false, nil
	}
	for _, n := range to.Nodes {
		if n.Node != name && n.Old != "" {
			f.Move.others = append(f.Move.others, swap{n.Old, n.New})
		}
	}
	if f.Etcd == nil {
		return
	}
	f.Cluster, f.ClusterError, f.Voters, f.Others = to.ID, nil, to.Voters, max(0, to.Up-1)
	i := slices.IndexFunc(to.Members, func(m op.Member) bool { return m.ID == own.Member })
	f.Own, f.Ways, f.Rest = &to.Members[i], nil, nil
	f.r = &roster{own: i}
	for _, m := range to.Members {
		f.r.members = append(f.r.members, etcd.Member{ID: uint64(m.ID), Name: m.Name, PeerURLs: m.PeerURLs,
			IsLearner: m.IsLearner})
	}
	for _, n := range to.Nodes {
		if n.Node == name || n.Member == 0 {
			continue
		}
		f.reach(n.Node, n.Serves && !to.learns(n.Member), append(slices.Clone(n.Clients), n.Before...))
	}
	for _, m := range to.Outside {
		f.reach("", !to.learns(m.Member), m.Clients)
	}
}

func (to Following) learns(id op.ID) bool {
	return slices.ContainsFunc(to.Members, func(m op.Member) bool { return m.ID == id && m.IsLearner })
}

// reach notes how another member is reached, at its new URLs first, and whether it serves when it
// is this one's turn.
func (f *ReaddressFacts) reach(node string, serves bool, urls []string) {
	var all []string
	for _, u := range urls {
		if !observe.OnlyHere(u) && !slices.Contains(all, u) {
			all = append(all, u)
		}
	}
	if len(all) == 0 {
		return
	}
	for _, u := range all { // one that is given up does not keep the next from being tried
		f.Ways = append(f.Ways, f.Etcd.Access.At(u))
	}
	if serves {
		f.Rest = append(f.Rest, op.Other{Node: node, Access: f.Etcd.Access.At(all...)})
	}
}

// follower plans one node's part.
type follower struct{ WaitTimeout time.Duration }

func (o follower) one() ReaddressOptions { return ReaddressOptions{WaitTimeout: o.WaitTimeout} }

func (o follower) workflow() readdressWorkflow {
	wire := o.one().wireAPIServer()
	wire.Name, wire.Optional, wire.InTurn = "wire-apiservers", false, true
	wire.Short = "put the new addresses into the API servers' manifests where they have old ones, one at a time"
	return readdressWorkflow{Name: "readdress", Options: o.one().Check, Phases: []readdressPhase{
		o.preflight(),
		o.one().certs(),
		o.startEtcd(),
		o.setPeerURLs(),
		o.follow(),
		o.awaitEtcd(), // the commit point is at its end
		wire,
	}}
}

// undoneLast are the phases that stay done until the list of members is as before: each of the
// members that were down may be needed for that.
func undoneLast() []string { return []string{"preflight", "certs", "start-etcd"} }

func (o follower) preflight() readdressPhase {
	p := o.one().preflight()
	p.Plan = func(_ context.Context, f *ReaddressFacts) ([]op.Op, error) {
		if err := f.CheckManifests(); err != nil || f.unchanged() {
			return nil, err
		}
		checks := []func(*ReaddressFacts) error{checkReaddressNode, checkReaddressStarts}
		if f.Etcd != nil {
			checks = []func(*ReaddressFacts) error{checkReaddressNode, checkReaddressMembers, checkReaddressQuorum,
				checkReaddressCerts, checkReaddressStarts}
		}
		return nil, engine.Passes(f, checks...)
	}
	return p
}

// startEtcd is for members that serve nothing now: nobody misses them meanwhile.
func (o follower) startEtcd() readdressPhase {
	render := o.one().renderEtcd()
	return readdressPhase{Name: "start-etcd",
		Short: "start the etcds that are down, with new certificates and new manifests, at their new addresses",
		Plan: func(ctx context.Context, f *ReaddressFacts) ([]op.Op, error) {
			if !f.First {
				return nil, nil
			}
			return render.Plan(ctx, f)
		}}
}

// setPeerURLs tells of the members that were down, which may have been needed to agree on that.
func (o follower) setPeerURLs() readdressPhase {
	set, await := o.one().setPeerURL(), o.one().awaitEtcd()
	return readdressPhase{Name: "set-peer-urls", InTurn: true,
		Short: "have the members reach those at their new peer URLs, one after the other",
		Plan: func(ctx context.Context, f *ReaddressFacts) ([]op.Op, error) {
			if !f.First {
				return nil, nil
			}
			return inOrder(ctx, f, set, await)
		}}
}

// follow has the members that serve follow one after the other: each stops when all others serve,
// and serves again before the next one's turn.
func (o follower) follow() readdressPhase {
	render, set, await := o.one().renderEtcd(), o.one().setPeerURL(), o.one().awaitEtcd()
	return readdressPhase{Name: "follow", InTurn: true,
		Short: "have the members that serve follow one after the other, each once all others serve",
		Plan: func(ctx context.Context, f *ReaddressFacts) ([]op.Op, error) {
			if f.First || !f.restarts() && !f.moves() {
				return nil, nil
			}
			ops, err := inOrder(ctx, f, render, set, await)
			if !f.restarts() || len(f.Rest) == 0 || err != nil {
				return ops, err
			}
			wait := op.AwaitOthers{Others: f.Rest, ClusterID: op.ID(f.Cluster), Limit: o.one().limit()}
			back := wait
			back.Back, back.Own = true, &f.After.Peer
			starts := slices.IndexFunc(ops, func(o op.Op) bool { _, is := o.(*op.StartKubelet); return is })
			return slices.Concat([]op.Op{&wait}, ops[:starts], []op.Op{&back}, ops[starts:]), nil
		}}
}

func inOrder(ctx context.Context, f *ReaddressFacts, phases ...readdressPhase) (all []op.Op, err error) {
	for _, p := range phases {
		ops, err := p.Plan(ctx, f)
		if err != nil {
			return nil, err
		}
		all = append(all, ops...)
	}
	return all, nil
}

// awaitEtcd ends with the commit point: all members serve at once, at their new addresses.
func (o follower) awaitEtcd() readdressPhase {
	p := o.one().awaitEtcd()
	p.Short = "wait until all of them serve at their new addresses at once"
	return p
}

// checkQuorum refuses where the members would not become a quorum, or would lose it.
func (to Following) checkQuorum(answers int) error {
	quorum := to.Voters/2 + 1
	if to.Quorum {
		return nil // each node looks at what its turn does to it
	}
	if answers == 0 {
		return to.nowhere()
	}
	if to.Up < quorum {
		return engine.Refuse("add the nodes of the others to --nodes, or start them first; if they are lost, see "+
			"/usr/share/doc/etcdpod/docs/runbooks/quorum-lost.md",
			"%d of %d members that vote would serve, and that is no quorum", to.Up, to.Voters)
	}
	return nil
}

// nowhere refuses where no member is where the others look for it: then none can be told anything.
// One of them is enough, and has to be there only until the run has ended.
func (to Following) nowhere() error {
	var at []string
	for _, m := range to.Members {
		at = append(at, fmt.Sprintf("%s at %s", observe.MemberName(m), strings.Join(m.PeerURLs, ",")))
	}
	var back *Follower
	was := ""
	for i, n := range to.Nodes {
		of := slices.IndexFunc(to.Members, func(m op.Member) bool { return m.ID == n.Member })
		if of < 0 || n.Old == "" || len(to.Members[of].PeerURLs) == 0 {
			continue
		}
		if host := observe.HostOf(to.Members[of].PeerURLs[0]); net.ParseIP(host) != nil {
			back, was = &to.Nodes[i], host
			break
		}
	}
	hint := "give one of them its old address back until the run has ended, and run the command again; see " +
		addressPage
	if back != nil {
		old := was + "/" + hostBits(was)
		hint = fmt.Sprintf("give one of them its old address back until the run has ended: on %[1]s `ip address add "+
			"%[2]s dev lo`, and on the others `ip route add %[2]s via %[3]s`; then run the command twice with "+
			"--address %[1]s=%[3]s: %[1]s itself follows in the second run; see %[4]s", back.Node, old, back.New,
			addressPage)
	}
	return engine.Refuse(hint, "no member is where the others look for it, so they cannot agree on other peer URLs: %s",
		strings.Join(at, "; "))
}

// hostBits are the bits of a route to one address.
func hostBits(address string) string {
	if ip := net.ParseIP(address); ip != nil && ip.To4() == nil {
		return "128"
	}
	return "32"
}

// learnFrom takes over what is known of the cluster from the node that knows most.
func (to *Following) learnFrom(surveys []FollowSurvey) error {
	best := slices.MaxFunc(surveys, func(a, b FollowSurvey) int { return cmp.Compare(a.knows(), b.knows()) })
	if best.knows() == 0 {
		return engine.Refuse("start at least one of the members; see "+addressPage,
			"it is not known who is a member: %s", best.Unknown)
	}
	to.ID, to.Members, to.Quorum = best.Cluster, best.Members, best.Quorum
	for _, m := range to.Members {
		if !m.IsLearner {
			to.Voters++
		}
	}
	for _, s := range surveys {
		if s.Cluster != 0 && s.Cluster != to.ID {
			return engine.Refuse("leave it out of --nodes", "etcd on %s is in cluster %x, that on %s in %x", s.Node,
				s.Cluster, best.Node, to.ID)
		}
	}
	return nil
}

// knows is how good a node's list of members is: of a quorum, of a member that runs, of data.
func (s FollowSurvey) knows() int {
	switch {
	case s.Quorum:
		return 3
	case len(s.Members) > 0 && s.Up:
		return 2
	case len(s.Members) > 0:
		return 1
	}
	return 0
}

// learnNodes finds each node's member, and whether it starts first. answers is how many members are
// where the others look for them.
func (to *Following) learnNodes(surveys []FollowSurvey) (answers int, err error) {
	inRun := map[op.ID]bool{}
	for _, s := range surveys {
		n := Follower{Node: s.Node, Old: s.Old, New: s.New, Clients: s.Clients, Before: s.Before, Peers: s.Peers}
		if s.Etcd {
			i := observe.OwnAmong(to.Members, uint64(s.Member), s.Name, s.Listed)
			if i < 0 {
				return 0, engine.Refuse("`etcdpod members` lists them", "none of the cluster's members is that of %s: "+
					"none has the name %s, or one of the peer URLs %s", s.Node, s.Name, strings.Join(s.Listed, ","))
			}
			n.Member, inRun[to.Members[i].ID] = to.Members[i].ID, true
			gone := s.Old != "" && !s.Here
			n.First = !s.Live && (!s.Up || gone) && s.Starts
			n.Serves = n.First || s.Live || s.Up
			if s.Up && !gone {
				answers++
				n.stay(s, to.Quorum)
			}
			if n.Serves && !to.learns(n.Member) {
				to.Up++
			}
		}
		to.Nodes = append(to.Nodes, n)
	}
	for _, s := range surveys {
		for _, m := range s.Answers {
			if !inRun[m.Member] {
				inRun[m.Member] = true
				to.Outside = append(to.Outside, m)
				answers++
				if !to.learns(m.Member) {
					to.Up++
				}
			}
		}
	}
	return answers, nil
}

// stay leaves it where the others find it, unless they are a quorum already. The manifests of the
// others name it as it is to be: an etcd with data does not read that.
func (n *Follower) stay(s FollowSurvey, quorum bool) {
	if quorum {
		return
	}
	if n.Old != "" {
		n.Later = n.New
	}
	n.Stays, n.Old, n.New, n.Clients = true, "", "", s.Before
}

// answering are the members that answer a node, and where.
func (r *roster) answering() (all []Outsider) {
	for i, m := range bind.MembersOf(r.members) {
		if r.answers[i].Err == nil && i != r.own {
			all = append(all, Outsider{m.ID, r.members[i].ClientURLs})
		}
	}
	return all
}
