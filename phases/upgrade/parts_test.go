package upgrade

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/manifests"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/phases/together"
)

// reachable is a healthy cluster whose members can be reached from other nodes.
func reachable(runs string) *looked {
	l := healthy(runs)
	for i := range l.members {
		l.members[i].clients = []string{"https://" + l.members[i].name + ":2379"}
	}
	return l
}

func partsOf(t *testing.T, l *looked, to string) []named {
	t.Helper()
	v, _ := parse(to)
	parts, err := l.parts(l.plan(v), TogetherOptions{Options: Options{To: to}}, "cp2")
	if err != nil {
		t.Fatal(err)
	}
	return parts
}

func TestTheLastOneOfTheOldMinorIsBehindTheCommitPoint(t *testing.T) {
	for name, c := range map[string]struct {
		runs, to string
		plant    func(*looked)
		turns    []int
		last     []bool
	}{
		"another minor":  {"3.5.35", "3.6.16", nil, []int{1, 2, 3}, []bool{false, false, true}},
		"the same minor": {"3.6.11", "3.6.16", nil, []int{1, 2, 3}, []bool{false, false, false}},
		"all done":       {"3.6.16", "3.6.16", nil, []int{0, 0, 0}, []bool{false, false, false}},
		"the first is done": {"3.5.35", "3.6.16", func(l *looked) { l.members[0].version = "3.6.16" },
			[]int{0, 1, 2}, []bool{false, false, true}},
		"only the first left": {"3.6.16", "3.6.16", func(l *looked) { l.members[0].version = "3.5.35" },
			[]int{0, 0, 1}, []bool{false, false, true}},
	} {
		l := reachable(c.runs)
		if c.plant != nil {
			c.plant(l)
		}
		for i, p := range partsOf(t, l, c.to) {
			if p.Turn != c.turns[i] || p.Last != c.last[i] || (p.Image != "") != (p.Turn > 0) ||
				len(p.Others) != 2 || p.Backup != (p.node == "cp2" && slices.Max(c.turns) > 0) {
				t.Errorf("%s: %+v", name, p)
			}
		}
	}
	// Where the leader runs the new minor already, and an older patch release of it, the version of
	// the cluster rises with another one's turn, and that is the last.
	l := reachable("3.5.35")
	l.members[2].role, l.members[2].version = "leader", "3.6.11"
	var turns []string
	for _, p := range partsOf(t, l, "3.6.16") {
		turns = append(turns, p.node)
		if p.Last != (p.node == "cp2") || p.Turn != len(turns) {
			t.Errorf("some run the new minor: %+v", p)
		}
	}
	if !slices.Equal(turns, []string{"cp3", "cp1", "cp2"}) {
		t.Errorf("some run the new minor: the turns are %q", turns)
	}
	l = reachable("3.5.35")
	l.members[1].clients = nil
	v, _ := parse("3.6.16")
	_, err := l.parts(l.plan(v), TogetherOptions{Options: Options{To: "3.6.16"}}, "cp1")
	if err == nil || !strings.Contains(err.Error(), "cp2 advertises no client URL") {
		t.Errorf("one that the others do not reach: %v", err)
	}
}

func TestKubeadmIsToldOnceWhereItDoesNotKnow(t *testing.T) {
	tag := func(text string) func(*looked) {
		return func(l *looked) {
			for i := range l.seen {
				l.seen[i].ImageTag = &text
			}
		}
	}
	untold := func(l *looked) { l.seen[0].ImageTag, l.seen[1].ImageTag, l.seen[2].ImageTag = nil, nil, nil }
	for name, c := range map[string]struct {
		runs  string
		plant func(*looked)
		want  string // by cp2, that coordinates, where not said otherwise
		by    string
	}{
		"it has another":            {"3.5.35", tag("3.5.35-0"), "3.6.16-0", "cp2"},
		"it has that one":           {"3.5.35", tag("3.6.16-0"), "", ""},
		"its own is another":        {"3.5.35", tag(""), "3.6.16-0", "cp2"},
		"nobody tells":              {"3.5.35", untold, "3.6.16-0", "cp2"},
		"all is done, but for that": {"3.6.16", tag("3.5.35-0"), "3.6.16-0", "cp2"},
		"all is done, nobody tells": {"3.6.16", untold, "", ""},
		"no API server there": {"3.5.35", func(l *looked) {
			tag("3.5.35-0")(l)
			l.seen[1].Kubernetes = ""
		}, "3.6.16-0", "cp1"},
		"the image is from another repository": {"3.5.35", func(l *looked) {
			tag("3.5.35-0")(l)
			l.seen[0].Images[1].Name = "elsewhere.example/etcd:v3.6.16"
		}, "", ""},
		"no API server anywhere": {"3.5.35", func(l *looked) {
			l.seen[0].Kubernetes, l.seen[1].Kubernetes, l.seen[2].Kubernetes = "", "", ""
		}, "", ""},
	} {
		l := reachable(c.runs)
		c.plant(l)
		by, got := "", ""
		for _, p := range partsOf(t, l, "3.6.16") {
			if p.Tag != "" {
				by, got = by+p.node, p.Tag
			}
		}
		if got != c.want || by != c.by {
			t.Errorf("%s: %q by %q", name, got, by)
		}
	}
}

