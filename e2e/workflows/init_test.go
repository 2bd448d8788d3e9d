package workflows

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/e2e/binaries"
	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

// bare makes a node with a kubelet, on which nothing of etcd is left.
func bare(t *testing.T, version string) *node {
	t.Helper()
	t.Parallel()
	n := create(t, sandbox.Options{EtcdBinary: etcdBinary(t, version), NoAPIServer: true})
	n.clear()
	must(t, n.StartRuntime(n.ctx))
	must(t, n.StartKubelet(n.ctx))
	must(t, os.WriteFile(n.kubeadm(), []byte(n.configuration("")), 0o600))
	return n
}

// clear takes away all that init makes.
func (n *node) clear() {
	n.t.Helper()
	must(n.t, os.RemoveAll(n.Path(sandbox.ManifestDir+"/etcd.yaml")))
	must(n.t, os.RemoveAll(n.Path(sandbox.ManifestDir+"/kube-apiserver.yaml")))
	if _, err := os.Stat(n.Path("/run/containerd")); err == nil {
		n.eventually("etcd has ended", func() bool { return len(n.running()) == 0 })
	}
	for _, gone := range append([]string{"etcd/ca"}, renewed()...) {
		for _, ending := range []string{".crt", ".key"} {
			must(n.t, os.RemoveAll(n.Path(pkiDir+gone+ending)))
		}
	}
	must(n.t, os.RemoveAll(n.Path(pkiDir+"etcd")))
	must(n.t, os.RemoveAll(n.Path(sandbox.DataDir)))
}

// kubeadm is where kubeadm's configuration is, a path of this machine.
func (n *node) kubeadm() string { return n.Path("/root-kubeadm.yaml") }

// configuration is kubeadm's, with the sandbox's ports; more goes below etcd.local.
func (n *node) configuration(more string) string {
	client := fmt.Sprintf("https://%s:%d", n.Address, n.Ports.EtcdClient)
	var args strings.Builder
	for _, arg := range [][2]string{
		{"advertise-client-urls", client}, {"listen-client-urls", n.ClientURL() + "," + client},
		{"initial-advertise-peer-urls", n.PeerURL()}, {"listen-peer-urls", n.PeerURL()},
		{"initial-cluster", n.Node + "=" + n.PeerURL()},
		{"listen-metrics-urls", fmt.Sprintf("http://127.0.0.1:%d", n.Ports.EtcdMetrics)},
	} {
		fmt.Fprintf(&args, "    - name: %s\n      value: %s\n", arg[0], arg[1])
	}
	return fmt.Sprintf(`apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
nodeRegistration:
  name: %s
localAPIEndpoint:
  advertiseAddress: 10.0.0.11
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: v1.37.2
encryptionAlgorithm: ECDSA-P256
etcd:
  local:
    imageTag: %s-0
    serverCertSANs: [%s]
    peerCertSANs: [%s]
    extraArgs:
%s%s`, n.Node, n.EtcdVersion, n.Address, n.Address, args.String(), more)
}

// wantBegun holds the node to an etcd with all that it needs.
func (n *node) wantBegun() {
	n.t.Helper()
	must(n.t, n.WaitEtcd(n.ctx))
	n.put("/begun", time.Now().String())
	for _, base := range append([]string{"etcd/ca"}, renewed()...) {
		n.wantMode(pkiDir+base+".crt", 0o644)
		n.wantMode(pkiDir+base+".key", 0o600)
	}
	n.wantMode(sandbox.ManifestDir+"/etcd.yaml", 0o600)
	n.wantMode(sandbox.DataDir, fs.ModeDir|0o700)
	must(n.t, filepath.WalkDir(n.Path("/etc"), func(path string, _ fs.DirEntry, err error) error {
		if strings.Contains(path, "etcdpod") {
			n.t.Errorf("%s is left behind", path)
		}
		return err
	}))
	if keys, err := filepath.Glob(n.Path("/var/lib/etcdpod/runs/*/new/*.key")); err != nil || len(keys) > 0 {
		n.t.Errorf("keys lie about: %v, %v", keys, err)
	}
}

