package etcd

import (
	"slices"
	"testing"
)

// A learner that has everything could serve, and one that the others have left could not.
func TestALearnerSaysWhetherItCouldServe(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s, l := newServer(t, "a"), newServer(t, "b")
			c := s.start(version, unflushed...).await().client()
			id, err := c.AddLearner(t.Context(), []string{l.PeerURL})
			if err != nil {
				t.Fatal(err)
			}
			own := Access{Endpoints: []string{l.Endpoint}, DialTimeout: patience, CallTimeout: patience}
			if _, err := Failing(t.Context(), own); err == nil {
				t.Error("one that was not started says what fails")
			}
			l.start(version, slices.Concat([]string{"--initial-cluster", initialCluster([]*server{s, l}),
				"--initial-cluster-state", "existing"}, unflushed)...)
			eventually(t, func() error {
				if failing, err := Failing(t.Context(), own); err != nil || len(failing) > 0 {
					return errAgain
				}
				return nil
			})
			if minor, err := ClusterVersion(t.Context(), own); err != nil || minor[:3] != version[:3] {
				t.Errorf("the version of the cluster is %q: %v", minor, err)
			}
			if st := l.client().Status(t.Context())[0]; st.Err != nil || !st.Learner || st.MemberID != id {
				t.Errorf("it is no learner: %+v", st)
			}
			s.kill() // it finds that out when its leader is missed, or does not answer in time
			eventually(t, func() error {
				failing, err := Failing(t.Context(), own)
				if err == nil && !slices.Contains(failing, "linearizable_read") {
					return errAgain
				}
				return nil
			})
		})
	}
}
