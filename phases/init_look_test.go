package phases

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/members"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/phases/status"
)

// These tests show what a single phase of init makes of a configuration, on a real disk below its
// own root.

type initRoot struct {
	t    *testing.T
	root string
}

func newInitRoot(t *testing.T) initRoot {
	t.Helper()
	return initRoot{t, t.TempDir()}
}

// phase carries out one phase, with local as the ClusterConfiguration's etcd.local and patches by
// file name.
func (r initRoot) phase(name, local string, patches map[string]string) error {
	r.t.Helper()
	dir := r.t.TempDir()
	for file, text := range patches {
		r.write(filepath.Join(dir, "patches", file), text)
	}
	r.write(filepath.Join(dir, "patches", "README"), "kubeadm has left none")
	config := filepath.Join(dir, "kubeadm.yaml")
	r.write(config, `apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
nodeRegistration: {name: cp1}
localAPIEndpoint: {advertiseAddress: 10.0.0.11}
patches: {directory: "`+filepath.Join(dir, "patches")+`"}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: v1.37.2
etcd:
  local: {`+local+`}
`)
	n, err := Open(Config{Root: r.root})
	if err != nil {
		r.t.Fatal(err)
	}
	flow, err := members.InitPhase(members.InitOptions{KubeadmOptions: observe.KubeadmOptions{Config: config}}, name)
	if err != nil {
		r.t.Fatal(err)
	}
	return n.Do(context.Background(), flow, func(engine.Plan) error { return nil })
}

func (r initRoot) write(file, text string) {
	r.t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o600)); err != nil {
		r.t.Fatal(err)
	}
}

func (r initRoot) at(host string) string { return filepath.Join(r.root, host) }

func (r initRoot) wantPrivate(host string) {
	r.t.Helper()
	if st, err := os.Stat(r.at(host)); err != nil || st.Mode() != os.ModeDir|0o700 {
		r.t.Errorf("%s: %v, %v", host, st, err)
	}
}

const movedData = `spec: {volumes: [{name: etcd-data, hostPath: {path: /mnt/etcd, type: DirectoryOrCreate}}]}`

func TestTheDataDirectoryIsTheOneThatEtcdWrites(t *testing.T) {
	for _, tt := range []struct {
		name, local string
		patches     map[string]string
		dir         string
	}{
		{"kubeadm's default", "", nil, "/var/lib/etcd"},
		{"written with a separator at its end", "dataDir: /srv/etcd/", nil, "/srv/etcd"},
		{"moved by a patch", "", map[string]string{"etcd.yaml": movedData}, "/mnt/etcd"},
		{"moved by a patch in a directory below", "", map[string]string{"more/etcd.yaml": movedData}, "/mnt/etcd"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newInitRoot(t)
			if err := r.phase("render-etcd", tt.local, tt.patches); err != nil {
				t.Fatal(err)
			}
			r.wantPrivate(tt.dir)
			r = newInitRoot(t)
			r.write(r.at(tt.dir)+"/pictures/cat", "")
			var refused *engine.RefusedError
			if err := r.phase("render-etcd", tt.local, tt.patches); !errors.As(err, &refused) ||
				!strings.Contains(err.Error(), tt.dir+" is not empty: it holds pictures") {
				t.Errorf("with pictures there: %v", err)
			}
		})
	}
}

func TestALogWithoutItsDataIsNotTakenUp(t *testing.T) {
	const local = `extraArgs: [{name: wal-dir, value: /wal/etcd}]`
	mounted := map[string]string{"etcd.yaml": `spec:
  volumes: [{name: wal, hostPath: {path: /mnt/wal}}]
  containers: [{name: etcd, volumeMounts: [{name: wal, mountPath: /wal}]}]
`}
	r := newInitRoot(t)
	r.write(r.at("/mnt/wal/etcd/lost+found/x"), "")
	if err := r.phase("render-etcd", local, mounted); err != nil {
		t.Errorf("an empty one: %v", err)
	}
	r = newInitRoot(t)
	r.write(r.at("/mnt/wal/etcd/0000000000000000-0000000000000000.wal"), "")
	var refused *engine.RefusedError
	if err := r.phase("render-etcd", local, mounted); !errors.As(err, &refused) || !strings.Contains(err.Error(),
		"the WAL directory /mnt/wal/etcd holds the WAL of an etcd whose data is not in /var/lib/etcd") {
		t.Errorf("got %v", err)
	}
}

