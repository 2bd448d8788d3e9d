package members

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/manifests"
	"github.com/etcdpod/etcdpod/phases/apiserver"
	"github.com/etcdpod/etcdpod/phases/certs"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/pki"
)

func TestNoCertificateIsMadeByAClockThatIsOff(t *testing.T) {
	f := freshInit(t)
	f.Init.Whole, f.Now = false, time.Unix(1_000_000_000, 0).UTC()
	f.Init.Certs = pki.Plan{Issue: pki.EtcdSpecs()}
	var refused *engine.RefusedError
	if _, err := (InitOptions{}).certs().Plan(context.Background(), f); !errors.As(err, &refused) ||
		!strings.Contains(err.Error(), "this node's clock is wrong") {
		t.Errorf("got %v", err)
	}
	f.Init.Certs = pki.Plan{Keep: pki.EtcdSpecs()}
	if _, err := (InitOptions{}).certs().Plan(context.Background(), f); err != nil {
		t.Errorf("nothing is to be made: %v", err)
	}
}

// freshInit are the facts of a node that can be made a first member.
func freshInit(t *testing.T) *Facts {
	t.Helper()
	w := newInitWorld(t, beginnings()[0])
	f, err := w.observe(context.Background(), nil, "r1")
	if err != nil {
		t.Fatal(err)
	}
	f.Init.Free = 100 << 30
	return f
}

// flagged is etcd's manifest with one more flag.
func flagged(t *testing.T, flag string) *observe.EtcdPod {
	t.Helper()
	text := crashtest.EtcdManifest("")
	if flag != "" {
		text = strings.Replace(text, "    - --data-dir", "    - "+flag+"\n    - --data-dir", 1)
	}
	m, err := manifests.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return &observe.EtcdPod{File: observe.ManifestFile{Path: "/etc/kubernetes/manifests/etcd.yaml", Manifest: m},
		Container: "etcd", Name: "cp1", Image: m.Image("etcd")}
}

// noImages has neither etcd's image nor that of the sandboxes on the node.
func noImages(f *Facts) {
	f.Init.NoImages = []observe.Obstacle{
		{Manifests: []string{f.Init.ManifestPath}, What: "etcd's image is not on this node", Fix: "pull it"},
		{What: "the sandboxes' image is not on this node", Fix: "pull that"}}
	f.Init.Doubts = []observe.Obstacle{{What: "it was not possible to look for more"}}
}

// neverPulled may not even be pulled.
func neverPulled(f *Facts) {
	noImages(f)
	f.Init.NoImages[0].Unpulled = true
}

func TestImagesThatAreStillToComeAreSaid(t *testing.T) {
	f := freshInit(t)
	noImages(f)
	said := strings.Join(finding.Texts(InitOptions{}.preflight().Findings(f)), "\n")
	for _, want := range []string{
		"etcd's image is not on this node: the kubelet will have to pull it. To be sure, pull it",
		"the sandboxes' image is not on this node", "it was not possible to look for more",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not in %q", want, said)
		}
	}
}

