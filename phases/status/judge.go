package status

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/backup"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// Each function here says in sentences what is wrong with one part of a node; nothing if it is
// well.

func (s seen) judgeRun() []string {
	switch {
	case s.openErr != nil:
		return []string{s.openErr.Error()}
	case s.open.ID != "":
		return []string{openText(s.open)}
	}
	return nil
}

// openText says which run is open, and where it stands.
func openText(r engine.RunSummary) string {
	switch r.State {
	case "damaged":
		return fmt.Sprintf("the run %s cannot be read: %s", r.ID, r.Error)
	case engine.Running:
		return fmt.Sprintf("the run %s is under way: %s, at: %s", r.ID, r.Phase, r.Operation)
	}
	return (&engine.OpenRunError{Run: r}).Error()
}

// stoppedByRun says whether what does not run may be what an open run has stopped: then the run is
// the one thing to say. A run whose journal cannot be read explains nothing.
func (s seen) stoppedByRun() bool { return s.open.ID != "" && s.open.State != "damaged" }

func (s seen) judgeNode() []string {
	var w []string
	f := s.facts
	if s.files != nil {
		w = append(w, s.files.Error())
	}
	for _, m := range f.Manifests {
		if m.Manifest == nil {
			w = append(w, fmt.Sprintf("%s is not a readable manifest: %v", m.Path, m.Error))
		}
	}
	switch {
	case f.KubeletError != nil:
		w = append(w, f.KubeletError.Error())
	case !f.KubeletActive && !s.stoppedByRun():
		w = append(w, "the kubelet is not running")
	}
	if f.RuntimeError != nil {
		w = append(w, f.RuntimeError.Error())
	}
	return w
}

func (s seen) judgeContainers() []string {
	if s.facts.RuntimeError != nil || s.stoppedByRun() {
		return nil // nothing is known, or it is known why
	}
	var w []string
	for _, m := range s.facts.Manifests {
		if m.Manifest == nil {
			continue
		}
		for _, name := range m.Manifest.Containers() {
			switch c := s.container(m, name); {
			case c == nil:
				w = append(w, fmt.Sprintf("%s of %s is not running: it has no container", name, m.Path))
			case c.State != "running":
				w = append(w, fmt.Sprintf("%s of %s is not running: its container is %s after %d restarts%s",
					name, m.Path, c.State, c.Attempt, s.because(c)))
			case s.ended[c.ID].why != "":
				w = append(w, fmt.Sprintf("%s of %s keeps exiting: its container has been started %d times%s",
					name, m.Path, c.Attempt+1, s.because(c)))
			}
		}
	}
	return w
}

// judgeStarts warns of what would keep the pods from starting again, before anybody stops them.
func (s seen) judgeStarts() []string {
	var w []string
	for _, o := range s.facts.Obstacles {
		w = append(w, o.What)
	}
	return w
}

func (s seen) judgeEtcd() []string {
	f := s.facts
	switch {
	case s.stoppedByRun():
		return nil
	case s.etcd != nil:
		return []string{s.etcd.Error()}
	case f.Etcd == nil && observe.UsesOtherEtcd(f.Manifests):
		return nil
	case f.Etcd == nil:
		return []string{fmt.Sprintf("no manifest in %s runs etcd", f.ManifestDir)}
	}
	var w []string
	switch {
	case s.noQuorum():
		w = append(w, s.noQuorumText())
	case f.LiveError != nil:
		w = append(w, f.LiveError.Error())
	}
	if f.Live == nil {
		return w
	}
	for _, a := range f.Live.Alarms {
		w = append(w, "etcd raised the alarm "+a)
	}
	return w
}

// noQuorum says that etcd answers, and serves nobody. It can still be asked what needs no quorum.
func (s seen) noQuorum() bool {
	l := s.facts.Live
	return l != nil && l.Leader == 0 && !l.Learner
}

func (s seen) noQuorumText() string {
	if len(s.silent) == 0 {
		return "etcd has no quorum: it has no leader, though something answers at the peer URLs of every member"
	}
	var silent []string
	names := observe.MemberNames(s.silent)
	for i, m := range s.silent {
		silent = append(silent, fmt.Sprintf("%s (%s)", names[i], strings.Join(m.PeerURLs, ", ")))
	}
	return fmt.Sprintf("etcd has no quorum, and serves nobody: of its %d members these do not answer: %s",
		s.facts.Live.Voters(), strings.Join(silent, ", "))
}

// judgeDeadServers names what the Service kubernetes sends clients to for ever.
func (s seen) judgeDeadServers() (warnings []string) {
	if s.facts.Live == nil {
		return nil
	}
	for _, dead := range s.facts.Live.DeadAPIServers {
		how := "without a lease: nothing removes it"
		if dead.For > 0 {
			how = fmt.Sprintf("with a lease of %s, which no API server takes: it stays that long", dead.For)
		}
		warnings = append(warnings, fmt.Sprintf("an API server at %s is registered in etcd %s, and the Service "+
			"kubernetes sends clients there. If none runs there, remove it with "+
			"`etcdctl del /registry/masterleases/%s`", dead.Address, how, dead.Address))
	}
	return warnings
}

