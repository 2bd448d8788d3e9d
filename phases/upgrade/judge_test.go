package upgrade

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/flags"
)

// healthy is a cluster of three with nothing wrong, as kubeadm sets it up for Kubernetes 1.36.
func healthy(runs string) *looked {
	l := &looked{cluster: cluster{quorum: true, through: "https://127.0.0.1:2379"}}
	names := []string{"cp1", "cp2", "cp3"}
	var stored []StoredMember
	for i, name := range names {
		stored = append(stored, StoredMember{ID: uint64(i + 1), Name: name})
	}
	tag := "3.6.16-0"
	for i, name := range names {
		v, _ := parse(runs)
		m := listed{id: uint64(i + 1), name: name, role: "voter", node: name, started: true, answers: true,
			version: runs}
		if v.minor > 5 {
			m.storage = v.line() + ".0"
		}
		if i == 2 {
			m.role = "leader"
		}
		l.members = append(l.members, m)
		given := []flags.Given{{Name: "snapshot-count", Value: "10000", From: flags.Argument},
			{Name: "discovery-fallback", Value: "exit", From: flags.Argument}}
		l.seen = append(l.seen, Seen{Node: name, Etcd: true, File: "/m/etcd.yaml", MemberID: m.id,
			Image: "e:" + runs + "-0", Given: given, RunsFor: time.Hour, QuotaBytes: 2 << 30,
			Stored: &Stored{slices.Clone(stored)}, Kubernetes: "1.36.3", ImageTag: &tag,
			Images: []Image{{Version: "3.5.35", Name: "e:3.5.35-0", Present: true},
				{Version: "3.6.16", Name: "e:3.6.16-0", Present: true}, {Version: "3.7.3", Name: "e:3.7.3-0",
					Present: true}}})
	}
	return l
}

func TestAHealthyClusterIsToldThatItWillEndWell(t *testing.T) {
	for _, test := range []struct{ runs, to, sentence string }{
		{"3.5.35", "3.6.16", "This will end well."},
		{"3.6.16", "3.7.3", "This will end well."},
		{"3.5.26", "3.5.35", "This will end well."},
	} {
		v, _ := parse(test.to)
		p := healthy(test.runs).plan(v)
		blocking := slices.DeleteFunc(slices.Clone(p.Findings), func(f Finding) bool { return f.Weight == Notes })
		if p.Verdict != Well || p.Sentence != test.sentence || len(blocking) > 0 {
			t.Errorf("%s to %s: %q, %+v", test.runs, test.to, p.Sentence, p.Findings)
		}
		if names := []string{p.Members[0].Name, p.Members[1].Name, p.Members[2].Name}; p.Members[2].Role != "leader" {
			t.Errorf("the leader's turn is not the last: %q", names)
		}
	}
}

// planted is one thing that is wrong, and what is said of it.
type planted struct {
	name     string
	runs, to string // empty: 3.5.35, 3.6.16
	plant    func(l *looked)
	verdict  Verdict
	says     string // in the sentence
	code     finding.Code
	next     string
}

// given adds a flag on all nodes.
func given(name, value string, from flags.Origin) func(*looked) {
	return func(l *looked) {
		for i := range l.seen {
			l.seen[i].Given = append(l.seen[i].Given, flags.Given{Name: name, Value: value, From: from})
		}
	}
}

