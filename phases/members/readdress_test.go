package members

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/manifests"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// addressedFacts are those of a node that serves at an address; peers are the peer URLs that etcd
// advertises, if not there.
func addressedFacts(t *testing.T, address string, edit ...string) *ReaddressFacts {
	t.Helper()
	seen := crashtest.SeenFacts(t, "run")
	for name, text := range addressedManifests(address) {
		text = strings.NewReplacer(edit...).Replace(text)
		m, err := manifests.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		for i := range seen.Manifests {
			if seen.Manifests[i].Manifest.Name() == name {
				seen.Manifests[i].Data, seen.Manifests[i].Manifest = []byte(text), m
				if name == "etcd" {
					seen.Etcd.File = seen.Manifests[i]
				}
			}
		}
	}
	addressed(seen.Etcd)
	seen.KubeletActive = true
	return &ReaddressFacts{Facts: seen}
}

// interfaces are those of a machine; the first address is that of the default route.
func interfaces(addresses ...string) machine {
	return machine{has: func(a string) bool { return slices.Contains(addresses, a) },
		choose: func() string {
			if len(addresses) == 0 {
				return ""
			}
			return addresses[0]
		},
		lookup: func(name string) ([]string, error) {
			if at := map[string]string{"cp1.example.org": newAddress, "late.example.org": oldAddress}[name]; at != "" {
				return []string{at}, nil
			}
			return nil, errors.New("no such host")
		}}
}

func TestWhichAddressTakesThePlaceOfWhich(t *testing.T) {
	peer := func(host string) []string {
		const flag = "initial-advertise-peer-urls=https://"
		return []string{flag + oldAddress, flag + host}
	}
	const third = "10.1.0.1"
	both := interfaces(oldAddress, newAddress)
	for name, tt := range map[string]struct {
		given    string
		machine  machine
		edit     []string
		old, new string
		wrong    string
	}{
		"the old one is gone":       {"", interfaces(newAddress), nil, oldAddress, newAddress, ""},
		"it is given":               {third, interfaces(newAddress, third), nil, oldAddress, third, ""},
		"both are there":            {newAddress, both, nil, oldAddress, newAddress, ""},
		"nothing has changed":       {"", interfaces(newAddress, oldAddress), nil, "", oldAddress, ""},
		"it is the same":            {oldAddress, interfaces(oldAddress), nil, "", oldAddress, ""},
		"localhost":                 {"", interfaces(oldAddress), peer("localhost"), "", oldAddress, ""},
		"localhost, and it is gone": {"", interfaces(newAddress), peer("127.0.0.1"), oldAddress, newAddress, ""},
		"one of two is gone":        {"", interfaces(newAddress, third), peer(third), oldAddress, newAddress, ""},
		"both are gone":             {"", interfaces(newAddress), peer(third), "", "", "none of them"},
		"both of two are there": {newAddress, interfaces(newAddress, oldAddress, third), peer(third), "", "",
			"has all of them"},
		"a name": {"", interfaces(newAddress), peer("cp1.example.org"), oldAddress, newAddress, ""},
		"a name that leads elsewhere": {"", interfaces(newAddress), peer("late.example.org"), "", "",
			"which leads to 10.0.0.11, and this node does not have that address"},
		"a name of nobody": {"", interfaces(newAddress), peer("x.example.org"), "", "",
			"etcd advertises a name that leads nowhere, x.example.org"},
		"no default route": {"", interfaces(), nil, "", "", "has no default route"},
		"not of this node": {newAddress, interfaces(oldAddress), nil, "", "",
			"does not have the address 10.0.0.21"},
		"where each host is by itself": {"127.0.0.1", interfaces("127.0.0.1"), nil, "", "",
			"every host reaches itself"},
	} {
		t.Run(name, func(t *testing.T) {
			f := addressedFacts(t, oldAddress, tt.edit...)
			err := ReaddressOptions{Address: tt.given}.decide(f, tt.machine)
			wantRefused(t, err, tt.wrong)
			if err == nil && (f.Old != tt.old || f.New != tt.new || f.Here != (name == "both are there")) {
				t.Errorf("%q for %q, here %v", f.New, f.Old, f.Here)
			}
		})
	}
}

