package observe_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/manifests"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// seen observes a simulated node that has some files besides, and others than usual.
func seen(t *testing.T, files map[string]string, change func(*sim.Machine)) *observe.Facts {
	t.Helper()
	machine := crashtest.Shape{Prepare: func(d *sim.Disk) {
		for name, text := range files {
			_ = d.Remove(name)
			err := node.MkdirAll(d, path.Dir(name), node.Attr{Mode: 0o755})
			if err == nil {
				err = d.Create(name, []byte(text), node.Attr{Mode: 0o600})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}}.Machine(t)
	if change != nil {
		change(machine)
	}
	w := crashtest.Alone(t, machine)
	config, own := &w.Process.Look.Config, kubeletOf(t, files)
	config.Kubeconfig, config.Bootstrap, config.Fails, config.Cure = own.Kubeconfig, own.Bootstrap, own.Fails, own.Cure
	f, err := w.Observe("r1")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// kubeletOf is the kubelet of a node with these files. Why some cannot be read is a part of that.
func kubeletOf(t *testing.T, files map[string]string) node.KubeletConfig {
	t.Helper()
	disk := node.OS(t.TempDir())
	for name, text := range files {
		if err := node.MkdirAll(disk, path.Dir(name), node.Mine(0o755)); err != nil {
			t.Fatal(err)
		}
		if err := disk.Create(name, []byte(text), node.Mine(0o600)); err != nil {
			t.Fatal(err)
		}
	}
	config, _ := node.ReadKubeletConfig(disk)
	return config
}

// namesCert is a kubeconfig as kubeadm leaves it, whose certificate is in the kubelet's own file.
const namesCert = "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters:\n- name: a\n" +
	"  cluster: {server: 'https://a'}\ncontexts:\n- name: a\n  context: {cluster: a, user: a}\nusers:\n- name: a\n" +
	"  user:\n    client-certificate: /var/lib/kubelet/pki/kubelet-client-current.pem\n" +
	"    client-key: /var/lib/kubelet/pki/kubelet-client-current.pem\n"

const (
	etcdYAML = crashtest.TestManifestDir + "/etcd.yaml"
	apiYAML  = crashtest.TestManifestDir + "/kube-apiserver.yaml"
	dropIn   = "/usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf"
	units    = "[Service]\nEnvironment=\"KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=" +
		"/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf\"\nExecStart=\n" +
		"ExecStart=/usr/bin/kubelet $KUBELET_KUBECONFIG_ARGS\n"
	localUnit = "/usr/local/lib/systemd/system/kubelet.service"
	alone     = "[Service]\nExecStart=/opt/kubelet --kubeconfig=/k/k.conf\n"
	guides    = "/etc/systemd/system/kubelet.service.d/20-etcd-service-manager.conf"
)

// onHost is a pod on the node's network.
func onHost(name, flags, volumes string) string {
	return strings.Replace(crashtest.PodManifest(name, flags, volumes), "spec:\n", "spec:\n  hostNetwork: true\n", 1)
}

// of are the manifests of that name.
func of(f *observe.Facts, name string) observe.ManifestFile {
	for _, m := range f.Manifests {
		if m.Path == name {
			return m
		}
	}
	return observe.ManifestFile{}
}

func TestWhatCannotStartAgainIsFoundBeforeItIsStopped(t *testing.T) {
	const pause = "registry.k8s.io/pause:3.10"
	theirs, _ := pemOf(t, kubeconfig(t, 9))
	oldFlags := strings.Replace(crashtest.EtcdManifest(""), "    - --data-dir",
		"    - --experimental-x=1\n    - --data-dir", 1)
	pki := "    volumeMounts:\n    - mountPath: /pki\n      name: pki\n  volumes:\n  - hostPath:\n      path: /pki\n" +
		"      type: %s\n    name: pki\n"
	for name, c := range map[string]struct {
		files   map[string]string
		machine func(*sim.Machine)
		which   string // the manifest that is stopped
		says    string // empty: nothing is in the way
		hint    string
	}{
		"a healthy node": {which: etcdYAML},
		"etcd's image is gone": {which: etcdYAML,
			machine: func(m *sim.Machine) { m.NoImages = []string{"registry.k8s.io/etcd:3.6.5-0"} },
			says:    "the image registry.k8s.io/etcd:3.6.5-0 of " + etcdYAML,
			hint:    "crictl pull registry.k8s.io/etcd"},
		"only another pod's image is gone": {which: apiYAML,
			machine: func(m *sim.Machine) { m.NoImages = []string{"registry.k8s.io/etcd:3.6.5-0"} }},
		"the sandboxes' image is gone": {which: apiYAML,
			machine: func(m *sim.Machine) { m.NoImages, m.PauseImage = []string{pause}, pause },
			says:    "the image " + pause + " which every pod's sandbox uses", hint: "crictl pull " + pause},
		"the data is on a disk of fstab that is not mounted": {which: etcdYAML,
			files: map[string]string{"/etc/fstab": "# disks\nUUID=1 / ext4 defaults 0 1\n" +
				"UUID=2  /var/lib/etcd ext4 nofail 0 2\n"},
			says: "/var/lib/etcd is a mount point in /etc/fstab", hint: "mount /var/lib/etcd"},
		"it is mounted": {which: etcdYAML,
			files:   map[string]string{"/etc/fstab": "UUID=2 /var/lib/etcd ext4 defaults 0 2\n"},
			machine: func(m *sim.Machine) { m.Mounts = []string{"/var/lib/etcd"} }},
		"a disk for something else": {which: etcdYAML,
			files: map[string]string{"/etc/fstab": "UUID=2 /var/lib/etcd-backups ext4 defaults 0 2\n" +
				"UUID=3 none swap sw 0 0\n"}},
		"a mount unit above the data": {which: etcdYAML,
			files: map[string]string{"/etc/systemd/system/var-lib.mount": "[Mount]\nWhat=/dev/sdb\nWhere=/var/lib\n"},
			says:  "/var/lib is a mount point in /etc/systemd/system/var-lib.mount",
			hint:  "systemctl start var-lib.mount"},
		"a disk within the data": {which: etcdYAML,
			files: map[string]string{"/etc/fstab": "UUID=2 /var/lib/etcd/member ext4 defaults 0 2\n"},
			says:  "/var/lib/etcd/member is a mount point in /etc/fstab", hint: "`mount /var/lib/etcd/member`"},
		"a disk for the WAL, and there is none": {which: etcdYAML,
			files: map[string]string{"/etc/fstab": "UUID=2 /var/lib/etcd/member/gone/wal ext4 defaults 0 2\n"},
			says:  "/var/lib/etcd/member/gone/wal is a mount point in /etc/fstab",
			hint:  "`mkdir -p /var/lib/etcd/member/gone/wal && mount /var/lib/etcd/member/gone/wal`"},
		"a disk within the data that etcd does not use": {which: etcdYAML,
			files: map[string]string{"/etc/fstab": "UUID=2 /var/lib/etcd/copies ext4 defaults 0 2\n"}},
		"no such address": {which: etcdYAML, files: map[string]string{
			etcdYAML: onHost("etcd", "    - --data-dir=/var/lib/etcd\n"+
				"    - --listen-client-urls=https://127.0.0.1:2379,https://192.0.2.7:2379\n    - "+
				"--listen-peer-urls=https://192.0.2.7:2380\n",
				"    volumeMounts:\n    - mountPath: /var/lib/etcd\n      name: d\n  volumes:\n  - hostPath:\n"+
					"      path: /var/lib/etcd\n    name: d\n"),
			apiYAML: onHost("kube-apiserver", "    - --advertise-address=192.0.2.7\n", ""),
		}, says: "no interface of this node has the address 192.0.2.7, at which etcd should listen; it is set in " +
			etcdYAML + ", " +
			apiYAML, hint: "`etcdpod readdress`"},
		"no such address, and etcd does not use it": {which: apiYAML, files: map[string]string{
			apiYAML: onHost("kube-apiserver", "    - --bind-address=192.0.2.7\n", "")},
			says: "has the address 192.0.2.7, at which kube-apiserver should listen",
			hint: "give the node 192.0.2.7 back; or put its new address into " + apiYAML},
		"a file that a flag names": {which: apiYAML, files: map[string]string{
			apiYAML: crashtest.PodManifest("kube-apiserver",
				"    - --etcd-cafile=/pki/gone.crt\n    - --client-ca-file=/pki/ca.crt\n",
				fmt.Sprintf(pki, "DirectoryOrCreate")), "/pki/ca.crt": "x",
		}, says: apiYAML + " needs files that do not exist: /pki/gone.crt", hint: "put back"},
		"a file that only some clusters have": {which: apiYAML, files: map[string]string{
			apiYAML: crashtest.PodManifest("kube-apiserver", "    - --oidc-ca-file=/pki/oidc.crt\n"+
				"    - --audit-webhook-config-file=/pki/audit.yaml\n"+
				"    - --tls-sni-cert-key=/pki/a.crt,/pki/a.key:a.example\n",
				fmt.Sprintf(pki, "DirectoryOrCreate")), "/pki/a.crt": "x",
		}, says: "do not exist: /pki/oidc.crt, /pki/audit.yaml, /pki/a.key", hint: "put back"},
		"a flag with underscores": {which: apiYAML, files: map[string]string{
			apiYAML: crashtest.PodManifest("kube-apiserver", "    - --etcd_cafile=/pki/gone.crt\n",
				fmt.Sprintf(pki, "DirectoryOrCreate")), "/pki/a.crt": "x",
		}, says: "do not exist: /pki/gone.crt", hint: "put back"},
		"one that etcd does not have": {which: etcdYAML, files: map[string]string{
			etcdYAML: strings.Replace(oldFlags, "experimental-x", "data_dir", 1)}, says: "does not know --data_dir"},
		"a number with a unit": {which: etcdYAML, files: map[string]string{
			etcdYAML: strings.Replace(oldFlags, "experimental-x=1", "quota-backend-bytes=8GiB", 1)},
			says: "etcd cannot read the value of --quota-backend-bytes=8GiB in " + etcdYAML, hint: "a plain number"},
		"a switch that is neither on nor off": {which: etcdYAML, files: map[string]string{
			etcdYAML: strings.Replace(oldFlags, "experimental-x=1", "client-cert-auth=yes", 1)},
			says: "the value of --client-cert-auth=yes"},
		"values that etcd can read": {which: etcdYAML, files: map[string]string{
			etcdYAML: strings.Replace(oldFlags, "experimental-x=1", "pre-vote=T\n    - --snapshot-count=0x10\n"+
				"    - --unsafe-no-fsync", 1)}},
		"they are there": {which: apiYAML, files: map[string]string{
			apiYAML: crashtest.PodManifest("kube-apiserver", "    - --oidc-ca-file=/pki/oidc.crt\n"+
				"    - --tls-sni-cert-key=/pki/a.crt,/pki/a.key:a.example\n", fmt.Sprintf(pki, "DirectoryOrCreate")),
			"/pki/a.crt": "x", "/pki/a.key": "x", "/pki/oidc.crt": theirs}},
		"a volume that must be there": {which: apiYAML, files: map[string]string{
			apiYAML: crashtest.PodManifest("kube-apiserver", "", fmt.Sprintf(pki, "Directory")),
		}, says: "do not exist: /pki", hint: "put back"},
		"a flag of an older etcd": {which: etcdYAML, files: map[string]string{
			etcdYAML: strings.ReplaceAll(oldFlags, "3.6.5", "3.7.1")},
			says: "etcd 3.7.1 does not know --experimental-x", hint: "remove them from"},
		"the version that still has it": {which: etcdYAML, files: map[string]string{etcdYAML: oldFlags}},
		"a flag of a newer etcd": {which: etcdYAML, files: map[string]string{
			etcdYAML: strings.Replace(strings.ReplaceAll(oldFlags, "3.6.5", "3.5.30"),
				"experimental-x", "feature-gates", 1)},
			says: "etcd 3.5.30 does not know --feature-gates"},
		"a flag of no etcd": {which: etcdYAML, files: map[string]string{
			etcdYAML: strings.Replace(oldFlags, "experimental-x", "data-dirs", 1)}, says: "does not know --data-dirs"},
		"the kubelet's certificate has expired": {which: apiYAML, files: map[string]string{dropIn: units,
			"/etc/kubernetes/kubelet.conf": kubeconfig(t, -1)},
			says: "the kubelet would not start: its certificate in /etc/kubernetes/kubelet.conf expired",
			hint: "kubeadm init phase"},
		"it has not": {which: apiYAML, files: map[string]string{dropIn: units,
			"/etc/kubernetes/kubelet.conf": kubeconfig(t, 1000)}},
		"the file with the kubelet's certificate is gone": {which: apiYAML, files: map[string]string{dropIn: units,
			"/etc/kubernetes/kubelet.conf": namesCert},
			says: "its certificate /var/lib/kubelet/pki/kubelet-client-current.pem, which " +
				"/etc/kubernetes/kubelet.conf names, does not exist, and " +
				"/etc/kubernetes/bootstrap-kubelet.conf does not exist",
			hint: "kubeadm init phase"},
		"the file with the kubelet's certificate is damaged": {which: apiYAML, files: map[string]string{dropIn: units,
			"/etc/kubernetes/kubelet.conf":                    namesCert,
			"/var/lib/kubelet/pki/kubelet-client-current.pem": "-----BEGIN"},
			says: "the kubelet would not start: cannot read certificate /var/lib/kubelet/pki/"},
		"the kubelet's kubeconfig is damaged": {which: apiYAML, files: map[string]string{dropIn: units,
			"/etc/kubernetes/kubelet.conf": "}"}, says: "the kubelet would not start: "},
		"the kubelet gets another": {which: apiYAML, files: map[string]string{dropIn: units,
			"/etc/kubernetes/kubelet.conf": kubeconfig(t, -1), "/etc/kubernetes/bootstrap-kubelet.conf": "x"}},
		"the kubelet's kubeconfig is gone": {which: apiYAML, files: map[string]string{dropIn: units},
			says: "neither /etc/kubernetes/kubelet.conf nor"},
		"a kubelet that needs none": {which: apiYAML},
		"the guide's for an external etcd needs none": {which: etcdYAML, files: map[string]string{dropIn: units,
			guides: "[Service]\nExecStart=\nExecStart=/usr/bin/kubelet --config=/etc/systemd/system/" +
				"kubelet.service.d/kubelet.conf\n",
			path.Dir(guides) + "/kubelet.conf": "kind: KubeletConfiguration\n"}},
		"its kubeconfig is elsewhere": {which: apiYAML, files: map[string]string{
			"/run/systemd/system/kubelet.service": "[Service]\nExecStart=/opt/kubelet --kubeconfig /k/k.conf " +
				"--bootstrap-kubeconfig /k/b.conf\n", "/k/k.conf": kubeconfig(t, -1)},
			says: "its certificate in /k/k.conf expired on 2023-11-13, and /k/b.conf does not exist",
			hint: "copy it to /k/k.conf"},
		"it is there": {which: apiYAML, files: map[string]string{
			dropIn:      strings.ReplaceAll(units, "/etc/kubernetes/kubelet.conf", "/k/k.conf"),
			"/k/k.conf": kubeconfig(t, 9)}},
		"one without a bootstrap needs its own": {which: apiYAML, files: map[string]string{localUnit: alone},
			says: "the kubelet would not start: /k/k.conf does not exist", hint: "copy it to /k/k.conf"},
		"and starts with an expired one": {which: apiYAML, files: map[string]string{localUnit: alone,
			"/k/k.conf": kubeconfig(t, -1)}},
	} {
		t.Run(name, func(t *testing.T) {
			f := seen(t, c.files, c.machine)
			err := f.CheckStarts(of(f, c.which))
			var refused *engine.RefusedError
			if c.says == "" && err != nil || c.says != "" && (!errors.As(err, &refused) ||
				!strings.Contains(err.Error(), c.says) || !strings.Contains(refused.Hint, c.hint)) {
				t.Errorf("got %v, hint %q", err, engine.Hint(err))
			}
		})
	}
}

func TestTheImagesOfAPodThatIsToComeAreLookedFor(t *testing.T) {
	const pause, image = "registry.k8s.io/pause:3.10", "registry.k8s.io/etcd@sha256:abc"
	machine := crashtest.Shape{}.Machine(t)
	w := crashtest.Alone(t, machine)
	f, err := w.Observe("r1")
	if err != nil {
		t.Fatal(err)
	}
	host := *w.Process.Host
	n := *w.Process.Look
	m, err := manifests.Parse([]byte(strings.Replace(crashtest.EtcdManifest(""), "registry.k8s.io/etcd:3.6.5-0", image,
		1)))
	if err != nil {
		t.Fatal(err)
	}
	pod, err := n.EtcdPod([]observe.ManifestFile{{Path: etcdYAML, Manifest: m}})
	if err != nil {
		t.Fatal(err)
	}
	machine.NoImages, machine.PauseImage = []string{image, pause}, pause
	missing, doubts := n.ImagesOf(t.Context(), f, pod)
	if len(missing) != 2 || len(doubts) != 0 || !strings.Contains(missing[0].What, image) ||
		missing[1].Manifests != nil {
		t.Errorf("%+v is missing; doubts: %+v", missing, doubts)
	}
	for policy, want := range map[string]bool{"Never": true, "IfNotPresent": false} {
		m, err := manifests.Parse([]byte(strings.Replace(crashtest.EtcdManifest(""), "    image: ",
			"    imagePullPolicy: "+policy+"\n    image: ", 1)))
		if err != nil {
			t.Fatal(err)
		}
		p, err := n.EtcdPod([]observe.ManifestFile{{Path: etcdYAML, Manifest: m}})
		if err != nil {
			t.Fatal(err)
		}
		machine.NoImages = append(machine.NoImages, p.Image)
		missing, _ := n.ImagesOf(t.Context(), f, p)
		if len(missing) != 2 || missing[0].Unpulled != want || missing[1].Unpulled {
			t.Errorf("imagePullPolicy: %s: %+v", policy, missing)
		}
	}
	machine.NoImages = []string{image, pause}
	if v := pod.Version(); v != "" {
		t.Errorf("an image that is not there is of etcd %q", v)
	}
	host.Runtime = tagged{host.Runtime, []string{image, "registry.k8s.io/etcd:3.6.5-0"}}
	n.View = host.View()
	if missing, _ := n.ImagesOf(t.Context(), f, pod); len(missing) > 0 || pod.Version() != "3.6.5" {
		t.Errorf("%+v is missing; it is of etcd %q", missing, pod.Version())
	}
	host.Runtime = mute{host.Runtime}
	n.View = host.View()
	if missing, doubts := n.ImagesOf(t.Context(), f, pod); len(missing) > 0 || len(doubts) != 1 {
		t.Errorf("%+v is missing; doubts: %+v", missing, doubts)
	}
}

func TestThatTheRuntimeDoesNotTellTheSandboxesImageIsSaid(t *testing.T) {
	for pause, want := range map[string]bool{sim.Untold: true, "pause": false} {
		f := seen(t, nil, func(m *sim.Machine) { m.PauseImage = pause })
		said := strings.Join(finding.Texts(f.StartDoubts(of(f, etcdYAML))), "\n")
		if strings.Contains(said, "does not tell which image pods' sandboxes are made from") != want {
			t.Errorf("where it is %s, it is said: %q", pause, said)
		}
		if err := f.CheckStarts(of(f, etcdYAML)); err != nil || len(f.Unasked()) > 0 {
			t.Errorf("where it is %s: %v, %+v", pause, err, f.Unasked())
		}
	}
}

func TestADiskIsMissedBehindLinks(t *testing.T) {
	root := t.TempDir()
	disk := node.OS(root)
	for _, dir := range []string{"/etc", "/var/lib", "/mnt/disk", "/mnt/wal"} {
		if err := node.MkdirAll(disk, dir, node.Mine(0o755)); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{
		"/var/lib/etcd": "/mnt/disk/k8s/etcd", "/etc/wal": "/mnt/wal", "/var/lib/other": "/srv/a/b",
	} {
		if err := os.Symlink(to, root+link); err != nil {
			t.Fatal(err)
		}
	}
	err := disk.Create("/etc/fstab", []byte("UUID=1 /mnt/disk ext4 defaults 0 2\n"+
		"UUID=2 /etc/wal ext4 defaults 0 2\n"), node.Mine(0o644))
	if err != nil {
		t.Fatal(err)
	}
	n := &observe.Node{View: node.View{FS: disk}}
	for dir, want := range map[string]string{
		"/var/lib/etcd": "/mnt/disk is a mount point", "/mnt/wal/etcd": "/etc/wal is a mount point",
		"/var/lib/other": "",
	} {
		resolved, err := n.Resolve(dir)
		if err != nil {
			t.Fatal(err)
		}
		all := n.Unmounted(false, "", dir, resolved)
		if want == "" && len(all) > 0 || want != "" && (len(all) != 1 || !strings.HasPrefix(all[0].What, want)) {
			t.Errorf("of %s it says %+v", dir, all)
		}
	}
}

func TestADiskThatTheDataLeavesNeedNotBeMounted(t *testing.T) {
	f := seen(t, map[string]string{"/etc/fstab": "UUID=2 /var/lib/etcd ext4 nofail 0 2\nUUID=3 /srv ext4 nofail 0 2\n",
		"/srv/x": "x", "/other/x": "x"}, nil)
	machine := crashtest.Shape{Prepare: func(d *sim.Disk) {
		for name, text := range map[string]string{"/etc/fstab": "UUID=3 /srv ext4 nofail 0 2\n", "/srv/x": "x"} {
			err := node.MkdirAll(d, path.Dir(name), node.Attr{Mode: 0o755})
			if err == nil {
				err = d.Create(name, []byte(text), node.Attr{Mode: 0o600})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}}.Machine(t)
	n := crashtest.Alone(t, machine).Process.Look
	for dir, refused := range map[string]bool{"/srv/etcd": true, "/other/etcd": false} {
		n.MoveData(f, dir)
		if err := f.CheckStarts(of(f, etcdYAML)); (err != nil) != refused {
			t.Errorf("to %s: %v", dir, err)
		}
	}
}

// mute is a runtime that says nothing about images.
type mute struct{ node.Runtime }

func (mute) Image(context.Context, string) (node.Image, error) {
	return node.Image{}, errors.New("unknown service runtime.v1.ImageService")
}

func TestARuntimeThatTellsNothingOfImagesIsNoReasonToRefuse(t *testing.T) {
	machine := crashtest.Shape{}.Machine(t)
	w := crashtest.Alone(t, machine)
	f, err := w.Observe("r1")
	if err != nil {
		t.Fatal(err)
	}
	host := *w.Process.Host
	host.Runtime = mute{host.Runtime}
	n := *w.Process.Look
	n.View = host.View()
	n.ObserveStarts(t.Context(), f)
	if err := f.CheckStarts(f.Manifests...); err != nil {
		t.Errorf("refused: %v", err)
	}
	said := strings.Join(finding.Texts(f.StartDoubts(f.Manifests...)), "\n")
	if !strings.Contains(said, "could not check whether all images are on this node") ||
		!strings.Contains(said, "ImageService") {
		t.Errorf("it says %q", said)
	}
	if told := strings.Join(finding.Texts(f.Unasked()), "\n"); told != said {
		t.Errorf("what was not looked at is %q, not %q", told, said)
	}
}

// tagged tells the tags of an image.
type tagged struct {
	node.Runtime
	tags []string
}

func (r tagged) Image(context.Context, string) (node.Image, error) {
	return node.Image{Present: true, Tags: r.tags}, nil
}

func TestTheRuntimeOrTheBinaryTellsTheVersionOfAnImageWhoseNameDoesNot(t *testing.T) {
	for _, test := range []struct{ tag, runs, want string }{
		{"registry.k8s.io/etcd:3.6.5-0", "", "3.6.5"}, {"private/etcd:v3.5.9", "3.5.8", "3.5.9"},
		{"private/etcd:production", "", ""}, {"alpine:3.20", "", ""}, {"private/etcd:production", "3.6.5", "3.6.5"},
	} {
		text := strings.Replace(crashtest.EtcdManifest(""), "etcd:3.6.5-0", "etcd@sha256:abc", 1)
		machine := crashtest.Shape{Prepare: func(d *sim.Disk) {
			_ = d.Remove(etcdYAML)
			if err := d.Create(etcdYAML, []byte(text), node.Attr{Mode: 0o600}); err != nil {
				t.Fatal(err)
			}
		}}.Machine(t)
		w := crashtest.Alone(t, machine)
		f, err := w.Observe("r1")
		if err != nil {
			t.Fatal(err)
		}
		host := *w.Process.Host
		host.Runtime = tagged{host.Runtime, []string{test.tag}}
		host.Processes = running{test.runs}
		n := *w.Process.Look
		n.View = host.View()
		n.ObserveStarts(t.Context(), f)
		if got := f.EtcdVersion(); got != test.want {
			t.Errorf("of %+v it says %q", test, got)
		}
	}
}

// running is an etcd whose binary tells a version.
type running struct{ version string }

func (r running) Using(_ context.Context, dir string) ([]node.Process, error) {
	if dir != "/var/lib/etcd" {
		return nil, nil
	}
	return []node.Process{{PID: 1, Command: "sh"}, {PID: 2, Command: "etcd", EtcdVersion: r.version}}, nil
}
