package members

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/manifests"
	"github.com/etcdpod/etcdpod/phases/apiserver"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// An API server may name a member by any URL at which it answers: by a DNS name, or at a listener
// that it does not advertise. Members 1 and 2 stay, 3 is removed.
func TestAnAPIServerMeansTheMemberThatAnswersIt(t *testing.T) {
	const dns1, dns2, dns3 = "https://etcd1.example:2379", "https://etcd2.example:2379", "https://etcd3.example:2379"
	const at1, at2, at3 = "https://10.0.0.11:2379", "https://10.0.0.12:2379", "https://10.0.0.13:2379"
	for name, tt := range map[string]struct {
		servers string
		answers map[string]uint64 // 0: an error
		after   string            // empty: it is left unchanged
		refused bool
	}{
		"by what it advertises":          {at3, nil, at1 + "," + at2, false},
		"with a slash":                   {at1 + "," + at3 + "/", nil, at1, false},
		"by a name":                      {dns3, map[string]uint64{dns3: 3}, at1 + "," + at2, false},
		"one of several, by name":        {dns1 + "," + dns3, map[string]uint64{dns1: 1, dns3: 3}, dns1, false},
		"only others, by name":           {dns1 + "," + dns2, map[string]uint64{dns1: 1, dns2: 2}, "", false},
		"another cluster's":              {dns2, map[string]uint64{dns2: 99}, "", false},
		"what it advertises is another":  {at3, map[string]uint64{at3: 1}, "", false},
		"nobody answers":                 {dns3, map[string]uint64{dns3: 0}, "", true},
		"nobody was asked":               {dns3, nil, "", true},
		"nobody answers at one":          {dns1 + "," + dns3, map[string]uint64{dns1: 1, dns3: 0}, "", false},
		"nothing known would be left":    {at3 + "," + dns1, map[string]uint64{at3: 3, dns1: 0}, "", true},
		"one that stays, and is silent":  {at2, map[string]uint64{at2: 0}, "", false},
		"one that is removed and silent": {at2 + "," + at3, map[string]uint64{at2: 2, at3: 0}, at2, false},
	} {
		text := []byte("apiVersion: v1\nkind: Pod\nmetadata: {name: kube-apiserver, namespace: kube-system}\nspec:\n" +
			"  containers:\n  - name: kube-apiserver\n    image: a\n    command:\n    - kube-apiserver\n" +
			"    - --etcd-servers=" + tt.servers + "\n")
		m, ok := manifests.Decoded(text)
		if !ok {
			t.Fatalf("%s: it is no manifest:\n%s", name, text)
		}
		f := &RemoveFacts{Facts: &observe.Facts{Node: "cp1", Manifests: []observe.ManifestFile{
			{Path: "/etc/kubernetes/manifests/kube-apiserver.yaml", Data: text, Manifest: m}}}}
		for url, id := range tt.answers {
			a := apiserver.Answer{URL: url, MemberID: id, ClusterID: 9}
			if id == 0 {
				a.Error = errors.New("no route to host")
			}
			f.Answers = append(f.Answers, a)
		}
		o := remover{RemoveOptions{Member: "etcd3"}, Removal{Gone: op.Member{ID: 3}, Name: "etcd3",
			URLs: []string{at3}, Stay: []string{at1, at2}, Known: []string{at1, at2}}}
		err := o.checkNamed(f)
		if (err != nil) != tt.refused || err != nil && !strings.Contains(engine.Hint(err), "etcdpod apiserver set") {
			t.Errorf("%s: %v (%s)", name, err, engine.Hint(err))
		}
		if after := o.wish(f).Servers; err == nil && !slices.Equal(after, observe.SplitList(tt.after)) {
			t.Errorf("%s: it gets %q", name, after)
		}
		found := strings.Join(o.found(f), "\n")
		if strings.Contains(found, "does not name") && len(tt.answers) > 0 && tt.answers[dns3] == 0 &&
			strings.Contains(tt.servers, dns3) {
			t.Errorf("%s: it says %q", name, found)
		}
	}
}