func TestEveryPlaceOfAnAddressFollows(t *testing.T) {
	const old = "https://" + oldAddress
	for name, tt := range map[string]struct {
		edit         []string
		has, hasNone []string // of etcd's manifest afterwards
		wrong        string
	}{
		"kubeadm's": {nil, []string{"--listen-client-urls=https://127.0.0.1:2379,https://10.0.0.21:2379",
			"--initial-cluster=cp1=https://10.0.0.21:2380"}, []string{oldAddress}, ""},
		"others in the initial cluster": {[]string{"cp1=" + old + ":2380",
			"cp1=" + old + ":2380,cp2=https://10.0.0.110:2380"},
			[]string{"--initial-cluster=cp1=https://10.0.0.21:2380,cp2=https://10.0.0.110:2380\n"},
			[]string{old + ":"}, ""},
		"a name for the others": {[]string{"initial-advertise-peer-urls=" + old,
			"initial-advertise-peer-urls=https://cp1.example.org"},
			[]string{"--initial-advertise-peer-urls=https://cp1.example.org:2380\n",
				"--listen-peer-urls=https://10.0.0.21:2380\n"}, []string{oldAddress}, ""},
		"on all addresses": {[]string{"listen-peer-urls=" + old, "listen-peer-urls=https://0.0.0.0"},
			[]string{"--listen-peer-urls=https://0.0.0.0:2380\n"}, []string{oldAddress}, ""},
		"a peer URL of localhost": {[]string{"initial-advertise-peer-urls=" + old,
			"initial-advertise-peer-urls=https://localhost",
			"listen-peer-urls=" + old, "listen-peer-urls=https://localhost"},
			[]string{"--initial-advertise-peer-urls=https://10.0.0.21:2380\n",
				"--listen-peer-urls=https://localhost:2380,https://10.0.0.21:2380\n", "https://127.0.0.1:2379,"},
			[]string{oldAddress}, ""},
		"from a variable": {[]string{"listen-peer-urls=" + old + ":2380", "listen-peer-urls=" + old + ":$(PORT)"},
			nil, nil, "comes from a variable"},
	} {
		t.Run(name, func(t *testing.T) {
			f := addressedFacts(t, oldAddress, tt.edit...)
			if err := (ReaddressOptions{}).decide(f, interfaces(newAddress)); err != nil {
				t.Fatal(err)
			}
			err := f.render()
			wantRefused(t, err, tt.wrong)
			if err != nil {
				return
			}
			text := string(f.After.File.Data)
			for _, want := range tt.has {
				if !strings.Contains(text, want) {
					t.Errorf("no %q in\n%s", want, text)
				}
			}
			for _, none := range tt.hasNone {
				if strings.Contains(text, none) {
					t.Errorf("%q is in\n%s", none, text)
				}
			}
			if api := string(f.APIServer.Data); !strings.Contains(api, "--advertise-address=10.0.0.21\n") ||
				!strings.Contains(api, "--etcd-servers=https://127.0.0.1:2379\n") {
				t.Errorf("the API server's manifest is\n%s", api)
			}
		})
	}
}

func TestTheAPIServersManifestFollows(t *testing.T) {
	text := `apiVersion: v1
kind: Pod
metadata:
  annotations:
    kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint: 10.0.0.11:6443
  name: kube-apiserver
spec:
  containers:
  - command:
    - kube-apiserver
    - --advertise-address=10.0.0.11
    - --etcd-servers=https://10.0.0.11:2379,https://10.0.0.110:2379
    livenessProbe: {httpGet: {host: 10.0.0.11, path: /livez}}
    name: kube-apiserver
`
	m, err := manifests.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	got, err := move{old: []string{oldAddress, "localhost"}, new: newAddress}.apiServer(
		observe.ManifestFile{Path: "kube-apiserver.yaml", Data: []byte(text), Manifest: m}, "kube-apiserver")
	want := strings.NewReplacer("10.0.0.11:6443", `"10.0.0.21:6443"`, "10.0.0.11:2", "10.0.0.21:2", "=10.0.0.11\n",
		"=10.0.0.21\n", "host: 10.0.0.11,", `host: "10.0.0.21",`).Replace(text)
	if err != nil || string(got.Bytes()) != want {
		t.Errorf("%v:\n%s", err, got.Bytes())
	}
	to := move{old: []string{oldAddress}, new: "fd00::21"}
	at := to.urls([]string{"https://10.0.0.11:2379", "http://10.0.0.11", "https://fd00::1:2"})
	if strings.Join(at, " ") != "https://[fd00::21]:2379 http://[fd00::21] https://fd00::1:2" {
		t.Errorf("%q", at)
	}
}

