package status

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
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
	"github.com/etcdpod/etcdpod/phases/rehearse"
)

// seen is what `status` could find out. A part that could not be read has an error instead.
type seen struct {
	facts     observe.Facts // Manifests, Etcd, kubelet, containers, Live
	files     error         // why the static-pod directory cannot be read
	trace     string        // what tells that etcd ought to run here, if no manifest does
	departed  *observe.Departure
	beside    string // where an etcd answers that no usable manifest runs; often empty
	quota     int64  // bytes, from the flag or etcd's default
	certs     []certs.Status
	unread    []unreadCA
	backups   []backup.Entry
	backupErr error
	backupDir string // where they are looked for
	// The directory of the last one does not exist.
	backupsGone bool
	behind      *backup.Held // what one of them holds that etcd does not
	maxAge      time.Duration
	open        engine.RunSummary
	openErr     error
	left        []string         // peer URLs of members that a restore left out
	silent      []observe.Member // members of the same cluster elsewhere that do not answer
	hung        []observe.Member // those of them that accept connections
	listeners   []listener
	kubeadms    string           // the dataDir that kubeadm knows; empty: etcd's, or not known
	ended       map[string]ended // by the id of the container that is there now
	unready     error            // why the API server does not serve, although it runs
	denied      error            // it refuses all kubeconfigs of administrators
	// no kubeconfig of an administrator is there
	unadministered found
	agreement      *observe.Agreement
	data           data
	window         *window          // nil: etcd was not watched
	last           *observe.Figures // those that were read last
	changed        *changedSince
	rehearsals     rehearse.Kept
}

// ended is what explains that a container ended.
type ended struct{ why, do string }

// Of examines the node. It works when everything is down: what cannot be read is a warning.
// Warnings mean exit code 6.
func Of(ctx context.Context, n *observe.Node, o Options) (Status, error) {
	s := seen{maxAge: o.MaxBackupAge,
		facts: observe.Facts{Now: n.Clock.Now().UTC(), Node: n.Name, ManifestDir: n.Config.StaticPodPath}}
	f := &s.facts
	f.Manifests, s.files = n.Manifests(ctx, f.ManifestDir)
	f.KubeletActive, f.KubeletError = n.Kubelet.Running(ctx)
	f.Containers, f.RuntimeError = n.Runtime.Containers(ctx)
	f.Etcd, f.EtcdError = n.EtcdPod(f.Manifests)
	if f.Node = n.NameOf(f.Etcd); f.Etcd != nil {
		s.quota = f.Etcd.Quota()
		s.listeners = listeners(ctx, n, f.Etcd)
		if f.Live, f.LiveError = n.Live(ctx, f.Etcd); f.Live == nil {
			f.Live, _ = n.OwnLive(ctx, f.Etcd.Access) // LiveError says that it has no quorum
		}
		n.ObserveUse(f)
	} else {
		s.lookForEtcd(ctx, n)
	}
	first := s.figures(ctx, n, o.Last)
	f.Fingerprints, _ = n.Fingerprints(f) // without them ids tell whose backup one is
	n.ObserveStarts(ctx, f)
	n.ObserveCertificates(f)
	s.certs, s.unread = certificates(n, f, s.trace != ""), unreadCAs(n, f)
	f.API, f.Kubeconfigs = n.Administrators(f.Manifests)
	s.lookAtAPIServer(ctx, n)
	s.ended = s.lookAtEndings(ctx, n)
	s.unadministered = n.WithoutKubeconfig(f.Manifests)
	s.left = leftOut(n, f.Live)
	s.silent = slices.DeleteFunc(n.Silent(ctx, f.Live), func(m observe.Member) bool { return !observe.Started(m) })
	s.lookForHung(ctx, n)
	// A member that is down would be waited for.
	if f.Live != nil && f.LiveError == nil && len(s.silent) == 0 {
		s.agreement = n.Agree(ctx, f.Etcd.Access, f.Live, true)
	}
	s.data = lookAtData(ctx, n, f)
	s.kubeadms = otherDataDir(ctx, n, f)
	s.lookAtBackups(ctx, n, o.BackupDir)
	s.rehearsals, _ = rehearse.Last(n.FS) // the next one writes it anew
	s.changed = s.lookForChanges(ctx, n)
	s.open, s.openErr = engine.OpenRun(n.FS)
	s.open = s.open.Observed(ctx, n.FS, n.Clock)
	if f.Elsewhere = n.Elsewhere(f.Manifests); f.Elsewhere != "" && s.files == nil {
		return notControlPlane(f), ctx.Err()
	}
	s.watch(ctx, n, first)
	return s.status(), ctx.Err()
}

