package upgrade

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/flags"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// judgeData compares the members in each member's own data with the list by which the cluster
// works. Until 3.5 etcd goes by its v2 store, and forgets to keep the other one in step; from 3.6
// on it goes by that one.
func (j *judging) judgeData() {
	if c, crosses := j.crossing(); !crosses || c.floor.minor != lastV2 {
		return
	}
	for _, s := range j.seen {
		switch {
		case s.MemberID == 0: // that it does not answer is said
		case s.Stored == nil:
			j.on(s.Node, Doubts, "look at it with `etcdpod status`", finding.EtcdDataUnread, s.File,
				"the members in the data of etcd cannot be read: %s", s.Unstored)
		default:
			j.judgeStored(s)
		}
	}
}

// judgeStored compares the members in the data of one node.
func (j *judging) judgeStored(s Seen) {
	const restart = "(`crictl stop`: the kubelet starts it again)"
	for _, m := range s.Stored.Members {
		i := slices.IndexFunc(j.members, func(l listed) bool { return l.id == m.ID })
		name := cmp.Or(m.Name, etcd.FormatID(m.ID))
		switch {
		case i < 0:
			next := fmt.Sprintf("restart etcd there, with %s or later %s: it then removes it from its data",
				crossings()[lastV2].floor, restart)
			j.on(s.Node, Blocks, next, finding.EtcdDataRemoved, name, "its data still have %s (%s), which is no "+
				"member any more: with %s it would come back, and nobody could remove it", name, etcd.FormatID(m.ID),
				j.to.line())
		case m.Learner && j.members[i].role != "learner":
			next := fmt.Sprintf("restart etcd on the node of %s %s: all members then write it down anew", name, restart)
			j.on(s.Node, Blocks, next, finding.EtcdDataLearner, name, "its data call %s a learner, which is a voter: "+
				"its promotion was never written down, and etcd %s goes by what is written there", name, j.to.line())
		}
	}
	for _, l := range j.members {
		if !slices.ContainsFunc(s.Stored.Members, func(m StoredMember) bool { return m.ID == l.id }) {
			j.on(s.Node, Blocks, "remove that member, and let its node join again", finding.EtcdDataRemoved, l.called(),
				"its data do not have %s (%s), which is a member", l.called(), etcd.FormatID(l.id))
		}
	}
}

// lastV2 is the last minor whose etcd goes by its v2 store.
const lastV2 = 5

// judgeV2 refuses what clients of the v2 API have left before 3.6, and what etcd 3.5 wrote itself
// into the log before 3.7: an etcd reads all that stands after the last snapshot of the log.
func (j *judging) judgeV2() {
	c, crosses := j.crossing()
	if !crosses {
		return
	}
	for _, s := range j.seen {
		switch {
		case s.UnreadV2 != "":
			j.on(s.Node, Doubts, "look at it with `etcdutl check v2store` of etcd 3.5.32 or later, while etcd is "+
				"stopped", finding.EtcdDataUnread, s.File, "what is left of the v2 API cannot be read: %s", s.UnreadV2)
		case c.floor.minor == lastV2 && len(s.V2) > 0:
			j.on(s.Node, Blocks, "find out who needs it; delete it through the v2 API, while 3.5 runs; it is gone "+
				"once "+
				"etcd has written its next snapshot (--snapshot-count)", finding.EtcdV2Content, strings.Join(s.V2,
				", "),
				"it holds what was written through the v2 API (%s), and etcd %s does not start with that",
				strings.Join(s.V2, ", "), j.to.line())
		case c.floor.minor > lastV2 && s.OwnV2 > 0:
			j.on(s.Node, Blocks, "wait until etcd has written its next snapshot of the log, after --snapshot-count "+
				"entries, or start it with a smaller one; then look again", finding.EtcdV2Content, "",
				"its log still has %d entries that etcd 3.5 wrote, which etcd %s cannot read: it does not start",
				s.OwnV2,
				j.to.line())
		}
	}
}

