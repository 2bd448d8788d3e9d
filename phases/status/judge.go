package status

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/backup"
	"github.com/etcdpod/etcdpod/phases/certs"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// Each function here finds what is wrong with one part of a node; nothing if it is well.

// found is what one of them returns.
type found = []finding.Finding

// one is what a function found that found one thing.
func one(code finding.Code, subject, format string, args ...any) found {
	return found{finding.New(code, subject, format, args...)}
}

func (s seen) judgeRun() found {
	switch {
	case s.openErr != nil:
		return one(finding.RunUnreadable, "", "%v", s.openErr)
	case s.open.ID != "":
		return one(engine.CodeOf(s.open.State), s.open.ID, "%s", openText(s.open))
	}
	return nil
}

// openText says which run is open, and where it stands.
func openText(r engine.RunSummary) string {
	switch r.State {
	case "damaged":
		return fmt.Sprintf("run %s cannot be read: %s", r.ID, r.Error)
	case engine.Running:
		return fmt.Sprintf("run %s is under way: %s, at: %s", r.ID, r.Phase, r.Operation)
	}
	return (&engine.OpenRunError{Run: r}).Error()
}

// stoppedByRun says whether what does not run may be what an open run has stopped: then the run is
// the one thing to say. A run whose journal cannot be read explains nothing.
func (s seen) stoppedByRun() bool { return s.open.ID != "" && s.open.State != "damaged" }

func (s seen) judgeNode() found {
	var w found
	f := s.facts
	if s.files != nil {
		w = append(w, finding.New(finding.ManifestDirUnreadable, f.ManifestDir, "%v", s.files))
	}
	for _, m := range f.Manifests {
		if m.Manifest == nil {
			w = append(w, finding.New(finding.ManifestUnreadable, m.Path,
				"%s is not a readable manifest: %v", m.Path, m.Error))
		}
	}
	switch {
	case f.KubeletError != nil:
		w = append(w, finding.New(finding.KubeletUnknown, "kubelet", "%v", f.KubeletError))
	case !f.KubeletActive && !s.stoppedByRun():
		w = append(w, finding.New(finding.KubeletStopped, "kubelet", "the kubelet is not running: nothing that "+
			"exits is restarted. Start it: `systemctl start kubelet`"))
	}
	if f.RuntimeError != nil {
		w = append(w, finding.New(finding.RuntimeUnreachable, "", "%v", f.RuntimeError))
	}
	return w
}

func (s seen) judgeContainers() found {
	if s.facts.RuntimeError != nil || s.stoppedByRun() {
		return nil // nothing is known, or it is known why
	}
	var w found
	for _, m := range s.facts.Manifests {
		if m.Manifest == nil {
			continue
		}
		for _, name := range m.Manifest.Containers() {
			switch c := s.container(m, name); {
			case c == nil:
				w = append(w, finding.New(finding.ContainerMissing, name,
					"%s of %s is not running: it has no container", name, m.Path))
			case c.State != "running":
				w = append(w, finding.New(finding.ContainerStopped, name,
					"%s of %s is not running: its container %s%s",
					name, m.Path, stands(c), s.because(c)))
			case s.ended[c.ID].why != "":
				w = append(w, finding.New(finding.ContainerRestarts, name,
					"%s of %s keeps exiting: its container has been started %d times%s",
					name, m.Path, c.Attempt+1, s.because(c)))
			}
		}
	}
	return w
}

// stands says what has become of a container that does not run.
func stands(c *node.Container) string {
	state := "is " + c.State
	if c.State == "exited" {
		state = "has exited"
	}
	switch c.Attempt {
	case 0:
		return state
	case 1:
		return state + " after 1 restart"
	}
	return fmt.Sprintf("%s after %d restarts", state, c.Attempt)
}

// judgeStarts warns of what would keep the pods from starting again, before anybody stops them.
func (s seen) judgeStarts() found {
	var w found
	for _, o := range observe.Unreported(s.facts.Obstacles, s.reported) {
		w = append(w, o.Finding())
	}
	for _, o := range s.unpaired() {
		w = append(w, o.Finding())
	}
	return append(w, s.facts.Unasked()...)
}

// unpaired are the certificates that look well by themselves, and whose key or CA does not fit.
func (s seen) unpaired() (all []observe.Obstacle) {
	for _, o := range s.facts.Certificates {
		if !s.reported(o.Certificate) {
			all = append(all, o)
		}
	}
	return all
}

// unreadable is what to do about a certificate in use that cannot be read; empty: there is none.
func (s seen) unreadable() string {
	for _, o := range s.facts.Certificates {
		if slices.ContainsFunc(s.certs, func(c certs.Status) bool {
			return c.Path == o.Certificate && c.Code == finding.CertificateUnreadable
		}) {
			return o.Fix
		}
	}
	return ""
}

// reported says whether a file is reported as one of the certificates.
func (s seen) reported(file string) bool {
	return slices.ContainsFunc(s.certs, func(c certs.Status) bool { return c.Problem != "" && c.Path == file })
}