// wantNothing holds the node to what it was before.
func (n *node) wantNothing() {
	n.t.Helper()
	for _, gone := range []string{
		pkiDir + "etcd", pkiDir + "apiserver-etcd-client.crt",
		pkiDir + "apiserver-etcd-client.key", sandbox.ManifestDir + "/etcd.yaml", sandbox.DataDir,
	} {
		if _, err := os.Lstat(n.Path(gone)); !os.IsNotExist(err) {
			n.t.Errorf("%s is there: %v", gone, err)
		}
	}
	if !n.kubeletRuns() {
		n.t.Error("the kubelet does not run")
	}
	if now := n.running(); len(now) > 0 {
		n.t.Errorf("these run: %v", now)
	}
}

func (n *node) wantMode(host string, mode fs.FileMode) {
	n.t.Helper()
	if st, err := os.Stat(n.Path(host)); err != nil || st.Mode() != mode {
		n.t.Errorf("%s is %v, not %v: %v", host, st, mode, err)
	}
}

// serves asks etcd as the owner of the healthcheck client's certificate does.
func (n *node) serves(ctx context.Context) error {
	c, err := n.EtcdClient()
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Get(ctx, "/")
	return err
}

func TestInitMakesAMemberFromNothing(t *testing.T) {
	for _, version := range []string{binaries.Etcd36, binaries.Etcd37} {
		t.Run(version, func(t *testing.T) {
			n := bare(t, version)
			n.untouched(func() {
				n.want(0, []string{"init", "--config", n.kubeadm(), "--dry-run"},
					"issue a new etcd-ca with a new key, signed by itself",
					"write /etc/kubernetes/manifests/etcd.yaml", "commit point", "Nothing was changed")
				n.want(2, []string{"init", "--config", n.kubeadm()}, "--yes")
			})
			out := n.want(0, []string{"init", "--config", n.kubeadm(), "--yes", "-o", "json", "--verbose"}, "completed")
			n.noKeyIn(out.Stdout + out.Stderr)
			n.wantBegun()
			n.untouched(func() {
				n.want(0, []string{"init", "--config", n.kubeadm(), "--yes"}, "Nothing to do")
				n.want(0, []string{"init", "--config", n.kubeadm(), "--yes", "-o", "json"}, `"state":"unchanged"`)
				n.want(0, []string{"init", "phase", "certs", "--config", n.kubeadm(), "--yes"}, "Nothing to do")
			})
			n.strangersAreRefused()
			n.want(0, []string{"backup"})
		})
	}
}

func (n *node) strangersAreRefused() {
	n.t.Helper()
	saved := n.savePKI()
	for name, spoil := range map[string]func(){
		"a certificate of another CA":  func() { n.swap("etcd/healthcheck-client", "ca", in(time.Hour)) },
		"a certificate that has ended": func() { n.swap("etcd/healthcheck-client", "etcd/ca", in(-time.Hour)) },
	} {
		spoil()
		base := n.Path(pkiDir + "etcd/healthcheck-client")
		pair, err := tls.LoadX509KeyPair(base+".crt", base+".key")
		must(n.t, err)
		n.isRefused(name, pair)
		n.restorePKI(saved)
	}
	n.isRefused("who has no certificate", tls.Certificate{})
	must(n.t, n.serves(n.ctx))
}

// isRefused holds etcd to refuse the certificate of a client. In TLS 1.3 it judges after the
// client's handshake: an alert tells of it where the first byte of HTTP/2 would be.
func (n *node) isRefused(who string, with tls.Certificate) {
	n.t.Helper()
	config := insecure()
	config.NextProtos = []string{"h2"}
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &with, nil }
	dialer := tls.Dialer{Config: config}
	conn, err := dialer.DialContext(n.ctx, "tcp", strings.TrimPrefix(n.ClientURL(), "https://"))
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
		must(n.t, conn.Close())
	}
	if alert := (*net.OpError)(nil); !errors.As(err, &alert) || alert.Op != "remote error" {
		n.t.Errorf("%s is not refused: %v", who, err)
	}
}