func TestWhatEtcdCouldNotServeIsNotRendered(t *testing.T) {
	args := func(all ...string) string {
		var b strings.Builder
		for i := 0; i < len(all); i += 2 {
			b.WriteString("{name: " + all[i] + `, value: "` + all[i+1] + `"}, `)
		}
		return "extraArgs: [" + b.String() + "]"
	}
	peer := args("initial-advertise-peer-urls", "https://10.9.9.9:2380", "listen-peer-urls", "https://10.9.9.9:2380")
	for _, tt := range []struct{ name, local, why string }{
		{"peers would not believe its certificate", peer, "--initial-advertise-peer-urls names 10.9.9.9, which " +
			"/etc/kubernetes/pki/etcd/peer.crt does not cover (etcd.local.peerCertSANs)"},
		{"they would", peer + ", peerCertSANs: [10.9.9.9]", ""},
		{"clients would not", args("advertise-client-urls", "https://etcd.example.com:2379"),
			"--advertise-client-urls names etcd.example.com, which"},
		{"they would, by a wildcard", args("advertise-client-urls", "https://etcd.example.com:2379") +
			`, serverCertSANs: ["*.example.com"]`, ""},
		{"peers and clients at one port", args("listen-peer-urls", "https://10.0.0.11:2379"),
			"--listen-client-urls has 10.0.0.11:2379 and --listen-peer-urls has 10.0.0.11:2379"},
		{"one of them everywhere", args("listen-metrics-urls", "http://0.0.0.0:2380"), "cannot listen twice"},
		{"one port each, everywhere",
			args("listen-client-urls", "https://0.0.0.0:2379", "listen-metrics-urls", "http://0.0.0.0:2381"), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newInitRoot(t)
			err := r.phase("render-etcd", tt.local, nil)
			var refused *engine.RefusedError
			switch {
			case tt.why == "" && err != nil:
				t.Error(err)
			case tt.why != "" && (!errors.As(err, &refused) || !strings.Contains(err.Error(), tt.why)):
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestACertificateThatIsThereMayBeForMoreThanTheConfigurationSays(t *testing.T) {
	r := newInitRoot(t)
	if err := r.phase("certs", "peerCertSANs: [10.9.9.9]", nil); err != nil {
		t.Fatal(err)
	}
	const moved = `extraArgs: [{name: initial-advertise-peer-urls, value: "https://10.9.9.9:2380"}]`
	if err := r.phase("render-etcd", moved, nil); err != nil {
		t.Error(err)
	}
}

func TestALinkThatLeadsNowhereIsNoMissingCertificate(t *testing.T) {
	r := newInitRoot(t)
	file := "/etc/kubernetes/pki/etcd/server.crt"
	if err := errors.Join(os.MkdirAll(filepath.Dir(r.at(file)), 0o755),
		os.Symlink("/mnt/secrets/server.crt", r.at(file))); err != nil {
		t.Fatal(err)
	}
	var refused *engine.RefusedError
	if err := r.phase("certs", "", nil); !errors.As(err, &refused) ||
		!strings.Contains(err.Error(), "cannot read "+file+": it is a broken link") {
		t.Errorf("got %v", err)
	}
}

func TestAFileThatWouldTakeTheMemoryIsNotRead(t *testing.T) {
	r := newInitRoot(t)
	file := r.at("/etc/kubernetes/pki/etcd/server.crt")
	r.write(file, "")
	if err := os.Truncate(file, 8<<30); err != nil {
		t.Fatal(err)
	}
	var refused *engine.RefusedError
	if err := r.phase("certs", "", nil); !errors.As(err, &refused) ||
		!strings.Contains(err.Error(), "it is larger than 64 MiB") {
		t.Errorf("got %v", err)
	}
	n, err := Open(Config{Root: r.root})
	if err != nil {
		t.Fatal(err)
	}
	flow, err := members.InitPhase(members.InitOptions{KubeadmOptions: observe.KubeadmOptions{Config: "/dev/zero"}},
		"certs")
	if err != nil {
		t.Fatal(err)
	}
	var usage *engine.UsageError
	if _, err := n.Preview(context.Background(), flow); !errors.As(err, &usage) ||
		!strings.Contains(err.Error(), "it is larger than 64 MiB") {
		t.Errorf("got %v", err)
	}
}

func TestStatusReportsAMissingFileOnce(t *testing.T) {
	r := newInitRoot(t)
	if err := r.phase("render-etcd", "", nil); err != nil {
		t.Fatal(err)
	}
	n, err := Open(Config{Root: r.root})
	if err != nil {
		t.Fatal(err)
	}
	st, err := status.Of(t.Context(), n.Look, status.Options{})
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(st.Warnings, "\n")
	for _, file := range []string{"ca.crt", "server.crt", "server.key", "peer.crt", "peer.key"} {
		if file = "/etc/kubernetes/pki/etcd/" + file; strings.Count(all, file) != 1 {
			t.Errorf("%s is told of %d times in:\n%s", file, strings.Count(all, file), all)
		}
	}
	if want := "cannot read /etc/kubernetes/pki/etcd/ca.crt: no such file or directory"; st.Problem != want {
		t.Errorf("etcd: %s", st.Problem)
	}
}