func TestAnInitIsRefusedBeforeAnythingIsTouched(t *testing.T) {
	there := func(text string) func(*Facts) { return func(f *Facts) { f.Init.There = []byte(text) } }
	for _, tt := range []struct {
		name      string
		spoil     func(*Facts)
		why, hint string // empty: it is not refused
	}{
		{"all is well", func(*Facts) {}, "", ""},
		{"the clock is off", func(f *Facts) { f.Now = time.Unix(1_000_000_000, 0).UTC() },
			"it cannot be 2001-09-09T01:46:40Z", "clock"},
		{"no kubelet can be asked", func(f *Facts) { f.KubeletError = errors.New("no systemctl") },
			"no systemctl", "--kubelet-start-command"},
		{"the kubelet is stopped", func(f *Facts) { f.KubeletActive = false },
			"the kubelet is not running", "etcdpod init phase certs"},
		{"the runtime cannot be asked", func(f *Facts) { f.RuntimeError = errors.New("no socket") },
			"no socket", "--cri-socket"},
		{"another manifest runs etcd", func(f *Facts) { f.Init.Other = crashtest.TestManifestDir + "/etcd-server.yml" },
			"etcd-server.yml already runs etcd", "the kubelet runs every file in that directory, whatever its name: " +
				"move one of them out"},
		{"the very manifest is there", there(crashtest.EtcdManifest("")), "", ""},
		{"another flag is there",
			there(strings.Replace(crashtest.EtcdManifest(""), "--data-dir=/var/lib/etcd", "--data-dir=/srv/etcd", 1)),
			`it has "- --data-dir=/srv/etcd", it lacks "- --data-dir=/var/lib/etcd"`,
			"change the configuration to match it, or move the file out of the directory; to change the flags of a " +
				"serving etcd, edit its manifest"},
		{"the lines are in another order", there("b\n" + "a\n"), "it has \"b\"", ""},
		{"data of somebody", func(f *Facts) { f.Init.DataNames = []string{"lost+found", "pictures"} },
			"/var/lib/etcd is not empty: it holds pictures", "another dataDir"},
		{"an empty mount point", func(f *Facts) { f.Init.DataNames = []string{"lost+found", ".etcdpod-r0"} }, "", ""},
		{"what a file server keeps in every directory", func(f *Facts) {
			f.Init.DataNames = []string{".snapshot", ".zfs"}
		}, "", ""},
		{"data that cannot be read", func(f *Facts) {
			f.Init.DataNames, f.Init.DataError = []string{"member"}, errors.New("cut off")
		}, "cannot be read: cut off", "move away"},
		{"data of another cluster", func(f *Facts) {
			f.Init.DataOwner = &observe.Stopped{
				Members: []observe.Member{{Name: "cp9", PeerURLs: []string{"https://10.0.0.19:2380"}}},
			}
		}, "its members are cp9 at https://10.0.0.19:2380", "another dataDir"},
		{"the member's own data", func(f *Facts) {
			f.Init.DataOwner = &observe.Stopped{
				Members: []observe.Member{{Name: f.Init.Pod.Name, PeerURLs: f.Init.Pod.PeerURLs}},
			}
		}, "", ""},
		{"a port is taken", func(f *Facts) {
			f.Init.Listeners = []error{errors.New("cannot listen at 127.0.0.1:2379: another program already does")}
		}, "etcd cannot listen at 127.0.0.1:2379: another program already does", "stop the other program, or correct " +
			"the address: advertiseAddress, or etcd's listen-… arguments"},
		{"a quota that is no number", func(f *Facts) { f.Init.Pod = flagged(t, "--quota-backend-bytes=8Gi") },
			`quota-backend-bytes is "8Gi"`, "a number of bytes"},
		{"no quota", func(f *Facts) { f.Init.Pod = flagged(t, "--quota-backend-bytes=-1") },
			"until the disk is full", "leave it out"},
		{"too large a quota", func(f *Facts) { f.Init.Pod = flagged(t, "--quota-backend-bytes=8589934593") },
			"above 8 GiB", "8589934592"},
		{"a quota larger than the disk", func(f *Facts) {
			f.Init.Pod = flagged(t, "--quota-backend-bytes=8589934592")
			f.Init.Free = 1 << 30
		}, "only 1.0 GiB is free", "free some space"},
		{"a good quota", func(f *Facts) { f.Init.Pod = flagged(t, "--quota-backend-bytes=8589934592") }, "", ""},
		{"strangers are let in", func(f *Facts) {
			f.Init.Pod = flagged(t, "--listen-client-urls=https://127.0.0.1:2379,http://10.0.0.11:2379")
		}, "cannot create an etcd that answers without client certificates: --listen-client-urls contains " +
			"http://10.0.0.11:2379", "extraArgs"},
		{"a flag that etcd does not know", func(f *Facts) {
			f.Init.Pod = flagged(t, "--quota-backend-byte=1")
		}, "etcd 3.6.5 does not know --quota-backend-byte, and would exit at once", "etcd.local.extraArgs"},
		{"an image that the kubelet can pull", noImages, "", ""},
		{"an image that the kubelet may not pull", neverPulled, "etcd's image is not on this node", "pull it"},
		{"etcd elsewhere", func(f *Facts) { f.Init.External, f.Init.Pod = true, nil }, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := freshInit(t)
			tt.spoil(f)
			_, err := InitOptions{}.preflight().Plan(context.Background(), f)
			crashtest.Refused(t, err, tt.why, tt.hint)
		})
	}
}

// plannedInit are the kinds of operations that all phases but preflight plan.
func plannedInit(t *testing.T, f *Facts) []string {
	t.Helper()
	var kinds []string
	for _, p := range (InitOptions{}).phases()[1:] {
		ops, err := p.Plan(context.Background(), f)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range ops {
			kinds = append(kinds, op.Kind(o))
		}
	}
	return kinds
}