// The old address is a name of the certificates as long as the node has it: connections to peers
// may come from there.
func TestACertificateKeepsAnAddressThatTheNodeStillHas(t *testing.T) {
	there := []string{"cp1", "localhost", "etcd.example.org", oldAddress, "127.0.0.1"}
	for name, tt := range map[string]struct {
		names []string
		here  bool
		issue bool
		keeps int
	}{
		"it still has it":              {there, true, true, 5},
		"it is gone":                   {there, false, true, 4},
		"it is for both, and has both": {append(there, newAddress), true, false, 6},
		"it is for both":               {append(there, newAddress), false, true, 5},
		"it is for the new one":        {[]string{"cp1", newAddress}, false, false, 2},
	} {
		var c addressCert
		if c.names(tt.names, oldAddress, newAddress, tt.here); c.issue != tt.issue || len(c.keeps) != tt.keeps {
			t.Errorf("%s: issue %v, keeps %q", name, c.issue, c.keeps)
		}
	}
	c := addressCert{cert: "/pki/peer.crt", ca: "/pki/ca.crt", issue: true, lacks: true}
	c.external(&ReaddressFacts{New: newAddress})
	wantRefused(t, c.problem, "the key of its CA is not here: /pki/ca.key")
	c = addressCert{issue: true}
	if c.external(&ReaddressFacts{}); c.problem != nil || c.issue {
		t.Errorf("a name too many: %+v", c)
	}
}

func TestAnAddressIsNotFollowedWhereThatWouldNotGoWell(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(f *ReaddressFacts)
		want   string
	}{
		"all is well":  {func(*ReaddressFacts) {}, ""},
		"no etcd here": {func(f *ReaddressFacts) { f.Etcd = nil }, "runs an etcd"},
		"no runtime":   {func(f *ReaddressFacts) { f.RuntimeError = errors.New("no socket") }, "no socket"},
		"no kubelet":   {func(f *ReaddressFacts) { f.KubeletActive = false }, "the kubelet is not running"},
		"nobody says": {func(f *ReaddressFacts) { f.ClusterError = errors.New("silence") },
			"who is a member: silence"},
		"a learner":   {func(f *ReaddressFacts) { f.Own.IsLearner = true }, "is a learner"},
		"no quorum":   {func(f *ReaddressFacts) { f.Others = 0 }, "0 of 3 members that vote answer"},
		"one is down": {func(f *ReaddressFacts) { f.Others = 1 }, "would lose quorum while this etcd restarts"},
		"it was down": {func(f *ReaddressFacts) { f.Others, f.Live = 1, nil }, ""},
		"of two":      {func(f *ReaddressFacts) { f.Voters, f.Others = 2, 1 }, ""},
		"a certificate": {func(f *ReaddressFacts) { f.Certs = []addressCert{{problem: engine.Refuse("do", "no CA")}} },
			"no CA"},
		"another one has it": {func(f *ReaddressFacts) { f.Change.r.members[2].PeerURLs = f.After.PeerURLs },
			"cp3 has it"},
		"it could not start": {func(f *ReaddressFacts) {
			f.Starts = &observe.Facts{Obstacles: []observe.Obstacle{{Manifests: []string{f.After.File.Path},
				What: "no image", Fix: "pull it"}}}
		}, "no image"},
		"nor go back": {func(f *ReaddressFacts) {
			f.Starts = &observe.Facts{}
			f.Obstacles = []observe.Obstacle{{Manifests: []string{f.Etcd.File.Path}, What: "no volume",
				Fix: "mount it"}}
		}, "no volume"},
		"there is nothing to go back to": {func(f *ReaddressFacts) {
			f.Starts, f.Here = &observe.Facts{}, false
			f.Obstacles = []observe.Obstacle{{Manifests: []string{f.Etcd.File.Path}, What: "no address", Fix: "x"}}
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := readyToMove(t)
			tt.change(f)
			_, err := Readdress(ReaddressOptions{}).Planned(context.Background(), f)
			wantRefused(t, err, tt.want)
		})
	}
}