func versions() []planted {
	all := func(v string) func(*looked) {
		return func(l *looked) {
			for i := range l.members {
				l.members[i].version = v
			}
		}
	}
	return []planted{
		{"two minors at once", "3.5.35", "3.7.3", nil, NotWell,
			"because etcd goes up one minor at a time, and from 3.5 to 3.7 are 2", finding.UpgradeMinors,
			"--to 3.6.16"},
		{"a minor that nobody knows", "3.7.3", "3.8.0", nil, NotWell, "because this etcdpod knows etcd 3.5 to 3.7, " +
			"and not 3.8", finding.UpgradeMinors, "take the etcdpod that knows that version"},
		{"back", "3.6.16", "3.5.35", nil, NotWell, "because 3.5.35 is older than 3.6.16, which runs",
			finding.UpgradeOlder, "newer than all that run"},
		{"back by a patch", "3.6.16", "3.6.11", nil, NotWell, "3.6.11 is older than 3.6.16", finding.UpgradeOlder,
			"newer"},
		{"below the floor", "3.5.25", "3.6.16", nil, NotWell,
			"cp1 runs etcd 3.5.25, and 3.6 asks for 3.5.26 at least", finding.UpgradeFloor, "--to 3.5.35"},
		{"one below the floor", "3.5.35", "3.6.16", func(l *looked) { l.members[1].version = "3.5.20" }, NotWell,
			"because cp2 runs etcd 3.5.20, and 3.6 asks for 3.5.26 at least", finding.UpgradeFloor, "--to 3.5.35"},
		{"at the floor, below what is advised", "3.5.26", "3.6.16", nil, Well, "", finding.UpgradeAdvised,
			"--to 3.5.35"},
		{"below the floor of 3.7", "3.6.10", "3.7.3", nil, NotWell, "and 3.7 asks for 3.6.11 at least",
			finding.UpgradeFloor,
			"--to 3.6.16"},
		{"at the floor of 3.7", "3.6.11", "3.7.3", nil, Well, "", "", ""},
		{"an older patch than is known", "3.5.35", "3.6.11", nil, Well, "", finding.UpgradeAdvised, "--to 3.6.16"},
		{"half done", "3.5.35", "3.6.16", func(l *looked) { l.members[0].version = "3.6.16" }, Well, "", "", ""},
		{"done", "3.6.16", "3.6.16", nil, Nothing, "There is nothing to do: all members run etcd 3.6.16.", "", ""},
		{"data of the minor before", "3.6.16", "3.7.3", func(l *looked) { l.members[1].storage = "3.5.0" }, NotWell,
			"the data of cp2 are still those of 3.5", finding.EtcdStorageOld, "wait until"},
		{"no release", "3.5.35", "3.6.16", all("dev"), NotWell, "which is no release of etcd 3",
			finding.EtcdVersionUnknown,
			"tells its version"},
	}
}

