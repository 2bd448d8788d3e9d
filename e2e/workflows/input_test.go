package workflows

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdpod/etcdpod/e2e/binaries"
	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

// snapshotOf takes a snapshot of another node that is gone afterwards, to a file on this machine.
func snapshotOf(t *testing.T, o sandbox.Options) string {
	t.Helper()
	o.NoAPIServer = true
	other := create(t, o)
	must(t, other.Start(other.ctx))
	must(t, other.Load(other.ctx, 40, 100))
	if !strings.HasPrefix(other.EtcdVersion, "3.5.") {
		other.eventually("the data has its storage version", func() bool {
			var version string
			other.etcd(func(c *clientv3.Client) error {
				s, err := c.Status(other.ctx, other.ClientURL())
				if err == nil {
					version = s.StorageVersion
				}
				return err
			})
			return version != ""
		})
	}
	b := other.backup()
	file := t.TempDir() + "/other.db"
	must(t, os.Rename(b.file, file))
	return file
}

// adopt puts a file of this machine on the node.
func (n *node) adopt(file string) string {
	n.t.Helper()
	data, err := os.ReadFile(file)
	must(n.t, err)
	must(n.t, os.MkdirAll(n.Path("/srv"), 0o755))
	must(n.t, os.WriteFile(n.Path("/srv/adopted.db"), data, 0o600))
	return n.Path("/srv/adopted.db")
}

// refused holds a restore to be refused by a check (5) that says the texts, and to touch nothing.
func (n *node) refused(args []string, texts ...string) {
	n.t.Helper()
	n.untouched(func() { n.want(5, append([]string{"restore", "--yes"}, args...), texts...) })
	n.untouched(func() { n.want(5, append([]string{"restore", "--dry-run"}, args...), texts...) })
}

func TestASnapshotOfANewerEtcdIsGoodAndIsNotRestored(t *testing.T) {
	n := start(t, sandbox.Options{NoAPIServer: true})
	file := n.adopt(snapshotOf(t, sandbox.Options{EtcdBinary: etcdBinary(t, binaries.Etcd37)}))
	n.verify(0, file)
	n.refused([]string{file}, "3.7", "3.6")
}

func TestOtherMembersAreNotRestoredOver(t *testing.T) {
	t.Run("the running etcd has another member", func(t *testing.T) {
		n := start(t, sandbox.Options{NoAPIServer: true})
		b := n.backup()
		n.etcd(func(c *clientv3.Client) error {
			_, err := c.MemberAddAsLearner(n.ctx, []string{"https://127.0.0.9:2380"})
			return err
		})
		n.refused([]string{b.file}, "other members", "127.0.0.9", "leave it out: `etcdpod restore --nodes cp1 --lost ")
		stopEtcd(n)
		// The data with its WAL says so, too.
		n.refused([]string{b.file}, "other members", "127.0.0.9")
	})
	t.Run("nothing but the snapshot tells, and it names another", func(t *testing.T) {
		n := start(t, sandbox.Options{NoAPIServer: true})
		file := n.adopt(snapshotOf(t, sandbox.Options{Node: "cp7"}))
		stopEtcd(n)
		must(t, os.RemoveAll(n.DataPath()))
		n.refused([]string{file, "--bump-revision", "1000000000"}, "other members", "cp7")
	})
}

func TestASnapshotTakenUnderNOSPACEIsRestoredWritable(t *testing.T) {
	n := start(t, sandbox.Options{})
	n.etcd(func(c *clientv3.Client) error {
		status, err := c.Status(n.ctx, n.ClientURL())
		if err != nil {
			return err
		}
		_, err = pb.NewMaintenanceClient(c.ActiveConnection()).Alarm(n.ctx, &pb.AlarmRequest{
			Action: pb.AlarmRequest_ACTIVATE, MemberID: status.Header.MemberId, Alarm: pb.AlarmType_NOSPACE,
		})
		return err
	})
	n.etcd(func(c *clientv3.Client) error {
		if _, err := c.Put(n.ctx, "refused", "x"); err == nil {
			t.Error("etcd is writable under the alarm")
		}
		return nil
	})
	before := n.state()
	b := n.backup()
	n.want(6, []string{"status"}, "NOSPACE")
	result := n.done("restore", b.file, "--yes")
	if !strings.Contains(result.Stderr, "disarmed") {
		t.Errorf("it is not said that an alarm was disarmed: %s", result.Stderr)
	}
	n.wantNew(b, before)
	n.put("accepted", "x")
	n.etcd(func(c *clientv3.Client) error {
		alarms, err := c.AlarmList(n.ctx)
		if err == nil && len(alarms.Alarms) > 0 {
			t.Errorf("alarms are left: %v", alarms.Alarms)
		}
		return err
	})
}

