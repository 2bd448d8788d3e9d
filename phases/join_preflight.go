package phases

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// clientName is the certificate that the members are asked with.
const clientName = "etcd-healthcheck-client"

// preflight refuses what cannot end well, before anything is touched.
func (o JoinOptions) preflight() memberPhase {
	return memberPhase{Name: "preflight", Short: "refuse what cannot end well, before anything is touched", Found: foundCluster,
		Plan: func(_ context.Context, f *factsOfMember) ([]op.Op, error) {
			checks := []func(*factsOfMember) error{clockIsRight, checkKubelet, checkStacked, o.checkCerts, checkReached, checkHasQuorum, checkName, checkStanding}
			if at, err := f.joins(); err == nil && at {
				checks = append(checks, checkAdds)
			}
			return nil, passes(f, append(checks, checkRendered, checkEmpty, checkListeners, checkGrowth)...)
		}}
}

// checkAdds is what speaks against one more member just now.
func checkAdds(f *factsOfMember) error {
	return passes(f, checkNobodyElse, checkHealthy, checkAlarms, checkSkew)
}

// joins says whether the members have something to agree on.
func (f *factsOfMember) joins() (bool, error) {
	if f.Init.External || f.Join.Cluster == nil {
		return false, nil
	}
	at, err := f.standing()
	return at != votes, err
}

func foundCluster(f *factsOfMember) []string {
	found := append(slices.Clone(f.Init.Warnings), f.Join.Notes...)
	c := f.Join.Cluster
	var members []string
	for _, m := range c.Members {
		members = append(members, fmt.Sprintf("%s at %s, etcd %s", memberName(m.Member), strings.Join(m.PeerURLs, ","), m.Version))
	}
	return append(found,
		fmt.Sprintf("the cluster %x was found at %s, by %s; its members: %s", c.ID, strings.Join(f.Join.Endpoints, ","), f.Join.Source, strings.Join(members, "; ")),
		fmt.Sprintf("%s joins as the member %s, at %s; its data will be in %s, where %d MiB are free, and the cluster's takes %d", f.Init.Pod.Image, f.Init.Pod.Name, strings.Join(f.Init.Pod.PeerURLs, ", "), f.Init.DataDir, f.Init.Free>>20, c.size()>>20))
}

func checkStacked(f *factsOfMember) error {
	if !f.Init.External {
		return nil
	}
	return refuse("", "the configuration names an etcd that runs elsewhere: no member is made on this node")
}

// checkCerts: the CA is the cluster's, and nobody makes another one here.
func (o JoinOptions) checkCerts(f *factsOfMember) error { return refusedCerts(f.Init.CertsError) }

func checkReached(f *factsOfMember) error {
	if f.Join.Cluster != nil {
		return nil
	}
	hint := "name the members' client URLs with --endpoints"
	switch text := fmt.Sprint(f.Join.Error); {
	case strings.Contains(text, "not signed by the given CA"):
		hint = fmt.Sprintf("%s and its key must be those of the cluster: bring them from another control plane", f.Init.certFile("etcd/ca.crt"))
	case strings.Contains(text, "refuses the client's certificate"):
		hint = fmt.Sprintf("the members trust another CA than %s, or this node's clock is not theirs: bring etcd/ca.crt and etcd/ca.key from another control plane, or set the clock", f.Init.certFile("etcd/ca.crt"))
	case strings.Contains(text, "is not valid before"), strings.Contains(text, "has expired"):
		hint = "look at the clock of this node, and at that of the other"
	}
	return refuse(hint, "no member of the cluster can be asked: %v", f.Join.Error)
}

func checkHasQuorum(f *factsOfMember) error {
	if err := f.Join.Cluster.QuorumError; err != nil {
		return refuse("start the members that do not answer first, or restore the cluster: `etcdpod status` on them says more", "the cluster has no quorum, and takes no member: %v", err)
	}
	return nil
}

// checkName: etcd itself takes two members of one name, and nobody can tell them apart afterwards.
func checkName(f *factsOfMember) error {
	for _, m := range f.Join.Cluster.Members {
		if m.Name == f.Init.Pod.Name && (f.Join.Own == nil || m.ID != f.Join.Own.ID) {
			return refuse(fmt.Sprintf("give this node another name with --node-name; or, if it is what is left of this node, remove it: `etcdctl member remove %s`", m.ID), "the name %s is taken by the member %s at %s", m.Name, m.ID, strings.Join(m.PeerURLs, ","))
		}
	}
	return nil
}

func checkStanding(f *factsOfMember) error {
	_, err := f.standing()
	return err
}

// checkNobodyElse: etcd takes one learner at a time.
func checkNobodyElse(f *factsOfMember) error {
	for _, m := range f.Join.Cluster.Members {
		if m.IsLearner && (f.Join.Own == nil || m.ID != f.Join.Own.ID) {
			return refuse(fmt.Sprintf("wait until it votes; if nobody goes on with it, remove it: `etcdctl member remove %s`", m.ID), "another node is just joining: the learner %s at %s", m.ID, strings.Join(m.PeerURLs, ","))
		}
	}
	return nil
}

// checkHealthy: etcd takes a new member only while all that vote see each other (--strict-reconfig-check); and with one of them dead, a new vote would move the quorum further away.
func checkHealthy(f *factsOfMember) error {
	var silent []string
	for _, m := range f.Join.Cluster.Members {
		if !m.IsLearner && m.Error != nil && (f.Join.Own == nil || m.ID != f.Join.Own.ID) {
			silent = append(silent, fmt.Sprintf("%s (%v)", memberName(m.Member), m.Error))
		}
	}
	if len(silent) == 0 {
		return nil
	}
	return refuse("start them, or remove those that are gone for good (`etcdctl member remove ID`), and then join", "etcd takes no new member while some of those that vote do not answer: %s", strings.Join(silent, ", "))
}

func checkAlarms(f *factsOfMember) error {
	if len(f.Join.Cluster.Alarms) == 0 {
		return nil
	}
	return refuse("NOSPACE: compact, defragment, and disarm the alarm; CORRUPT: find the member that differs, and replace it", "alarms are on: %s", strings.Join(f.Join.Cluster.Alarms, ", "))
}

// checkSkew: etcd does not join a cluster of a newer minor; and upgrades go by one.
func checkSkew(f *factsOfMember) error {
	here, lowest := minor(imageVersion(f.Init.Pod.Image)), 0
	for _, m := range f.Join.Cluster.Members {
		if v := minor(m.Version); v > 0 && (lowest == 0 || v < lowest) {
			lowest = v
		}
	}
	if here == 0 || lowest == 0 || here == lowest || here == lowest+1 {
		return nil
	}
	return refuse("let the node run the cluster's etcd: its image follows kubernetesVersion and etcd.local.imageTag", "%s is of etcd 3.%d, and the cluster is of 3.%d", f.Init.Pod.Image, here, lowest)
}

// checkEmpty: nothing but etcd's own is in the data directory.
func checkEmpty(f *factsOfMember) error {
	if others := strangersIn(f.Init.DataNames); len(others) > 0 && f.Init.There == nil {
		return refuse("name another dataDir, or move away what is there", "the data directory %s is not empty: it holds %s", f.Init.DataDir, strings.Join(others, ", "))
	}
	return nil
}

// checkGrowth: the leader sends its whole database.
func checkGrowth(f *factsOfMember) error {
	if size := f.Join.Cluster.size(); f.Init.There == nil && f.Init.Free < uint64(size) {
		return refuse("make room", "%d MiB are free in %s, and the cluster's database takes %d", f.Init.Free>>20, f.Init.DataDir, size>>20)
	}
	return nil
}
