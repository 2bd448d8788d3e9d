package restore

import (
	"errors"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/manifests"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// unstarted is a member that `etcdctl member add` has added, and that nobody has started.
func unstarted(id uint64, url string) observe.Member {
	return observe.Member{ID: op.ID(id), PeerURLs: []string{url}}
}

// refusedWith holds an error to a refusal, and what it says and proposes.
func refusedWith(t *testing.T, err error, says, hint string) {
	t.Helper()
	var refused *engine.RefusedError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), says) || !strings.Contains(engine.Hint(err), hint) {
		t.Errorf("got %v (%s), want a refusal with %q and the hint %q", err, engine.Hint(err), says, hint)
	}
}

func TestANodeAloneIsToldFromOtherMembersByIdAndURL(t *testing.T) {
	own := observe.Member{ID: 7, Name: "cp1", PeerURLs: []string{"https://cp1:2380"}}
	twin := observe.Member{ID: 8, Name: "cp1", PeerURLs: []string{"https://10.0.0.12:2380"}}
	added := unstarted(9, "https://10.0.0.13:2380")
	for name, c := range map[string]struct {
		seen       func(*Facts, []observe.Member)
		members    []observe.Member
		says, hint string // empty: it is not refused
	}{
		"only itself": {seenLive, []observe.Member{own}, "", ""},
		"itself under another name": {seenLive,
			[]observe.Member{{ID: 7, Name: "old-name", PeerURLs: own.PeerURLs}}, "", ""},
		"two of its name, live": {seenLive, []observe.Member{own, twin},
			"cp1 (8 at https://10.0.0.12:2380)", "--lost"},
		"two others": {seenLive, []observe.Member{own, {ID: 9, Name: "cp3"}, {ID: 8, Name: "cp2"}}, "cp3, cp2",
			"`etcdpod restore --nodes cp1,cp2,cp3 '/a b/x.db'`"},
		"one other, and one that never started": {seenLive, []observe.Member{own, {ID: 8, Name: "cp2"}, added}, "cp2",
			"`etcdpod restore --nodes cp1,cp2 --lost 9 '/a b/x.db'`"},
		"two of its name, stopped":    {seenStopped, []observe.Member{twin, own}, "cp1 (8 at", "--nodes"},
		"two of its name, a snapshot": {seenNothing, []observe.Member{twin, own}, "cp1 (8 at", "--nodes"},
		"one that never started": {seenStopped, []observe.Member{own, added},
			"one not started yet at https://10.0.0.13:2380", "--lost 9"},
		"a snapshot of a machine with another address": {seenNothing, []observe.Member{
			{ID: 5, Name: "cp1", PeerURLs: []string{"https://10.9.9.9:2380"}},
		}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := plannedFacts(t)
			c.seen(f, c.members)
			err := restorer{Options: Options{File: "/a b/x.db"}}.checkMembership(f)
			if c.says == "" {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			refusedWith(t, err, c.says, c.hint)
		})
	}
}

func seenLive(f *Facts, all []observe.Member) { f.Live.MemberID, f.Live.Members = 7, all }

func seenStopped(f *Facts, all []observe.Member) {
	f.Live, f.Stopped = nil, &observe.Stopped{MemberID: 7, Members: all}
}

func seenNothing(f *Facts, all []observe.Member) { f.Live, f.Snapshot.Members = nil, all }

// knowing gives the nodes of a view their own ids in one cluster.
func knowing(v *view) {
	for name, s := range v.surveys {
		live := *s.Live
		live.ClusterID, live.MemberID = 0xc1, uint64(s.KnownRevision) // surveyOf has it there
		s.Live = &live
		v.surveys[name] = s
	}
}

func TestAMemberOfTheSameNameElsewhereIsNotPassedOver(t *testing.T) {
	v, c := threeSeen()
	twin := observe.Member{ID: 4, Name: "cp1", PeerURLs: []string{"https://twin:2380"}}
	for name, s := range v.surveys {
		s.Live = &observe.Live{Members: append(slices.Clone(s.Live.Members), twin)}
		v.surveys[name] = s
	}
	knowing(&v)
	_, err := v.joint(c)
	refusedWith(t, err, "not in --nodes: cp1 (4 at https://twin:2380)", "--lost")
	for _, word := range []string{"4", "0x4", "https://twin:2380", "https://twin:2380/", "cp1"} {
		v.options.Lost = []string{word}
		if _, err := v.joint(c); err != nil {
			t.Errorf("--lost %s: %v", word, err)
		}
	}
	if got := v.strangers(); !slices.Equal(got, twin.PeerURLs) {
		t.Errorf("nobody may answer at %v", got)
	}
	// Two that may be meant are not one.
	other := observe.Member{ID: 5, Name: "cp1", PeerURLs: []string{"https://other:2380"}}
	for _, s := range v.surveys {
		s.Live.Members = append(s.Live.Members, other)
	}
	_, err = v.joint(c)
	refusedWith(t, err, "--lost cp1 matches 2 members: cp1 (4 at https://twin:2380), cp1 (5", "the ID")
}