// lookForHung finds those of the other members that accept connections, and do not answer either.
func (s *seen) lookForHung(ctx context.Context, n *observe.Node) {
	if s.facts.Etcd == nil || s.facts.Live == nil {
		return
	}
	s.hung = n.Hung(ctx, s.facts.Etcd, s.answering())
	s.silent = append(s.silent, s.hung...)
}

// lookForEtcd is for a node without a usable manifest of etcd.
func (s *seen) lookForEtcd(ctx context.Context, n *observe.Node) {
	f := &s.facts
	s.trace, s.beside = n.TraceOfEtcd(f.Manifests), answersAnyhow(ctx, n, f)
	if f.EtcdError != nil {
		return
	}
	if s.departed = n.Departed(ctx, f.Manifests, s.lacksEtcd()); s.departed != nil {
		s.trace = "" // nothing of etcd's is missed here
	}
}

// answersAnyhow is where an etcd of this node answers its clients whose manifest is gone, or cannot
// be relied on; empty when none does.
func answersAnyhow(ctx context.Context, n *observe.Node, f *observe.Facts) string {
	access, ok := n.AsClient(f.Manifests)
	if !ok {
		return ""
	}
	if live, _ := n.OwnLive(ctx, access); live == nil {
		return ""
	}
	return strings.Join(access.Endpoints, ", ")
}

// notControlPlane is the one fact that explains all that is missing.
func notControlPlane(f *observe.Facts) Status {
	found := []finding.Finding{finding.New(finding.NotControlPlane, f.ManifestDir, "%s", f.Elsewhere)}
	return Status{Node: f.Node, ManifestDir: f.ManifestDir, Manifests: []ManifestStatus{}, Kubelet: "unknown",
		Runtime: "unknown", Members: []observe.Member{}, Alarms: []string{}, Certificates: []certs.Status{},
		Findings: finding.On(f.Node, found), Warnings: finding.Texts(found)}
}

// certificateFlag matches the flags of etcd and the API server that name certificates:
// trusted-ca-file, etcd-certfile, kubelet-client-certificate.
var certificateFlag = regexp.MustCompile(`(^|-)(cert-?file|ca-?file|client-certificate)$`)

// caFlag matches those of them that name CAs.
var caFlag = regexp.MustCompile(`ca-?file$`)

func certificates(n *observe.Node, f *observe.Facts, oughtToRun bool) []certs.Status {
	var files []string
	cas := map[string]bool{}
	for _, name := range []string{"etcd", "kube-apiserver"} {
		m, c, ok := observe.Program(f.Manifests, name)
		if !ok || name == "etcd" && f.Etcd != nil {
			continue
		}
		for _, flag := range m.Manifest.Flags(c) {
			if certificateFlag.MatchString(flag.Name) {
				file := observe.HostFile(m, c, observe.FlagOf(m, c, flag.Name))
				files, cas[file] = append(files, file), cas[file] || caFlag.MatchString(flag.Name)
			}
		}
	}
	if f.Etcd != nil {
		files = append(files, f.Etcd.CertificateFiles()...)
		for _, ca := range f.Etcd.CAFiles() {
			cas[ca] = true
		}
		if !f.Etcd.Access.Typed {
			files = append(files, f.Etcd.Access.Cert)
		}
	}
	files = append(files, certs.KubeadmFiles(n, oughtToRun)...)
	slices.Sort(files)
	all := []certs.Status{}
	for _, file := range slices.Compact(files) {
		switch {
		case file == "":
		case cas[file] || certs.IsCAFile(file):
			all = append(all, certs.StatusOfCA(n, file, f.Now))
		default:
			data, err := n.FS.ReadFile(file)
			all = append(all, certs.StatusOf(file, data, err, f.Now))
		}
	}
	return append(all, certs.KubeconfigStatuses(n, f.Now)...)
}