// readyToMove is cp2 of three members, whose address has changed.
func readyToMove(t *testing.T) *ReaddressFacts {
	t.Helper()
	f := addressedFacts(t, oldAddress)
	if err := errors.Join((ReaddressOptions{Address: newAddress}).decide(f, interfaces(oldAddress, newAddress)),
		f.render()); err != nil {
		t.Fatal(err)
	}
	after := *f.Etcd
	after.File = f.After.File
	addressed(&after)
	f.After, f.Voters, f.Others = &after, 3, 2
	r := three(t)
	f.Own = &op.Member{ID: op.ID(r.members[1].ID), Name: "cp2", PeerURLs: r.members[1].PeerURLs}
	f.Change = &PeerChange{r: r, of: 1, Before: f.Own.PeerURLs, After: after.PeerURLs}
	starts := *f.Facts
	f.Starts = &starts
	return f
}

func TestANodeThatHasNothingToFollowIsLeftAlone(t *testing.T) {
	f := addressedFacts(t, oldAddress)
	if err := errors.Join((ReaddressOptions{}).decide(f, interfaces(oldAddress)), f.render()); err != nil {
		t.Fatal(err)
	}
	f.After, f.Own, f.Voters = f.Etcd, &op.Member{ID: 1, Name: "cp1", PeerURLs: f.Etcd.PeerURLs}, 1
	plan, err := Readdress(ReaddressOptions{}).Planned(context.Background(), f)
	if err != nil || !plan.Empty() {
		t.Errorf("%v, %+v", err, plan)
	}
	f.Own.PeerURLs = []string{"https://localhost:2380"}
	plan, err = Readdress(ReaddressOptions{}).Planned(context.Background(), f)
	if err != nil || plan.Empty() {
		t.Errorf("a peer URL of localhost: %v, %+v", err, plan)
	}
}