// unasked says whether etcd was not asked because a certificate for that is missing, which is
// reported.
func (s seen) unasked() bool {
	var missing *fs.PathError
	return errors.As(s.facts.LiveError, &missing) && errors.Is(missing, fs.ErrNotExist) && s.reported(missing.Path)
}

// answersBeside tells of an etcd that answers whatever its manifest is like.
func (s seen) answersBeside() string {
	if s.beside == "" {
		return ""
	}
	return fmt.Sprintf("; an etcd answers at %s, and `etcdpod backup` can save what it holds", s.beside)
}

// lacksEtcd says whether no manifest runs etcd, and one ought to: not where the API server uses
// etcds on other nodes alone.
func (s seen) lacksEtcd() bool {
	return s.facts.Etcd == nil && s.facts.EtcdError == nil && s.departed == nil &&
		(s.trace != "" || !observe.UsesOtherEtcd(s.facts.Manifests))
}

func (s seen) judgeEtcd() found {
	f := s.facts
	switch {
	case s.stoppedByRun():
		return nil
	case f.EtcdError != nil:
		return one(finding.EtcdManifestUnusable, f.ManifestDir, "%v%s", f.EtcdError, s.answersBeside())
	case s.departed != nil:
		return one(finding.EtcdDeparted, f.ManifestDir, "no etcd runs on this node any more: %s", s.departed)
	case s.lacksEtcd():
		return one(finding.EtcdManifestMissing, f.ManifestDir, "no manifest in %s runs etcd%s%s",
			f.ManifestDir, observe.Although(s.trace), s.answersBeside())
	}
	if f.Etcd == nil {
		return nil
	}
	var w found
	own := f.Etcd.Name
	switch {
	case s.noQuorum():
		w = one(finding.EtcdNoQuorum, own, "%s", s.noQuorumText())
	case f.LiveError != nil && f.Live != nil:
		w = one(finding.EtcdNoQuorum, own, "%v", f.LiveError)
	case f.LiveError != nil && !s.unasked():
		w = one(finding.EtcdUnreachable, own, "%v", f.LiveError)
	}
	if f.Live == nil {
		return w
	}
	for _, a := range f.Live.Alarms {
		w = append(w, finding.New(finding.EtcdAlarm, a, "etcd raised the alarm %s%s", a, alarmCure(a)))
	}
	return w
}

// alarmCure is what an alarm means, and what to run.
func alarmCure(alarm string) string {
	switch name, _, _ := strings.Cut(alarm, " "); name {
	case "NOSPACE":
		return ": no member takes writes that need room. Run `etcdpod defrag`, which disarms it once every member is " +
			"below its quota"
	case "CORRUPT":
		return ": the members do not hold the same data. Run `etcdpod backup` on each member before anything else"
	}
	return ""
}

// noQuorum says that etcd answers, and serves nobody. It can still be asked what needs no quorum.
func (s seen) noQuorum() bool {
	l := s.facts.Live
	return l != nil && l.Leader == 0 && !l.Learner
}

func (s seen) noQuorumText() string {
	var why []string
	if len(s.silent) > 0 {
		var silent []string
		names := observe.MemberNames(s.silent)
		for i, m := range s.silent {
			silent = append(silent, fmt.Sprintf("%s (%s)", names[i], strings.Join(m.PeerURLs, ", ")))
		}
		why = append(why, "these do not answer: "+strings.Join(silent, ", "))
	}
	if unstarted := s.unstarted(); len(unstarted) > 0 {
		why = append(why, "these have never started: "+strings.Join(observe.IDs(unstarted), ", "))
	}
	if len(why) == 0 {
		return "etcd has no quorum: it has no leader, although something answers at every member's peer URLs"
	}
	return fmt.Sprintf("etcd has no quorum and serves nobody: of its %d members, %s",
		s.facts.Live.Voters(), strings.Join(why, "; "))
}

// unstarted are the voting members that have never started.
func (s seen) unstarted() []observe.Member {
	return slices.DeleteFunc(slices.Clone(s.facts.Live.Members),
		func(m observe.Member) bool { return m.IsLearner || observe.Started(m) })
}

// judgeDeadServers names what the Service kubernetes sends clients to for ever.
func (s seen) judgeDeadServers() (w found) {
	if s.facts.Live == nil {
		return nil
	}
	for _, dead := range s.facts.Live.DeadAPIServers {
		how := "without a lease, so nothing removes it"
		if dead.For > 0 {
			how = fmt.Sprintf("with a lease of %s, longer than any API server uses", dead.For)
		}
		w = append(w, finding.New(finding.APIServerDead, dead.Address,
			"an API server at %s is registered in etcd %s: the Service kubernetes sends clients there. If no API "+
				"server runs there, remove it with `etcdctl del "+
				"/registry/masterleases/%s`", dead.Address, how, dead.Address))
	}
	return w
}

func (s seen) judgePrefix() found { return s.facts.OtherPrefix() }