func clusters() []planted {
	member := func(i int, f func(m *listed)) func(*looked) { return func(l *looked) { f(&l.members[i]) } }
	return []planted{
		{"no quorum", "", "", func(l *looked) { l.quorum = false }, NotWell, "no quorum answers", finding.EtcdNoQuorum,
			"`etcdpod members`"},
		{"NOSPACE", "", "", func(l *looked) { l.alarms = []etcd.Alarm{{MemberID: 2, Name: etcd.NoSpace}} }, NotWell,
			"because the alarm NOSPACE of cp2 is raised", finding.EtcdAlarm, "`etcdpod defrag`"},
		{"CORRUPT", "", "", func(l *looked) { l.alarms = []etcd.Alarm{{MemberID: 9, Name: "CORRUPT"}} }, NotWell,
			"the alarm CORRUPT of 9, which is no member any more, is raised", finding.EtcdAlarm, "`etcdpod status`"},
		{"a downgrade", "3.6.16", "3.7.3", func(l *looked) { l.downgrade = "3.5.0" }, NotWell,
			"a downgrade to 3.5.0 was enabled", finding.EtcdDowngrade, "downgrade cancel"},
		{"two members", "", "", func(l *looked) {
			l.members = l.members[1:]
			l.seen = l.seen[1:]
			for i := range l.seen {
				l.seen[i].Stored.Members = l.seen[i].Stored.Members[1:]
			}
		}, NotWell, "of two members none may be away", finding.MembersTwo, "`etcdpod join`"},
		{"one member", "", "", func(l *looked) {
			l.members = l.members[2:]
			l.seen = l.seen[2:]
			l.seen[0].Stored.Members = l.seen[0].Stored.Members[2:]
		}, Well, "", finding.EtcdNoWrites, "choose a time"},
		{"a learner", "", "", func(l *looked) {
			l.members = append(l.members, listed{id: 4, name: "cp4", role: "learner", started: true, answers: true,
				version: "3.5.35"})
		}, NotWell, "cp4 is a learner", finding.MemberLearner, "`etcdpod join`"},
		{"one that never started", "", "", member(0, func(m *listed) {
			m.started, m.answers, m.name = false, false,
				""
		}),
			NotWell, "the member 1 has never started", finding.MemberNeverStarted, "`etcdpod remove 1`"},
		{"one that is down", "", "", member(1, func(m *listed) { m.answers, m.version, m.why = false, "", "refused" }),
			NotWell, "because cp2 does not answer: refused", finding.MemberSilent, "start it"},
		{"one that is behind", "", "", member(1, func(m *listed) { m.behind = 7000 }), NotWell,
			"cp2 is 7000 entries behind",
			finding.MemberBehind, "caught up"},
		{"one that was just started", "", "", func(l *looked) { l.seen[1].RunsFor = 3 * time.Second }, NotWell,
			"cp2 was started 3.0 s ago", finding.MemberYoung, "wait a few seconds"},
		{"one that nobody looked at", "", "", func(l *looked) { l.seen = l.seen[:2] }, Unknown,
			"Nobody can tell yet whether this will end well, because nobody has looked at the data, the flags and " +
				"the disk of cp3.", finding.NodesUnseen, "--nodes cp1,cp2,cp3"},
		{"a node out of reach", "", "", func(l *looked) {
			l.seen, l.unseen = l.seen[:2], []unseenNode{{"cp3", "cp3 cannot be reached: no route", "start cp3"}}
		}, Unknown, "because cp3 cannot be reached: no route.", finding.NodeUnreachable, "start cp3"},
		{"a node of another cluster", "", "", func(l *looked) { l.seen[2].MemberID = 77 }, NotWell,
			"cp3: its etcd is none of the members", finding.ClustersDiffer, "nodes of one cluster"},
		{"what a node found", "", "", func(l *looked) {
			l.seen[0].add(Blocks, "start the kubelet", finding.New(finding.KubeletStopped, "kubelet",
				"the kubelet is not running"))
		}, NotWell, "because cp1: the kubelet is not running.", finding.KubeletStopped, "start the kubelet"},
	}
}

func dataOf() []planted {
	stored := func(node int, f func(s *Seen)) func(*looked) { return func(l *looked) { f(&l.seen[node]) } }
	return []planted{
		{"a voter that the data call a learner", "", "",
			stored(1, func(s *Seen) { s.Stored.Members[0].Learner = true }),
			NotWell, "cp2: its data call cp1 a learner, which is a voter", finding.EtcdDataLearner,
			"restart etcd on the node of cp1"},
		{"a removed member that would come back", "", "", stored(1, func(s *Seen) {
			s.Stored.Members = append(s.Stored.Members, StoredMember{ID: 0xabc, Name: "old"})
		}), NotWell, "cp2: its data still have old (abc), which is no member any more", finding.EtcdDataRemoved,
			"restart etcd there"},
		{"a member that the data do not have", "", "", stored(1, func(s *Seen) {
			s.Stored.Members = s.Stored.Members[:2]
		}), NotWell, "cp2: its data do not have cp3 (3), which is a member", finding.EtcdDataRemoved, "join again"},
		{"data that cannot be read", "", "", stored(1, func(s *Seen) { s.Stored, s.Unstored = nil, "torn" }), Unknown,
			"cp2: the members in the data of etcd cannot be read: torn", finding.EtcdDataUnread, "`etcdpod status`"},
		{"content of the v2 API", "", "", stored(2, func(s *Seen) { s.V2 = []string{"the key /1/a"} }), NotWell,
			"cp3: it holds what was written through the v2 API (the key /1/a)", finding.EtcdV2Content, "delete it"},
		{"v2 content that cannot be read", "", "", stored(2, func(s *Seen) { s.UnreadV2 = "torn" }), Unknown,
			"cp3: what is left of the v2 API cannot be read: torn", finding.EtcdDataUnread, "check v2store"},
		{"none of which matters within a minor", "3.5.26", "3.5.35", stored(2, func(s *Seen) {
			s.V2, s.Stored.Members[0].Learner = []string{"the key /1/a"}, true
		}), Well, "", "", ""},
		{"what 3.5 wrote into the log", "3.6.16", "3.7.3", stored(2, func(s *Seen) { s.OwnV2 = 4 }), NotWell,
			"cp3: its log still has 4 entries that etcd 3.5 wrote, which etcd 3.7 cannot read", finding.EtcdV2Content,
			"wait until etcd has written its next snapshot"},
		{"which 3.6 reads", "3.5.35", "3.6.16", stored(2, func(s *Seen) { s.OwnV2 = 4 }), Well, "", "", ""},
		{"members in data of 3.6", "3.6.16", "3.7.3", stored(2, func(s *Seen) { s.Stored = nil }), Well, "", "", ""},
	}
}

