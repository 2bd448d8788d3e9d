package members

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// Listing is the result of `members`: the members as the cluster lists them, and what each says
// about itself. The JSON names are stable.
type Listing struct {
	ClusterID string `json:"clusterID,omitempty"` // hex; empty if no member says
	Through   string `json:"through"`             // the client URL at which the members were listed
	// Whether a quorum stands behind the list. Otherwise it is what one member knows, and may be
	// old.
	Quorum  bool    `json:"quorum"`
	Leader  string  `json:"leader,omitempty"` // its ID; empty if no member that answers knows one
	Members []Entry `json:"members"`          // by name
	// API servers of which nothing shows which members they use.
	OtherAPIServers []APIServer       `json:"otherAPIServers"`
	Warnings        []string          `json:"warnings"`
	Findings        []finding.Finding `json:"findings"` // the same warnings, for programs
}

// Entry is one member.
type Entry struct {
	ID   string `json:"id"`             // hex
	Name string `json:"name,omitempty"` // empty: it has never started
	Role string `json:"role" values:"leader,voter,learner"`
	// False: it has never been part of its cluster, but its vote counts if it is a voter.
	Started    bool     `json:"started"`
	Own        bool     `json:"own"` // it is this node's
	PeerURLs   []string `json:"peerURLs"`
	ClientURLs []string `json:"clientURLs"`
	Answers    bool     `json:"answers"`
	Error      string   `json:"error,omitempty"` // why it does not answer
	// Since when this node's etcd has not been connected to one that does not answer, if its log
	// says so.
	SilentSince    time.Time `json:"silentSince,omitzero"`
	Version        string    `json:"version,omitempty"`
	StorageVersion string    `json:"storageVersion,omitempty"` // etcd 3.5 does not report it
	SizeBytes      int64     `json:"sizeBytes,omitempty"`
	InUseBytes     int64     `json:"inUseBytes,omitempty"`
	AppliedIndex   int64     `json:"appliedIndex,omitempty"` // of raft's log
	// How many entries it has yet to apply of those that any member knows to be committed. Members
	// that serve are a few behind each other at any time. Left out if it does not answer.
	Behind *int64   `json:"behind,omitempty"`
	Alarms []string `json:"alarms"`         // NOSPACE, CORRUPT
	Node   string   `json:"node,omitempty"` // that it runs on, if anything shows that
	// The API servers that use it, as far as anything shows that.
	APIServers []APIServer `json:"apiServers"`
}

// APIServer is one API server of the cluster.
type APIServer struct {
	Node    string `json:"node,omitempty"`    // that it runs on, if anything shows that
	Address string `json:"address,omitempty"` // at which it registered itself in etcd, if it did
	// Whether it keeps its entry in etcd alive, as one that serves does. Left out if that is not
	// known.
	Alive *bool `json:"alive,omitempty"`
}

// List shows the members through any one that answers. It changes nothing.
func List(ctx context.Context, n *observe.Node) (Listing, error) {
	r, err := gather(ctx, n)
	if err != nil {
		return Listing{}, err
	}
	return r.list(ctx), ctx.Err()
}

func (r *roster) list(ctx context.Context) Listing {
	l := Listing{Through: r.through, Quorum: r.quorum, Members: []Entry{}, OtherAPIServers: []APIServer{}}
	if r.cluster != 0 {
		l.ClusterID = etcd.FormatID(r.cluster)
	}
	lead, since := r.leader(), r.silentSince(ctx)
	if lead >= 0 {
		l.Leader = etcd.FormatID(r.members[lead].ID)
	}
	for i, m := range r.members {
		e := Entry{ID: etcd.FormatID(m.ID), Name: m.Name, Role: "voter", Started: m.Name != "", Own: i == r.own,
			PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, Alarms: r.alarmsOf(m.ID), SilentSince: since[m.ID]}
		switch {
		case m.IsLearner:
			e.Role = "learner"
		case i == lead:
			e.Role = "leader"
		}
		e.take(r, i)
		l.Members = append(l.Members, e)
	}
	r.place(ctx, &l)
	l.judge(r)
	return l
}

