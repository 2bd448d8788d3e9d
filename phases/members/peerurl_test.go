package members

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

func TestAPeerURLIsNotSetWhereThatWouldNotGoWell(t *testing.T) {
	const at = "http://10.0.0.9:2380"
	gone := errors.New("gone")
	for name, tt := range map[string]struct {
		change    func(r *roster)
		word, url string
		want      string // of the refusal; empty: it may be set
	}{
		"all is well":        {func(*roster) {}, "cp2", at, ""},
		"it has it":          {learner("3.5.30"), "cp2", "http://cp2.invalid:2380", ""},
		"another one has it": {func(*roster) {}, "cp2", "http://cp3.invalid:2380", "cp3 has it"},
		"in other letters":   {func(*roster) {}, "cp2", "http://CP3.invalid:2380", "cp3 has it"},
		"every host reaches itself": {func(*roster) {}, "cp2", "http://127.0.0.1:2380",
			"at http://127.0.0.1:2380 every host"},
		"of one alone":                {first(1), "cp1", "http://127.0.0.1:2380", ""},
		"a learner":                   {func(r *roster) { r.members[1].IsLearner = true }, "cp2", at, ""},
		"a learner of a cluster of 3": {learner("3.5.30"), "cp2", at, "etcd 3.5.30, which cp3 is"},
		"a learner that is not known": {learnerBeside(gone), "cp2", at,
			"it is not known which version cp3 is"},
		"where another serves clients": {func(r *roster) {
			r.members[2].ClientURLs = []string{"http://cp3.invalid:2379"}
		}, "cp2", "http://cp3.invalid:2379", "cp3 serves clients"},
		"without TLS": {func(r *roster) { r.members[1].PeerURLs = []string{"https://cp2.invalid:2380"} }, "cp2", at,
			"the members reach it with TLS"},
		"no such member": {func(*roster) {}, "cp7", at, "there is no member cp7"},
	} {
		t.Run(name, func(t *testing.T) {
			r := three(t)
			tt.change(r)
			p, err := r.planPeerURL(tt.word, []string{tt.url})
			wantRefused(t, err, tt.want)
			if err == nil && (p.Undo() == "" || p.Already() != (name == "it has it")) {
				t.Errorf("%+v", p)
			}
		})
	}
}

// learner makes one of cp2, in a cluster of which one member has that version.
func learner(version string) func(*roster) {
	return func(r *roster) { r.members[1].IsLearner, r.answers[2].Version = true, version }
}

func first(n int) func(*roster) {
	return func(r *roster) { r.members, r.answers = r.members[:n], r.answers[:n] }
}

// silent has the third one not answer.
func silent(err error) func(*roster) { return func(r *roster) { r.answers[2].Err = err } }

func learnerBeside(err error) func(*roster) {
	return func(r *roster) { r.members[1].IsLearner, r.answers[2].Err = true, err }
}

func wantRefused(t *testing.T, err error, want string) {
	t.Helper()
	var refused *engine.RefusedError
	switch {
	case want == "" && err != nil:
		t.Error(err)
	case want == "":
	case !errors.As(err, &refused) || !strings.Contains(err.Error(), want) || refused.Hint == "":
		t.Errorf("%v, and not %q", err, want)
	}
}

func TestVersionsThatMakeAVoterOfALearner(t *testing.T) {
	for version, want := range map[string]bool{"3.4.40": true, "3.5.0": true, "3.5.30": true, "3.5.31": false,
		"3.5.35": false, "3.6.0": true, "3.6.11": true, "3.6.12-rc.0": true, "3.6.12": false, "3.7.0": false,
		"": true, "3.6": true, "main": true, "3.10.1": false} {
		if forgetsLearners(version) != want {
			t.Errorf("%q: %v", version, !want)
		}
	}
}

func TestAMemberIsReachedWhereItListens(t *testing.T) {
	r := three(t)
	for name, tt := range map[string]struct {
		listens []string
		url     string
		want    string
	}{
		"there":            {[]string{"http://10.0.0.9:2380"}, "http://10.0.0.9:2380", ""},
		"on all addresses": {[]string{"http://0.0.0.0:2380"}, "http://10.0.0.9:2380", ""},
		"by its name":      {[]string{"http://10.0.0.9:2380"}, "http://cp9:2380", ""},
		"at one of two": {[]string{"http://10.0.0.8:2380", "http://10.0.0.9:2380"},
			"http://10.0.0.9:2380", ""},
		"nothing is known": {nil, "http://10.0.0.9:2380", ""},
		"at another address": {[]string{"http://10.0.0.8:2380"}, "http://10.0.0.9:2380",
			"it listens at http://10.0.0.8:2380, says it"},
		"at another port":         {[]string{"http://0.0.0.0:2380"}, "http://10.0.0.9:2381", "it listens at"},
		"without TLS":             {[]string{"http://0.0.0.0:2380"}, "https://10.0.0.9:2380", "it listens at"},
		"by its name, elsewhere":  {[]string{"http://10.0.0.9:2380"}, "http://cp9:2381", "it listens at"},
		"on another loopback":     {[]string{"http://127.0.0.3:2380"}, "http://127.0.0.33:2380", "it listens at"},
		"of IPv6, at one address": {[]string{"http://[fd00::1]:2380"}, "http://[fd00::2]:2380", "it listens at"},
	} {
		t.Run(name, func(t *testing.T) {
			p := &PeerChange{r: r, of: 1, After: []string{tt.url}}
			wantRefused(t, p.checkListens(tt.listens, "it"), tt.want)
			if len(p.Notes) > 0 != (tt.listens == nil) {
				t.Errorf("it is noted: %q", p.Notes)
			}
		})
	}
}

func TestThatNothingAnswersAtAPeerURLIsOnlyRiskedWithAQuorumLeft(t *testing.T) {
	gone := errors.New("gone")
	peers := func(ids ...int) string {
		web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			text := ""
			for _, id := range ids {
				text += fmt.Sprintf(`,{"id":%d,"peerURLs":["http://x:1"],"name":"x"}`, id)
			}
			fmt.Fprintf(w, "[%s]", strings.TrimPrefix(text, ","))
		}))
		t.Cleanup(web.Close)
		return web.URL
	}
	const nobody = "http://127.0.0.1:1"
	for name, tt := range map[string]struct {
		change func(r *roster)
		url    string
		want   string
		noted  bool
	}{
		"it answers":                 {func(*roster) {}, peers(1, 2, 3), "", false},
		"another cluster answers":    {func(*roster) {}, peers(1, 3), "an etcd that does not know it answers", false},
		"nothing does":               {func(*roster) {}, nobody, "", true},
		"nothing does, beside one":   {silent(gone), nobody, "have no quorum, which could not be undone", false},
		"it answers, beside one":     {silent(gone), peers(1, 2, 3), "", false},
		"nothing does, of two":       {first(2), nobody, "have no quorum", false},
		"nothing does, of a learner": {learnerBeside(gone), nobody, "", true},
		"nothing does, beside learners": {func(r *roster) {
			r.members[0].IsLearner, r.members[2].IsLearner = true, true
		}, nobody, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			r := three(t)
			r.pod = &observe.EtcdPod{Peer: op.Access{}}
			tt.change(r)
			p := &PeerChange{r: r, of: 1, After: []string{tt.url}}
			wantRefused(t, p.checkReached(t.Context()), tt.want)
			if len(p.Notes) > 0 != tt.noted {
				t.Errorf("it is noted: %q", p.Notes)
			}
		})
	}
}
