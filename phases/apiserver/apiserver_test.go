package apiserver

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/manifests"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// apiServerFile is a manifest with these lines on the command line.
func apiServerFile(t *testing.T, lines ...string) observe.ManifestFile {
	t.Helper()
	text := crashtest.PodManifest("kube-apiserver", "", "")
	if len(lines) > 0 {
		text = crashtest.PodManifest("kube-apiserver", "    - "+strings.Join(lines, "\n    - ")+"\n", "")
	}
	m, err := manifests.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return observe.ManifestFile{Path: apiserverY, Data: []byte(text), Manifest: m}
}

// wiringFacts are the facts of a node on which the change may begin.
func wiringFacts(t *testing.T) *Facts {
	file := apiServerFile(t, "--etcd-servers="+oldServers)
	after := EtcdFlags{Servers: observe.SplitList(newServers)}
	return &Facts{
		Facts: &observe.Facts{
			Run: "r1", Node: "cp1", ManifestDir: crashtest.TestManifestDir, KubeletActive: true,
			Manifests: []observe.ManifestFile{file}, API: op.APIAccess{Kubeconfig: "/etc/kubernetes/admin.conf"},
			Containers: []node.Container{
				{ID: "a", Name: "kube-apiserver", Pod: "kube-apiserver-cp1",
					Namespace: "kube-system", PodUID: "uid-old", State: "running"},
			},
		},
		APIServer: &SetFacts{
			File: file, Container: "kube-apiserver", Before: EtcdFlags{Servers: observe.SplitList(oldServers)},
			After: after, Cluster: 0xc, Known: oldServers,
			Answers: []Answer{{URL: after.Servers[0], ClusterID: 0xc, MemberID: 1, Name: "cp1", Leads: true},
				{URL: after.Servers[1], ClusterID: 0xc, MemberID: 2, Name: "cp2"}},
		},
	}
}