func TestAnInitPlansWhatIsMissing(t *testing.T) {
	all := []string{
		"make-directory", "issue-certificate", "issue-certificate",
		"issue-certificate", "issue-certificate", "issue-certificate",
		"make-directory", "make-directory", "make-directory", "make-directory",
		"put-certificate", "put-certificate", "put-certificate", "put-certificate", "put-certificate",
		"keep-kubelet", "claim-data-directory", "write-manifest", "await-answer",
	}
	done := func(f *Facts) {
		f.Init.Certs = pki.Plan{Keep: pki.EtcdSpecs()}
		f.Init.There, f.Init.DataDirExists = f.Init.Rendered, true
		f.Live = &observe.Live{Version: "3.6.5", Members: []observe.Member{{Name: "cp1"}}}
	}
	for _, tt := range []struct {
		name   string
		change func(*Facts)
		want   []string
	}{
		{"an empty node", func(*Facts) {}, all},
		{"all is there", done, nil},
		{"all is there, and etcd does not serve", func(f *Facts) { done(f); f.Live = nil }, []string{"await-answer"}},
		{"the data directory is gone", func(f *Facts) { done(f); f.Init.DataDirExists = false },
			[]string{"claim-data-directory"}},
		{"a certificate is gone", func(f *Facts) {
			done(f)
			f.Init.Certs = pki.Plan{Issue: pki.EtcdSpecs()[4:]}
			f.Init.MissingCertDirs = nil
		}, []string{"make-directory", "issue-certificate", "put-certificate"}},
		{"etcd runs elsewhere", func(f *Facts) { f.Init.External = true }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := freshInit(t)
			f.Init.MissingManifestDirs, f.Init.MissingDataDirs = nil, nil
			tt.change(f)
			got := plannedInit(t, f)
			if tt.name == "an empty node" {
				got = slices.DeleteFunc(got, func(kind string) bool { return kind == "make-directory" })
				tt.want = slices.DeleteFunc(tt.want, func(kind string) bool { return kind == "make-directory" })
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("planned %q", got)
			}
		})
	}
}

func TestNewCertificatesAreSignedByTheCAThatIsThereOrIsMade(t *testing.T) {
	f := freshInit(t)
	f.Init.PKI.ServerCertSANs, f.Init.PKI.PeerCertSANs = []string{"lb.example.org"}, []string{"peers.example.org"}
	f.Init.PKI.Validity, f.Init.PKI.CAValidity = time.Hour, 2*time.Hour
	for _, spec := range pki.EtcdSpecs() {
		i := certs.NewIssuance(f.Run, f.Init.PKI, f.Init.CertificatesDir, f.Init.Certs.Issue, spec)
		if spec.IsCA() {
			if i.CACert != "" || i.Validity != 2*time.Hour {
				t.Errorf("the CA is %+v", i)
			}
			continue
		}
		if i.CACert != journal.NewCerts(f.Run)+"/etcd-ca.crt" ||
			i.CAKey != journal.NewCerts(f.Run)+"/etcd-ca.key" || i.Validity != time.Hour {
			t.Errorf("%s is signed by %s with %s", spec.Name, i.CACert, i.CAKey)
		}
		want := map[string][]string{"etcd-server": {"lb.example.org"}, "etcd-peer": {"peers.example.org"}}[spec.Name]
		if !slices.Equal(i.SANs, want) {
			t.Errorf("%s is for %q besides", spec.Name, i.SANs)
		}
	}
	f.Init.Certs = pki.Plan{Keep: pki.EtcdSpecs()[:1], Issue: pki.EtcdSpecs()[1:]}
	if i := certs.NewIssuance(f.Run, f.Init.PKI, f.Init.CertificatesDir, f.Init.Certs.Issue,
		pki.EtcdSpecs()[1]); i.CACert != crashtest.TestPKI+"etcd/ca.crt" || i.CAKey != crashtest.TestPKI+"etcd/ca.key" {
		t.Errorf("signed by %s with %s", i.CACert, i.CAKey)
	}
}

func TestARefusalOfCertificatesSaysWhatToDo(t *testing.T) {
	err := certs.Refused(errors.Join(&pki.Problem{Kind: pki.Expired,
		What: "etcd/server.crt expired", Fix: "renew it"}, &pki.Problem{What: "etcd/peer.key is missing"}))
	var refused *engine.RefusedError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "expired") ||
		!strings.Contains(err.Error(), "peer.key") || engine.Hint(err) != "renew it" {
		t.Errorf("got %v, hint %q", err, engine.Hint(err))
	}
}

