package restore

import (
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/phases/together"
)

// What was typed for one node is what is to be typed for several.
func TestTheCommandForSeveralNodesKeepsWhatWasTyped(t *testing.T) {
	for want, o := range map[string]Options{
		"etcdpod restore --nodes cp1,cp2=10.0.0.12 /b/x.db": {File: "/b/x.db", StopTimeout: 30 * time.Second},
		"etcdpod restore --nodes cp1,cp2=10.0.0.12 --skip-hash-check --bump-revision 7 --data-dir /srv/etcd " +
			"--stop-timeout 1m0s --wait-timeout 5m0s --api-servers-stopped --other-pki '/b/it'\\''s.db'": {
			File: "/b/it's.db", SkipHashCheck: true, Bump: 7, DataDir: "/srv/etcd", StopTimeout: time.Minute,
			WaitTimeout: 5 * time.Minute, APIServersStopped: true, OtherPKI: true},
		"etcdpod restore --nodes cp1,cp2=10.0.0.12 --from-data-dir /old --from-wal-dir /wal --up-to-hole": {
			FromDataDir: "/old", FromWALDir: "/wal", UpToHole: true},
	} {
		if got := o.onNodes([]string{"cp1", "cp2=10.0.0.12"}, nil); got != want {
			t.Errorf("%s\nand not\n%s", got, want)
		}
	}
}

func TestTheWayBackIsACommandOnOneNodeAndOnSeveral(t *testing.T) {
	kept := map[string]string{journal.NoteKeptData: "/runs/r1/data", journal.NoteKeptWAL: "/runs/r1/wal"}
	cluster := journal.Cluster{Coordinator: "cp2", Nodes: []journal.Peer{
		{Name: "cp1", Host: "cp1"}, {Name: "cp2", Host: "10.0.0.12"}}}
	const from = "--from-data-dir /runs/r1/data --from-wal-dir /runs/r1/wal"
	for want, run := range map[string]journal.Run{
		"":                               {},
		"`etcdpod restore " + from + "`": {Notes: kept},
		"`etcdpod restore --nodes cp1,cp2=10.0.0.12 " + from + "`": {Notes: kept, Cluster: &cluster},
	} {
		if said := WayBack(run); !strings.HasSuffix(said, want) || (said == "") != (want == "") {
			t.Errorf("it says %q, and not %s", said, want)
		}
	}
	f := plannedFacts(t)
	f.Notes = map[string]string{journal.NoteKeptData: "/runs/r1/data", journal.NoteKeptNoDB: "true"}
	f.LogAlone = &etcd.LogAlone{Whole: true}
	s := restorer{}.stakes(f)
	if len(s.Back) > 0 || !strings.Contains(strings.Join(s.Lost, "; "), "makes its db anew from the log") {
		t.Errorf("without a db it says %+v", s)
	}
	f.Notes = kept
	alone := restorer{}.stakes(f).Back[0]
	shared := restorer{Shared: &Shared{Cluster: cluster}}.stakes(f).Back[0]
	if !strings.HasPrefix(alone, "`etcdpod restore "+from+"` brings back") ||
		!strings.HasPrefix(shared, "on "+f.Node+", `etcdpod restore --nodes cp1,cp2=10.0.0.12 "+from+"` brings back") {
		t.Errorf("it says %q, and on several nodes %q", alone, shared)
	}
}

func TestTheWayBackOfSeveralNodesIsTheCoordinatorsIfItHasData(t *testing.T) {
	of := func(node string, back ...string) engine.NodePlan {
		return engine.NodePlan{Node: node, Plan: engine.Plan{Stakes: engine.Stakes{Back: back}}}
	}
	n := &together.Node{Look: &observe.Node{View: node.View{Clock: node.WallClock()}}}
	for want, nodes := range map[string][]engine.NodePlan{
		"on cp2": {of("cp1", "on cp1"), of("cp2", "on cp2"), of("cp3", "on cp3")},
		"on cp3": {of("cp1"), of("cp2"), of("cp3", "on cp3")},
	} {
		back := looker{}.stakes(t.Context(), n, TogetherOptions{}, &SnapshotFacts{}, Survey{}, "cp2", nodes).Back
		if len(back) != 1 || back[0] != want {
			t.Errorf("it says %q, and not %q", back, want)
		}
	}
}