func TestAChangeOfTheAPIServerIsRefused(t *testing.T) {
	for _, tt := range []struct {
		name    string
		options Options
		spoil   func(*Facts)
		why     string // empty: it is not refused
		hint    string
	}{
		{"nothing speaks against it", Options{}, func(*Facts) {}, "", ""},
		{"no API server", Options{}, func(f *Facts) { f.Manifests, f.APIServer = nil, &SetFacts{} },
			"no manifest in /etc/kubernetes/manifests runs an API server", "kubeadm init phase"},
		{"its manifest cannot be read", Options{}, func(f *Facts) {
			f.Manifests, f.APIServer = []observe.ManifestFile{{Path: apiserverY,
				Data: []byte("kube-apiserver ["), Error: errors.New("line 1")}}, &SetFacts{}
		}, "cannot read /etc/kubernetes/manifests/kube-apiserver.yaml: line 1", "fix the file"},
		{"two of them", Options{}, func(f *Facts) { f.APIServer.Second = "/m/b.yaml" },
			"two manifests run an API server", "the kubelet runs every file in that directory, whatever its name: " +
				"move one of them out"},
		{"the kubelet is stopped", Options{}, func(f *Facts) { f.KubeletActive = false },
			"the kubelet is not running", "start the kubelet"},
		{"the runtime cannot be asked", Options{}, func(f *Facts) { f.RuntimeError = errors.New("no socket") },
			"no socket", "--cri-socket"},
		{"its image is gone", Options{}, func(f *Facts) {
			f.Obstacles = []observe.Obstacle{{Manifests: []string{apiserverY}, What: "its image is gone", Fix: "pull"}}
		}, "could start again after being stopped: its image is gone", "pull"},
		{"another pod's image is gone", Options{}, func(f *Facts) {
			f.Obstacles = []observe.Obstacle{{Manifests: []string{"/m/etcd.yaml"}, What: "x"}}
		}, "", ""},
		{"no kubeconfig", Options{}, func(f *Facts) { f.API.Kubeconfig = "" },
			"there is no kubeconfig with which to check whether the API server is ready", "admin.conf"},
		{"nothing to do, whatever is down", Options{},
			func(f *Facts) { f.APIServer.After, f.KubeletActive = f.APIServer.Before, false }, "", ""},
		{"a file that is not mounted", Options{}, func(f *Facts) {
			f.APIServer.Wrong = []string{"--etcd-cafile=/x: no volume"}
		}, "could not read its files: --etcd-cafile=/x: no volume", "as the API server's container sees them"},
		{"one does not answer", Options{}, func(f *Facts) {
			f.APIServer.Answers[0].Error = errors.New("cannot reach etcd at a")
		}, "cannot reach etcd at a", "--etcd-servers https://10.0.0.12:2379"},
		{"a learner", Options{}, func(f *Facts) { f.APIServer.Answers[1].Learner = true },
			"https://10.0.0.12:2379 is a learner", "leave it out"},
		{"two clusters", Options{AnotherCluster: true}, func(f *Facts) { f.APIServer.Answers[1].ClusterID = 0xd },
			"https://10.0.0.12:2379 is in cluster d, but https://10.0.0.11:2379 in cluster c", "one cluster"},
		{"another cluster", Options{}, func(f *Facts) {
			f.APIServer.Cluster = 0xe
		}, "another cluster, with other objects: c, while the API server now uses e, according to " +
			"https://127.0.0.1:2379",
			"--another-cluster"},
		{"another cluster, as asked", Options{AnotherCluster: true},
			func(f *Facts) { f.APIServer.Cluster = 0xe }, "", ""},
		{"the cluster is not known", Options{}, func(f *Facts) { f.APIServer.Cluster = 0 },
			"the cluster that the API server uses now cannot be determined", "--another-cluster"},
		{"the members cannot be listed", Options{AllMembers: true}, func(f *Facts) {
			f.APIServer.MembersError = errors.New("no leader")
		}, "the members cannot be listed: no leader", "--endpoints"},
		{"a member is a learner", Options{AllMembers: true}, func(f *Facts) {
			f.APIServer.Learners = []observe.Member{{Name: "cp3", IsLearner: true}}
		}, "member cp3 is a learner", "wait until it is promoted, then run the command again; or give the " +
			"servers with --etcd-servers"},
		{"a member was never started", Options{AllMembers: true}, func(f *Facts) {
			f.APIServer.Learners = []observe.Member{{PeerURLs: []string{"https://cp3:2380"}}}
		}, "has never been started", "start it"},
		{"members over https and http", Options{AllMembers: true}, func(f *Facts) {
			f.APIServer.After.Servers[1] = "http://10.0.0.12:2379"
		}, "some of the endpoints are https and some http", "--etcd-servers"},
		{"another member answers there", Options{AllMembers: true}, func(f *Facts) { f.APIServer.Answers[1].want = 3 },
			"member cp2 answers at https://10.0.0.12:2379", "--etcd-servers"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := wiringFacts(t)
			tt.spoil(f)
			_, err := tt.options.preflight().Plan(context.Background(), f)
			crashtest.Refused(t, err, tt.why, tt.hint)
		})
	}
}

func TestWhatAChangeOfTheAPIServerWarnsOfHasACode(t *testing.T) {
	f := wiringFacts(t)
	f.APIServer.Cluster, f.APIServer.After.Servers = 0xe, []string{"http://10.0.0.11:2379"}
	f.Doubts = []observe.Obstacle{{What: "whether all images are here is not known"}}
	var codes []string
	for _, w := range (Options{}).warned(f) {
		codes = append(codes, string(w.Code))
	}
	if got := strings.Join(codes, " "); got != "etcd-plain-http another-cluster start-unknown kubeadm-setting" {
		t.Errorf("got %s", got)
	}
	f.APIServer.After = f.APIServer.Before
	if warned := (Options{}).warned(f); warned != nil {
		t.Errorf("without a change it warns of %+v", warned)
	}
}

func TestWhatAChangeOfTheAPIServerDoes(t *testing.T) {
	f := wiringFacts(t)
	plan, err := Set(Options{StopTimeout: time.Second, WaitTimeout: time.Minute}).Planned(context.Background(), f)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, p := range plan.Phases {
		for _, o := range p.Ops() {
			kinds = append(kinds, op.Kind(o))
			if wait, ok := o.(*op.AwaitReplaced); ok &&
				(wait.Before != "uid-old" || wait.Grace != time.Second || wait.Limit != time.Minute) {
				t.Errorf("got %+v", wait)
			}
		}
	}
	if got := strings.Join(kinds, " "); got != "make-directory await-replaced replace-manifest await-replaced" {
		t.Errorf("got %s", got)
	}
	if !plan.Phases[2].Commit ||
		!strings.Contains(plan.Phases[1].Operations[2], "set --etcd-servers="+newServers+" in "+apiserverY) {
		t.Errorf("got %+v", plan.Phases)
	}
	f.APIServer.After = f.APIServer.Before
	plan, err = Set(Options{}).Planned(context.Background(), f)
	if err != nil || !plan.Empty() || !strings.Contains(plan.Phases[0].Found[0], "already has these flags") {
		t.Errorf("got %+v, %v", plan, err)
	}
}

