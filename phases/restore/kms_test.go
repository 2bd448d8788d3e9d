package restore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	v1 "k8s.io/kms/apis/v1beta1"
	v2 "k8s.io/kms/apis/v2"

	"github.com/etcdpod/etcdpod/manifests"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/observe"
)

const kmsConfiguration = `apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets]
  providers:
  - kms: {apiVersion: v2, name: vault, endpoint: unix:///run/kms/kms.sock, timeout: LIMIT}
  - kms: {name: old, endpoint: unix:///run/kms/kms.sock, timeout: LIMIT}
`

const kmsAPIServer = `apiVersion: v1
kind: Pod
metadata: {name: kube-apiserver, namespace: kube-system}
spec:
  containers:
  - name: kube-apiserver
    command: [kube-apiserver, --encryption-provider-config=/etc/enc/enc.yaml]
    volumeMounts:
    - {name: enc, mountPath: /etc/enc}
    - {name: kms, mountPath: /run/kms}
  volumes:
  - {name: enc, hostPath: {path: /etc/kubernetes/enc}}
  - {name: kms, hostPath: {path: /var/run/plugin}}
`

// plugin is a KMS plugin with one key: what it seals begins with that key's name. Of a swapped one
// the key has the right name only.
type plugin struct {
	holds   string
	sick    bool
	swapped bool
	hangs   bool
}

func (p *plugin) seal(plain []byte) []byte { return append([]byte("sealed by "+p.holds+":"), plain...) }

func (p *plugin) open(ctx context.Context, sealed []byte) ([]byte, error) {
	if p.hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if p.sick {
		return nil, errors.New("the vault is sealed")
	}
	opened, ours := bytes.CutPrefix(sealed, []byte("sealed by "+p.holds+":"))
	if !ours {
		return nil, errors.New("no such key")
	}
	if p.swapped {
		opened = append([]byte{opened[0] ^ 1}, opened[1:]...)
	}
	return opened, nil
}

type first struct {
	v1.UnimplementedKeyManagementServiceServer
	*plugin
}

func (p first) Decrypt(ctx context.Context, r *v1.DecryptRequest) (*v1.DecryptResponse, error) {
	plain, err := p.open(ctx, r.Cipher)
	return &v1.DecryptResponse{Plain: plain}, err
}

func (p first) Encrypt(_ context.Context, r *v1.EncryptRequest) (*v1.EncryptResponse, error) {
	return &v1.EncryptResponse{Cipher: p.seal(r.Plain)}, nil
}

type second struct {
	v2.UnimplementedKeyManagementServiceServer
	*plugin
}

func (p second) Status(context.Context, *v2.StatusRequest) (*v2.StatusResponse, error) {
	if p.sick {
		return &v2.StatusResponse{Version: "v2", Healthz: "cannot reach the vault", KeyId: p.holds}, nil
	}
	return &v2.StatusResponse{Version: "v2", Healthz: "ok", KeyId: p.holds}, nil
}

// Decrypt wants what it said when it sealed the key, as plugins do.
func (p second) Decrypt(ctx context.Context, r *v2.DecryptRequest) (*v2.DecryptResponse, error) {
	if r.KeyId != "K1" || string(r.Annotations["local.example.com"]) != "an annotation" {
		return nil, errors.New("it lacks the key's id or its annotation")
	}
	plain, err := p.open(ctx, r.Ciphertext)
	return &v2.DecryptResponse{Plaintext: plain}, err
}

func (p *plugin) serve(t *testing.T, socket string) {
	t.Helper()
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	v1.RegisterKeyManagementServiceServer(server, first{plugin: p})
	v2.RegisterKeyManagementServiceServer(server, second{plugin: p})
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
}

// kmsNode is a node whose API server has a KMS, and a snapshot with one value that an API server of
// Kubernetes 1.37 has written through one. The limit is for the plugin's answers.
func kmsNode(t *testing.T, sample snapfile.Sample, limit string) (*observe.Node, *Facts, string) {
	t.Helper()
	prefix := strings.Join(strings.SplitN(string(sample.Value), ":", 6)[:5], ":") + ":"
	n, f, root := encryptingNode(t, strings.ReplaceAll(kmsConfiguration, "LIMIT", limit),
		snapfile.Stored{Resource: "secrets", Prefix: prefix, Objects: 3, Sample: &sample})
	return n, f, filepath.Join(root, "var/run/plugin/kms.sock")
}