func TestInitKilledAnywhereEndsWhollyOldOrWhollyNew(t *testing.T) {
	for pass, command := range []string{"resume", "rollback"} {
		t.Run(command, func(t *testing.T) {
			n := bare(t, binaries.Etcd36)
			total := len(n.operations("init", "--config", n.kubeadm()))
			for at := range turns(total, pass, 2) {
				after := time.Duration(at%3) * time.Millisecond
				n.killAt(moment{at, "started", after}, "init", "--config", n.kubeadm(), "--yes")
				run := n.open()
				n.want(3, []string{"init", "--config", n.kubeadm(), "--yes"}, run.ID, "etcdpod resume")
				n.done(command)
				n.wantEnding(command)
				if command == "resume" {
					n.wantBegun()
				} else {
					n.wantNothing()
				}
				if t.Failed() {
					t.Fatalf("this was after a kill at operation %d, in %s at: %s", at, run.Phase, run.Operation)
				}
				n.clear()
				n.done("prune", "--yes")
			}
		})
	}
}

func TestInitRefusesWhatCannotEndWell(t *testing.T) {
	n := bare(t, binaries.Etcd36)
	config := func(old, becomes string) func() {
		return func() {
			text := strings.Replace(n.configuration(""), old, becomes, 1)
			if text == n.configuration("") {
				t.Fatalf("no %q in the configuration", old)
			}
			must(t, os.WriteFile(n.kubeadm(), []byte(text), 0o600))
		}
	}
	var taken net.Listener
	for _, tt := range []struct {
		name  string
		spoil func()
		code  int
		says  []string
	}{
		{"no configuration", func() { must(t, os.Remove(n.kubeadm())) },
			2, []string{"cannot read kubeadm's configuration"}},
		{"an unknown field", config("imageTag:", "imageTagg:"), 2, []string{"imageTagg", "line 14"}},
		{"a field twice", config("    imageTag:", "    imageTag: 3.6.5-0\n    imageTag:"),
			2, []string{"imageTag", "line 1"}},
		{"an API that kubeadm has given up", config("v1beta4\nkind: ClusterConfiguration",
			"v1beta3\nkind: ClusterConfiguration"), 2, []string{"line 8", "kubeadm config migrate"}},
		{"an API behind a flag", config("v1beta4\nkind: ClusterConfiguration", "v1\nkind: ClusterConfiguration"),
			2, []string{"line 8", "--allow-experimental-api"}},
		{"no YAML", config("etcd:\n", "etcd: [\n"), 2, []string{"cannot use kubeadm's configuration"}},
		{"clients without a certificate",
			config("    extraArgs:\n", "    extraArgs:\n    - name: client-cert-auth\n      value: \"false\"\n"),
			5, []string{"answers without client certificates", "--client-cert-auth is not true"}},
		{"plain HTTP", config("listen-peer-urls\n      value: https", "listen-peer-urls\n      value: http"),
			5, []string{"answers without client certificates", "which is not https"}},
		{"a port that is taken", func() {
			var err error
			taken, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", n.Ports.EtcdClient))
			must(t, err)
		}, 5, []string{"another program already does"}},
		{"listening at an address of another machine", config("listen-peer-urls\n      value: "+n.PeerURL(),
			"listen-peer-urls\n      value: https://192.0.2.1:2380"),
			5, []string{"192.0.2.1:2380", "it is not an address of this machine"}},
		{"a data directory with pictures", func() {
			must(t, os.MkdirAll(n.Path(sandbox.DataDir+"/pictures"), 0o700))
		}, 5, []string{"is not empty: it holds pictures"}},
		{"a quota that is no number",
			config("    extraArgs:\n", "    extraArgs:\n    - name: quota-backend-bytes\n      value: 8Gi\n"),
			5, []string{`quota-backend-bytes is "8Gi"`}},
		{"a flag that etcd does not know",
			config("    extraArgs:\n", "    extraArgs:\n    - name: enable-v2\n      value: \"false\"\n"),
			5, []string{"does not know --enable-v2, and would exit at once", "etcd.local.extraArgs"}},
		{"a stopped kubelet", func() { must(t, n.StopKubelet(n.ctx)) },
			5, []string{"the kubelet is not running", "init phase certs"}},
	} {
		tt.spoil()
		n.untouched(func() { n.want(tt.code, []string{"init", "--config", n.kubeadm(), "--yes"}, tt.says...) })
		if taken != nil {
			must(t, taken.Close())
			taken = nil
		}
		must(t, os.RemoveAll(n.Path(sandbox.DataDir)))
		must(t, n.StartKubelet(n.ctx))
		must(t, os.WriteFile(n.kubeadm(), []byte(n.configuration("")), 0o600))
	}
	n.without("/etcd:")
	n.want(0, []string{"init", "--config", n.kubeadm(), "--dry-run"}, "the kubelet will have to pull it", "crictl pull")
	must(t, n.SetImages(n.Images()))
	n.done("init", "--config", n.kubeadm(), "--yes")
	n.wantBegun()
	n.knowsTheDataOfAnother()
	must(t, n.StopKubelet(n.ctx)) // so that it does not run what is spoilt
	n.refusesWhatDoesNotMatch()
}

