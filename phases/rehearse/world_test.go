package rehearse_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdpod/etcdpod/e2e/binaries"
	"github.com/etcdpod/etcdpod/phases"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/bind"
	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/internal/sealed"
	"github.com/etcdpod/etcdpod/phases/rehearse"
)

// What this test binary is, by its first argument: the process apart, an etcd that listens and
// never serves, or a rehearsal that is to be killed.
const (
	asApart    = "apart"
	asMute     = "mute"
	asRehearse = "rehearse"
)

func TestMain(m *testing.M) {
	switch word(1) {
	case asApart:
		end(phases.ServeApart(os.Stdin, os.Stdout))
	case asMute:
		end(mute())
	case asRehearse:
		_, err := run(context.Background(), word(2), rehearse.Options{File: word(3)}, func(engine.Event) {})
		end(err)
	}
	os.Exit(m.Run())
}

func word(i int) string {
	if len(os.Args) <= i {
		return ""
	}
	return os.Args[i]
}

func end(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func mute() error {
	l, err := net.Listen("unix", "client:1")
	for err == nil {
		_, err = l.Accept()
	}
	return err
}

// run rehearses on a machine whose root is a directory.
func run(
	ctx context.Context, root string, o rehearse.Options, emit func(engine.Event),
) (*rehearse.Report, error) {
	n, err := phases.Open(phases.Config{Root: root, Emit: emit, KubeletStatus: "false", KubeletStart: "false"})
	if err != nil {
		return nil, err
	}
	if o.Memory == 0 {
		o.Memory = rehearse.DefaultMemory
	}
	if o.Timeout == 0 {
		o.Timeout = rehearse.DefaultTimeout
	}
	o.Apart = []string{asApart}
	return rehearse.Rehearse(ctx, n.Engine(), n.Look, o)
}

// world is a machine, and what was found there.
type world struct {
	t    *testing.T
	root string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	t.Parallel()
	w := &world{t: t, root: t.TempDir()}
	t.Cleanup(w.nothingIsLeft)
	return w
}

// home is etcdpod's own directory.
func (w *world) home() string { return filepath.Join(w.root, "var/lib/etcdpod") }

// nothingIsLeft of a rehearsal, neither on disk nor in the table of processes.
func (w *world) nothingIsLeft() {
	w.t.Helper()
	entries, err := os.ReadDir(w.home())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		w.t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			w.t.Errorf("%s is left", e.Name())
		}
	}
	if left := w.processes(); len(left) > 0 {
		w.t.Errorf("%q still run", left)
	}
}

