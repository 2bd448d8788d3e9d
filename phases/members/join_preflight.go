package members

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/certs"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// clientName is the certificate with which the members are asked.
const clientName = "etcd-healthcheck-client"

// preflight refuses a join that would fail later, before anything is touched.
func (o JoinOptions) preflight() phase {
	return phase{Name: "preflight", Short: "check everything first",
		Found: foundCluster, Findings: warnedCluster,
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			checks := []func(*Facts) error{clockIsRight, checkKubelet, checkDoubled,
				checkStacked, checkForced, o.checkCerts, checkReached, checkHasQuorum, checkName, checkStanding}
			if at, err := f.joins(); err == nil && at {
				checks = append(checks, checkAdds)
			}
			return nil, engine.Passes(f, append(checks, checkRendered, checkEmpty, checkListeners, checkGrowth)...)
		}}
}

// checkAdds makes the checks for adding a member now.
func checkAdds(f *Facts) error {
	return engine.Passes(f, checkReachable, checkNobodyElse, checkHealthy, checkAlarms, checkSkew, checkFlags)
}

// checkImages refuses an etcd whose image can never come: nobody may pull it. Any other is pulled
// by the kubelet. kubeadm pulls images before it gets this far, but on a machine for etcd alone
// nothing does, and the kubelet may have credentials for a registry that `crictl pull` lacks. Until
// it has come, the cluster has a learner more: it has no vote, and is removed if the wait ends in
// vain.
func checkImages(f *Facts) error {
	for _, o := range f.Init.NoImages {
		if o.Unpulled {
			return engine.Refuse(o.Fix, "etcd could not start: %s", o.What)
		}
	}
	return nil
}

// checkReachable refuses a cluster with a member whose peer URL is on its own loopback: the new
// member would look for it on itself, and never start.
func checkReachable(f *Facts) error {
	for _, m := range f.Join.Cluster.Members {
		if !observe.LocalPeer(m.Member) || f.Join.Own != nil && m.ID == f.Join.Own.ID {
			continue
		}
		return engine.Refuse(observe.LocalPeerCure(m.Member, nil, m.ClientURLs)+", then join",
			"member %s is listed at %s, which no other node can reach",
			observe.MemberName(m.Member), strings.Join(m.PeerURLs, ","))
	}
	return nil
}

// joins says whether the members still have to add this node, or give it a vote.
func (f *Facts) joins() (bool, error) {
	if f.Init.External || f.Join.Cluster == nil {
		return false, nil
	}
	at, err := f.standing()
	return at != votes, err
}

// warnedCluster says what could not be found out about the cluster.
func warnedCluster(f *Facts) []finding.Finding {
	warned := warnedInit(f)
	for _, note := range f.Join.Notes {
		warned = append(warned, finding.New(finding.KubeadmConfigUnread, "", "%s", note))
	}
	if f.Init.Pod.Version() == "" {
		warned = append(warned, finding.New(finding.EtcdVersionUnknown, f.Init.Pod.Image, "neither the name of %s nor "+
			"the container runtime shows its etcd version: it must be the cluster's", f.Init.Pod.Image))
	}
	return warned
}

func foundCluster(f *Facts) (found []string) {
	c := f.Join.Cluster
	var members []string
	for _, m := range c.Members {
		members = append(members, fmt.Sprintf("%s at %s, etcd %s",
			observe.MemberName(m.Member), strings.Join(m.PeerURLs, ","), m.Version))
	}
	at := slices.Clone(f.Join.Endpoints)
	slices.Sort(members) // etcd lists them by ID, which is chance
	slices.Sort(at)
	return append(found,
		fmt.Sprintf("cluster %x was found at %s, from %s; its members: %s",
			c.ID, strings.Join(at, ","), f.Join.Source, strings.Join(members, "; ")),
		fmt.Sprintf("%s joins as member %s, at %s; its data will be in %s, with %s free; the cluster's data takes "+
			"%s", f.Init.Pod.Image, f.Init.Pod.Name,
			strings.Join(f.Init.Pod.PeerURLs, ", "), f.Init.DataDir, engine.Size(f.Init.Free), engine.Size(c.size())))
}

func checkStacked(f *Facts) error {
	if !f.Init.External {
		return nil
	}
	return engine.Refuse("", "the configuration names an external etcd: no member is created on this node")
}

// checkForced refuses an etcd that would throw out the members that it is to join.
func checkForced(f *Facts) error { return f.Init.Pod.CheckForced() }

// checkCerts refuses without the cluster's CA: no other one is made here.
func (o JoinOptions) checkCerts(f *Facts) error { return certs.Refused(f.Init.CertsError) }

func checkReached(f *Facts) error {
	if f.Join.Cluster != nil {
		return nil
	}
	hint := "give the members' client URLs with --endpoints"
	switch text := fmt.Sprint(f.Join.Error); {
	case strings.Contains(text, "not signed by the given CA"):
		hint = fmt.Sprintf("%s and its key must be the cluster's: copy them from another control plane",
			f.Init.certFile("etcd/ca.crt"))
	case strings.Contains(text, "rejects the client certificate"):
		hint = fmt.Sprintf("the members trust a different CA than %s, or this node's clock differs from theirs: copy "+
			"etcd/ca.crt and etcd/ca.key from another control plane, or set the clock", f.Init.certFile("etcd/ca.crt"))
	case strings.Contains(text, "is not valid before"), strings.Contains(text, "has expired"):
		hint = "check this node's clock and the other node's"
	}
	return engine.Refuse(hint, "no member of the cluster can be queried: %v", f.Join.Error)
}