func flagsAndKubernetes() []planted {
	kubernetes := func(v string) func(*looked) {
		return func(l *looked) {
			for i := range l.seen {
				l.seen[i].Kubernetes = v
			}
		}
	}
	return []planted{
		{"a flag that is gone", "", "", given("enable-v2", "false", flags.Argument), NotWell,
			"cp1, cp2, cp3: etcd 3.6 does not know --enable-v2=false, and exits at once", finding.EtcdFlagUnknown,
			"remove it from /m/etcd.yaml first"},
		{"a variable that is gone", "", "", given("enable-v2", "false", flags.Variable), Well, "",
			finding.EtcdFlagUnknown,
			"remove it from"},
		{"both names", "", "", func(l *looked) {
			given("experimental-corrupt-check-time", "1h", flags.Argument)(l)
			given("corrupt-check-time", "1h", flags.Variable)(l)
		}, NotWell, "are the same to etcd 3.6, which refuses both at once", finding.EtcdFlagUnknown,
			"remove one of them"},
		{"an old name that is taken once more", "", "", given("experimental-initial-corrupt-check", "true",
			flags.Argument),
			Well, "This will end well.", finding.EtcdFlagRenamed, "nothing now"},
		{"an old name that is gone", "3.6.16", "3.7.3", given("experimental-corrupt-check-time", "1h",
			flags.Argument), Well,
			"This will end well, with the flags written as below.", finding.EtcdFlagRenamed,
			"`etcdpod upgrade` writes it so"},
		{"a default that differs", "", "", func(l *looked) { l.seen[0].Given = l.seen[0].Given[1:] }, Well, "",
			finding.EtcdFlagDefault, "write the old value"},
		{"an older Kubernetes", "3.6.16", "3.7.3", kubernetes("1.34.4"), NotWell,
			"the API server on cp1 is of Kubernetes 1.34, for which kubeadm uses etcd 3.6.5 at most",
			finding.KubernetesSkew,
			"upgrade Kubernetes first, to 1.36 at least"},
		{"one older API server", "3.6.16", "3.7.3", func(l *looked) { l.seen[1].Kubernetes = "1.35.4" }, NotWell,
			"the API server on cp2 is of Kubernetes 1.35", finding.KubernetesSkew, "1.36"},
		{"the etcd of the next Kubernetes", "3.6.16", "3.7.3", kubernetes("1.36.3"), Well, "", finding.KubeadmSetting,
			`"3.7.3-0"`},
		{"a Kubernetes that nobody knows", "", "", kubernetes("1.49.0"), Well, "", finding.KubernetesSkew,
			"kubeadm's pages"},
		{"an image that is not there", "", "", func(l *looked) { l.seen[0].Images[1].Present = false }, Well, "",
			finding.EtcdImageMissing, "`etcdpod upgrade` pulls it"},
		{"an image that must not be pulled", "", "", func(l *looked) {
			l.seen[0].Images[1].Present, l.seen[0].Images[1].Never = false, true
		}, NotWell, "cp1: the image e:3.6.16-0 is not here, and imagePullPolicy: Never", finding.EtcdImageMissing,
			"`crictl pull e:3.6.16-0`"},
		{"an image by its digest", "", "", func(l *looked) { l.seen[0].Images[1].Name = "" }, Unknown,
			"the manifest names its image by a digest", finding.EtcdImageMissing, "by a tag"},
	}
}

