package workflows

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

const apiServerManifest = sandbox.ManifestDir + "/kube-apiserver.yaml"

// atAddress is the node's etcd as others reach it; the manifest has it on 127.0.0.1.
func (n *node) atAddress() string {
	return fmt.Sprintf("https://%s:%d", n.Address, n.Ports.EtcdClient)
}

// edit gives a manifest other contents as people do who know how: the kubelet
// never sees half of it.
func (n *node) edit(manifest string, change func(string) string) {
	n.t.Helper()
	data, err := os.ReadFile(n.Path(manifest))
	must(n.t, err)
	temp := n.Path(filepath.Dir(manifest) + "/.edited")
	must(n.t, os.WriteFile(temp, []byte(change(string(data))), 0o600))
	must(n.t, os.Rename(temp, n.Path(manifest)))
}

// annotate leaves marks of a person's hand in the API server's manifest, which must survive.
func (n *node) annotate() {
	n.t.Helper()
	n.edit(apiServerManifest, func(text string) string {
		text = strings.Replace(text, "--etcd-servers="+n.ClientURL(),
			"--etcd-servers="+n.ClientURL()+" # ours alone", 1)
		return strings.ReplaceAll("# keep out\n"+text, "\n", "\r\n")
	})
	n.ready()
}

// uses waits until the API server that runs was started with these servers, and is ready.
func (n *node) uses(servers string) {
	n.t.Helper()
	n.ready()
	c, found, err := n.Container(n.ctx, "kube-apiserver")
	must(n.t, err)
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", c.PID))
	if err != nil || !found || !slices.Contains(strings.Split(string(line), "\x00"), "--etcd-servers="+servers) {
		n.t.Errorf("the API server runs with %q (%v), and not with %s", line, err, servers)
	}
}

