package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// preflight refuses a restore that would fail later, before anything is touched. Each check is one
// function that returns nil or says why not.
func (o restorer) preflight() phase {
	checks := []func(*Facts) error{
		o.checkPods, checkRuntime, o.checkData, o.checkMembership,
		o.checkStorageVersion, checkQuota, o.checkFits, o.checkStarts,
		o.checkAPIServers, o.checkRevision, o.checkBump, o.checkRoom,
	}
	// The coordinator has already judged what concerns all nodes (see together.go).
	if o.Shared != nil {
		checks = []func(*Facts) error{o.checkPods, checkRuntime, o.checkData, o.checkStorageVersion, checkQuota,
			o.checkFits, o.checkStarts, o.checkBump, o.checkRoom}
	}
	return phase{Name: "preflight", Short: "check everything first",
		Found: o.foundNode, Findings: o.warnedOfNode,
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			return nil, engine.Passes(f, checks...)
		}}
}

func (o restorer) foundNode(f *Facts) []string {
	if f.Etcd == nil {
		return []string{f.Node + " runs an API server, and no etcd"}
	}
	state := "does not serve"
	if f.Live != nil {
		state = fmt.Sprintf("serves, version %s, at revision %d", f.Live.Version, f.Live.Revision)
		if f.LiveError != nil {
			state = "has no quorum; it is of" + strings.TrimPrefix(state, "serves,")
		}
	}
	who := f.Etcd.Name + " is the only member of its cluster"
	if o.rejoins(f) {
		return []string{fmt.Sprintf("%s joins the restored member afterwards, with an empty data directory; its "+
			"etcd %s", f.Etcd.Name, state)}
	}
	if o.Shared != nil {
		who = fmt.Sprintf("%s becomes one of %d members", f.Etcd.Name, len(o.Shared.Members))
	}
	return []string{
		fmt.Sprintf("%s; its etcd %s", who, state),
		fmt.Sprintf("%s free in %s, the new data needs %s",
			engine.Size(f.Data.Free), path.Dir(f.Data.StageIn), engine.Size(f.Snapshot.Proof.SizeBytes)),
	}
}

// warnedOfNode says what a person should know of the node, and of what the snapshot brings along.
func (o restorer) warnedOfNode(f *Facts) []finding.Finding {
	if f.Etcd == nil {
		return f.StartDoubts(o.fenced(f)...)
	}
	warned := append(notRestored(f), o.doubts(f)...)
	if o.rejoins(f) {
		return warned
	}
	for _, odd := range f.Uncounted {
		warned = append(warned, finding.New(finding.RevisionUncounted, "", "%s", odd))
	}
	warned = append(warned, unreadNotes(f.Encryption)...)
	return append(warned, f.fitNotes()...)
}

// notRestored names what is in the static-pod directory and is not restored.
func notRestored(f *Facts) (warned []finding.Finding) {
	for _, m := range observe.OtherEtcds(f.Manifests) {
		warned = append(warned, finding.New(finding.EtcdAnother, m.Path, "%s runs another etcd, %s: it is stopped "+
			"meanwhile, and its data is not changed", m.Path, m.PodName()))
	}
	for _, m := range f.Manifests {
		if m.CannotRun() {
			warned = append(warned, finding.New(finding.ManifestUnreadable, m.Path, "%s is not something that the "+
				"kubelet can run: it is left alone", m.Path))
		}
	}
	return warned
}

func (o restorer) checkPods(f *Facts) error {
	if err := f.CheckManifests(); err != nil {
		return err
	}
	if o.Shared != nil && len(o.Shared.Members)+len(o.Shared.Rejoin) > 1 {
		if err := f.Etcd.CheckForced(); err != nil {
			return err
		}
	}
	for _, m := range f.Manifests {
		unclear := !m.CannotRun() && strings.Contains(string(m.Data), "etcd")
		if m.Manifest == nil && (unclear || observe.InvolvedText(m.Data, o.mounts(f))) {
			return engine.Refuse("fix the file, or move it out of the static-pod directory",
				"cannot determine whether %s runs etcd: %v", m.Path, m.Error)
		}
	}
	if f.Departed != nil { // whoever rendered another manifest would begin a cluster of its own
		return engine.Refuse("run it on a node whose etcd is a member; give this one in --nodes, too, if it has an "+
			"API server", "no etcd runs on this node any more: %s", f.Departed)
	}
	if f.Etcd == nil && (o.Shared == nil || !observe.HasAPIServer(f.Facts)) {
		return cmp.Or(f.CheckControlPlane(), engine.Refuse("etcdpod handles an etcd that the kubelet runs from a "+
			"manifest (`kubeadm init phase etcd local` rewrites a lost one); use etcdutl for an etcd run by systemd",
			"no manifest in %s runs etcd", f.ManifestDir))
	}
	if f.StaticPodURL != "" {
		return engine.Refuse("", "the kubelet also gets static pods from %s: what it runs from there cannot be fenced",
			f.StaticPodURL)
	}
	for _, m := range o.fenced(f) {
		if m.Link {
			return engine.Refuse("replace the link with the file",
				"%s is a symbolic link: it cannot be taken out and put back as it was", m.Path)
		}
	}
	if f.Etcd != nil && f.Etcd.File.Manifest.Wrapped(f.Etcd.Container) {
		return engine.Refuse("", "%s starts etcd through a shell: its flags cannot be read reliably",
			f.Etcd.File.Path)
	}
	if observe.HasAPIServer(f.Facts) && f.API.Kubeconfig == "" {
		return engine.Refuse("put an administrator's kubeconfig at /etc/kubernetes/admin.conf",
			"an API server runs on this node, but there is no kubeconfig to read the restored objects back with")
	}
	if reason, hint := f.KubeconfigsFail(); reason != "" && observe.HasAPIServer(f.Facts) {
		return engine.Refuse(hint, "an API server runs on this node, but no kubeconfig here can read the restored "+
			"objects back: %s", reason)
	}
	return nil
}