// judgeMembers warns of members that do not answer: a cluster works on without one, silently, until
// the next one is lost.
func (s seen) judgeMembers() []string {
	if s.noQuorum() || s.stoppedByRun() {
		return nil // said with what comes of it
	}
	var w []string
	for _, m := range s.silent {
		w = append(w, fmt.Sprintf("the member %s does not answer at %s",
			observe.MemberName(m), strings.Join(m.PeerURLs, ", ")))
	}
	return w
}

// judgeAgreement warns of members that hold something else than the others, and where that is never
// looked at.
func (s seen) judgeAgreement() (w []string) {
	if s.agreement == nil {
		return nil
	}
	if len(s.agreement.Differ) > 0 {
		w = append(w, backup.Differing(s.agreement.Differ))
	}
	if s.agreement.TooLarge != "" {
		w = append(w, backup.NotTold+s.agreement.TooLarge)
	}
	return w
}

// quotaWarn is the share of the quota, in per cent, above which it causes a warning.
const quotaWarn = 80

// judgeQuota judges the file's size, since etcd compares that with the quota
// (server/storage/quota.go): if little of it is in use, defragmenting helps.
func (s seen) judgeQuota() []string {
	l := s.facts.Live
	if l == nil || s.quotaBytes() <= 0 {
		return nil
	}
	size, inUse := 100*l.SizeBytes/s.quotaBytes(), 100*l.InUseBytes/s.quotaBytes()
	switch {
	case inUse > quotaWarn:
		return []string{fmt.Sprintf("etcd's data takes %d%% of its quota of %s: at 100%% it refuses all writes",
			inUse, engine.Size(s.quotaBytes()))}
	case size > quotaWarn:
		return []string{
			fmt.Sprintf("etcd's file takes %d%% of its quota of %s, and only %d%% is in use: defragment it",
				size, engine.Size(s.quotaBytes()), inUse),
		}
	}
	return nil
}

func (s seen) judgeCertificates() []string {
	var w []string
	for _, c := range s.certs {
		if c.Problem != "" && !observe.Tells(s.facts.Obstacles, c.Path) {
			w = append(w, fmt.Sprintf("the certificate %s: %s", c.Path, c.Problem))
		}
	}
	return w
}

// judgeKubeconfigs warns where the administrator of this node is one no more: a restore could not
// read back what it restored.
func (s seen) judgeKubeconfigs() []string {
	if s.denied == nil {
		return nil
	}
	return []string{fmt.Sprintf("%v; %s", s.denied, engine.Hint(s.denied))}
}

// backupAge is how old the newest backup may be without a warning.
const backupAge = 24 * time.Hour

// fellBack says whether etcd is below the newest backup. Revisions only grow, so it has lost its
// data and started over (the kubelet starts one on an empty directory), or was put back by hand.
func (s seen) fellBack() bool {
	newest := s.newest()
	return newest != nil && s.facts.Live != nil && s.facts.Live.Revision < newest.Revision
}

func (s seen) judgeBackups() []string {
	newest := s.newest()
	switch {
	case s.backupErr != nil:
		return []string{s.backupErr.Error()}
	case newest == nil:
		return []string{fmt.Sprintf("there is no backup of this node in %s", s.backupDir)}
	case s.fellBack() && !s.stoppedByRun():
		return []string{
			fmt.Sprintf("etcd is at revision %d, and the newest backup of this node is of revision %d: it does not "+
				"hold what was backed up", s.facts.Live.Revision, newest.Revision),
		}
	case s.facts.Now.Sub(newest.TakenAt) > backupAge:
		return []string{fmt.Sprintf("the newest backup in %s is %d hours old",
			s.backupDir, int(s.facts.Now.Sub(newest.TakenAt).Hours()))}
	}
	return nil
}

// leftOut returns the peer URLs of the members that the newest completed restore left out, and that
// could serve as the old cluster if their power returned. One that is a member of the current
// cluster by now was wiped and has joined.
func leftOut(n *observe.Node, live *observe.Live) (left []string) {
	_, left = journal.LastRestore(n.FS, journal.NoteLeft)
	return slices.DeleteFunc(left, func(url string) bool {
		return live != nil && slices.ContainsFunc(live.Members, func(m observe.Member) bool {
			return slices.Contains(m.PeerURLs, url)
		})
	})
}

func (s seen) judgeLeftOut() []string {
	if len(s.left) == 0 {
		return nil
	}
	return []string{
		fmt.Sprintf("the members at %s were left out of the last restore: should their power return, the old cluster "+
			"serves beside this one; wipe their data before they are started again (this is said until they are "+
			"members of this cluster)", strings.Join(s.left, ", ")),
	}
}
