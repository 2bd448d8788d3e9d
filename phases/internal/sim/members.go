package sim

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// Members is what the members on other nodes know about the membership. They keep running whatever
// happens to this node, and forget nothing.
type Members struct {
	All  []op.Member
	URL  string // this node's peer URL
	Name string // this node's
	Next op.ID  // the last id given to a member
	Out  bool   `json:",omitempty"` // this node's member was removed
	// The peer URL of a member whose machine is gone, on another node.
	Dead string `json:",omitempty"`

	// Downgrade is the version of a downgrade that is enabled; the leader ends it once all members
	// run that minor.
	Downgrade string `json:",omitempty"`

	// Hosts are the addresses that this node has or had, if members are told apart by theirs: then
	// they find each other only at the URLs that they list.
	Hosts []string `json:",omitempty"`
	// Without says that they had no quorum in the beginning.
	Without bool `json:",omitempty"`
}

// ClusterID is the id of their cluster.
const ClusterID = 0xc1

// own is this node's member; nil when it has none.
func (s *Members) own() *op.Member {
	for i, m := range s.All {
		if slices.Contains(m.PeerURLs, s.URL) {
			return &s.All[i]
		}
	}
	return nil
}

// named says whether --initial-cluster names the members that there are: otherwise an etcd that
// joins does not start.
func (s *Members) named(initialCluster string) bool {
	var given, have []string
	for pair := range strings.SplitSeq(initialCluster, ",") {
		_, url, _ := strings.Cut(pair, "=")
		given = append(given, url)
	}
	for _, m := range s.All {
		have = append(have, m.PeerURLs...)
	}
	slices.Sort(given)
	slices.Sort(have)
	return slices.Equal(given, have)
}

// quorum says whether enough of the voting members are running: this machine's, those on the other
// machines of a run, and those elsewhere, which always run.
func (m *Machine) quorum() bool {
	voters, run, found := 0, 0, 0
	for _, one := range m.Members.All {
		if one.IsLearner {
			continue
		}
		voters++
		if !m.stopped(one) && !slices.Contains(one.PeerURLs, m.Members.Dead) {
			run++
			if m.listed(one) {
				found++
			}
		}
	}
	return run > voters/2 && found > 0
}

// listed says whether a member that runs is where the others look for it. It finds them if they
// are, and what it has opened serves both ways: so one is enough for all.
func (m *Machine) listed(one op.Member) bool {
	at := m.machineOf(one)
	if at == nil || len(at.Members.Hosts) == 0 || at.off {
		return true
	}
	c := at.running("etcd")
	return c != nil && strings.Contains(c.manifest, "--initial-advertise-peer-urls="+one.PeerURLs[0]+"\n")
}

// at is another machine whose member serves clients there; nil: it is not known, or destroyed.
func (m *Machine) at(urls []string) *Machine {
	if m.Others == nil || m.Members == nil || len(urls) == 0 {
		return nil
	}
	for _, other := range m.Others() {
		if other == m || other.Members == nil || other.off {
			continue
		}
		for _, host := range other.Members.Hosts {
			if strings.Contains(urls[0], "//"+host+":") {
				return other
			}
		}
	}
	return nil
}

// stopped says whether a member is on a machine that is known here, and its etcd does not run. One
// that was destroyed with its machine counts as running: what a removal may do then is not asked.
func (m *Machine) stopped(one op.Member) bool {
	at := m.machineOf(one)
	return at != nil && at.running("etcd") == nil && !at.off
}

// machineOf is the machine of a member; nil: it is not known here.
func (m *Machine) machineOf(one op.Member) *Machine {
	all := []*Machine{m}
	if m.Others != nil {
		all = m.Others()
	}
	for _, at := range all {
		if at.Members != nil && slices.Contains(one.PeerURLs, at.Members.URL) {
			return at
		}
	}
	return nil
}

// enrol is the start, first or later, of an etcd that is told to join a cluster. It exits at once
// if the cluster does not know it, or knows it under another id than its data has.
func (m *Machine) enrol(dir, initialCluster string) bool {
	if m.Members == nil {
		m.join(dir, "new learner")
		return true
	}
	own := m.Members.own()
	if own == nil {
		return false
	}
	member, there := m.find(m.Disk.now, path.Join(dir, "member"))
	if started := there && m.holdsFiles(member); !started && !m.Members.named(initialCluster) {
		return false
	}
	content := fmt.Sprintf("new learner %s", own.ID)
	m.join(dir, content)
	if there := m.Peek(path.Join(dir, "member/snap/db")); string(beginning(there)) != content {
		return false
	}
	own.Name = m.Members.Name
	return true
}