func TestAnAddressIsFoundInATextOnlyAsAWhole(t *testing.T) {
	for text, want := range map[string]bool{"server: https://10.0.0.1:6443": true, "--node-ip=10.0.0.1": true,
		"10.0.0.11": false, "110.0.0.1": false, "10.0.0.1.5": false, "10.0.0.11 10.0.0.1\n": true, "": false} {
		if namesAddress(text, "10.0.0.1") != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
}

// surveyed are three nodes as a run with all of them sees them: all moved, all answer at their old
// URLs, and are a quorum.
func surveyed() []FollowSurvey {
	var members []op.Member
	for i, name := range fellows {
		members = append(members, op.Member{ID: op.ID(i + 1), Name: name,
			PeerURLs: []string{"https://" + wasAt(name) + ":2380"}})
	}
	var all []FollowSurvey
	for i, name := range fellows {
		all = append(all, FollowSurvey{Node: name, Etcd: true, Name: name, Member: op.ID(i + 1), Cluster: 0xc1,
			Members: members, Quorum: true, Up: true, Live: true, Starts: true, Old: wasAt(name), New: isAt(name),
			Here: true, Listed: members[i].PeerURLs, Peers: []string{"https://" + isAt(name) + ":2380"}})
	}
	return all
}

func TestMembersFollowTogetherWhereTheyAreAQuorumOnTheWay(t *testing.T) {
	down := func(s *FollowSurvey) { s.Up, s.Here, s.Quorum, s.Live = false, false, false, false }
	alone := func(s *FollowSurvey) { s.Quorum, s.Live = false, false }
	for name, tt := range map[string]struct {
		change func(s []FollowSurvey)
		first  []string
		up     int
		want   string
	}{
		"all serve":   {func([]FollowSurvey) {}, nil, 3, ""},
		"one is down": {func(s []FollowSurvey) { down(&s[2]); s[2].Members = nil }, []string{"cp3"}, 3, ""},
		"two are down, and the third is where it was": {func(s []FollowSurvey) {
			alone(&s[0])
			down(&s[1])
			down(&s[2])
		}, []string{"cp2", "cp3"}, 3, ""},
		"all are down": {func(s []FollowSurvey) { down(&s[0]); down(&s[1]); down(&s[2]) }, nil, 0,
			"no member is where the others look for it, so they cannot agree on other peer URLs: cp1 at " +
				"https://10.0.0.11:2380; cp2"},
		"all run, and none has its address": {func(s []FollowSurvey) {
			for i := range s {
				alone(&s[i])
				s[i].Here = false
			}
		}, nil, 0, "no member is where the others look for it"},
		"two are down, and stay so": {func(s []FollowSurvey) {
			alone(&s[0])
			down(&s[1])
			s[1].Starts = false
			down(&s[2])
			s[2].Starts = false
		}, nil, 0, "1 of 3 members that vote would serve, and that is no quorum"},
		"nobody knows anything": {func(s []FollowSurvey) {
			for i := range s {
				s[i].Members, s[i].Quorum, s[i].Unknown = nil, false, "silence"
			}
		}, nil, 0, "it is not known who is a member: silence"},
		"another cluster": {func(s []FollowSurvey) { s[1].Cluster = 0xbad }, nil, 0,
			"in cluster bad, that on cp1 in c1"},
		"none of the members": {func(s []FollowSurvey) { s[1].Member, s[1].Name, s[1].Listed = 0, "x", nil }, nil, 0,
			"none of the cluster's members is that of cp2"},
		"an API server alone": {func(s []FollowSurvey) { s[1] = FollowSurvey{Node: "cp2"} }, nil, 2, ""},
	} {
		t.Run(name, func(t *testing.T) {
			all := surveyed()
			tt.change(all)
			to, err := following(all)
			wantRefused(t, err, tt.want)
			if err != nil {
				return
			}
			var first []string
			for _, n := range to.Nodes {
				if n.First {
					first = append(first, n.Node)
				}
			}
			if !slices.Equal(first, tt.first) || to.Up != tt.up {
				t.Errorf("first %q, and %d serve then", first, to.Up)
			}
		})
	}
}

// The way out is typed as it stands there.
func TestWhereAllAddressesAreGoneOneIsToComeBack(t *testing.T) {
	all := surveyed()
	for i := range all {
		all[i].Up, all[i].Here, all[i].Quorum, all[i].Live = false, false, false, false
	}
	_, err := following(all)
	crashtest.Refused(t, err, "no member is where the others look for it", "on cp1 `ip address add 10.0.0.11/32 dev "+
		"lo`, and on the others `ip route add 10.0.0.11/32 via 10.0.0.21`; then run the command twice with "+
		"--address cp1=10.0.0.21")
}

func TestInitialClusterNamesAllMembersAfterwards(t *testing.T) {
	cluster := []op.Member{{Name: "cp1", PeerURLs: []string{"https://10.0.0.11:2380"}},
		{Name: "cp2", PeerURLs: []string{"https://10.0.0.22:2380"}}, {ID: 3}}
	for name, tt := range map[string]struct{ value, want string }{
		"only itself": {"cp1=https://10.0.0.11:2380", "cp1=https://10.0.0.21:2380,cp2=https://10.0.0.22:2380"},
		"another order": {"cp2=https://10.0.0.12:2380,cp1=https://10.0.0.11:2380",
			"cp2=https://10.0.0.22:2380,cp1=https://10.0.0.21:2380"},
		"one that left": {"cp0=https://10.0.0.10:2380,cp1=https://10.0.0.11:2380",
			"cp1=https://10.0.0.21:2380,cp2=https://10.0.0.22:2380"},
		"no flag": {"", ""},
	} {
		m := move{old: []string{"10.0.0.11"}, new: "10.0.0.21", others: []swap{{"10.0.0.12", "10.0.0.22"}},
			cluster: cluster}
		if got := m.initialCluster(tt.value, "cp1", []string{"https://10.0.0.21:2380"}); got != tt.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestAddressesOfSeveralNodesAreChecked(t *testing.T) {
	nodes := []journal.Peer{{Name: "cp1"}}
	for want, addresses := range map[string]map[string]string{
		"":                        {"cp1": "10.0.0.21"},
		"is no IP address":        {"cp1": "x"},
		"which is not in --nodes": {"cp2": "10.0.0.22"},
	} {
		err := FollowOptions{Nodes: nodes, Addresses: addresses}.Check()
		if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", addresses, err)
		}
	}
}