func TestWhatIsPlantedIsSaidWithTheNextStep(t *testing.T) {
	for _, test := range slices.Concat(versions(), clusters(), dataOf(), flagsAndKubernetes()) {
		t.Run(test.name, func(t *testing.T) {
			if test.runs == "" {
				test.runs, test.to = "3.5.35", "3.6.16"
			}
			l := healthy(test.runs)
			if test.plant != nil {
				test.plant(l)
			}
			to, _ := parse(test.to)
			p := l.plan(to)
			if p.Verdict != test.verdict || !strings.Contains(p.Sentence, test.says) {
				t.Errorf("%s: %q", p.Verdict, p.Sentence)
			}
			if test.code == "" {
				return
			}
			i := slices.IndexFunc(p.Findings, func(f Finding) bool { return f.Code == test.code })
			if i < 0 || !strings.Contains(p.Findings[i].Next, test.next) {
				t.Fatalf("%s is not found, or with another next step than %q: %+v", test.code, test.next, p.Findings)
			}
			if test.verdict != Well && p.Findings[0].Code != test.code {
				t.Errorf("the first finding is %+v", p.Findings[0])
			}
			if p.Next == "" || test.verdict != Well && p.Next != p.Findings[0].Next {
				t.Errorf("the next step is %q", p.Next)
			}
		})
	}
}

func TestWithoutAVersionTheNewestOfThisMinorAndTheNextAreJudged(t *testing.T) {
	for runs, want := range map[string][]string{
		"3.5.26": {"3.5.35", "3.6.16"}, "3.5.35": {"3.6.16"}, "3.6.11": {"3.6.16", "3.7.3"}, "3.7.3": nil, "3.7.9": nil,
	} {
		l := healthy(runs)
		r := l.report("")
		var got []string
		for _, p := range r.Plans {
			got = append(got, p.To)
		}
		if !slices.Equal(got, want) || r.Next == "" {
			t.Errorf("%s: %q, and not %q; next: %q", runs, got, want, r.Next)
		}
	}
	if r := healthy("3.5.20").report(""); len(r.Plans) != 2 || r.Plans[0].Verdict != Well ||
		r.Plans[1].Verdict != NotWell ||
		!r.Good() {
		t.Errorf("below the floor: %+v", r)
	}
}

func TestAnImageIsNamedAsTheManifestNamesIt(t *testing.T) {
	to := version{6, 16}
	for image, want := range map[string]string{
		"registry.k8s.io/etcd:3.5.24-0":          "registry.k8s.io/etcd:3.6.16-0",
		"a:5000/etcd:v3.5.24":                    "a:5000/etcd:v3.6.16",
		"a:5000/etcd:3.5.24":                     "a:5000/etcd:3.6.16",
		"a:5000/etcd":                            "",
		"registry.k8s.io/etcd:3.5.24-0@sha256:0": "",
	} {
		if got := imageFor(image, to); got != want {
			t.Errorf("%s becomes %q, and not %q", image, got, want)
		}
	}
	if got := imageFor("r/etcd:3.6.4-0", version{6, 5}); got != "r/etcd:3.6.5-0" {
		t.Errorf("kubeadm's tag: %s", got)
	}
	for text, ok := range map[string]bool{"3.6.16": true, "v3.6.16": true, "3.6": false, "4.0.1": false,
		"3.6.5-0": false} {
		if _, err := ParseVersion(text); (err == nil) != ok {
			t.Errorf("--to %s: %v", text, err)
		}
	}
}