// status judges what was seen.
func (s seen) status() Status {
	f := s.facts
	st := Status{
		Node: f.Node, ManifestDir: f.ManifestDir, Manifests: s.manifests(),
		Kubelet: "running", Runtime: "ok", Members: []observe.Member{}, Alarms: []string{},
		Certificates: s.certs, Quorum: s.quorum(), Pace: s.pace(), last: s.last,
	}
	if !f.KubeletActive {
		st.Kubelet = "stopped"
	}
	if f.KubeletError != nil {
		st.Kubelet = f.KubeletError.Error()
	}
	if f.RuntimeError != nil {
		st.Runtime = f.RuntimeError.Error()
	}
	if f.Live != nil {
		st.Member, st.Members, st.Alarms = s.member(), append(st.Members, f.Live.Members...),
			append(st.Alarms, f.Live.Alarms...)
	}
	if f.LiveError != nil {
		st.Problem = f.LiveError.Error()
	}
	if b := s.newest(); b != nil {
		st.NewestBackup = b
	}
	st.Rehearsal = s.rehearsals.Brief()
	if s.open.ID != "" {
		st.OpenRun = &s.open
	}
	wrong := found{}
	for _, judge := range []func() found{
		s.judgeRun, s.judgeNode, s.judgeContainers, s.judgeStarts, s.judgeEtcd, s.judgeAPIServer, s.judgeData,
		s.judgeWho, s.judgeManifests, s.judgeAccess, s.judgeMembers, s.judgeSize, s.judgeAgreement,
		s.judgeDeadServers, s.judgePrefix, s.judgeVersion, s.judgeDowngrade, s.judgeLag, s.judgeQuota, s.judgeDisk,
		s.judgeStarved, s.judgeTrips, s.judgeChanges, s.judgeCertificates, s.judgeCAs, s.judgeKubeconfigs,
		s.judgeBackups, s.judgeRehearsals, s.judgeChanged, s.judgeLeftOut,
	} {
		wrong = append(wrong, judge()...)
	}
	inOrder(wrong)
	st.Findings, st.Warnings = finding.On(st.Node, wrong), finding.Texts(wrong)
	st.Next = s.next(st)
	return st
}

func (s seen) member() *MemberStatus {
	l, pod := s.facts.Live, s.facts.Etcd
	return &MemberStatus{
		Endpoint: pod.Access.Endpoints[0], ID: fmt.Sprintf("%x", l.MemberID),
		ClusterID: fmt.Sprintf("%x", l.ClusterID), Name: pod.Name,
		Version: l.Version, StorageVersion: l.StorageVersion,
		Leader: l.Leader == l.MemberID, Learner: l.Learner, NoQuorum: s.noQuorum(), Revision: l.Revision,
		RaftApplied: int64(l.Applied), Downgrade: l.Downgrade,
		SizeBytes: l.SizeBytes, InUseBytes: l.InUseBytes, QuotaBytes: s.quotaBytes(), Compared: s.compared(),
	}
}

func (s seen) quotaBytes() int64 {
	if q := s.facts.Live.QuotaBytes; q > 0 {
		return q
	}
	return s.quota
}

func (s *seen) lookAtBackups(ctx context.Context, n *observe.Node, dir string) {
	var l backup.Listing
	l, s.backupErr = backup.List(ctx, n, dir)
	s.backups, s.backupDir, s.backupsGone = l.Entries, l.In(), l.Gone
	if s.facts.Live != nil {
		s.behind = backup.Behind(n, &s.facts, s.backups)
	}
}

// newest is the newest backup of this node with nothing odd about it. In a directory that several
// nodes share, those of the others are not this node's, nor are those of data that somebody has
// only looked into here.
func (s seen) newest() *backup.Entry {
	return s.firstBackup(func(b backup.Entry) bool { return b.Code == "" && !b.Ahead(s.facts.Now) })
}

func (s seen) firstBackup(is func(backup.Entry) bool) *backup.Entry {
	for i, b := range s.backups {
		theirs := s.facts.Etcd != nil &&
			(b.Node != "" && b.Node != s.facts.Node || b.Stray() && len(s.facts.Fingerprints) > 0)
		if b.Whole && !theirs && is(b) {
			return &s.backups[i]
		}
	}
	return nil
}

// toRestore is the backup to look at first, and what to call it: the newest, unless that was taken
// of an etcd that had lost data before.
func (s seen) toRestore(newest *backup.Entry) (which, file string) {
	if b := newest.Behind; b != nil && s.firstBackup(func(e backup.Entry) bool { return e.Path == b.Path }) != nil {
		return "the backup from before etcd lost data", b.Path
	}
	return "the newest backup", newest.Path
}

// noBackup says why none counts.
func (s seen) noBackup() string {
	b := s.firstBackup(func(backup.Entry) bool { return true })
	switch {
	case b == nil:
		return "there is no backup of this node in " + s.backupDir
	case b.Code != "":
		return fmt.Sprintf("no backup of this node in %s counts: %s: %s", s.backupDir, b.Path, b.Note)
	}
	return fmt.Sprintf("how old the newest backup in %s is, is not known: %s is dated in the future, %s; check the "+
		"clock (`date -u`)", s.backupDir, b.Path, b.TakenAt.UTC().Format(time.RFC3339))
}