func TestWhatIsRestoredIsNotGivenUp(t *testing.T) {
	for word, want := range map[string]string{"cp2": "cp2 is both to be restored and given up", "cp4": ""} {
		v, c := threeSeen()
		v.options.Lost = []string{word}
		_, err := v.joint(c)
		if want == "" && err != nil {
			t.Errorf("--lost %s: %v", word, err)
		} else if want != "" {
			refusedWith(t, err, want, "remove it from one of the two")
		}
	}
	v, c := threeSeen()
	v.options.Lost = slices.Clone(v.surveys["cp3"].Member.PeerURLs)
	_, err := v.joint(c)
	refusedWith(t, err, "cp3 is both to be restored and given up", "remove it")
}

func TestWhatNeverStartedIsLeftOutByIdOrURL(t *testing.T) {
	own, added := memberCalled("cp1", 1), unstarted(0xabc, "https://10.0.0.12:2380")
	for _, word := range []string{"", "abc", "https://10.0.0.12:2380"} {
		v, c := threeSeen()
		delete(v.surveys, "cp2")
		delete(v.surveys, "cp3")
		v.surveys["cp1"] = surveyOf("cp1", 1, own, added)
		knowing(&v)
		c.Nodes = c.Nodes[:1]
		if word != "" {
			v.options.Lost = []string{word}
		}
		_, err := v.joint(c)
		switch {
		case word == "":
			refusedWith(t, err, "one not started yet at https://10.0.0.12:2380", "--lost abc")
		case err != nil:
			t.Errorf("--lost %s: %v", word, err)
		case v.risk() != "":
			t.Errorf("it has nothing to serve: %s", v.risk())
		}
	}
}

func TestLearnersDoNotCountInTheRiskOfALoss(t *testing.T) {
	v, c := threeSeen()
	delete(v.surveys, "cp2")
	delete(v.surveys, "cp3")
	all := slices.Clone(v.surveys["cp1"].Live.Members)
	for i := range 3 {
		m := memberCalled("learner", uint64(10+i))
		m.IsLearner, m.PeerURLs = true, []string{m.ID.String()}
		all = append(all, m)
	}
	v.surveys["cp1"] = surveyOf("cp1", 1, all...)
	c.Nodes = c.Nodes[:1]
	v.options.Lost = []string{"cp2", "cp3", "a", "b", "c"}
	j, err := v.joint(c)
	if err != nil || !strings.Contains(v.risk(), "cp2, cp3 are 2 of the old cluster's 3 voting "+
		"members") || len(j.Left) == 0 {
		t.Errorf("%v, %s", err, v.risk())
	}
	// Three learners are no quorum of anything.
	v, c = threeSeen()
	for _, s := range v.surveys {
		s.Live.Members = all
	}
	v.options.Lost = []string{"a", "b", "c"}
	if _, err := v.joint(c); err != nil || v.risk() != "" {
		t.Errorf("%v, %s", err, v.risk())
	}
}

func TestNodesOfTwoClustersAreRefused(t *testing.T) {
	for name, other := range map[string]func(*Survey){
		"running": func(s *Survey) { s.Live.ClusterID = 0xc2 },
		"stopped": func(s *Survey) { s.Live, s.Stopped = nil, &observe.Stopped{ClusterID: 0xc2, MemberID: 3} },
	} {
		t.Run(name, func(t *testing.T) {
			v, c := threeSeen()
			knowing(&v)
			s := v.surveys["cp3"]
			other(&s)
			v.surveys["cp3"] = s
			for _, v.options.Rejoin = range []bool{false, true} {
				_, err := v.joint(c)
				refusedWith(t, err, "not all members of one cluster: cp1, cp2 of c1; cp3 of c2", "--nodes")
			}
		})
	}
	v, c := threeSeen()
	knowing(&v)
	s := v.surveys["cp3"]
	first := v.surveys["cp1"]
	// It is back from a loss: its data is of the cluster from before.
	first.LastRestore, first.Replaced = "r2", s.Member.PeerURLs
	v.surveys["cp1"] = first
	if err := back(&v, 2).checkClusters(Shared{}); err != nil {
		t.Error(err)
	}
	took := back(&v, 2)
	third := took.surveys["cp3"]
	third.LastRestore = "r2" // it took part, and has begun a cluster of its own since
	took.surveys["cp3"] = third
	refusedWith(t, took.checkClusters(Shared{}), "the nodes are not all members of one cluster", "--nodes")
	// A member of the present cluster that began one of its own is not back from a loss.
	refusedWith(t, back(&v, 3).checkClusters(Shared{}), "the nodes are not all members of one cluster", "--nodes")
	s.Live = nil // its data is gone: nothing tells of another cluster
	v.surveys["cp3"] = s
	if _, err := v.joint(c); err != nil {
		t.Error(err)
	}
}

// back is what is seen when cp3 has data of another cluster, and the others' cluster has so many of
// the three members.
func back(v *view, members int) view {
	seen := *v
	seen.surveys = maps.Clone(v.surveys)
	for node, other := range seen.surveys {
		live := *other.Live
		live.Members = live.Members[:members]
		if other.Live = &live; node == "cp3" {
			live.ClusterID = 0xc2
		}
		seen.surveys[node] = other
	}
	return seen
}