func TestAnEtcdThatAnswersStrangersIsNotMade(t *testing.T) {
	for flag, why := range map[string]string{
		"client-cert-auth=false":                             "--client-cert-auth is not true",
		"client-cert-auth=0":                                 "--client-cert-auth is not true",
		"peer-client-cert-auth=false":                        "--peer-client-cert-auth is not true",
		"auto-tls=true":                                      "--auto-tls",
		"peer-auto-tls":                                      "--peer-auto-tls",
		"trusted-ca-file=":                                   "--trusted-ca-file is not set",
		"listen-client-http-urls=http://0.0.0.0:2382":        "http://0.0.0.0:2382, which is not https",
		"listen-peer-urls=http://10.0.0.11:2380":             "--listen-peer-urls contains http://10.0.0.11:2380",
		"initial-advertise-peer-urls=http://10.0.0.11:2380":  "--initial-advertise-peer-urls contains",
		"advertise-client-urls=http://10.0.0.11:2379":        "--advertise-client-urls contains",
		"listen-client-urls=unix://10.0.0.11:2379":           "which is not https",
		"config-file=/etc/etcd.yaml":                         "it would ignore its flags",
		"client-cert-auth=true":                              "",
		"client-cert-auth":                                   "",
		"listen-metrics-urls=http://127.0.0.1:2381":          "",
		"listen-client-urls=https://a:2379,https://[::1]:23": "",
	} {
		i := &InitFacts{Pod: flagged(t, "")}
		text := strings.Replace(crashtest.EtcdManifest(""), "    image:", "    - --"+flag+"\n    image:", 1)
		m, err := manifests.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		i.Pod.File.Manifest = m
		if got := strings.Join(i.exposed(), "; "); (got == "") != (why == "") || !strings.Contains(got, why) {
			t.Errorf("%s: %q", flag, got)
		}
	}
	for variable, value := range map[string]string{
		"ETCD_LISTEN_CLIENT_HTTP_URLS": "http://0.0.0.0:2382",
		"ETCD_CONFIG_FILE":             "/etc/etcd.yaml",
		"ETCD_AUTO_TLS":                "true",
	} {
		i := &InitFacts{Pod: flagged(t, "")}
		text := strings.Replace(crashtest.EtcdManifest(""), "    image:",
			"    env:\n    - name: "+variable+"\n      value: \""+value+"\"\n    image:", 1)
		m, err := manifests.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		i.Pod.File.Manifest = m
		if len(i.exposed()) != 1 {
			t.Errorf("%s: %q", variable, i.exposed())
		}
	}
}