func TestABackupOfAClusterWithOtherKeysIsNotRestored(t *testing.T) {
	n := start(t, sandbox.Options{})
	b := n.backup()
	n.change()
	key := n.Path("/etc/kubernetes/pki/sa.pub")
	mine, err := os.ReadFile(key)
	must(t, err)
	must(t, os.WriteFile(key, publicKey(t), 0o600))
	n.refused([]string{b.file}, "other files than this node has", "/etc/kubernetes/pki/sa.pub")
	must(t, os.WriteFile(key, mine, 0o600))
	before := n.state()
	n.done("restore", b.file, "--yes")
	n.wantNew(b, before)
}

// publicKey is that of a new key.
func publicKey(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

const encryption = `apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets]
  providers:
  - aescbc:
      keys:
      - name: KEY
        secret: c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMzQ=
  - identity: {}
`

func TestEncryptedObjectsAreRestoredOnlyWhereTheirKeyIs(t *testing.T) {
	n := start(t, sandbox.Options{})
	n.put("/registry/example.com/widgets/one", "k8s:enc:aescbc:v1:key1:"+sealed(t, `{"kind":"Widget"}`))
	b := n.backup()
	n.change()
	n.refused([]string{b.file}, "k8s:enc:aescbc:v1:key1:", "no encryption configuration")

	other := strings.Replace(strings.Replace(encryption, "KEY", "key1", 1), "c2VjcmV0", "T1RIRVIt", 1)
	configure := n.encrypts(strings.Replace(encryption, "KEY", "key2", 1))
	n.refused([]string{b.file}, "k8s:enc:aescbc:v1:key1:", "/etc/kubernetes/pki/encryption.yaml")
	// A key of the right name is tried.
	configure(other)
	n.refused([]string{b.file}, "is not the one that /registry/example.com/widgets/one was encrypted with")
	configure(strings.Replace(encryption, "KEY", "key1", 1))
	before := n.state()
	n.done("restore", b.file, "--yes")
	n.wantNew(b, before)
}

func TestEachResourceIsRestoredWithItsOwnProvidersOrByDecision(t *testing.T) {
	n := start(t, sandbox.Options{})
	const held = "secrets: 3" // as many as a sandbox begins with
	for name, value := range n.keys() {
		if strings.HasPrefix(name, "/registry/secrets/") {
			n.put(name, "k8s:enc:aescbc:v1:key1:"+sealed(t, value))
		}
	}
	n.put("/registry/leases/default/one", `{"kind":"Lease","metadata":{"name":"one","namespace":"default"}}`)
	b := n.backup()
	n.change()
	const right, wrong = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMzQ=", "T1RIRVItLXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMzQ="
	entry := func(resource, name, secret string) string {
		return "- resources: [" + resource + "]\n  providers:\n  - aescbc: {keys: [{name: " + name + ", secret: " +
			secret + "}]}\n"
	}
	head, _, _ := strings.Cut(encryption, "- resources")
	const leases, identity = "leases.coordination.k8s.io", "  - identity: {}\n"
	configure := n.encrypts(head + entry("secrets", "key2", right) + entry(leases, "key1", right) + identity)
	n.refused([]string{b.file}, "k8s:enc:aescbc:v1:key1: ("+held+")", "--other-pki")
	configure(head + entry("secrets", "key1", wrong) + entry(leases, "key1", right) + identity)
	n.refused([]string{b.file}, "is not the one that /registry/secrets/", "--other-pki")
	configure(head + entry("secrets", "key1", right) + entry(leases, "key1", right))
	n.refused([]string{b.file}, "not encrypted (leases: ", "identity", "--other-pki")
	configure(head + entry("secrets", "key1", right) + entry(leases, "key1", right) + identity)
	if plan := n.done("restore", "--dry-run", b.file); strings.Contains(plan.Stdout, "cannot read") {
		t.Errorf("it says\n%s", plan.Stdout)
	}
	// The key is lost for good.
	configure(head + entry("secrets", "key2", wrong) + identity)
	plan := n.done("restore", "--dry-run", "--other-pki", b.file)
	if lost := strings.Join(strings.Fields(plan.Stdout), " "); !strings.Contains(lost, "cannot read ("+held+")") {
		t.Errorf("it says\n%s", plan.Stdout)
	}
	before := n.state()
	n.done("restore", b.file, "--yes", "--other-pki")
	n.wantNew(b, before)
}

// encrypts gives the API server an encryption configuration. What it returns writes it anew.
func (n *node) encrypts(config string) (configure func(string)) {
	n.t.Helper()
	file := n.Path("/etc/kubernetes/pki/encryption.yaml") // in a folder that is mounted already
	configure = func(config string) {
		n.t.Helper()
		must(n.t, os.WriteFile(file, []byte(config), 0o600))
	}
	configure(config)
	manifest := n.Path(sandbox.ManifestDir + "/kube-apiserver.yaml")
	text, err := os.ReadFile(manifest)
	must(n.t, err)
	old, _, err := n.Container(n.ctx, "kube-apiserver")
	must(n.t, err)
	must(n.t, os.WriteFile(manifest, []byte(strings.Replace(string(text), "    - --advertise-address",
		"    - --encryption-provider-config=/etc/kubernetes/pki/encryption.yaml\n    - --advertise-address", 1)),
		0o600))
	n.eventually("the kubelet runs the API server of the new manifest", func() bool {
		now, found, err := n.Container(n.ctx, "kube-apiserver")
		must(n.t, err)
		return found && now.State == "running" && now.PodUID != old.PodUID
	})
	n.wantAllRunning()
	n.ready()
	return configure
}

// sealed is text as the API server encrypts it with the key in encryption.
func sealed(t *testing.T, text string) string {
	t.Helper()
	block, err := aes.NewCipher([]byte("secret-secret-secret-secret-1234"))
	must(t, err)
	padding := aes.BlockSize - len(text)%aes.BlockSize
	plain := append([]byte(text), bytes.Repeat([]byte{byte(padding)}, padding)...)
	all := make([]byte, aes.BlockSize+len(plain))
	cipher.NewCBCEncrypter(block, all[:aes.BlockSize]).CryptBlocks(all[aes.BlockSize:], plain)
	return string(all)
}

func TestAnAPIServerElsewhereMustBeStoppedFirst(t *testing.T) {
	n := start(t, sandbox.Options{})
	n.registersAPIServer("10.9.8.7")
	b := n.backup()
	n.change()
	n.refused([]string{b.file}, "10.9.8.7", "--api-servers-stopped")
	before := n.state()
	n.done("restore", b.file, "--yes", "--api-servers-stopped")
	n.wantNew(b, before)
}

// registersAPIServer does what an API server does for as long as it serves: it keeps its entry
// alive by a lease of seconds (k8s.io/kubernetes, pkg/controlplane, DefaultEndpointReconcilerTTL).
func (n *node) registersAPIServer(address string) {
	n.t.Helper()
	c, err := n.EtcdClient()
	must(n.t, err)
	n.t.Cleanup(func() { c.Close() })
	lease, err := c.Grant(n.ctx, 60)
	must(n.t, err)
	_, err = c.Put(n.ctx, "/registry/masterleases/"+address, "{}", clientv3.WithLease(lease.ID))
	must(n.t, err)
	alive, err := c.KeepAlive(n.ctx, lease.ID)
	must(n.t, err)
	go func() {
		for range alive { // until the client is closed, or etcd does not know the lease any more
		}
	}()
}

func TestManifestsThatCannotBeReliedOnAreRefused(t *testing.T) {
	n := start(t, sandbox.Options{})
	b := n.backup()
	dir := n.Path(sandbox.ManifestDir)
	text, err := os.ReadFile(dir + "/etcd.yaml")
	must(t, err)
	etcd := string(text)
	for name, c := range map[string]struct {
		file, text string
		says       []string
	}{
		"a copy under another name": {"etcd.yaml.bak", etcd,
			[]string{"2 files claim the pod kube-system/etcd", "etcd.yaml.bak"}},
		"two documents": {"two.yaml", etcd + "---\n" + etcd, []string{"two.yaml"}},
	} {
		must(t, os.WriteFile(dir+"/"+c.file, []byte(c.text), 0o600))
		n.refused([]string{b.file}, c.says...)
		must(t, os.Remove(dir+"/"+c.file))
		if t.Failed() {
			t.Fatalf("this was %s", name)
		}
	}
}

func TestAnEtcdOfNoManifestIsRefused(t *testing.T) {
	n := start(t, sandbox.Options{NoAPIServer: true})
	b := n.backup()
	must(t, n.StopKubelet(n.ctx))
	must(t, os.Rename(n.Path(sandbox.ManifestDir+"/etcd.yaml"), n.Path("/srv-etcd.yaml")))
	n.refused([]string{b.file}, "no manifest in /etc/kubernetes/manifests runs etcd")
	must(t, os.Rename(n.Path("/srv-etcd.yaml"), n.Path(sandbox.ManifestDir+"/etcd.yaml")))
}

// An etcd that answers is backed up, whatever has become of the files that started it.
func TestAnEtcdThatAnswersIsBackedUpWhateverItsManifestIsLike(t *testing.T) {
	n := start(t, sandbox.Options{})
	must(t, n.StopKubelet(n.ctx))
	back := n.written("/etc/kubernetes/manifests/etcd.yaml", "    - --data-dir=",
		"    - --config-file=/etc/kubernetes/pki/etcd/etcd.conf.yml\n    - --data-dir=")
	const gone, answers = "etcd.conf.yml does not exist", "an etcd answers at https://127.0.0.1:"
	n.want(6, []string{"status"}, gone, answers,
		"Next: run `etcdpod backup`, while that etcd answers; then put it back")
	n.want(5, []string{"backup", "--dir", "/var/lib/etcd/backups"}, "it would be lost along with the data")
	n.want(5, []string{"backup", "--endpoints", "https://127.0.0.1:1"}, gone, "--endpoints")
	n.want(0, []string{"backup"}, gone, "it may not start again", "verified")
	back()

	back = n.written("/etc/kubernetes/manifests/etcd.yaml", "    - etcd\n", "    - sh\n    - -c\n    - exec etcd\n")
	const shell = "etcd.yaml starts etcd through a shell"
	n.want(6, []string{"status"}, shell, answers,
		"Next: have the manifest start etcd itself")
	n.want(0, []string{"backup"}, shell, "verified")
	back()

	etcd, aside := n.Path(sandbox.ManifestDir+"/etcd.yaml"), n.Path("/srv-etcd.yaml")
	must(t, os.Rename(etcd, aside))
	n.want(6, []string{"status"}, "no manifest in /etc/kubernetes/manifests runs etcd", answers)
	made := n.want(0, []string{"backup"}, "what starts it is not known", "verified")
	if !strings.Contains(made.Stdout, "/etcd-"+n.Node+"-") {
		t.Errorf("it is not of %s: %s", n.Node, made.Stdout)
	}
	n.want(1, []string{"backup", "--endpoints", "https://127.0.0.1:1"}, "none answers", "nothing listens there")

	server, beside := n.Path(sandbox.ManifestDir+"/kube-apiserver.yaml"), n.Path("/srv-kube-apiserver.yaml")
	must(t, os.Rename(server, beside))
	n.want(5, []string{"backup"}, "no manifest in /etc/kubernetes/manifests runs etcd", "--endpoints")
	n.want(0, []string{"backup", "--endpoints", n.ClientURL()}, "verified")
	must(t, errors.Join(os.Rename(beside, server), os.Rename(aside, etcd)))
	must(t, n.StartKubelet(n.ctx))
	n.want(0, []string{"status"})
}

func TestARuntimeThatCannotBeAskedIsRefused(t *testing.T) {
	n := start(t, sandbox.Options{NoAPIServer: true})
	b := n.backup()
	n.refused([]string{b.file, "--cri-socket", "unix:///run/nowhere.sock"}, "/run/nowhere.sock", "--cri-socket")
	n.want(6, []string{"certs", "check", "--cri-socket", "unix:///run/nowhere.sock"},
		"could not check whether all images are on this node", "/run/nowhere.sock")
}

func TestWrongUsageTouchesNothing(t *testing.T) {
	n := start(t, sandbox.Options{NoAPIServer: true})
	b := n.backup()
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"restore", b.file}, "--yes"},
		{[]string{"restore", b.file, "--yes", "--frobnicate"}, "--frobnicate"},
		{[]string{"restore", b.file, "--yes", "--skip-phases", "fence"}, "fence"},
		{[]string{"restore", b.file, "--yes", "--skip-phases", "fnece"}, "fnece"},
		{[]string{"restore", b.file, "--yes", "--wait-timeout", "soon"}, "soon"},
		{[]string{"restore", b.file, "--yes", "--from-data-dir", "/var/lib/etcd"}, "not both"},
		{[]string{"restore", b.file, "--yes", "--data-dir", "relative"}, "relative"},
		{[]string{"restore", "--yes"}, "FILE"},
		{[]string{"restroe", b.file, "--yes"}, "restore"},
		{[]string{"prune"}, "--yes"},
	} {
		n.untouched(func() { n.want(2, c.args, c.says) })
	}
	n.untouched(func() { n.want(5, []string{"resume"}, "no run is open") })
	n.untouched(func() { n.want(5, []string{"rollback"}, "no run is open") })
}