// encryptingNode is a node whose API server has an encryption configuration, and a snapshot.
func encryptingNode(t *testing.T, config string, stored ...snapfile.Stored) (*observe.Node, *Facts, string) {
	t.Helper()
	root, err := os.MkdirTemp("", "kms") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	for _, dir := range []string{"etc/kubernetes/enc", "var/run/plugin"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	err = os.WriteFile(filepath.Join(root, "etc/kubernetes/enc/enc.yaml"), []byte(config), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	text := kmsAPIServer
	if config == "" {
		text = strings.Replace(text, ", --encryption-provider-config=/etc/enc/enc.yaml", "", 1)
	}
	m, err := manifests.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	f := &Facts{Facts: crashtest.SeenFacts(t, "run"), Snapshot: &SnapshotFacts{Stored: stored}}
	f.Manifests = []observe.ManifestFile{{Path: "/etc/kubernetes/manifests/kube-apiserver.yaml", Manifest: m}}
	return &observe.Node{View: node.View{FS: node.OS(root)}}, f, root
}

func TestAKMSIsAskedForTheKeyOfAValue(t *testing.T) {
	text, err := os.ReadFile("testdata/kms.json")
	if err != nil {
		t.Fatal(err)
	}
	var samples map[string]snapfile.Sample
	if err := json.Unmarshal(text, &samples); err != nil || len(samples) != 4 {
		t.Fatal(len(samples), err)
	}
	for name, c := range map[string]struct {
		plugin       *plugin
		refused, say string
	}{
		"it opens the key":                   {&plugin{holds: "K1"}, "", ""},
		"it holds another key":               {&plugin{holds: "K2"}, "no such key", ""},
		"it opens the key to another one":    {&plugin{holds: "K1", swapped: true}, "to a different key", ""},
		"what holds its keys is not there":   {&plugin{holds: "K1", sick: true}, "", "the vault is sealed"},
		"it does not answer":                 {&plugin{holds: "K1", hangs: true}, "", "has not answered after 1s"},
		"it does not run":                    {nil, "", "no such socket"},
		"it is another program's by mistake": {&plugin{}, "", "could not be queried"},
	} {
		for of, sample := range samples {
			t.Run(name+", "+of, func(t *testing.T) {
				limit := "10s" // a busy machine answers as well
				if c.plugin != nil && c.plugin.hangs {
					limit = "1s"
				}
				n, f, socket := kmsNode(t, sample, limit)
				switch {
				case c.plugin == nil:
				case c.plugin.holds == "":
					if err := os.WriteFile(socket, nil, 0o600); err != nil {
						t.Fatal(err)
					}
				default:
					c.plugin.serve(t, socket)
				}
				f.Encryption = n.Encryption(t.Context(), f.Manifests, f.Snapshot.Stored)
				err := restorer{}.checkEncryption(f)
				if (err != nil) != (c.refused != "") || err != nil && (!strings.Contains(err.Error(), c.refused) ||
					!strings.Contains(engine.Hint(err), "the key that it had")) {
					t.Errorf("refused: %v", err)
				}
				notes := strings.Join(finding.Texts(f.fitNotes()), "\n")
				if (notes != "") != (c.say != "") || !strings.Contains(notes, c.say) {
					t.Errorf("it says %q", notes)
				}
			})
		}
	}
}

func TestAValueThatIsNoEnvelopeIsOnlySaidToBeUntried(t *testing.T) {
	for _, value := range []string{"", "\x00", "\x00\xffkey", "\x0a\xff", "\x28\x07", "\x20\x01"} {
		for _, provider := range []string{"k8s:enc:kms:v2:vault:", "k8s:enc:kms:v1:old:"} {
			sample := snapfile.Sample{Key: "/registry/secrets/a/b", Value: []byte(provider + value)}
			n, f, _ := kmsNode(t, sample, "10s")
			f.Encryption = n.Encryption(t.Context(), f.Manifests, f.Snapshot.Stored)
			if notes := f.fitNotes(); len(notes) != 1 || (restorer{}).checkEncryption(f) != nil {
				t.Errorf("%q: %q", sample.Value, notes)
			}
		}
	}
}
