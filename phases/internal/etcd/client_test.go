package etcd

import (
	"errors"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
)

func TestARunningEtcdTellsItsState(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, "a").start(version).await()
			c := s.client()
			if err := c.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.put("/registry/pods/default/p", 20, 10)
			s.put("/registry/services/specs/default/s", 5, 10)
			st := c.Status(t.Context())[0]
			if st.Err != nil || st.Version != version || st.Leader != st.MemberID ||
				st.Leader == 0 || st.SizeBytes == 0 || st.RaftIndex < 25 || st.Revision != 26 {
				t.Errorf("status %+v", st)
			}
			if (st.QuotaBytes == 0) != strings.HasPrefix(version, "3.5") {
				t.Errorf("quota %d", st.QuotaBytes)
			}
			members, err := c.Members(t.Context())
			if err != nil || len(members) != 1 || members[0].ID != st.MemberID ||
				members[0].Name != "a" || members[0].PeerURLs[0] != s.PeerURL {
				t.Errorf("members %+v, %v", members, err)
			}
			if n, err := c.Count(t.Context(), "/registry/pods/"); err != nil || n != 20 {
				t.Errorf("count %d, %v", n, err)
			}
			if rev, err := c.Revision(t.Context()); err != nil || rev != 26 {
				t.Errorf("revision %d, %v", rev, err)
			}
			before, err := c.HashKV(t.Context(), s.Endpoint, 20)
			if err != nil || before.Hash == 0 || before.Revision != 20 {
				t.Errorf("hash %+v, %v", before, err)
			}
			s.put("/other", 1, 1)
			if after, err := c.HashKV(t.Context(), s.Endpoint, 20); err != nil || after != before {
				t.Errorf("the hash at a revision changed with a later write: %+v, %v", after, err)
			}
			if _, err := c.HashKV(t.Context(), s.Endpoint, 1000); err == nil ||
				strings.Contains(err.Error(), "rpc error") {
				t.Errorf("hash of the future: %v", err)
			}
			if v, err := c.Get(t.Context(), "/registry/pods/default/p000003"); err != nil ||
				v == nil || !strings.HasPrefix(string(v.Data), "3x") {
				t.Errorf("get %v, %v", v, err)
			}
			if v, err := c.Get(t.Context(), "/absent"); err != nil || v != nil {
				t.Errorf("get what is not there: %v, %v", v, err)
			}
		})
	}
}

func TestObjectsAreCountedAsInASnapshotsReport(t *testing.T) {
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			objectsAreCounted(t, newServer(t, "a").start(version).await())
		})
	}
}

func objectsAreCounted(t *testing.T, s *server) {
	c := s.client()
	for _, key := range []string{
		"/registry/services/specs/default/kubernetes", "/registry/services/endpoints/default/kubernetes",
		"/registry/minions/node1",
		"/registry/controllers/default/rc", "/registry/ingress/default/i",
		"/registry/deployments/default/d", "/registry/masterleases/10.0.0.1",
		"/registry/cert-manager.io/certificates/default/c",
		"/registry/apiextensions.k8s.io/customresourcedefinitions/x.example.com",
		"/registry/health", "/registry/odd.name", "/other/pods/default/p",
	} {
		if _, err := c.v3.Put(t.Context(), key, "{}"); err != nil {
			t.Fatal(err)
		}
	}
	s.put("/registry/pods/default/p", page+7, 1)
	revision, err := c.Revision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	report, err := snapfile.Check(t.Context(), snapshotOf(t, s).Path, snapfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	now := func(after int64) map[string]Changes {
		got, err := c.Since(t.Context(), after, page+100)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	for name, want := range report.Resources {
		if got := now(revision)[name]; got != (Changes{Now: want}) {
			t.Errorf("%s: %+v, want %d", name, got, want)
		}
	}
	s.put("/registry/pods/default/later", 3, 1)
	s.put("/registry/pods/default/p", 2, 1)
	if got := now(revision)["pods"]; got != (Changes{Now: page + 10, Made: 3, Changed: 2}) {
		t.Errorf("pods now: %+v", got)
	}
	if _, err := c.Since(t.Context(), 0, page); !errors.Is(err, ErrManyKeys) {
		t.Errorf("of more keys than are to be read: %v", err)
	}
}

func TestAlarmsAreDisarmed(t *testing.T) {
	t.Parallel()
	s := newServer(t, "a").start("3.6.16", "--quota-backend-bytes", "1000000").await()
	c := s.client()
	for range 200 {
		if _, err := c.v3.Put(t.Context(), "k", strings.Repeat("x", 50000)); err != nil {
			break
		}
	}
	alarms, err := c.Alarms(t.Context())
	if err != nil || len(alarms) != 1 || alarms[0].Name != "NOSPACE" {
		t.Fatalf("alarms %v, %v", alarms, err)
	}
	if was, err := c.Disarm(t.Context()); err != nil || len(was) != 1 {
		t.Fatalf("disarm: %v, %v", was, err)
	}
	if alarms, err = c.Alarms(t.Context()); err != nil || len(alarms) != 0 {
		t.Errorf("alarms after disarming: %v, %v", alarms, err)
	}
}

func TestAnUnreachableEtcdIsNamedWithTheReason(t *testing.T) {
	t.Parallel()
	dead, _ := claimURLs(t)
	_, err := Dial(t.Context(), Access{Endpoints: []string{dead}, DialTimeout: patience})
	var down *Unreachable
	if !errors.As(err, &down) ||
		err.Error() != "cannot reach etcd at "+dead+": connection refused: nothing listens there" {
		t.Errorf("dial: %v", err)
	}
	s := newServer(t, "a").start("3.7.3").await()
	c, err := Dial(t.Context(), Access{Endpoints: []string{dead, s.Endpoint}})
	if err != nil {
		t.Fatalf("one of two endpoints is dead: %v", err)
	}
	defer c.Close()
	if c.Endpoint() != s.Endpoint {
		t.Errorf("endpoint %s", c.Endpoint())
	}
	if err := c.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	st := c.Status(t.Context())
	if !errors.As(st[0].Err, &down) || st[1].Err != nil {
		t.Errorf("status %+v", st)
	}
	s.kill()
	if _, err := c.Members(t.Context()); !errors.As(err, &down) || strings.Contains(err.Error(), "rpc error") {
		t.Errorf("members of an etcd that died: %v", err)
	}
}