// knowsTheDataOfAnother: a member whose manifest is lost goes on with its data; one of another
// name does not get them.
func (n *node) knowsTheDataOfAnother() {
	n.t.Helper()
	must(n.t, os.Remove(n.Path(sandbox.ManifestDir+"/etcd.yaml")))
	n.eventually("etcd has ended", func() bool { return len(n.running()) == 0 })
	other := strings.ReplaceAll(n.configuration(""), n.Node, "cp9")
	must(n.t, os.WriteFile(n.kubeadm(), []byte(other), 0o600))
	for _, args := range [][]string{{"init"}, {"init", "phase", "render-etcd"}} {
		n.untouched(func() {
			n.want(5, append(args, "--config", n.kubeadm(), "--yes"),
				"holds data of another cluster: its members are", "its members are "+n.Node)
		})
	}
	must(n.t, os.WriteFile(n.kubeadm(), []byte(n.configuration("")), 0o600))
	n.done("init", "--config", n.kubeadm(), "--yes")
	c, err := n.EtcdClient()
	must(n.t, err)
	defer c.Close()
	if got, err := c.Get(n.ctx, "/begun"); err != nil || len(got.Kvs) == 0 {
		n.t.Errorf("the data is lost: %v", err)
	}
}

// refusesWhatDoesNotMatch: on a node whose etcd serves.
func (n *node) refusesWhatDoesNotMatch() {
	n.t.Helper()
	manifest := n.manifests()["etcd.yaml"]
	_, text, _ := strings.Cut(manifest, "\n")
	for _, tt := range []struct {
		name  string
		spoil func()
		says  []string
	}{
		{"a manifest edited by hand", func() {
			n.replace(sandbox.ManifestDir+"/.etcd.new",
				[]byte(strings.Replace(text, "snapshot-count=10000", "snapshot-count=5000", 1)))
			must(n.t, os.Rename(n.Path(sandbox.ManifestDir+"/.etcd.new"), n.Path(sandbox.ManifestDir+"/etcd.yaml")))
		}, []string{`it has "- --snapshot-count=5000", it lacks "- --snapshot-count=10000"`}},
		{"a CA with another's key", func() { n.copyFile("ca.key", "etcd/ca.key") },
			[]string{"etcd/ca.key is not the key for"}},
		{"a certificate that has ended", func() { n.swap("etcd/server", "etcd/ca", in(-time.Hour)) },
			[]string{"etcd/server.crt expired"}},
		{"a certificate of another CA", func() { n.swap("etcd/peer", "ca", in(time.Hour)) },
			[]string{"etcd/peer.crt is not signed by the CA"}},
		{"names that the configuration asks for besides", func() {
			must(n.t, os.WriteFile(n.kubeadm(), []byte(strings.Replace(n.configuration(""),
				"serverCertSANs: [", "serverCertSANs: [lb.example.org, ", 1)), 0o600))
		}, []string{"etcd/server.crt", "lb.example.org", "certs renew"}},
		{"a key that is gone", func() { must(n.t, os.Remove(n.Path(pkiDir+"etcd/peer.key"))) },
			[]string{"etcd/peer.key is missing"}},
		{"an external CA without its certificates", func() {
			must(n.t, os.Remove(n.Path(pkiDir+"etcd/ca.key")))
			must(n.t, os.Remove(n.Path(pkiDir+"apiserver-etcd-client.crt")))
			must(n.t, os.Remove(n.Path(pkiDir+"apiserver-etcd-client.key")))
		}, []string{"apiserver-etcd-client.crt is missing", "certs generate-csr"}},
	} {
		saved := n.savePKI()
		tt.spoil()
		n.untouched(func() {
			n.want(5, []string{"init", "phase", phaseOf(tt.name), "--config", n.kubeadm(), "--yes"}, tt.says...)
		})
		n.restorePKI(saved)
		n.replace(sandbox.ManifestDir+"/etcd.yaml", []byte(text))
		must(n.t, os.WriteFile(n.kubeadm(), []byte(n.configuration("")), 0o600))
	}
}