func checkHasQuorum(f *Facts) error {
	if err := f.Join.Cluster.QuorumError; err != nil {
		return engine.Refuse("first start the members that do not answer, or restore the cluster: run `etcdpod "+
			"status` on them for details", "the cluster has no quorum, so it accepts no new member: %v", err)
	}
	return nil
}

// checkName refuses a taken name: etcd allows two members with one name, and nobody can tell them
// apart afterwards.
func checkName(f *Facts) error {
	for _, m := range f.Join.Cluster.Members {
		if m.Name == f.Init.Pod.Name && (f.Join.Own == nil || m.ID != f.Join.Own.ID) {
			return engine.Refuse(fmt.Sprintf("give this node another name with --node-name; or, if that member is "+
				"left over from this node, remove it: `etcdpod remove %s`", m.ID),
				"the name %s is taken by member %s at %s", m.Name, m.ID, strings.Join(m.PeerURLs, ","))
		}
	}
	return nil
}

func checkStanding(f *Facts) error {
	_, err := f.standing()
	return err
}

// checkNobodyElse refuses a second learner: etcd allows one at a time.
func checkNobodyElse(f *Facts) error {
	for _, m := range f.Join.Cluster.Members {
		if m.IsLearner && (f.Join.Own == nil || m.ID != f.Join.Own.ID) {
			return engine.Refuse(fmt.Sprintf("wait until it is promoted; if it was abandoned, remove it: `etcdpod "+
				"remove %s`", m.ID), "another node is joining: the learner %s at %s",
				m.ID, strings.Join(m.PeerURLs, ","))
		}
	}
	return nil
}

// checkHealthy refuses while a voting member does not answer: etcd takes a new member only while
// all voters see each other (--strict-reconfig-check), and with one of them dead, another voter
// would put the quorum further out of reach.
func checkHealthy(f *Facts) error {
	var silent []string
	for _, m := range f.Join.Cluster.Members {
		if !m.IsLearner && m.Error != nil && (f.Join.Own == nil || m.ID != f.Join.Own.ID) {
			silent = append(silent, fmt.Sprintf("%s (%v)", observe.MemberName(m.Member), m.Error))
		}
	}
	if len(silent) == 0 {
		return nil
	}
	return engine.Refuse("start them, or remove those that are gone for good (`etcdpod remove ID`), then "+
		"join", "etcd accepts no new member while some voting members do not answer: %s",
		strings.Join(silent, ", "))
}

func checkAlarms(f *Facts) error {
	if len(f.Join.Cluster.Alarms) == 0 {
		return nil
	}
	return engine.Refuse("NOSPACE: run `etcdpod defrag`, which disarms it; CORRUPT: find the member that differs, "+
		"and replace it", "alarms are raised: %s", strings.Join(f.Join.Cluster.Alarms, ", "))
}

// checkSkew refuses an etcd of an older minor than the cluster's, which could not join, and one
// more than one minor newer: upgrades go by one.
func checkSkew(f *Facts) error {
	here, lowest := observe.EtcdMinor(f.Init.Pod.Version()), 0
	for _, m := range f.Join.Cluster.Members {
		if v := observe.EtcdMinor(m.Version); v > 0 && (lowest == 0 || v < lowest) {
			lowest = v
		}
	}
	if here == 0 || lowest == 0 || here == lowest || here == lowest+1 {
		return nil
	}
	return engine.Refuse("run the cluster's version of etcd: the image follows from kubernetesVersion and "+
		"etcd.local.imageTag", "%s is etcd 3.%d, but the cluster runs 3.%d", f.Init.Pod.Image, here, lowest)
}

// checkEmpty refuses a data directory that holds anything other than etcd's own files.
func checkEmpty(f *Facts) error {
	if others := strangersIn(f.Init.DataNames); len(others) > 0 && f.Init.There == nil {
		return engine.Refuse("choose another dataDir, or move away what is there",
			"the data directory %s is not empty: it holds %s", f.Init.DataDir, strings.Join(others, ", "))
	}
	return nil
}

// checkGrowth refuses too little room, on the disk or in the quota: the leader sends its whole
// database, and one member above its quota raises the alarm for all.
func checkGrowth(f *Facts) error {
	if size, quota := f.Join.Cluster.size(), f.Init.Pod.Quota(); quota > 0 && size >= quota {
		return engine.Refuse(fmt.Sprintf("give it the other members' quota: quota-backend-bytes in "+
			"etcd.local.extraArgs, at least %d", observe.QuotaFor(size)),
			"the cluster's database takes %s, but this member's quota would be %s: the cluster would refuse all "+
				"writes", engine.Size(size), engine.Size(quota))
	}
	if size := f.Join.Cluster.size(); f.Init.There == nil && f.Init.Free < uint64(size) {
		return engine.Refuse("free some space", "only %s is free in %s, but the cluster's database takes %s",
			engine.Size(f.Init.Free), f.Init.DataDir, engine.Size(size))
	}
	return nil
}