func TestTheAPIServerIsWiredOnlyWhereItSaysOtherwise(t *testing.T) {
	wish := kubeadmFlags(observe.KubeadmCertificatesDir, "10.0.0.11")
	phase := Wire(func(f *Facts) *observe.Facts { return f.Facts },
		func(*Facts) EtcdFlags { return wish }, time.Minute)
	kubeadms := []string{
		"--etcd-cafile=/etc/kubernetes/pki/etcd/ca.crt",
		"--etcd-certfile=/etc/kubernetes/pki/apiserver-etcd-client.crt",
		"--etcd-keyfile=/etc/kubernetes/pki/apiserver-etcd-client.key", "--etcd-servers=" + oldServers,
	}
	for _, tt := range []struct {
		name  string
		spoil func(*Facts)
		kinds string
		found string
	}{
		{"no manifest yet", func(f *Facts) { f.Manifests = nil },
			"", "no manifest in /etc/kubernetes/manifests runs an API server yet"},
		{"kubeadm's own", func(f *Facts) { f.Manifests = []observe.ManifestFile{apiServerFile(t, kubeadms...)} },
			"", "already names this etcd: left unchanged"},
		{"another etcd", func(f *Facts) {
			f.Manifests = []observe.ManifestFile{apiServerFile(t, "--etcd-servers="+newServers)}
		}, "make-directory await-replaced replace-manifest await-replaced", "currently: --etcd-servers=" + newServers},
		{"no kubelet", func(f *Facts) { f.KubeletActive = false }, "make-directory replace-manifest", "currently"},
	} {
		f := wiringFacts(t)
		tt.spoil(f)
		ops, err := phase.Plan(context.Background(), f)
		var kinds []string
		for _, o := range ops {
			kinds = append(kinds, op.Kind(o))
		}
		if found := phase.Found(f); err != nil || strings.Join(kinds, " ") != tt.kinds ||
			!strings.Contains(found[0], tt.found) {
			t.Errorf("%s: %q, %q, %v", tt.name, kinds, found, err)
		}
	}
}

func TestOnlyTheLinesOfEtcdAreEdited(t *testing.T) {
	wish := EtcdFlags{Servers: []string{"https://a:1"}, CAFile: "/new"}
	for _, tt := range []struct {
		name        string
		lines, want []string // of the command line
		why         string
	}{
		{"in place", []string{"--a=1", "--etcd-servers=https://b:1 # old", "--etcd-cafile=/old", "--b"},
			[]string{"--a=1", "--etcd-servers=https://a:1 # old", "--etcd-cafile=/new", "--b"}, ""},
		{"as an item of its own", []string{"--etcd-cafile=/new", "--etcd-servers", `"https://b:1"`},
			[]string{"--etcd-cafile=/new", "--etcd-servers", `"https://a:1"`}, ""},
		{"added", []string{"--etcd-servers=https://a:1"},
			[]string{"--etcd-servers=https://a:1", "--etcd-cafile=/new"}, ""},
		{"twice: all count", []string{"--etcd-servers=https://b:1", "--a", "--etcd-servers=https://c:1",
			"--etcd-cafile=/new"}, []string{"--a", "--etcd-cafile=/new", "--etcd-servers=https://a:1"}, ""},
		{"written with _", []string{"--etcd_servers=https://b:1", "--etcd_cafile=/old"},
			[]string{"--etcd_servers=https://a:1", "--etcd_cafile=/new"}, ""},
		{"written both ways", []string{"--etcd_servers=https://b:1", "--etcd-servers=https://c:1",
			"--etcd-cafile=/new"}, []string{"--etcd-cafile=/new", "--etcd-servers=https://a:1"}, ""},
	} {
		file := apiServerFile(t, tt.lines...)
		edited, _, err := EtcdFlagsOf(file, "kube-apiserver").With(wish).write(file, "kube-apiserver")
		if tt.why != "" {
			if err == nil || !strings.Contains(err.Error(), tt.why) {
				t.Errorf("%s: got %v", tt.name, err)
			}
			continue
		}
		if err != nil || string(edited.Bytes()) != string(apiServerFile(t, tt.want...).Data) {
			t.Errorf("%s: %v\n%s", tt.name, err, edited.Bytes())
		}
	}
	file := apiServerFile(t, "--etcd-servers=https://b:1")
	file.Data = []byte(strings.Replace(string(file.Data), "metadata:\n", "metadata:\n  uid: abc\n", 1))
	if _, _, err := wish.write(file, "kube-apiserver"); err == nil ||
		!strings.Contains(err.Error(), "gives the pod a uid, so the kubelet would not notice the change: remove "+
			"metadata.uid") {
		t.Errorf("a pod with a uid: got %v", err)
	}
}