func phaseOf(name string) string {
	if strings.Contains(name, "manifest") {
		return "render-etcd"
	}
	return "certs"
}

func TestInitPhasesWorkOnAnEmptyRoot(t *testing.T) {
	t.Parallel()
	n := create(t, sandbox.Options{NoAPIServer: true}) // for its configuration only
	must(t, os.WriteFile(n.kubeadm(), []byte(n.configuration("")), 0o600))
	root := t.TempDir()
	typed := func(code int, args []string, says ...string) {
		t.Helper()
		args = append([]string{"--root", root}, append(args, "--config", n.kubeadm())...)
		n.want(code, args, says...)
	}
	typed(0, []string{"init", "phase", "render-etcd", "--dry-run"}, "write /etc/kubernetes/manifests/etcd.yaml")
	if left, err := os.ReadDir(root); err != nil || len(left) > 0 {
		t.Errorf("--dry-run leaves %v, %v", left, err)
	}
	typed(0, []string{"init", "phase", "render-etcd", "--yes"}, "Done by run")
	typed(0, []string{"init", "phase", "certs", "--yes"}, "Done by run")
	typed(0, []string{"init", "phase", "render-etcd", "--yes"}, "Nothing to do")
	typed(0, []string{"init", "phase", "certs", "--yes"}, "Nothing to do")
	for file, mode := range map[string]fs.FileMode{
		"etc/kubernetes/manifests": fs.ModeDir | 0o700, "etc/kubernetes/manifests/etcd.yaml": 0o600,
		"var/lib/etcd":                   fs.ModeDir | 0o700,
		"etc/kubernetes/pki/etcd/ca.crt": 0o644, "etc/kubernetes/pki/etcd/ca.key": 0o600,
		"etc/kubernetes/pki/apiserver-etcd-client.key": 0o600,
	} {
		if st, err := os.Stat(filepath.Join(root, file)); err != nil || st.Mode() != mode {
			t.Errorf("%s: %v, %v", file, st, err)
		}
	}
	n.phasesAreFinishedOrTakenBack(typed, root)
	must(t, os.Chmod(filepath.Join(root, "etc/kubernetes/pki/etcd/ca.key"), 0))
	if os.Geteuid() != 0 {
		typed(5, []string{"init", "phase", "certs", "--yes"}, "etcd/ca.key", "permission denied")
	}
}

// phasesAreFinishedOrTakenBack: a single phase that is killed needs no kubelet to be resumed
// or rolled back either.
func (n *node) phasesAreFinishedOrTakenBack(typed func(int, []string, ...string), root string) {
	n.t.Helper()
	for phase, made := range map[string]string{
		"certs":       "etc/kubernetes/pki/apiserver-etcd-client.crt",
		"render-etcd": "etc/kubernetes/manifests/etcd.yaml",
	} {
		for _, command := range []string{"rollback", "resume"} {
			must(n.t, os.RemoveAll(filepath.Join(root, "etc")))
			must(n.t, os.RemoveAll(filepath.Join(root, "var/lib/etcd")))
			second := moment{operation: 2, state: "started"}
			n.killAt(second, "--root", root, "init", "phase", phase, "--config", n.kubeadm(), "--yes")
			typed(3, []string{"init", "phase", phase, "--yes"}, "etcdpod resume")
			n.want(0, []string{"--root", root, command})
			if _, err := os.Stat(filepath.Join(root, made)); (err == nil) != (command == "resume") {
				n.t.Errorf("%s of %s: %v", command, phase, err)
			}
		}
		typed(0, []string{"init", "phase", phase, "--yes"}, "Nothing to do")
	}
	must(n.t, os.RemoveAll(filepath.Join(root, "var/lib/etcd")))
	typed(0, []string{"init", "phase", "certs", "--yes"}) // the last phase took them along
}

// insecure trusts every server and shows no certificate.
func insecure() *tls.Config { return &tls.Config{InsecureSkipVerify: true} }