// take notes what a member says about itself.
func (e *Entry) take(r *roster, i int) {
	a := r.answers[i]
	if a.Err != nil {
		if e.Started {
			e.Error = a.Err.Error()
		}
		return
	}
	behind := r.behind(i)
	e.Answers, e.Version, e.StorageVersion, e.SizeBytes, e.InUseBytes, e.AppliedIndex, e.Behind = true, a.Version,
		a.StorageVersion, a.SizeBytes, a.InUseBytes, int64(a.RaftApplied), &behind
}

// called is what to call a member in a sentence.
func (e Entry) called() string {
	if !e.Started {
		return fmt.Sprintf("%s (%s)", e.ID, strings.Join(e.PeerURLs, ", "))
	}
	return e.Name
}

// silentSince is since when members that do not answer have not been connected to this node's, by
// id, as far as its log says.
func (r *roster) silentSince(ctx context.Context) map[uint64]time.Time {
	silent := slices.ContainsFunc(r.answers, func(a answer) bool { return a.Err != nil })
	if !silent || r.own < 0 || r.answers[r.own].Err != nil {
		return nil
	}
	since := r.node.InactiveSince(ctx, r.files, r.pod)
	for i, m := range r.members {
		if r.answers[i].Err == nil {
			delete(since, m.ID)
		}
	}
	return since
}

// alarm is one that is raised, by whoever raised it: that may be no member any more.
type alarm struct {
	id   uint64
	name string
}

// alarms are those that any member knows.
func (r *roster) alarms() (all []alarm) {
	for _, i := range r.ownFirst() {
		for _, text := range r.answers[i].Errors {
			if id, name, ok := etcd.AlarmIn(text); ok && !slices.Contains(all, alarm{id, name}) {
				all = append(all, alarm{id, name})
			}
		}
	}
	return all
}

func (r *roster) alarmsOf(id uint64) []string {
	names := []string{}
	for _, a := range r.alarms() {
		if a.id == id {
			names = append(names, a.name)
		}
	}
	return names
}

// judge says what is wrong between the members.
func (l *Listing) judge(r *roster) {
	found := []finding.Finding{}
	warn := func(code finding.Code, subject, format string, args ...any) {
		found = append(found, finding.New(code, subject, format, args...))
	}
	if !l.Quorum {
		warn(finding.EtcdNoQuorum, l.Through, "no quorum answers: this is what the member at %s knows, and may be old",
			l.Through)
	}
	for _, e := range l.Members {
		switch {
		case !e.Started:
			warn(finding.MemberNeverStarted, e.ID, "%s %s has never started", e.Role, e.called())
		case !e.Answers:
			warn(finding.MemberSilent, e.Name, "%s does not answer: %s%s", e.Name, e.Error, e.since())
		}
	}
	for _, a := range r.alarms() {
		whose := etcd.FormatID(a.id)
		i := slices.IndexFunc(l.Members, func(e Entry) bool { return e.ID == whose })
		switch {
		case a.id == 0:
			whose = "no particular member"
		case i < 0:
			whose += ", which is no member any more"
		default:
			whose = l.Members[i].called()
		}
		warn(finding.EtcdAlarm, a.name+" of member "+etcd.FormatID(a.id), "the alarm %s of %s is raised", a.name, whose)
	}
	l.Findings, l.Warnings = finding.On(l.nodeName(), found), finding.Texts(found)
}

func (e Entry) since() string {
	if e.SilentSince.IsZero() {
		return ""
	}
	return fmt.Sprintf("; this node's etcd has not been connected to it since %s", e.SilentSince.Format(time.RFC3339))
}

// nodeName is this node's, where one of the members is.
func (l *Listing) nodeName() string {
	for _, e := range l.Members {
		if e.Own {
			return e.Node
		}
	}
	return ""
}
