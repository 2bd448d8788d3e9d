package etcd

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

var errAgain = errors.New("not yet")

// A status needs no quorum, and the list of alarms does.
func TestTheStatusTellsTheAlarms(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, "a")
			s.start(version, "--quota-backend-bytes", "200000").await()
			c := s.client()
			eventually(t, func() error { // etcd reads how large its file is now and then
				_, err := c.v3.Put(t.Context(), "/k", strings.Repeat("x", 50000))
				if err != nil && strings.Contains(err.Error(), "database space exceeded") {
					return nil
				}
				return errAgain
			})
			st := c.Status(t.Context())[0]
			alarms, err := c.Alarms(t.Context())
			if err != nil || len(alarms) != 1 {
				t.Fatalf("%v, %v", alarms, err)
			}
			if !slices.ContainsFunc(st.Errors, func(text string) bool {
				id, name, ok := AlarmIn(text)
				return ok && id == st.MemberID && name == "NOSPACE" && (Alarm{id, name}) == alarms[0]
			}) {
				t.Errorf("of %v the status says %q", alarms, st.Errors)
			}
		})
	}
}

func TestAnAlarmIsReadHoweverItIsWorded(t *testing.T) {
	for text, want := range map[string]Alarm{
		"memberID:7 alarm:NOSPACE ": {7, "NOSPACE"}, "memberID:7  alarm:CORRUPT": {7, "CORRUPT"},
		"alarm:CORRUPT ": {0, "CORRUPT"},
	} {
		if id, name, ok := AlarmIn(text); !ok || (Alarm{id, name}) != want {
			t.Errorf("%q: %x %s %v", text, id, name, ok)
		}
	}
	for _, text := range []string{"", "etcdserver: no leader", "memberID:x alarm:NOSPACE", "memberID:7 "} {
		if _, _, ok := AlarmIn(text); ok {
			t.Errorf("%q is no alarm", text)
		}
	}
}

func TestTheStatusTellsOfADowngradeThatIsEnabled(t *testing.T) {
	t.Parallel()
	for version, target := range map[string]string{"3.6.16": "3.5.0", "3.7.3": "3.6.0"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, "a")
			s.start(version).await()
			c := s.client()
			if at := c.Status(t.Context())[0].Downgrade; at != "" {
				t.Fatalf("a new etcd is said to be on its way to %s", at)
			}
			eventually(t, func() error { // the cluster's version is known a little later
				_, err := c.v3.Downgrade(t.Context(), clientv3.DowngradeEnable, target)
				return err
			})
			if at := c.Status(t.Context())[0].Downgrade; at != target {
				t.Errorf("it is said to be on its way to %q", at)
			}
		})
	}
}

func TestTheLeaderHandsOverToAVoterAlone(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			all := startThree(t, version)
			leader, next := all[0].client(), all[1].client()
			id := next.Status(t.Context())[0].MemberID
			if err := next.MoveLeader(t.Context(), id); err == nil {
				t.Error("a follower handed over what it does not have")
			}
			if err := leader.MoveLeader(t.Context(), 7); err == nil {
				t.Error("one that is no member leads")
			}
			if err := leader.MoveLeader(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			eventually(t, func() error {
				for _, s := range all {
					if st := s.client().Status(t.Context())[0]; st.Err != nil || st.Leader != id {
						return errAgain
					}
				}
				return nil
			})
		})
	}
}

// setURLs asks again, as an operation does: raft drops a change of members without a word while the
// one before is not applied yet, and nobody ever answers then.
func setURLs(t *testing.T, c *Client, id uint64, urls []string) (err error) {
	t.Helper()
	eventually(t, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err = c.SetPeerURLs(ctx, id, urls); ctx.Err() != nil {
			return errAgain
		}
		return nil
	})
	return err
}

func TestPeerURLsAreSetAndALearnerStaysOne(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, "a").start(version, unflushed...).await()
			c, ctx := s.client(), t.Context()
			id, err := c.AddLearner(ctx, []string{"http://127.0.0.99:1"})
			if err != nil {
				t.Fatal(err)
			}
			for _, bad := range [][]string{nil, {"127.0.0.99:2"}, {"http://127.0.0.99"}, {"http://x:1/"}, {s.PeerURL}} {
				if err := setURLs(t, c, id, bad); err == nil {
					t.Errorf("%q was set", bad)
				}
			}
			if err := setURLs(t, c, id+1, []string{"http://127.0.0.99:2"}); err == nil {
				t.Error("of one that is no member")
			}
			want := []string{"http://127.0.0.99:2", "http://127.0.0.99:3"}
			if err := setURLs(t, c, id, want); err != nil {
				t.Fatal(err)
			}
			members, err := c.OwnMembers(ctx)
			i := slices.IndexFunc(members, func(m Member) bool { return m.ID == id })
			if err != nil || i < 0 || !slices.Equal(members[i].PeerURLs, want) || !members[i].IsLearner {
				t.Errorf("%v, %+v", err, members)
			}
		})
	}
}