// checkRuntime does not require a running kubelet: the fence stops it anyway.
func checkRuntime(f *Facts) error {
	if err := f.CheckKubelet(); err != nil {
		return err
	}
	return f.CheckRuntime()
}

func (o restorer) checkData(f *Facts) error {
	var inUse *engine.RefusedError
	if f.Etcd != nil && f.Live == nil && errors.As(f.StoppedError, &inUse) {
		return engine.Refuse("fix what keeps it from answering; if it is stuck, stop the kubelet and that etcd's "+
			"container first, so that its data can be read",
			"etcd is using %s, but its members cannot be queried: %v", f.Etcd.DataDir, f.LiveError)
	}
	if f.Data.MemberOdd != "" {
		return engine.Refuse("restore into another directory with --data-dir", "%s: it cannot be swapped",
			f.Data.MemberOdd)
	}
	if f.Data.WALOdd != "" {
		return engine.Refuse("move it, or unmount it, first", "%s: etcd's WAL cannot be swapped", f.Data.WALOdd)
	}
	if o.DataDir != "" && f.Data.MemberExists {
		return engine.Refuse("choose a directory that does not exist or is empty",
			"%s already holds an etcd's data", o.DataDir)
	}
	if f.Data.DirOdd != "" {
		return engine.Refuse("choose a separate directory that only root can write to, all its parents included",
			"%s cannot be the new data directory: %s", o.DataDir, f.Data.DirOdd)
	}
	if o.DataDir != "" && f.Etcd.WALDir != "" && observe.Overlap(f.Etcd.WALDir, f.Etcd.DataPath) {
		return engine.Refuse("restore without --data-dir", "the WAL directory %s is inside the volume of the data "+
			"directory: repointing the volume would leave the WAL behind", f.Etcd.WALDir)
	}
	if o.DataDir != "" && f.Etcd.DataVolume == "" {
		return engine.Refuse("", "no volume of %s is the data directory itself: it cannot be repointed",
			f.Etcd.File.Path)
	}
	return nil
}

// checkMembership asks the live members; failing that, the stopped data with its WAL; failing that,
// the snapshot. The manifest's --initial-cluster proves nothing: in kubeadm's clusters it often
// names one member of three.
func (o restorer) checkMembership(f *Facts) error {
	members, own, source := f.Snapshot.Members, uint64(0), "the snapshot"
	switch {
	case f.Live != nil:
		members, own, source = f.Live.Members, f.Live.MemberID, "the running etcd"
	case f.Stopped != nil:
		members, own, source = f.Stopped.Members, f.Stopped.MemberID, "the data in "+f.Etcd.DataDir
	}
	others := slices.Clone(members)
	if i := observe.OwnAmong(members, own, f.Etcd.Name, f.Etcd.PeerURLs); i >= 0 {
		others = slices.Delete(others, i, i+1)
	}
	if len(others) == 0 {
		return checkBegunAnew(f)
	}
	return engine.Refuse(o.allOfThem([]string{f.Etcd.Name}, nil, others), "%s has other members: %s", source,
		namesOf(others, members))
}

// checkBegunAnew refuses where the data is older than the snapshot and knows this node alone, while
// members that the snapshot knows answer: a first member that was emptied begins a cluster of its
// own under its old ids. Restored alone, it would serve beside them.
func checkBegunAnew(f *Facts) error {
	revision := f.Snapshot.Proof.Revision
	switch {
	case f.Live != nil:
		revision = f.Live.Revision
	case f.Stopped != nil:
		revision = f.Stopped.Revision
	}
	if len(f.Answering) == 0 || revision >= f.Snapshot.Proof.Revision {
		return nil
	}
	return engine.Refuse("if this node has lost its data, bring it back as a new member (`etcdpod join` says how); "+
		"to restore the cluster, list all its nodes in --nodes",
		"etcd on this node knows no other member, but the members in the snapshot serve without it: something "+
			"answers at %s", strings.Join(f.Answering, ", "))
}

