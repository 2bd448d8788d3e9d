package observe

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/manifests"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/pki"
)

// newNode is a node with these files, and the manifests of etcd and of an API server with these
// flags.
func newNode(t *testing.T, files map[string]string, etcd, apiServer string) (*Node, []ManifestFile) {
	t.Helper()
	n := &Node{View: node.View{FS: node.OS(t.TempDir()), Clock: node.WallClock()}}
	for name, text := range files {
		file := n.FS.Real(name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var all []ManifestFile
	for _, pod := range [][2]string{{"etcd", etcd}, {"kube-apiserver", apiServer}} {
		if pod[1] == "" {
			continue
		}
		text := "apiVersion: v1\nkind: Pod\nmetadata:\n  name: " + pod[0] + "\n  namespace: kube-system\nspec:\n" +
			"  containers:\n  - name: " + pod[0] + "\n    image: " + pod[0] + "\n    command:\n    - " + pod[0] + "\n"
		for _, flag := range strings.Fields(pod[1]) {
			text += "    - '--" + flag + "'\n"
		}
		text += "    volumeMounts:\n    - mountPath: /var/lib/etcd\n      name: data\n    - mountPath: /pki\n" +
			"      name: pki\n  volumes:\n  - hostPath:\n      path: /var/lib/etcd\n    name: data\n" +
			"  - hostPath:\n      path: /host/pki\n    name: pki\n"
		m, err := manifests.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, ManifestFile{Path: "/m/" + pod[0] + ".yaml", Data: []byte(text), Manifest: m})
	}
	return n, all
}

func TestAListenerIsReachedFromHere(t *testing.T) {
	n, files := newNode(t, nil, "data-dir=/var/lib/etcd", "")
	pod, err := n.EtcdPod(files)
	if err != nil {
		t.Fatal(err)
	}
	for raw, want := range map[string]string{
		"https://10.0.0.11:2379":       "https://10.0.0.11:2379",
		"https://127.0.0.1:2379":       "https://127.0.0.1:2379",
		"https://[fd00::1]:2379":       "https://[fd00::1]:2379",
		"https://0.0.0.0:2379":         "https://127.0.0.1:2379 https://[::1]:2379",
		"https://[::]:2379":            "https://[::1]:2379 https://127.0.0.1:2379",
		"https://[0:0:0:0:0:0:0:0]:79": "https://[::1]:79 https://127.0.0.1:79",
		"http://localhost:2379":        "http://127.0.0.1:2379 http://[::1]:2379 http://localhost:2379",
		"unix:///pki/etcd.sock":        "unix://" + n.FS.Real("/host/pki/etcd.sock"),
		"unixs:///run/etcd.sock":       "", // no volume mounts it
		"ftp://10.0.0.11":              "",
	} {
		if got := strings.Join(n.FromHere(pod, raw), " "); got != want {
			t.Errorf("%s is reached at %q, and not %q", raw, got, want)
		}
	}
}

func TestLoopbackIsKnownByAllItsNames(t *testing.T) {
	for host, want := range map[string]bool{
		"127.0.0.1": true, "127.1.2.3": true, "::1": true, "0:0:0:0:0:0:0:1": true, "::ffff:127.0.0.1": true,
		"localhost": true, "LOCALHOST": true, "localhost.": true, "ip6-localhost": true, "etcd.localhost": true,
		"10.0.0.1": false, "fd00::1": false, "127.example": false, "localhost.example": false, "": false,
	} {
		if Loopback(host) != want {
			t.Errorf("%q: %v", host, !want)
		}
	}
}

func TestEtcdIsReachedAtAllThatItListensAt(t *testing.T) {
	const tls = "data-dir=/var/lib/etcd trusted-ca-file=/pki/ca.crt cert-file=/pki/server.crt key-file=/pki/server.key "
	pki := map[string]string{"/host/pki/server.crt": "x", "/host/pki/server.key": "x", "/host/pki/ca.crt": "x"}
	for name, tt := range map[string]struct{ flags, want string }{
		"kubeadm's": {tls + "listen-client-urls=https://127.0.0.1:2379,https://10.0.0.11:2379",
			"https://127.0.0.1:2379 https://10.0.0.11:2379"},
		"loopback goes first": {tls + "listen-client-urls=https://10.0.0.11:2379,https://[::1]:2379",
			"https://[::1]:2379 https://10.0.0.11:2379"},
		"all addresses, and an advertised one of this host": {tls + "listen-client-urls=https://[::]:2379 " +
			"advertise-client-urls=https://127.0.0.1:2379,https://192.0.2.1:2379",
			"https://[::1]:2379 https://127.0.0.1:2379"},
		"nothing is said": {"data-dir=/var/lib/etcd", "http://127.0.0.1:2379"},
	} {
		n, files := newNode(t, pki, tt.flags, "")
		pod, err := n.EtcdPod(files)
		if err != nil {
			t.Fatal(err)
		}
		a := pod.Access
		if got := strings.Join(slices.Concat(a.Endpoints, a.Others), " "); got != tt.want || len(a.Endpoints) != 1 {
			t.Errorf("%s: %q, and not %q", name, got, tt.want)
		}
	}
}

func TestWhatIsNotTypedStaysTheManifests(t *testing.T) {
	const flags = "data-dir=/var/lib/etcd listen-client-urls=https://127.0.0.1:2379 trusted-ca-file=/pki/ca.crt " +
		"cert-file=/pki/server.crt key-file=/pki/server.key"
	pki := map[string]string{"/host/pki/server.crt": "x", "/host/pki/server.key": "x", "/host/pki/ca.crt": "x"}
	at := []string{"https://10.0.0.12:2379"}
	for name, tt := range map[string]struct {
		given AccessFlags
		want  func(real func(string) string) op.Access
	}{
		"only --endpoints": {AccessFlags{Endpoints: at}, func(func(string) string) op.Access {
			return op.Access{Endpoints: at, CACert: "/host/pki/ca.crt", Cert: "/host/pki/server.crt",
				Key: "/host/pki/server.key"}
		}},
		"a certificate and its key": {AccessFlags{Endpoints: at, Cert: "/my.crt", Key: "/my.key"},
			func(real func(string) string) op.Access {
				return op.Access{Endpoints: at, CACert: real("/host/pki/ca.crt"), Cert: "/my.crt", Key: "/my.key",
					Typed: true}
			}},
		"only a CA": {AccessFlags{CACert: "/my-ca.crt"}, func(real func(string) string) op.Access {
			return op.Access{Endpoints: []string{"https://127.0.0.1:2379"}, CACert: "/my-ca.crt",
				Cert: real("/host/pki/server.crt"), Key: real("/host/pki/server.key"), Typed: true}
		}},
	} {
		n, files := newNode(t, pki, flags, "")
		n.Access = tt.given
		pod, err := n.EtcdPod(files)
		if err != nil {
			t.Fatal(err)
		}
		a, want := pod.Access, tt.want(n.FS.Real)
		if !slices.Equal(a.Endpoints, want.Endpoints) || len(a.Others) > 0 || a.CACert != want.CACert ||
			a.Cert != want.Cert || a.Key != want.Key || a.Typed != want.Typed {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

func TestTheAPIServerIsAskedOnThisNodeFirst(t *testing.T) {
	for flags, want := range map[string]string{
		"advertise-address=203.0.113.7": "https://127.0.0.1:6443 https://[::1]:6443 https://203.0.113.7:6443",
		"advertise-address=203.0.113.7 bind-address=10.0.0.11 secure-port=443": "https://10.0.0.11:443 " +
			"https://203.0.113.7:443",
		"bind-address=::": "https://[::1]:6443 https://127.0.0.1:6443",
	} {
		n, files := newNode(t, nil, "", flags)
		a := n.APIAccess(files)
		if got := strings.Join(append([]string{a.Server}, a.Servers...), " "); got != want {
			t.Errorf("%s: %q, and not %q", flags, got, want)
		}
	}
}

func TestTheFirstKubeconfigThatMayWorkIsTaken(t *testing.T) {
	const admin, super = "/etc/kubernetes/admin.conf", "/etc/kubernetes/super-admin.conf"
	const token = `{apiVersion: v1, kind: Config, current-context: x, contexts: [{name: x, context: {cluster: c, ` +
		`user: u}}], clusters: [{name: c, cluster: {server: "https://x:6443"}}], users: [{name: u, user: {token: t}}]}`
	for name, tt := range map[string]struct {
		files       map[string]string
		want, other string
		problems    int
	}{
		"both":                       {map[string]string{admin: token, super: token}, super, admin, 0},
		"only the lesser":            {map[string]string{admin: token}, admin, super, 0},
		"the better cannot be read":  {map[string]string{admin: token, super: "nonsense: ["}, admin, super, 1},
		"the lesser cannot be read":  {map[string]string{admin: "nonsense: [", super: token}, super, admin, 1},
		"neither, and that is known": {map[string]string{admin: "", super: ""}, super, admin, 2},
		"none is there":              {nil, "", "", 0},
	} {
		n, files := newNode(t, tt.files, "", "advertise-address=10.0.0.11")
		a, all := n.Administrators(files)
		problems := len(slices.DeleteFunc(slices.Clone(all), func(k Kubeconfig) bool { return k.Problem == "" }))
		if a.Kubeconfig != tt.want || strings.Join(a.Kubeconfigs, " ") != tt.other || problems != tt.problems {
			t.Errorf("%s: %+v, %+v", name, a, all)
		}
		reason, hint := (&Facts{Kubeconfigs: all}).KubeconfigsFail()
		if fails := tt.problems > 0 && tt.problems == len(all); fails != (reason != "") || fails != (hint != "") {
			t.Errorf("%s: %q, %q", name, reason, hint)
		}
	}
}

// made is a certificate and its key, by a CA of that name.
func made(t *testing.T, spec string, ca pki.Pair, ends time.Time) pki.Pair {
	t.Helper()
	s, err := pki.EtcdSpec(spec)
	if err != nil {
		t.Fatal(err)
	}
	issuer := pki.Issuer{Now: ends.AddDate(-1, 0, 0), Config: pki.Config{NodeName: "cp1",
		Algorithm: pki.ECDSAP256, AdvertiseAddress: "127.0.0.1"}}
	if s.IsCA() {
		p, err := issuer.NewCA(s)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	authority, err := pki.ParseAuthority("ca.crt", ca.Cert, "ca.key", ca.Key)
	if err != nil {
		t.Fatal(err)
	}
	p, err := issuer.Issue(s, authority)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// etcdpod asks etcd with a certificate that etcd accepts, if there is one.
func TestACertificateThatEtcdWouldRejectIsPassedOver(t *testing.T) {
	soon, ago := time.Now().AddDate(0, 1, 0), time.Now().AddDate(0, -1, 0)
	ca, other := made(t, "etcd-ca", pki.Pair{}, soon), made(t, "etcd-ca", pki.Pair{}, soon)
	client := made(t, "apiserver-etcd-client", ca, soon)
	flags := "data-dir=/var/lib/etcd listen-client-urls=https://127.0.0.1:2379 trusted-ca-file=/pki/ca.crt " +
		"cert-file=/pki/server.crt key-file=/pki/server.key"
	api := "etcd-servers=https://127.0.0.1:2379 etcd-cafile=/pki/ca.crt etcd-certfile=/pki/client.crt " +
		"etcd-keyfile=/pki/client.key"
	for name, tt := range map[string]struct {
		health pki.Pair
		want   string
	}{
		"it is good":           {made(t, "etcd-healthcheck-client", ca, soon), "/host/pki/healthcheck-client.crt"},
		"it has expired":       {made(t, "etcd-healthcheck-client", ca, ago), "/host/pki/client.crt"},
		"another CA signed it": {made(t, "etcd-healthcheck-client", other, soon), "/host/pki/client.crt"},
		"the key is another's": {pki.Pair{Cert: made(t, "etcd-healthcheck-client", ca, soon).Cert, Key: client.Key},
			"/host/pki/client.crt"},
		"it cannot be read": {pki.Pair{Cert: []byte("x"), Key: []byte("x")}, "/host/pki/client.crt"},
	} {
		server := made(t, "etcd-server", ca, soon)
		n, files := newNode(t, map[string]string{"/host/pki/ca.crt": string(ca.Cert),
			"/host/pki/server.crt": string(server.Cert), "/host/pki/server.key": string(server.Key),
			"/host/pki/client.crt": string(client.Cert), "/host/pki/client.key": string(client.Key),
			"/host/pki/healthcheck-client.crt": string(tt.health.Cert),
			"/host/pki/healthcheck-client.key": string(tt.health.Key)}, flags, api)
		pod, err := n.EtcdPod(files)
		if err != nil {
			t.Fatal(err)
		}
		if pod.Access.Cert != tt.want {
			t.Errorf("%s: etcd is asked with %s, and not with %s", name, pod.Access.Cert, tt.want)
		}
	}
}

// What would keep etcd and the API server from working together again is found beforehand.
func TestCertificatesThatWouldNotBeAcceptedAreFound(t *testing.T) {
	soon, ago := time.Now().AddDate(0, 1, 0), time.Now().AddDate(0, -1, 0)
	ca, other := made(t, "etcd-ca", pki.Pair{}, soon), made(t, "etcd-ca", pki.Pair{}, soon)
	for name, tt := range map[string]struct {
		change      map[string]pki.Pair
		three       bool
		servers     string // that the API server uses; empty: the etcd on its node
		what, where string
	}{
		"all are good": {},
		"etcd's has expired": {change: map[string]pki.Pair{"server": made(t, "etcd-server", ca, ago)},
			what: "server.crt expired on", where: "etcd"},
		"etcd's is another CA's": {change: map[string]pki.Pair{"server": made(t, "etcd-server", other, soon)},
			what: "server.crt is not signed by the CA in", where: "etcd"},
		"the peers' has expired, and there are none": {
			change: map[string]pki.Pair{"peer": made(t, "etcd-peer", ca, ago)}},
		"the peers' has expired": {change: map[string]pki.Pair{"peer": made(t, "etcd-peer", ca, ago)}, three: true,
			what: "peer.crt expired on", where: "etcd"},
		"the API server's has expired": {
			change: map[string]pki.Pair{"client": made(t, "apiserver-etcd-client", ca, ago)},
			what:   "client.crt expired on", where: "kube-apiserver"},
		"the API server's is another CA's": {
			change: map[string]pki.Pair{"client": made(t, "apiserver-etcd-client", other, soon)},
			what:   "client.crt is not signed by", where: "kube-apiserver"},
		"it uses another etcd": {
			change:  map[string]pki.Pair{"client": made(t, "apiserver-etcd-client", other, soon)},
			servers: "https://192.0.2.9:2379"},
		"what the API server serves with has expired": {
			change: map[string]pki.Pair{"serving": made(t, "etcd-server", other, ago)},
			what:   "serving.crt expired on", where: "kube-apiserver"},
	} {
		on := map[string]string{"/host/pki/ca.crt": string(ca.Cert)}
		for base, p := range map[string]pki.Pair{"server": made(t, "etcd-server", ca, soon),
			"peer": made(t, "etcd-peer", ca, soon), "client": made(t, "apiserver-etcd-client", ca, soon),
			"serving": made(t, "etcd-server", other, soon)} {
			if c, changed := tt.change[base]; changed {
				p = c
			}
			on["/host/pki/"+base+".crt"], on["/host/pki/"+base+".key"] = string(p.Cert), string(p.Key)
		}
		cluster := "initial-cluster=cp1=https://127.0.0.1:2380"
		if tt.three {
			cluster += ",cp2=https://10.0.0.12:2380"
		}
		n, files := newNode(t, on, "data-dir=/var/lib/etcd listen-client-urls=https://127.0.0.1:2379 "+
			"client-cert-auth=true trusted-ca-file=/pki/ca.crt cert-file=/pki/server.crt key-file=/pki/server.key "+
			"peer-cert-file=/pki/peer.crt peer-key-file=/pki/peer.key peer-trusted-ca-file=/pki/ca.crt "+cluster,
			"etcd-servers="+cmp.Or(tt.servers, "https://127.0.0.1:2379")+
				" etcd-cafile=/pki/ca.crt etcd-certfile=/pki/client.crt "+
				"etcd-keyfile=/pki/client.key tls-cert-file=/pki/serving.crt tls-private-key-file=/pki/serving.key")
		pod, err := n.EtcdPod(files)
		if err != nil {
			t.Fatal(err)
		}
		f := &Facts{Manifests: files, Etcd: pod}
		n.ObserveCertificates(f)
		err = f.CheckCertificates(files...)
		if tt.what == "" {
			if err != nil {
				t.Errorf("%s: it is refused: %v", name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), tt.what) || len(f.Certificates) != 1 ||
			f.Certificates[0].Manifests[0] != "/m/"+tt.where+".yaml" {
			t.Errorf("%s: it says %v, of %+v", name, err, f.Certificates)
		}
	}
}

func TestAURLThatLeadsEveryHostToItself(t *testing.T) {
	for url, want := range map[string]bool{
		"http://localhost:2380": true, "http://LOCALHOST.:2380": true, "http://127.0.0.1:2380": true,
		"https://[::1]:2380": true, "http://0.0.0.0:2380": true, "http://[::]:2380": true,
		"http://localhost.localdomain:2380": true, "http://ip6-localhost:2380": true, "http://:2380": true,
		"https://127.0.0.2:2380": false, "https://10.0.0.11:2380": false, "https://cp1.example.org:2380": false,
	} {
		if got := OnlyHere(url); got != want {
			t.Errorf("%s: %v", url, got)
		}
	}
}
