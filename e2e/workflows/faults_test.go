package workflows

import (
	"crypto/x509"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

// fault is one that is planted on a node, and what `status` must say of it.
type fault struct {
	name  string
	plant func(n *node) (back func())
	code  string   // of the finding
	says  string   // in its text
	do    string   // what to run or do: in its text, or the next thing to do
	args  []string // of status; nil: no backup is asked for
}

// names holds `status` to a fault that was planted.
func (n *node) names(f fault) {
	n.t.Helper()
	if f.args == nil {
		f.args = []string{"--max-backup-age", "none"}
	}
	var l looked
	result := n.run(append([]string{"status", "-o", "json"}, f.args...)...)
	decode(n.t, result.Stdout, &l)
	if result.Code != 6 {
		n.t.Errorf("%s: status exits with %d: %s", f.name, result.Code, result.Stderr)
	}
	for _, found := range l.Findings {
		if found.Code == f.code && strings.Contains(found.Text, f.says) &&
			strings.Contains(found.Text+"\n"+l.Next, f.do) {
			return
		}
	}
	n.t.Errorf("%s: %s with %q and %q is not in %+v; next: %s", f.name, f.code, f.says, f.do, l.Findings, l.Next)
}

// well waits until `status` finds nothing: what was planted is undone, and an API server may need a
// moment.
func (n *node) well() {
	n.t.Helper()
	n.eventually("nothing is wrong any more", func() bool {
		return n.run("status", "--max-backup-age", "none").Code == 0
	})
}

// TestPlantedFaultsAreNamedWithWhatToDo plants one after the other on a node that serves; in
// between nothing is found.
func TestPlantedFaultsAreNamedWithWhatToDo(t *testing.T) {
	n := start(t, sandbox.Options{})
	n.done("backup")
	n.looks(0)
	for _, f := range slices.Concat(faultsOfBackups(), faultsOfTheNode(), faultsOfManifests(), faultsOfCertificates(),
		faultsOfEtcd()) {
		back := f.plant(n)
		n.names(f)
		back()
		n.well()
	}
}

func faultsOfBackups() []fault {
	const dir = "/var/lib/etcdpod/backups"
	return []fault{
		{"none is there", func(n *node) func() {
			must(n.t, os.MkdirAll(n.Path("/srv/empty"), 0o700))
			return func() {}
		}, "backup-missing", "there is no backup of this node in /srv/empty", "etcdpod backup",
			[]string{"--dir", "/srv/empty"}},
		{"their directory is gone", func(*node) func() { return func() {} }, "backup-dir-unreadable",
			"cannot list the backups", "etcdpod backup", []string{"--dir", "/srv/gone"}},
		{"the newest is old", func(n *node) func() {
			file := dir + "/" + n.sidecars(dir)[0]
			text, err := os.ReadFile(n.Path(file))
			must(n.t, err)
			taken := regexp.MustCompile(`"takenAt": *"[^"]*"`).FindString(string(text))
			return n.written(file, taken, `"takenAt": "`+time.Now().AddDate(0, -1, 0).Format(time.RFC3339)+`"`)
		}, "backup-old", "hours old", "`etcdpod backup`", []string{"--dir", dir}},
	}
}

// sidecars are the descriptions in a directory of backups.
func (n *node) sidecars(dir string) []string {
	return slices.DeleteFunc(n.files(dir), func(name string) bool { return !strings.HasSuffix(name, ".json") })
}

func faultsOfTheNode() []fault {
	const config, endpoint, unit = "/var/lib/kubelet/config.yaml", "containerRuntimeEndpoint:",
		"/etc/systemd/system/kubelet.service"
	kubelet := func(now string) func(*node) func() {
		return func(n *node) func() {
			service := n.written(unit, "", "[Service]\nExecStart=/usr/bin/kubelet --config="+config+"\n")
			back := n.written(config, endpoint, now+endpoint)
			return func() { back(); service() }
		}
	}
	image := func(name string) func(*node) func() {
		return func(n *node) func() {
			there := n.Images()
			n.without(name)
			return func() { must(n.t, n.SetImages(there)) }
		}
	}
	return []fault{
		{"etcd's image is gone", image("/etcd:"), "cannot-start", "is not on this node", "crictl pull ", nil},
		{"the API server's image is gone", image("/kube-apiserver:"), "cannot-start", "is not on this node",
			"crictl pull ", nil},
		{"the image of every pod's sandbox is gone", image(sandbox.SandboxImage), "cannot-start", "every pod's sandbox",
			"crictl pull ", nil},
		{"its disk is not mounted", func(n *node) func() {
			return n.written("/etc/fstab", "", "UUID=1 /var/lib/etcd ext4 nofail 0 2\n")
		}, "cannot-start", "nothing is mounted there", "mount /var/lib/etcd", nil},
		{"a file of the kubelet's is gone", kubelet("tlsCertFile: gone.crt\n"), "cannot-start",
			"the kubelet would not start: /var/lib/kubelet/gone.crt", "put it back", nil},
		{"the kubelet's configuration is broken", kubelet("staticPodPath: [\n"), "cannot-start",
			"cannot read the kubelet's configuration", "correct that file", nil},
		{"the kubelet is stopped", func(n *node) func() {
			must(n.t, n.StopKubelet(n.ctx))
			return func() { must(n.t, n.StartKubelet(n.ctx)) }
		}, "kubelet-stopped", "the kubelet is not running", "systemctl start kubelet", nil},
		{"the administrator's kubeconfig has ended", func(n *node) func() {
			return n.administered(func() { n.kubeconfig("admin.conf", time.Now().Add(-24*time.Hour)) })
		}, "certificate-expired", "admin.conf", "`kubeadm certs renew`", nil},
		{"there is no administrator's kubeconfig", func(n *node) func() {
			return n.administered(func() { must(n.t, os.Remove(n.Path("/etc/kubernetes/admin.conf"))) })
		}, "kubeconfigs-missing", "there is no administrator's kubeconfig", "kubeadm init phase kubeconfig admin", nil},
	}
}

// administered does something to the administrator's kubeconfig where there is no other, and
// returns what undoes it.
func (n *node) administered(change func()) (back func()) {
	files := map[string][]byte{}
	for _, name := range []string{"admin.conf", "super-admin.conf"} {
		if text, err := os.ReadFile(n.Path("/etc/kubernetes/" + name)); err == nil {
			files["/etc/kubernetes/"+name] = text
		}
	}
	must(n.t, os.RemoveAll(n.Path("/etc/kubernetes/super-admin.conf")))
	change()
	return func() { n.restorePKI(files) }
}

func faultsOfManifests() []fault {
	const etcd = sandbox.ManifestDir + "/etcd.yaml"
	// The kubelet would act on them at once.
	stopped := func(plant func(n *node) (back func())) func(*node) func() {
		return func(n *node) func() {
			must(n.t, n.StopKubelet(n.ctx))
			back := plant(n)
			return func() { back(); must(n.t, n.StartKubelet(n.ctx)) }
		}
	}
	edited := func(old, now string) func(*node) func() {
		return stopped(func(n *node) func() { return n.written(etcd, old, now) })
	}
	flag := func(flag string) func(*node) func() { return edited("- --name=", "- "+flag+"\n    - --name=") }
	return []fault{
		{"an address that is none of the node's", stopped(func(n *node) func() {
			return n.written(etcd, n.Address+":", "192.0.2.7:")
		}), "cannot-start", "no interface of this node has the address 192.0.2.7", "give the node 192.0.2.7 back", nil},
		{"a flag that etcd does not know", flag("--enable-v2=false"), "cannot-start", "does not know --enable-v2",
			"remove them from /etc/kubernetes/manifests/etcd.yaml", nil},
		{"a flag with a value that it cannot read", flag("--snapshot-count=10k"), "cannot-start",
			"--snapshot-count=10k", "correct it in /etc/kubernetes/manifests/etcd.yaml", nil},
		{"a flag that would remove all other members", flag("--force-new-cluster"), "etcd-force-new-cluster",
			"its next start would remove all other members", "remove --force-new-cluster from", nil},
		{"a configuration file that is gone", edited("    - --data-dir=",
			"    - --config-file=/etc/kubernetes/pki/etcd/gone.yml\n    - --data-dir="), "etcd-manifest-unusable",
			"gone.yml does not exist", "put it back: from a backup of /etc/kubernetes", nil},
		{"a shell that starts etcd", edited("    - etcd\n", "    - sh\n    - -c\n    - exec etcd\n"),
			"etcd-manifest-unusable", "starts etcd through a shell", "have the manifest start etcd itself", nil},
		{"etcd's manifest is gone", stopped(func(n *node) func() {
			must(n.t, os.Rename(n.Path(etcd), n.Path("/srv-etcd.yaml")))
			return func() { must(n.t, os.Rename(n.Path("/srv-etcd.yaml"), n.Path(etcd))) }
		}), "etcd-manifest-missing", "no manifest in /etc/kubernetes/manifests runs etcd",
			"put its manifest back into /etc/kubernetes/manifests", nil},
		{"a copy of etcd's manifest", stopped(func(n *node) func() {
			text, err := os.ReadFile(n.Path(etcd))
			must(n.t, err)
			return n.written(etcd+".bak", "", string(text))
		}), "manifest-doubled", "2 files claim the pod kube-system/etcd", "move the copies out of the directory", nil},
		{"a second etcd", stopped(func(n *node) func() {
			file := n.Path(n.second(freePorts(n.t)))
			return func() { must(n.t, os.Remove(file)) }
		}), "etcd-another", "runs another etcd, kube-system/etcd-events", "etcdpod does not back it up", nil},
		{"kubeadm would start etcd on another directory", func(n *node) func() {
			n.kubeadms("dataDir: "+sandbox.DataDir, "dataDir: /srv/old")
			return func() { n.kubeadms("dataDir: /srv/old", "dataDir: "+sandbox.DataDir) }
		}, "kubeadm-data-dir", "says /srv/old", "correct etcd.local.dataDir", nil},
	}
}

// kubeadms replaces a text in kubeadm's ClusterConfiguration.
func (n *node) kubeadms(old, now string) {
	n.t.Helper()
	const at = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config"
	n.ready()
	api, err := n.API()
	must(n.t, err)
	var config map[string]any
	must(n.t, api.Do(n.ctx, http.MethodGet, at, nil, &config))
	data := config["data"].(map[string]any)
	data["ClusterConfiguration"] = strings.Replace(data["ClusterConfiguration"].(string), old, now, 1)
	must(n.t, api.Do(n.ctx, http.MethodPut, at, config, nil))
}

func faultsOfCertificates() []fault {
	pki := func(change func(n *node)) func(*node) func() {
		return func(n *node) func() { back := n.keepsPKI(); change(n); return back }
	}
	other := func(base, ca string, change func(*x509.Certificate)) func(*node) func() {
		return pki(func(n *node) { n.swap(base, ca, change) })
	}
	const leaf = "/etc/kubernetes/pki/etcd/healthcheck-client.crt"
	few, gone := in(10*24*time.Hour), in(-time.Hour)
	return []fault{
		{"few days are left", other("etcd/server", "etcd/ca", few), "certificate-expiring",
			"pki/etcd/server.crt: it expires in 9 days", "etcdpod certs renew", nil},
		{"a client's has ended", other("etcd/healthcheck-client", "etcd/ca", gone), "certificate-expired",
			leaf + ": it expired on", "etcdpod certs renew", nil},
		{"it is not valid yet", other("etcd/healthcheck-client", "etcd/ca", func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(48*time.Hour), time.Now().AddDate(1, 0, 0)
		}), "certificate-not-yet-valid", leaf, "clock", nil},
		{"the key is another's", pki(func(n *node) {
			n.copyFile("etcd/healthcheck-client.key", "apiserver-etcd-client.key")
		}), "cannot-start", "pki/apiserver-etcd-client.key is not the key for", "put back the file that matches", nil},
		{"another CA signed it", other("apiserver-etcd-client", "front-proxy-ca", func(*x509.Certificate) {}),
			"cannot-start", "is not signed by the CA in /etc/kubernetes/pki/etcd/ca.crt",
			"put back the CA that signed it", nil},
		{"it is none", pki(func(n *node) { n.replace(pkiDir+"etcd/peer.crt", []byte("hello")) }),
			"certificate-unreadable", "/etc/kubernetes/pki/etcd/peer.crt", "put back", nil},
		{"it is gone", pki(func(n *node) { must(n.t, os.Remove(n.Path(pkiDir+"etcd/peer.crt"))) }),
			"certificate-missing", "pki/etcd/peer.crt: it is missing", "put", nil},
		{"few days are left of the API server's", other("apiserver", "ca", few), "certificate-expiring",
			"pki/apiserver.crt: it expires in 9 days", "`kubeadm certs renew`", nil},
		{"the CA is empty", pki(func(n *node) { n.replace(pkiDir+"ca.crt", nil) }), "cannot-start",
			"/ca.crt (it holds no certificate that can be read)", "put", nil},
		{"the key of the peers is empty", pki(func(n *node) { n.replace(pkiDir+"etcd/peer.key", nil) }), "cannot-start",
			"cannot read the key /etc/kubernetes/pki/etcd/peer.key", "put", nil},
		{"the key of service accounts is empty", pki(func(n *node) { n.replace(pkiDir+"sa.pub", nil) }), "cannot-start",
			"/sa.pub (it holds no key that can be read)", "put", nil},
	}
}