// checkMembers checks what must be true of the cluster after every step.
func (m *Machine) checkMembers() {
	if m.Members == nil {
		return
	}
	// Who is alone is no quorum while it starts again, whatever is done.
	if len(m.Members.All) > 1 && !m.quorum() && !m.Members.Without && (!m.Meddled || len(m.Members.Hosts) == 0) {
		m.violate("the cluster has lost its quorum: a member that votes is stopped")
	}
	count := 0
	for _, one := range m.Members.All {
		if slices.Contains(one.PeerURLs, m.Members.URL) {
			count++
		}
	}
	if count > 1 {
		m.violate("the node is in the cluster %d times", count)
	}
}

var (
	errNoLeader = errors.New("etcdserver: no leader")
	errTooMany  = errors.New("etcdserver: too many learner members in cluster")
	errExists   = errors.New("etcdserver: Peer URLs already exists")
	errBehind   = errors.New("etcdserver: can only promote a learner member which is in sync with leader")
)

// change is one request to the members: the process may die before sending it, or before it hears
// the answer.
func (e Etcd) change(words string, do func(*Members) error) error {
	if err := e.M.step(words); err != nil {
		return err
	}
	if e.M.Members == nil || !e.M.quorum() {
		return errNoLeader
	}
	if err := do(e.M.Members); err != nil {
		return err
	}
	for _, m := range e.Cluster { // the other nodes of a run hear of it
		if m != e.M && m.Members != nil {
			_ = do(m.Members)
		}
	}
	return e.M.step("hear the answer: " + words)
}

func (e Etcd) Members(context.Context, op.Access) ([]op.Member, error) {
	switch {
	case e.M.crashed:
		return nil, ErrCrashed
	case e.M.Members == nil || !e.M.quorum():
		return nil, errNoLeader
	}
	return slices.Clone(e.M.Members.All), nil
}

func (e Etcd) AddLearner(_ context.Context, _ op.Access, peerURLs []string) (id op.ID, err error) {
	err = e.change("add a learner", func(s *Members) error {
		switch {
		case slices.ContainsFunc(s.All, func(m op.Member) bool { return m.IsLearner }):
			return errTooMany
		case slices.ContainsFunc(s.All, func(m op.Member) bool { return slices.Contains(m.PeerURLs, peerURLs[0]) }):
			return errExists
		}
		s.Next++
		id = s.Next
		s.All = append(s.All, op.Member{ID: id, PeerURLs: peerURLs, IsLearner: true})
		return nil
	})
	return id, err
}

func (e Etcd) PromoteLearner(_ context.Context, _ op.Access, member op.ID) error {
	return e.change("promote a learner", func(s *Members) error {
		if e.M.running("etcd") == nil || e.M.SickEtcd {
			return errBehind
		}
		for i := range s.All {
			if s.All[i].ID == member {
				s.All[i].IsLearner = false
			}
		}
		return nil
	})
}

// RemoveMember also ends the etcd of the removed member. All nodes hear of it.
func (e Etcd) RemoveMember(_ context.Context, _ op.Access, member op.ID) error {
	return e.change("remove a member", func(s *Members) error {
		for _, m := range append([]*Machine{e.M}, e.Cluster...) {
			if m.Members == s {
				m.removed(member)
			}
		}
		return nil
	})
}

func (m *Machine) removed(member op.ID) {
	if own := m.Members.own(); own != nil && own.ID == member {
		m.Members.Out = true
		if c := m.running("etcd"); c != nil {
			m.end(c)
		}
	}
	m.Members.All = slices.DeleteFunc(m.Members.All, func(one op.Member) bool { return one.ID == member })
}

// MoveLeader changes nothing that the simulated node could see.
func (e Etcd) MoveLeader(context.Context, op.Access, op.ID) error {
	return e.change("move the leader", func(*Members) error { return nil })
}

func (e Etcd) SetPeerURLs(_ context.Context, _ op.Access, member op.ID, urls []string) error {
	return e.change("set the peer URLs", func(s *Members) error {
		for i := range s.All {
			if s.All[i].ID != member {
				continue
			}
			if slices.Contains(s.All[i].PeerURLs, s.URL) {
				s.URL = urls[0]
			}
			s.All[i].PeerURLs = urls
		}
		return nil
	})
}

// Learner has everything at once.
func (e Etcd) Learner(context.Context, op.Access, op.Access) (op.Learner, error) {
	if e.M.running("etcd") == nil || e.M.SickEtcd {
		return op.Learner{}, errors.New("connection refused")
	}
	return op.Learner{ClusterID: ClusterID, Applied: 100, Committed: 100}, nil
}