// judgeMembers warns of members that do not answer: a cluster works on without one, silently, until
// the next one is lost.
func (s seen) judgeMembers() found {
	if s.noQuorum() || s.stoppedByRun() {
		return nil // said with what comes of it
	}
	var w found
	for _, m := range s.silent {
		if slices.ContainsFunc(s.hung, func(o observe.Member) bool { return o.ID == m.ID }) {
			w = append(w, finding.New(finding.MemberSilent, observe.MemberName(m), "member %s accepts connections at "+
				"%s, and does not answer: it hangs, or its process is stopped. Run `etcdpod status` on its node; "+
				"`crictl stop` has the kubelet start its etcd again", observe.MemberName(m),
				strings.Join(m.PeerURLs, ", ")))
			continue
		}
		w = append(w, finding.New(finding.MemberSilent, observe.MemberName(m), "member %s does not answer at %s. "+
			"Start it; `etcdpod status` on its node says what keeps it from starting", observe.MemberName(m),
			strings.Join(m.PeerURLs, ", ")))
	}
	return w
}

// judgeAgreement warns of members that hold something else than the others, and where that is never
// looked at.
func (s seen) judgeAgreement() (w found) {
	if s.agreement == nil {
		return nil
	}
	if len(s.agreement.Differ) > 0 {
		w = append(w, backup.Differing(s.agreement.Differ))
	}
	if s.agreement.TooLarge != "" {
		w = append(w, backup.NotCompared(s.agreement.TooLarge))
	}
	return w
}

// quotaWarn is the share of the quota, in per cent, above which it causes a warning.
const quotaWarn = 80

// judgeQuota judges the file's size, since etcd compares that with the quota
// (server/storage/quota.go): if little of it is in use, defragmenting helps. Of a file that is far
// from its quota it says whether it will be there soon.
func (s seen) judgeQuota() found {
	l := s.facts.Live
	if l == nil || s.quotaBytes() <= 0 {
		return nil
	}
	size, inUse := 100*l.SizeBytes/s.quotaBytes(), 100*l.InUseBytes/s.quotaBytes()
	switch {
	case inUse > quotaWarn:
		return one(finding.EtcdQuota, s.facts.Etcd.Name, "etcd's data fills %d%% of its quota of %s: at 100%% it "+
			"refuses all writes. Delete what is not needed, or raise --quota-backend-bytes on all members", inUse,
			engine.Size(s.quotaBytes()))
	case size > quotaWarn:
		return one(finding.EtcdFragmented, s.facts.Etcd.Name, "etcd's file fills %d%% of its quota of %s, but only "+
			"%d%% is in use: run `etcdpod defrag`", size, engine.Size(s.quotaBytes()), inUse)
	}
	return s.judgeGrowth()
}

func (s seen) judgeCertificates() found {
	var w found
	for _, c := range s.certs {
		if c.Problem != "" && !observe.Tells(s.facts.Obstacles, c.Path) {
			w = append(w, finding.New(c.Code, c.Path, "certificate %s: %s", c.Path, c.Problem))
		}
	}
	return w
}

// judgeKubeconfigs warns where the administrator of this node is one no more: a restore could not
// read back what it restored.
func (s seen) judgeKubeconfigs() found {
	if s.denied == nil {
		return s.unadministered
	}
	return one(finding.KubeconfigsRejected, "", "%v; %s", s.denied, engine.Hint(s.denied))
}

// wantsBackup says whether a backup is meant to be there, and none is that is new enough: a removed
// member's node has nothing left to back up.
func (s seen) wantsBackup() bool {
	newest := s.newest()
	return s.maxAge > 0 && s.departed == nil && (newest == nil || s.facts.Now.Sub(newest.TakenAt) > s.maxAge)
}

func (s seen) judgeRehearsals() found { return s.rehearsals.Judge(s.facts.Now) }

func (s seen) judgeBackups() found {
	newest := s.newest()
	var w found
	if s.behind != nil && !s.stoppedByRun() { // the worst of it, whatever else is wrong
		w = found{backup.FellBack(backup.Present(&s.facts), *s.behind)}
	}
	switch {
	case s.backupErr != nil && s.maxAge > 0 && (!s.backupsGone || newest == nil || s.wantsBackup()):
		w = append(w, finding.New(finding.BackupDirUnreadable, s.backupDir, "%v", s.backupErr))
	case newest == nil && s.wantsBackup():
		w = append(w, finding.New(finding.BackupMissing, s.backupDir, "%s", s.noBackup()))
	case s.wantsBackup():
		w = append(w, finding.New(finding.BackupOld, newest.Path, "the newest backup in %s is %s old: run "+
			"`etcdpod backup`", s.backupDir, old(s.facts.Now.Sub(newest.TakenAt))))
	}
	return w
}

// old is an age in hours, unless it is less than two of them.
func old(age time.Duration) string {
	if age < 2*time.Hour {
		return fmt.Sprintf("%d min", int(age.Minutes()))
	}
	return fmt.Sprintf("%d hours", int(age.Hours()))
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

func (s seen) judgeLeftOut() found {
	if len(s.left) == 0 {
		return nil
	}
	at := strings.Join(s.left, ", ")
	return one(finding.MembersLeftOut, at, "the members at %s were left out of the last restore: if they are powered "+
		"on again, the old cluster serves beside this one; wipe their data before starting them (this warning stays "+
		"until they are members of this cluster)", at)
}