func TestAllMembersAreListedAlikeOnEveryNode(t *testing.T) {
	a := &SetFacts{}
	got := a.takeMembers([]etcd.Member{
		{ID: 1, Name: "cp2", ClientURLs: []string{"https://127.0.0.1:2379", "https://10.0.0.12:2379"}},
		{ID: 2, Name: "cp1", ClientURLs: []string{"https://10.0.0.11:2379"}},
		{ID: 3, Name: "cp3", IsLearner: true, ClientURLs: []string{"https://10.0.0.13:2379"}},
		{ID: 4, PeerURLs: []string{"https://10.0.0.14:2380"}},
	})
	if !slices.Equal(got.Servers, []string{"https://10.0.0.11:2379", "https://10.0.0.12:2379"}) ||
		got.At["https://10.0.0.11:2379"] != 2 || len(a.Learners) != 2 {
		t.Errorf("got %+v and %v", got, a.Learners)
	}
	if !sameServers([]string{"a", "b"}, []string{"b", "a"}) || sameServers([]string{"a", "b"}, []string{"a"}) {
		t.Error("the order of the servers counts")
	}
}

func TestKubeadmsSettingOfEtcdIsKnown(t *testing.T) {
	for _, tt := range []struct{ config, advertise, servers, ca, key string }{
		{"", "10.0.0.11", "https://127.0.0.1:2379", "/etc/kubernetes/pki/etcd/ca.crt",
			"/etc/kubernetes/pki/apiserver-etcd-client.key"},
		{"certificatesDir: /pki", "fd00::1", "https://[::1]:2379",
			"/pki/etcd/ca.crt", "/pki/apiserver-etcd-client.key"},
		{"etcd: {external: {endpoints: ['https://a:1', 'https://b:1'], caFile: /ca, certFile: /c, keyFile: /k}}",
			"", "https://a:1,https://b:1", "/ca", "/k"},
		{"apiServer: {extraArgs: [{name: etcd-servers, value: 'https://a:1'}, {name: v, value: '2'}]}",
			"", "https://a:1", "/etc/kubernetes/pki/etcd/ca.crt", "/etc/kubernetes/pki/apiserver-etcd-client.key"},
		{"apiServer: {extraArgs: {etcd-cafile: /ca}}", "", "https://127.0.0.1:2379",
			"/ca", "/etc/kubernetes/pki/apiserver-etcd-client.key"},
	} {
		c, err := observe.ParseClusterConfiguration(tt.config)
		e := kubeadmFlagsIn(c, tt.advertise)
		if err != nil || strings.Join(e.Servers, ",") != tt.servers || e.CAFile != tt.ca || e.KeyFile != tt.key {
			t.Errorf("%q: %+v, %v", tt.config, e, err)
		}
	}
	if _, err := observe.ParseClusterConfiguration("a: ["); err == nil {
		t.Error("it is taken")
	}
	now := EtcdFlags{Servers: []string{"https://a:1"}, CAFile: "/ca"}
	got := now.Differences(EtcdFlags{Servers: []string{"https://b:1"}, CertFile: "/c"})
	want := []string{
		"--etcd-servers is https://a:1, but kubeadm would write https://b:1",
		"--etcd-cafile is /ca, but kubeadm would write nothing",
		"--etcd-certfile is not set, but kubeadm would write /c",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}