// judgeNodes takes over what the nodes found, and says which could not be asked.
func (j *judging) judgeNodes() {
	for _, u := range j.unseen {
		j.on(u.name, Doubts, u.hint, finding.NodeUnreachable, u.name, "%s", u.why)
	}
	for _, s := range j.seen {
		j.found = append(j.found, s.Found...)
		foreign := s.MemberID != 0 && !slices.ContainsFunc(j.members, func(m listed) bool { return m.id == s.MemberID })
		if foreign {
			j.on(s.Node, Blocks, "name the nodes of one cluster", finding.ClustersDiffer, s.Node,
				"its etcd is none of the members that %s lists", j.through)
		}
	}
}

// judgeKubernetes holds the version against what kubeadm uses for the API servers that run, and for
// their next minor: further ahead nobody tries it.
func (j *judging) judgeKubernetes() {
	oldest, node := j.oldestKubernetes()
	if oldest == 0 {
		return
	}
	own, ok := j.kubeadmsEtcd(oldest)
	next, hasNext := j.kubeadmsEtcd(oldest + 1)
	switch furthest := max(own.minor, next.minor); {
	case !ok && !hasNext:
		j.say(Notes, "see on kubeadm's pages whether it uses etcd "+j.to.line(), finding.KubernetesSkew, "",
			"which etcd kubeadm uses for the API server on %s, Kubernetes 1.%d, is not known to this etcdpod", node,
			oldest)
	case j.to.minor > furthest:
		j.say(Blocks, fmt.Sprintf("upgrade Kubernetes first, to 1.%d at least", j.kubernetesFor(j.to.minor)-1),
			finding.KubernetesSkew, "", "the API server on %s is of Kubernetes 1.%d, for which kubeadm uses etcd %s "+
				"at most, and 3.%d for the next minor", node, oldest, own, max(furthest, own.minor))
	case ok && j.joins(own) != j.to:
		j.say(Notes, fmt.Sprintf("%s sets it at its end; or %s", j.typed(), op.ImageTagByHand(revisionOf(j.to))),
			finding.KubeadmSetting, "",
			"kubeadm would set up etcd %s on a node that joins, as long as its ClusterConfiguration does not say %s",
			j.joins(own), j.to)
	}
}

// oldestKubernetes is the lowest minor of the API servers that run, and a node with it; 0: none is
// known.
func (j *judging) oldestKubernetes() (oldest int, node string) {
	for _, s := range j.seen {
		if minor := observe.KubernetesMinor(s.Kubernetes); minor > 0 && (oldest == 0 || minor < oldest) {
			oldest, node = minor, s.Node
		}
	}
	return oldest, node
}

// joins is the version that kubeadm sets up on a node that joins: that of its ClusterConfiguration,
// or its own.
func (j *judging) joins(own version) version {
	for _, s := range j.seen {
		if s.ImageTag == nil {
			continue
		}
		if v, ok := parse(observe.TagVersion(*s.ImageTag)); ok {
			return v
		}
	}
	return own
}

// kubeadmsEtcd is the etcd that kubeadm uses for Kubernetes 1.minor; false: not known. That of
// older ones is that of the oldest.
func (j *judging) kubeadmsEtcd(minor int) (version, bool) {
	minors := observe.KubernetesMinors()
	if oldest := observe.KubernetesMinor(minors[0]); minor < oldest {
		minor = oldest
	}
	return parse(observe.TagVersion(etcdTag(minor)))
}

// kubernetesFor is the first minor of Kubernetes for which kubeadm uses a minor of etcd.
func (j *judging) kubernetesFor(etcdMinor int) int {
	for _, text := range observe.KubernetesMinors() {
		minor := observe.KubernetesMinor(text)
		if v, ok := j.kubeadmsEtcd(minor); ok && v.minor >= etcdMinor {
			return minor
		}
	}
	return observe.KubernetesMinor(observe.KubernetesMinors()[len(observe.KubernetesMinors())-1]) + 1
}