func TestWhatWouldNotEndWellIsRefusedWithTheReason(t *testing.T) {
	l := reachable("3.5.35")
	l.members[1].behind = 7
	v, _ := parse("3.6.16")
	err := refused(l.plan(v), []journal.Peer{{Name: "cp1", Host: "cp1"}, {Name: "cp2", Host: "10.0.0.2"}}, false)
	var is *engine.RefusedError
	if !errors.As(err, &is) || !strings.Contains(err.Error(), "cp2 is 7 entries behind") ||
		!strings.Contains(is.Hint, "etcdpod upgrade plan --to 3.6.16 --nodes cp1,cp2=10.0.0.2") {
		t.Errorf("%v", err)
	}
	if err := refused(reachable("3.5.35").plan(v), nil, false); err != nil {
		t.Error(err)
	}
}

func TestOptionsThatMakeNoSenseAreRefused(t *testing.T) {
	for _, c := range []struct{ to, image, says string }{
		{"", "", "no version is given"},
		{"3.6.16", "", ""},
		{"3.6.16", "r/etcd:3.6.16-0", ""},
		{"3.6.16", "r:5000/etcd:ours", ""},
		{"3.6.16", "r:5000/etcd", "has no tag"},
		{"3.6.16", "r/etcd:v3.7.3", "is etcd 3.7.3, and not 3.6.16"},
	} {
		err := TogetherOptions{Options: Options{To: c.to}, Image: c.image}.Check()
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestAManifestIsRewrittenNoMoreThanItMust(t *testing.T) {
	for name, c := range map[string]struct {
		flags, env string
		from, to   string
		want       string // of the flags; empty: refused
		says       string
	}{
		"a patch": {"    - --experimental-initial-corrupt-check=true\n", "", "3.6", "3.6",
			"    - --experimental-initial-corrupt-check=true\n", "the image new:1"},
		"old names that go on": {"    - --experimental-initial-corrupt-check=true\n", "", "3.5", "3.6",
			"    - --experimental-initial-corrupt-check=true\n", "the image new:1"},
		"a gate beside others": {"    - --feature-gates=CompactHashCheck=true # ours\n" +
			"    - --experimental-initial-corrupt-check=true\n", "", "3.6", "3.7",
			"    - --feature-gates=CompactHashCheck=true,InitialCorruptCheck=true # ours\n",
			"InitialCorruptCheck=true for --experimental-initial-corrupt-check=true"},
		"two that become one": {"    - --experimental-initial-corrupt-check\n" +
			"    - --experimental-compact-hash-check-enabled=true\n", "", "3.6", "3.7",
			"    - --feature-gates=InitialCorruptCheck=true,CompactHashCheck=true\n", ""},
		"a value that a variable gives": {"    - --experimental-corrupt-check-time=$(TIME)\n",
			"    env:\n    - name: TIME\n      value: 1h\n", "3.6", "3.7", "    - --corrupt-check-time=$(TIME)\n", ""},
		"a variable": {"", "    env:\n    - name: ETCD_EXPERIMENTAL_CORRUPT_CHECK_TIME\n      value: 1h\n", "3.6",
			"3.7", "", "goes without ETCD_EXPERIMENTAL_CORRUPT_CHECK_TIME=1h"},
	} {
		text := crashtest.PodManifest("etcd", c.flags, c.env)
		m, err := manifests.Parse([]byte(text))
		if err != nil {
			t.Fatal(name, err)
		}
		pod := &observe.EtcdPod{File: observe.ManifestFile{Path: "/m/etcd.yaml", Manifest: m}, Container: "etcd"}
		edited, change, err := rewritten(pod, "new:1", c.from, c.to)
		if err != nil {
			change = err.Error()
		}
		if (err != nil) != (c.want == "") || !strings.Contains(change, c.says) {
			t.Errorf("%s: %q, %v", name, change, err)
			continue
		}
		want := strings.Replace(crashtest.PodManifest("etcd", c.want, c.env), "registry.k8s.io/etcd:3.6.5-0",
			"new:1", 1)
		if err == nil && string(edited.Bytes()) != want {
			t.Errorf("%s: it is\n%s\nand should be\n%s", name, edited.Bytes(), want)
		}
	}
}

// An exploration that could not fail would prove nothing: were the last member replaced before the
// commit point, it would be found.
func TestAVersionThatRisesBeforeTheCommitPointIsCaught(t *testing.T) {
	w := upgradeOnThree(false)
	right := w.Joint
	w.Joint = func(n *crashtest.Node) together.Joint {
		joint := right(n)
		answers := joint.Answers
		joint.Answers = func(p *together.Participant) map[string]together.Reply {
			all := answers(p)
			plan := all[askPart]
			all[askPart] = together.Given(func(ctx context.Context, q partQuestion) (any, error) {
				q.Part.Last = false
				with, err := json.Marshal(q)
				if err != nil {
					return nil, err
				}
				return plan(ctx, with, nil)
			})
			return all
		}
		return joint
	}
	c := w.Fresh(t)
	_ = c.Run("cp1") // what is wrong shows in the verdict
	if _, err := c.Verdict(); err == nil || !strings.Contains(err.Error(), "all members run the new etcd, and") {
		t.Errorf("it is not found: %v", err)
	}
}