func (s seen) manifests() []ManifestStatus {
	all := []ManifestStatus{}
	for _, m := range s.facts.Manifests {
		ms := ManifestStatus{Path: m.Path, Containers: []ContainerStatus{}}
		if m.Manifest == nil {
			ms.Problem = m.Error.Error()
			all = append(all, ms)
			continue
		}
		ms.Pod, ms.Image = m.Manifest.Name(), imageOf(m)
		for _, name := range m.Manifest.Containers() {
			if c := s.container(m, name); c != nil {
				ms.Containers = append(ms.Containers, ContainerStatus{Name: name, State: c.State, Attempt: c.Attempt,
					Since: c.CreatedAt, Ended: s.ended[c.ID].why})
			}
		}
		all = append(all, ms)
	}
	return all
}

// container is [observe.ContainerOf] this node's.
func (s seen) container(m observe.ManifestFile, name string) *node.Container {
	return observe.ContainerOf(s.facts.Containers, s.facts.Manifests, m, name)
}

func (s seen) etcdDown() bool { return s.facts.Etcd != nil && s.facts.Live == nil }

// next is the most useful thing to do.
func (s seen) next(st Status) string {
	f := s.facts
	expired := certs.Renewal(s.certs, func(c certs.Status) bool { return c.DaysLeft < 0 })
	ended := certs.Renewal(s.certs, func(c certs.Status) bool {
		return c.DaysLeft < 0 && !c.IsKubeconfig() // etcd has no use for those
	})
	soon := certs.Renewal(s.certs, func(c certs.Status) bool { return !c.NotAfter.IsZero() })
	switch newest := s.newest(); {
	case s.open.State == "damaged":
		return fmt.Sprintf("look at %s: it is not known what that run did", s.open.Path)
	case s.open.State == engine.Running:
		return "wait until that run has ended"
	case s.open.ID != "":
		return (&engine.OpenRunError{Run: s.open}).Hint()
	case f.EtcdError != nil:
		return s.savedFirst(cmp.Or(engine.Hint(f.EtcdError), "fix etcd's manifest"))
	case s.lacksEtcd() && len(f.Obstacles) > 0 && f.Obstacles[0].Kubelet:
		// Where it looks for manifests may not be known.
		return s.savedFirst(f.Obstacles[0].Fix)
	case s.lacksEtcd() && s.beside != "":
		return s.savedFirst(fmt.Sprintf("find out what runs the etcd at %s: if it was a static pod, put its manifest "+
			"back into %s; etcdpod only backs up any other", s.beside, f.ManifestDir))
	case s.lacksEtcd():
		return "put etcd's manifest into " + f.ManifestDir
	case len(f.Obstacles) > 0 && f.Obstacles[0].Fix != "":
		return f.Obstacles[0].Fix
	case len(s.unpaired()) > 0:
		return s.unpaired()[0].Fix
	case f.KubeletError == nil && !f.KubeletActive:
		return "start the kubelet"
	case s.etcdDown() && ended != "":
		return ended
	case s.etcdDown() && s.mendData() != "":
		return s.mendData()
	case s.etcdDown() && s.etcdEnded().do != "":
		return s.etcdEnded().do
	case s.etcdDown() && (s.data.nothing || s.data.log != nil):
		return s.findData()
	case s.etcdDown() && newest != nil:
		which, file := s.toRestore(newest)
		return fmt.Sprintf("read etcd's log in /var/log/pods; to see what restoring %s would do, run "+
			"`etcdpod restore %s --dry-run`", which, file)
	case s.etcdDown() && f.DataInUse:
		return fmt.Sprintf("an etcd is using %s but does not answer: find in its log, in /var/log/pods, what keeps it "+
			"from serving", f.Etcd.DataDir)
	case s.etcdDown():
		return fmt.Sprintf("there is no backup: save what is there with `etcdpod backup %s`",
			journal.FromDirs(f.Etcd.DataDir, f.Etcd.WALDir))
	case s.unreadable() != "":
		return s.unreadable()
	case expired != "":
		return expired
	case s.noQuorum() && len(s.silent)+len(s.unstarted()) > 0:
		return s.towardsQuorum()
	case s.departed != nil:
		return s.departed.Next()
	case len(s.hung) > 0 && len(s.hung) == len(s.silent):
		return fmt.Sprintf("run `etcdpod status` on the node of %s: its etcd hangs; `crictl stop` there has the "+
			"kubelet start it again", strings.Join(observe.MemberNames(s.hung), ", "))
	case len(s.silent) > 0:
		return fmt.Sprintf("start what does not answer: %s; run `etcdpod status` there for details; %s",
			strings.Join(observe.MemberNames(s.silent), ", "), goneForGood(s.silent...))
	case s.behind != nil:
		return fmt.Sprintf("if data was lost, see what restoring that backup would do: run `etcdpod restore %s "+
			"--dry-run`; if it is meant to be so, move the backups from before to another directory", s.behind.Path)
	case s.changed != nil:
		return fmt.Sprintf("run `etcdpod verify %s`, then `etcdpod backup` on each member before anything else",
			s.changed.backup.Path)
	case s.alarmOf("CORRUPT"), s.agreement != nil && len(s.agreement.Differ) > 0:
		return "run `etcdpod backup` on each member before anything else: the members do not hold the same data"
	case s.alarmOf("NOSPACE"):
		return "run `etcdpod defrag`: etcd takes writes again, and the alarm is disarmed, once every member is below " +
			"its quota"
	case has(st.Findings, finding.EtcdDiskSlow, finding.EtcdStarved):
		return "see what uses the disk and the processors of this node: `iostat -x 1`, `top`; then run " +
			"`etcdpod status --watch`"
	case s.wantsBackup():
		return "run `etcdpod backup`"
	case soon != "":
		return soon
	case len(st.Warnings) > 0:
		return lookIntoWarnings
	}
	return NothingToDo
}