// judgeFlags says what must be written otherwise, and what etcd would go without.
func (j *judging) judgeFlags(table []Member) {
	for _, m := range table {
		s := j.seenOf(j.member(m.ID))
		if s == nil {
			continue
		}
		for _, f := range m.Flags {
			j.judgeFlag(s, f)
		}
	}
}

func (j *judging) judgeFlag(s *Seen, f FlagChange) {
	line := j.to.line()
	subject := f.Given
	switch f.Kind {
	case flags.Unknown:
		weight, then := Notes, "goes without it"
		if f.Stops {
			weight, then = Blocks, "exits at once"
		}
		j.on(s.Node, weight, "remove it from "+s.File+" first, if etcd can do without it", finding.EtcdFlagUnknown,
			subject,
			"etcd %s does not know %s, and %s", line, f.Given, then)
	case flags.Refused:
		j.on(s.Node, Blocks, "correct it in "+s.File+" first", finding.EtcdFlagUnknown, subject,
			"etcd %s does not take %s, only %s", line, f.Given, f.Other)
	case flags.Doubled:
		weight := Notes
		if f.Stops {
			weight = Blocks
		}
		j.on(s.Node, weight, "remove one of them from "+s.File+" first", finding.EtcdFlagUnknown, subject,
			"%s and %s are the same to etcd %s, which refuses both at once", f.Given, f.Other, line)
	case flags.Renamed, flags.Gated:
		weight, then, next := Notes, "exits at once with the old name", "nothing: `etcdpod upgrade` writes it so in "+
			s.File
		if !f.Stops { // only flags are rewritten
			weight, then = Blocks, "goes without it under the old name"
			next = "give it as a flag in " + s.File + " first, which is rewritten"
		}
		j.on(s.Node, weight, next, finding.EtcdFlagRenamed, subject,
			"%s is %s in etcd %s, which %s", f.Given, f.Becomes, line, then)
	case flags.Awakened:
		j.on(s.Node, Notes, "remove it from "+s.File+", unless it is meant", finding.EtcdFlagUnknown, subject,
			"%s did nothing until now, and etcd %s obeys it", f.Given, line)
	case flags.Deprecated:
		j.on(s.Node, Notes, "nothing now; once all members run it, write it so in "+s.File, finding.EtcdFlagRenamed,
			subject,
			"%s is taken by etcd %s for the last time; its new name is %s", f.Given, line, f.Becomes)
	case flags.Preset:
		j.on(s.Node, Notes, "nothing, or write the old value into "+s.File, finding.EtcdFlagDefault, subject,
			"nobody has set %s, and its default in etcd %s is %s", f.Given, line, f.Other)
	}
}

// judgeImages says where the image is not yet.
func (j *judging) judgeImages() {
	for _, s := range j.seen {
		for _, i := range s.Images {
			switch {
			case i.Version != j.to.String() || !s.Etcd:
			case i.Name == "":
				j.on(s.Node, Doubts, "have the manifest name its image by a tag, or give --image",
					finding.EtcdImageMissing, s.Image,
					"the manifest names its image by a digest, %s, so that of %s is not known", s.Image, j.to)
			case i.Error != "":
				j.on(s.Node, Doubts, "see that the container runtime answers", finding.EtcdImageMissing, i.Name, "%s",
					i.Error)
			case !i.Present && i.Never:
				j.on(s.Node, Blocks, "pull it: `crictl pull "+i.Name+"`", finding.EtcdImageMissing, i.Name,
					"the image %s is not here, and imagePullPolicy: Never keeps the kubelet from pulling it", i.Name)
			case !i.Present:
				j.on(s.Node, Notes, "nothing: `etcdpod upgrade` pulls it before anything is stopped",
					finding.EtcdImageMissing, i.Name,
					"the image %s is not here yet, and nobody has asked the registry whether it has it", i.Name)
			}
		}
	}
}
