package etcd

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// v2 sends one request of the v2 API.
func (s *server) v2(t *testing.T, method, key string, form url.Values) {
	t.Helper()
	eventually(t, func() error {
		req, err := http.NewRequestWithContext(t.Context(), method, s.Endpoint+"/v2/keys"+key,
			strings.NewReader(form.Encode()))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		answer, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		answer.Body.Close()
		if answer.StatusCode >= http.StatusBadRequest {
			return fmt.Errorf("%s %s: %s", method, key, answer.Status)
		}
		return nil
	})
}

// foundV2 looks into a running member until that says what is wanted: etcd writes its snapshots by
// the way.
func foundV2(t *testing.T, s *server, want ...string) {
	t.Helper()
	eventually(t, func() error {
		found, _, err := V2Content(s.Dir, "")
		if err == nil && !slices.Equal(found, want) {
			err = fmt.Errorf("found %q, and not %q", found, want)
		}
		return err
	})
}

// ends has another version start on the data, and end at once; then the one before serves again.
func (s *server) ends(t *testing.T, version, before string, extra ...string) {
	t.Helper()
	s.kill()
	s.start(version)
	select {
	case <-s.exited:
	case <-time.After(patience):
		t.Fatalf("etcd %s goes on with what is left of the v2 API:\n%s", version, s.output())
	}
	s.start(before, extra...).await()
}

// Each time that something is found etcd 3.6 ends, and it serves once nothing is.
func TestWhatIsLeftOfTheV2APIIsFoundInARunningMember(t *testing.T) {
	t.Parallel()
	flags := []string{"--enable-v2=true", "--snapshot-count=20"}
	s := newServer(t, "v2").start("3.5.35", flags...).await()
	foundV2(t, s)
	s.put("/k", 100, 10) // etcd's own requests are in a snapshot now, and its log is shorter
	foundV2(t, s)
	s.v2(t, http.MethodPut, "/old/app", url.Values{"value": {"1"}})
	foundV2(t, s, "the request PUT /1/old/app")
	s.ends(t, "3.6.16", "3.5.35", flags...)
	s.put("/k", 100, 10)
	foundV2(t, s, "the key /1/old")
	s.ends(t, "3.6.16", "3.5.35", flags...)
	s.v2(t, http.MethodDelete, "/old?recursive=true", nil)
	s.put("/k", 100, 10)
	foundV2(t, s)
	s.kill()
	s.start("3.6.16").await()
}

// etcd 3.7 cannot read what 3.5 wrote of itself into the log, also if 3.6 ran in between, until a
// snapshot of the log stands after it.
func TestWhatEtcd35WroteIntoTheLogStops37(t *testing.T) {
	t.Parallel()
	s := newServer(t, "old").start("3.5.35").await()
	s.kill()
	s.start("3.6.16").await()
	if _, own, err := V2Content(s.Dir, ""); err != nil || own == 0 {
		t.Fatalf("%d requests of 3.5 are in the log, %v", own, err)
	}
	s.ends(t, "3.7.3", "3.6.16", "--snapshot-count=20")
	s.put("/k", 100, 10)
	eventually(t, func() error {
		_, own, err := V2Content(s.Dir, "")
		if err == nil && own > 0 {
			err = fmt.Errorf("%d requests of 3.5 are in the log", own)
		}
		return err
	})
	s.kill()
	s.start("3.7.3").await()
}

func TestWhatEtcdItselfWritesIsNoV2Content(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"3.5.35", "3.6.16", "3.7.3"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, "plain").start(version, "--snapshot-count=20").await()
			foundV2(t, s)
			s.put("/k", 100, 10)
			foundV2(t, s)
		})
	}
}

// As etcd 3.6 judges it, too (server/etcdserver/api/membership: IsMetaStoreOnly).
func TestKeysOfTheV2StoreThatAreNotEtcdsOwn(t *testing.T) {
	for store, want := range map[string][]string{
		``:              {},
		`{"Root":null}`: {},
		`{"Root":{"Path":"/","Children":{"0":{"Path":"/0","Children":{"members":{"Path":"/0/members",
			"Children":{"a":{"Path":"/0/members/a"}}}}},"1":{"Path":"/1","Children":{}}}}}`: {},
		`{"Root":{"Path":"/","Children":{"1":{"Path":"/1","Children":{"b":{"Path":"/1/b"},
			"a":{"Path":"/1/a"},"_h":{"Path":"/1/_h"}}}}}}`: {"the key /1/a", "the key /1/b"},
		`{"Root":{"Path":"/","Children":{"2":{"Path":"/2","Children":{"enabled":{"Path":"/2/enabled"},
			"roles":{"Path":"/2/roles","Children":{}}}}}}}`: {},
		`{"Root":{"Path":"/","Children":{"2":{"Path":"/2","Children":{
			"users":{"Path":"/2/users","Children":{"root":{"Path":"/2/users/root"}}}}}}}}`: {"the key /2/users/root"},
	} {
		if got, err := keysInV2([]byte(store)); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v, and not %q", store, got, err, want)
		}
	}
	if _, err := keysInV2([]byte("{")); err == nil {
		t.Error("what is no store was read as an empty one")
	}
}