// writeObject makes a ConfigMap through the API server.
func (n *node) writeObject(name string) error {
	api, err := n.API()
	if err != nil {
		return err
	}
	object := map[string]any{"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{"name": name, "namespace": "default"}}
	return api.Do(n.ctx, http.MethodPost, "/api/v1/namespaces/default/configmaps", object, nil)
}

// apiServerReport is what programs read of `apiserver show -o json`.
type apiServerReport struct {
	Manifest    string
	EtcdServers []struct {
		URL, Error, Name, MemberID, Role, Version, ClusterID string
		Serves                                               bool
	}
	Files []struct {
		Flag, Path, HostPath, Problem string
		NotAfter                      time.Time
		DaysLeft                      int
	}
	Compared    string
	Differences []string
	Warnings    []string
}

func (n *node) showAPIServer() (r apiServerReport) {
	n.t.Helper()
	must(n.t, json.Unmarshal([]byte(n.done("apiserver", "show", "-o", "json").Stdout), &r))
	return r
}

func TestAnAPIServerThatUsesAllMembersOutlivesItsEtcd(t *testing.T) {
	c := startTogether(t)
	n := c.nodes[0]
	n.annotate()
	before := n.manifests()
	var all []string
	for _, one := range c.nodes {
		all = append(all, one.atAddress())
	}
	list := strings.Join(all, ",")
	n.untouched(func() {
		c.typed("cp1", "etcdpod apiserver set --all-members --dry-run",
			0, "set --etcd-servers="+list+" in", all[2]+" is cp3, ", "Nothing was changed")
	})
	c.typed("cp1", "etcdpod apiserver set --all-members --yes", 0, "The API server is ready with the new settings")
	before["kube-apiserver.yaml"] = strings.Replace(before["kube-apiserver.yaml"], n.ClientURL(), list, 1)
	n.wantManifests(before)
	n.uses(list)
	n.untouched(func() {
		c.typed("cp1", "etcdpod apiserver set --all-members --yes", 0, "Nothing to do")
		c.typed("cp1", "etcdpod apiserver set --yes --etcd-servers "+
			strings.Join([]string{all[2], all[0], all[1]}, ","), 0, "Nothing to do")
	})
	r := n.showAPIServer()
	roles := map[string]int{}
	for i, s := range r.EtcdServers {
		roles[s.Role]++
		if !s.Serves || s.Name != fmt.Sprintf("cp%d", i+1) ||
			s.ClusterID != r.EtcdServers[0].ClusterID || s.Version != n.EtcdVersion {
			t.Errorf("got %+v", s)
		}
	}
	if roles["leader"] != 1 || roles["voter"] != 2 || len(r.Differences) != 1 ||
		r.Compared != "kubeadm's ClusterConfiguration" || len(r.Warnings) > 0 {
		t.Errorf("got %+v", r)
	}

	// The etcd beside it ends, and its data is lost.
	must(t, os.Rename(n.Path(sandbox.ManifestDir+"/etcd.yaml"), n.Path("/root-etcd.yaml")))
	n.eventually("etcd has ended", func() bool {
		c, found, err := n.Container(n.ctx, "etcd")
		return err == nil && (!found || c.State == "exited")
	})
	must(t, os.RemoveAll(n.DataPath()))
	for i := range 20 {
		n.eventually("it writes", func() bool {
			return n.writeObject(fmt.Sprintf("outlived-%d-%d", i, time.Now().UnixNano())) == nil
		})
	}
	found := 0
	for key := range c.nodes[1].keys() {
		if strings.Contains(key, "/outlived-") {
			found++
		}
	}
	if found < 20 {
		t.Errorf("%d of 20 objects are in the other members", found)
	}
	n.want(0, []string{"apiserver", "show"}, all[0], "nothing listens there", all[1])

	// A member that is down is refused, with those that answer.
	c.typed("cp2", "etcdpod apiserver set --all-members --yes",
		5, all[0]+": connection refused", "--etcd-servers "+all[1]+","+all[2])
	c.typed("cp2", "etcdpod apiserver set --yes --etcd-servers "+all[1]+","+all[2], 0)
	c.nodes[1].uses(all[1] + "," + all[2])
}

// What a person has set, and works, is not set back by init; nor silently kept.
func TestInitLeavesAnAPIServerThatReachesItsEtcd(t *testing.T) {
	c := startTogether(t)
	n := c.nodes[0]
	configure := func(text string) { must(t, os.WriteFile(n.kubeadm(), []byte(text), 0o600)) }
	wire := "etcdpod init phase wire-apiserver --config " + n.kubeadm()
	kubeadms := "kubeadm would write " + n.atAddress() // as the configuration has etcd advertise it
	stays := func(now string) {
		t.Helper()
		n.untouched(func() {
			c.typed("cp1", wire+" --dry-run", 0, "it is left unchanged: "+now)
			c.typed("cp1", wire+" --yes", 0, "Nothing to do")
		})
	}
	configure(n.configuration(""))
	stays("--etcd-servers is " + n.ClientURL() + ", but " + kubeadms)
	others := c.nodes[1].atAddress() + "," + c.nodes[2].atAddress()
	for _, list := range []string{n.atAddress() + "," + others, others} {
		c.typed("cp1", "etcdpod apiserver set --yes --etcd-servers "+list, 0)
		stays("--etcd-servers is " + list + ", but " + kubeadms)
	}
	for _, ending := range []string{".crt", ".key"} {
		n.copyFile("apiserver-etcd-client"+ending, "etcd/mine"+ending)
	}
	c.typed("cp1", "etcdpod apiserver set --yes --etcd-certfile "+
		pkiDir+"etcd/mine.crt --etcd-keyfile "+pkiDir+"etcd/mine.key", 0)
	stays("--etcd-certfile is " + pkiDir + "etcd/mine.crt, but kubeadm would write " +
		pkiDir + "apiserver-etcd-client.crt")

	all := n.atAddress() + "," + others
	// By name.
	configure(n.configuration("") + "apiServer:\n  extraArgs:\n  - name: etcd-servers\n    value: " + all + "\n")
	c.typed("cp1", wire+" --yes", 0, "Done by run")
	n.uses(all)
	stays("--etcd-certfile is " + pkiDir + "etcd/mine.crt")
}

func TestAnAPIServerWhoseEtcdIsDeadGoesOverToTheOthers(t *testing.T) {
	c := startTogether(t)
	n := c.nodes[2]
	n.edit(sandbox.ManifestDir+"/etcd.yaml", func(text string) string {
		return strings.Replace(text, "registry.k8s.io/etcd:", "registry.k8s.io/etcd:not-", 1)
	})
	n.eventually("etcd has ended", func() bool {
		c, found, err := n.Container(n.ctx, "etcd")
		return err == nil && (!found || c.State == "exited")
	})
	others := c.nodes[0].atAddress() + "," + c.nodes[1].atAddress()
	c.typed("cp3", "etcdpod apiserver set --yes --etcd-servers "+others, 0)
	must(t, n.WaitAPIServer(n.ctx))
	must(t, n.writeObject("over"))
	if _, ok := c.nodes[0].keys()["/registry/configmaps/default/over"]; !ok {
		t.Error("what it writes is not in the others")
	}
}

func TestAChangeOfTheAPIServerRefusesWhatCannotEndWell(t *testing.T) {
	n := start(t, sandbox.Options{})
	n.copyFile("etcd/ca.crt", "etcd/copy.crt")
	must(t, os.MkdirAll(n.Path("/root/pki"), 0o700))
	n.copyFile("etcd/ca.crt", "../../../root/pki/ca.crt")
	must(t, os.Symlink("/root/pki/ca.crt", n.Path(pkiDir+"away.crt")))
	at := n.atAddress()
	for _, tt := range []struct {
		args string
		code int
		says []string
	}{
		{"", 2, []string{"nothing to set"}},
		{"--all-members --etcd-servers " + at, 2, []string{"--all-members and --etcd-servers cannot be combined: " +
			"both set the servers"}},
		{"--etcd-servers 10.0.0.1:2379", 2, []string{`"10.0.0.1:2379" is not a client URL of an etcd`,
			"comma-separated"}},
		{"--etcd-servers https://10.0.0.1", 2, []string{"not a client URL"}},
		{"--etcd-servers " + at + "," + at, 2, []string{"is named twice"}},
		{"--etcd-servers " + at + ",http://10.0.0.1:2379", 2,
			[]string{"some of the endpoints are https and some http"}},
		{"--etcd-cafile pki/ca.crt", 2, []string{"--etcd-cafile needs an absolute path"}},
		{"--etcd-servers https://127.0.0.1:1", 5,
			[]string{"cannot reach etcd at https://127.0.0.1:1: connection refused: nothing listens there"}},
		{"--etcd-servers https://127.0.0.1:1," + at, 5,
			[]string{"nothing listens there", "use those that do: --etcd-servers " + at}},
		{"--etcd-cafile /etc/kubernetes/pki/ca.crt", 5,
			[]string{"the server's certificate is not signed by the given CA"}},
		{"--etcd-certfile /etc/kubernetes/pki/front-proxy-client.crt --etcd-keyfile " +
			"/etc/kubernetes/pki/front-proxy-client.key", 5, []string{"the server rejects the client certificate"}},
		{"--etcd-keyfile /etc/kubernetes/pki/front-proxy-client.key",
			5, []string{"cannot use the client certificate for etcd"}},
		{"--etcd-cafile /etc/kubernetes/pki/etcd/no.crt", 5,
			[]string{"--etcd-cafile=/etc/kubernetes/pki/etcd/no.crt: /etc/kubernetes/pki/etcd/no.crt is missing"}},
		{"--etcd-cafile /root/pki/ca.crt", 5, []string{
			"no volume of /etc/kubernetes/manifests/kube-apiserver.yaml mounts it",
			"as the API server's container sees them",
		}},
		{"--etcd-cafile /etc/kubernetes/pki/away.crt", 5, []string{"leads to /root/pki/ca.crt, which no volume of"}},
	} {
		n.untouched(func() {
			n.want(tt.code, append([]string{"apiserver", "set", "--yes"}, strings.Fields(tt.args)...), tt.says...)
		})
	}
	must(t, n.StopKubelet(n.ctx))
	n.untouched(func() {
		n.want(5, []string{"apiserver", "set", "--yes", "--etcd-servers", at}, "the kubelet is not running")
	})
	must(t, n.StartKubelet(n.ctx))
	must(t, os.Rename(n.Path(apiServerManifest), n.Path("/root-apiserver.yaml")))
	n.want(5, []string{"apiserver", "set", "--yes", "--etcd-servers", at},
		"no manifest in /etc/kubernetes/manifests runs an API server", "kubeadm init phase control-plane apiserver")
	n.want(5, []string{"apiserver", "show"}, "no manifest in")
}

func TestAnotherClusterIsTakenOnlyWhenAskedFor(t *testing.T) {
	n := start(t, sandbox.Options{})
	other := create(t, sandbox.Options{Node: "other", Address: "127.0.0.9", NoAPIServer: true})
	must(t, other.StartRuntime(n.ctx))
	must(t, other.StartKubelet(n.ctx))
	must(t, other.WaitEtcd(n.ctx))
	must(t, os.MkdirAll(n.Path(pkiDir+"other"), 0o700))
	for from, to := range map[string]string{
		"etcd/ca.crt":               "ca.crt",
		"apiserver-etcd-client.crt": "client.crt",
		"apiserver-etcd-client.key": "client.key",
	} {
		data, err := os.ReadFile(other.Path(pkiDir + from))
		must(t, err)
		n.replace(pkiDir+"other/"+to, data)
	}
	there := []string{
		"apiserver", "set", "--yes", "--etcd-servers", other.atAddress(), "--etcd-cafile", pkiDir + "other/ca.crt",
		"--etcd-certfile", pkiDir + "other/client.crt", "--etcd-keyfile", pkiDir + "other/client.key",
	}
	n.untouched(func() {
		n.want(5, there, other.atAddress()+" is another cluster, with other objects", "--another-cluster")
	})
	before := n.manifests()
	n.want(0, append(there, "--another-cluster"))
	must(t, n.writeObject("there"))
	if _, ok := other.keys()["/registry/configmaps/default/there"]; !ok {
		t.Error("the API server does not use the other cluster")
	}
	n.want(0, []string{
		"apiserver", "set", "--yes", "--another-cluster", "--etcd-servers",
		n.ClientURL(), "--etcd-cafile", pkiDir + "etcd/ca.crt", "--etcd-certfile",
		pkiDir + "apiserver-etcd-client.crt", "--etcd-keyfile", pkiDir + "apiserver-etcd-client.key",
	})
	n.wantManifests(before)
	n.uses(n.ClientURL())
}

// apiServerEndsWith has the API server end at once where one of its flags names the file, from its
// next start on: too late to be refused.
func (n *node) apiServerEndsWith(file string) {
	n.t.Helper()
	n.replaceImage("/kube-apiserver:", func(real string) string {
		script := filepath.Join(n.t.TempDir(), "kube-apiserver")
		text := fmt.Sprintf(`#!/bin/sh
case "$*" in *%s*) exit 1;; esac
exec %s kube-apiserver "$@"
`, file, real)
		must(n.t, os.WriteFile(script, []byte(text), 0o755))
		return script
	})
}

func TestAnAPIServerThatDoesNotGetReadyIsPutBackByItself(t *testing.T) {
	for name, tt := range map[string]struct {
		options sandbox.Options
		wait    string
		says    string
	}{
		"it ends again and again": {sandbox.Options{Backoff: 100 * time.Millisecond}, "3m",
			"its container ended 3 times; its log is in /var/log/pods/kube-system_kube-apiserver-"},
		"the kubelet does not start it again": {sandbox.Options{Backoff: time.Hour, MaxBackoff: time.Hour}, "5s",
			"not within 5s"},
	} {
		t.Run(name, func(t *testing.T) {
			n := start(t, tt.options)
			n.annotate()
			before := n.state()
			n.copyFile("etcd/ca.crt", "etcd/copy.crt")
			n.apiServerEndsWith("etcd/copy.crt")
			set := []string{"apiserver", "set", "--yes", "--etcd-cafile", pkiDir + "etcd/copy.crt"}
			n.want(1, append(set, "--wait-timeout", tt.wait),
				"the API server is not ready with the new manifest", tt.says, "everything is as before")
			must(t, n.WaitAPIServer(n.ctx)) // it was waited for
			n.wantOld(before)
			n.uses(n.ClientURL())
			if run := n.lastRun(); run.State != "rolled back" {
				t.Errorf("the run is %+v", run)
			}
		})
	}
}

func TestAChangeOfTheAPIServerKilledAnywhereEndsWhollyOldOrWhollyNew(t *testing.T) {
	for pass, command := range []string{"resume", "rollback"} {
		t.Run(command, func(t *testing.T) {
			n := start(t, sandbox.Options{})
			n.annotate()
			servers := []string{n.ClientURL(), n.atAddress()} // the same etcd at two addresses
			total := len(n.operations("apiserver", "set", "--etcd-servers", servers[1]))
			for at := range turns(total, pass, 2) {
				afters := []time.Duration{0, 3 * time.Millisecond, 300 * time.Millisecond}
				for _, after := range oneOf(at/2, afters) {
					before := n.manifests()
					set := []string{"apiserver", "set", "--yes", "--etcd-servers", servers[1]}
					n.killAt(moment{at, "started", after}, set...)
					run := n.open()
					n.want(3, set, run.ID, "etcdpod resume")
					n.want(0, []string{"apiserver", "show"}, servers[0][:12])
					n.done(command)
					n.wantEnding(command)
					if command == "resume" {
						before["kube-apiserver.yaml"] = strings.Replace(before["kube-apiserver.yaml"],
							servers[0], servers[1], 1)
						slices.Reverse(servers)
					}
					n.wantManifests(before)
					n.uses(servers[0])
					n.wantAllRunning()
					if t.Failed() {
						t.Fatalf("this was after a kill %v after operation %d, in %s at: %s",
							after, at, run.Phase, run.Operation)
					}
				}
			}
		})
	}
}

func TestAnAPIServersManifestThatIsEditedMeanwhileStaysAsItIs(t *testing.T) {
	n := start(t, sandbox.Options{})
	theirs := func(text string) string { return "# theirs\n" + text }
	set := []string{"apiserver", "set", "--yes", "--etcd-servers", n.atAddress()}

	// Before it is replaced, where the run waits when its first phase is reached: it goes back, and
	// nothing of theirs is touched.
	n.killWhen(func(e event) bool { return e.State == "phase" }, set...)
	if at := n.open().Operation; !strings.HasPrefix(at, "make the directory") {
		t.Fatalf("it has stopped at %q", at)
	}
	n.edit(apiServerManifest, theirs)
	edited := n.manifests()
	n.want(1, []string{"resume"}, "cannot replace "+apiServerManifest+
		": someone has changed it since the run was planned", "everything is as before")
	n.wantManifests(edited)

	// After it was replaced: only a person can say which one is right.
	n.killWhen(func(e event) bool { return e.State == "started" && e.Phase == "await-apiserver" }, set...)
	run := n.open()
	n.edit(apiServerManifest, theirs)
	edited = n.manifests()
	kept := run.Path + "/manifests/kube-apiserver.yaml"
	n.want(3, []string{"rollback"}, "cannot put back "+apiServerManifest+
		": someone has changed it since the run began", kept)
	n.wantManifests(edited)
	old, err := os.ReadFile(n.Path(kept))
	must(t, err)
	n.edit(apiServerManifest, func(string) string { return string(old) })
	n.done("rollback")
	n.ready()
	n.uses(n.ClientURL())
}

func TestStatusWarnsOfAnEtcdThatAnswersStrangers(t *testing.T) {
	n := start(t, sandbox.Options{NoAPIServer: true})
	if out := n.run("status"); strings.Contains(out.Stdout, "no certificate") ||
		strings.Contains(out.Stdout, "plain HTTP") {
		t.Errorf("status warns of a well-kept etcd: %s", out.Stdout)
	}
	n.edit(sandbox.ManifestDir+"/etcd.yaml", func(text string) string {
		for _, flag := range []string{
			"    - --client-cert-auth=true\n", "    - --trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt\n",
		} {
			if !strings.Contains(text, flag) {
				t.Fatalf("no %q in %s", flag, text)
			}
			text = strings.Replace(text, flag, "", 1)
		}
		return text
	})
	n.eventually("the new etcd serves", func() bool {
		return strings.Contains(n.run("status").Stdout, "etcd answers at "+n.ClientURL()+" without requiring a "+
			"client certificate")
	})
	n.want(6, []string{"status"}, "etcd answers at "+n.atAddress()+
		" without requiring a client certificate: anyone who can reach it can read and change everything")
}

func TestPlainHTTPIsOperatedWithAWarning(t *testing.T) {
	n := start(t, sandbox.Options{PlainHTTP: true})
	at := strings.Replace(n.atAddress(), "https:", "http:", 1)
	n.want(6, []string{"status"}, "etcd answers over plain HTTP at "+n.ClientURL(),
		"etcd answers over plain HTTP at "+at)
	n.untouched(func() {
		n.want(0, []string{"apiserver", "set", "--dry-run", "--etcd-servers", at}, "over plain HTTP, anyone who can "+
			"reach etcd")
		n.want(0, []string{"apiserver", "show"}, n.ClientURL()+" is plain HTTP")
	})
	n.done("apiserver", "set", "--yes", "--etcd-servers", at)
	n.uses(at)
}