// namesOf names some of a cluster's members, told apart from all the others.
func namesOf(some, all []observe.Member) string {
	var names []string
	for i, name := range observe.MemberNames(all) {
		same := func(m observe.Member) bool { return m.ID == all[i].ID && m.Name == all[i].Name }
		if slices.ContainsFunc(some, same) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// checkStorageVersion refuses data newer than the node's etcd: an older minor refuses it at boot
// (3.6), or starts on it silently (3.5).
func (o restorer) checkStorageVersion(f *Facts) error {
	if f.Etcd == nil {
		return nil
	}
	node := observe.EtcdMinor(f.EtcdVersion())
	data := observe.EtcdMinor(f.Snapshot.StorageVersion)
	if data == 0 || node == 0 || data <= node {
		return nil
	}
	return engine.Refuse("first run an etcd on this node that is at least as new as the data",
		"the data is from etcd 3.%d, but this node's etcd is 3.%d", data, node)
}

// checkAPIServers refuses while an API server may run elsewhere: it would keep the old revisions in
// its watch cache, and write based on them.
func (o restorer) checkAPIServers(f *Facts) error {
	if o.APIServersStopped {
		return nil
	}
	elsewhere := f.elsewhere()
	if len(elsewhere) == 0 {
		return nil
	}
	return engine.Refuse("stop these API servers, then add --api-servers-stopped",
		"API servers on other nodes use this etcd: %s", whoAnswers(elsewhere, f.Reached))
}

// elsewhere are the API servers on other nodes that are known to use this etcd.
func (f *Facts) elsewhere() []string {
	known := f.Snapshot.APIServers
	if f.Stopped != nil {
		known = f.Stopped.APIServers
	}
	if f.Live != nil {
		known = f.Live.APIServers
	}
	return slices.DeleteFunc(slices.Clone(known), func(a string) bool { return slices.Contains(f.Addresses, a) })
}

// whoAnswers tells those that surely run from those that may be dead, or behind a firewall.
func whoAnswers(addresses, reached []string) string {
	said := make([]string, len(addresses))
	for i, a := range addresses {
		said[i] = a + " (does not answer here)"
		if slices.Contains(reached, a) {
			said[i] = a + " (answers)"
		}
	}
	return strings.Join(said, ", ")
}

func (o restorer) checkRevision(f *Facts) error {
	return o.checkKnown(f.KnownRevision,
		"etcd is down, its data cannot be read, and no earlier run or backup shows it")
}

// checkKnown refuses when neither the node nor the person knows which revision the restored cluster
// must start above.
func (o restorer) checkKnown(revision int64, why string) error {
	if o.Bump > 0 || revision > 0 {
		return nil
	}
	return engine.Refuse("choose a number that is certainly larger than the number of writes since the backup: "+
		"--bump-revision 1000000000", "nothing shows which revision etcd had reached: %s", why)
}

func (o restorer) checkRoom(f *Facts) error {
	if !o.restores(f) {
		return nil
	}
	// Room for the database, its copy while the revision is bumped, and a WAL.
	const wal = 64 << 20
	need := uint64(f.Snapshot.Proof.SizeBytes) + wal
	const advice = "`etcdpod prune` deletes what earlier runs kept"
	if o.Shared.sends() && f.Data.RunFree < 2*need {
		return engine.Refuse(advice, "not enough space for the snapshot in %s: %s free, %s needed",
			journal.Home, engine.Size(f.Data.RunFree), engine.Size(2*need))
	}
	if o.unseals(f) && f.Data.RunFree < 2*need {
		return engine.Refuse(advice, "not enough space to unseal the snapshot in %s: %s free, %s needed",
			journal.Home, engine.Size(f.Data.RunFree), engine.Size(2*need))
	}
	// The snapshot is first made in the run's folder; staging may use the same disk.
	if o.FromDataDir != "" {
		if f.Data.RunFree < 2*need {
			return engine.Refuse(advice, "not enough space to make a snapshot of %s in %s: %s free, %s needed",
				o.FromDataDir, journal.Home, engine.Size(f.Data.RunFree), engine.Size(2*need))
		}
	}
	if f.Data.Free >= need {
		return nil
	}
	return engine.Refuse(advice, "not enough space to stage the new data in %s: %s free, %s needed",
		f.Data.StageIn, engine.Size(f.Data.Free), engine.Size(need))
}