// Nothing was touched: that is 5, and not 1, which says that something was done and taken back.
func TestFilesWhereDirectoriesShouldBeAndTheOtherWayRoundAreRefused(t *testing.T) {
	n := start(t, sandbox.Options{NoAPIServer: true})
	b := n.backup()
	must(t, os.WriteFile(n.Path("/file"), []byte("hello"), 0o600))
	must(t, os.Mkdir(n.Path("/dir"), 0o700))
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"backup", "--dir", "/file"}, "/file is not a directory"},
		{[]string{"backup", n.Path("/file/x.db")}, "/file is not a directory"},
		{[]string{"backup", n.Path("/dir")}, "already exists"},
		{[]string{"backups", "--dir", "/file"}, "not a directory"},
		{[]string{"restore", "--yes", "--from-data-dir", "/file"}, "/file"},
		{[]string{"restore", "--yes", "--from-data-dir", "/none"}, "/none"},
		{[]string{"restore", "--yes", b.file, "--data-dir", "/file"}, "/file"},
		{[]string{"restore", "--yes", b.file, "--data-dir", "/file/x"}, "/file"},
		{[]string{"backup", "--from-data-dir", "/file"}, "/file"},
		{[]string{"backup", "--from-data-dir", "/none"}, "there is no etcd data there"},
		{[]string{"certs", "renew", "--yes", "--from", "/file"}, "/file"},
		{[]string{"certs", "renew", "--yes", "--from", "/none"}, "/none"},
		{[]string{"certs", "generate-csr", "--csr-dir", "/file"}, "/file is not a directory"},
	} {
		n.untouched(func() { n.want(5, c.args, c.says) })
	}
	n.untouched(func() { n.want(4, []string{"restore", "--yes", n.Path("/dir")}, "/dir") })
}