func has(all found, codes ...finding.Code) bool {
	return slices.ContainsFunc(all, func(f finding.Finding) bool { return slices.Contains(codes, f.Code) })
}

// alarmOf says whether etcd has raised an alarm.
func (s seen) alarmOf(name string) bool {
	return s.facts.Live != nil && slices.ContainsFunc(s.facts.Live.Alarms,
		func(a string) bool { return strings.HasPrefix(a, name+" ") })
}

// goneForGood says what to do about members that never come back.
func goneForGood(members ...observe.Member) string {
	which := "MEMBER"
	if len(members) == 1 {
		which = members[0].ID.String()
		if observe.Started(members[0]) {
			which = members[0].Name
		}
	}
	return fmt.Sprintf("if it is gone for good, run `etcdpod remove %s`, then join another node: "+
		"/usr/share/doc/etcdpod/docs/runbooks/one-node-lost.md has every step", which)
}

// savedFirst puts a backup before a cure that starts etcd anew.
func (s seen) savedFirst(cure string) string {
	if s.beside == "" || s.newest() != nil && s.newest().TakenAt.After(s.facts.Now.Add(-time.Hour)) {
		return cure
	}
	return "run `etcdpod backup`, while that etcd answers; then " + cure
}

// What is said where nothing more special is known.
const (
	lookIntoWarnings = "see the warnings"
	// NothingToDo is what is next when all is well.
	NothingToDo = certs.NothingToDo
)

// towardsQuorum says what to do where too few members answer. Restoring those that are left gives
// up what only the others have, and is for when they are destroyed.
func (s seen) towardsQuorum() string {
	voters := s.facts.Live.Voters()
	lost := slices.DeleteFunc(append(slices.Clone(s.silent), s.unstarted()...),
		func(m observe.Member) bool { return m.IsLearner })
	left := slices.DeleteFunc(slices.Clone(s.facts.Live.Members), func(m observe.Member) bool {
		return m.IsLearner || slices.ContainsFunc(lost, func(o observe.Member) bool { return o.ID == m.ID })
	})
	names, words := observe.MemberNames(lost), []string{}
	for i, m := range lost {
		word := names[i]
		if !observe.Started(m) { // and so has no name
			word = m.ID.String()
			names[i] = fmt.Sprintf("%s (%s)", word, strings.Join(m.PeerURLs, ", "))
		}
		words = append(words, word)
	}
	need, of := max(1, voters/2+1-(voters-len(lost))), "one of "
	switch {
	case need == len(lost):
		of = ""
	case need > 1:
		of = fmt.Sprintf("%d of ", need)
	}
	only := "only if their disks are destroyed"
	if len(s.silent) == 0 {
		only = "if that cannot be done" // what never started holds nothing
	}
	return fmt.Sprintf("start %s%s: etcd then serves again, and nothing is lost; %s, "+
		"run `etcdpod backup`, then `etcdpod restore --dry-run --nodes %s --lost %s FILE` with its FILE: "+
		"/usr/share/doc/etcdpod/docs/runbooks/quorum-lost.md has every step", of,
		strings.Join(names, ", "), only, strings.Join(observe.MemberNames(left), ","),
		strings.Join(words, ","))
}