func TestAnAPIServerOfAnotherClusterIsNotGivenThisEtcd(t *testing.T) {
	for _, tt := range []struct {
		servers, code string
		wired         bool
		reaches       bool   // they reach the cluster of the local etcd
		asked         string // the flag that the configuration asks for
	}{
		{"https://10.0.0.19:2379", "refused", false, false, ""},
		// Somebody chose to list all members.
		{"https://10.0.0.19:2379,https://127.0.0.1:2379", "", false, false, ""},
		{"https://localhost:2379", "", true, false, ""},
		{"https://127.0.0.1:2379", "", false, false, ""},
		// No API server.
		{"", "", false, false, ""},
		// All members of a cluster of one.
		{"https://10.0.0.11:2379", "", false, false, ""},
		// But the configuration asks for another value.
		{"https://10.0.0.11:2379", "", true, false, observe.EtcdServersFlag},
		// What works stays.
		{"https://localhost:2379", "", false, true, ""},
		// So do other members that answer.
		{"https://10.0.0.19:2379,https://10.0.0.18:2379", "", false, true, ""},
		// If they do not answer, they may belong to another cluster.
		{"https://10.0.0.19:2379,https://10.0.0.18:2379", "refused", false, false, ""},
	} {
		f := freshInit(t)
		f.Init.Pod.ClientURLs = []string{"https://10.0.0.11:2379"}
		if tt.servers != "" {
			text := crashtest.PodManifest("kube-apiserver", "    - --etcd-servers="+tt.servers+"\n", "")
			m, err := manifests.Parse([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			f.Manifests = []observe.ManifestFile{
				{Path: crashtest.TestManifestDir + "/kube-apiserver.yaml", Manifest: m, Data: []byte(text)},
			}
		}
		f.Init.Kubeadms, f.Init.Wired = apiserver.EtcdFlags{Servers: []string{"https://127.0.0.1:2379"}}, tt.reaches
		f.Init.Wish = wish(f, func(flag string) bool { return flag == tt.asked })
		ops, err := InitOptions{}.wire().Plan(context.Background(), f)
		var refused *engine.RefusedError
		if (tt.code == "refused") != errors.As(err, &refused) || err != nil && tt.code == "" {
			t.Errorf("%s: got %v", tt.servers, err)
		}
		if (len(ops) > 0) != tt.wired {
			t.Errorf("%s: planned %v", tt.servers, ops)
		}
	}
}

func TestAnAPIServerIsGivenNoFilesThatItWouldNotFind(t *testing.T) {
	const mounted = "    volumeMounts:\n    - mountPath: /etc/kubernetes/pki\n      name: k8s-certs\n  volumes:\n" +
		"  - hostPath:\n      path: /etc/kubernetes/pki\n    name: k8s-certs\n"
	const cert = "/etc/kubernetes/pki/apiserver-etcd-client.crt"
	for _, tt := range []struct {
		flags, volumes string
		refused        bool
	}{
		{"    - --etcd-certfile=/srv/client.crt\n", "", true},
		{"    - --etcd-certfile=/srv/client.crt\n", mounted, false},
		// It was so before: this run did not cause it.
		{"    - --etcd-certfile=" + cert + "\n", "", false},
	} {
		f := freshInit(t)
		text := crashtest.PodManifest("kube-apiserver",
			"    - --etcd-servers=https://127.0.0.1:2379\n"+tt.flags, tt.volumes)
		m, err := manifests.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		f.Manifests = []observe.ManifestFile{
			{Path: crashtest.TestManifestDir + "/kube-apiserver.yaml", Manifest: m, Data: []byte(text)},
		}
		f.Init.Wish = apiserver.EtcdFlags{Servers: []string{"https://127.0.0.1:2379"}, CertFile: cert}
		_, err = InitOptions{}.wire().Plan(context.Background(), f)
		var refused *engine.RefusedError
		if errors.As(err, &refused) != tt.refused ||
			err != nil && !strings.Contains(err.Error(), "would not find its file --etcd-certfile="+cert) {
			t.Errorf("%s%s: got %v", tt.flags, tt.volumes, err)
		}
	}
}

func TestAwaitEtcdAloneNeedsWhatTheOthersMake(t *testing.T) {
	for _, tt := range []struct {
		change func(*Facts)
		why    string
	}{
		{func(*Facts) {}, "/etc/kubernetes/manifests/etcd.yaml does not exist"},
		{func(f *Facts) { f.Init.There, f.KubeletActive = f.Init.Rendered, false }, "the kubelet is not running"},
		{func(f *Facts) { f.Init.There = f.Init.Rendered }, ""},
	} {
		f := freshInit(t)
		f.Init.Whole = false
		tt.change(f)
		if _, err := (InitOptions{}).awaitEtcd().Plan(context.Background(), f); (err == nil) != (tt.why == "") ||
			err != nil && !strings.Contains(err.Error(), tt.why) {
			t.Errorf("got %v, not %s", err, tt.why)
		}
	}
}

func TestAnEtcdThatWouldThrowOutTheOthersIsNotBegunOnTheirData(t *testing.T) {
	f := freshInit(t)
	text := strings.Replace(string(f.Init.Rendered), "    - --data-dir",
		"    - --force-new-cluster\n    - --data-dir", 1)
	m, err := manifests.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	f.Init.Pod.File.Manifest = m
	own := observe.Member{ID: 1, Name: f.Init.Pod.Name, PeerURLs: f.Init.Pod.PeerURLs}
	f.Init.DataNames, f.Init.DataOwner = []string{"member"}, &observe.Stopped{Members: []observe.Member{own, {ID: 2}}}
	if err := checkNewData(f); err == nil || !strings.Contains(err.Error(), "--force-new-cluster") {
		t.Errorf("got %v", err)
	}
	f.Init.DataOwner.Members = f.Init.DataOwner.Members[:1]
	if err := checkNewData(f); err != nil {
		t.Errorf("alone: %v", err)
	}
}