func TestTwoNodesOfOneNameDoNotHideEachOtherWhenTheOthersJoin(t *testing.T) {
	v, c := threeSeen()
	v.options.Rejoin = true
	s := v.surveys["cp2"]
	s.Member = &SharedMember{Name: "cp1", PeerURLs: s.Member.PeerURLs}
	v.surveys["cp2"] = s
	_, err := v.joint(c)
	refusedWith(t, err, "two of the nodes share the name cp1", "")
}

func TestANodeThatWasEmptiedIsNotRestoredBesideTheOthers(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(*Facts)
		refused bool
	}{
		"it began anew": {func(f *Facts) { f.Live.Revision = 3 }, true},
		"stopped": {func(f *Facts) {
			f.Live, f.Stopped = nil, &observe.Stopped{Revision: 3}
		}, true},
		"nobody answers":                {func(f *Facts) { f.Live.Revision, f.Answering = 3, nil }, false},
		"the others were removed since": {func(f *Facts) { f.Live.Revision = 100 }, false},
	} {
		f := plannedFacts(t)
		f.Answering = []string{"https://cp2:2380"}
		c.change(f)
		if f.Stopped != nil {
			f.Stopped.Members = []observe.Member{{Name: "cp1"}}
		}
		err := restorer{}.checkMembership(f)
		if (err != nil) != c.refused || err != nil && !strings.Contains(err.Error(), "answers at https://cp2:2380") {
			t.Errorf("%s: %v", name, err)
		}
	}
	f := plannedFacts(t)
	f.Snapshot.Members = []observe.Member{memberCalled("cp1", 1), memberCalled("cp2", 2)}
	if got := f.neighbours(); !slices.Equal(got, []string{"https://cp2:2380"}) {
		t.Errorf("the others are at %v", got)
	}
	f.Etcd.PeerURLs = []string{"https://lab:2380"} // a copy of a cluster elsewhere
	if got := f.neighbours(); got != nil {
		t.Errorf("this node is none of them: %v", got)
	}
}

func TestAnotherEtcdIsBackBeforeTheAPIServer(t *testing.T) {
	f := plannedFacts(t)
	text := strings.ReplaceAll(crashtest.PodManifest("etcd", "    - --data-dir=/var/lib/events\n", ""),
		"name: etcd\n  namespace", "name: events\n  namespace")
	m, err := manifests.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	proxy := strings.Replace(strings.ReplaceAll(text, "events", "proxy"),
		"    - etcd\n", "    - etcd\n    - grpc-proxy\n", 1)
	proxies, err := manifests.Parse([]byte(proxy))
	if err != nil {
		t.Fatal(err)
	}
	f.Manifests = append(f.Manifests, observe.ManifestFile{Path: crashtest.TestManifestDir + "/a.yaml",
		Data: []byte(text), Manifest: m},
		observe.ManifestFile{Path: crashtest.TestManifestDir + "/proxy.yaml", Data: []byte(proxy), Manifest: proxies},
		observe.ManifestFile{Path: crashtest.TestManifestDir + "/README", Data: []byte("etcd: see below\nthe end")})
	f.Manifests[len(f.Manifests)-1].Error = errors.New("no pod")
	plan, err := Workflow(Options{File: "/backup/snapshot.db"}).Planned(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	var steps []string
	for _, p := range plan.Phases {
		for _, o := range p.Ops() {
			if put, ok := o.(*op.PutBackManifest); ok {
				steps = append(steps, p.Name+" "+path.Base(put.Path))
			}
		}
		if p.Name == "preflight" {
			found := strings.Join(p.Found, "\n")
			if !strings.Contains(found, "a.yaml runs another etcd, kube-system/events") ||
				!strings.Contains(found, "README is not something that the kubelet can run: it is left alone") {
				t.Errorf("found %s", found)
			}
		}
	}
	if got := strings.Join(steps, ", "); !strings.HasPrefix(got, "release-etcd etcd.yaml, release-apiserver a.yaml, "+
		"release-apiserver proxy.yaml, release-apiserver kube-apiserver.yaml, restart-components") ||
		strings.Count(got, "a.yaml") != 1 {
		t.Errorf("put back: %s", got)
	}
}

func TestAnEtcdThatThrowsOutTheOthersIsNotStartedBesideThem(t *testing.T) {
	f := plannedFacts(t)
	text := strings.Replace(crashtest.EtcdManifest(""), "    - --data-dir",
		"    - --force-new-cluster\n    - --data-dir", 1)
	m, err := manifests.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	f.Etcd.File.Manifest = m
	two := &Shared{Members: []SharedMember{{Name: "cp1"}}, Rejoin: []SharedMember{{Name: "cp2"}}}
	refusedWith(t, restorer{Shared: two}.checkPods(f), "starts etcd with --force-new-cluster: it would remove all "+
		"other members", "remove --force-new-cluster from "+f.Etcd.File.Path+" first: it is meant for a single start "+
		"of the last remaining member")
	if err := (restorer{}).checkPods(f); err != nil {
		t.Errorf("alone: %v", err)
	}
}