// processes are those whose working directory is below the root.
func (w *world) processes() (all []string) {
	procs, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		w.t.Fatal(err)
	}
	for _, cwd := range procs {
		if at, err := os.Readlink(cwd); err == nil && strings.HasPrefix(at, w.root+"/") {
			line, _ := os.ReadFile(filepath.Dir(cwd) + "/cmdline")
			all = append(all, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return all
}

func (w *world) write(name, text string, mode os.FileMode) string {
	w.t.Helper()
	name = filepath.Join(w.root, name)
	must(w.t, os.MkdirAll(filepath.Dir(name), 0o700))
	must(w.t, os.WriteFile(name, []byte(text), mode))
	return name
}

// put copies a snapshot there, with a sidecar if it is told of.
func (w *world) put(name string, s snapshot, change func(*op.SidecarFile)) string {
	w.t.Helper()
	file := w.write(name, string(s.data), 0o600)
	if change == nil {
		return file
	}
	c := op.SidecarFile{Sidecar: op.Sidecar{Node: "cp1", SHA256: s.report.SHA256, SizeBytes: s.report.SizeBytes,
		Revision: s.report.Revision, HashKV: s.report.HashKV, Keys: s.report.Keys, EtcdVersion: s.version,
		ClusterID: "cafe", TakenAt: time.Now().UTC().Add(-time.Hour)}}
	change(&c)
	text, err := json.Marshal(c)
	must(w.t, err)
	w.write(name+".json", string(text), 0o600)
	return file
}

// sealed puts a snapshot there as it leaves a node, with the identity that opens it; both files'
// names are returned.
func (w *world) sealed(name string, s snapshot) (file, identity string) {
	w.t.Helper()
	who, err := age.GenerateX25519Identity()
	must(w.t, err)
	to, err := sealed.ParseRecipient(who.Recipient().String())
	must(w.t, err)
	var out bytes.Buffer
	_, err = sealed.Write(&out, bytes.NewReader(s.data), sealed.Options{To: []sealed.Recipient{to}})
	must(w.t, err)
	return w.write(name, out.String(), 0o600), w.write("identity", who.String(), 0o600)
}

func (w *world) rehearse(o rehearse.Options) (*rehearse.Report, error) {
	return run(w.t.Context(), w.root, o, func(engine.Event) {})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// snapshot is of a real etcd.
type snapshot struct {
	version string
	data    []byte
	report  *snapfile.Report
}

func program(t *testing.T, version string) string {
	t.Helper()
	path, err := binaries.Etcd(context.Background(), version)
	must(t, err)
	return path
}

var made sync.Map // of versions

// of is a snapshot of an etcd of that version, which is made once.
func of(t *testing.T, version string) snapshot {
	t.Helper()
	make, _ := made.LoadOrStore(version, sync.OnceValue(func() snapshot {
		return take(t, version, func(ctx context.Context, c *clientv3.Client) error { return fill(ctx, c, 12) })
	}))
	return make.(func() snapshot)()
}

// fill writes what an API server might have: of each kind so many, or a part of that.
func fill(ctx context.Context, c *clientv3.Client, each int) error {
	for i := range each {
		for _, resource := range []string{"configmaps/default", "pods/kube-system", "certificates.example.com/certs/a",
			"secrets/default"} {
			key := fmt.Sprintf("/registry/%s/%s-%02d", resource, "x", i)
			if _, err := c.Put(ctx, key, stored(key)); err != nil {
				return err
			}
		}
	}
	lease, err := c.Grant(ctx, 1)
	if err != nil {
		return err
	}
	for _, key := range []string{"/registry/minions/cp1", "/registry/minions/worker", "elsewhere"} {
		if _, err := c.Put(ctx, key, "x"); err != nil {
			return err
		}
	}
	r, err := c.Put(ctx, "/registry/masterleases/10.0.0.1", "x", clientv3.WithLease(lease.ID))
	if err != nil {
		return err
	}
	if _, err := c.Delete(ctx, "/registry/configmaps/default/x-00"); err != nil {
		return err
	}
	_, err = c.Compact(ctx, r.Header.Revision-5)
	return err
}

// stored is a value as an API server stores it: that of a secret is encrypted with key1.
func stored(key string) string {
	if !strings.HasPrefix(key, "/registry/secrets/") {
		return "k8s\x00 an object"
	}
	block, err := aes.NewCipher([]byte(strings.Repeat("A", 32)))
	if err != nil {
		panic(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	nonce := make([]byte, gcm.NonceSize())
	return "k8s:enc:aesgcm:v1:key1:" + string(gcm.Seal(nonce, nonce, []byte("k8s\x00 an object"), []byte(key)))
}

// take makes a snapshot of a new etcd.
func take(t *testing.T, version string, write func(context.Context, *clientv3.Client) error) snapshot {
	t.Helper()
	dir, err := os.MkdirTemp("", "rehearse")
	must(t, err)
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	p, err := bind.StartPrivate(dir, program(t, version), nil, 1<<30, 1<<30)
	must(t, err)
	defer p.Kill()
	c, done, err := p.Client(ctx)
	must(t, err)
	defer done()
	v3, err := clientv3.New(clientv3.Config{Endpoints: []string{"unix://" + dir + "/client:1"}})
	must(t, err)
	defer v3.Close()
	must(t, write(ctx, v3))
	file := filepath.Join(dir, "snapshot.db")
	if _, err = etcd.Save(ctx, c, file, nil); err != nil {
		err = saveAs(ctx, v3.Endpoints(), file)
	}
	must(t, err)
	data, err := os.ReadFile(file)
	must(t, err)
	r, err := snapfile.Check(ctx, file, snapfile.Options{})
	must(t, err)
	return snapshot{version, data, r}
}

// user is one, its password and its role.
const user = "root"

// saveAs is for an etcd that wants a password.
func saveAs(ctx context.Context, endpoints []string, file string) error {
	c, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Username: user, Password: user})
	if err != nil {
		return err
	}
	defer c.Close()
	from, err := c.Snapshot(ctx)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(from)
	if err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o600)
}

// encrypts has the machine run an API server with an encryption configuration.
func (w *world) encrypts(secret string) {
	w.t.Helper()
	key := base64.StdEncoding.EncodeToString([]byte(strings.Repeat(secret, 32)))
	w.write("etc/kubernetes/enc/enc.yaml", `apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets]
  providers:
  - aesgcm: {keys: [{name: key1, secret: `+key+`}]}
`, 0o600)
	w.write("etc/kubernetes/manifests/kube-apiserver.yaml", `apiVersion: v1
kind: Pod
metadata: {name: kube-apiserver, namespace: kube-system}
spec:
  containers:
  - name: kube-apiserver
    command: [kube-apiserver, --encryption-provider-config=/etc/enc/enc.yaml, --client-ca-file=/etc/pki/ca.crt]
    volumeMounts:
    - {name: enc, mountPath: /etc/enc}
    - {name: pki, mountPath: /etc/pki}
  volumes:
  - {name: enc, hostPath: {path: /etc/kubernetes/enc}}
  - {name: pki, hostPath: {path: /etc/kubernetes/pki}}
`, 0o600)
	w.write("etc/kubernetes/pki/ca.crt", "no CA", 0o600)
}
