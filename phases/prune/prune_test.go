package prune

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
)

func TestPruneKeepsWhatMayStillBeNeeded(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	ended := func(id string, ago time.Duration, aborted string) journal.Listed {
		return journal.Listed{
			ID: id, State: &journal.State{Run: journal.Run{ID: id}, Ended: true, Aborted: aborted, Last: now.Add(-ago)},
		}
	}
	open := journal.Listed{ID: "open", State: &journal.State{Last: now.Add(-time.Hour)}}
	damaged := journal.Listed{ID: "damaged", Err: errors.New("bad line")}
	renewal := ended("renewal", time.Hour, "")
	renewal.State.Run.Workflow = "renew"
	runs := []journal.Listed{ended("old", 3*time.Hour, ""), ended("newest", 2*time.Hour, ""),
		ended("back", time.Hour, "failed"), open, damaged, renewal}
	cases := []struct {
		name      string
		run       int
		olderThan time.Duration
		why       string
	}{
		{"an old run goes", 0, 0, ""},
		{"an old run goes when it is older than asked for", 0, 2 * time.Hour, ""},
		{"one that is not stays", 0, 4 * time.Hour, "not old enough"},
		{"the newest completed run stays", 1, 0, "newest"},
		{"one that was rolled back goes, though it is newer", 2, 0, ""},
		{"an open one stays", 3, 0, "open"},
		{"one that cannot be read stays", 4, 0, "cannot be read"},
		{"one of another kind stays, too", 5, 0, "newest"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			why := keepRun(runs[c.run], newestCompleted(runs), now.Add(-c.olderThan))
			if !strings.Contains(why, c.why) || (why == "") != (c.why == "") {
				t.Errorf("%q", why)
			}
		})
	}
}

func TestADirectoryThatAStaticPodUsesIsKept(t *testing.T) {
	for _, c := range []struct {
		name, item, used string
		kept             bool
	}{
		{"it is the pod's", "/var/lib/etcdpod/runs/x", "/var/lib/etcdpod/runs/x", true},
		{"it holds the pod's", "/var/lib/etcdpod/runs/x", "/var/lib/etcdpod/runs/x/data", true},
		{"it lies in the pod's", "/var/lib/etcd/.etcdpod-x", "/var/lib/etcd", false},
		{"its name begins alike", "/var/lib/etcdpod/runs/x", "/var/lib/etcdpod/runs/xy", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if why := usedBy(c.item, []string{"/etc/ssl", c.used}); (why != "") != c.kept {
				t.Errorf("%q", why)
			}
		})
	}
}