// keepsPKI returns what puts all files of the PKI back, with the times of what programs have read.
func (n *node) keepsPKI() (back func()) {
	n.t.Helper()
	saved, times := n.savePKI(), map[string]time.Time{}
	for host := range maps.Keys(saved) {
		st, err := os.Stat(n.Path(host))
		must(n.t, err)
		times[host] = st.ModTime()
	}
	return func() {
		n.restorePKI(saved)
		for host, at := range times {
			must(n.t, os.Chtimes(n.Path(host), at, at))
		}
	}
}

// alarm raises one of etcd's alarms.
func alarm(which pb.AlarmType) func(*node) (back func()) {
	return func(n *node) func() {
		set := func(action pb.AlarmRequest_AlarmAction) {
			n.etcd(func(c *clientv3.Client) error {
				s, err := c.Status(n.ctx, n.ClientURL())
				if err != nil {
					return err
				}
				_, err = pb.NewMaintenanceClient(c.ActiveConnection()).Alarm(n.ctx, &pb.AlarmRequest{
					Action: action, MemberID: s.Header.MemberId, Alarm: which})
				return err
			})
		}
		set(pb.AlarmRequest_ACTIVATE)
		return func() { set(pb.AlarmRequest_DEACTIVATE) }
	}
}

func faultsOfEtcd() []fault {
	return []fault{
		{"no space", alarm(pb.AlarmType_NOSPACE), "etcd-alarm", "the alarm NOSPACE", "etcdpod defrag", nil},
		{"corruption", alarm(pb.AlarmType_CORRUPT), "etcd-alarm", "the alarm CORRUPT", "etcdpod backup", nil},
		{"a downgrade that nobody finished", func(n *node) func() {
			n.etcd(func(c *clientv3.Client) error {
				_, err := c.Downgrade(n.ctx, clientv3.DowngradeEnable, "3.5.0")
				return err
			})
			return func() {
				n.etcd(func(c *clientv3.Client) error {
					_, err := c.Downgrade(n.ctx, clientv3.DowngradeCancel, "")
					return err
				})
			}
		}, "etcd-downgrade", "a downgrade of etcd to 3.5", "etcdpod downgrade cancel", nil},
		{"an API server that is gone", func(n *node) func() {
			const key = "/registry/masterleases/192.0.2.9"
			n.put(key, "k8s\x00")
			return func() {
				n.etcd(func(c *clientv3.Client) error { _, err := c.Delete(n.ctx, key); return err })
			}
		}, "apiserver-dead", "an API server at 192.0.2.9 is registered in etcd",
			"etcdctl del /registry/masterleases/192.0.2.9", nil},
		{"a learner that never started", func(n *node) func() {
			var id uint64
			n.etcd(func(c *clientv3.Client) error {
				r, err := c.MemberAddAsLearner(n.ctx, []string{"https://127.0.0.99:2380"})
				if err == nil {
					id = r.Member.ID
				}
				return err
			})
			return func() {
				n.etcd(func(c *clientv3.Client) error { _, err := c.MemberRemove(n.ctx, id); return err })
			}
		}, "member-never-started", "is a learner, but holds nothing", "etcdpod remove ", nil},
		{"etcd hangs", func(n *node) func() { return n.frozen() }, "etcd-unreachable", "",
			"read etcd's log in /var/log/pods", nil},
		{"etcd has ended, and the kubelet", func(n *node) func() {
			stopEtcd(n)
			return func() { must(n.t, n.StartKubelet(n.ctx)); must(n.t, n.WaitEtcd(n.ctx)) }
		}, "container-stopped", "etcd of /etc/kubernetes/manifests/etcd.yaml is not running", "start the kubelet", nil},
	}
}

// etcdProcess is the process of a node's etcd.
func (n *node) etcdProcess() int {
	n.t.Helper()
	etcd, found, err := n.Container(n.ctx, "etcd")
	if must(n.t, err); !found {
		n.t.Fatal("there is no etcd")
	}
	return etcd.PID
}

// frozen stops etcd's process as a debugger does, and returns what has it go on.
func (n *node) frozen() (goOn func()) {
	n.t.Helper()
	pid := n.etcdProcess()
	must(n.t, syscall.Kill(pid, syscall.SIGSTOP))
	goOn = func() { _ = syscall.Kill(pid, syscall.SIGCONT) } // at the end it may be gone
	n.t.Cleanup(goOn)
	return goOn
}