func TestANodeThatIsNotLaidOutAsOneIsRefused(t *testing.T) {
	t.Parallel()
	n := create(t, sandbox.Options{NoAPIServer: true}) // to run etcdpod with
	flags := []string{"--node-name", "cp1", "--apiserver-advertise-address", "10.0.0.11"}
	phase := func(name string) []string { return append([]string{"init", "phase", name, "--yes"}, flags...) }
	file := func(name string) error { return os.WriteFile(name, nil, 0o600) }
	dir := func(name string) error { return os.Mkdir(name, 0o700) }
	nothing := func(string) error { return nil }
	for _, c := range []struct {
		put      func(string) error
		name     string // below the root
		commands [][]string
		says     string
	}{
		{dir, "etc/kubernetes/manifests/etcd.yaml",
			[][]string{phase("render-etcd"), append([]string{"init", "--yes"}, flags...)}, "etcd.yaml: is a directory"},
		{file, "etc/kubernetes/manifests", [][]string{phase("render-etcd"), phase("certs"),
			{"backup"}, {"certs", "renew", "--yes"}, {"apiserver", "show"}}, "manifests: not a directory"},
		{file, "var/lib/etcd", [][]string{phase("render-etcd")}, "etcd: not a directory"},
		{file, "etc/kubernetes/pki/etcd", [][]string{phase("certs")}, "not a directory"},
		{dir, "etc/kubernetes/pki/etcd/peer.crt", [][]string{phase("certs")}, "peer.crt: is a directory"},
		{file, "var/lib/etcdpod", [][]string{phase("certs"),
			{"runs"}, {"backups"}, {"prune", "--yes"}, {"resume"}, {"rollback"}}, "not a directory"},
		{dir, "var/lib/kubelet/config.yaml", [][]string{phase("certs")}, "config.yaml: is a directory"},
		{file, "the root", [][]string{phase("certs"), {"status"}, {"runs"}, {"certs", "check"}},
			"cannot look for a node: "},
		{nothing, "the root", [][]string{phase("certs"), {"status"}, {"backups"}, {"apiserver", "show"}},
			"the root: no such file or directory"},
	} {
		root := t.TempDir()
		at := filepath.Join(root, c.name)
		must(t, os.MkdirAll(filepath.Dir(at), 0o755))
		if c.name == "the root" {
			root = at
		}
		must(t, c.put(at))
		for _, args := range c.commands {
			n.want(5, append([]string{"--root", root}, args...), c.says)
		}
	}
}