func (e Etcd) Started(_ context.Context, at op.Access) (op.Answer, error) {
	if other := e.M.at(at.Endpoints); other != nil {
		return Etcd{M: other}.Started(context.Background(), op.Access{})
	}
	if e.M.running("etcd") == nil || e.M.SickEtcd {
		return op.Answer{}, errors.New("connection refused")
	}
	v := e.M.runs()
	a := op.Answer{ClusterID: ClusterID, Leader: 1, Version: v, Applied: 100, Committed: 100}
	if minorOf(v) > "3.5" {
		a.Storage, a.Downgrade = e.M.clusterVersion(), e.M.downgrading()
	}
	return a, nil
}

// ClusterVersion is the lowest minor that any member runs, or to which a downgrade is enabled.
// Members elsewhere always run, and tell it.
func (e Etcd) ClusterVersion(_ context.Context, at op.Access) (string, error) {
	if other := e.M.at(at.Endpoints); other != nil {
		return Etcd{M: other}.ClusterVersion(context.Background(), op.Access{})
	}
	if e.M.elsewhereAt(at.Endpoints) {
		return e.M.clusterVersion(), nil
	}
	if e.M.running("etcd") == nil || e.M.SickEtcd {
		return "", errors.New("connection refused")
	}
	return e.M.clusterVersion(), nil
}

// runs is the version of the etcd that runs, as its image is named; empty: none does.
func (m *Machine) runs() string {
	c := m.running("etcd")
	if c == nil {
		return ""
	}
	tag := c.Image[strings.LastIndex(c.Image, ":")+1:]
	v, _, _ := strings.Cut(strings.TrimPrefix(tag, "v"), "-")
	return v
}

// minorOf is 3.6 for 3.6.16.
func minorOf(v string) string { return v[:max(0, strings.LastIndex(v, "."))] }

func (e Etcd) Downgrading(context.Context, op.Access) (string, error) {
	if e.M.running("etcd") == nil || e.M.SickEtcd {
		return "", errors.New("connection refused")
	}
	return e.M.downgrading(), nil
}

func (e Etcd) ValidateDowngrade(context.Context, op.Access, string) error { return nil }

func (e Etcd) EnableDowngrade(_ context.Context, _ op.Access, target string) error {
	return e.change("enable the downgrade", func(s *Members) error {
		s.Downgrade = target
		return nil
	})
}

func (e Etcd) CancelDowngrade(context.Context, op.Access) error {
	return e.change("cancel the downgrade", func(s *Members) error {
		s.Downgrade = ""
		return nil
	})
}

// elsewhereAt says whether a member is meant whose machine is not simulated.
func (m *Machine) elsewhereAt(urls []string) bool {
	return m.Others == nil && m.Members != nil && len(m.Members.Hosts) > 0 && len(urls) > 0 &&
		!strings.Contains(urls[0], "//127.0.0.1:") && !strings.Contains(urls[0], "//"+m.Members.Hosts[0]+":")
}

// CancelDowngrade is what somebody else does to the cluster. It returns the version of the
// downgrade that was enabled; empty: none was.
func (m *Machine) CancelDowngrade() (was string) {
	if m.Members == nil || m.downgrading() == "" {
		return ""
	}
	was = m.Members.Downgrade
	m.Downgrade("")
	return was
}

// Downgrade enables a downgrade to a version on all members; empty: none.
func (m *Machine) Downgrade(to string) {
	for _, one := range m.all() {
		one.Members.Downgrade = to
	}
}

// downgrading is the version of a downgrade that has not ended.
func (m *Machine) downgrading() string {
	if m.Members == nil || m.lowest() == m.Members.Downgrade && m.highest() == m.Members.Downgrade {
		return ""
	}
	return m.Members.Downgrade
}

func (m *Machine) clusterVersion() string {
	if to := m.downgrading(); to != "" {
		return to
	}
	return m.lowest()
}

// all are the machines of all members that are known here.
func (m *Machine) all() []*Machine {
	if m.Others == nil {
		return []*Machine{m}
	}
	return m.Others()
}

// lowest is the lowest minor that any member runs, such as 3.6.0, and highest the highest: one that
// is stopped is left out of the one, and is the highest itself.
func (m *Machine) lowest() string {
	lowest := ""
	for _, one := range m.all() {
		if v := minorOf(one.runs()); !one.off && v != "" && (lowest == "" || v < lowest) {
			lowest = v
		}
	}
	return lowest + ".0"
}

func (m *Machine) highest() string {
	highest := ""
	for _, one := range m.all() {
		v := minorOf(one.runs())
		if v == "" && !one.off {
			v = "stopped"
		}
		highest = max(highest, v)
	}
	return highest + ".0"
}
